//! Hears what the daemon tells, on a thread of its own: a monitor asks for samples, but events come when they come.

use super::weight;
use crate::Happened;
use interlock_api::{Client, Event};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Events that may wait for the monitor to look; what is more is dropped, and its gap is told.
const BEHIND: usize = 4_096;
/// Events of the past that a monitor begins with.
const BEFORE: u32 = 200;
/// Between two attempts to listen to a daemon that is not there.
const AGAIN: Duration = Duration::from_secs(2);

/// The ear.
#[derive(Debug)]
pub(super) struct Listener {
    client: Option<Client>,
    heard: Option<Receiver<Happened>>,
    /// Dropped with the ear, so that the thread ends.
    alive: Arc<()>,
}

impl Listener {
    /// Begins to listen when it is first asked.
    pub(super) fn of(client: Client) -> Self {
        Self { client: Some(client), heard: None, alive: Arc::default() }
    }

    /// What came since the last time.
    pub(super) fn take(&mut self) -> Vec<Happened> {
        if let Some(client) = self.client.take() {
            let (sender, heard) = mpsc::sync_channel(BEHIND);
            let wanted = Arc::downgrade(&self.alive);
            let started = std::thread::Builder::new()
                .name("interlock-listen".into())
                .spawn(move || listen(&client, &sender, &wanted));
            // Without a thread there are no events; the samples still show what changed.
            self.heard = started.is_ok().then_some(heard);
        }
        self.heard.iter().flat_map(Receiver::try_iter).collect()
    }
}

/// Listens until nobody is interested any more.
#[expect(clippy::disallowed_methods, reason = "a thread of its own that waits for a daemon to come back")]
fn listen(client: &Client, sender: &SyncSender<Happened>, wanted: &Weak<()>) {
    let mut last: Option<u64> = None;
    loop {
        // The first time: what happened lately. Later: from where it broke off; numbers go on when a daemon starts anew.
        let from = last.map_or_else(|| format!("last={BEFORE}"), |last| format!("after={last}"));
        if let Ok(lines) = client.lines(&format!("/v1/events?{from}")) {
            for line in lines.map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<Event>(&line) else { continue };
                if let Some(missed) = last.map(|last| event.seq.saturating_sub(last + 1)).filter(|missed| *missed > 0) {
                    let text = format!("{missed} events were missed");
                    if !say(sender, note(text)) {
                        return;
                    }
                }
                last = Some(event.seq);
                let happened = Happened {
                    unix_ms: event.unix_ms,
                    controller: event.controller,
                    weight: weight(event.level),
                    text: event.text,
                };
                if !say(sender, happened) {
                    return;
                }
            }
            if !say(sender, note("the daemon ended, or broke off".into())) {
                return;
            }
        }
        std::thread::sleep(AGAIN);
        if wanted.strong_count() == 0 {
            return;
        }
    }
}

fn note(text: String) -> Happened {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Happened { unix_ms, controller: None, weight: crate::changes::Weight::Warning, text }
}

/// False if nobody listens any more. A monitor that is too far behind loses the newest: it will see a gap.
fn say(sender: &SyncSender<Happened>, happened: Happened) -> bool {
    !matches!(sender.try_send(happened), Err(mpsc::TrySendError::Disconnected(_)))
}
