//! Work that may block: looking up names, and making records durable.
//!
//! None of it may run on a reactor, where it would stop keep alive and every queue. One thread does it in order; control
//! has a deadline for each job, so a resolver that hangs delays nobody but those who wait for names.

use crate::control::ControlMail;
use interlock_carry::Mailbox;
use interlock_host_core::{Job, JobId, JobResult, LifeId, LifeRecord};
use std::collections::BTreeMap;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};

/// Where the lives of this host are recorded, so that a successor can fence them.
///
/// [`LifeStore::record`] returns only when the record is as durable as the store can make it: no write of the life is
/// sent before (`life_recorded_before_first_write`).
pub trait LifeStore: Send {
    /// Records a life.
    ///
    /// # Errors
    /// If it could not be made durable: the path is then not used.
    fn record(&mut self, record: &LifeRecord) -> io::Result<()>;

    /// The life ended with nothing unanswered.
    ///
    /// # Errors
    /// If that could not be made durable: a successor will fence the life needlessly.
    fn mark_clean(&mut self, life: LifeId) -> io::Result<()>;

    /// The life is fenced.
    ///
    /// # Errors
    /// If that could not be made durable: a successor will fence the life needlessly.
    fn forget(&mut self, life: LifeId) -> io::Result<()>;
}

/// Records that end with the process: a successor knows nothing of its predecessor.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<LifeId, LifeRecord>>);

impl LifeStore for MemoryStore {
    fn record(&mut self, record: &LifeRecord) -> io::Result<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).insert(record.life, record.clone());
        Ok(())
    }

    fn mark_clean(&mut self, life: LifeId) -> io::Result<()> {
        self.forget(life)
    }

    fn forget(&mut self, life: LifeId) -> io::Result<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).remove(&life);
        Ok(())
    }
}

/// The thread for blocking work. It ends when this is dropped.
pub(crate) struct Jobs(Sender<(JobId, Job)>);

impl Jobs {
    pub(crate) fn new(mut store: Box<dyn LifeStore>, answers: Mailbox<ControlMail>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<(JobId, Job)>();
        std::thread::Builder::new().name("interlock-jobs".into()).spawn(move || {
            for (id, job) in receiver {
                answers.send(ControlMail::Job(id, work(&mut *store, job)));
            }
        })?;
        Ok(Self(sender))
    }

    pub(crate) fn start(&self, id: JobId, job: Job) {
        // The thread ends only after this sender, so the send cannot fail but by a panic there, which control's
        // deadline for the job will notice.
        let _ = self.0.send((id, job));
    }
}

fn work(store: &mut dyn LifeStore, job: Job) -> JobResult {
    let done = |result: io::Result<()>| match result {
        Ok(()) => JobResult::Done,
        Err(error) => JobResult::Failed(format!("the life could not be recorded: {error}")),
    };
    match job {
        Job::Resolve { host, port } => match (host.as_str(), port).to_socket_addrs() {
            Ok(addresses) => JobResult::Resolved(addresses.collect()),
            Err(error) => JobResult::Failed(format!("`{host}` cannot be resolved: {error}")),
        },
        Job::RecordLife(record) => done(store.record(&record)),
        Job::MarkClean(life) => done(store.mark_clean(life)),
        Job::ForgetLife(life) => done(store.forget(life)),
    }
}
