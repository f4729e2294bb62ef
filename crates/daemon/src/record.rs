//! What must survive: what is wanted, and under which names.
//!
//! It says whose it is and which format it has: a file of another host or of a later program is refused, never guessed
//! at; one of an earlier format is read, and a copy of it is kept before the first change.

mod change;
mod file;

pub(crate) use self::file::{RecordFile, write_whole};
use crate::names::{Device, device, head};
use interlock_api::{ConnectRequest, ExportKind, ExportOnLoss};
use interlock_export::DiskIdentity;
use interlock_host::HostSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// The format that this program writes.
pub(crate) const FORMAT: u32 = 4;
const MAGIC: &str = "interlock-daemon";
/// Names that are remembered although nobody wants the connection any more.
const REMEMBERED: usize = 4_096;

/// A path that was connected once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    /// N of `nvmeN`.
    pub(crate) number: u32,
    /// True if it is to be connected when the daemon starts.
    pub(crate) wanted: bool,
    /// How.
    pub(crate) request: ConnectRequest,
}

/// A wanted export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedExport {
    pub(crate) name: String,
    pub(crate) subnqn: String,
    pub(crate) nsid: u32,
    #[serde(default)]
    pub(crate) kind: ExportKind,
    /// Empty for block devices of the kernel.
    pub(crate) socket: PathBuf,
    /// N of `/dev/ublkbN`.
    #[serde(default)]
    pub(crate) ublk_id: Option<u32>,
    pub(crate) read_only: bool,
    pub(crate) on_loss: ExportOnLoss,
}

impl WantedExport {
    /// Where its disk is.
    pub(crate) fn place(&self) -> (&str, u32) {
        (&self.subnqn, self.nsid)
    }

    /// True if whoever asks for the other has it with this one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let id = other.ublk_id.or(self.ublk_id);
        *self == Self { ublk_id: id, ..other.clone() }
    }
}

/// The disk that an export or a device name is bound to, and where it was. What was never seen is not known: such an export
/// or name is bound to the first disk that is found at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoundDisk {
    subnqn: String,
    nsid: u32,
    #[serde(with = "hex")]
    uuid: Option<[u8; 16]>,
    #[serde(with = "hex")]
    nguid: Option<[u8; 16]>,
    #[serde(with = "hex")]
    eui64: Option<[u8; 8]>,
    block_bytes: u32,
}

impl BoundDisk {
    pub(crate) fn new((subnqn, nsid): (&str, u32), disk: &DiskIdentity) -> Self {
        let DiskIdentity { uuid, nguid, eui64, block_size } = *disk;
        Self { subnqn: subnqn.to_owned(), nsid, uuid, nguid, eui64, block_bytes: block_size }
    }

    /// Where it was.
    pub(crate) fn place(&self) -> (&str, u32) {
        (&self.subnqn, self.nsid)
    }

    /// What it is.
    pub(crate) const fn disk(&self) -> DiskIdentity {
        let Self { uuid, nguid, eui64, block_bytes, .. } = *self;
        DiskIdentity { uuid, nguid, eui64, block_size: block_bytes }
    }

    /// The disk, if this is where it was.
    pub(crate) fn at(&self, place: (&str, u32)) -> Option<DiskIdentity> {
        (self.place() == place).then(|| self.disk())
    }
}

/// Identifiers as digits.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<const N: usize, S: Serializer>(id: &Option<[u8; N]>, to: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).serialize(to)
    }

    pub(super) fn deserialize<'a, const N: usize, D: Deserializer<'a>>(from: D) -> Result<Option<[u8; N]>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let wrong = || D::Error::custom(format!("`{text}` is not a valid identifier of {N} bytes"));
        if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut id = [0; N];
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Some(id))
    }
}

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    magic: String,
    format: u32,
    /// Version of the program that wrote it.
    writer: String,
    hostnqn: String,
    hostid: String,
    /// Grows whenever the whole is written.
    #[serde(default)]
    generation: u64,
    /// N of `nvme-subsysN`, by NQN.
    pub(crate) subsystems: BTreeMap<String, u32>,
    pub(crate) controllers: Vec<Known>,
    pub(crate) exports: Vec<WantedExport>,
    /// The disk of each export, by the export's name; those of the configuration too.
    #[serde(default)]
    pub(crate) disks: BTreeMap<String, BoundDisk>,
    /// The disk of each device name, as in `nvme0n1` ([`devices`](crate::devices)).
    #[serde(default)]
    pub(crate) names: BTreeMap<String, BoundDisk>,
    /// Discovery controllers to stay connected to, besides those of the configuration.
    #[serde(default)]
    pub(crate) discovery: Vec<ConnectRequest>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Something else.
    #[error("{}: not an Interlock state file ({why}): move it away, and connect again", file.display())]
    NotOurs {
        /// The file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// A later program wrote it.
    #[error("{} has format {format}, this program knows up to {FORMAT}: use version {writer} or later", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        format: u64,
        /// Who wrote it.
        writer: String,
    },
    /// It belongs to another host identity.
    #[error("{} belongs to the host {hostnqn}: give that identity, or another directory", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        hostnqn: String,
    },
    /// The system refused.
    #[error("cannot {what} {}: {error}", file.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        file: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl Record {
    fn new(settings: &HostSettings) -> Self {
        Self {
            magic: MAGIC.into(),
            format: FORMAT,
            writer: env!("CARGO_PKG_VERSION").into(),
            hostnqn: settings.hostnqn.to_string(),
            hostid: settings.hostid.to_string(),
            generation: 0,
            subsystems: BTreeMap::new(),
            controllers: Vec::new(),
            exports: Vec::new(),
            disks: BTreeMap::new(),
            names: BTreeMap::new(),
            discovery: Vec::new(),
        }
    }

    /// The record, and the format it was written in.
    fn read(text: &[u8], file: &Path, settings: &HostSettings) -> Result<(Self, u64), RecordError> {
        let not_ours = |why: String| RecordError::NotOurs { file: file.to_owned(), why };
        let any: serde_json::Value = serde_json::from_slice(text).map_err(|why| not_ours(why.to_string()))?;
        if any["magic"] != MAGIC {
            return Err(not_ours("its first word is another".into()));
        }
        let format = any["format"].as_u64().ok_or_else(|| not_ours("it has no format".into()))?;
        if format > u64::from(FORMAT) {
            let writer = any["writer"].as_str().unwrap_or("unknown").into();
            return Err(RecordError::Newer { file: file.to_owned(), format, writer });
        }
        let mut record: Self = serde_json::from_value(any).map_err(|why| not_ours(why.to_string()))?;
        if record.hostnqn != settings.hostnqn.as_str() || record.hostid != settings.hostid.to_string() {
            return Err(RecordError::Foreign { file: file.to_owned(), hostnqn: record.hostnqn });
        }
        record.writer = env!("CARGO_PKG_VERSION").into();
        record.format = FORMAT;
        Ok((record, format))
    }

    /// What was written in this format, in the present one. Until format 4 a device name was that of a place. Where an export
    /// says which disk was there, the name is that disk's; the others are bound to what is found first.
    fn migrated(mut self, format: u64) -> Self {
        if format >= 4 {
            return self;
        }
        let mut places: BTreeMap<(&str, u32), Vec<&BoundDisk>> = BTreeMap::new();
        for disk in self.disks.values() {
            places.entry(disk.place()).or_default().push(disk);
        }
        let mut names = BTreeMap::new();
        for ((subnqn, nsid), disks) in places {
            let (Some(number), Some((disk, others))) = (self.subsystems.get(subnqn), disks.split_first()) else {
                continue;
            };
            // Of two that were there one after the other nobody knows which was there last.
            if others.iter().all(|other| disk.disk().difference(&other.disk()).is_none()) {
                names.insert(head(*number, nsid), (*disk).clone());
            }
        }
        self.names = names;
        self
    }

    /// The number that this path has.
    pub(crate) fn number_of(&self, request: &ConnectRequest) -> Option<u32> {
        self.controllers.iter().find(|known| known.request.is_same_path(request)).map(|known| known.number)
    }

    /// The number of this path: the one it had, else the lowest that is free. `taken` are numbers of lives that an
    /// earlier process left.
    pub(crate) fn number(&mut self, request: &ConnectRequest, taken: impl Fn(u32) -> bool) -> u32 {
        if let Some(number) = self.number_of(request) {
            return number;
        }
        let used: BTreeSet<u32> = self.controllers.iter().map(|known| known.number).collect();
        let number = (0..u32::MAX).find(|number| !used.contains(number) && !taken(*number)).unwrap_or(u32::MAX);
        self.controllers.push(Known { number, wanted: false, request: request.clone() });
        let unwanted = self.controllers.iter().filter(|known| !known.wanted).count();
        if unwanted > REMEMBERED {
            let oldest = self.controllers.iter().position(|known| !known.wanted && known.number != number);
            oldest.map(|place| self.controllers.remove(place));
        }
        number
    }

    /// The number of this subsystem: the one it had, else the lowest that is free.
    pub(crate) fn subsystem(&mut self, nqn: &str) -> u32 {
        if let Some(number) = self.subsystems.get(nqn) {
            return *number;
        }
        if self.subsystems.len() >= REMEMBERED {
            self.forget_subsystems();
        }
        let used: BTreeSet<u32> = self.subsystems.values().copied().collect();
        let number = (0..u32::MAX).find(|number| !used.contains(number)).unwrap_or(u32::MAX);
        self.subsystems.insert(nqn.to_owned(), number);
        number
    }

    /// The device names of a subsystem, by their last number.
    pub(crate) fn names_of(&self, subsystem: u32) -> impl Iterator<Item = (u32, &BoundDisk)> {
        let first = format!("nvme{subsystem}n");
        let of = self.names.range(first.clone()..).take_while(move |(name, _)| name.starts_with(&first));
        of.filter_map(|(name, bound)| match device(name) {
            Ok(Device::Head(_, number)) => Some((number, bound)),
            _ => None,
        })
    }

    /// Forgets the device names of a subsystem, but for those that are to be kept and those of disks that are exported. Says
    /// how many.
    pub(crate) fn forget_names(&mut self, subsystem: u32, keep: impl Fn(u32) -> bool) -> usize {
        let exported = |bound: &BoundDisk| {
            let mut disks = self.disks.values().filter(|disk| disk.subnqn == bound.subnqn);
            disks.any(|disk| disk.disk().difference(&bound.disk()).is_none())
        };
        let all = self.names_of(subsystem).filter(|(number, bound)| !keep(*number) && !exported(bound));
        let forgotten: Vec<String> = all.map(|(number, _)| head(subsystem, number)).collect();
        forgotten.iter().for_each(|name| drop(self.names.remove(name)));
        forgotten.len()
    }

    /// Those that no controller, export or disk is of have lost their number and their device names: there may be very many of
    /// them.
    fn forget_subsystems(&mut self) {
        let controllers = self.controllers.iter().map(|known| known.request.subnqn.as_str());
        let exports = self.exports.iter().map(|export| export.subnqn.as_str());
        let disks = self.disks.values().map(|disk| disk.subnqn.as_str());
        let used: BTreeSet<&str> = controllers.chain(exports).chain(disks).collect();
        self.subsystems.retain(|nqn, _| used.contains(nqn.as_str()));
        let Self { names, subsystems, .. } = self;
        names.retain(|_, bound| subsystems.contains_key(&bound.subnqn));
    }

    /// True if nothing was ever connected under this identity.
    pub(crate) fn is_first(&self) -> bool {
        self.controllers.is_empty() && self.exports.is_empty() && self.discovery.is_empty()
    }

    pub(crate) fn known(&mut self, number: u32) -> Option<&mut Known> {
        self.controllers.iter_mut().find(|known| known.number == number)
    }
}

/// Any bytes as a record, and their lines as changes of one.
pub(crate) fn fuzz(bytes: &[u8], who: &HostSettings) {
    let read = |text: &[u8]| Record::read(text, Path::new("fuzz"), who);
    let record = read(bytes).map_or_else(|_| Record::new(who), |(record, _)| record);
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let record = record.with(lines);
    let text = serde_json::to_vec(&record).expect("its maps have strings as keys");
    let (again, _) = read(&text).expect("what was written is ours");
    assert_eq!(again, record, "what is written is what is read");
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use interlock_host::{HostId, Nqn};
    use std::fs;

    /// As each format was written: it must be readable for ever.
    pub(crate) const GOLDEN_1: &str = include_str!("../tests/golden/daemon-1.json");
    const GOLDEN_2: &str = include_str!("../tests/golden/daemon-2.json");
    pub(crate) const GOLDEN_3: &str = include_str!("../tests/golden/daemon-3.json");
    const GOLDEN: &str = include_str!("../tests/golden/daemon-4.json");

    pub(crate) fn settings() -> HostSettings {
        let hostid = HostId([0x11; 16]);
        HostSettings { hostnqn: Nqn::of_host(hostid), hostid }
    }

    pub(crate) fn empty() -> Record {
        Record::new(&settings())
    }

    pub(crate) fn sample_1() -> Record {
        let mut record = Record::new(&settings());
        record.writer = "0.1.0".into();
        let request = ConnectRequest::new("192.0.2.1", 4420, "nqn.2014-08.org.example:disk");
        assert_eq!(record.number(&request, |number| number == 0), 1, "0 belongs to a life that was left");
        record.subsystem("nqn.2014-08.org.example:disk");
        record.known(1).expect("it").wanted = true;
        record.exports.push(WantedExport {
            name: "nvme0n1".into(),
            subnqn: "nqn.2014-08.org.example:disk".into(),
            nsid: 1,
            kind: ExportKind::Nbd,
            socket: "/run/interlock/nvme0n1.sock".into(),
            ublk_id: None,
            read_only: false,
            on_loss: ExportOnLoss::Hold,
        });
        record
    }

    fn sample_2() -> Record {
        let mut record = sample_1();
        let nbd = record.exports[0].clone();
        let socket = PathBuf::new();
        record.exports.push(WantedExport {
            name: "disk0".into(),
            kind: ExportKind::Ublk,
            socket,
            ublk_id: Some(3),
            ..nbd
        });
        record.discovery.push(ConnectRequest::new("192.0.2.9", 8009, "nqn.2014-08.org.nvmexpress.discovery"));
        record
    }

    /// As format 3 is read: what is exported has its name.
    pub(crate) fn sample_3() -> Record {
        let mut record = sample_2();
        let disk = DiskIdentity { uuid: Some([0x22; 16]), nguid: None, eui64: Some([0xab; 8]), block_size: 4096 };
        let bound = BoundDisk::new(record.exports[1].place(), &disk);
        record.disks.insert("disk0".into(), bound.clone());
        record.names.insert("nvme0n1".into(), bound);
        record
    }

    fn sample() -> Record {
        let mut record = sample_3();
        let disk = DiskIdentity { uuid: None, nguid: Some([0x33; 16]), eui64: None, block_size: 512 };
        record.names.insert("nvme0n2".into(), BoundDisk::new(("nqn.2014-08.org.example:disk", 1), &disk));
        record
    }

    #[test]
    fn a_disk_is_that_of_its_place_only() {
        let disk = DiskIdentity { uuid: None, nguid: Some([7; 16]), eui64: None, block_size: 512 };
        let bound = BoundDisk::new(("nqn.a", 1), &disk);
        assert_eq!(bound.at(("nqn.a", 1)), Some(disk));
        assert_eq!((bound.at(("nqn.b", 1)), bound.at(("nqn.a", 2))), (None, None), "another export has this name now");
        for wrong in ["\"2222\"", "\"zz22222222222222222222222222222222\"", "7"] {
            let text = GOLDEN.replace("\"22222222222222222222222222222222\"", wrong);
            assert!(Record::read(text.as_bytes(), Path::new("x"), &settings()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_golden_file_is_what_is_written_and_read() {
        let text = serde_json::to_string_pretty(&sample()).expect("data") + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/daemon-4.json"), &text).expect("a file");
        }
        assert_eq!(text, GOLDEN);
        let read = |text: &str| {
            let (record, format) = Record::read(text.as_bytes(), Path::new("x"), &settings()).expect("ours");
            (record.migrated(format), format)
        };
        assert_eq!(read(GOLDEN), (sample(), 4));
        assert_eq!(read(GOLDEN_3), (sample_3(), 3));
        assert_eq!(read(GOLDEN_2), (sample_2(), 2));
        assert_eq!(read(GOLDEN_1), (sample_1(), 1));
    }

    #[test]
    fn of_two_disks_that_exports_of_one_place_were_for_none_has_the_name() {
        let other = DiskIdentity { uuid: Some([0x44; 16]), nguid: None, eui64: None, block_size: 4096 };
        let mut record = sample_3();
        record.disks.insert("other".into(), BoundDisk::new(("nqn.2014-08.org.example:disk", 1), &other));
        record.disks.insert("elsewhere".into(), BoundDisk::new(("nqn.2014-08.org.example:disk", 2), &other));
        record.disks.insert("unknown".into(), BoundDisk::new(("nqn.2014-08.org.example:unknown", 2), &other));
        let record = record.migrated(3);
        assert_eq!(record.names.keys().collect::<Vec<_>>(), ["nvme0n2"]);
    }

    #[test]
    fn what_is_not_ours_or_newer_is_refused() {
        let read =
            |text: &str| Record::read(text.as_bytes(), Path::new("x"), &settings()).expect_err("refused").to_string();
        assert!(read("{}").starts_with("x: not an Interlock state file"));
        assert!(read("\0").starts_with("x: not an Interlock state file"));
        let newer =
            GOLDEN.replace("\"format\": 4", "\"format\": 5").replace("\"writer\": \"0.1.0\"", "\"writer\": \"9.1\"");
        assert_eq!(read(&newer), "x has format 5, this program knows up to 4: use version 9.1 or later");
        assert!(read(&GOLDEN.replace("11111111", "21111111")).starts_with("x belongs to the host nqn."));
        assert!(read(&GOLDEN.replace("\"wanted\"", "\"wantde\"")).contains("wantde"));
    }

    #[test]
    fn names_come_back_and_are_given_once() {
        let mut record = Record::new(&settings());
        let request = |port| ConnectRequest::new("192.0.2.1", port, "nqn.2014-08.org.example:disk");
        assert_eq!(record.number(&request(1), |_| false), 0);
        assert_eq!(record.number(&request(2), |_| false), 1);
        assert_eq!(record.number(&request(1), |_| false), 0);
        assert_eq!((record.subsystem("a"), record.subsystem("b"), record.subsystem("a")), (0, 1, 0));
    }

    #[test]
    fn subsystems_that_nothing_is_of_are_forgotten_when_there_are_too_many() {
        let mut record = sample_1();
        let many = (1..REMEMBERED).map(|n| (format!("nqn.2014-08.org.example:{n}"), n as u32));
        record.subsystems.extend(many);
        assert_eq!(record.subsystem("nqn.2014-08.org.example:one-more"), 1);
        assert_eq!(record.subsystems.len(), 2);
        assert_eq!(record.subsystem("nqn.2014-08.org.example:disk"), 0, "one that is in use keeps its number");
    }
}
