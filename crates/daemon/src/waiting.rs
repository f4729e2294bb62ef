//! Verbs that wait for a target or for time: as tasks, and not as threads.
//!
//! Questions that are answered at once run on threads of the runtime, and so do the steps of a verb. What waits holds
//! none of them: it follows the stream of events and looks again when something has happened to what it waits for. So a
//! thousand connections to silent targets, or as many who wait for a fence, delay nobody who asks for the status.

use crate::budget::{Payer, Peer};
use crate::names;
use crate::refusal::Refusal;
use crate::service::{Begun, FENCE_WAIT_MAX, GONE_WITHIN, Service, Which, done};
use interlock_api::{
    ConnectRequest, Connected, ControllerState, Done, Drained, Event, Fenced, ProblemKind, UnfencedLife, Version, What,
};
use interlock_base::{Pot, Share};
use interlock_host::{CtrlId, HostError, ProbeError, StateName, TargetProblem, UnfencedWhy};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Of the places for connections, verbs that wait have this part at most,
const WAITING_SHARE: usize = 2;
/// and those who follow events this one: the rest is left for questions that are answered at once.
const FOLLOWING_SHARE: usize = 4;
/// Verbs at once that hold a thread for seconds: the end of a client of an export, of a controller. More of them queue.
const SLOW_MAX: usize = 16;
/// Block devices of the kernel that are started at once, each on a thread, for an answer. More of them queue.
const DEVICES_MAX: usize = 16;
/// Names that are looked up at once, each on a thread, before a connection begins; one client has a quarter at most. More of them
/// queue for this long.
const LOOKUPS_MAX: usize = 8;
const LOOKUP_TURN_WITHIN: Duration = Duration::from_secs(30);
/// The resolver has so long for one.
const LOOKUP_WITHIN: Duration = Duration::from_secs(30);
/// Looks at targets at once after attempts that failed, each on a thread for up to three seconds.
const LOOKS_MAX: usize = 8;
/// A look waits so long for its turn. Without one the reason of the attempt is said in its own words.
const LOOK_TURN_WITHIN: Duration = Duration::from_secs(3);
/// Threads for everything that is answered at once.
const QUICK_MAX: usize = 64;
/// Threads of all kinds: no kind can take those of another.
pub(crate) const THREADS_MAX: usize = QUICK_MAX + SLOW_MAX + DEVICES_MAX + LOOKUPS_MAX + LOOKS_MAX;

/// What is waited for is looked at so often even if no event says that it has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Room for verbs that take their time.
pub(crate) struct Room {
    /// Connections to the control socket at once.
    pub(crate) places: usize,
    waiting: Arc<Semaphore>,
    following: Arc<Semaphore>,
    pub(crate) slow: Arc<Semaphore>,
    pub(crate) devices: Arc<Semaphore>,
    lookups: Lookups,
    looks: Arc<Semaphore>,
}

impl Room {
    /// For so many connections to the control socket at once.
    pub(crate) fn new(places: usize) -> Self {
        let room = |places| Arc::new(Semaphore::new(places));
        Self {
            places,
            waiting: room((places / WAITING_SHARE).max(1)),
            following: room((places / FOLLOWING_SHARE).max(1)),
            slow: room(SLOW_MAX),
            devices: room(DEVICES_MAX),
            lookups: Lookups::default(),
            looks: room(LOOKS_MAX),
        }
    }

    fn wait(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| {
            Refusal::new(ProblemKind::InUse, format!("{} requests wait already", self.places / WAITING_SHARE))
                .hint("end some of them, or wait until they have ended")
        })
    }

    /// A place for somebody who follows events.
    pub(crate) fn follow(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.following).try_acquire_owned().map_err(|_| {
            Refusal::new(ProblemKind::InUse, format!("{} follow the events already", self.places / FOLLOWING_SHARE))
                .hint("end some of them: each `interlock events --follow` is one")
        })
    }
}

fn lost() -> Refusal {
    Refusal::new(ProblemKind::Internal, "the request was not finished: internal error, or the daemon is shutting down")
}

/// Does something that is done at once, on a thread where it may block.
pub(crate) async fn quick<T: Send + 'static>(
    service: &Arc<Service>,
    work: impl FnOnce(&Arc<Service>) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let service = Arc::clone(service);
    tokio::task::spawn_blocking(move || work(&service)).await.unwrap_or_else(|_| Err(lost()))
}

/// The same for what may take seconds, when it is its turn.
pub(crate) async fn slow<T: Send + 'static>(
    service: &Arc<Service>,
    room: &Arc<Semaphore>,
    work: impl FnOnce(&Arc<Service>) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let turn = Arc::clone(room).acquire_owned().await.map_err(|_| lost())?;
    // The place is given up when the work is done, also if nobody waits for it any more.
    quick(service, move |service| {
        let done = work(service);
        drop(turn);
        done
    })
    .await
}

/// Goes on to its end, whoever asked for it.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(lost()))
}

/// Connects on the account of whoever asks, and remembers that this is wanted.
pub(crate) async fn connect(service: Arc<Service>, peer: Peer, request: ConnectRequest) -> Result<Connected, Refusal> {
    let place = service.room.wait()?;
    let attempt = if request.first_attempt_decides { Some(service.budget.attempt(peer)?) } else { None };
    let payer = Payer::User(peer.uid);
    let request = request.canonical();
    to_its_end(async move {
        let asked = request.clone();
        let leads = match asked.traddr.parse::<IpAddr>() {
            Ok(ip) => vec![(ip, asked.trsvcid).into()],
            Err(_) if asked.first_attempt_decides => looked_up(&service, peer, &asked).await?,
            Err(_) => Vec::new(),
        };
        let begun = quick(&service, move |service| service.begin(&asked, leads, payer)).await?;
        let device = begun.id.to_string();
        let failed = if request.first_attempt_decides { first_attempt(&service, &begun).await? } else { None };
        let Some(why) = failed else {
            let live = request.first_attempt_decides;
            quick(&service, move |service| service.want(begun.id, &request)).await?;
            let subsystem = names::subsystem(begun.subsystem);
            return Ok(Connected { format_version: Version, device, subsystem, live });
        };
        // Gone already is as good.
        let _ = quick(&service, move |service| Ok(service.host.disconnect(begun.id)?)).await;
        gone(&service, begun.id).await?;
        drop(place);
        // What is in the way is said in the words of a look, with what to do: those of `discover` and `doctor`.
        let way = (request.host_traddr.is_some() || request.host_iface.is_some()).then_some(OWN_SIDE);
        let (traddr, trsvcid) = (request.traddr.clone(), request.trsvcid);
        let looked = look(&service, request).await?;
        drop(attempt);
        let why = looked.as_ref().and_then(diagnosis).unwrap_or(why);
        let refusal = Refusal::new(ProblemKind::Target, format!("cannot connect to {traddr} port {trsvcid}: {why}"));
        let refusal = match way.filter(|_| looked.as_ref().is_some_and(is_unreachable)) {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        };
        Err(match looked.as_ref().and_then(ProbeError::hint) {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        })
    })
    .await
}

/// Whose names are looked up.
#[derive(Clone)]
struct Lookups(Arc<(Mutex<Pot<Peer>>, Notify)>);

impl Default for Lookups {
    fn default() -> Self {
        let share = Share { times: 1, kept_back: 0, part: 4 };
        Self(Arc::new((Mutex::new(Pot::new(LOOKUPS_MAX as u64, share)), Notify::new())))
    }
}

/// The turn of one of them.
struct Lookup {
    all: Lookups,
    payer: Peer,
}

impl Lookups {
    fn pot(&self) -> MutexGuard<'_, Pot<Peer>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of this payer, if it comes in time.
    async fn turn(&self, payer: Peer, until: Instant) -> Option<Lookup> {
        loop {
            // Whoever ends after the look below is heard.
            let ended = self.0.1.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.pot().take(payer, 1) {
                return Some(Lookup { all: self.clone(), payer });
            }
            timeout_at(until, ended).await.ok()?;
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.all.pot().give(self.payer, 1);
        self.all.0.1.notify_waiters();
    }
}

/// Where the name of a request leads; what has no address leads nowhere. A resolver that hangs delays those who have it asked, and
/// nobody else.
async fn looked_up(service: &Arc<Service>, peer: Peer, request: &ConnectRequest) -> Result<Vec<SocketAddr>, Refusal> {
    // Whose it is: a process of root and of the user the daemon runs as, else a user.
    let payer = if service.budget.ledger().is_root(peer.uid) { peer } else { Peer { pid: 0, ..peer } };
    let (name, port) = (request.traddr.clone(), request.trsvcid);
    let late = |what: &str| {
        let text = format!("the name `{}` was not looked up: {what}", request.traddr);
        Refusal::new(ProblemKind::Timeout, text)
            .hint("give an address, or look at the resolver of this machine: `getent hosts NAME`")
            .hint("or keep trying until there is an answer: `interlock connect --keep-trying`")
    };
    let turn = service.room.lookups.turn(payer, Instant::now() + LOOKUP_TURN_WITHIN).await;
    let Some(turn) = turn else {
        return Err(late(&format!("other names of the same client had no answer within {LOOKUP_TURN_WITHIN:?}")));
    };
    // Its place is given up when the resolver has answered, also if nobody waits for that any more.
    let looking = quick(service, move |_| {
        let found = interlock_host::look_up(&name, port);
        drop(turn);
        Ok(found.unwrap_or_default())
    });
    match timeout_at(Instant::now() + LOOKUP_WITHIN, looking).await {
        Ok(found) => found,
        Err(_) => Err(late(&format!("the resolver did not answer within {LOOKUP_WITHIN:?}"))),
    }
}

/// What stands in the way of a connection, as a look sees it; `None`: nothing, or too many looks are taken now.
async fn look(service: &Arc<Service>, request: ConnectRequest) -> Result<Option<ProbeError>, Refusal> {
    let turn = Arc::clone(&service.room.looks).acquire_owned();
    let Ok(Ok(turn)) = timeout_at(Instant::now() + LOOK_TURN_WITHIN, turn).await else { return Ok(None) };
    quick(service, move |service| {
        let looked = service.look(&request);
        drop(turn);
        Ok(looked)
    })
    .await
}

/// To whoever asked for a way out of this machine.
const OWN_SIDE: &str = "is the source address (-w) one of this machine, and is the interface (-f) there and up?";

const fn is_unreachable(error: &ProbeError) -> bool {
    matches!(error, ProbeError::Target { why: TargetProblem::Unreachable { .. }, .. })
}

/// What a look saw that an attempt to connect takes for broken bytes or for the end of a connection.
fn diagnosis(error: &ProbeError) -> Option<String> {
    match error {
        ProbeError::Target { why, .. } => matches!(
            why,
            TargetProblem::Tls
                | TargetProblem::Authentication
                | TargetProblem::NotNvme { .. }
                | TargetProblem::HungUp { .. }
        )
        .then(|| why.to_string()),
        _ => None,
    }
}

/// Waits for the end of the first attempt; why it failed, if it did.
async fn first_attempt(service: &Arc<Service>, begun: &Begun) -> Result<Option<String>, Refusal> {
    let mut follower = service.told.follow(begun.after);
    let deadline = Instant::now() + begun.within;
    let name = begun.id.to_string();
    loop {
        match timeout_at(deadline, follower.next()).await {
            Ok(Some(events)) => {
                let mine = events.iter().filter(|event| event.controller.as_ref() == Some(&name));
                let mut ends =
                    mine.filter(|event| event.at_ns >= begun.at.as_nanos()).filter_map(|event| end_of(event));
                if let Some(end) = ends.next() {
                    return Ok(end);
                }
            }
            Ok(None) => return Err(HostError::Gone.into()),
            // The last word is the host's: the event may be late.
            Err(_) => {
                let id = begun.id;
                let live =
                    quick(service, move |service| Ok(service.host.state_of(id)? == Some(StateName::Live))).await?;
                return Ok((!live).then(|| format!("not connected within {:?}", begun.within)));
            }
        }
    }
}

/// How this event ends a first attempt: with the reason, if it failed. `None`: it does not.
fn end_of(event: &Event) -> Option<Option<String>> {
    match &event.what {
        What::Connected { .. } => Some(None),
        What::ReconnectFailed { error, .. } => Some(Some(error.clone())),
        What::GivenUp { reason } | What::ControllerState { to: ControllerState::Dead, reason, .. } => {
            Some(Some(reason.clone()))
        }
        _ => None,
    }
}

/// Ends controllers gracefully, and waits until they are gone.
pub(crate) async fn disconnect(service: Arc<Service>, which: Which, force: bool) -> Result<Done, Refusal> {
    let place = service.room.wait()?;
    to_its_end(async move {
        let ids = slow(&service, &service.room.slow, move |service| service.disconnect(&which, force)).await?;
        for id in &ids {
            gone(&service, *id).await?;
        }
        drop(place);
        Ok(done(&ids))
    })
    .await
}

/// Every end of a controller is bounded by the host; this waits for it.
async fn gone(service: &Arc<Service>, id: CtrlId) -> Result<(), Refusal> {
    let mut follower = service.told.follow(service.told.last());
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let state = quick(service, move |service| Ok(service.host.state_of(id)?)).await?;
        if state.is_none_or(|state| state == StateName::Dead) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let text = format!("{id} has not ended within {GONE_WITHIN:?}; it is still being ended");
            return Err(Refusal::new(ProblemKind::Timeout, text).device(id.to_string()));
        }
        let _ = timeout_at(deadline.min(Instant::now() + LOOK_EVERY), follower.next()).await;
    }
}

/// Waits until every lost life of this host is proven unable to change the namespace.
pub(crate) async fn fenced(service: Arc<Service>, namespace: String, within: Duration) -> Result<Fenced, Refusal> {
    let _place = service.room.wait()?;
    let (subnqn, nsid, namespace) = quick(&service, move |service| service.fenceable(&namespace)).await?;
    let alive = lost_are_fenced(&service, subnqn, Some(nsid), within).await?;
    Ok(Fenced { format_version: Version, namespace, alive })
}

/// The same for all namespaces of a subsystem.
pub(crate) async fn drained(service: Arc<Service>, subsystem: String, within: Duration) -> Result<Drained, Refusal> {
    let _place = service.room.wait()?;
    let subsystem = quick(&service, move |service| service.known_subsystem(&subsystem)).await?;
    let alive = lost_are_fenced(&service, subsystem.clone(), None, within).await?;
    Ok(Drained { format_version: Version, subsystem, alive })
}

/// Waits until every lost life is fenced: of a namespace, or of all of its subsystem. Gives those that are not lost.
async fn lost_are_fenced(
    service: &Arc<Service>,
    subnqn: String,
    nsid: Option<u32>,
    within: Duration,
) -> Result<Vec<UnfencedLife>, Refusal> {
    let within = within.min(FENCE_WAIT_MAX);
    let deadline = Instant::now() + within;
    let mut follower = service.told.follow(service.told.last());
    loop {
        let place = subnqn.clone();
        let all = quick(service, move |service| {
            Ok(match nsid {
                Some(nsid) => service.host.unfenced(&place, nsid)?,
                None => service.host.unfenced_of(&place)?,
            })
        })
        .await?;
        let (alive, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|life| life.why == UnfencedWhy::Alive);
        if left.is_empty() {
            let place = subnqn.clone();
            return quick(service, move |service| service.able_to_write(&place, &alive)).await;
        }
        if Instant::now() >= deadline {
            return Err(HostError::NotFenced { within, left }.into());
        }
        let _ = timeout_at(deadline.min(Instant::now() + LOOK_EVERY), follower.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_names_hang_leaves_turns_to_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (lookups, hostile) = (Lookups::default(), Peer { uid: 1_000, pid: 0 });
            let mut held = Vec::new();
            while let Some(turn) = lookups.turn(hostile, Instant::now()).await {
                held.push(turn);
            }
            assert_eq!(held.len(), LOOKUPS_MAX / 4);
            assert!(lookups.turn(Peer { uid: 0, pid: 7 }, Instant::now()).await.is_some(), "others do not wait");
            // Whoever waits has the turn that ends.
            let until = Instant::now() + Duration::from_secs(20);
            let (waited, ()) = tokio::join!(lookups.turn(hostile, until), async { drop(held.pop()) });
            assert!(waited.is_some());
        });
    }
}
