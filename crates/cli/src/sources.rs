//! Everything that is configured: what is to be connected, and who is to be asked.

use crate::failure::Failure;
use crate::output::say;
use interlock_api::ConnectRequest;
use interlock_daemon::{Config, ConfigError, DiscoveryController, Places, fabrics};
use interlock_host::HostSettings;
use std::path::{Path, PathBuf};

/// What the configuration and the files of nvme-cli say.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) wanted: Vec<ConnectRequest>,
    pub(crate) ask: Vec<DiscoveryController>,
    /// What is wrong there; the rest is good.
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Sources {
    /// Reads all files: `config` must be there if it is named.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub(crate) fn read(config: Option<&PathBuf>, nvme_dir: &Path, who: &HostSettings) -> Result<Self, Failure> {
        let config = configuration(config)?;
        let files = fabrics::Wanted::read(nvme_dir, Some(who));
        let mut wanted = config.requests();
        wanted.extend(files.connections);
        let mut ask: Vec<DiscoveryController> = config.discovery().into_iter().map(DiscoveryController::of).collect();
        ask.extend(files.discovery);
        Ok(Self { wanted, ask, problems: files.problems, notes: files.notes })
    }

    /// True if nothing is there, right or wrong.
    pub(crate) const fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.ask.is_empty() && self.problems.is_empty() && self.notes.is_empty()
    }

    /// Says what is left out.
    pub(crate) fn say_notes(&self) -> anyhow::Result<()> {
        for note in &self.notes {
            say(&format!("note: {note}"))?;
        }
        Ok(())
    }
}

/// The configuration: the file that is named, or the usual one if it is there.
pub(crate) fn configuration(named: Option<&PathBuf>) -> Result<Config, Failure> {
    let usual = Places::usual().config;
    Config::read(named.unwrap_or(&usual), named.is_some()).map_err(|error| {
        let hint = if let ConfigError::Bad { hint, .. } = &error { hint.clone() } else { None };
        let failure = Failure::caused(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}
