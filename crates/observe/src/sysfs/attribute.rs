//! Attributes of a device: small files that may vanish, fail or hold anything.

use crate::Io;
use crate::natural::natural_order;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A sysfs attribute is at most a page.
const LONGEST: u64 = 4096;

/// A device's directory, and another one of the same device for what the first does not have.
#[derive(Debug)]
pub(super) struct Device {
    dir: PathBuf,
    also: Option<PathBuf>,
}

impl Device {
    pub(super) const fn at(dir: PathBuf) -> Self {
        Self { dir, also: None }
    }

    /// With a second directory, unless that is a link: in a kernel's tree it is one, to the same device.
    pub(super) fn or(self, also: PathBuf) -> Self {
        let own = also.symlink_metadata().is_ok_and(|data| data.is_dir());
        Self { also: own.then_some(also), ..self }
    }

    pub(super) fn child(&self, name: &str) -> Self {
        Self { dir: self.dir.join(name), also: self.also.as_ref().map(|also| also.join(name)) }
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.dir).chain(&self.also)
    }

    /// True if it is there (still).
    pub(super) fn exists(&self) -> bool {
        self.dirs().any(|dir| dir.is_dir())
    }

    /// What is in it, in natural order; nothing if it cannot be read.
    pub(super) fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .dirs()
            .flat_map(fs::read_dir)
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_by(|a, b| natural_order(a, b));
        names.dedup();
        names
    }

    /// An attribute without the blanks, newlines and NULs that pad it; `None` if it cannot be read.
    pub(super) fn text(&self, attribute: &str) -> Option<String> {
        let read = |dir: &PathBuf| {
            let mut bytes = Vec::new();
            File::open(dir.join(attribute)).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        let bytes = self.dirs().find_map(read)?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
    }

    /// An attribute that is a number in range; words like `off` and negative numbers for "none" are no number.
    pub(super) fn number<T: FromStr>(&self, attribute: &str) -> Option<T> {
        self.text(attribute)?.parse().ok()
    }

    /// The block layer's `stat`.
    pub(super) fn io(&self) -> Option<Io> {
        stat(&self.text("stat")?)
    }
}

/// Sets an attribute.
pub(super) fn write(attribute: &Path, value: &str) -> io::Result<()> {
    // No truncation and no creation: an attribute is not a file.
    OpenOptions::new().write(true).open(attribute)?.write_all(value.as_bytes())
}

/// Fields of `stat`: reads, merged, sectors, ms; writes, merged, sectors, ms; in flight, busy ms, time in queue; discards,
/// merged, sectors, ms; flushes, ms. Sectors are 512 bytes
/// (kernel documentation, "Block layer statistics in /sys/block/<dev>/stat").
fn stat(text: &str) -> Option<Io> {
    let fields: Vec<u64> = text.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let [reads, _, read_sectors, read_ms, writes, _, write_sectors, write_ms, in_flight, busy_ms, ..] = fields[..]
    else {
        return None;
    };
    Some(Io {
        reads,
        read_bytes: read_sectors.saturating_mul(512),
        read_us: read_ms.saturating_mul(1000),
        writes,
        write_bytes: write_sectors.saturating_mul(512),
        write_us: write_ms.saturating_mul(1000),
        // Its block layer has no such request.
        compares: None,
        flushes: fields.get(15).copied().unwrap_or_default(),
        flush_us: fields.get(16).copied().unwrap_or_default().saturating_mul(1000),
        in_flight,
        busy_us: busy_ms.saturating_mul(1000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_old_and_new_kernels() {
        let io = Io {
            reads: 9379,
            read_bytes: 272_440 * 512,
            read_us: 47_166_000,
            writes: 6549,
            write_bytes: 52_392 * 512,
            write_us: 23_853_000,
            in_flight: 1,
            busy_us: 32_232_000,
            ..Io::default()
        };
        let new = "    9379        0   272440    47166     6549        0    52392    23853        1    32232    71019 0 0 0 0 3 7";
        assert_eq!(stat(new), Some(Io { flushes: 3, flush_us: 7_000, ..io }));
        assert_eq!(
            stat("9379 0 272440 47166 6549 0 52392 23853 1 32232 71019"),
            Some(io),
            "before discards were counted"
        );
        for bad in ["", "1 2 3", "a b c d e f g h i j k", "1 2 3 4 5 6 7 8 9 x"] {
            assert_eq!(stat(bad), None, "{bad:?}");
        }
        let huge = format!("1 0 {0} {0} 1 0 {0} {0} 0 {0} 0", u64::MAX);
        assert_eq!(stat(&huge).map(|io| io.read_bytes), Some(u64::MAX), "never overflows");
    }
}
