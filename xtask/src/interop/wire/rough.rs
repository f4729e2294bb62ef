//! Wires that are bad but not dead.

use super::Wire;
use super::host::monotonic;
use super::net::{Fault, Place};
use super::world::{Offers, OurHost, World};
use crate::interop::wait;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

const CALM: Duration = Duration::from_millis(1500);
const ROUGH: Duration = Duration::from_secs(8);
const BACK: Duration = Duration::from_secs(60);
/// As Linux and we have it by default.
const KATO: Duration = Duration::from_secs(5);

/// Ends the load; no life may have been lost.
fn unharmed(mut host: OurHost) -> Result<Value> {
    let done = host.stop()?;
    let lost = host.count("lost");
    host.verify_again()?;
    host.end()?;
    ensure!(lost == 0, "{lost} lives were lost on a wire that is bad, not dead");
    ensure!(done["unknown"] == 0, "the outcome of {} writes is unknown", done["unknown"]);
    Ok(done)
}

pub(super) fn loss(bench: &mut Wire) -> Result<String> {
    let mut world = World::new(&bench.setup, "loss", Offers::Time)?;
    let mut host = world.host(KATO, &[])?;
    wait::pass(CALM);
    host.tell("phase during")?;
    world.net.hurt(&[Fault::Loss(1)])?;
    let began = monotonic();
    wait::pass(ROUGH);
    let ended = monotonic();
    let done = unharmed(host)?;
    let [sent, arrived] = world.captured()?;
    let during = |capture: &super::capture::Capture| {
        capture.payload().filter(|segment| (began..ended).contains(&segment.at)).count()
    };
    let (left, got) = (during(&sent), during(&arrived));
    let lost = left.saturating_sub(got);
    ensure!(lost > 0, "none of {left} segments was lost: the case has shown nothing");
    Ok(format!("{lost} of {left} segments lost; {} writes, longest {} ms", done["writes"], done["longest_ms"]))
}

pub(super) fn delay(bench: &mut Wire) -> Result<String> {
    let mut world = World::new(&bench.setup, "delay", Offers::Time)?;
    let slow = world.net.delay(200)?;
    let host = world.host(KATO, &[])?;
    wait::pass(ROUGH);
    let done = unharmed(host)?;
    world.net.no_delay(slow)?;
    world.captured()?;
    let longest = done["longest_ms"].as_u64().unwrap_or_default();
    ensure!(longest >= 400, "the longest request took {longest} ms: there was no delay");
    Ok(format!("{} writes, longest {longest} ms", done["writes"]))
}

pub(super) fn mtu(bench: &mut Wire) -> Result<String> {
    let mut world = World::new(&bench.setup, "mtu-drop", Offers::Time)?;
    let host = world.host(KATO, &[])?;
    wait::pass(CALM);
    // By its routes, not its interfaces: a veth drops what is larger than its own MTU without a word.
    let routes = "set -e
        ip route replace 10.77.3.0/24 dev ta src 10.77.3.254 mtu lock 1280
        ip route replace 10.77.1.0/24 dev ha src 10.77.1.254 mtu lock 1280";
    world.net.run(Place::Router, routes)?;
    let narrowed = monotonic();
    wait::pass(ROUGH);
    let done = unharmed(host)?;
    let [_, arrived] = world.captured()?;
    // Ethernet does not count; IP and TCP headers are at least 40 bytes.
    let after = arrived.payload().filter(|segment| segment.at > narrowed + 100_000_000).map(|segment| segment.len);
    let (largest, bytes) = after.fold((0, 0_u64), |(largest, bytes), len| (len.max(largest), bytes + u64::from(len)));
    ensure!(bytes > 1 << 20, "only {bytes} bytes went through the narrow wire");
    ensure!(largest <= 1240, "a segment of {largest} bytes went through it");
    Ok(format!("{} KiB in segments of {largest} bytes at most; {} writes", bytes >> 10, done["writes"]))
}

pub(super) fn black_hole(bench: &mut Wire) -> Result<String> {
    let mut world = World::new(&bench.setup, "mtu-black-hole", Offers::Time)?;
    let mut host = world.host(KATO, &["--io-timeout", "3000"])?;
    wait::pass(CALM);
    host.tell("phase during")?;
    world.net.hurt(&[Fault::Above(1280)])?;
    let began = monotonic();
    // Keep Alive goes through: it is the age of the commands, and bytes that nobody acknowledges, that tell.
    let lost = host.wait_a("lost", BACK, began).context("nobody noticed that large packets vanish")?;
    let receipt = host.wait_a("fenced", BACK, began)?;
    wait::pass(CALM);
    world.net.heal()?;
    let healed = monotonic();
    let back = host.wait_a("life", BACK, began)?;
    host.tell("phase after")?;
    wait::pass(CALM);
    let done = host.stop()?;
    host.verify_again()?;
    host.end()?;
    world.captured()?;
    let when = |line: &Value| super::world::at(line).saturating_sub(began) / 1_000_000;
    Ok(format!(
        "noticed after {} ms, {} in doubt, fenced by {}, back after {} ms (healed after {} ms), {} writes",
        when(&lost),
        receipt["in_doubt"],
        receipt["method"].as_str().unwrap_or_default(),
        when(&back),
        (healed - began) / 1_000_000,
        done["writes"]
    ))
}
