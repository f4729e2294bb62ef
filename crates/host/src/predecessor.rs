//! Looks until the sockets of an earlier process are gone.
//!
//! That the process is dead is known by the lock on its directory; but the kernel goes on delivering what a dead
//! process had queued, unless it reset its connections, and it may be late with that. The clock of a fence by time
//! starts when none of them exists any more. A fence by CCR does not wait for this.

use crate::control::ControlMail;
use crate::store::{OldSockets, Predecessor, still_open};
use interlock_carry::Mailbox;
use interlock_host_core::{LifeId, MAX_KATO};
use interlock_ring::{now, raw_now};
use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Between two looks: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Watches in a thread of its own, until all are gone or the host is (then the sender of `host_ended` is dropped). Control has a deadline for it, and tells when it
/// takes long.
pub(crate) fn watch(
    old: Vec<Predecessor>,
    control: Mailbox<ControlMail>,
    host_ended: Receiver<Infallible>,
) -> io::Result<()> {
    if old.is_empty() {
        return Ok(());
    }
    let (began, raw_began) = (now(), raw_now());
    std::thread::Builder::new().name("interlock-predecessors".into()).spawn(move || {
        let mut left = old;
        let mut pause = LOOK.0;
        loop {
            left.retain(|old| {
                // By the slower of both clocks.
                let gone = is_gone(old, (now() - began).min(raw_now() - raw_began));
                if gone {
                    tell(&control, old.record.life);
                }
                !gone
            });
            if left.is_empty() {
                return;
            }
            // The kernel tells nobody of sockets that are not his; only the end of the host is an event.
            if host_ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            pause = (pause * 2).min(LOOK.1);
        }
    })?;
    Ok(())
}

/// `since`: how long its process is known to be dead.
fn is_gone(old: &Predecessor, since: Duration) -> bool {
    match &old.sockets {
        OldSockets::Gone => true,
        // What cannot be looked at is not known to be gone.
        OldSockets::Look(pairs) if !pairs.is_empty() => still_open(pairs).is_ok_and(|open| open.is_empty()),
        // A life is recorded when it has connections: one without any has them where nobody knows.
        OldSockets::Look(_) | OldSockets::Unseen => {
            let kato = old.record.hold.kato;
            since > if kato.is_zero() { MAX_KATO } else { kato }
        }
    }
}

fn tell(control: &Mailbox<ControlMail>, life: LifeId) {
    let at = now();
    control.send(ControlMail::Ask(Box::new(move |control, now| control.predecessor_gone(now, life, at))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_host_core::stall::HoldTerms;
    use interlock_host_core::{CtrlId, Identity, LifeRecord};
    use interlock_wire::nqn::{HostId, Nqn};
    use std::net::{TcpListener, TcpStream};

    fn old(sockets: OldSockets, kato: Duration) -> Predecessor {
        let hostid = HostId([1; 16]);
        let zero = Duration::ZERO;
        let record = LifeRecord {
            life: LifeId(1),
            ctrl: CtrlId(0),
            hostnqn: Nqn::of_host(hostid),
            hostid,
            subnqn: Nqn::of_host(hostid),
            addr: ([127, 0, 0, 1], 4420).into(),
            identity: Identity { cntlid: 1, ciu: 2, cirn: 3 },
            hold: HoldTerms {
                kato,
                kato_assumed: false,
                tbkas: false,
                cqt: None,
                assumed_cqt: Some(zero),
                proxy_delay: zero,
                slew_permille: 0,
            },
            disks: vec![],
        };
        Predecessor { record, sockets }
    }

    #[test]
    fn sockets_are_gone_when_the_machine_was_started_or_none_is_seen_or_their_time_is_over() {
        let kato = Duration::from_secs(5);
        assert!(is_gone(&old(OldSockets::Gone, kato), Duration::ZERO));
        assert!(!is_gone(&old(OldSockets::Unseen, kato), kato));
        assert!(is_gone(&old(OldSockets::Unseen, kato), kato + Duration::from_millis(1)));
        assert!(
            !is_gone(&old(OldSockets::Unseen, Duration::ZERO), kato * 2),
            "its user timeout was the longest there is"
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inode = rustix::fs::fstat(&near).unwrap().st_ino;
        let (local, peer) = (near.local_addr().unwrap(), listener.local_addr().unwrap());
        let pair = crate::store::SocketPair { local, peer, inode };
        // This process was given the port of the one before it: its own connection is not the old one.
        let again = crate::store::SocketPair { inode: inode + 1, ..pair };
        assert!(is_gone(&old(OldSockets::Look(vec![again]), kato), Duration::ZERO));
        assert!(!is_gone(&old(OldSockets::Look(vec![pair]), kato), kato * 10), "it is there");
        assert!(!is_gone(&old(OldSockets::Look(Vec::new()), kato), kato), "which they are is not known");
        assert!(is_gone(&old(OldSockets::Look(Vec::new()), kato), kato + Duration::from_millis(1)));
    }
}
