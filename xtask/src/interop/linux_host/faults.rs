//! What breaks, and comes back.

use super::LinuxHost;
use crate::interop::{target::NQN, wait};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

pub(super) const LONG: Duration = Duration::from_secs(300);

/// How soon Linux tries again, in the cases that take something away.
pub(super) const SOON: &str = "--reconnect-delay=1 --ctrl-loss-tmo=120";

/// Starts verified load that takes a while; [`finish_load`] waits for it.
pub(super) fn start_load(bench: &LinuxHost, device: &str, iops: u32) -> Result<()> {
    let options = format!(
        "--rw=randwrite --bs=4k --size=16M --iodepth=8 --rate_iops={iops} --loops=1 --fsync=16 --verify_fatal=1"
    );
    bench.guest.sh(&format!(
        "rm -f /tmp/load.status
         ( verify {device} {options} >/tmp/load.log 2>&1; echo $? >/tmp/load.status ) &
         within 30 pgrep -x fio"
    ))?;
    Ok(())
}

pub(super) fn still_loaded(bench: &LinuxHost) -> Result<()> {
    bench.guest.sh("test ! -e /tmp/load.status").context("the load ended too early to show anything").map(drop)
}

pub(super) fn finish_load(bench: &LinuxHost) -> Result<()> {
    bench
        .guest
        .sh_within("within 240 test -e /tmp/load.status; cat /tmp/load.log; exit $(cat /tmp/load.status)", LONG)?;
    Ok(())
}

pub(super) fn port_away_and_back(bench: &mut LinuxHost) -> Result<String> {
    // The optimized port is the one in use, so it is the one that has to go.
    let first = bench.target.ports[0];
    bench.connect(1, SOON)?;
    bench.guest.sh(&format!("bridge 4421 {first}"))?;
    bench.connect_at("127.0.0.1", 4421, SOON)?;
    bench.namespaces()?;
    start_load(bench, "/dev/ns/2", 400)?;
    let rounds = bench.setup.times(1, 2);
    for _ in 0..rounds {
        bench.guest.sh("within 10 live 2; unbridge 4421; within 30 live 1")?;
        still_loaded(bench)?;
        bench.guest.sh(&format!("bridge 4421 {first}; within 60 live 2"))?;
    }
    still_loaded(bench)?;
    finish_load(bench)?;
    Ok(format!("{rounds} times away and back"))
}

pub(super) fn dead_wire(bench: &mut LinuxHost) -> Result<String> {
    let first = bench.target.ports[0];
    let fast = format!("-k 5 {SOON}");
    bench.connect(0, &fast)?;
    bench.connect(1, &fast)?;
    bench.namespaces()?;
    start_load(bench, "/dev/ns/1", 250)?;
    wait::pass(Duration::from_secs(1));
    // Port 0 is the optimized one: the load is on it.
    let rules = format!(
        "modprobe nf_tables
         nft add table ip wire &&
         nft 'add chain ip wire out {{ type filter hook output priority 0; }}' &&
         nft 'add chain ip wire in {{ type filter hook input priority 0; }}' &&
         nft add rule ip wire out tcp dport {first} drop && nft add rule ip wire in tcp sport {first} drop"
    );
    bench.guest.sh(&rules)?;
    bench.guest.sh_within("within 60 live 1", LONG).context("keep alive never gave the dead path up")?;
    bench.target.wait_said(bench.log_from, " lost: ", Duration::from_secs(60))?;
    let healed = bench.guest.sh_within("nft delete table ip wire && within 90 live 2", LONG);
    healed.context("the healed path did not come back")?;
    finish_load(bench)?;
    Ok("given up by both sides, and back".into())
}

pub(super) fn target_killed(bench: &mut LinuxHost) -> Result<String> {
    bench.connect_both(SOON)?;
    start_load(bench, "/dev/ns/2", 300)?;
    // Beside it: one block after the other, durable before the next one is begun, noted when acknowledged.
    bench.guest.sh("cat >/tmp/journal.sh <<'X'
         i=0
         while [ ! -e /tmp/journal.stop ] && [ $i -lt 2000 ]; do
           i=$((i + 1))
           printf '%-4096s' \"entry $i\" >/tmp/entry
           dd if=/tmp/entry of=/dev/ns/2 bs=4096 seek=$((8192 + i)) oflag=direct,dsync conv=notrunc 2>/dev/null ||
             { echo lost >/tmp/journal.error; break; }
           echo $i >/tmp/journal.last
         done
         echo done >/tmp/journal.done
X
         rm -f /tmp/journal.stop /tmp/journal.error /tmp/journal.last /tmp/journal.done; setsid bash /tmp/journal.sh &
         within 20 test -e /tmp/journal.last")?;
    let kills = bench.setup.times(1, 3);
    for _ in 0..kills {
        wait::pass(Duration::from_secs(1));
        bench.target.kill()?;
        bench.guest.sh("within 30 live 0")?;
        bench.target.start()?;
        bench.guest.sh_within("within 90 live 2", LONG)?;
    }
    still_loaded(bench)?;
    finish_load(bench)?;
    let entries = bench.guest.sh_within(
        "touch /tmp/journal.stop; within 60 test -e /tmp/journal.done || exit 1
         [ ! -e /tmp/journal.error ] || { echo 'a durable write failed'; exit 2; }
         last=$(cat /tmp/journal.last)
         dd if=/dev/ns/2 of=/tmp/journal bs=4096 skip=8192 count=$((last + 1)) iflag=direct 2>/dev/null || exit 3
         tail -c +4097 /tmp/journal | tr -s ' ' '\\n' | grep -E '^[0-9]+$' >/tmp/found
         seq $last | cmp - /tmp/found || { diff <(seq $last) /tmp/found | head -5; exit 4; }
         echo $last",
        LONG,
    )?;
    Ok(format!("{kills} kills, {} acknowledged flushes all there", entries.trim()))
}

pub(super) fn host_frozen(bench: &mut LinuxHost) -> Result<String> {
    let fast = format!("-k 5 {SOON}");
    bench.connect(0, &fast)?;
    bench.connect(1, &fast)?;
    bench.namespaces()?;
    bench.guest.freeze()?;
    let lost = bench.target.wait_said(bench.log_from, "lost: KeepAlive", Duration::from_secs(40));
    // Still frozen: the target has to come to an end by itself.
    let quiesced = wait::for_some("the end of every life", Duration::from_secs(20), || {
        let said = bench.target_said()?;
        Ok((said.matches(" fenced by ").count() >= said.matches(" began").count()).then_some(()))
    });
    bench.guest.thaw()?;
    lost?;
    quiesced?;
    bench.guest.sh_within("within 90 live 2", LONG).context("the thawed host did not find its target again")?;
    let read = "dd if=/dev/ns/2 of=/dev/null bs=1M count=4 iflag=direct";
    bench.guest.sh(read)?;
    Ok("controllers ended and quiesced by keep alive, and back".into())
}

pub(super) fn reset_and_rescan(bench: &mut LinuxHost) -> Result<String> {
    bench.connect_both(SOON)?;
    bench.policy("queue-depth")?;
    start_load(bench, "/dev/ns/1", 400)?;
    let rounds = bench.setup.times(1, 3);
    for _ in 0..rounds {
        for ctrl in ["nvme0", "nvme1"] {
            bench.guest.sh(&format!("nvme reset /dev/{ctrl} && within 60 live 2 && nvme ns-rescan /dev/{ctrl}"))?;
        }
    }
    still_loaded(bench)?;
    finish_load(bench)?;
    Ok(format!("{} resets, {} rescans", rounds * 2, rounds * 2))
}

pub(super) fn connect_storm(bench: &mut LinuxHost) -> Result<String> {
    let times = bench.setup.times(10, 100);
    let port = bench.target.ports[0];
    let round = |count: u32| {
        format!(
            "for i in $(seq {count}); do
               nvme connect -t tcp -a 10.0.2.2 -s {port} -n {NQN} -k 30 >/dev/null || exit 1
               nvme disconnect -n {NQN} >/dev/null || exit 2
             done"
        )
    };
    // What is kept for reuse is there after a few.
    bench.guest.sh_within(&round(times / 10 + 5), LONG)?;
    settled(bench)?;
    let (memory, files) = bench.target.size()?;
    bench.guest.sh_within(&round(times), LONG)?;
    settled(bench)?;
    let (memory_after, files_after) = bench.target.size()?;
    ensure!(files_after <= files, "{files} open files became {files_after}");
    let grown = memory_after.saturating_sub(memory);
    // A controller with its queues is a hundred KiB and more: this is less than one in ten.
    ensure!(grown < u64::from(times) * 10 + 1024, "{memory} KiB became {memory_after} KiB after {times} connects");
    Ok(format!("{times} times; memory {memory} -> {memory_after} KiB, open files {files} -> {files_after}"))
}

/// Every connection that the target accepted in this case has ended, and every life is fenced.
fn settled(bench: &LinuxHost) -> Result<()> {
    wait::for_some("the end of every connection", Duration::from_secs(30), || {
        let said = bench.target_said()?;
        let count = |text: &str| said.matches(text).count();
        let over = count(" accepted") == count(" ended: ") && count(" began") <= count(" fenced by ");
        Ok(over.then_some(()))
    })
}
