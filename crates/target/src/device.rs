//! What a block device is, whatever it is called at present.
//!
//! `/dev/sdb` may be another disk after the next start, and the same disk has other names in `/dev/disk`. The kernel says in sysfs by
//! what a disk calls itself: a World Wide Name, an identifier of what it is made of, a serial number.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where the kernel keeps what it knows of block devices, by their numbers.
const BLOCK_DEVICES: &str = "/sys/dev/block";

/// What names a device for good, the best first. A device has what its driver offers of them.
const NAMES: [&str; 6] = ["dm/uuid", "md/uuid", "wwid", "device/wwid", "device/cid", "serial"];

/// What a block device is; nothing if `path` is none, or the kernel cannot say.
pub(crate) fn name(path: &Path) -> Option<String> {
    let number = fs::metadata(path).ok()?.rdev();
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    name_in(Path::new(BLOCK_DEVICES), &number)
}

fn name_in(devices: &Path, number: &str) -> Option<String> {
    let device = fs::canonicalize(devices.join(number)).ok()?;
    match read(&device, "partition") {
        Some(part) => Some(format!("{}:part{part}", whole(device.parent()?)?)),
        None => whole(&device),
    }
}

/// What a disk as a whole is.
fn whole(disk: &Path) -> Option<String> {
    let named = NAMES.iter().find_map(|name| Some(format!("{}={}", name.replace('/', "."), read(disk, name)?)));
    // It is a piece of a file.
    let of_file = || Some(format!("loop={}@{}", read(disk, "loop/backing_file")?, read(disk, "loop/offset")?));
    named.or_else(of_file)
}

/// What the kernel says there, if it says anything.
fn read(device: &Path, what: &str) -> Option<String> {
    let text = fs::read_to_string(device.join(what)).ok()?;
    let text = text.trim();
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A device: its number, its place below the folder of all, and what is said there.
    type Device<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    /// A sysfs with these devices.
    fn sysfs(name: &str, devices: &[Device<'_>]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("interlock-device-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for (number, place, says) in devices {
            let device = folder.join("devices").join(place);
            for (what, text) in *says {
                let file = device.join(what);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, format!("{text}\n")).unwrap();
            }
            fs::create_dir_all(&device).unwrap();
            fs::create_dir_all(folder.join("block")).unwrap();
            std::os::unix::fs::symlink(&device, folder.join("block").join(number)).unwrap();
        }
        folder
    }

    #[test]
    fn a_device_is_what_it_calls_itself_and_not_its_number() {
        let one: &[(&str, &str)] = &[("device/wwid", "naa.5000000000000001"), ("device/model", "disk")];
        let two: &[(&str, &str)] = &[("device/wwid", "naa.5000000000000002"), ("device/model", "disk")];
        let before = sysfs("before", &[("8:16", "sdb", one), ("8:32", "sdc", two)]);
        let after = sysfs("after", &[("8:16", "sdb", two), ("8:32", "sdc", one)]);
        let name = |folder: &Path, number| name_in(&folder.join("block"), number).unwrap();
        assert_eq!(name(&before, "8:16"), "device.wwid=naa.5000000000000001");
        assert_eq!((name(&before, "8:16"), name(&before, "8:32")), (name(&after, "8:32"), name(&after, "8:16")));
        fs::remove_dir_all(before).unwrap();
        fs::remove_dir_all(after).unwrap();
    }

    #[test]
    fn partitions_differ_and_what_says_nothing_has_no_name() {
        let folder = sysfs(
            "kinds",
            &[
                ("259:0", "nvme0n1", &[("wwid", "eui.0025"), ("serial", "S1")]),
                ("259:1", "nvme0n1/nvme0n1p1", &[("partition", "1")]),
                ("259:2", "nvme0n1/nvme0n1p2", &[("partition", "2")]),
                ("254:0", "vda", &[("serial", "")]),
                ("254:1", "vda/vda1", &[("partition", "1")]),
                ("254:16", "vdb", &[("serial", "disk-7")]),
                ("253:0", "dm-0", &[("dm/uuid", "LVM-abc")]),
                ("7:0", "loop0", &[("loop/backing_file", "/srv/disk.img"), ("loop/offset", "4096")]),
                ("7:1", "loop1", &[]),
            ],
        );
        let name = |number| name_in(&folder.join("block"), number);
        assert_eq!(name("259:0").as_deref(), Some("wwid=eui.0025"));
        assert_eq!(name("259:1").as_deref(), Some("wwid=eui.0025:part1"));
        assert_eq!(name("259:2").as_deref(), Some("wwid=eui.0025:part2"));
        assert_eq!(name("254:16").as_deref(), Some("serial=disk-7"));
        assert_eq!(name("253:0").as_deref(), Some("dm.uuid=LVM-abc"));
        assert_eq!(name("7:0").as_deref(), Some("loop=/srv/disk.img@4096"));
        assert_eq!((name("254:0"), name("254:1"), name("7:1"), name("1:1")), (None, None, None, None));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(super::name(Path::new("/no/such/device")), None);
    }
}
