//! When to send Keep Alive, and when to stop believing in the controller.
//!
//! The controller ends the association one Keep Alive Timeout (KATO) after it last heard of the host. The host must
//! notice a loss *before* that, else the controller frees what the host still thinks it owns. So a Keep Alive that
//! stays unanswered for half of KATO means the controller is lost: with a Keep Alive at least every KATO/2 the host
//! knows at the latest when the controller's own timer runs out, and usually sooner.
//!
//! ```text
//! TBKAS  | a check every | a Keep Alive is sent
//! -------+---------------+------------------------------------------------------------
//! no     | KATO/2        | at every check
//! yes    | KATO/4        | at a check, unless a command that was submitted after the previous check has completed
//! ```
//!
//! With traffic based keep alive the controller hears of the host by any command. A command counts only from its
//! submission: one that was submitted long ago and completes now says nothing about what the controller heard lately. A
//! check that finds one puts the next off by KATO/4, or to KATO/2 after that submission where a late answer held it up:
//! so the end is noticed KATO after the controller can have heard of the host last.
//!
//! A controller may answer a Keep Alive late although it serves I/O. With traffic based keep alive that is no loss: before
//! the half of KATO is over the machine asks whether a command that was submitted after the Keep Alive has been answered
//! ([`Pulse::AskTraffic`]), and each such command puts the end off to KATO/2 after its own submission. A Keep Alive without
//! an answer for four times KATO (`LATE_MAX`) is a loss in any case: nothing else that is asked of its admin queue ends.

use core::time::Duration;
use interlock_base::Instant;

/// For so many times KATO traffic may stand in for the answer to one Keep Alive.
const LATE_MAX: u32 = 4;

/// What to do about Keep Alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pulse {
    /// Submit a Keep Alive command now (then poll again).
    Send,
    /// Report the latest submission of an I/O command that has been answered ([`KeepAlive::handle_traffic`]), then poll
    /// again: the Keep Alive has no answer yet.
    AskTraffic,
    /// The controller is lost: the Keep Alive sent at this moment is unanswered for KATO/2, and so is what was submitted
    /// since.
    Lost {
        /// When it was sent.
        sent: Instant,
    },
    /// Nothing to do before this moment.
    Wait(Instant),
    /// KATO is 0, or it was stopped: nothing to do ever.
    Off,
}

/// Keep Alive of one association. NVM Express Base Specification, "Keep Alive".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    half: Duration,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Off,
    On {
        every: Duration,
        traffic_based: bool,
        next: Instant,
        last_check: Instant,
        heard: Option<Instant>,
        unanswered: Option<Instant>,
        /// The traffic was asked for, and nothing new was heard since.
        asked: bool,
    },
}

impl KeepAlive {
    /// Starts at `now` with the KATO in force (0: off). `traffic_based`: the controller reports TBKAS.
    #[must_use]
    pub fn new(now: Instant, kato_ms: u32, traffic_based: bool) -> Self {
        let kato = Duration::from_millis(u64::from(kato_ms));
        let state = if kato.is_zero() {
            State::Off
        } else {
            let every = if traffic_based { kato / 4 } else { kato / 2 };
            let next = now + every;
            State::On { every, traffic_based, next, last_check: now, heard: None, unanswered: None, asked: false }
        };
        Self { half: kato / 2, state }
    }

    /// A command (admin or I/O) that was submitted at `submitted` has completed.
    pub fn handle_traffic(&mut self, submitted: Instant) {
        if let State::On { last_check, heard, asked, .. } = &mut self.state
            && submitted >= *last_check
            && *heard < Some(submitted)
        {
            *heard = Some(submitted);
            *asked = false;
        }
    }

    /// The Keep Alive command was completed (with whatever status: the controller lives).
    pub fn handle_answer(&mut self) {
        if let State::On { unanswered, .. } = &mut self.state {
            *unanswered = None;
        }
    }

    /// Nothing is sent any more: the life is condemned or ends.
    pub fn stop(&mut self) {
        self.state = State::Off;
    }

    /// What to do at `now`. After [`Pulse::Send`] it assumes that the command was submitted.
    pub fn poll(&mut self, now: Instant) -> Pulse {
        let half = self.half;
        let State::On { every, traffic_based, next, last_check, heard, unanswered, asked } = &mut self.state else {
            return Pulse::Off;
        };
        if let Some(sent) = *unanswered {
            // Nothing else is due while one is under way: its end comes first or it is the end.
            let last = heard.filter(|_| *traffic_based).map_or(sent, |heard| heard.max(sent));
            let limit = sent + half * (2 * LATE_MAX);
            let end = (last + half).min(limit);
            // So early that the answer is there before the end.
            let ask = (last + half * 3 / 4).min(limit);
            return if now >= end {
                Pulse::Lost { sent }
            } else if !*traffic_based || *asked {
                Pulse::Wait(end)
            } else if now < ask {
                Pulse::Wait(ask)
            } else {
                *asked = true;
                Pulse::AskTraffic
            };
        }
        if now < *next {
            return Pulse::Wait(*next);
        }
        *last_check = now;
        *next = now + *every;
        if let Some(heard) = heard.take().filter(|_| *traffic_based) {
            *next = (*next).min(heard + half);
            if now < *next {
                return Pulse::Wait(*next);
            }
            *next = now + *every;
        }
        *unanswered = Some(now);
        *asked = false;
        Pulse::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn without_tbkas_every_half_kato_whatever_the_traffic() {
        let mut ka = KeepAlive::new(at(0), 5000, false);
        assert_eq!(ka.poll(at(0)), Pulse::Wait(at(2500)));
        ka.handle_traffic(at(2400));
        assert_eq!(ka.poll(at(2500)), Pulse::Send);
        assert_eq!(ka.poll(at(2600)), Pulse::Wait(at(5000)));
        ka.handle_answer();
        assert_eq!(ka.poll(at(2700)), Pulse::Wait(at(5000)));
        assert_eq!(ka.poll(at(5000)), Pulse::Send);
    }

    #[test]
    fn with_tbkas_fresh_traffic_replaces_it() {
        let mut ka = KeepAlive::new(at(0), 4000, true);
        ka.handle_traffic(at(10));
        assert_eq!(ka.poll(at(1000)), Pulse::Wait(at(2000)));
        // Submitted before the last check: does not count.
        ka.handle_traffic(at(999));
        assert_eq!(ka.poll(at(2000)), Pulse::Send);
    }

    #[test]
    fn a_late_answer_puts_the_end_off_no_further_than_kato_after_the_last_word() {
        // Keep Alive at 1000; a command of 1100 is the last that the controller hears; the answers come late.
        for late in [1_010, 1_400, 1_900, 2_990] {
            let mut ka = KeepAlive::new(at(0), 4000, true);
            assert_eq!(ka.poll(at(1_000)), Pulse::Send);
            ka.handle_traffic(at(1_100));
            ka.handle_answer();
            let mut now = at(late);
            let lost = loop {
                match ka.poll(now) {
                    Pulse::Send | Pulse::AskTraffic => {}
                    Pulse::Wait(next) => now = next,
                    Pulse::Lost { .. } => break now,
                    Pulse::Off => panic!("it is on"),
                }
            };
            assert!(lost <= at(1_100 + 4_000), "answered at {late}: lost at {lost}");
        }
    }

    #[test]
    fn unanswered_for_half_kato_is_lost() {
        let mut ka = KeepAlive::new(at(0), 4000, true);
        assert_eq!(ka.poll(at(1000)), Pulse::Send);
        assert_eq!(ka.poll(at(2499)), Pulse::Wait(at(2500)));
        assert_eq!(ka.poll(at(2500)), Pulse::AskTraffic);
        assert_eq!(ka.poll(at(2999)), Pulse::Wait(at(3000)), "nothing was heard");
        assert_eq!(ka.poll(at(3000)), Pulse::Lost { sent: at(1000) });
        assert!(at(3000) <= at(0) + Duration::from_millis(4000), "the host notices before the controller");
        ka.stop();
        assert_eq!(ka.poll(at(9000)), Pulse::Off);
    }

    #[test]
    fn with_tbkas_io_that_is_answered_stands_in_for_a_late_answer() {
        let mut ka = KeepAlive::new(at(0), 4000, true);
        assert_eq!(ka.poll(at(1000)), Pulse::Send);
        // Submitted before: the controller may have heard it before it stopped.
        ka.handle_traffic(at(999));
        assert_eq!(ka.poll(at(2500)), Pulse::AskTraffic);
        ka.handle_traffic(at(2400));
        assert_eq!(ka.poll(at(3000)), Pulse::Wait(at(3900)));
        assert_eq!(ka.poll(at(3900)), Pulse::AskTraffic, "again, for what came meanwhile");
        ka.handle_traffic(at(2400));
        assert_eq!(ka.poll(at(3900)), Pulse::Wait(at(4400)), "nothing new: asked once");
        ka.handle_answer();
        assert!(matches!(ka.poll(at(4000)), Pulse::Send | Pulse::Wait(_)), "it is kept");
        let mut ka = KeepAlive::new(at(0), 4000, true);
        assert_eq!(ka.poll(at(1000)), Pulse::Send);
        ka.handle_traffic(at(2400));
        assert_eq!(ka.poll(at(4400)), Pulse::Lost { sent: at(1000) }, "KATO/2 after the last that was answered");
    }

    #[test]
    fn without_tbkas_io_says_nothing_of_keep_alive() {
        let mut ka = KeepAlive::new(at(0), 4000, false);
        assert_eq!(ka.poll(at(2000)), Pulse::Send);
        ka.handle_traffic(at(3900));
        assert_eq!(ka.poll(at(3900)), Pulse::Wait(at(4000)));
        assert_eq!(ka.poll(at(4000)), Pulse::Lost { sent: at(2000) });
    }

    #[test]
    fn a_keep_alive_that_is_never_answered_is_a_loss_whatever_io_says() {
        let mut ka = KeepAlive::new(at(0), 4000, true);
        let mut now = at(1000);
        assert_eq!(ka.poll(now), Pulse::Send);
        loop {
            ka.handle_traffic(now);
            match ka.poll(now) {
                Pulse::Wait(next) => now = next,
                Pulse::AskTraffic => {}
                Pulse::Lost { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(now, at(1000 + 4 * 4000));
    }

    #[test]
    fn kato_zero_is_off() {
        assert_eq!(KeepAlive::new(at(0), 0, true).poll(at(100_000)), Pulse::Off);
    }
}
