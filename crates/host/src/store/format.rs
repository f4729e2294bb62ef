//! The file of lives: text, one entry per line, so that it can be read by eye in the middle of the night.
//!
//! ```text
//! INTERLOCK-LIVES {"format":3,"writer":"0.1.0","hostnqn":"nqn...","hostid":"0a0b..."} 1c291ca3
//! {"life":{"id":1,...}} 8a9136aa
//! {"clean":1} 5b1e30ad
//! ```
//! Every line ends with the CRC-32C of what stands before its last space. The first says whose file it is; it stays
//! readable in every format, so that an older program can say which one it needs. A line that is cut short or does not
//! match its checksum is an entry that was never answered for - if it is the last one. Anywhere else the file is damaged.

use super::{OldSockets, SocketPair};
use interlock_host_core::stall::{DEFAULT_SLEW_PERMILLE, HoldTerms};
use interlock_host_core::{CtrlId, Identity, LifeId, LifeRecord};
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::{HostId, Nqn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// First word of the file.
pub(super) const MAGIC: &str = "INTERLOCK-LIVES ";
/// The format that this program writes.
/// 2: the allowance for slow clocks is part of a life, and so are the numbers of its sockets.
/// 3: so are the identifiers of the namespaces that it serves. An older program would overlook them, and refuses.
pub(super) const FORMAT: u32 = 3;

/// Whose file it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    /// Version of the program that began the file.
    pub(super) writer: String,
    pub(super) hostnqn: String,
    pub(super) hostid: String,
}

/// Where a life was recorded: what its sockets mean to somebody who reads it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Of `/proc/sys/kernel/random/boot_id`.
    pub(super) boot: String,
    /// Inode of the network namespace.
    pub(super) netns: u64,
}

/// One line after the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Entry {
    Life(Box<Recorded>),
    /// It ended with nothing unanswered.
    Clean(u64),
    /// It is fenced.
    Fenced(u64),
}

/// A life, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    id: u64,
    ctrl: u32,
    subnqn: String,
    addr: SocketAddr,
    cntlid: u16,
    ciu: u8,
    /// Hexadecimal: not every reader of JSON keeps 64 bits.
    cirn: String,
    kato_ms: u64,
    /// Files of before this was told apart say nothing: the controller had reported it, or had been believed to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    kato_assumed: bool,
    tbkas: bool,
    cqt_ms: Option<u64>,
    /// `null`: nothing may be assumed.
    assumed_cqt_ms: Option<u64>,
    proxy_delay_ms: u64,
    /// Format 1 had none: what is recorded there is held as long as what is recorded now.
    #[serde(default = "default_slew")]
    slew_permille: u16,
    place: Place,
    sockets: Vec<(SocketAddr, SocketAddr)>,
    /// Of `sockets`, in their order. Format 1 had none.
    #[serde(default)]
    inodes: Vec<u64>,
    /// Formats 1 and 2 had none: then every namespace of the subsystem is protected, and none elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    disks: Vec<Disk>,
}

/// By what a namespace is known: hexadecimal, in the order of bytes on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nguid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eui64: Option<String>,
}

impl Disk {
    fn of(ids: &NamespaceIds) -> Self {
        Self {
            uuid: ids.uuid.map(|id| hex(&id)),
            nguid: ids.nguid.map(|id| hex(&id)),
            eui64: ids.eui64.map(|id| hex(&id)),
        }
    }

    /// `None` if an identifier in it is none.
    fn ids(&self) -> Option<NamespaceIds> {
        Some(NamespaceIds {
            uuid: unhex(self.uuid.as_deref())?,
            nguid: unhex(self.nguid.as_deref())?,
            eui64: unhex(self.eui64.as_deref())?,
            csi: None,
        })
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: Option<&str>) -> Option<Option<[u8; N]>> {
    let Some(text) = text else { return Some(None) };
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut id = [0; N];
    for (byte, at) in id.iter_mut().zip(0..) {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Some(id))
}

const fn default_slew() -> u16 {
    DEFAULT_SLEW_PERMILLE
}

/// Rounded up: nothing in the file shortens a hold.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl Recorded {
    pub(super) fn new(record: &LifeRecord, place: &Place, sockets: &[SocketPair]) -> Self {
        let hold = record.hold;
        Self {
            id: record.life.0,
            ctrl: record.ctrl.0,
            subnqn: record.subnqn.to_string(),
            addr: record.addr,
            cntlid: record.identity.cntlid,
            ciu: record.identity.ciu,
            cirn: format!("{:016x}", record.identity.cirn),
            kato_ms: millis(hold.kato),
            kato_assumed: hold.kato_assumed,
            tbkas: hold.tbkas,
            cqt_ms: hold.cqt.map(millis),
            assumed_cqt_ms: hold.assumed_cqt.map(millis),
            proxy_delay_ms: millis(hold.proxy_delay),
            slew_permille: hold.slew_permille,
            place: place.clone(),
            sockets: sockets.iter().map(|pair| (pair.local, pair.peer)).collect(),
            inodes: sockets.iter().map(|pair| pair.inode).collect(),
            disks: record.disks.iter().map(Disk::of).collect(),
        }
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    fn is_sound(&self) -> bool {
        Nqn::new(self.subnqn.clone()).is_ok()
            && u64::from_str_radix(&self.cirn, 16).is_ok()
            && self.disks.iter().all(|disk| disk.ids().is_some())
    }

    /// As control wants it; `None` if a name in it is none.
    pub(super) fn record(&self, hostnqn: &Nqn, hostid: HostId) -> Option<LifeRecord> {
        let span = Duration::from_millis;
        Some(LifeRecord {
            life: LifeId(self.id),
            ctrl: CtrlId(self.ctrl),
            hostnqn: hostnqn.clone(),
            hostid,
            subnqn: Nqn::new(self.subnqn.clone()).ok()?,
            addr: self.addr,
            identity: Identity { cntlid: self.cntlid, ciu: self.ciu, cirn: u64::from_str_radix(&self.cirn, 16).ok()? },
            hold: HoldTerms {
                kato: span(self.kato_ms),
                kato_assumed: self.kato_assumed,
                tbkas: self.tbkas,
                cqt: self.cqt_ms.map(span),
                assumed_cqt: self.assumed_cqt_ms.map(span),
                proxy_delay: span(self.proxy_delay_ms),
                slew_permille: self.slew_permille,
            },
            disks: self.disks.iter().map(Disk::ids).collect::<Option<_>>()?,
        })
    }

    /// What its sockets mean here.
    pub(super) fn sockets(&self, here: &Place) -> OldSockets {
        if self.place.boot != here.boot {
            OldSockets::Gone
        } else if self.place.netns != here.netns {
            OldSockets::Unseen
        } else {
            let inodes = self.inodes.iter().copied().chain(std::iter::repeat(0));
            let pairs = self.sockets.iter().zip(inodes);
            OldSockets::Look(
                pairs.map(|((local, peer), inode)| SocketPair { local: *local, peer: *peer, inode }).collect(),
            )
        }
    }
}

/// Why the contents cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It does not begin with the magic word.
    NotOurs,
    /// A later program wrote it.
    Newer { format: u32, writer: String },
    /// This line (from 1) is not what was written.
    Damaged { line: usize, why: &'static str },
}

fn line(text: String) -> String {
    let sum = crc32c::crc32c(text.as_bytes());
    format!("{text} {sum:08x}\n")
}

/// The first line.
pub(super) fn write_header(header: &Header) -> String {
    line(format!("{MAGIC}{}", serde_json::to_string(header).expect("plain strings and numbers")))
}

/// Any other line.
pub(super) fn write_entry(entry: &Entry) -> String {
    line(serde_json::to_string(entry).expect("plain strings and numbers"))
}

/// What stands before a checksum that matches.
fn checked(line: &str) -> Option<&str> {
    let (text, sum) = line.rsplit_once(' ')?;
    (sum.len() == 8 && u32::from_str_radix(sum, 16).ok()? == crc32c::crc32c(text.as_bytes())).then_some(text)
}

/// Reads a whole file: whose it is, and the lives that are neither clean nor fenced.
pub(super) fn read(bytes: &[u8]) -> Result<(Header, BTreeMap<u64, Recorded>), Unusable> {
    if !bytes.starts_with(MAGIC.as_bytes()) {
        return Err(Unusable::NotOurs);
    }
    let damaged = |line, why| Unusable::Damaged { line, why };
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').zip(1..).peekable();
    let text = |line: &[u8]| std::str::from_utf8(line).ok()?.strip_suffix('\n').and_then(checked).map(str::to_owned);
    let first = lines.next().and_then(|(line, _)| text(line));
    let first = first.ok_or_else(|| damaged(1, "its checksum does not match"))?;
    let header: Header =
        serde_json::from_str(&first[MAGIC.len()..]).map_err(|_| damaged(1, "it does not say whose it is"))?;
    if header.format > FORMAT {
        return Err(Unusable::Newer { format: header.format, writer: header.writer });
    }
    let mut lives = BTreeMap::new();
    while let Some((line, number)) = lines.next() {
        let Some(text) = text(line) else {
            if lines.peek().is_none() {
                break; // Never answered for: nothing was sent on its account.
            }
            return Err(damaged(number, "its checksum does not match, and it is not the last"));
        };
        match serde_json::from_str(&text).map_err(|_| damaged(number, "it is no entry"))? {
            Entry::Life(life) if !life.is_sound() => return Err(damaged(number, "a name in it is none")),
            Entry::Life(life) => {
                lives.insert(life.id, *life);
            }
            Entry::Clean(id) | Entry::Fenced(id) => {
                lives.remove(&id);
            }
        }
    }
    Ok((header, lives))
}
