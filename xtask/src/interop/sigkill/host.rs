//! The host is killed, and its successor must fence what it left before it writes.

use super::super::wait;
use super::target::Victim;
use super::{SLOTS, Sigkill, TIMES, drawn};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// How long a successor may take until it is ready: a hold by time included.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What a slot may hold.
#[derive(Clone, Default)]
struct Slot {
    /// The last generation that was answered, or found by a successor.
    certain: u32,
    /// Later ones that were never answered.
    possible: BTreeSet<u32>,
}

/// One process of the host.
struct Killed {
    child: Child,
    lines: Receiver<String>,
}

impl Killed {
    fn start(dir: &Path, first: u32, ports: [u16; 2]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("sigkill-child").arg(dir).arg(first.to_string()).args(ports.map(|port| port.to_string()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// What it found, in the order of the slots.
    fn found(&mut self) -> Result<Vec<u32>> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut found = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else { bail!("it is not ready: {}", self.complaint()) };
            match line.split_once(' ') {
                Some(("found", rest)) => found.push(pair(rest)?.1),
                _ if line == "ready" => return Ok(found),
                _ => bail!("it said `{line}` before it was ready"),
            }
        }
    }

    fn complaint(&mut self) -> String {
        // It is of no use any more.
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    /// Kills it; all that it said.
    fn kill(mut self) -> Result<Vec<String>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended by itself ({status}): {}", self.complaint());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.lines.iter().collect())
    }

    /// Lets it end in order; all that it said.
    fn end(mut self) -> Result<Vec<String>> {
        drop(self.child.stdin.take());
        let ended = wait::for_some("the end of the host", Duration::from_secs(60), || Ok(self.child.try_wait()?))?;
        ensure!(ended.success(), "the host ended with {ended}: {}", self.complaint());
        Ok(self.lines.iter().collect())
    }
}

fn pair(text: &str) -> Result<(usize, u32)> {
    let (slot, generation) = text.split_once(' ').context("slot and generation")?;
    Ok((slot.parse()?, generation.parse()?))
}

/// What the slots must hold after what a host said; how many writes were answered.
fn take_in(slots: &mut [Slot], lines: &[String]) -> Result<u64> {
    let mut answered = 0;
    for line in lines {
        // The last line may have been cut off by the kill: what it was to tell had not been done then.
        match line.split_once(' ') {
            Some(("write", rest)) => {
                if let Ok((slot, generation)) = pair(rest) {
                    slots[slot].possible.insert(generation);
                }
            }
            Some(("done", rest)) => {
                let (slot, generation) = pair(rest)?;
                slots[slot] = Slot { certain: generation, possible: BTreeSet::new() };
                answered += 1;
            }
            _ => {}
        }
    }
    Ok(answered)
}

fn compare(slots: &mut [Slot], found: &[u32]) -> Result<()> {
    ensure!(found.len() == slots.len(), "{} slots were found", found.len());
    for (place, (slot, found)) in slots.iter_mut().zip(found).enumerate() {
        ensure!(
            *found == slot.certain || slot.possible.contains(found),
            "slot {place} holds generation {found}, but {} was answered last ({:?} possible)",
            slot.certain,
            slot.possible
        );
        // From here on nothing older may come: the predecessor is fenced.
        *slot = Slot { certain: *found, possible: BTreeSet::new() };
    }
    Ok(())
}

pub(super) fn killed(bench: &mut Sigkill) -> Result<String> {
    let victim = Victim::start(&bench.setup.binary, bench.setup.dir.join("host"))?;
    let dir = bench.setup.dir.join("host").join("state");
    let times = bench.setup.times(TIMES.0, TIMES.1);
    let mut slots = vec![Slot::default(); SLOTS];
    let (mut answered, mut unanswered, mut slowest) = (0, 0, Duration::ZERO);
    // Generations of one process cannot meet those of another.
    let generations = |round: u32| round * 10_000_000;
    for round in 0..times {
        let since = Instant::now();
        let mut host = Killed::start(&dir, generations(round), victim.ports)?;
        let found = host.found().with_context(|| format!("process {round}"))?;
        slowest = slowest.max(since.elapsed());
        compare(&mut slots, &found).with_context(|| format!("process {round} finds"))?;
        // The ghosts of the process before try now, while this one writes.
        victim.tell(&["fault", "kind=release"])?;
        wait::pass(Duration::from_millis(drawn(round, 20, 150)));
        // Its last writes on one path stall inside the target.
        victim.tell(&["fault", "kind=hold-writes,port=0"])?;
        wait::pass(Duration::from_millis(drawn(round, 5, 60)));
        let said = host.kill().with_context(|| format!("process {round}"))?;
        // The successor's own writes are not held.
        victim.tell(&["fault", "kind=stop-holding,port=0"])?;
        answered += take_in(&mut slots, &said)?;
        unanswered += slots.iter().map(|slot| slot.possible.len() as u64).sum::<u64>();
    }
    // One more reads what the last one left, sees its ghosts try, and ends in order.
    let mut host = Killed::start(&dir, generations(times), victim.ports)?;
    compare(&mut slots, &host.found()?)?;
    victim.tell(&["fault", "kind=release"])?;
    wait::pass(Duration::from_millis(200));
    let said = host.end()?;
    answered += take_in(&mut slots, &said)?;
    let mut last = Killed::start(&dir, generations(times + 1), victim.ports)?;
    compare(&mut slots, &last.found()?)?;
    last.end()?;
    let log = victim.log()?;
    let (executed, stopped) = (log.matches("was EXECUTED").count(), log.matches("was stopped by").count());
    victim.end()?;
    ensure!(executed == 0, "{executed} held writes of a killed host were executed");
    ensure!(stopped > 0, "no held write was there to be stopped: nothing was shown");
    Ok(format!(
        "{times} kills, {answered} writes answered, {unanswered} not, {stopped} held writes tried later and all stopped, \
         slowest successor ready after {} ms",
        slowest.as_millis()
    ))
}
