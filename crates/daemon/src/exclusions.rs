//! What must not be connected by itself: the exclusion lists of nvme-cli 3, `exclusions.conf` and `exclusions.conf.d/*.conf`.
//!
//! An administrator says there which controllers belong to somebody else. It holds for what is found, by a configuration or
//! a discovery log; what somebody asks for by name is connected all the same. A line is an entry, `key=value` pairs with
//! semicolons between them; it excludes what matches all of them.

use interlock_api::ConnectRequest;
use interlock_host::HostSettings;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Exclusion lists, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions {
    entries: Vec<Vec<(String, String)>>,
    /// Entries that can never match, with their place and why.
    pub problems: Vec<String>,
}

const KEYS: [&str; 8] = ["transport", "traddr", "trsvcid", "nqn", "host-traddr", "host-iface", "hostnqn", "hostid"];

impl Exclusions {
    /// All lists of a directory such as `/etc/nvme`. Files that are not there exclude nothing.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let mut files = vec![dir.join("exclusions.conf")];
        files.extend(drop_ins(&dir.join("exclusions.conf.d")));
        let mut all = Self::default();
        for file in files {
            match fs::read_to_string(&file) {
                Ok(text) => all.add(&text, &file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => all.problems.push(format!("{}: {error}", file.display())),
            }
        }
        all
    }

    fn add(&mut self, text: &str, file: &Path) {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            match entry(line) {
                Ok(entry) => self.entries.push(entry),
                Err(why) => self.problems.push(format!("{}, line {number}: {why}", file.display())),
            }
        }
    }

    /// True if this must not be connected by itself.
    #[must_use]
    pub fn excludes(&self, request: &ConnectRequest, who: &HostSettings) -> bool {
        let matches = |(key, value): &(String, String)| match key.as_str() {
            "transport" => request.transport == *value,
            "traddr" => same_address(&request.traddr, value),
            "trsvcid" => request.trsvcid.to_string() == *value,
            "nqn" => request.subnqn == *value,
            "host-traddr" => request.host_traddr.is_some_and(|ip| same_address(&ip.to_string(), value)),
            "host-iface" => request.host_iface.as_ref() == Some(value),
            "hostnqn" => who.hostnqn.as_str() == value,
            "hostid" => who.hostid.to_string().eq_ignore_ascii_case(value),
            _ => false,
        };
        self.entries.iter().any(|entry| entry.iter().all(matches))
    }
}

fn same_address(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn entry(line: &str) -> Result<Vec<(String, String)>, String> {
    let mut entry = Vec::new();
    for pair in line.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("`{pair}` is no `key=value`: it excludes nothing"))?;
        let (key, value) = (key.trim(), value.trim());
        if !KEYS.contains(&key) {
            return Err(format!("`{key}` is not known: the entry excludes nothing; keys are {}", KEYS.join(", ")));
        }
        if value.is_empty() {
            return Err(format!("`{key}` has no value: the entry excludes nothing"));
        }
        entry.push((key.to_owned(), value.to_owned()));
    }
    if entry.is_empty() { Err("an entry without a field excludes nothing".into()) } else { Ok(entry) }
}

/// The `.conf` files of a directory, in order.
pub(crate) fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "conf"));
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_excludes_what_matches_all_of_it() {
        let mut lists = Exclusions::default();
        lists.add(
            "# a list\ntransport=tcp;traddr=192.0.2.1\nnqn=nqn.2014-08.org.example:a; trsvcid=4421\ntraddr=2001:db8::0:1\n\
             traddr=\nwhat=x\nnonsense\n;\n",
            Path::new("x"),
        );
        let who = HostSettings::random().expect("random numbers");
        let excluded = |traddr: &str, port, nqn: &str| {
            lists.excludes(&ConnectRequest::new(traddr, port, format!("nqn.2014-08.org.example:{nqn}")), &who)
        };
        assert!(excluded("192.0.2.1", 1, "z"));
        assert!(!excluded("192.0.2.11", 1, "z"));
        assert!(
            excluded("192.0.2.2", 4421, "a") && !excluded("192.0.2.2", 4420, "a") && !excluded("192.0.2.2", 4421, "b")
        );
        assert!(excluded("2001:db8::1", 1, "z"), "the same address in other words");
        assert_eq!(lists.problems.len(), 3, "{:?}", lists.problems);
        assert!(lists.problems[1].starts_with("x, line 6: `what` is not known"), "{:?}", lists.problems);
        // An entry that says nothing must not exclude everything.
        assert!(!Exclusions::default().excludes(&ConnectRequest::new("a", 1, "b"), &who));
    }
}
