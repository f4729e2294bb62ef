//! The record on the disk: a whole file, and beside it the changes since.
//!
//! A change is a line that is appended and made durable; when the lines have grown to a few times the whole, the whole is
//! written anew beside the old one and put in its place. So what is written grows with what is done: three thousand
//! connections write three thousand lines. The lines name the whole that they belong to, and lines of an older one are
//! not read; a last line that is not whole was never confirmed to anybody. A line that is damaged costs what it said, and
//! nothing else: the file is kept beside the record, and for as long as such a file lies there, an export whose disk is not
//! known waits for the operator.

use super::change::{Change, Written};
use super::{FORMAT, Record, RecordError};
use interlock_host::HostSettings;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file's name in the directory of a host.
pub(crate) const FILE: &str = "daemon.json";
/// That of its changes.
const CHANGES: &str = "daemon.changes";
/// The whole is written anew when the changes have grown to this, and to four times the whole.
const COMPACT_AT: u64 = 256 << 10;

/// The first line of the changes: to which whole they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    generation: u64,
}

/// The file and what it holds.
#[derive(Debug)]
pub(crate) struct RecordFile {
    dir: PathBuf,
    pub(crate) record: Record,
    written: Written,
    /// Where changes are appended, and its length; `None`: the whole is written next.
    changes: Option<(File, u64)>,
    /// Bytes of the whole.
    whole: u64,
    /// It was damaged once: what it does not say may have been lost.
    damaged: bool,
    /// Bytes that were written, by this process.
    #[cfg(test)]
    pub(crate) bytes: u64,
    /// Entries that were compared with what was written.
    #[cfg(test)]
    pub(crate) compared: usize,
}

impl RecordFile {
    /// Opens the record in `dir`; what is worth telling of it comes along.
    pub(crate) fn open(dir: &Path, settings: &HostSettings) -> Result<(Self, Vec<String>), RecordError> {
        let file = dir.join(FILE);
        let mut notes = Vec::new();
        let read = read_file(&file).and_then(|text| text.map(|text| read_whole(dir, &text, settings)).transpose());
        let (record, whole, changes, lost) = match read {
            Ok(None) => (Record::new(settings), 0, None, None),
            Ok(Some(Whole { record, bytes, changes, lost })) => (record, bytes, changes, lost),
            // No write depends on it: connections and exports can be asked for again, and lives are recorded elsewhere.
            Err(RecordError::NotOurs { why, .. }) => {
                set_aside(dir, CHANGES)?;
                let aside = set_aside(dir, FILE)?.unwrap_or_else(|| file.clone());
                notes.push(format!(
                    "{} cannot be read ({why}) and was moved to {}: earlier connections and exports are forgotten; those of \
                     the configuration start again, but exports wait until an operator names the disk of each",
                    file.display(),
                    aside.display()
                ));
                (Record::new(settings), 0, None, None)
            }
            Err(other) => return Err(other),
        };
        let written = Written::of(&record);
        let mut opened = Self {
            dir: dir.to_owned(),
            record,
            written,
            changes,
            whole,
            damaged: false,
            #[cfg(test)]
            bytes: 0,
            #[cfg(test)]
            compared: 0,
        };
        if let Some(why) = lost {
            notes.push(opened.keep_the_rest(&why)?);
        }
        opened.damaged = was_damaged(dir);
        Ok((opened, notes))
    }

    /// Puts changes of which some cannot be read out of the way, and writes down what is known without them. Says so.
    fn keep_the_rest(&mut self, why: &str) -> Result<String, RecordError> {
        let file = self.dir.join(CHANGES);
        let aside = set_aside(&self.dir, CHANGES)?.unwrap_or_else(|| file.clone());
        if let Err(error) = self.save_whole() {
            // What can be read of it is not lost with what cannot.
            let _ = fs::rename(&aside, &file);
            return Err(error);
        }
        Ok(format!(
            "{} is damaged ({why}) and was moved to {}: what could be read is kept, the rest is forgotten; an export whose disk \
             was forgotten waits until an operator names it",
            file.display(),
            aside.display()
        ))
    }

    /// True if it was damaged once, so that what it does not say may have been written there before. Until the files are
    /// removed that were put aside then.
    pub(crate) const fn was_damaged(&self) -> bool {
        self.damaged
    }

    /// True if nothing was ever connected under this identity, as far as anybody can know: a record that was damaged once
    /// does not say.
    pub(crate) fn is_first(&self) -> bool {
        self.record.is_first() && !self.damaged
    }

    /// Changes what it holds, and makes that durable. If it cannot be, nothing has changed (but for the places of entries that
    /// would have been dropped: they are the next ones to go).
    pub(crate) fn change<R>(&mut self, change: impl FnOnce(&mut Record) -> R) -> Result<R, RecordError> {
        // What may have been changed without being written yet is not undone with this change.
        self.save()?;
        let done = change(&mut self.record);
        self.save().inspect_err(|_| self.written.restore(&mut self.record))?;
        Ok(done)
    }

    /// The same for a change of one path, whose number `change` gives, and of the number of its subsystem: no other entry is
    /// looked at, so that thousands of paths cost thousands of looks.
    pub(crate) fn change_path<R>(
        &mut self,
        subnqn: &str,
        change: impl FnOnce(&mut Record) -> (u32, R),
    ) -> Result<R, RecordError> {
        let (controllers, subsystems) = (self.record.controllers.len(), self.record.subsystems.len());
        let (number, done) = change(&mut self.record);
        let new = usize::from(!self.written.has_path(number));
        if self.record.controllers.len() == controllers + new && self.record.subsystems.len() >= subsystems {
            self.look(2);
            let changes = self.written.changes_of_path(&self.record, number, subnqn);
            self.write(changes).inspect_err(|_| self.written.restore_path(&mut self.record, number, subnqn))?;
        } else {
            // Others were forgotten to make room.
            self.save().inspect_err(|_| self.written.restore(&mut self.record))?;
        }
        Ok(done)
    }

    /// Makes what it holds durable. What has not changed is not written.
    pub(crate) fn save(&mut self) -> Result<(), RecordError> {
        self.look(self.record.controllers.len() + self.record.subsystems.len());
        let changes = self.written.changes(&self.record);
        self.write(changes)
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<(), RecordError> {
        let limit = COMPACT_AT.max(self.whole.saturating_mul(4));
        match &mut self.changes {
            _ if changes.is_empty() => Ok(()),
            Some((file, len)) if *len < limit => {
                let mut text = Vec::new();
                for change in &changes {
                    serde_json::to_writer(&mut text, change).expect("its maps have strings as keys");
                    text.push(b'\n');
                }
                if let Err(error) = file.write_all(&text).and_then(|()| file.sync_data()) {
                    // Nobody knows what is there now: the whole is written next.
                    self.changes = None;
                    return Err(RecordError::Io { what: "write", file: self.dir.join(CHANGES), error });
                }
                *len += text.len() as u64;
                self.count(text.len());
                self.written.apply(changes);
                Ok(())
            }
            _ => self.save_whole(),
        }
    }

    fn save_whole(&mut self) -> Result<(), RecordError> {
        let failed = |file: PathBuf| move |error| RecordError::Io { what: "write", file, error };
        let generation = self.record.generation + 1;
        let record = Record { generation, ..self.record.clone() };
        let mut text = serde_json::to_vec_pretty(&record).expect("its maps have strings as keys");
        text.push(b'\n');
        let file = self.dir.join(FILE);
        self.changes = None;
        write_whole(&file, &text).map_err(failed(file))?;
        (self.record.generation, self.whole, self.written) = (generation, text.len() as u64, Written::of(&self.record));
        self.count(text.len());
        // It is durable from here on. Changes of the old whole are not read any more, also if this fails.
        let mut first = serde_json::to_vec(&Since { generation }).expect("a number");
        first.push(b'\n');
        let file = self.dir.join(CHANGES);
        if write_whole(&file, &first).is_ok() {
            let opened = OpenOptions::new().append(true).open(&file);
            self.changes = opened.ok().map(|file| (file, first.len() as u64));
        }
        Ok(())
    }

    #[cfg(test)]
    const fn look(&mut self, entries: usize) {
        self.compared += entries;
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "tests count")]
    const fn look(&self, _: usize) {}

    #[cfg(test)]
    const fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "tests count")]
    const fn count(&self, _: usize) {}
}

/// True if files of a record were put aside in this directory.
fn was_damaged(dir: &Path) -> bool {
    let is_aside = |entry: io::Result<fs::DirEntry>| {
        let name = entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).unwrap_or_default();
        [FILE, CHANGES].iter().any(|file| name.strip_prefix(file).is_some_and(|rest| rest.starts_with(".damaged")))
    };
    fs::read_dir(dir).is_ok_and(|mut all| all.any(is_aside))
}

/// A record with its changes.
struct Whole {
    record: Record,
    /// Of the whole, without changes.
    bytes: u64,
    /// Where changes are appended.
    changes: Option<(File, u64)>,
    /// Why not all of the changes could be read.
    lost: Option<String>,
}

/// The record in this text, with the changes since. Of one of an earlier format a copy is kept.
fn read_whole(dir: &Path, text: &[u8], settings: &HostSettings) -> Result<Whole, RecordError> {
    let (record, format) = Record::read(text, &dir.join(FILE), settings)?;
    let len = text.len() as u64;
    let Changes { lines, file: changes, lost } = read_changes(dir, record.generation)?;
    let is_present = format == u64::from(FORMAT);
    if !is_present {
        let keep = |name: &str, text: &[u8]| {
            let copy = dir.join(format!("{name}.format-{format}"));
            write_whole(&copy, text).map_err(|error| RecordError::Io { what: "write", file: copy, error })
        };
        keep(FILE, text)?;
        if !lines.is_empty() {
            keep(CHANGES, &read_file(&dir.join(CHANGES))?.unwrap_or_default())?;
        }
    }
    // The whole is written next where the format is an earlier one: no line of this program belongs to that.
    let record = record.with(lines).migrated(format);
    Ok(Whole { record, bytes: len, changes: changes.filter(|_| is_present), lost })
}

/// The bytes of a file, if there is such a file. One that is there and that nobody can read is as good as damaged.
fn read_file(file: &Path) -> Result<Option<Vec<u8>>, RecordError> {
    match fs::read(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if is_of_the_file(&error) => {
            Err(RecordError::NotOurs { file: file.to_owned(), why: error.to_string() })
        }
        Err(error) => Err(RecordError::Io { what: "read", file: file.to_owned(), error }),
    }
}

/// True if the file is at fault: it is a directory, somebody else's, or on broken sectors. Not so if this process has no
/// descriptors or no memory, or if the directory is no directory.
fn is_of_the_file(error: &io::Error) -> bool {
    let of_the_file =
        [rustix::io::Errno::ISDIR, rustix::io::Errno::ACCESS, rustix::io::Errno::PERM, rustix::io::Errno::LOOP]
            .into_iter()
            .chain([rustix::io::Errno::IO, rustix::io::Errno::NXIO]);
    of_the_file.map(rustix::io::Errno::raw_os_error).any(|code| error.raw_os_error() == Some(code))
}

/// What was changed since a whole.
#[derive(Default)]
struct Changes {
    /// In order; without those that cannot be read.
    lines: Vec<Change>,
    /// Where they are appended to, with its length; `None`: the whole is written next.
    file: Option<(File, u64)>,
    /// Why something cannot be read.
    lost: Option<String>,
}

/// The changes since the whole of this generation.
fn read_changes(dir: &Path, generation: u64) -> Result<Changes, RecordError> {
    let path = dir.join(CHANGES);
    let text = match read_file(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Changes::default()),
        Err(RecordError::NotOurs { why, .. }) => return Ok(Changes { lost: Some(why), ..Changes::default() }),
        Err(error) => return Err(error),
    };
    let (mut found, mut read) = (Changes::default(), 0);
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.last() != Some(&b'\n') {
            break; // cut off by the end of a process, and never confirmed
        }
        read += line.len();
        let bad = |why: serde_json::Error| format!("line {}: {why}", number + 1);
        if number > 0 {
            match serde_json::from_slice(line) {
                Ok(change) => found.lines.push(change),
                // The others stand for themselves: each says the whole of what it changes.
                Err(why) => found.lost = found.lost.or_else(|| Some(bad(why))),
            }
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Since { generation: since }) if since == generation => {}
            Ok(_) => return Ok(Changes::default()),
            // Whether they are older than the whole is not known.
            Err(why) => return Ok(Changes { lost: Some(bad(why)), ..Changes::default() }),
        }
    }
    if read == 0 {
        // It was put in its place with its first line.
        found.lost = Some("it does not begin as it was written".into());
    }
    if found.lost.is_some() || read < text.len() {
        return Ok(found); // something is torn: the whole is written next
    }
    let opened = OpenOptions::new().append(true).open(&path);
    let file = opened.map_err(|error| RecordError::Io { what: "open", file: path.clone(), error })?;
    found.file = Some((file, text.len() as u64));
    Ok(found)
}

/// Puts a file that cannot be read out of the way, under a name that is free; `None`: there is no such file.
fn set_aside(dir: &Path, name: &str) -> Result<Option<PathBuf>, RecordError> {
    let free = (1..).map(|n| dir.join(format!("{name}.damaged-{n}"))).find(|path| !path.exists());
    let (from, to) = (dir.join(name), free.unwrap_or_else(|| dir.join(format!("{name}.damaged"))));
    match fs::rename(&from, &to) {
        Ok(()) => Ok(Some(to)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RecordError::Io { what: "put aside", file: from, error }),
    }
}

/// Writes a whole file beside the old one, makes it durable and puts it in its place; makes its directory if need be.
pub(crate) fn write_whole(file: &Path, text: &[u8]) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = dir.join(name);
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    out.write_all(text)?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::BoundDisk;
    use super::super::tests::{GOLDEN_1, GOLDEN_3, sample_1, sample_3, settings};
    use super::*;
    use interlock_api::ConnectRequest;
    use interlock_export::DiskIdentity;

    fn open(dir: &Path) -> RecordFile {
        let (file, notes) = RecordFile::open(dir, &settings()).expect("ours");
        assert_eq!(notes, [""; 0]);
        file
    }

    fn request(n: u32) -> ConnectRequest {
        let port = u16::try_from(n).expect("few");
        ConnectRequest::new("192.0.2.1", port, format!("nqn.2014-08.org.example:{}", n / 4))
    }

    /// As a daemon does it: the name first, and that it is wanted when it is.
    fn connect(file: &mut RecordFile, n: u32) {
        let request = request(n);
        let named = file.change_path(&request.subnqn, |record| {
            let number = record.number(&request, |_| false);
            record.subsystem(&request.subnqn);
            (number, number)
        });
        let number = named.expect("written");
        let wanted =
            file.change_path(&request.subnqn, |record| (number, record.known(number).map(|known| known.wanted = true)));
        wanted.expect("written").expect("it");
    }

    #[test]
    fn a_file_is_whole_and_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let mut file = open(dir);
        assert!(file.is_first());
        file.record.subsystem("a");
        file.save().expect("written");
        assert_eq!(open(dir).record, file.record);
        assert!(!dir.join("daemon.json.new").exists());
        fs::remove_file(dir.join(CHANGES)).expect("ours");
        fs::write(dir.join(FILE), GOLDEN_1).expect("a file");
        let mut migrated = open(dir);
        assert_eq!(migrated.record, sample_1());
        migrated.record.subsystem("b");
        migrated.save().expect("written");
        assert_eq!(fs::read_to_string(dir.join("daemon.json.format-1")).expect("a copy"), GOLDEN_1);
        assert!(fs::read_to_string(dir.join(FILE)).expect("there").contains("\"format\": 4"));
    }

    /// What was written after the whole of the earlier format counts, too, and what it says of disks binds their names.
    #[test]
    fn changes_of_an_earlier_format_are_read_with_it_and_kept_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let lines = concat!(
            "{\"generation\":0}\n",
            "{\"subsystem\":{\"nqn\":\"nqn.2014-08.org.example:late\",\"number\":4}}\n",
            "{\"disk\":{\"export\":\"late\",\"disk\":{\"subnqn\":\"nqn.2014-08.org.example:late\",\"nsid\":7,",
            "\"uuid\":\"55555555555555555555555555555555\",\"nguid\":null,\"eui64\":null,\"block_bytes\":512}}}\n",
            "{\"export_ended\":\"nvme0n1\"}\n",
        );
        fs::write(dir.join(FILE), GOLDEN_3).expect("a file");
        fs::write(dir.join(CHANGES), lines).expect("a file");
        let mut expected = sample_3();
        expected.subsystems.insert("nqn.2014-08.org.example:late".into(), 4);
        expected.exports.remove(0);
        let late = DiskIdentity { uuid: Some([0x55; 16]), nguid: None, eui64: None, block_size: 512 };
        let late = BoundDisk::new(("nqn.2014-08.org.example:late", 7), &late);
        expected.disks.insert("late".into(), late.clone());
        expected.names.insert("nvme4n7".into(), late);
        let mut migrated = open(dir);
        assert_eq!(migrated.record, expected);
        assert_eq!(open(dir).record, expected, "nothing was written meanwhile that loses it");
        migrated.record.subsystem("b");
        migrated.save().expect("written");
        assert_eq!(open(dir).record, migrated.record);
        assert_eq!(fs::read_to_string(dir.join("daemon.json.format-3")).expect("a copy"), GOLDEN_3);
        assert_eq!(fs::read_to_string(dir.join("daemon.changes.format-3")).expect("a copy"), lines);
    }

    #[test]
    fn every_change_comes_back_in_its_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let mut file = open(dir);
        (1..=40).for_each(|n| connect(&mut file, n));
        assert_eq!(open(dir).record, file.record);
        file.record.controllers.remove(7);
        file.record.subsystems.remove("nqn.2014-08.org.example:3");
        file.record.names = sample_3().names;
        file.record.exports.clone_from(&sample_1().exports);
        file.record.discovery.push(request(99));
        file.save().expect("written");
        assert_eq!(open(dir).record, file.record);
        file.record.exports.clear();
        file.record.names.clear();
        file.record.known(3).expect("it").wanted = false;
        file.save().expect("written");
        let again = open(dir);
        assert_eq!((&again.record, again.changes.is_some()), (&file.record, true), "and goes on being appended to");
    }

    #[test]
    fn what_is_written_grows_with_what_is_done_and_not_with_what_is_there() {
        let written = |paths: u32| {
            let dir = tempfile::tempdir().expect("a directory");
            let mut file = open(dir.path());
            (1..=paths).for_each(|n| connect(&mut file, n));
            assert_eq!(open(dir.path()).record, file.record);
            // The next process finds all of it, and writes nothing to say so.
            let mut again = open(dir.path());
            (1..=paths).for_each(|n| connect(&mut again, n));
            assert_eq!(again.bytes, 0);
            file.bytes
        };
        let (few, many) = (written(300), written(1_200));
        assert!(many < few * 6, "{few} bytes for 300 paths, {many} for 1,200");
        assert!(many / 1_200 < 4_096, "{many} bytes for 1,200 paths");
    }

    #[test]
    fn a_path_that_is_connected_is_not_compared_with_all_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut file = open(dir.path());
        (1..=1_200).for_each(|n| connect(&mut file, n));
        assert_eq!(file.compared, 1_200 * 2 * 2);
        // What a look at the status has learnt meanwhile is written with the next change of everything, and stays.
        file.record.subsystem("nqn.2014-08.org.example:seen");
        connect(&mut file, 1_201);
        let full = OpenOptions::new().append(true).open("/dev/full").expect("Linux has it");
        file.changes = Some((full, 0));
        let before = file.record.clone();
        let refused = file.change_path("nqn.2014-08.org.example:new", |record| {
            record.subsystem("nqn.2014-08.org.example:new");
            (record.number(&request(5_000), |_| false), ())
        });
        assert!(refused.is_err() && file.record == before, "nothing of it happened");
        let changed = file.change_path(&request(7).subnqn, |record| {
            let number = record.number(&request(7), |_| false);
            (number, record.known(number).map(|known| known.wanted = false))
        });
        changed.expect("the whole is written anew").expect("it");
        assert_eq!(open(dir.path()).record, file.record);
        assert!(file.record.subsystems.contains_key("nqn.2014-08.org.example:seen"));
    }

    #[test]
    fn what_was_cut_off_was_never_confirmed_and_what_belongs_to_an_older_whole_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let mut file = open(dir);
        (1..=3).for_each(|n| connect(&mut file, n));
        let lines = fs::read(dir.join(CHANGES)).expect("there");
        let expected = open(dir).record;
        fs::write(dir.join(CHANGES), [&lines[..], b"{\"controller_forg"].concat()).expect("a file");
        let mut torn = open(dir);
        assert_eq!(torn.record, expected);
        torn.record.subsystem("another");
        torn.save().expect("written");
        assert_eq!(open(dir).record, torn.record, "the whole was written anew");
        // The end of a process between the whole and its changes.
        fs::write(dir.join(CHANGES), &lines).expect("a file");
        assert_eq!(open(dir).record, torn.record);
    }

    /// A directory that is full, or read-only, or gone: what is refused is not done, and it goes on when there is room.
    #[test]
    fn what_cannot_be_written_is_not_done() {
        let place = tempfile::tempdir().expect("a directory");
        let dir = place.path().join("state");
        fs::write(&dir, "no directory can be made here").expect("a file");
        let blocked = RecordFile::open(&dir, &settings()).map(drop);
        assert!(matches!(blocked, Err(RecordError::Io { what: "read", .. })), "{blocked:?}");
        fs::remove_file(&dir).expect("ours");
        let mut file = open(&dir);
        fs::write(&dir, "nor now").expect("a file");
        let refused = file.change(|record| record.subsystem("a")).expect_err("the whole cannot be written");
        assert!(refused.to_string().starts_with("cannot write "), "{refused}");
        assert!(file.record.subsystems.is_empty());
        fs::remove_file(&dir).expect("ours");
        file.change(|record| record.subsystem("b")).expect("written");
        // Now a change cannot be appended.
        let full = OpenOptions::new().append(true).open("/dev/full").expect("Linux has it");
        file.changes = Some((full, 0));
        let refused = file.change(|record| record.subsystem("c")).expect_err("no space");
        assert!(refused.to_string().contains("No space left"), "{refused}");
        assert_eq!(file.record, open(&dir).record, "nothing of it happened");
        file.change(|record| record.subsystem("d")).expect("the whole is written anew");
        let again = open(&dir);
        assert_eq!(again.record, file.record);
        assert_eq!(again.record.subsystems.keys().collect::<Vec<_>>(), ["b", "d"]);
    }

    #[test]
    fn a_change_that_is_refused_leaves_everything_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let mut file = open(dir);
        (1..=6).for_each(|n| connect(&mut file, n));
        file.record.exports.clone_from(&sample_1().exports);
        file.record.names = sample_3().names;
        file.save().expect("written");
        // As a look at the status does it: known, and not written yet.
        file.record.subsystem("nqn.2014-08.org.example:seen");
        let full = || OpenOptions::new().append(true).open("/dev/full").expect("Linux has it");
        let before = file.record.clone();
        for written in [false, true] {
            if written {
                file.changes = None;
                file.save().expect("there is room");
            }
            file.changes = Some((full(), 0));
            let refused = file.change(|record| {
                record.number(&request(99), |_| false);
                record.known(3).expect("it").wanted = false;
                record.exports.clear();
                record.names.clear();
                record.subsystem("nqn.2014-08.org.example:new");
                record.discovery.push(request(98));
            });
            assert!(refused.is_err());
            assert_eq!(Record { generation: before.generation, ..file.record.clone() }, before, "{written}");
        }
        file.changes = None;
        file.change(|record| record.subsystem("nqn.2014-08.org.example:new")).expect("there is room");
        assert_eq!(open(dir).record, file.record);
    }

    #[test]
    fn a_later_programs_record_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        connect(&mut open(dir), 1);
        let text = fs::read_to_string(dir.join(FILE)).expect("there").replace("\"format\": 4", "\"format\": 5");
        fs::write(dir.join(FILE), &text).expect("a file");
        let files = || {
            let names = fs::read_dir(dir).expect("there").map(|entry| entry.expect("a file").file_name());
            names.map(|name| (name.clone(), fs::read(dir.join(name)).expect("ours"))).collect::<Vec<_>>()
        };
        let before = files();
        let refused = RecordFile::open(dir, &settings()).map(drop);
        assert!(matches!(refused, Err(RecordError::Newer { format: 5, .. })), "{refused:?}");
        assert_eq!(files(), before, "for the program that can read it");
    }

    #[test]
    fn what_cannot_be_read_is_put_aside_and_told() {
        let damaged: [fn(&Path); 2] = [
            |dir| {
                fs::remove_file(dir.join(FILE)).expect("there");
                fs::create_dir(dir.join(FILE)).expect("a directory");
            },
            |dir| fs::write(dir.join(FILE), "{\"magic\"").expect("a file"),
        ];
        for damage in damaged {
            let dir = tempfile::tempdir().expect("a directory");
            let dir = dir.path();
            connect(&mut open(dir), 1);
            damage(dir);
            let (mut file, notes) = RecordFile::open(dir, &settings()).expect("it starts");
            assert!(notes.len() == 1 && notes[0].contains("daemon.json.damaged-1"), "{notes:?}");
            assert!(dir.join("daemon.json.damaged-1").exists());
            assert!(!file.is_first() && !open(dir).is_first(), "something was connected before");
            assert!(file.was_damaged() && open(dir).was_damaged());
            connect(&mut file, 2);
            assert_eq!(open(dir).record, file.record);
        }
    }

    #[test]
    fn a_damaged_change_costs_what_it_said_and_nothing_else() {
        let line_of_two: fn(&Path) = |dir| {
            let text = fs::read_to_string(dir.join(CHANGES)).expect("there");
            let damaged = text.replace("{\"disk\":{\"export\":\"two\"", "{\"disk\":{\"expprt\":\"two\"");
            assert_ne!(damaged, text);
            fs::write(dir.join(CHANGES), damaged).expect("ours");
        };
        let all: fn(&Path) = |dir| {
            fs::remove_file(dir.join(CHANGES)).expect("there");
            fs::create_dir(dir.join(CHANGES)).expect("a directory");
        };
        let beginning: fn(&Path) = |dir| {
            let text = fs::read_to_string(dir.join(CHANGES)).expect("there");
            fs::write(dir.join(CHANGES), text.replacen("generation", "geneRation", 1)).expect("ours");
        };
        let emptied: fn(&Path) = |dir| fs::write(dir.join(CHANGES), "").expect("ours");
        for (damage, left) in
            [(line_of_two, &["one", "three"][..]), (all, &["one"]), (beginning, &["one"]), (emptied, &["one"])]
        {
            let dir = tempfile::tempdir().expect("a directory");
            let dir = dir.path();
            let mut file = open(dir);
            let disk = DiskIdentity { uuid: Some([7; 16]), nguid: None, eui64: None, block_size: 512 };
            for name in ["one", "two", "three"] {
                let bound = BoundDisk::new(("nqn.a", 1), &disk);
                file.change(|record| record.disks.insert(name.into(), bound)).expect("written");
            }
            assert!(!open(dir).was_damaged());
            damage(dir);
            let (mut file, notes) = RecordFile::open(dir, &settings()).expect("it starts");
            assert!(notes.len() == 1 && notes[0].contains("daemon.changes.damaged-1"), "{notes:?}");
            assert_eq!(file.record.disks.keys().collect::<Vec<_>>(), left);
            // It is written down, and that something was lost is known until what was put aside is removed.
            let again = open(dir);
            assert_eq!((&again.record, again.was_damaged(), file.was_damaged()), (&file.record, true, true));
            connect(&mut file, 2);
            assert_eq!(open(dir).record, file.record);
            let aside = dir.join("daemon.changes.damaged-1");
            if aside.is_dir() { fs::remove_dir(aside) } else { fs::remove_file(aside) }.expect("ours");
            assert!(!open(dir).was_damaged());
        }
    }
}
