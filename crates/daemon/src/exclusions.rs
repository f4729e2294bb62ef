//! What must not be connected by itself: the exclusion lists of nvme-cli 3, `exclusions.conf` and `exclusions.conf.d/*.conf`.
//!
//! An administrator says there which controllers belong to somebody else. A list holds for what is found, by a
//! configuration or a discovery log; what somebody asks for by name is connected all the same. While a list cannot be
//! read nobody knows what it excludes, so nothing is connected by itself.
//!
//! ```ini
//! [exclusions]
//! exclusion = transport=tcp;traddr=192.0.2.10;trsvcid=4420
//! exclusion = nqn=nqn.2014-08.org.example:retired
//! ```

use crate::fabrics::ini::{self, Line};
use interlock_api::{ConnectRequest, canonical_address, link_local, same_address};
use interlock_host::HostSettings;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Exclusion lists, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions {
    entries: Vec<Vec<(String, String)>>,
    /// Entries that exclude nothing, with their place and why.
    pub problems: Vec<String>,
}

/// A list is there and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}; nothing is connected automatically until this list can be read", file.display())]
pub struct Unreadable {
    /// The list, or the directory of lists.
    pub file: PathBuf,
    /// Why it cannot be read.
    #[source]
    pub error: io::Error,
}

const SECTION: &str = "exclusions";
const KEYS: [&str; 8] = ["transport", "traddr", "trsvcid", "nqn", "host-traddr", "host-iface", "hostnqn", "hostid"];
/// nvme-cli reads no larger file.
const LIST_MAX: u64 = 1 << 20;

impl Exclusions {
    /// All lists of a directory such as `/etc/nvme`. Files that are not there exclude nothing.
    ///
    /// # Errors
    /// A list is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Self, Unreadable> {
        let mut files = vec![dir.join("exclusions.conf")];
        files.extend(drop_ins(&dir.join("exclusions.conf.d")).map_err(|(file, error)| Unreadable { file, error })?);
        let mut all = Self::default();
        for file in files {
            match text(&file) {
                Ok(Some(text)) => all.add(&text, &file),
                Ok(None) => {}
                Err(error) => return Err(Unreadable { file, error }),
            }
        }
        Ok(all)
    }

    pub(crate) fn fuzz(text: &str, file: &Path) {
        let mut all = Self::default();
        all.add(text, file);
        assert!(all.entries.len() + all.problems.len() <= text.lines().count(), "a line says one thing");
    }

    fn add(&mut self, text: &str, file: &Path) {
        let mut section = None;
        for (number, line) in ini::lines(text) {
            let problem = match line {
                Line::Section(name) => {
                    section = Some(name);
                    // Other sections are reserved for later versions of the format: told, because a misspelt one
                    // disarms every entry below it.
                    (name != SECTION)
                        .then(|| format!("section `[{name}]` is not `[{SECTION}]`: its lines exclude nothing"))
                }
                Line::Pair(..) | Line::Junk(_) if section.is_some_and(|name| name != SECTION) => None,
                Line::Pair("exclusion", value) if section.is_some() => match entry(value) {
                    Ok(entry) => {
                        self.entries.push(entry);
                        None
                    }
                    Err(why) => Some(why),
                },
                Line::Pair(..) | Line::Junk(_) if section.is_none() => {
                    Some(format!("this stands before `[{SECTION}]`: it excludes nothing"))
                }
                Line::Pair(key, _) => Some(format!("`{key}` is not `exclusion`: it excludes nothing")),
                Line::Junk(text) => Some(format!("`{text}` is not `exclusion = key=value;...`: it excludes nothing")),
            };
            self.problems.extend(problem.map(|why| format!("{}, line {number}: {why}", file.display())));
        }
    }

    /// True if this must not be connected by itself.
    #[must_use]
    pub fn excludes(&self, request: &ConnectRequest, who: &HostSettings) -> bool {
        let traddr = canonical_address(&request.traddr);
        let on = link_local(&traddr);
        let matches = |(key, value): &(String, String)| match key.as_str() {
            "transport" => request.transport.eq_ignore_ascii_case(value),
            // Without an interface, a link-local address is meant on all of them.
            "traddr" => same_address(&request.traddr, value) || on.is_some_and(|(bare, _)| same_address(bare, value)),
            "trsvcid" => value.parse() == Ok(request.trsvcid),
            "nqn" => request.subnqn == *value,
            "host-traddr" => request.host_traddr.is_some_and(|ip| same_address(&ip.to_string(), value)),
            "host-iface" => {
                request.host_iface.as_ref() == Some(value) || on.is_some_and(|(_, scope)| scope == Some(value.as_str()))
            }
            "hostnqn" => who.hostnqn.as_str() == value,
            "hostid" => who.hostid.to_string().eq_ignore_ascii_case(value),
            _ => false,
        };
        self.entries.iter().any(|entry| entry.iter().all(matches))
    }
}

/// An entry constrains one or more fields; one that cannot be understood is an error and excludes nothing.
fn entry(value: &str) -> Result<Vec<(String, String)>, String> {
    let mut entry: Vec<(String, String)> = Vec::new();
    for pair in value.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("`{pair}` is not `key=value`: the entry excludes nothing"))?;
        let (key, value) = (key.trim(), value.trim());
        if !KEYS.contains(&key) {
            return Err(format!("key `{key}` is unknown: the entry excludes nothing; keys are {}", KEYS.join(", ")));
        }
        if value.is_empty() {
            return Err(format!("`{key}` has no value: the entry excludes nothing"));
        }
        if let Some(why) = matches_nothing(key, value) {
            return Err(format!("{key} = {value}: {why}: the entry excludes nothing"));
        }
        if entry.iter().any(|(known, _)| known == key) {
            return Err(format!("`{key}` stands there twice: the entry excludes nothing"));
        }
        entry.push((key.to_owned(), value.to_owned()));
    }
    if entry.is_empty() { Err("an entry without a field excludes nothing".into()) } else { Ok(entry) }
}

/// Why no connection can have this value. A list whose fields stand with commas or spaces between them is taken apart wrongly, and
/// what somebody wanted to be left alone would be connected.
fn matches_nothing(key: &str, value: &str) -> Option<&'static str> {
    if value.contains('=') || value.contains([',', ' ', '\t']) {
        return Some("fields are separated by `;`");
    }
    if value.contains(['"', '\'', '*', '?']) {
        return Some("values stand without quotes, and there are no patterns");
    }
    match key {
        "transport" if !["tcp", "rdma", "fc", "loop", "pcie"].contains(&value.to_ascii_lowercase().as_str()) => {
            Some("transports are tcp, rdma, fc and loop")
        }
        "trsvcid" if value.parse::<u16>().is_err() && !value.eq_ignore_ascii_case("none") => {
            Some("a TCP port is a number up to 65535")
        }
        "nqn" | "hostnqn" if !value.starts_with("nqn.") => Some("an NQN begins with `nqn.`"),
        "host-traddr"
            if value.starts_with(|c: char| c.is_ascii_digit()) && value.parse::<std::net::IpAddr>().is_err() =>
        {
            Some("it is not an address")
        }
        "hostid" if value.parse::<interlock_host::HostId>().is_err() => Some("a host identifier is a UUID"),
        _ => None,
    }
}

/// The text of a file, if there is such a file. What is not UTF-8, or too large to be a configuration, is an error.
pub(crate) fn text(file: &Path) -> io::Result<Option<String>> {
    match fs::metadata(file) {
        Ok(about) if about.len() > LIST_MAX => {
            return Err(io::Error::other(format!("it has {} bytes, and at most {LIST_MAX} are read", about.len())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let text = fs::read_to_string(file)?;
    if text.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it contains NUL bytes"));
    }
    Ok(Some(text))
}

/// The `.conf` files of a directory, in order; none if there is no such directory.
pub(crate) fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err((dir.to_owned(), error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(|error| (dir.to_owned(), error))?.path());
    }
    files.retain(|path| path.extension().is_some_and(|ext| ext == "conf"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_excludes_what_matches_all_of_it() {
        let mut lists = Exclusions::default();
        lists.add(
            "\u{feff}# a list\n[exclusions]\nexclusion = transport=tcp;traddr=192.0.2.1\n\
             exclusion = nqn=nqn.2014-08.org.example:a; trsvcid=4421\nexclusion=traddr=2001:db8::0:1\n",
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
        assert!(excluded("2001:DB8::1", 1, "z"), "the same address in other words");
        let mut links = Exclusions::default();
        links.add("[exclusions]\nexclusion = traddr=fe80::1\nexclusion = host-iface=eth1\n", Path::new("x"));
        for (traddr, want) in [("fe80::1%eth0", true), ("fe80::2%eth1", true), ("fe80::2%eth0", false)] {
            assert_eq!(links.excludes(&ConnectRequest::new(traddr, 4420, "nqn.x"), &who), want, "{traddr}");
        }
        assert_eq!(lists.problems, [""; 0]);
        // An entry that says nothing must not exclude everything.
        assert!(!Exclusions::default().excludes(&ConnectRequest::new("a", 1, "b"), &who));
    }

    #[test]
    fn what_excludes_nothing_is_named_with_its_line() {
        let mut lists = Exclusions::default();
        lists.add(
            "exclusion = traddr=192.0.2.1\n[exclusions]\nexclusion = traddr=\nexclusion = what=x\nexclusion = nonsense\n\
             exclusion =\nexclude = traddr=192.0.2.2\ntraddr=192.0.2.3\nexclusion = traddr=192.0.2.4;traddr=192.0.2.5\n\
             exclusion = subsysnqn=a\n[exclusion]\nexclusion = traddr=192.0.2.6\n",
            Path::new("x"),
        );
        let who = HostSettings::random().expect("random numbers");
        for last in 1..=6 {
            assert!(!lists.excludes(&ConnectRequest::new(format!("192.0.2.{last}"), 4420, "nqn.x"), &who), "{last}");
        }
        let begins: Vec<&str> = lists.problems.iter().map(|text| text.split(": ").next().unwrap_or_default()).collect();
        let lines = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11].map(|number| format!("x, line {number}"));
        assert_eq!(begins, lines, "{:?}", lists.problems);
        assert!(lists.problems[2].contains("key `what` is unknown"), "{:?}", lists.problems);
    }

    #[test]
    fn what_can_match_nothing_is_named_and_spellings_of_one_value_are_one() {
        let who = HostSettings::random().expect("random numbers");
        let of = |entry: &str| {
            let mut lists = Exclusions::default();
            lists.add(&format!("[exclusions]\nexclusion = {entry}\n"), Path::new("x"));
            let request = ConnectRequest::new("192.0.2.1", 4420, "nqn.2014-08.org.example:a");
            (lists.excludes(&request, &who), lists.problems.pop().unwrap_or_default())
        };
        for good in [
            "transport=TCP",
            "transport = tcp ; traddr = 192.0.2.1 ;",
            "trsvcid=04420",
            "traddr=192.0.2.1;trsvcid=4420;nqn=nqn.2014-08.org.example:a",
        ] {
            assert_eq!(of(good), (true, String::new()), "{good}");
        }
        for (wrong, word) in [
            ("transport=tcp,traddr=192.0.2.1", "separated by `;`"),
            ("transport=tcp traddr=192.0.2.1", "separated by `;`"),
            ("traddr=192.0.2.1,trsvcid=4420", "separated by `;`"),
            ("traddr=192.0.2.1 # ours", "separated by `;`"),
            ("traddr=\"192.0.2.1\"", "without quotes"),
            ("traddr=192.0.2.*", "no patterns"),
            ("transport=tpc", "transports are"),
            ("trsvcid=nvme", "a TCP port"),
            ("trsvcid=66000", "a TCP port"),
            ("nqn=example:a", "begins with `nqn.`"),
            ("hostid=7", "is a UUID"),
            ("host-traddr=192.0.2.300", "is not an address"),
        ] {
            let (excluded, problem) = of(wrong);
            assert!(!excluded && problem.contains(word) && problem.contains("excludes nothing"), "{wrong}: {problem}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error() {
        let dir = std::env::temp_dir().join(format!("interlock-exclusions-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        assert_eq!(Exclusions::read(&dir).expect("nothing is there"), Exclusions::default());
        fs::create_dir_all(dir.join("exclusions.conf.d")).expect("a directory");
        let list = dir.join("exclusions.conf.d/lab.conf");
        fs::write(&list, "[exclusions]\nexclusion = traddr=192.0.2.1\n").expect("a file");
        fs::write(dir.join("exclusions.conf.d/lab.conf~"), "\u{0}").expect("a file");
        let lists = Exclusions::read(&dir).expect("good");
        let who = HostSettings::random().expect("random numbers");
        assert!(lists.excludes(&ConnectRequest::new("192.0.2.1", 4420, "nqn.x"), &who), "also a drop-in");
        fs::write(&list, b"[exclusions]\n\xff\n").expect("a file");
        let error = Exclusions::read(&dir).expect_err("not text").to_string();
        assert!(error.contains("lab.conf: ") && error.contains("nothing is connected automatically"), "{error}");
        fs::remove_dir_all(&dir).expect("it is ours");
        fs::create_dir_all(dir.join("exclusions.conf")).expect("a directory");
        assert!(Exclusions::read(&dir).is_err(), "a directory is no list");
        fs::remove_dir_all(&dir).expect("it is ours");
    }
}
