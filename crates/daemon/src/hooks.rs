//! Hooks: rules of the configuration that run a program when something happens.
//!
//! The policy `notify` leaves it to somebody else to reconnect a lost controller; a hook is that somebody:
//!
//! ```toml
//! [[hook]]
//! name = "reconnect"
//! match = { event = "reconnect_wanted" }
//! run = ["/usr/bin/interlock", "reconnect", "$controller"]
//! ```
//!
//! There is no shell: the program is started with exactly these arguments, in which `$field` stands for a field of the event,
//! and with the keys of the event, `PATH`, `HOME`, `LANG` and `TZ` in its environment. It leads a process group, which ends
//! when its time is up. It has a limit of time, and each hook one of runs per minute, so that
//! a flapping path starts no thousand programs. What became of a run is an event itself, which no hook matches.

use crate::config::HookEntry;
use crate::events::Told;
use interlock_api::{Event, Level, What};
use interlock_observe::devd::{fields, keys};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::sync::Semaphore;

/// Programs that run at once, over all hooks.
const AT_ONCE: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Hooks(RwLock<Vec<HookEntry>>);

impl Hooks {
    /// These from now on.
    pub(crate) fn set(&self, entries: Vec<HookEntry>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = entries;
    }

    fn matching(&self, event: &Event) -> Vec<HookEntry> {
        let fields = fields(event);
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|entry| matches(entry, &fields)).cloned().collect()
    }
}

/// True if every key of the rule has its value; a value that ends with `*` is a beginning.
fn matches(entry: &HookEntry, fields: &[(String, String)]) -> bool {
    entry.matches.iter().all(|(key, wanted)| {
        fields.iter().any(|(name, value)| {
            name == key
                && match wanted.strip_suffix('*') {
                    Some(beginning) => value.starts_with(beginning),
                    None => value == wanted,
                }
        })
    })
}

/// The command line for an event; `Err`: the field that the event does not have.
fn arguments(run: &[String], fields: &[(String, String)]) -> Result<Vec<String>, String> {
    let known: BTreeMap<&str, &str> = fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    run.iter()
        .map(|argument| match argument.strip_prefix('$') {
            Some(field) => known.get(field).map(|value| (*value).to_owned()).ok_or_else(|| field.to_owned()),
            None => Ok(argument.clone()),
        })
        .collect()
}

/// Runs of one hook in the last minute.
#[derive(Debug, Default)]
struct Account(BTreeMap<String, Vec<Instant>>);

impl Account {
    /// True if one more may run now.
    fn allows(&mut self, entry: &HookEntry, now: Instant) -> bool {
        let runs = self.0.entry(entry.name.clone()).or_default();
        runs.retain(|at| now.duration_since(*at) < MINUTE);
        let allowed = runs.len() < usize::from(entry.per_minute);
        if allowed {
            runs.push(now);
        }
        allowed
    }
}

/// Runs hooks for as long as the runtime lives. `socket` is where programs find the daemon.
pub(crate) async fn serve(told: Arc<Told>, hooks: Arc<Hooks>, socket: PathBuf, after: u64) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut account = Account::default();
    let mut follower = told.follow(after);
    while let Some(events) = follower.next().await {
        for event in events.iter().filter(|event| !matches!(event.what, What::Hook { .. })) {
            for entry in hooks.matching(event) {
                if !account.allows(&entry, Instant::now()) {
                    let text = format!("more than {} runs in a minute: kept back", entry.per_minute);
                    tell(&told, &entry, event, None, &text);
                    continue;
                }
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let (told, event, socket) = (Arc::clone(&told), Arc::clone(event), socket.clone());
                tokio::spawn(async move {
                    let (code, text) = run(&entry, &event, &socket).await;
                    tell(&told, &entry, &event, code, &text);
                    drop(permit);
                });
            }
        }
    }
}

async fn run(entry: &HookEntry, event: &Event, socket: &std::path::Path) -> (Option<i32>, String) {
    let line = match arguments(&entry.run, &fields(event)) {
        Ok(line) => line,
        Err(field) => return (None, format!("not run: the event has no `{field}`")),
    };
    let mut command = Command::new(&line[0]);
    // Nothing of ours: with the service manager's socket it could speak for the daemon.
    let kept = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    command.args(&line[1..]).env_clear().envs(kept).envs(keys(event)).env("INTERLOCK_SOCKET", socket);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).process_group(0);
    let (mut child, group) = match command.spawn() {
        Ok(child) => {
            let group = Group::of(&child);
            (child, group)
        }
        Err(error) => return (None, format!("not run: {}: {error}", line[0])),
    };
    let within = Duration::from_secs(entry.timeout_s.into());
    match tokio::time::timeout(within, child.wait()).await {
        Ok(Ok(status)) => match group.leave(status).code() {
            Some(0) => (Some(0), "done".into()),
            Some(code) => (Some(code), format!("failed with exit code {code}")),
            None => (None, format!("was ended: {status}")),
        },
        Ok(Err(error)) => (None, format!("is lost: {error}")),
        Err(_) => {
            drop(group);
            // It is gone, or it will be: there is nobody else to tell.
            let _ = child.kill().await;
            (None, format!("took longer than {} s and was ended", entry.timeout_s))
        }
    }
}

/// What a hook finds in its environment besides the event.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The processes of a run. All of them are ended with this value, also what the program itself has started.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// The program has ended by itself: what it leaves behind was its own wish.
    fn leave(mut self, status: ExitStatus) -> ExitStatus {
        self.0 = None;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn tell(told: &Told, entry: &HookEntry, cause: &Event, exit_code: Option<i32>, text: &str) {
    let level = if exit_code == Some(0) { Level::Info } else { Level::Warn };
    let what = What::Hook { hook: entry.name.clone(), cause: cause.seq, exit_code };
    told.happened(level, None, what, format!("hook `{}` for event {}: {text}", entry.name, cause.seq));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(matches: &[(&str, &str)], run: &[&str]) -> HookEntry {
        HookEntry {
            name: "h".into(),
            matches: matches.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            run: run.iter().map(|word| (*word).into()).collect(),
            timeout_s: 1,
            per_minute: 2,
        }
    }

    fn some() -> Vec<(String, String)> {
        [("event", "lost"), ("controller", "nvme0"), ("how", "keep-alive")].map(|(k, v)| (k.into(), v.into())).to_vec()
    }

    #[test]
    fn every_key_must_match_and_a_star_ends_a_beginning() {
        for (keys, expected) in [
            (&[("event", "lost")][..], true),
            (&[("event", "lost"), ("controller", "nvme*")], true),
            (&[("event", "lost"), ("controller", "nvme1")], false),
            (&[("event", "los")], false),
            (&[("life", "life1")], false),
        ] {
            assert_eq!(matches(&entry(keys, &[]), &some()), expected, "{keys:?}");
        }
    }

    #[test]
    fn arguments_are_words_and_fields_and_nothing_is_interpreted() {
        let run = entry(&[], &["/bin/x", "$controller", "a;b $how", "$(id)"]).run;
        assert_eq!(arguments(&run[..3], &some()), Ok(vec!["/bin/x".into(), "nvme0".into(), "a;b $how".into()]));
        assert_eq!(arguments(&run, &some()), Err("(id)".into()));
    }

    #[test]
    fn a_hook_has_an_environment_of_its_own_and_ends_with_what_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let (env, pid) = (dir.path().join("env"), dir.path().join("pid"));
        let script = format!("env > {}; sleep 600 & echo $! > {}; wait", env.display(), pid.display());
        let told = Told::new(None, 1);
        told.note(Level::Info, "test", "text".into());
        let event = told.recent(1).remove(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let hook = entry(&[], &["/bin/sh", "-c", &script]);
        let (code, text) = runtime.block_on(run(&hook, &event, std::path::Path::new("/x.sock")));
        assert_eq!((code, text.as_str()), (None, "took longer than 1 s and was ended"));
        let env = std::fs::read_to_string(env).expect("it ran");
        assert!(env.contains("INTERLOCK_SOCKET=/x.sock\n") && env.contains("PATH="), "{env}");
        assert!(!env.contains("CARGO"), "{env}");
        let pid = std::fs::read_to_string(pid).expect("it started another one");
        let stat = format!("/proc/{}/stat", pid.trim());
        let deadline = Instant::now() + MINUTE;
        // Dead, or dead and not yet looked at by whoever inherited it.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "what it started is still there");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_hook_runs_so_often_in_a_minute_and_no_more() {
        let (mut account, hook, start) = (Account::default(), entry(&[], &[]), Instant::now());
        assert!(account.allows(&hook, start) && account.allows(&hook, start));
        assert!(!account.allows(&hook, start + MINUTE / 2));
        assert!(account.allows(&hook, start + MINUTE));
    }
}
