//! A guest with a real kernel, and steps that run in it as root.

use super::{root, wait};
use anyhow::{Context, Result, bail, ensure};
use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A boot is some ten seconds of processor time; a busy machine makes minutes of it.
const BOOT_WITHIN: Duration = Duration::from_secs(240);
/// The whole life of a guest. A step that hangs must not hang the run.
const LIFETIME: Duration = Duration::from_secs(3600);
const END_WITHIN: Duration = Duration::from_secs(30);

/// `interop/lab`'s word for "cannot be tried here".
const SKIP: i32 = 77;

fn lab() -> PathBuf {
    root().join("interop/lab")
}

/// Why no guest can be booted on this machine, if so.
pub(super) fn unavailable() -> Result<Option<String>> {
    let output = match Command::new(lab()).arg("check").stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(why) => return Ok(Some(format!("interop/lab cannot be run (it needs Python 3): {why}"))),
    };
    match output.status.code() {
        Some(0) => Ok(None),
        Some(SKIP) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())),
        _ => bail!("interop/lab check failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// A running guest. Dropping it ends it.
pub(super) struct Guest {
    lab: RefCell<Child>,
    share: PathBuf,
    steps: AtomicU32,
}

/// How a step ended.
pub(super) struct Output {
    pub(super) status: i32,
    pub(super) text: String,
}

impl Guest {
    /// Boots. `forwards` lead from ports of 127.0.0.1 to ports of the guest.
    pub(super) fn boot(dir: &Path, forwards: &[(u16, u16)]) -> Result<Self> {
        let share = dir.join("share");
        fs::create_dir_all(share.join("guest"))?;
        for name in ["agent", "functions", "nvmet"] {
            fs::copy(root().join("interop/guest").join(name), share.join("guest").join(name))?;
        }
        let mut command = Command::new(lab());
        command.args(["run", "--with-parent", "--share"]).arg(&share);
        command.arg("--timeout").arg(LIFETIME.as_secs().to_string());
        command.arg("--pid-file").arg(dir.join("qemu.pid")).arg("--console").arg(dir.join("console.log"));
        for (outside, inside) in forwards {
            command.arg("--forward").arg(format!("{outside}:{inside}"));
        }
        command.arg(share.join("guest/agent")).stdin(Stdio::null());
        command.stdout(File::create(dir.join("lab.out"))?).stderr(File::create(dir.join("lab.err"))?);
        let guest =
            Self { lab: RefCell::new(command.spawn().context("interop/lab")?), share, steps: AtomicU32::new(0) };
        let ready = guest.share.join("out");
        wait::for_some("the guest's boot", BOOT_WITHIN, || {
            guest.alive().with_context(|| fs::read_to_string(dir.join("lab.err")).unwrap_or_default())?;
            Ok(ready.exists().then_some(()))
        })?;
        Ok(guest)
    }

    /// True while the guest runs.
    fn alive(&self) -> Result<()> {
        match self.lab.borrow_mut().try_wait()? {
            Some(status) => bail!("the guest ended: {status}"),
            None => Ok(()),
        }
    }

    /// Runs a step to its end, whatever that is.
    pub(super) fn run(&self, step: &str, within: Duration) -> Result<Output> {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let part = self.share.join(format!("{number}.part"));
        fs::write(&part, step)?;
        fs::rename(&part, self.share.join("in").join(number.to_string()))?;
        let out = |ending: &str| self.share.join("out").join(format!("{number}.{ending}"));
        let status = wait::for_some(&format!("a step in the guest ({})", first_line(step)), within, || {
            self.alive()?;
            Ok(fs::read_to_string(out("status")).ok())
        })?;
        let text = String::from_utf8_lossy(&fs::read(out("log"))?).into_owned();
        Ok(Output { status: status.trim().parse().context("a step's status")?, text })
    }

    /// Runs a step that must succeed, and gives what it said.
    pub(super) fn sh(&self, step: &str) -> Result<String> {
        self.sh_within(step, Duration::from_secs(120))
    }

    /// The same for a step that takes long.
    pub(super) fn sh_within(&self, step: &str, within: Duration) -> Result<String> {
        let output = self.run(step, within)?;
        ensure!(output.status == 0, "`{}` ended with {}: {}", first_line(step), output.status, tail(&output.text));
        Ok(output.text)
    }

    /// Runs a step that prints JSON. Warnings before it are skipped.
    pub(super) fn json(&self, step: &str) -> Result<serde_json::Value> {
        let text = self.sh(&format!("{step} 2>/dev/null"))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` printed no JSON: {}", first_line(step), tail(&text)))
    }

    /// Marks a place in the kernel's log.
    pub(super) fn mark(&self, name: &str) -> Result<()> {
        self.sh(&format!("mark '{name}'")).map(drop)
    }

    /// The kernel's log since a mark: `<priority>[time] text`.
    pub(super) fn kernel_log(&self, name: &str) -> Result<String> {
        self.sh(&format!("kernel_log '{name}'"))
    }

    /// Stops every processor of the guest, as a frozen or unplugged machine.
    pub(super) fn freeze(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let file = self.share.with_file_name("qemu.pid");
        let pid = fs::read_to_string(&file).context("the guest's process id")?;
        let status = Command::new("kill").args([signal, pid.trim()]).status().context("kill")?;
        ensure!(status.success(), "kill {signal} failed");
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A guest that does not hear this is killed: the lab ends QEMU with itself.
        let _ = fs::write(self.share.join("in/end"), "");
        let ended = wait::for_some("the guest's end", END_WITHIN, || Ok(self.lab.get_mut().try_wait()?));
        if ended.is_err() {
            let _ = self.lab.get_mut().kill();
            let _ = self.lab.get_mut().wait();
        }
    }
}

fn first_line(step: &str) -> &str {
    step.trim().lines().next().unwrap_or_default()
}

/// The last lines, on one.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}
