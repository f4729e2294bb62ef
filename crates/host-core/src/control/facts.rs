//! What a controller said about itself, in the words of this host: for those who live with it and for those who only
//! look.

use super::{Control, LifeFacts};
use crate::{CtrlId, LifeId};
use core::time::Duration;
#[cfg(test)]
use interlock_proto::host::Uniquifier;
use interlock_proto::host::{Fact, Facts};
use interlock_wire::admin::EventMask;
use interlock_wire::ana;

impl Control {
    /// The ANA log of every life that has one, as its paths have it.
    pub fn ana_logs(&self) -> impl Iterator<Item = (CtrlId, LifeId, &ana::Log)> {
        self.lives.iter().filter_map(|(id, life)| Some((life.ctrl, *id, life.ana.as_ref()?)))
    }
}

impl LifeFacts {
    /// Of a controller that is live. `events`: those it will tell of, or could.
    pub(crate) fn of(facts: &Facts, events: EventMask, lanes: u16) -> Self {
        let identify = &facts.identify;
        Self {
            identity: facts.instance(),
            uniquifier: facts.uniquifier,
            vs: facts.vs.0,
            kato: facts.kato,
            tbkas: facts.tbkas,
            cqt: facts.cqt,
            ccrl: facts.ccrl,
            ccr_event: events.contains(EventMask::CCR),
            ana: identify.reports_ana(),
            anatt: Duration::from_secs(identify.anatt.into()),
            io_queues: facts.io_queues,
            lanes,
            sqsize_max: facts.sqsize_max,
            in_capsule: facts.in_capsule_io,
            max_transfer: facts.max_transfer.unwrap_or(u32::MAX),
            vwc: identify.has_volatile_cache(),
            retry_delays: [1, 2, 3].map(|crd| identify.retry_delay(crd)),
            shutdown: Duration::from_micros(identify.rtd3e.get().into()),
            serial: Fact::of_text(identify.serial()),
            model: Fact::of_text(identify.model()),
            firmware: identify.firmware(),
        }
    }

    /// Keep Alive Timeout to reckon with; zero: none.
    #[must_use]
    pub fn kato_in_force(&self) -> Duration {
        self.kato.unwrap_or(Duration::ZERO)
    }

    /// True if lanes share the I/O queues, because they are fewer ([`forward`](crate::forward)).
    #[must_use]
    pub const fn shares_queues(&self) -> bool {
        self.io_queues < self.lanes
    }

    /// True if it can be asked to reset other controllers.
    #[must_use]
    pub const fn can_reset(&self) -> bool {
        self.ccrl.value().is_some()
    }

    /// True if another controller can be asked to reset this life.
    #[must_use]
    pub const fn can_be_reset(&self) -> bool {
        self.uniquifier.value().is_some()
    }

    /// True if Cross-Controller Reset is offered: the controller can reset others, and others can reset it.
    #[must_use]
    pub const fn offers_ccr(&self) -> bool {
        self.can_reset() && self.can_be_reset()
    }

    /// Of a controller that offers a reset of others and states no quiesce time.
    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self {
            identity: crate::Identity { cntlid: 1, ciu: 1, cirn: 1 },
            uniquifier: Fact::Stated(Uniquifier { ciu: 1, cirn: 1 }),
            vs: 0x20300,
            kato: Fact::Stated(Duration::from_secs(5)),
            tbkas: Fact::Stated(()),
            cqt: Fact::NotOffered,
            ccrl: Fact::Stated(4),
            ccr_event: true,
            ana: false,
            anatt: Duration::ZERO,
            io_queues: 1,
            lanes: 1,
            sqsize_max: 127,
            in_capsule: 0,
            max_transfer: u32::MAX,
            vwc: false,
            retry_delays: [Duration::ZERO; 3],
            shutdown: Duration::ZERO,
            serial: Fact::Stated("A".into()),
            model: Fact::Stated("M".into()),
            firmware: "1".into(),
        }
    }
}
