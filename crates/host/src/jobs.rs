//! Work that may block: looking up names, and making records durable.
//!
//! None of it may run on a reactor, where it would stop keep alive and every queue. One thread does it in order; control
//! has a deadline for each job, so a resolver that hangs delays nobody but those who wait for names.

use crate::control::ControlMail;
use crate::links::Sockets;
use crate::store::LifeStore;
use interlock_carry::Mailbox;
use interlock_host_core::{Job, JobId, JobResult};
use std::io;
use std::net::ToSocketAddrs;
use std::sync::mpsc::{self, Sender};

/// The thread for blocking work. It ends when this is dropped.
pub(crate) struct Jobs(Sender<(JobId, Job)>);

impl Jobs {
    pub(crate) fn new(
        mut store: Box<dyn LifeStore>,
        sockets: Sockets,
        answers: Mailbox<ControlMail>,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<(JobId, Job)>();
        std::thread::Builder::new().name("interlock-jobs".into()).spawn(move || {
            for (id, job) in receiver {
                answers.send(ControlMail::Job(id, work(&mut *store, &sockets, job)));
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
