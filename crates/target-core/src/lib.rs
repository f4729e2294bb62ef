//! The brain of the target: subsystems, ports, controllers, namespaces, CCR and CQT.
//!
//! Fencing can only be shown against a peer that supports it, and tested against one that can be told to fail. This is
//! that peer, without sockets, files or clock: [`Control`] decides, one [`Lane`] per reactor owns the queue pairs and the
//! gate in front of the media, and the messages between them are types, so that a driver and a simulator carry the same.
//!
//! The one rule that everything here serves: *a life is reported as reset only when every lane has answered and every
//! media operation of that life has completed.*
#![no_std]

extern crate alloc;

pub mod config;
mod control;
mod event;
mod fault;
pub mod flush;
mod health;
mod ids;
mod lane;
mod life;
mod message;
mod namespace;
mod quota;
pub mod status;
mod watch;
mod work;

pub use config::{Config, ConfigError, NamespaceError};
pub use control::{Control, ControlOutput, ControllerKey, Why as ControlWhy};
pub use event::{By, Change, Event, Ghost, Loss};
pub use fault::Fault;
pub use health::{Counters, Failure, Report};
pub use ids::{ConnId, LaneId, Life, LifeId, MediaId, NamespaceKey, PortId, SubsystemId};
pub use lane::{Lane, LaneOutput, MediaOp, Why as LaneWhy};
pub use life::LifeState;
pub use message::{Role, ToControl, ToLane};
pub use namespace::{NSID_MAX, Namespace, Namespaces};
pub use quota::{Payer, SHARE};
pub use work::{BlockRange, MediaKind, MediaResult, RANGES_MAX, Work};
