//! A target, a daemon, and the verbs between them.

use crate::child::{NQN, Target, interlock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Says something about a test on the terminal, past the harness.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        // Each question is a process: that is pause enough.
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it and waits until it listens; the log if it ends before.
    fn start(dir: &std::path::Path) -> Result<Self, String> {
        let path = |name: &str| dir.join(name).display().to_string();
        let config = dir.join("interlock.toml");
        let mut args = vec!["daemon".to_owned()];
        let mut places =
            vec![("--socket", path("c.sock")), ("--state-dir", path("state")), ("--nvme-dir", path("nvme"))];
        if config.exists() {
            places.push(("--config", config.display().to_string()));
        }
        args.extend(places.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child =
            interlock(&args).env_remove("JOURNAL_STREAM").stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut begin = String::new();
        loop {
            let mut line = String::new();
            if said.read_line(&mut line).expect("text") == 0 {
                let _ = child.wait();
                return Err(begin);
            }
            begin.push_str(&line);
            if line.contains("listening on ") {
                break;
            }
        }
        let log = Arc::new(Mutex::new(begin));
        let shared = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let mut log = shared.lock().expect("no panic");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Ok(Self { child, log, reader: Some(reader) })
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Ends it: its exit code, if it was not killed, and its whole log.
    pub(crate) fn stop(self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        self.wait()
    }

    /// Waits until it has ended: its exit code, if it was not killed, and its whole log.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("it ends");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        (status.code(), self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already ended after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A verb that does not end by itself.
pub(crate) struct Going {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Going {
    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        assert_ne!(line, "", "it goes on");
        line
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything of one test, in a directory of its own.
pub(crate) struct Scene {
    pub(crate) dir: PathBuf,
    pub(crate) target: Target,
    pub(crate) daemon: Option<Daemon>,
}

impl Scene {
    pub(crate) fn new(name: &str, more: &[&str]) -> Self {
        // Socket paths are short: not the long path of the build.
        let dir = std::env::temp_dir().join(format!("il-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        let control = dir.join("t.sock").display().to_string();
        let mut args = vec!["--control", control.as_str()];
        args.extend_from_slice(more);
        let target = Target::usual(&args);
        let mut scene = Self { dir, target, daemon: None };
        scene.start();
        scene
    }

    pub(crate) fn start(&mut self) {
        self.daemon = Some(Daemon::start(&self.dir).unwrap_or_else(|log| panic!("it does not start: {log}")));
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    /// Ends the daemon.
    pub(crate) fn stop(&mut self, signal: Signal) -> (Option<i32>, String) {
        self.daemon.take().expect("it runs").stop(signal)
    }

    /// Waits until the daemon has ended by itself.
    pub(crate) fn wait(&mut self) -> (Option<i32>, String) {
        self.daemon.take().expect("it runs").wait()
    }

    /// A verb.
    pub(crate) fn verb(&self, args: &[&str]) -> Output {
        interlock(args).env("INTERLOCK_SOCKET", self.dir.join("c.sock")).output().expect("the binary runs")
    }

    /// A verb that goes on, read line by line.
    pub(crate) fn begin(&self, args: &[&str]) -> Going {
        let mut command = interlock(args);
        command.env("INTERLOCK_SOCKET", self.dir.join("c.sock")).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Going { child, said }
    }

    /// A verb that must succeed: what it prints.
    pub(crate) fn does(&self, args: &[&str]) -> String {
        let output = self.verb(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        assert!(output.status.success(), "{args:?}: {error}\n{log}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// A verb that must fail: what it complains about.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.verb(args);
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        error
    }

    pub(crate) fn connect(&self, port: usize, more: &[&str]) -> String {
        let port = self.target.port(port);
        let mut args = vec!["connect", "-t", "tcp", "-a", "127.0.0.1", "-s", &port, "-n", NQN];
        args.extend_from_slice(more);
        self.does(&args)
    }

    /// Tells the target something: its answer.
    pub(crate) fn tell(&self, args: &[&str]) -> String {
        let control = self.dir.join("t.sock").display().to_string();
        let mut all = vec!["target", "ctl", "--control", control.as_str()];
        all.extend_from_slice(args);
        self.does(&all)
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.does(&["status", "-o", "json"])).expect("JSON")
    }

    /// Waits until all of these controllers are live and every export serves.
    pub(crate) fn all_live(&self, controllers: &[&str]) -> Value {
        wait_for("all live", || {
            let status = self.status();
            let live = |name: &&str| {
                let list = status["controllers"].as_array().expect("a list");
                list.iter().any(|ctrl| ctrl["name"] == **name && ctrl["state"] == "live")
            };
            let serving = status["exports"].as_array().expect("a list").iter().all(|export| export["serving"] == true);
            (controllers.iter().all(live) && serving).then_some(status)
        })
    }

    pub(crate) fn nbd(&self) -> PathBuf {
        self.dir.join("nbd.sock")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.daemon = None;
        // A test that failed did not end its daemon in order, and a killed daemon leaves its file tree mounted.
        let tree = self.dir.join("tree");
        // Whoever serves it would be asked for this: what the kernel remembers of it says nothing.
        if std::fs::read_dir(&tree).is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) {
            let _ = Command::new("umount").arg("--lazy").arg(&tree).status();
        }
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A command in a terminal of its own. `script` makes the terminal and ends the command with it: killed itself it would leave
/// a program behind that reads from nobody. What was taken of its ends must be dropped before.
pub(crate) struct Terminal(Child);

impl Terminal {
    pub(crate) fn open(command: &str) -> Self {
        let mut script = Command::new("script");
        script.args(["-qfec", command, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(script.spawn().expect("script runs"))
    }

    /// Its keys and its screen, once.
    pub(crate) fn ends(&mut self) -> (std::process::ChildStdin, std::process::ChildStdout) {
        self.0.stdin.take().zip(self.0.stdout.take()).expect("taken once")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait(); // it kills what does not end
    }
}
