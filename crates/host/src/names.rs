//! Names of targets: looked up beside each other, and led to an address that answers.
//!
//! A resolver may hang for a minute, and one name must not make another wait for it: several threads share the work, and
//! what waits has a bound. Names that were looked up promptly the last time have threads of their own, so that a thousand names of
//! which the resolver knows nothing keep no path away whose name it knows. A name may have several addresses of which some are dead: those that take a TCP connection at
//! once come first and alone, so that an attempt does not spend its time on one that does not. If none does, all are
//! given, and the attempt says why it failed.

use interlock_host_core::{JobId, JobResult};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names that are looked up at once, whatever is known of them,
const THREADS: usize = 4;
/// and beside them names that were looked up promptly the last time.
const PROMPT_THREADS: usize = 2;
/// That is, within this.
const PROMPTLY: Duration = Duration::from_secs(1);
/// So many of these names are remembered.
const PROMPT_MAX: usize = 4_096;
/// Names of each kind that wait for a thread.
const WAITING_MAX: usize = 4_096;
/// An address of several that takes no connection within this is not among the first.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Once one has, the others get so long.
const OTHERS_WITHIN: Duration = Duration::from_millis(50);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

#[derive(Debug)]
struct Wanted {
    id: JobId,
    host: String,
    port: u16,
}

#[derive(Debug, Default)]
struct Queue {
    prompt: VecDeque<Wanted>,
    others: VecDeque<Wanted>,
    over: bool,
}

/// Names that were looked up promptly the last time: the resolver is that of the machine, and so is what is known of it.
static PROMPT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn is_prompt(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok() || PROMPT.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
}

fn remember(host: &str, prompt: bool) {
    let mut known = PROMPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !prompt {
        known.remove(host);
    } else if !known.contains(host) {
        if known.len() >= PROMPT_MAX {
            known.pop_first();
        }
        known.insert(host.to_owned());
    }
}

/// Looks a name up, here and now. What has an answer soon is looked up beside names that have none from then on, also when
/// a host connects to it.
///
/// # Errors
/// What the resolver of this machine says. It may take a minute for that.
pub fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let begun = Instant::now();
    let found = addresses(host, port);
    remember(host, found.is_ok() && begun.elapsed() < PROMPTLY);
    found
}

/// Looks names up. The threads end when this is dropped, each after the name that it is looking up.
pub(crate) struct Names(Arc<(Mutex<Queue>, Condvar)>);

impl Names {
    /// `tell` hears of each name, on a thread of its own.
    pub(crate) fn new(tell: impl Fn(JobId, JobResult) + Send + Sync + 'static) -> io::Result<Self> {
        let names = Self(Arc::default());
        let tell = Arc::new(tell);
        for number in 0..THREADS + PROMPT_THREADS {
            let (shared, tell) = (Arc::clone(&names.0), Arc::clone(&tell));
            std::thread::Builder::new().name(format!("interlock-name{number}")).spawn(move || {
                while let Some(wanted) = next(&shared, number < THREADS) {
                    tell(wanted.id, resolve(&wanted.host, wanted.port));
                }
            })?;
        }
        Ok(names)
    }

    /// Has a name looked up.
    ///
    /// # Errors
    /// Too many are waiting already.
    pub(crate) fn look_up(&self, id: JobId, host: String, port: u16) -> Result<(), JobResult> {
        let (queue, news) = &*self.0;
        let prompt = is_prompt(&host);
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = if prompt { &mut queue.prompt } else { &mut queue.others };
        if waiting.len() >= WAITING_MAX {
            let why = format!("`{host}` is not looked up: {WAITING_MAX} names wait for the resolver of this machine");
            return Err(JobResult::Failed(why));
        }
        waiting.push_back(Wanted { id, host, port });
        // Not every thread takes every name.
        news.notify_all();
        Ok(())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let (queue, news) = &*self.0;
        queue.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        news.notify_all();
    }
}

fn next((queue, news): &(Mutex<Queue>, Condvar), others: bool) -> Option<Wanted> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if queue.over {
            return None;
        }
        let other = if others { queue.others.pop_front() } else { None };
        if let Some(wanted) = other.or_else(|| queue.prompt.pop_front()) {
            return Some(wanted);
        }
        queue = news.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

pub(crate) fn resolve(host: &str, port: u16) -> JobResult {
    match look_up(host, port) {
        Ok(addresses) => JobResult::Resolved(answering(addresses)),
        Err(error) => JobResult::Failed(format!("`{host}` cannot be resolved: {error}")),
    }
}

/// All addresses of a name, or of an address with or without brackets. Blocks as long as the resolver does.
pub(crate) fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Ok((bare, port).to_socket_addrs()?.collect())
}

/// Those of several addresses that take a connection, in the order of the resolver; all of them if none does.
fn answering(mut all: Vec<SocketAddr>) -> Vec<SocketAddr> {
    all.dedup();
    all.truncate(ADDRESSES_MAX);
    if all.len() < 2 {
        return all;
    }
    let (tell, heard) = mpsc::channel();
    for addr in all.clone() {
        let tell = tell.clone();
        let asked = std::thread::Builder::new().name("interlock-dial".into()).spawn(move || {
            if TcpStream::connect_timeout(&addr, ANSWERS_WITHIN).is_ok() {
                // Whoever asked may have gone.
                let _ = tell.send(addr);
            }
        });
        if asked.is_err() {
            return all;
        }
    }
    drop(tell);
    let mut open = Vec::new();
    let mut until = Instant::now() + ANSWERS_WITHIN;
    // It ends when every address has answered, or its time is up.
    while let Ok(addr) = heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if open.is_empty() {
            until = until.min(Instant::now() + OTHERS_WITHIN);
        }
        open.push(addr);
    }
    if !open.is_empty() {
        all.retain(|addr| open.contains(addr));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn addresses_that_answer_come_alone() {
        let open = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = open.local_addr().expect("bound");
        // Nobody listens on the same port of another loopback address.
        let dead = SocketAddr::from(([127, 0, 0, 2], addr.port()));
        assert_eq!(answering(vec![dead, addr]), [addr]);
        assert_eq!(answering(vec![dead]), [dead], "one alone is not tried");
        // Nobody answers at all at an address for documentation (RFC 5737), or the machine says at once that it has no way.
        let silent = SocketAddr::from(([192, 0, 2, 1], addr.port()));
        let begun = Instant::now();
        assert_eq!(answering(vec![silent, addr]), [addr]);
        assert!(begun.elapsed() < ANSWERS_WITHIN, "{:?} for one that is silent", begun.elapsed());
        drop(open);
        assert_eq!(answering(vec![dead, addr]), [dead, addr], "none answers: the attempt says why");
    }

    #[test]
    fn names_that_hang_keep_none_waiting_that_was_prompt_before() {
        let (tell, heard) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let names = Names::new(move |id, result| {
            if id < JobId(100) {
                // As a resolver that hangs.
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
            }
            let _ = tell.send((id, result));
        })
        .expect("threads");
        for id in 0..100 {
            names.look_up(JobId(id), format!("{id} is no name"), 4420).expect("room");
        }
        let wait = Duration::from_secs(20);
        for id in 100..200 {
            names.look_up(JobId(id), "127.0.0.1".into(), 4420).expect("room");
            assert_eq!(heard.recv_timeout(wait).expect("an answer").0, JobId(id));
        }
        drop(release);
        let mut left: Vec<JobId> = (0..100).map(|_| heard.recv_timeout(wait).expect("an answer").0).collect();
        left.sort();
        assert_eq!(left, (0..100).map(JobId).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_remembered_of_names_is_the_last_time_and_bounded() {
        let _ = look_up("no name at all", 1);
        assert!(!is_prompt("no name at all") && is_prompt("192.0.2.1"));
        remember("prompt.example", true);
        assert!(is_prompt("prompt.example"));
        remember("prompt.example", false);
        assert!(!is_prompt("prompt.example"));
        for n in 0..2 * PROMPT_MAX {
            remember(&format!("{n}.example"), true);
        }
        assert!(PROMPT.lock().expect("no panic").len() <= PROMPT_MAX);
    }

    #[test]
    fn a_name_that_hangs_keeps_no_other_waiting_and_the_queue_has_an_end() {
        let (tell, heard) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let names = Names::new(move |id, result| {
            if id == JobId(1) {
                // As a resolver that hangs.
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
            }
            let _ = tell.send((id, result));
        })
        .expect("threads");
        for id in 1..=3 {
            names.look_up(JobId(id), "127.0.0.1".into(), 4420).expect("room");
        }
        let wait = Duration::from_secs(20);
        let mut ids = [heard.recv_timeout(wait).expect("an answer").0, heard.recv_timeout(wait).expect("an answer").0];
        ids.sort();
        assert_eq!(ids, [JobId(2), JobId(3)]);
        drop(release);
        assert_eq!(heard.recv_timeout(wait).expect("an answer").0, JobId(1));
        let full = Names(Arc::default());
        for id in 0..4_096 {
            full.look_up(JobId(id), "x".into(), 1).expect("room");
        }
        assert!(
            matches!(full.look_up(JobId(0), "x".into(), 1), Err(JobResult::Failed(why)) if why.contains("4096 names wait"))
        );
    }
}
