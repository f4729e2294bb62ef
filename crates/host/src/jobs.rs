//! Work that may block: looking up names, and making records durable.
//!
//! None of it may run on a reactor, where it would stop keep alive and every queue. One thread does it in order; control
//! has a deadline for each job, so a resolver that hangs delays nobody but those who wait for names.

use crate::control::ControlMail;
use crate::links::Sockets;
use crate::store::LifeStore;
use interlock_carry::Mailbox;
use interlock_host_core::{Job, JobId, JobResult};
use std::convert::Infallible;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// By which one waits for that thread.
pub(crate) struct JobsEnd(Mutex<Receiver<Infallible>>);

impl JobsEnd {
    /// Everything that was started is done, and the store is closed; false if that takes too long.
    pub(crate) fn wait(&self, within: Duration) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it is the end of the sender that counts.
        ended.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }
}

/// The thread for blocking work. It ends when this is dropped.
pub(crate) struct Jobs(Sender<(JobId, Job)>);

impl Jobs {
    pub(crate) fn new(
        mut store: Box<dyn LifeStore>,
        sockets: Sockets,
        answers: Mailbox<ControlMail>,
    ) -> io::Result<(Self, JobsEnd)> {
        let (sender, receiver) = mpsc::channel::<(JobId, Job)>();
        let (end, ended) = mpsc::channel();
        std::thread::Builder::new().name("interlock-jobs".into()).spawn(move || {
            for (id, job) in receiver {
                answers.send(ControlMail::Job(id, work(&mut *store, &sockets, job)));
            }
            drop(store);
            drop(end);
        })?;
        Ok((Self(sender), JobsEnd(Mutex::new(ended))))
    }

    pub(crate) fn start(&self, id: JobId, job: Job) {
        // The thread ends only after this sender, so the send cannot fail but by a panic there, which control's
        // deadline for the job will notice.
        let _ = self.0.send((id, job));
    }
}

fn work(store: &mut dyn LifeStore, sockets: &Sockets, job: Job) -> JobResult {
    let done = |result: io::Result<()>| match result {
        Ok(()) => JobResult::Done,
        Err(error) => JobResult::Failed(format!("the life could not be recorded: {error}")),
    };
    match job {
        Job::Resolve { host, port } => match (host.as_str(), port).to_socket_addrs() {
            Ok(addresses) => JobResult::Resolved(addresses.collect()),
            Err(error) => JobResult::Failed(format!("`{host}` cannot be resolved: {error}")),
        },
        Job::RecordLife(record) => done(store.record(&record, &sockets.to(record.addr))),
        Job::MarkClean(life) => done(store.mark_clean(life)),
        Job::ForgetLife(life) => done(store.forget(life)),
    }
}
