//! The host that is killed: a process of its own that says what it does, before and after.
//!
//! Each line is written before the next thing is done, so that whoever kills it knows of every write that may be under
//! way: `found SLOT GENERATION` for what it reads at first, `ready`, then `write SLOT GENERATION` before a write is
//! submitted and `done SLOT GENERATION` after its answer.

use super::super::target::NQN;
use super::{NSID, SLOT_BLOCKS, SLOTS};
use anyhow::{Context, Result, bail, ensure};
use interlock_host::{
    Completions, ControllerSpec, FileStore, Host, HostId, HostSettings, Nqn, Op, Outcome, Pool, PoolConfig,
};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Requests in flight.
const DEPTH: usize = 16;

/// Longer than a hold by time.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Runs it: `DIRECTORY FIRST-GENERATION PORT PORT`. It ends in order when its standard input does.
///
/// # Errors
/// If anything is not as it must be.
pub fn main(mut args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let dir = args.next().context("which directory?")?;
    let first: u32 = args.next().context("which generation?")?.parse()?;
    let ports = args.map(|port| port.parse()).collect::<Result<Vec<u16>, _>>()?;
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    std::thread::spawn(move || {
        // An error is an end too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    // One identity for all of them: each is the successor of the one before.
    let hostid = HostId(*b"killed fifty..x.");
    let settings = HostSettings { hostnqn: Nqn::of_host(hostid), hostid };
    let pool = Pool::new(PoolConfig { name: "killed".into(), ..PoolConfig::default() })?;
    let store = FileStore::open(Path::new(&dir), &settings)?;
    let host = Host::start_with(pool.reactors(), settings, Box::new(store))?;
    for port in ports {
        let mut spec = ControllerSpec::new("127.0.0.1", port, Nqn::new(NQN)?);
        spec.kato = Duration::from_secs(1);
        host.connect_and_wait(spec, Duration::from_secs(30))?;
    }
    // What is left afterwards are the lives of this process.
    host.wait_fenced(NQN, NSID, ANSWER_WITHIN)?;
    work(&host, first, &over)?;
    host.shutdown(Duration::from_secs(30))?;
    pool.shutdown(Duration::from_secs(10)).map_err(|why| anyhow::anyhow!("the reactors did not end: {why}"))?;
    Ok(ExitCode::SUCCESS)
}

fn work(host: &Host, first: u32, over: &AtomicBool) -> Result<()> {
    let namespace = host.namespace(NQN, NSID)?;
    let at = |slot: usize| slot as u64 * u64::from(SLOT_BLOCKS);
    let mut holds = Vec::new();
    for slot in 0..SLOTS {
        let (outcome, buf) = namespace.read(at(slot), SLOT_BLOCKS).wait();
        ensure!(outcome == Outcome::Ok, "the read of slot {slot} ended with {outcome:?}");
        let generation = generation(slot, buf.context("a read gives its buffer back")?.as_slice())?;
        holds.push(generation);
        say(&format!("found {slot} {generation}"))?;
    }
    say("ready")?;
    let queue = Completions::new();
    let mut flying: Vec<Option<Op>> = vec![None; SLOTS];
    let (mut generation_now, mut slot, mut count) = (first, 0, 0);
    loop {
        while count < DEPTH && !over.load(Ordering::Relaxed) {
            slot = (slot + 1) % SLOTS;
            if flying[slot].is_some() {
                continue;
            }
            let mut buf = namespace.buffer(SLOT_BLOCKS);
            generation_now += 1;
            let op = if generation_now.is_multiple_of(4) {
                Op::Read
            } else {
                fill(buf.get_mut().context("a fresh buffer has one holder")?, slot, generation_now);
                say(&format!("write {slot} {generation_now}"))?;
                holds[slot] = generation_now;
                Op::Write { fua: false }
            };
            flying[slot] = Some(op);
            count += 1;
            namespace.submit(op, at(slot), SLOT_BLOCKS, Some(buf), &queue, slot as u64);
        }
        if count == 0 {
            return Ok(());
        }
        let answer = queue.wait_until(Instant::now() + ANSWER_WITHIN).context("a request was never answered")?;
        let place = usize::try_from(answer.token)?;
        let op = flying[place].take().context("an answer that nobody waits for")?;
        count -= 1;
        ensure!(answer.outcome == Outcome::Ok, "{op:?} of slot {place} ended with {:?}", answer.outcome);
        match op {
            Op::Read => {
                let buf = answer.buf.context("a read gives its buffer back")?;
                let found = generation(place, buf.as_slice())?;
                ensure!(found == holds[place], "slot {place} holds {found}, {} was answered last", holds[place]);
            }
            _ => say(&format!("done {place} {}", holds[place]))?,
        }
    }
}

fn fill(bytes: &mut [u8], slot: usize, generation: u32) {
    for piece in bytes.chunks_exact_mut(16) {
        piece[..8].copy_from_slice(&u64::from(generation).to_le_bytes());
        piece[8..].copy_from_slice(&(slot as u64).to_le_bytes());
    }
}

/// The generation that a slot holds, 0 if it was never written.
fn generation(slot: usize, bytes: &[u8]) -> Result<u32> {
    let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes);
    let found = u32::try_from(word(0)?)?;
    let mut expected = vec![0; bytes.len()];
    if found > 0 {
        fill(&mut expected, slot, found);
    }
    match bytes.iter().zip(&expected).position(|(a, b)| a != b) {
        None => Ok(found),
        Some(at) => bail!("slot {slot} is torn or damaged at byte {at}: generation {found} in front"),
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
