//! Hosts that come, do what they came for and go without a word, as a measuring tool does.

use super::Foreign;
use super::host::{Association, Identity, Queue};
use crate::interop::wait;
use anyhow::{Context, Result, ensure};
use interlock_wire::admin::Identify;
use interlock_wire::nqn::HostId;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Hosts that are connected at once.
const AT_ONCE: u8 = 8;

/// I/O queues of each.
const QUEUES: u16 = 4;

pub(super) fn quick(bench: &mut Foreign) -> Result<String> {
    let rounds = bench.setup.times(15, 150);
    // Somebody else, with a name: it is not to notice.
    let mut other = Association::open(bench.target.ports[1], &Identity::named(9)?, Duration::from_secs(2))?;
    let mut queue = other.queue(1)?;
    come_and_go(bench, 0)?;
    let before = alone(bench)?;
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    for round in 0..rounds {
        come_and_go(bench, round)?;
        let asked = Instant::now();
        queue.write(500, round as u8)?;
        queue.verify(500, round as u8)?;
        other.keep_alive()?;
        longest = longest.max(asked.elapsed());
    }
    let took = begun.elapsed();
    let after = alone(bench)?;
    ensure!(before == after, "{before} descriptors became {after}");
    Ok(format!(
        "{} hosts without a name in {:.1} s, another one waited for {longest:?} at most, {after} descriptors",
        rounds * u32::from(AT_ONCE),
        took.as_secs_f64()
    ))
}

/// Several hosts at once, each of which ends in another order.
fn come_and_go(bench: &Foreign, round: u32) -> Result<()> {
    std::thread::scope(|scope| {
        let hosts: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let port = bench.target.ports[0];
                scope.spawn(move || one(port, number, round).with_context(|| format!("host {number}, round {round}")))
            })
            .collect();
        hosts.into_iter().try_for_each(|host| host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn one(port: u16, number: u8, round: u32) -> Result<()> {
    let mut id = [number + 1; 16];
    id[..4].copy_from_slice(&round.to_le_bytes());
    let identity = Identity { nqn: None, id: HostId(id) };
    // SPDK's default is 10 s; some ask for none.
    let kato = if number.is_multiple_of(2) { Duration::from_secs(10) } else { Duration::ZERO };
    let mut association = Association::open(port, &identity, kato)?;
    association.admin.get(Identify::Controller.to_sqe(), &[], 4096)?;
    association.ask_for_event()?;
    let mut queues = (1..=QUEUES).map(|qid| association.queue(qid)).collect::<Result<Vec<Queue>>>()?;
    for queue in &mut queues {
        for _ in 0..4 {
            queue.verify(1000, 0)?;
        }
    }
    match number % 4 {
        // The admin queue first, the queues first, all at once in order, and with something unread, which resets.
        0 => drop((association, queues)),
        1 => drop((queues, association)),
        2 => queues.into_iter().try_for_each(Queue::finish)?,
        _ => {
            for queue in &mut queues {
                queue.submit(interlock_wire::nvm::Command::Flush.to_sqe(super::host::NSID), &[], 0)?;
            }
        }
    }
    Ok(())
}

/// Waits until only one association is left, and everything of the others is over; answers the target's descriptors.
fn alone(bench: &Foreign) -> Result<u64> {
    let status = wait::for_some("the end of the last of them", Duration::from_secs(20), || {
        let status = bench.target.status()?;
        let count = |key: &str| status[key].as_array().map_or(0, Vec::len);
        let rest = (count("connections"), count("controllers"), count("lives"));
        Ok((rest == (2, 1, 1)).then_some(status))
    })?;
    let number = |key: &str| status["memory"][key].as_u64().with_context(|| format!("{key} in {status}"));
    ensure!(number("inside")? == 0, "{}", Value::to_string(&status["memory"]));
    number("descriptors")
}
