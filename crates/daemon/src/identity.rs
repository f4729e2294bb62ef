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
        let (nqn_file, id_file) = (dir.join("hostnqn"), dir.join("hostid"));
        let (nqn, id) = (line(&nqn_file)?, line(&id_file)?);
        if nqn.is_none() && id.is_none() {
            continue;
        }
        let nqn = nqn.map(|text| parse_nqn(&text, &nqn_file.display().to_string())).transpose()?;
        let id = id.map(|text| parse_id(&text, &id_file.display().to_string())).transpose()?;
        return match (nqn, id) {
            (Some(hostnqn), Some(hostid)) => Ok(HostSettings { hostnqn, hostid }),
            (None, Some(hostid)) => Ok(HostSettings { hostnqn: Nqn::of_host(hostid), hostid }),
            (Some(hostnqn), None) => {
                let hostid = match within(&hostnqn) {
                    Some(hostid) => hostid,
                    None => random()?.hostid,
                };
                // One of the two places must keep it: another one tomorrow would be another host.
                keep(&id_file, &hostid.to_string())
                    .or_else(|_| keep(&places.state.join("hostid"), &hostid.to_string()))
                    .map_err(|error| IdentityError::Io { what: "write", file: id_file, error })?;
                Ok(HostSettings { hostnqn, hostid })
            }
            (None, None) => continue,
        };
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
    Nqn::new(text).map_err(|why| IdentityError::Bad { from: from.into(), why: why.to_string() })
}

fn parse_id(text: &str, from: &str) -> Result<HostId, IdentityError> {
    text.parse().map_err(|why| IdentityError::Bad { from: from.into(), why: format!("{why}") })
}

/// The one line of a file, if there is such a file.
fn line(file: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IdentityError::Io { what: "read", file: file.to_owned(), error }),
    }
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
        let error = load(&places, Some("nqn.2014-08.org.example:h"), None).expect_err("half").to_string();
        assert!(error.contains("give --hostid as well"), "{error}");
    }
}
