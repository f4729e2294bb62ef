//! Work that may block: looking up names, and making records durable.
//!
//! None of it may run on a reactor, where it would stop keep alive and every queue. [`Names`] looks names up, and a thread
//! keeps records, in order; control has a deadline for each job.

use crate::control::ControlMail;
use crate::links::Sockets;
use crate::names::{Names, resolve};
use crate::store::LifeStore;
use interlock_carry::Mailbox;
use interlock_host_core::{Job, JobId, JobResult};
use std::convert::Infallible;
use std::io;
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

/// The threads for blocking work. They end when this is dropped.
pub(crate) struct Jobs {
    names: Names,
    answers: Mailbox<ControlMail>,
    records: Sender<(JobId, Job)>,
}

impl Jobs {
    pub(crate) fn new(
        mut store: Box<dyn LifeStore>,
        sockets: Sockets,
        answers: Mailbox<ControlMail>,
    ) -> io::Result<(Self, JobsEnd)> {
        let resolved = answers.clone();
        let names = Names::new(move |id, result| resolved.send(ControlMail::Job(id, result)))?;
        let kept = answers.clone();
        let (records, to_record) = mpsc::channel::<(JobId, Job)>();
        let (end, ended) = mpsc::channel();
        std::thread::Builder::new().name("interlock-records".into()).spawn(move || {
            for (id, job) in to_record {
                kept.send(ControlMail::Job(id, record(&mut *store, &sockets, job)));
            }
            drop(store);
            drop(end);
        })?;
        Ok((Self { names, answers, records }, JobsEnd(Mutex::new(ended))))
    }

    pub(crate) fn start(&self, id: JobId, job: Job) {
        match job {
            Job::Resolve { host, port } => {
                if let Err(refused) = self.names.look_up(id, host, port) {
                    self.answers.send(ControlMail::Job(id, refused));
                }
            }
            // The thread ends only after this sender, so the send cannot fail but by a panic there, which control's
            // deadline for the job will notice.
            job => drop(self.records.send((id, job))),
        }
    }
}

fn record(store: &mut dyn LifeStore, sockets: &Sockets, job: Job) -> JobResult {
    let done = |result: io::Result<()>| match result {
        Ok(()) => JobResult::Done,
        Err(error) => JobResult::Failed(format!("the life could not be recorded: {error}")),
    };
    match job {
        Job::Resolve { host, port } => resolve(&host, port),
        Job::RecordLife(record) => done(store.record(&record, &sockets.of(record.life))),
        Job::MarkClean(life) => done(store.mark_clean(life)),
        Job::ForgetLife(life) => done(store.forget(life)),
        Job::ConfirmOwner => match store.confirm_owner() {
            Ok(()) => JobResult::Done,
            Err(error) => JobResult::Failed(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_host_core::LifeRecord;

    /// Says nothing before it is told to.
    struct Stuck(Receiver<()>);

    impl LifeStore for Stuck {
        fn outlives_process(&self) -> bool {
            false
        }
        fn record(&mut self, _: &LifeRecord, _: &[crate::SocketPair]) -> io::Result<()> {
            Ok(())
        }
        fn mark_clean(&mut self, _: interlock_host_core::LifeId) -> io::Result<()> {
            Ok(())
        }
        fn forget(&mut self, _: interlock_host_core::LifeId) -> io::Result<()> {
            Ok(())
        }
        fn confirm_owner(&mut self) -> io::Result<()> {
            self.0.recv().map_err(io::Error::other)
        }
    }

    #[test]
    fn names_and_records_do_not_wait_for_each_other() {
        let (release, held) = mpsc::channel();
        let answers = Mailbox::default();
        let (jobs, end) = Jobs::new(Box::new(Stuck(held)), Sockets::default(), answers.clone()).expect("threads");
        jobs.start(JobId(1), Job::ConfirmOwner);
        jobs.start(JobId(2), Job::Resolve { host: "127.0.0.1".into(), port: 4420 });
        let answer = || {
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            loop {
                if let Some(ControlMail::Job(id, result)) = answers.take().pop_front() {
                    return (id, result);
                }
                assert!(std::time::Instant::now() < deadline, "no answer");
                std::thread::yield_now();
            }
        };
        assert_eq!(answer(), (JobId(2), JobResult::Resolved(vec![([127, 0, 0, 1], 4420).into()])));
        release.send(()).expect("it waits");
        assert_eq!(answer(), (JobId(1), JobResult::Done));
        jobs.start(JobId(3), Job::ConfirmOwner);
        drop(release);
        assert!(matches!(answer(), (JobId(3), JobResult::Failed(_))));
        drop(jobs);
        assert!(end.wait(Duration::from_secs(20)), "it ends with its sender");
    }
}
