//! What an operator changes at our target while Linux is connected.

use super::LinuxHost;
use super::faults::{LONG, SOON, finish_load, start_load, still_loaded};
use crate::interop::wait;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// Waits until the kernel sees a namespace in these ANA states, sorted, one for each port.
fn sees(bench: &LinuxHost, nsid: u32, states: &str) -> Result<()> {
    bench.guest.sh(&format!("within 30 ana {nsid} '{states}'")).map(drop).with_context(|| {
        let seen = bench.guest.sh(&format!("ana_states {nsid}")).unwrap_or_default();
        format!("namespace {nsid} is not seen as {states}, but as {}", seen.trim())
    })
}

pub(super) fn ana_change(bench: &mut LinuxHost) -> Result<String> {
    bench.connect_both(SOON)?;
    start_load(bench, "/dev/ns/1", 150)?;
    // One step after the other, so that there is always a path that may be used: I/O moves to the other port, back, and
    // through a change that ends.
    let steps = [
        ("1", "optimized", "optimized optimized"),
        ("0", "inaccessible", "inaccessible optimized"),
        ("0", "optimized", "optimized optimized"),
        ("1", "inaccessible", "inaccessible optimized"),
        ("1", "optimized", "optimized optimized"),
        ("0", "change", "change optimized"),
        ("0", "non-optimized", "non-optimized optimized"),
        ("0", "optimized", "optimized optimized"),
        ("1", "non-optimized", "non-optimized optimized"),
    ];
    for (port, state, seen) in steps {
        bench.target.ctl(&["ana", port, state])?;
        sees(bench, 1, seen)?;
        // The other group is as it was.
        sees(bench, 2, "non-optimized optimized")?;
    }
    still_loaded(bench)?;
    finish_load(bench)?;
    bench.guest.sh("live 2").context("an ANA change is no reason to lose a controller")?;
    let said = bench.target_said()?;
    ensure!(!said.contains("lost: "), "a controller was lost: {}", crate::interop::guest::tail(&said));
    Ok(format!("{} changes of group 1 under load, group 2 untouched", steps.len()))
}

pub(super) fn namespace_events(bench: &mut LinuxHost) -> Result<String> {
    bench.connect_both("")?;
    start_load(bench, "/dev/ns/1", 150)?;
    let (before, after) = (32 << 20, 48 << 20);
    bench.target.ctl(&["namespace", "add", &format!("mem:{before}"), "--nsid", "3", "--ana-group", "2"])?;
    bench.guest.sh("namespaces 3").context("the added namespace was not seen")?;
    sees(bench, 3, "non-optimized optimized")?;
    bench.guest.sh(&format!("within 30 size_is 3 {before}"))?;
    bench.guest.sh_within("verify /dev/ns/3 --rw=randwrite --bs=4k --size=2M --iodepth=8", LONG)?;
    bench.target.ctl(&["namespace", "resize", "3", &after.to_string()])?;
    bench.guest.sh(&format!("within 30 size_is 3 {after}")).context("the new size was not seen")?;
    let tail = format!("--rw=write --bs=64k --offset={before} --size={} --iodepth=4", after - before);
    bench.guest.sh_within(&format!("verify /dev/ns/3 {tail}"), LONG).context("the new blocks")?;
    bench.target.ctl(&["namespace", "remove", "3"])?;
    bench.guest.sh("gone() { ! link 3; }; within 30 gone").context("the removed namespace is still there")?;
    still_loaded(bench)?;
    finish_load(bench)?;
    bench.guest.sh("live 2")?;
    Ok(format!("added with {before} bytes, resized to {after}, removed; load on another one went on"))
}

pub(super) fn port_closed_and_opened(bench: &mut LinuxHost) -> Result<String> {
    bench.connect_both(SOON)?;
    start_load(bench, "/dev/ns/1", 300)?;
    let rounds = bench.setup.times(1, 2);
    for _ in 0..rounds {
        // The optimized port is the one in use.
        bench.target.ctl(&["port", "close", "0"])?;
        bench.guest.sh("within 30 live 1")?;
        wait::pass(Duration::from_secs(2));
        bench.target.ctl(&["port", "open", "0"])?;
        bench.guest.sh_within("within 60 live 2", LONG)?;
    }
    still_loaded(bench)?;
    finish_load(bench)?;
    Ok(format!("{rounds} times closed and opened by `interlock target ctl`"))
}
