//! The daemon: owns the host and its exports for as long as the machine runs, and does what the verbs ask.
//!
//! A disk must outlive the command that made it, and whoever asks for it must find it again under the same name. So
//! one process per host identity keeps the connections, remembers what was wanted in a file that survives a crash, and
//! listens on a Unix socket for HTTP and JSON. Nothing of the data plane is here: that is [`interlock_host`], on
//! reactors of its own. The control plane is one more foreign thread to it.
//!
//! - [`run`] is the whole program; [`Options`] is what its command line says.
//! - [`Places`] says where things lie, [`identity`] who this host is: also for verbs that need no daemon.
//! - [`Config`] is `interlock.toml`, [`fabrics`] what nvme-cli users have already.

mod budget;
mod config;
mod connect;
mod counting;
mod devd;
mod devices;
mod discovery;
mod events;
mod exclusions;
mod exports;
pub mod fabrics;
mod fuzz;
mod history;
mod hooks;
mod http;
pub mod identity;
mod kernel;
mod known;
mod limit;
mod memory;
pub mod metrics;
mod names;
mod naming;
mod numbers;
mod openapi;
mod places;
mod port;
mod record;
mod refusal;
mod restore;
mod run;
mod service;
mod shared;
mod socket;
mod tree;
mod view;
mod waiting;
mod watch;
mod watchdog;

pub use config::{Config, ConfigError, DaemonSection, ExportEntry, HookEntry, JournalSection};
pub use connect::check_request;
pub use discovery::{Discovered, discovered};
pub use exclusions::{Exclusions, Unreadable};
pub use fabrics::DiscoveryController;
#[doc(hidden)]
pub use fuzz::{fuzz_config, fuzz_record, fuzz_requests};
pub use kernel::{KernelController, KernelSubsystem, of_subsystem, same_identity};
pub use openapi::openapi;
pub use places::Places;
pub use run::{DaemonError, Options, run};
