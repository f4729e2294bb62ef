//! The file tree of this host: what it shows is the snapshot, and what is written are the verbs.

use crate::refusal::Refusal;
use crate::service::{Service, Which};
use interlock_api::{IoPolicy, ProblemKind, SetCounter, SetRequest};
use interlock_observe::Snapshot;
use interlock_observe::tree::{Operator, Order};
use std::io;
use std::sync::Arc;

/// The host behind the tree.
pub(crate) struct OfService(pub(crate) Arc<Service>);

impl Operator for OfService {
    fn snapshot(&self) -> Option<Snapshot> {
        self.0.snapshot(false).ok()
    }

    fn carry_out(&self, order: Order) -> io::Result<()> {
        let service = &self.0;
        let set = |device: String, request: SetRequest| service.set(&Which::Device(device), &request).map(drop);
        let done = match order {
            Order::Count(counter, value) => {
                let counted = Some(counter.name.attribute().to_owned());
                service.set_counter(&SetCounter { device: counter.device, counter: counted, value }).map(drop)
            }
            Order::ReconnectDelay(device, seconds) => {
                set(device, SetRequest { reconnect_delay_s: Some(seconds), ..SetRequest::default() })
            }
            Order::CtrlLossTmo(device, seconds) => {
                set(device, SetRequest { ctrl_loss_tmo_s: Some(seconds), ..SetRequest::default() })
            }
            Order::FastIoFailTmo(device, seconds) => {
                set(device, SetRequest { fast_io_fail_tmo_s: Some(seconds), ..SetRequest::default() })
            }
            Order::IoPolicy(device, policy) => {
                let iopolicy = match policy.as_str() {
                    "numa" => IoPolicy::Numa,
                    "round-robin" => IoPolicy::RoundRobin,
                    _ => IoPolicy::QueueDepth,
                };
                set(device, SetRequest { iopolicy: Some(iopolicy), ..SetRequest::default() })
            }
            Order::Rescan(device) => service.rescan(&Which::Device(device)).map(drop),
            Order::Reset(device) => service.reset(&Which::Device(device)).map(drop),
            // As `interlock disconnect`: the last way to something in use is refused.
            Order::Delete(device) => service.disconnect(&Which::Device(device), false).map(drop),
        };
        done.map_err(told)
    }
}

fn told(refusal: Refusal) -> io::Error {
    let kind = match refusal.0.kind {
        ProblemKind::NotFound => io::ErrorKind::NotFound,
        ProblemKind::BadRequest => io::ErrorKind::InvalidInput,
        ProblemKind::Already | ProblemKind::InUse => io::ErrorKind::ResourceBusy,
        ProblemKind::Target
        | ProblemKind::Timeout
        | ProblemKind::Internal
        | ProblemKind::NoDaemon
        | ProblemKind::Denied
        | ProblemKind::Failed => io::ErrorKind::Other,
    };
    tracing::warn!("file tree: {}", refusal.0.error);
    io::Error::from(kind)
}
