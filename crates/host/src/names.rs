//! Names of targets: looked up beside each other, and led to an address that answers.
//!
//! A resolver may hang for a minute, and one name must not make another wait for it: several threads share one queue, and
//! the queue has a bound. A name may have several addresses of which some are dead: those that take a TCP connection at
//! once come first and alone, so that an attempt does not spend its time on one that does not. If none does, all are
//! given, and the attempt says why it failed.

use interlock_host_core::{JobId, JobResult};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names that are looked up at once.
const THREADS: usize = 4;
/// Names that wait for a thread.
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
    waiting: VecDeque<Wanted>,
    over: bool,
}

/// Looks names up. The threads end when this is dropped, each after the name that it is looking up.
pub(crate) struct Names(Arc<(Mutex<Queue>, Condvar)>);

impl Names {
    /// `tell` hears of each name, on a thread of its own.
    pub(crate) fn new(tell: impl Fn(JobId, JobResult) + Send + Sync + 'static) -> io::Result<Self> {
        let names = Self(Arc::default());
        let tell = Arc::new(tell);
        for number in 0..THREADS {
            let (shared, tell) = (Arc::clone(&names.0), Arc::clone(&tell));
            std::thread::Builder::new().name(format!("interlock-name{number}")).spawn(move || {
                while let Some(wanted) = next(&shared) {
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
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() >= WAITING_MAX {
            let why = format!("`{host}` is not looked up: {WAITING_MAX} names wait for the resolver of this machine");
            return Err(JobResult::Failed(why));
        }
        queue.waiting.push_back(Wanted { id, host, port });
        news.notify_one();
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

fn next((queue, news): &(Mutex<Queue>, Condvar)) -> Option<Wanted> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if queue.over {
            return None;
        }
        if let Some(wanted) = queue.waiting.pop_front() {
            return Some(wanted);
        }
        queue = news.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

pub(crate) fn resolve(host: &str, port: u16) -> JobResult {
    match addresses(host, port) {
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
