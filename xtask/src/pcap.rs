//! `cargo xtask pcap`: the golden conversations as captures, and what a stranger's dissector says of them.
//!
//! Our own two ends agree about the wire even where both are wrong; tshark knows nothing of ours. It must find every PDU,
//! nothing malformed, and nothing that it warns about. What it does not know is listed, by command, in `docs/interop.md`.

use anyhow::{Context, Result, bail, ensure};
use interlock_fuzz::golden::{STORIES, Story};
use interlock_fuzz::rig::joint::Line;
use interlock_fuzz::{pcap, trace};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// `cargo xtask pcap [--out DIR] [--check]`.
///
/// # Errors
/// If a capture cannot be written, or tshark cannot be run although it is there.
pub fn main(mut args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let (mut out, mut check) = (None, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--out" => out = Some(PathBuf::from(args.next().context("--out needs a folder")?)),
            "--check" => check = true,
            other => bail!("pcap knows no `{other}`; it knows `--out DIR` and `--check`"),
        }
    }
    ensure!(out.is_some() || check, "nothing to do: `--out DIR` writes captures, `--check` has tshark read them");
    let folder = match out {
        Some(folder) => folder,
        None => std::env::temp_dir().join(format!("interlock-pcap-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut shown = std::io::stdout().lock();
    let tshark = check.then(version).flatten();
    match (&tshark, check) {
        (Some(version), _) => writeln!(shown, "{version}")?,
        (None, true) => writeln!(shown, "SKIPPED: there is no tshark here (Debian: `apt install tshark`)")?,
        (None, false) => {}
    }
    let mut failed = 0;
    for story in STORIES {
        let path = folder.join(format!("{}.pcap", story.name));
        let lines = story.tell();
        let mut file = Vec::new();
        pcap::write(&lines, &mut file)?;
        std::fs::write(&path, &file).with_context(|| format!("{} cannot be written", path.display()))?;
        if tshark.is_none() {
            writeln!(shown, "{:<24} {:>7} bytes", story.name, file.len())?;
            continue;
        }
        let verdict = dissect(story, &lines, &path)?;
        failed += usize::from(!verdict.complaints.is_empty());
        let word = if verdict.complaints.is_empty() { "pass" } else { "FAIL" };
        writeln!(shown, "{word} {:<24} {:>3} PDUs of {:>3}", story.name, verdict.found, verdict.said)?;
        for complaint in verdict.complaints {
            writeln!(shown, "     {complaint}")?;
        }
    }
    if check && tshark.is_none() {
        // Nothing was looked at: that is not green.
        return Ok(ExitCode::from(2));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What tshark says of a capture.
struct Verdict {
    said: usize,
    found: usize,
    complaints: Vec<String>,
}

fn version() -> Option<String> {
    let output = Command::new("tshark").arg("--version").output().ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

/// Runs tshark over a capture: all PDUs, all complaints.
fn dissect(story: &Story, lines: &[Line], path: &Path) -> Result<Verdict> {
    let fields = ["frame.number", "nvme-tcp.type", "_ws.malformed", "_ws.expert.severity", "_ws.expert.message"];
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-d", "tcp.port==4421,nvme-tcp", "-d", "tcp.port==8009,nvme-tcp"]);
    command.args([
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
        "-T",
        "fields",
        "-E",
        "separator=|",
    ]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().context("tshark cannot be run")?;
    ensure!(output.status.success(), "tshark failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut verdict = Verdict { said: said(lines), found: 0, complaints: Vec::new() };
    for row in text.lines() {
        let cells: Vec<&str> = row.split('|').collect();
        let [frame, types, malformed, severities, messages] = cells[..] else {
            bail!("tshark answered `{row}`");
        };
        verdict.found += types.split(',').filter(|kind| !kind.is_empty()).count();
        if !malformed.is_empty() {
            verdict.complaints.push(format!("frame {frame}: malformed"));
        }
        // Warnings (6291456) and errors (8388608); how connections end is a note or a chat.
        let worst = severities.split(',').filter_map(|severity| severity.parse::<u32>().ok()).max().unwrap_or(0);
        if worst >= 6_291_456 && !messages.contains("Connection reset (RST)") {
            verdict.complaints.push(format!("frame {frame}: {messages}"));
        }
    }
    if verdict.found != verdict.said {
        verdict.complaints.push(format!("{} PDUs were said, {} were found", verdict.said, verdict.found));
    }
    ensure!(!trace::text(lines).is_empty(), "{} says nothing", story.name);
    Ok(verdict)
}

/// PDUs of a conversation, by our own count.
fn said(lines: &[Line]) -> usize {
    trace::text(lines)
        .lines()
        .filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 3 && matches!(words[2], "<" | ">") && !matches!(words[3], "closes" | "resets" | "illegal:")
        })
        .count()
}
