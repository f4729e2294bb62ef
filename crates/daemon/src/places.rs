//! Where things lie: in the system's directories for root, in the user's own for anybody else.

use std::path::{Path, PathBuf};

/// Directories and files of one daemon. Every one can be given on the command line, so that tests touch nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What must survive: lives, wanted connections, names.
    pub state: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Host identity and configuration of other NVMe tools.
    pub nvme: PathBuf,
    /// Our own configuration.
    pub config: PathBuf,
}

impl Places {
    /// The usual ones.
    #[must_use]
    pub fn usual() -> Self {
        let root = rustix::process::geteuid().is_root();
        let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let home = dir("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let (state, run, etc) = if root {
            (PathBuf::from("/var/lib/interlock"), PathBuf::from("/run/interlock"), PathBuf::from("/etc/interlock"))
        } else {
            let state = dir("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state")).join("interlock");
            let run = dir("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |dir| dir.join("interlock"));
            (state, run, dir("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("interlock"))
        };
        Self {
            state,
            socket: run.join("control.sock"),
            nvme: PathBuf::from("/etc/nvme"),
            config: etc.join("interlock.toml"),
        }
    }

    /// The directory of the control socket, where sockets of exports lie too.
    #[must_use]
    pub fn run(&self) -> &Path {
        self.socket.parent().unwrap_or(Path::new("/"))
    }

    /// What belongs to one host identity.
    #[must_use]
    pub fn of_host(&self, hostid: interlock_host::HostId) -> PathBuf {
        self.state.join("hosts").join(hostid.to_string())
    }
}
