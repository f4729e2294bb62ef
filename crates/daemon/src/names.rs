//! Device names, as users know them: `nvme-subsys0`, `nvme0`, `nvme0n1`, `nvme0c1n1`.
//!
//! The number of a controller is its [`CtrlId`], which the record keeps; that of a subsystem is kept there too, and so is the
//! last number of a namespace ([`devices`](crate::devices)): it is the NSID, unless another disk has that name.

use crate::refusal::Refusal;
use interlock_api::{ConnectRequest, ProblemKind};
use interlock_host::{ControllerStatus, CtrlId, StateName};
use std::net::SocketAddr;

/// `nvme-subsys0`.
pub(crate) fn subsystem(number: u32) -> String {
    format!("nvme-subsys{number}")
}

/// `nvme0n1`, by the number of the subsystem.
pub(crate) fn head(subsystem: u32, number: u32) -> String {
    format!("nvme{subsystem}n{number}")
}

/// `nvme0c1n1`.
pub(crate) fn path(subsystem: u32, ctrl: CtrlId, number: u32) -> String {
    format!("nvme{subsystem}c{}n{number}", ctrl.0)
}

/// What a user calls a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// `nvme0`.
    Controller(CtrlId),
    /// `nvme-subsys0`.
    Subsystem(u32),
    /// `nvme0n1`.
    Head(u32, u32),
}

/// Reads a device name, with `/dev/` before it or without.
pub(crate) fn device(text: &str) -> Result<Device, Refusal> {
    let word = text.strip_prefix("/dev/").unwrap_or(text);
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let found = if let Some(rest) = word.strip_prefix("nvme-subsys") {
        number(rest).map(Device::Subsystem)
    } else if let Some(rest) = word.strip_prefix("nvme") {
        match rest.split_once('n') {
            Some((subsystem, nsid)) => number(subsystem).zip(number(nsid)).map(|(s, n)| Device::Head(s, n)),
            None => number(rest).map(|number| Device::Controller(CtrlId(number))),
        }
    } else {
        None
    };
    found.ok_or_else(|| {
        Refusal::new(ProblemKind::BadRequest, format!("`{text}` is not a valid device name"))
            .hint("names are `nvme0` (controller), `nvme-subsys0` (subsystem) and `nvme0n1` (namespace)")
    })
}

/// The controller that a request would double: a name and an address may be written differently and lead to the same port.
/// `ours` is what was looked up for the name of the request; what could not be looked up doubles nothing.
pub(crate) fn leads_to(
    request: &ConnectRequest,
    mut ours: Vec<SocketAddr>,
    controllers: &[ControllerStatus],
) -> Option<CtrlId> {
    let port = request.trsvcid;
    if ours.is_empty() {
        return None;
    }
    for one in controllers.iter().filter(|one| one.state != StateName::Dead && one.subnqn == request.subnqn) {
        let way = (one.spec.trsvcid, one.spec.host_traddr, &one.spec.host_iface);
        if way != (port, request.host_traddr, &request.host_iface) {
            continue;
        }
        let theirs = one.peer.or_else(|| Some(SocketAddr::new(one.spec.traddr.parse().ok()?, port)));
        ours.retain(|addr| Some(*addr) != theirs);
        if ours.is_empty() && theirs.is_some() {
            return Some(one.id);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_printed() {
        assert_eq!(device("nvme7").expect("one"), Device::Controller(CtrlId(7)));
        assert_eq!(device("/dev/nvme0").expect("one"), Device::Controller(CtrlId(0)));
        assert_eq!(device(&subsystem(3)).expect("one"), Device::Subsystem(3));
        assert_eq!(device(&head(0, 12)).expect("one"), Device::Head(0, 12));
        assert_eq!(path(0, CtrlId(1), 2), "nvme0c1n2");
        for wrong in ["", "nvme", "nvmex", "nvme+1", "sda", "nvme0c1n1", "nvme0n", "nvme-subsys", "nvme99999999999"] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
    }
}
