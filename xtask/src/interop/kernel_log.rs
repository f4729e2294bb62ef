//! What the kernel may complain of.
//!
//! A peer that works and complains has seen something wrong. Every line of warning or worse fails its case, unless
//! `docs/interop.md` says in its table why it must be there.

use super::root;
use anyhow::{Context, Result, ensure};

/// Priorities up to this one are complaints (syslog: 4 is warning).
const WARNING: u8 = 4;

/// The written list.
#[derive(Clone, Debug, Default)]
pub struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug)]
struct Exception {
    text: String,
    cases: Vec<String>,
}

impl Exceptions {
    /// Reads the table "Kernel log" of `docs/interop.md`.
    ///
    /// # Errors
    /// If there is no such table.
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string(root().join("docs/interop.md")).context("docs/interop.md cannot be read")?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let rows = text
            .lines()
            .skip_while(|line| !line.starts_with("| kernel log line |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let mut list = Vec::new();
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            ensure!(cells.len() == 3, "a row of the kernel log table has not three columns: {row}");
            let unquoted = |cell: &str| cell.trim().trim_matches('`').to_owned();
            list.push(Exception { text: unquoted(cells[0]), cases: cells[1].split(',').map(unquoted).collect() });
        }
        ensure!(!list.is_empty(), "docs/interop.md has no table of kernel log lines");
        Ok(Self(list))
    }

    /// The complaints in a kernel log (`dmesg -r`) that are on no list, without their times.
    #[must_use]
    pub fn complaints(&self, case: &str, log: &str) -> Vec<String> {
        let mut found = Vec::new();
        for line in log.lines() {
            let Some((priority, text)) = line.strip_prefix('<').and_then(|rest| rest.split_once('>')) else { continue };
            if priority.parse::<u8>().is_ok_and(|priority| priority & 7 > WARNING) {
                continue;
            }
            let text = text.split_once("] ").map_or(text, |(_, text)| text);
            let listed = |exception: &Exception| {
                let here = exception.cases.iter().any(|name| name == "all" || name == case);
                here && exception.text.split("...").all(|part| text.contains(part.trim()))
            };
            if !self.0.iter().any(listed) {
                found.push(text.to_owned());
            }
        }
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| kernel log line | cases | why |
|---|---|---|
| `nvme ... failed to connect` | `restart`, `port` | the port is away |
| `taint` | all | always |

| other | table | here |
";

    #[test]
    fn only_listed_complaints_are_forgiven() {
        let list = Exceptions::parse(TABLE).unwrap();
        let log = "\
<6>[    1.0] nvme nvme0: new ctrl
<3>[    2.0] nvme nvme0: failed to connect socket: -111
<4>[    3.0] something else: taint
<4>[    4.0] nvme nvme0: short data-in
not a line of the kernel
<12>[    5.0] a warning of a program";
        let others = ["nvme nvme0: short data-in", "a warning of a program"];
        assert_eq!(list.complaints("restart", log), others);
        let first = "nvme nvme0: failed to connect socket: -111";
        assert_eq!(list.complaints("discover", log), [first, others[0], others[1]]);
    }

    #[test]
    fn the_written_list_can_be_read() {
        Exceptions::read().unwrap();
        assert!(Exceptions::parse("no table").is_err());
    }
}
