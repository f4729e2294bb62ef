//! A wire that dies with writes queued on it, and a host that dies with it.

use super::Wire;
use super::capture::{Capture, Flow};
use super::host::{BLOCKS, monotonic};
use super::net::{Fault, TARGET};
use super::world::{KATO, NQN, Offers, OurHost, World, at};
use crate::interop::wait;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// Verified load before the wire dies, and after all is well again.
const CALM: Duration = Duration::from_millis(1500);
/// Noticed by Keep Alive.
const NOTICED: Duration = Duration::from_secs(20);
/// The hold is a few seconds; a machine may be busy.
const FENCED: Duration = Duration::from_secs(40);
const BACK: Duration = Duration::from_secs(60);
/// The longest that a request on the healthy wire may take, whatever happens on the other one.
const UNDISTURBED: Duration = Duration::from_secs(1);
/// 1 MiB of writes that the kernel was given. Fewer show less than what is claimed.
const IN_DOUBT_MIN: u64 = (1 << 20) / (512 * BLOCKS as u64);
/// With CCR the proof may come before the sockets are given up; they are, so long after the loss.
const LATE_GRACE: Duration = Duration::from_secs(1);

/// When the wire is healed: before, at or after the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heal {
    Before,
    At,
    After,
}

pub(super) fn out(bench: &mut Wire) -> Result<String> {
    dead(bench, "dead-out", Fault::Out, Heal::After, Offers::Time)
}

pub(super) fn back(bench: &mut Wire) -> Result<String> {
    dead(bench, "dead-back", Fault::Back, Heal::After, Offers::Time)
}

pub(super) fn healed_before(bench: &mut Wire) -> Result<String> {
    dead(bench, "dead-both-healed-before-fence", Fault::Both, Heal::Before, Offers::Time)
}

pub(super) fn healed_at(bench: &mut Wire) -> Result<String> {
    dead(bench, "dead-both-healed-at-fence", Fault::Both, Heal::At, Offers::Time)
}

pub(super) fn healed_after(bench: &mut Wire) -> Result<String> {
    dead(bench, "dead-both-healed-after-fence", Fault::Both, Heal::After, Offers::Time)
}

pub(super) fn ccr(bench: &mut Wire) -> Result<String> {
    dead(bench, "dead-both-ccr", Fault::Both, Heal::After, Offers::Ccr)
}

fn dead(bench: &Wire, case: &str, fault: Fault, heal: Heal, offers: Offers) -> Result<String> {
    let mut world = World::new(&bench.setup, case, offers)?;
    let mut host = world.host(KATO, &[])?;
    wait::pass(CALM);
    host.tell("phase during")?;
    world.net.hurt(&[fault])?;
    let cut = monotonic();
    host.wait_a("lost", NOTICED, cut)?;
    let t0 = match offers {
        Offers::Ccr => None,
        Offers::Time => {
            let hold = host.wait("hold", NOTICED, |line| at(line) >= cut)?;
            match heal {
                Heal::Before => world.net.heal()?,
                Heal::At => {
                    let deadline = hold["deadline"].as_u64().context("a hold has an end")?;
                    wait::pass(Duration::from_nanos(deadline.saturating_sub(monotonic())));
                    world.net.heal()?;
                }
                Heal::After => {}
            }
            Some(hold["t0"].as_u64().context("t0")?)
        }
    };
    let healed = monotonic();
    let receipt = host.wait_a("fenced", FENCED, cut)?;
    let fenced = at(&receipt);
    let healed_as_said = match heal {
        Heal::Before => healed < fenced,
        Heal::At => healed.abs_diff(fenced) < 1_000_000_000,
        Heal::After => true,
    };
    ensure!(healed_as_said, "healed {} ms from the fence", healed.abs_diff(fenced) / 1_000_000);
    let in_doubt = receipt["in_doubt"].as_u64().unwrap_or_default();
    ensure!(in_doubt >= IN_DOUBT_MIN, "only {in_doubt} writes were in doubt, {IN_DOUBT_MIN} are 1 MiB");
    let method = receipt["method"].as_str().unwrap_or_default().to_owned();
    let by = match offers {
        Offers::Ccr => ["Immediate", "Log"].contains(&method.as_str()),
        Offers::Time => method == "Time",
    };
    ensure!(by, "fenced by {method}");
    if heal == Heal::After {
        // The other wire has taken the writes over by now.
        wait::pass(CALM);
        world.net.heal()?;
    }
    host.wait_a("life", BACK, healed.max(cut)).context("the healed wire was not taken into use again")?;
    host.tell("phase after")?;
    wait::pass(CALM);
    let done = host.stop()?;
    host.verify_again()?;
    host.end()?;

    let [sent, arrived] = world.captured()?;
    let t0 = t0.unwrap_or(fenced + u64::try_from(LATE_GRACE.as_nanos())?);
    let old = old_flows(&sent, cut)?;
    let left = nothing_after(&sent, &arrived, &old, t0)?;
    let swallowed = swallowed(&sent, &arrived, &old, cut, fault)?;
    let beside = beside(&done)?;
    Ok(format!(
        "{in_doubt} in doubt, {swallowed}, {method}, held {} ms; after t0 {left}; beside p99 {beside}",
        receipt["held_ms"]
    ))
}

/// The host's connections over wire A that were there when it died.
fn old_flows(sent: &Capture, cut: u64) -> Result<Vec<Flow>> {
    let on_a = |flow: &Flow| flow.1.ip().to_string() == TARGET[0];
    let old: Vec<Flow> = sent.flows_before(cut).into_iter().filter(on_a).collect();
    ensure!(old.len() >= 2, "the capture shows {} connections on wire A: an admin and an I/O queue are two", old.len());
    Ok(old)
}

/// That no payload of these connections left the host after `t0`, and that what arrived later was under way by then.
fn nothing_after(sent: &Capture, arrived: &Capture, old: &[Flow], t0: u64) -> Result<String> {
    let late: Vec<u64> = sent.after(old, t0).map(|segment| segment.at - t0).collect();
    ensure!(
        late.is_empty(),
        "{} segments with payload left the host after t0, the last {} ms later",
        late.len(),
        late.iter().max().copied().unwrap_or_default() / 1_000_000
    );
    let (by_then, mut carried) = (sent.carried(t0), 0);
    for segment in arrived.after(old, t0) {
        ensure!(
            by_then.has(segment),
            "{} bytes arrived {} ms after t0, and had not left the host by then",
            segment.len,
            (segment.at - t0) / 1_000_000
        );
        carried += u64::from(segment.len);
    }
    Ok(format!("0 bytes sent, {carried} arrived"))
}

/// What the wire swallowed. A fault in which nothing was tried has shown nothing.
fn swallowed(sent: &Capture, arrived: &Capture, old: &[Flow], cut: u64, fault: Fault) -> Result<String> {
    let bytes = |capture: &Capture| capture.after(old, cut).map(|segment| u64::from(segment.len)).sum::<u64>();
    let (tried, got) = (bytes(sent), bytes(arrived));
    ensure!(tried > 0, "the host sent nothing into the dead wire");
    ensure!(fault == Fault::Back || got < tried, "the wire was not dead: {got} of {tried} bytes arrived");
    Ok(format!("{} of {} KiB swallowed", tried.saturating_sub(got) >> 10, tried >> 10))
}

/// What the healthy wire felt, in milliseconds.
fn beside(done: &Value) -> Result<String> {
    let phases = &done["beside"];
    for phase in super::host::PHASES {
        let figures = &phases[phase];
        let longest = figures["max"].as_u64().with_context(|| format!("nothing was measured {phase}: {done}"))?;
        ensure!(
            Duration::from_micros(longest) < UNDISTURBED,
            "a request on the healthy wire took {} ms ({phase}): {phases}",
            longest / 1000
        );
    }
    let p99 = |phase: &str| phases[phase]["p99"].as_f64().unwrap_or_default() / 1000.0;
    Ok(format!("{:.1} / {:.1} / {:.1} ms", p99("before"), p99("during"), p99("after")))
}

pub(super) fn blip(bench: &mut Wire) -> Result<String> {
    let mut world = World::new(&bench.setup, "blip", Offers::Time)?;
    let mut host = world.host(Duration::from_secs(10), &[])?;
    wait::pass(CALM);
    host.tell("phase during")?;
    world.net.hurt(&[Fault::Both])?;
    let cut = monotonic();
    wait::pass(Duration::from_secs(2));
    world.net.heal()?;
    host.tell("phase after")?;
    wait::pass(Duration::from_secs(6));
    let done = host.stop()?;
    let lost = host.count("lost");
    host.end()?;
    ensure!(lost == 0, "{lost} lives were lost to two seconds of silence");
    let [sent, arrived] = world.captured()?;
    let old = old_flows(&sent, cut)?;
    // What was lost was sent again: all of it arrives.
    let there = arrived.carried(u64::MAX);
    let missing = sent.after(&old, cut).filter(|segment| !there.has(segment)).count();
    ensure!(missing <= 1, "{missing} segments never arrived");
    ensure!(done["unknown"] == 0, "the outcome of {} writes is unknown", done["unknown"]);
    Ok(format!("{} writes, longest {} ms; beside p99 {}", done["writes"], done["longest_ms"], beside(&done)?))
}

/// SIGKILL, then a successor that fences, rewrites everything and looks twice.
fn succeed(world: &mut World, more: &[&str], killed: u64) -> Result<(OurHost, Value)> {
    let options = ["--generation", "1000000"];
    let mut host = world.host(KATO, &[&options, more].concat())?;
    let receipt = host.wait("fenced", FENCED, |line| at(line) > killed && line["subnqn"] == NQN)?;
    ensure!(receipt["method"] == "Time", "the predecessor was fenced by {}", receipt["method"]);
    Ok((host, receipt))
}

pub(super) fn killed(bench: &mut Wire) -> Result<String> {
    let mut facts = Vec::new();
    for (name, heal_first) in [("host-killed", false), ("host-killed-then-healed", true)] {
        let mut world = World::new(&bench.setup, name, Offers::Time)?;
        let host = world.host(KATO, &[])?;
        wait::pass(CALM);
        world.net.hurt(&[Fault::Both])?;
        let cut = monotonic();
        // Long enough that all that may be in flight is, and shorter than what it takes to notice.
        wait::pass(KATO / 4);
        let killed = host.kill(&world.net)?;
        if heal_first {
            world.net.heal()?;
        }
        let more: &[&str] = if heal_first { &[] } else { &["--first-dead"] };
        let (mut host, receipt) = succeed(&mut world, more, killed)?;
        if !heal_first {
            wait::pass(CALM);
            world.net.heal()?;
            host.wait_a("life", BACK, killed)?;
        }
        wait::pass(CALM);
        let done = host.stop()?;
        host.verify_again()?;
        host.end()?;
        let [sent, arrived] = world.captured()?;
        let old = old_flows(&sent, cut)?;
        let left = nothing_after(&sent, &arrived, &old, killed)?;
        let swallowed = swallowed(&sent, &arrived, &old, cut, Fault::Both)?;
        let when = if heal_first { "healed at once" } else { "healed after the fence" };
        let method = receipt["method"].as_str().unwrap_or_default();
        let after = (at(&receipt) - killed) / 1_000_000;
        facts.push(format!(
            "{when}: {swallowed}, {left} after the kill, fenced by {method} {after} ms later, {} rewritten",
            done["writes"]
        ));
    }
    Ok(facts.join("; "))
}

pub(super) fn killed_long_wire(bench: &mut Wire) -> Result<String> {
    let mut world = World::new(&bench.setup, "host-killed-long-wire", Offers::Time)?;
    let slow = world.net.delay(200)?;
    let host = world.host(Duration::from_secs(5), &["--io-timeout", "20000"])?;
    wait::pass(CALM * 2);
    let killed = host.kill(&world.net)?;
    wait::pass(Duration::from_secs(1));
    world.net.no_delay(slow)?;
    let (mut host, receipt) = succeed(&mut world, &[], killed)?;
    wait::pass(CALM);
    let done = host.stop()?;
    host.verify_again()?;
    host.end()?;
    let [sent, arrived] = world.captured()?;
    let old = old_flows(&sent, killed)?;
    let left = nothing_after(&sent, &arrived, &old, killed)?;
    let late = arrived.after(&old, killed).count();
    ensure!(late > 0, "nothing was under way when the host was killed: the case has shown nothing");
    let method = receipt["method"].as_str().unwrap_or_default();
    Ok(format!("{left} after the kill, all of it under way before; fenced by {method}, {} rewritten", done["writes"]))
}
