//! Children of a test.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};

pub(crate) const NQN: &str = "nqn.2026-11.io.interlock:target";

pub(crate) fn interlock(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interlock"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs to the end.
pub(crate) fn run(args: &[&str]) -> Output {
    interlock(args).output().expect("the binary runs")
}

/// Standard output of a run that must succeed.
pub(crate) fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}: nothing to complain about");
    String::from_utf8(output.stdout).expect("text")
}

/// Standard error of a run that must fail: one sentence, hints, exit code 1, nothing on standard output.
pub(crate) fn fail(args: &[&str]) -> String {
    let output = run(args);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}: {said}");
    said
}

/// A target that runs until it is stopped, or killed by the end of the test.
pub(crate) struct Target {
    child: Child,
    said: BufReader<ChildStdout>,
    log: ChildStderr,
    pub(crate) about: Value,
}

impl Target {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = interlock(&["target", "-o", "json", "-v"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut log = child.stderr.take().expect("a pipe");
        let mut line = String::new();
        said.read_line(&mut line).expect("a pipe");
        let about = serde_json::from_str(&line).unwrap_or_else(|error| {
            let mut text = String::new();
            let _ = log.read_to_string(&mut text);
            panic!("{args:?}: {error}: {line}{text}")
        });
        Self { child, said, log, about }
    }

    /// Two ports, one discovery port, one memory namespace.
    pub(crate) fn usual(more: &[&str]) -> Self {
        let any = "127.0.0.1:0";
        let mut args = vec!["--port", any, "--port", any, "--discovery", any, "--namespace", "mem:8M"];
        args.extend_from_slice(more);
        Self::start(&args)
    }

    /// The TCP port of its n-th port.
    pub(crate) fn port(&self, n: usize) -> String {
        port(&self.about["ports"][n])
    }

    /// The TCP port of its discovery service.
    pub(crate) fn discovery(&self) -> String {
        port(&self.about["discovery"][0])
    }

    /// Sends a signal and waits: how it ended, and what it logged.
    pub(crate) fn stop(self, signal: Signal) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.child), signal).expect("the child runs");
        self.wait()
    }

    /// Waits for its end: how it ended, and what it logged.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.log.read_to_string(&mut log).expect("text");
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "", "one line is all it prints");
        (self.child.wait().expect("it ends"), log)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Already ended after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port(address: &Value) -> String {
    let text = address.as_str().expect("an address");
    text.rsplit_once(':').expect("a port").1.to_owned()
}
