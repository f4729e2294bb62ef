//! A number below which none may be given again, in a file of its own.
//!
//! The journal knows which numbers were given, as long as it can be written. When its disk is full it cannot, and the numbers
//! go on. So this file is made while there is room, and from then on it is written in place, which needs none.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file in the directory of a host.
pub const FLOOR: &str = "events.next";
/// Digits, and the end of the line: its length never changes.
const LEN: usize = 21;

/// The file, and what it says.
#[derive(Debug)]
pub struct Floor {
    file: File,
    value: u64,
}

impl Floor {
    /// Opens it, or makes it. What it said and could not be understood is told beside it: then it says 1.
    ///
    /// # Errors
    /// If it cannot be read or made.
    pub fn open(dir: &Path) -> io::Result<(Self, Option<io::Error>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(FLOOR))?;
        // More than a number is none.
        let mut bytes = [0; 2 * LEN];
        let len = file.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes[..len]);
        let (value, unread) = match text.trim().parse() {
            Ok(value) => (value, None),
            Err(_) if len == 0 => (1, None),
            Err(why) => (1, Some(io::Error::new(io::ErrorKind::InvalidData, format!("`{FLOOR}`: {why}")))),
        };
        let mut floor = Self { file, value };
        if len != LEN && unread.is_none() {
            floor.write(value)?;
        }
        Ok((floor, unread))
    }

    /// What it says: numbers from this one on may be given.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// Makes durable that numbers below `to` may have been given. It never says less than before.
    ///
    /// # Errors
    /// If it cannot be written: numbers may be used twice.
    pub fn raise(&mut self, to: u64) -> io::Result<()> {
        if to > self.value { self.write(to) } else { Ok(()) }
    }

    fn write(&mut self, value: u64) -> io::Result<()> {
        self.file.write_all_at(format!("{value:020}\n").as_bytes(), 0)?;
        self.file.set_len(LEN as u64)?;
        self.file.sync_data()?;
        self.value = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(dir: &Path) -> Floor {
        let (floor, unread) = Floor::open(dir).expect("a file");
        assert!(unread.is_none(), "{unread:?}");
        floor
    }

    #[test]
    fn it_is_written_in_place_and_never_falls() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        assert_eq!(open(dir).value(), 1);
        let len = || fs::metadata(dir.join(FLOOR)).expect("it is there").len();
        let before = len();
        let mut floor = open(dir);
        floor.raise(u64::MAX - 1).expect("written");
        floor.raise(5).expect("nothing to do");
        assert_eq!((open(dir).value(), len()), (u64::MAX - 1, before));
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read_and_what_nobody_can_read_is_told_and_mended() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        fs::write(dir.join(FLOOR), "1100000000000\n").expect("a file");
        assert_eq!(open(dir).value(), 1_100_000_000_000);
        for wrong in ["many\n", "-1\n", "000000000000000000001 and more than a number\n"] {
            fs::write(dir.join(FLOOR), wrong).expect("a file");
            let (mut floor, unread) = Floor::open(dir).expect("a file");
            assert_eq!(unread.map(|why| why.kind()), Some(io::ErrorKind::InvalidData), "{wrong}");
            floor.raise(9).expect("written");
            assert_eq!(open(dir).value(), 9);
        }
    }
}
