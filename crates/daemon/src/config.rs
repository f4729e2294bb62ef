//! `interlock.toml`: what the daemon shall do from the start.
//!
//! ```toml
//! [daemon]
//! group = "disk"            # may use the control socket and the exports
//! reactors = 2
//!
//! [defaults]                # of every [[connect]] below; `interlock connect` has options
//! ctrl_loss_tmo_s = -1
//!
//! [[connect]]
//! traddr = "192.0.2.1"
//! subnqn = "nqn.2014-08.org.example:disk"
//!
//! [[discovery]]             # what it names is connected, now and whenever that changes
//! traddr = "192.0.2.9"
//!
//! [[export]]
//! subnqn = "nqn.2014-08.org.example:disk"
//! nsid = 1
//! name = "disk0"
//! ```

use crate::fabrics;
use crate::refusal::meant;
use interlock_api::{ConnectRequest, ExportKind, ExportOnLoss};
use interlock_observe::journal::Bounds;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All of it. Everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// About the process.
    pub daemon: DaemonSection,
    /// What is kept of what happened.
    pub journal: JournalSection,
    /// Settings that a connection has if it does not say otherwise; the keys of `[[connect]]` but for the address.
    pub defaults: toml::Table,
    /// What to run when something happens.
    #[serde(rename = "hook")]
    pub hooks: Vec<HookEntry>,
    /// What to stay connected to.
    #[serde(rename = "connect")]
    pub connections: Vec<toml::Table>,
    /// Discovery controllers to watch; what they name is connected. The keys of `[[connect]]`, but for `subnqn`.
    pub discovery: Vec<toml::Table>,
    /// What to export.
    #[serde(rename = "export")]
    pub exports: Vec<ExportEntry>,
}

/// About the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonSection {
    /// Group that may use the sockets, by name or number; default: only the owner may.
    pub group: Option<String>,
    /// Reactor threads, 1 to 64.
    pub reactors: u16,
    /// Controllers that may be wanted at once, 1 to 65536, over the control socket and because of discovery logs.
    pub max_controllers: u32,
    /// How long a reactor looks for news before it sleeps, in microseconds.
    pub spin_us: u32,
    /// An orderly end takes at most so long, in seconds; then what is left is left to the next process.
    pub stop_timeout_s: u16,
    /// Connect what nvme-cli users have in `/etc/nvme` as well: when the daemon starts, and at SIGHUP.
    pub nvme_cli_files: bool,
    /// Start although controllers of the kernel's driver use the identity of this host.
    pub share_identity_with_kernel: bool,
    /// Ask the discovery controllers of the configuration again after so many seconds; 0: never.
    pub discovery_interval_s: u32,
    /// Serve metrics here as well, `ADDRESS:PORT`; a port alone is on loopback. Default: on the control socket only.
    pub metrics: Option<String>,
    /// Mount the file tree here; default: nowhere.
    pub sysfs: Option<PathBuf>,
}

impl Default for DaemonSection {
    fn default() -> Self {
        Self {
            group: None,
            reactors: 1,
            max_controllers: crate::budget::CONTROLLERS,
            spin_us: 30,
            stop_timeout_s: 30,
            nvme_cli_files: false,
            share_identity_with_kernel: false,
            discovery_interval_s: 60,
            metrics: None,
            sysfs: None,
        }
    }
}

/// What is kept of what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSection {
    /// Keep a journal at all.
    pub enabled: bool,
    /// Events are removed after so many days, 1 to 3650.
    pub max_age_days: u32,
    /// The oldest are removed when it is larger, in MiB, 1 to 65536.
    pub max_size_mib: u32,
}

impl Default for JournalSection {
    fn default() -> Self {
        Self { enabled: true, max_age_days: 90, max_size_mib: 64 }
    }
}

impl JournalSection {
    /// As the journal takes it; `None`: no journal.
    #[must_use]
    pub fn bounds(self) -> Option<Bounds> {
        let age = Duration::from_secs(u64::from(self.max_age_days) * 24 * 3600);
        self.enabled.then(|| Bounds { age, bytes: u64::from(self.max_size_mib) << 20 })
    }
}

/// A program to run when something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookEntry {
    /// Its name, in events and the log.
    pub name: String,
    /// Fields of an event, as JSON names them, and the values that they must have; `*` ends a beginning.
    #[serde(rename = "match")]
    pub matches: BTreeMap<String, String>,
    /// The program, by its whole path, and its arguments; `$field` is replaced by that field of the event.
    pub run: Vec<String>,
    /// It is ended after so many seconds, 1 to 3600.
    #[serde(default = "hook_timeout")]
    pub timeout_s: u16,
    /// It runs so often in a minute at most, 1 to 600.
    #[serde(default = "hook_per_minute")]
    pub per_minute: u16,
}

const fn hook_timeout() -> u16 {
    30
}

const fn hook_per_minute() -> u16 {
    12
}

impl HookEntry {
    /// Why it cannot be.
    fn fault(&self) -> Option<&'static str> {
        let program = self.run.first().map_or("", String::as_str);
        if self.name.is_empty() {
            Some("it has no name")
        } else if self.matches.is_empty() {
            Some("`match` is empty: it would run for everything")
        } else if !Path::new(program).is_absolute() {
            Some("`run` must begin with the whole path of a program: there is no shell")
        } else if !(1..=3600).contains(&self.timeout_s) {
            Some("timeout_s must be 1 to 3600")
        } else if !(1..=600).contains(&self.per_minute) {
            Some("per_minute must be 1 to 600")
        } else {
            None
        }
    }
}

/// A namespace to export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportEntry {
    /// Subsystem NQN.
    pub subnqn: String,
    /// Namespace identifier.
    pub nsid: u32,
    /// How: `nbd` or `ublk`.
    #[serde(default)]
    pub kind: ExportKind,
    /// Its name for clients; default: its device name.
    #[serde(default)]
    pub name: Option<String>,
    /// `nbd`: the Unix socket; default: `nbd.sock` beside the control socket.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// `ublk`: N of `/dev/ublkbN`; default: the lowest that is free at first, and the same ever after.
    #[serde(default)]
    pub ublk_id: Option<u32>,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// What happens when no path is left.
    #[serde(default)]
    pub on_loss: ExportOnLoss,
}

impl ExportEntry {
    /// Why it cannot be.
    fn fault(&self) -> Option<String> {
        if let Err(why) = interlock_host::Nqn::new(self.subnqn.as_str()) {
            return Some(format!("subnqn: {why}"));
        }
        if self.nsid == 0 || self.nsid == u32::MAX {
            return Some(format!("nsid {}: a namespace has one of 1 to 4294967294", self.nsid));
        }
        if self.name.as_deref().is_some_and(str::is_empty) {
            return Some("its name is empty".into());
        }
        let (only, kind) = match self.kind {
            ExportKind::Nbd => (self.ublk_id.map(|_| "ublk_id"), "nbd"),
            ExportKind::Ublk => (self.socket.as_ref().map(|_| "socket"), "ublk"),
        };
        only.map(|key| format!("`{key}` is not for exports of kind `{kind}`"))
    }

    /// True if only one of the two can be.
    fn clashes(&self, other: &Self) -> bool {
        let same_name = self.kind == other.kind && self.name.is_some() && self.name == other.name;
        let nameless = self.kind == other.kind
            && self.name.is_none()
            && other.name.is_none()
            && (&self.subnqn, self.nsid) == (&other.subnqn, other.nsid);
        same_name || nameless || (self.ublk_id.is_some() && self.ublk_id == other.ublk_id)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// It says something that cannot be.
    #[error("{}{}: {why}", file.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Bad {
        /// The file.
        file: PathBuf,
        /// From 1, if it is known.
        line: Option<usize>,
        /// What.
        why: String,
        /// What was probably meant.
        hint: Option<String>,
    },
}

impl Config {
    /// Reads a file; one that is not there is empty if it need not be there.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(file: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => Ok(Self::default()),
            Err(error) => Err(ConfigError::Io { file: file.to_owned(), error }),
        }
    }

    /// Reads and checks text.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let bad = |line: Option<usize>, why: &str| ConfigError::Bad {
            file: file.to_owned(),
            line,
            why: why.lines().next().unwrap_or_default().to_owned(),
            hint: meant(why),
        };
        let config: Self = toml::from_str(text).map_err(|why| {
            let line = why.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            bad(line, why.message())
        })?;
        if !(1..=64).contains(&config.daemon.reactors) {
            return Err(bad(None, "[daemon] reactors must be 1 to 64"));
        }
        if !(1..=65_536).contains(&config.daemon.max_controllers) {
            return Err(bad(None, "[daemon] max_controllers must be 1 to 65536"));
        }
        if config.daemon.spin_us > 10_000 {
            return Err(bad(None, "[daemon] spin_us must be at most 10000: longer gains nothing"));
        }
        if !(1..=3650).contains(&config.journal.max_age_days) {
            return Err(bad(None, "[journal] max_age_days must be 1 to 3650"));
        }
        if !(1..=65_536).contains(&config.journal.max_size_mib) {
            return Err(bad(None, "[journal] max_size_mib must be 1 to 65536"));
        }
        for (place, hook) in config.hooks.iter().enumerate() {
            if let Some(why) = hook.fault() {
                return Err(bad(None, &format!("[[hook]] number {}: {why}", place + 1)));
            }
            if config.hooks[..place].iter().any(|other| other.name == hook.name) {
                return Err(bad(
                    None,
                    &format!("[[hook]] number {}: another one is called `{}`", place + 1, hook.name),
                ));
            }
        }
        config.check_entries().map_err(|why| bad(None, &why))?;
        Ok(config)
    }

    /// Connections, discovery controllers and exports: each must be one that the host would take.
    fn check_entries(&self) -> Result<(), String> {
        // The defaults alone must make sense too, or the mistake shows only when the first connection is added.
        let any: toml::Table = [("traddr", "192.0.2.1"), ("subnqn", crate::connect::ANY_NQN)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), toml::Value::from(value)))
            .collect();
        let defaults = self.request(&any).and_then(|request| crate::connect::check(&request));
        defaults.map_err(|why| format!("[defaults]: {why}"))?;
        let mut seen: Vec<ConnectRequest> = Vec::new();
        for (place, table) in (1..).zip(&self.connections) {
            let told = |why: String| format!("[[connect]] number {place}: {why}");
            let request = self.request(table).map_err(told)?;
            crate::connect::check(&request).map_err(told)?;
            if let Some(first) = seen.iter().position(|old| old.is_same_path(&request)) {
                return Err(told(format!("it is the same path as number {}", first + 1)));
            }
            seen.push(request);
        }
        let mut seen: Vec<ConnectRequest> = Vec::new();
        for (place, table) in (1..).zip(&self.discovery) {
            let told = |why: String| format!("[[discovery]] number {place}: {why}");
            let request = self.discovery_request(table).map_err(told)?;
            crate::connect::check_found(&request).map_err(told)?;
            if let Some(first) = seen.iter().position(|old| old.is_same_path(&request)) {
                return Err(told(format!("it is the same discovery controller as number {}", first + 1)));
            }
            seen.push(request);
        }
        for (place, export) in self.exports.iter().enumerate() {
            let told = |why: String| format!("[[export]] number {}: {why}", place + 1);
            if let Some(why) = export.fault() {
                return Err(told(why));
            }
            let earlier = &self.exports[..place];
            if let Some(first) = earlier.iter().position(|old| old.clashes(export)) {
                return Err(told(format!("it has the name or the number of number {}", first + 1)));
            }
        }
        Ok(())
    }

    /// What the daemon would refuse on this machine although the text is right.
    ///
    /// # Errors
    /// In one sentence.
    pub fn check_here(&self) -> Result<(), String> {
        if let Some(group) = &self.daemon.group {
            crate::socket::group(group).map_err(|error| format!("[daemon] group: {error}"))?;
        }
        if let Some(text) = &self.daemon.metrics {
            crate::metrics::listen_address(text).map_err(|why| format!("[daemon] metrics: {why}"))?;
        }
        Ok(())
    }

    /// The connections, with the defaults.
    #[must_use]
    pub fn requests(&self) -> Vec<ConnectRequest> {
        self.connections.iter().filter_map(|table| self.request(table).ok()).collect()
    }

    /// The discovery controllers, with the defaults for what they name.
    #[must_use]
    pub fn discovery(&self) -> Vec<ConnectRequest> {
        self.discovery.iter().filter_map(|table| self.discovery_request(table).ok()).collect()
    }

    fn discovery_request(&self, table: &toml::Table) -> Result<ConnectRequest, String> {
        let mut table = table.clone();
        table.entry("subnqn").or_insert(fabrics::DISCOVERY_NQN.into());
        table.entry("trsvcid").or_insert(i64::from(fabrics::DISCOVERY_PORT).into());
        self.request(&table)
    }

    fn request(&self, table: &toml::Table) -> Result<ConnectRequest, String> {
        let mut whole = self.defaults.clone();
        whole.extend(table.clone());
        if let Some(key) = whole.keys().find(|key| fabrics::asks_for_security(key)) {
            return Err(format!("`{key}`: {}", fabrics::NOT_BUILT));
        }
        if whole.contains_key("found") {
            return Err("unknown field `found`".into());
        }
        whole.insert("found".into(), true.into());
        // What a file wants is wanted until somebody takes it out.
        whole.entry("first_attempt_decides").or_insert(false.into());
        ConnectRequest::deserialize(toml::Value::Table(whole)).map_err(|why| why.message().to_owned())
    }

    /// As text that says the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration is tables of values")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("interlock.toml"))
    }

    #[test]
    fn a_file_says_what_its_defaults_do_not() {
        let config = parse(
            r#"
            [daemon]
            group = "disk"
            reactors = 2
            [defaults]
            ctrl_loss_tmo_s = -1
            keep_alive_tmo_s = 10
            [[connect]]
            traddr = "192.0.2.1"
            subnqn = "nqn.2014-08.org.example:disk"
            keep_alive_tmo_s = 1
            [[discovery]]
            traddr = "192.0.2.9"
            [[export]]
            subnqn = "nqn.2014-08.org.example:disk"
            nsid = 1
            "#,
        )
        .expect("good");
        let discovery = &config.discovery()[0];
        assert_eq!((discovery.traddr.as_str(), discovery.trsvcid), ("192.0.2.9", 8009));
        assert_eq!((discovery.ctrl_loss_tmo_s, discovery.keep_alive_tmo_s), (-1, 10), "for what it names");
        let mut want = ConnectRequest::new("192.0.2.1", 4420, "nqn.2014-08.org.example:disk");
        want.ctrl_loss_tmo_s = -1;
        want.keep_alive_tmo_s = 1;
        want.first_attempt_decides = false;
        want.found = true;
        assert_eq!(config.requests(), [want]);
        assert_eq!(config.exports[0].on_loss, ExportOnLoss::Hold);
        assert_eq!(parse(&config.to_toml()).expect("good"), config, "and it says the same again");
        assert_eq!(parse("").expect("good"), Config::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_was_meant() {
        let told = |text: &str| match parse(text).expect_err(text) {
            ConfigError::Bad { line, why, hint, .. } => (line, why, hint.unwrap_or_default()),
            other => panic!("{other}"),
        };
        let (line, why, hint) = told("[daemon]\nreactors = 1\nsocet = 1\n");
        assert!(line == Some(3) && why.contains("unknown field `socet`"), "{line:?} {why}");
        assert_eq!(hint, "");
        let (_, why, hint) = told("[[connect]]\ntraddr = \"a\"\nsubnqn = \"nqn.2014-08.org.example:d\"\ntrsvcd = 1\n");
        assert!(why.starts_with("[[connect]] number 1: unknown field `trsvcd`"), "{why}");
        assert_eq!(hint, "did you mean `trsvcid`?");
        for (text, want) in [
            ("[daemon]\nreactors = 0\n", "[daemon] reactors must be 1 to 64"),
            (
                "[[hook]]\nname = \"r\"\nmatch = { event = \"lost\" }\nrun = [\"interlock\", \"reconnect\"]\n",
                "[[hook]] number 1: `run` must begin with the whole path",
            ),
            ("[[hook]]\nname = \"r\"\nmatch = {}\nrun = [\"/bin/true\"]\n", "[[hook]] number 1: `match` is empty"),
            ("[journal]\nmax_age_days = 0\n", "[journal] max_age_days must be 1 to 3650"),
            ("[journal]\nmax_size_mib = 65537\n", "[journal] max_size_mib must be 1 to 65536"),
            ("[[connect]]\ntraddr = \"a\"\n", "[[connect]] number 1: missing field `subnqn`"),
            (
                "[[connect]]
traddr = \"a\"
subnqn = \"nqn.2014-08.org.nvmexpress.discovery\"
",
                "[[connect]] number 1: this is the discovery NQN",
            ),
            (
                "[[connect]]\ntraddr = \"a\"\nsubnqn = \"nqn.2014-08.org.example:d\"\nkeep_alive_tmo_s = 0\n",
                "[[connect]] number 1: keep_alive_tmo 0",
            ),
            ("[[discovery]]\ntrsvcid = 1\n", "[[discovery]] number 1: missing field `traddr`"),
            ("[[discovery]]\ntraddr = \"a\"\nkeep_alive_tmo_s = 0\n", "[[discovery]] number 1: keep_alive_tmo 0"),
            (
                "[[discovery]]\ntraddr = \"a\"\n[[discovery]]\ntraddr = \"A.\"\n",
                "[[discovery]] number 2: it is the same",
            ),
            (
                "[[connect]]\ntraddr=\"::1\"\nsubnqn=\"nqn.x\"\n[[connect]]\ntraddr=\"0::1\"\nsubnqn=\"nqn.x\"\n",
                "[[connect]] number 2: it is the same path as number 1",
            ),
            (
                "[[connect]]\ntraddr = \"a\"\nsubnqn = \"nqn.x\"\ntls = true\n",
                "[[connect]] number 1: `tls`: TLS and in-band",
            ),
            ("[defaults]\nDHCHAP_secret = \"x\"\n", "[defaults]: `DHCHAP_secret`: TLS and in-band"),
            ("[defaults]\nkeep_alive_tmo_s = 0\n", "[defaults]: keep_alive_tmo 0"),
            ("[[export]]\nsubnqn = \"nqn.x\"\nnsid = 0\n", "[[export]] number 1: nsid 0"),
            ("[[export]]\nsubnqn = \"\"\nnsid = 1\n", "[[export]] number 1: subnqn: "),
            ("[[export]]\nsubnqn = \"nqn.x\"\nnsid = 1\nublk_id = 1\n", "[[export]] number 1: `ublk_id` is not for"),
            (
                "[[export]]\nsubnqn = \"nqn.x\"\nnsid = 1\nname = \"d\"\n[[export]]\nsubnqn = \"nqn.x\"\nnsid = 2\nname = \"d\"\n",
                "[[export]] number 2: it has the name",
            ),
            ("[defaults]\nfence = \"none\"\n", "[defaults]: unknown variant `none`"),
        ] {
            let (_, why, _) = told(text);
            assert!(why.starts_with(want), "{text}: {why}");
        }
    }
}
