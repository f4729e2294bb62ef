//! Data.

use super::LinuxHost;
use crate::interop::Skip;
use anyhow::{Result, anyhow, ensure};
use std::time::Duration;

/// fio in an emulated machine.
const LONG: Duration = Duration::from_secs(300);

pub(super) fn plain(bench: &mut LinuxHost) -> Result<String> {
    verify_all(bench, "")
}

pub(super) fn digests(bench: &mut LinuxHost) -> Result<String> {
    verify_all(bench, "-g -G")
}

fn verify_all(bench: &LinuxHost, more: &str) -> Result<String> {
    // A policy chooses among paths that are equally good.
    for group in ["1", "2"] {
        bench.target.ctl(&["ana", "1", "optimized", "--group", group])?;
    }
    bench.connect_both(more)?;
    for nsid in ["1", "2"] {
        bench.guest.sh(&format!("within 30 ana {nsid} 'optimized optimized'"))?;
    }
    let mib = bench.setup.times(2, 16);
    let mut runs = 0;
    let mut shares = Vec::new();
    for policy in ["numa", "round-robin", "queue-depth"] {
        bench.policy(policy)?;
        for (device, sizes) in [("1", "512-96k"), ("2", "4k-256k")] {
            let before = carried(bench, device)?;
            let options = format!("--rw=randwrite --bsrange={sizes} --size={mib}M --iodepth=16");
            bench.guest.sh_within(&format!("verify /dev/ns/{device} {options}"), LONG)?;
            let after = carried(bench, device)?;
            let both = [after[0] - before[0], after[1] - before[1]];
            let (most, least) = (both[0].max(both[1]), both[0].min(both[1]));
            ensure!(most > 0, "{policy}: no path of namespace {device} carried anything");
            match policy {
                "numa" => ensure!(least == 0, "numa: both paths of namespace {device} were used: {both:?}"),
                _ => ensure!(least > 0, "{policy}: one path of namespace {device} carried everything: {both:?}"),
            }
            if device == "1" {
                shares.push(format!("{policy} {}:{}", both[0], both[1]));
            }
            runs += 1;
        }
    }
    // Several jobs at once on their own parts, reading and writing; and pieces that no page boundary fits.
    let jobs = format!("--rw=randrw --bs=4k --size={mib}M --numjobs=3 --offset_increment={mib}M --iodepth=8");
    bench.guest.sh_within(&format!("verify /dev/ns/2 {jobs}"), LONG)?;
    let odd = "--rw=randwrite --bs=1536 --bs_unaligned=0 --size=2M --iodepth=4";
    bench.guest.sh_within(&format!("verify /dev/ns/1 {odd}"), LONG)?;
    let large = format!("--rw=write --bs=1M --size={}M --iodepth=4", 2 * mib);
    bench.guest.sh_within(&format!("verify /dev/ns/2 {large}"), LONG)?;
    Ok(format!("{} runs, {mib} MiB each; requests per path: {}", runs + 3, shares.join(", ")))
}

/// Requests that each of the two paths of a namespace has carried, by the kernel's own count.
fn carried(bench: &LinuxHost, nsid: &str) -> Result<[u64; 2]> {
    let said = bench.guest.sh(&format!("path_requests {nsid}"))?;
    let counts: Vec<u64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    <[u64; 2]>::try_from(counts).map_err(|counts| anyhow!("namespace {nsid} has not two paths: {counts:?}"))
}

pub(super) fn trim(bench: &mut LinuxHost) -> Result<String> {
    bench.connect_both("")?;
    for device in ["1", "2"] {
        // Three MiB of noise; the middle one is taken away, by each way in turn.
        for (what, flag) in [("discard", ""), ("write zeroes", "-z")] {
            bench.guest.sh(&format!(
                "d=/dev/ns/{device}
                 head -c 3M /dev/urandom >/tmp/noise
                 dd if=/tmp/noise of=$d bs=1M oflag=direct 2>/dev/null || exit 1
                 blkdiscard {flag} -o 1M -l 1M $d || exit 2
                 dd if=$d of=/tmp/back bs=1M count=3 iflag=direct 2>/dev/null || exit 3
                 cmp -n 1M /tmp/noise /tmp/back || exit 4
                 cmp -n 1M -i 2M /tmp/noise /tmp/back || exit 5
                 cmp -n 1M -i 1M:0 /tmp/back /dev/zero || exit 6
                 : {what}"
            ))?;
        }
        bench.guest.sh(&format!("blkdiscard /dev/ns/{device} && blkdiscard -z /dev/ns/{device}"))?;
    }
    Ok("parts and whole devices".into())
}

pub(super) fn file_system(bench: &mut LinuxHost) -> Result<String> {
    if bench.guest.run("type -P mkfs.ext4 fsck.ext4", LONG)?.status != 0 {
        return Err(Skip("the guest was built without e2fsprogs: build it again".into()).into());
    }
    bench.connect_both("-g -G")?;
    bench.policy("round-robin")?;
    for device in ["1", "2"] {
        bench.guest.sh_within(
            &format!(
                "d=/dev/ns/{device}
                 mkfs.ext4 -q $d && mount -o discard $d /mnt || exit 1
                 verify /mnt/file --rw=randwrite --bs=4k --size=8M --iodepth=16 --fsync=32 || exit 2
                 for i in $(seq 200); do echo $i >/mnt/$i; done; rm /mnt/*7
                 fstrim /mnt && sha256sum /mnt/file >/tmp/sum && umount /mnt || exit 3
                 fsck.ext4 -fn $d || exit 4
                 mount $d /mnt && sha256sum -c /tmp/sum && umount /mnt"
            ),
            LONG,
        )?;
    }
    let said = bench.target_said()?;
    ensure!(!said.contains("lost: "), "a controller was lost: {said}");
    Ok("ext4 on both namespaces, fsck clean".into())
}
