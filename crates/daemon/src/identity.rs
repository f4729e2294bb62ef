//! Who this host is.
//!
//! Targets know a host by its NQN and its Host Identifier, and give it disks by them; so both are made once and kept.
//! Where other NVMe tools keep them is where everybody looks: `/etc/nvme/hostnqn` and `/etc/nvme/hostid`. Whoever may
//! not write there keeps its own beside its state.

use crate::Places;
use interlock_host::{HostId, HostSettings, Nqn};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// What is given is none.
    #[error("{from}: {why}")]
    Bad {
        /// The file or the option.
        from: String,
        /// Why.
        why: String,
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

/// The identity of this host. What the options say counts first, then the files of other NVMe tools, then our own; what
/// is nowhere is made, and kept where it can be.
///
/// # Errors
/// If what is there is no identity, or nothing can be kept.
pub fn load(places: &Places, hostnqn: Option<&str>, hostid: Option<&str>) -> Result<HostSettings, IdentityError> {
    if hostnqn.is_some() || hostid.is_some() {
        return given(hostnqn, hostid);
    }
    for dir in [&places.nvme, &places.state] {
        let (hostnqn, hostid) = match files(dir)? {
            (None, None) => continue,
            (Some(hostnqn), Some(hostid)) => return Ok(HostSettings { hostnqn, hostid }),
            (None, Some(hostid)) => return Ok(HostSettings { hostnqn: Nqn::of_host(hostid), hostid }),
            (Some(hostnqn), None) => {
                let hostid = match within(&hostnqn) {
                    Some(hostid) => hostid,
                    None => random()?.hostid,
                };
                (hostnqn, hostid)
            }
        };
        // One of the two places must keep it: another one tomorrow would be another host.
        let file = dir.join("hostid");
        keep(&file, &hostid.to_string())
            .or_else(|_| keep(&places.state.join("hostid"), &hostid.to_string()))
            .map_err(|error| IdentityError::Io { what: "write", file, error })?;
        return Ok(HostSettings { hostnqn, hostid });
    }
    let made = random()?;
    let mut failed = None;
    for dir in [&places.nvme, &places.state] {
        let kept = keep(&dir.join("hostid"), &made.hostid.to_string())
            .and_then(|()| keep(&dir.join("hostnqn"), made.hostnqn.as_str()));
        match kept {
            Ok(()) => return Ok(made),
            Err(error) => {
                failed = Some(IdentityError::Io { what: "write the host identity into", file: dir.clone(), error })
            }
        }
    }
    failed.map_or(Ok(made), Err)
}

/// The identity that a directory says, for a look: nothing is written. `None` if it says none. A Host Identifier that is
/// neither there nor within the Host NQN is a random one.
///
/// # Errors
/// If what is there is no identity.
pub fn look(dir: &Path) -> Result<Option<HostSettings>, IdentityError> {
    Ok(match files(dir)? {
        (Some(hostnqn), Some(hostid)) => Some(HostSettings { hostnqn, hostid }),
        (None, Some(hostid)) => Some(HostSettings { hostnqn: Nqn::of_host(hostid), hostid }),
        (Some(hostnqn), None) => {
            let hostid = within(&hostnqn).map_or_else(|| random().map(|made| made.hostid), Ok)?;
            Some(HostSettings { hostnqn, hostid })
        }
        (None, None) => None,
    })
}

/// What looks strange about an identity and is used all the same: two names of one host that say different things.
#[must_use]
pub fn doubt(who: &HostSettings) -> Option<String> {
    let named = within(&who.hostnqn).filter(|named| *named != who.hostid)?;
    Some(format!("hostnqn names the UUID {named} and hostid is {}: targets may take these for two hosts", who.hostid))
}

fn files(dir: &Path) -> Result<(Option<Nqn>, Option<HostId>), IdentityError> {
    let (nqn_file, id_file) = (dir.join("hostnqn"), dir.join("hostid"));
    let (nqn, id) = (line(&nqn_file)?, line(&id_file)?);
    let nqn = nqn.map(|text| parse_nqn(&text, &nqn_file.display().to_string())).transpose()?;
    let id = id.map(|text| parse_id(&text, &id_file.display().to_string())).transpose()?;
    Ok((nqn, id))
}

fn given(hostnqn: Option<&str>, hostid: Option<&str>) -> Result<HostSettings, IdentityError> {
    let nqn = hostnqn.map(|text| parse_nqn(text, "--hostnqn")).transpose()?;
    let id = hostid.map(|text| parse_id(text, "--hostid")).transpose()?;
    match (nqn, id) {
        (Some(hostnqn), Some(hostid)) => Ok(HostSettings { hostnqn, hostid }),
        (None, Some(hostid)) => Ok(HostSettings { hostnqn: Nqn::of_host(hostid), hostid }),
        (Some(hostnqn), None) => {
            let why = "it holds no UUID that could serve as Host Identifier: give --hostid as well";
            let hostid = within(&hostnqn).ok_or(IdentityError::Bad { from: "--hostnqn".into(), why: why.into() })?;
            Ok(HostSettings { hostnqn, hostid })
        }
        (None, None) => random(),
    }
}

/// The UUID in a host NQN of the form `nqn.2014-08.org.nvmexpress:uuid:...`.
fn within(hostnqn: &Nqn) -> Option<HostId> {
    hostnqn.as_str().rsplit_once(":uuid:").and_then(|(_, uuid)| uuid.parse().ok())
}

fn random() -> Result<HostSettings, IdentityError> {
    HostSettings::random().map_err(|error| IdentityError::Io {
        what: "read random numbers from",
        file: "the system".into(),
        error,
    })
}

fn parse_nqn(text: &str, from: &str) -> Result<Nqn, IdentityError> {
    let bad = |why: String| IdentityError::Bad { from: from.into(), why };
    if !text.starts_with("nqn.") {
        return Err(bad(format!("`{}` is not a valid host NQN: it must begin with `nqn.`", short(text))));
    }
    if text.contains(char::is_whitespace) {
        return Err(bad(format!("`{}` is not a valid host NQN: it contains a space", short(text))));
    }
    let nqn = Nqn::new(text).map_err(|why| bad(why.to_string()))?;
    if let Some(uuid) = text.strip_prefix(UUID_FORM) {
        uuid.parse::<HostId>().map_err(|why| bad(format!("`{}` after `{UUID_FORM}`: {why}", short(uuid))))?;
    }
    Ok(nqn)
}

/// The form whose rest must be a UUID (NVM Express Base, "NVMe Qualified Names").
const UUID_FORM: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// Enough of a text to know it again.
fn short(text: &str) -> String {
    let begin: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().count() > 40 { format!("{begin}...") } else { begin }
}

fn parse_id(text: &str, from: &str) -> Result<HostId, IdentityError> {
    text.parse().map_err(|why| IdentityError::Bad { from: from.into(), why: format!("{why}") })
}

/// The one line of a file, if there is such a file. A file that is there and says nothing, or more than one line, is
/// wrong: guessing would make this another host than the one that targets know.
fn line(file: &Path) -> Result<Option<String>, IdentityError> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IdentityError::Io { what: "read", file: file.to_owned(), error }),
    };
    let bad = |why: &str| IdentityError::Bad { from: file.display().to_string(), why: why.into() };
    let text = String::from_utf8(bytes).map_err(|_| bad("it is not text in UTF-8"))?;
    if text.starts_with('\u{feff}') {
        return Err(bad("it begins with a byte order mark; other NVMe tools would take it for a part of the name"));
    }
    let text = text.trim();
    if text.is_empty() {
        return Err(bad("it is empty; write the identity into it, or remove the file so that one is made"));
    }
    if text.contains(['\n', '\r']) {
        return Err(bad("it has more than one line; an identity is one line without comments"));
    }
    Ok(Some(text.to_owned()))
}

fn keep(file: &Path, text: &str) -> io::Result<()> {
    crate::record::write_whole(file, format!("{text}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(name: &str) -> Places {
        let dir = std::env::temp_dir().join(format!("interlock-identity-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory");
        Places { state: dir.join("state"), socket: dir.join("s"), nvme: dir.join("nvme"), config: dir.join("c") }
    }

    fn places_with(files: &[(&str, &[u8])]) -> Places {
        let places = places("file");
        fs::create_dir_all(&places.nvme).expect("a directory");
        for (name, text) in files {
            fs::write(places.nvme.join(name), text).expect("a file");
        }
        places
    }

    #[test]
    fn what_is_there_is_looked_at_and_nothing_is_made() {
        let places = places_with(&[]);
        assert!(look(&places.nvme).expect("nothing").is_none());
        assert!(fs::read_dir(&places.nvme).expect("a directory").next().is_none());
        let (one, other) = (HostSettings::random().expect("random"), HostSettings::random().expect("random"));
        let (nqn, id) = (one.hostnqn.to_string(), other.hostid.to_string().to_uppercase() + "\r\n");
        let places = places_with(&[("hostnqn", nqn.as_bytes()), ("hostid", id.as_bytes())]);
        let both = look(&places.nvme).expect("good").expect("both are there");
        assert_eq!((&both.hostnqn, both.hostid), (&one.hostnqn, other.hostid));
        assert!(doubt(&both).expect("two hosts").contains("two hosts"));
        assert_eq!(doubt(&one), None);
    }

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let places = places("made");
        let first = load(&places, None, None).expect("made");
        assert_eq!(line(&places.nvme.join("hostnqn")).expect("kept").as_deref(), Some(first.hostnqn.as_str()));
        let again = load(&places, None, None).expect("read");
        assert_eq!((again.hostnqn, again.hostid), (first.hostnqn, first.hostid));
    }

    #[test]
    fn a_name_without_an_identifier_gets_the_one_it_contains() {
        let places = places("half");
        let whole = HostSettings::random().expect("random numbers");
        keep(&places.nvme.join("hostnqn"), whole.hostnqn.as_str()).expect("a file");
        assert_eq!(load(&places, None, None).expect("read").hostid, whole.hostid);
        assert_eq!(line(&places.nvme.join("hostid")).expect("kept"), Some(whole.hostid.to_string()));
    }

    #[test]
    fn what_is_no_identity_is_told_with_its_place() {
        let places = places("bad");
        keep(&places.nvme.join("hostid"), "nonsense").expect("a file");
        let error = load(&places, None, None).expect_err("no identifier").to_string();
        assert!(error.contains("nvme/hostid: "), "{error}");
        let places = places_with(&[("hostnqn", b"")]);
        let error = load(&places, None, None).expect_err("empty").to_string();
        assert!(error.contains("nvme/hostnqn: it is empty"), "{error}");
        let nqn = "nqn.2014-08.org.nvmexpress:uuid:5a0f3c9e-3b5d-4c7e-9d55-0123456789ab";
        let two = format!("{nqn}\n{nqn}\n");
        let comment = format!("# mine\n{nqn}\n");
        let long = format!("nqn.2014-08.org.example:{}", "a".repeat(300));
        let mark = format!("\u{feff}{nqn}");
        for (file, text, want) in [
            ("hostnqn", b"  \n".as_slice(), "is empty"),
            ("hostid", b"", "is empty"),
            ("hostnqn", b"host7", "must begin with `nqn.`"),
            ("hostnqn", &nqn.as_bytes()[..nqn.len() - 5], "a host identifier is a UUID"),
            ("hostnqn", two.as_bytes(), "more than one line"),
            ("hostnqn", comment.as_bytes(), "more than one line"),
            ("hostnqn", long.as_bytes(), "hostnqn: "),
            ("hostnqn", b"nqn.2014-08.org.example:\xff", "not text"),
            ("hostnqn", mark.as_bytes(), "byte order mark"),
            ("hostid", b"00000000-0000-0000-0000-000000000000", "all zeros"),
        ] {
            let places = places_with(&[(file, text)]);
            let error = load(&places, None, None).expect_err(want).to_string();
            assert!(error.contains(want), "{file}: {error}");
            assert_eq!(fs::read(places.nvme.join(file)).expect("it is there"), text, "and it is left as it is");
        }
        let error = load(&places, Some("nqn.2014-08.org.example:h"), None).expect_err("half").to_string();
        assert!(error.contains("give --hostid as well"), "{error}");
    }
}
