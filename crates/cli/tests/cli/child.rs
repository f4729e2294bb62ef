//! Children of a test.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

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
    /// What it logged so far, and whether that is all.
    log: Arc<(Mutex<(String, bool)>, Condvar)>,
    pub(crate) about: Value,
}

impl Target {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_through(&[], args)
    }

    /// Without a name of its own, unless `args` have one.
    pub(crate) fn start_nameless(args: &[&str]) -> Self {
        Self::start_as(&[], args)
    }

    /// Through another program, which is given the command line of the target and becomes it.
    pub(crate) fn start_through(program: &[&str], args: &[&str]) -> Self {
        let mut args = args.to_vec();
        if !args.contains(&"--nqn") && !args.contains(&"--config") {
            args.extend(["--nqn", NQN]);
        }
        Self::start_as(program, &args)
    }

    /// The same, and it logs nothing: there would be too much to keep.
    pub(crate) fn start_quiet(program: &[&str], args: &[&str]) -> Self {
        Self::start_with(program, &[&["--nqn", NQN], args].concat())
    }

    fn start_as(program: &[&str], args: &[&str]) -> Self {
        Self::start_with(program, &[&["-v"], args].concat())
    }

    fn start_with(program: &[&str], args: &[&str]) -> Self {
        let mut line = program.to_vec();
        line.extend([env!("CARGO_BIN_EXE_interlock"), "target", "-o", "json"]);
        line.extend(args);
        let mut child = Command::new(line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let log: Arc<(Mutex<(String, bool)>, Condvar)> = Arc::default();
        let into = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = into.0.lock().expect("nobody panics with it");
                log.0.push_str(&line);
                log.0.push('\n');
                into.1.notify_all();
            }
            into.0.lock().expect("nobody panics with it").1 = true;
            into.1.notify_all();
        });
        let mut line = String::new();
        said.read_line(&mut line).expect("a pipe");
        let about = serde_json::from_str(&line);
        let mut target = Self { child, said, log, about: Value::Null };
        target.about = about.unwrap_or_else(|error| {
            let _ = target.child.kill();
            panic!("{args:?}: {error}: {line}{}", target.whole_log())
        });
        target
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its log holds this.
    pub(crate) fn wait_said(&self, text: &str) {
        let log = self.log.0.lock().expect("nobody panics with it");
        let patience = Duration::from_secs(60);
        let waiting = |log: &mut (String, bool)| !log.0.contains(text) && !log.1;
        let (log, _) = self.log.1.wait_timeout_while(log, patience, waiting).expect("nobody panics with it");
        assert!(log.0.contains(text), "`{text}` is not in: {}", log.0);
    }

    fn whole_log(&self) -> String {
        let log = self.log.0.lock().expect("nobody panics with it");
        let patience = Duration::from_secs(60);
        let (log, _) = self.log.1.wait_timeout_while(log, patience, |log| !log.1).expect("nobody panics with it");
        log.0.clone()
    }

    /// Two ports, one discovery port, one memory namespace.
    pub(crate) fn usual(more: &[&str]) -> Self {
        let any = "127.0.0.1:0";
        let mut args = vec!["--port", any, "--port", any, "--discovery", any, "--namespace", "mem:8M"];
        args.extend_from_slice(more);
        Self::start(&args)
    }

    /// The next event of a target that prints them as JSON.
    pub(crate) fn event(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a pipe");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
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
        let log = self.whole_log();
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
