//! What a clean machine needs before it can try anything: tools from its own packages, and the lab.

use super::root;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Programs, and the Debian packages that have them.
const TOOLS: [(&str, &str); 6] = [
    ("python3", "python3"),
    ("zstd", "zstd"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
];

/// Installs what is missing, if this is root, and builds the lab if there is none. What stays missing shows itself as
/// cases that are skipped.
pub(super) fn everything() -> Result<()> {
    let mut missing: Vec<&str> =
        TOOLS.into_iter().filter(|(tool, _)| !found(tool)).map(|(_, package)| package).collect();
    missing.dedup();
    if !Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
        missing.push("debian-archive-keyring");
    }
    let root_user = Command::new("id").arg("-u").output().context("id")?.stdout.trim_ascii() == b"0";
    if !missing.is_empty() && root_user && found("apt-get") {
        super::say(&format!("installing {}", missing.join(", ")))?;
        let apt = |args: &[&str]| {
            let mut command = Command::new("apt-get");
            command.args(["-q", "-y"]).args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
            // What is missing afterwards is told as the reason of a skip.
            command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        let install = [&["install", "--no-install-recommends"], &missing[..]].concat();
        if !apt(&install) && apt(&["update"]) {
            apt(&install);
        }
    }
    let lab = root().join("interop/lab");
    if found("python3") && !Command::new(&lab).arg("check").stdout(Stdio::null()).status()?.success() {
        super::say("no lab yet: building it, which takes minutes")?;
        match Command::new(&lab).arg("build").stdin(Stdio::null()).status()?.code() {
            // 77: it cannot be built here, and the cases will say why.
            Some(0 | 77) => {}
            status => bail!("interop/lab build ended with {status:?}"),
        }
    }
    Ok(())
}

/// True if there is such a program.
pub(super) fn found(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(tool).exists())
}
