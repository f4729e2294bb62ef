//! `interlock target`: a target as a program.

mod config;
mod ctl;
mod events;

use crate::output::{Format, print, say};
use anyhow::Context;
pub(crate) use config::TargetArgs;
use config::{EventFormat, TargetCommand};
use interlock_target::channel::Server;
use interlock_target::config::Config;
use interlock_target::{OnPanic, Pool, PoolConfig, Stamped, Target};
use serde_json::json;
use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// Lives end when their last media operation is over; a disk that takes longer is not waited for.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What ends the program.
enum News {
    Stop,
    /// Nobody can be told what happens.
    Unheard(io::Error),
}

pub(crate) fn run(args: &TargetArgs) -> anyhow::Result<ExitCode> {
    if let Some(TargetCommand::Ctl(args)) = &args.command {
        return ctl::run(args);
    }
    if let Some(list) = args.asked_for_help() {
        print(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = args.config()?;
    // From here on a signal is news, not death: whatever was begun is ended in order.
    let (sender, news) = mpsc::channel();
    let signals = Signals::new([SIGINT, SIGTERM]).context("signals cannot be caught")?;
    let handle = signals.handle();
    // A file at the limit of `ulimit -f` is an error of that write, not the end of the program.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).context("signals cannot be caught")?;
    let waiting = spawn("signals", {
        let sender = sender.clone();
        move || wait_for_signals(signals, &sender)
    })?;
    let name = "target".into();
    let pool = Pool::new(PoolConfig { reactors: args.reactors(&config), name, ..PoolConfig::default() })
        .context("the target cannot start")?;
    let started = Target::start_as(pool.reactors(), &config, OnPanic::EndProcess).map_err(anyhow::Error::new);
    let served = started.and_then(|target| {
        let target = Arc::new(target);
        let served = serve(&target, &config, args, sender, &news);
        let ended = target.shutdown(END_WITHIN).context("the target did not end gracefully");
        served.and(ended)
    });
    let stopped = pool.shutdown(END_WITHIN).context("the reactors did not end");
    handle.close();
    // The thread ends with its handle, and has nothing to say.
    let _ = waiting.join();
    served.and(stopped)?;
    Ok(ExitCode::SUCCESS)
}

fn serve(
    target: &Arc<Target>,
    config: &Config,
    args: &TargetArgs,
    sender: Sender<News>,
    news: &Receiver<News>,
) -> anyhow::Result<()> {
    let output = &args.output;
    // Until the end of this function; its first line is printed when it can be used.
    let _control = match &args.control {
        None => None,
        Some(path) => {
            let sender = sender.clone();
            // Nobody is left to be told if this fails.
            let end = move || drop(sender.send(News::Stop));
            Some(Server::start(path, target.clone(), end)?)
        }
    };
    // Before anyone learns where to connect: the log misses nothing. It begins when that is printed.
    let (begin, begun) = mpsc::sync_channel(1);
    if output.verbose > 0 || args.events.is_some() {
        let events = target.subscribe();
        let (aloud, as_json) = (output.verbose > 0, args.events == Some(EventFormat::Json));
        spawn("events", move || {
            // It is not begun if the program ends before.
            if begun.recv().is_ok()
                && let Err(error) = tell(&events, aloud, as_json)
            {
                // Who would end the program may have ended it.
                let _ = sender.send(News::Unheard(error));
            }
        })?;
    }
    if let Some(warning) = open_to_all(target.ports(), target.discovery()) {
        say(&warning)?;
    }
    print(&match output.format {
        Format::Normal => normal(target, config, args),
        Format::Json => as_json(target, config, args)?,
    })?;
    // Without `-v` or `--events` nobody waits for it.
    let _ = begin.send(());
    match news.recv() {
        Ok(News::Stop) | Err(_) => Ok(()),
        Ok(News::Unheard(error)) => Err(error).context("events cannot be printed"),
    }
}

/// Tells what happens, until nothing can: on standard error for people, and on standard output for programs.
fn tell(events: &Receiver<Stamped>, aloud: bool, as_json: bool) -> io::Result<()> {
    for event in events {
        if as_json {
            print(&event.to_json().to_string())?;
        }
        if aloud {
            say(&format!("{} {}", event.at, events::words(&event.event)))?;
        }
    }
    Ok(())
}

/// What whoever listens on every address should know: ports first, then those for discovery alone.
fn open_to_all(ports: &[SocketAddr], discovery: &[SocketAddr]) -> Option<String> {
    let open = |addrs: &[SocketAddr]| {
        let open: Vec<String> = addrs.iter().filter(|addr| is_any(addr.ip())).map(ToString::to_string).collect();
        (!open.is_empty()).then(|| open.join(", "))
    };
    let (whom, what) = match (open(ports), open(discovery)) {
        (Some(ports), _) => (ports, "every host that can connect can read and write"),
        (None, Some(discovery)) => (discovery, "every host that can connect can ask where the subsystem is"),
        (None, None) => return None,
    };
    Some(format!(
        "warning: the target listens on every address of this machine ({whom}), and nothing authenticates hosts: {what}"
    ))
}

/// True for an address that stands for all of them, also for all IPv4 addresses written as IPv6.
const fn is_any(address: IpAddr) -> bool {
    address.to_canonical().is_unspecified()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work).context("no thread can be started")
}

/// The first signal asks for an orderly end. The second one ends the program at once.
fn wait_for_signals(mut signals: Signals, news: &Sender<News>) {
    for (count, signal) in signals.forever().enumerate() {
        if count > 0 {
            // What the signal does to a program that does not catch it.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
        if news.send(News::Stop).is_err() {
            break;
        }
    }
}

fn normal(target: &Target, config: &Config, args: &TargetArgs) -> String {
    let mut lines = vec![format!("subsystem {}", target.nqn())];
    for (place, namespace) in config.namespaces.iter().enumerate() {
        lines.push(format!("namespace {}: {}", config.nsid(place), namespace.backing));
    }
    lines.extend(target.ports().iter().map(|addr| format!("listening on {addr}")));
    lines.extend(target.discovery().iter().map(|addr| format!("discovery on {addr}")));
    lines.extend(args.control.iter().map(|path| format!("control on {}", path.display())));
    lines.join("\n")
}

/// One line: a program that starts a target reads one line and knows all.
fn as_json(target: &Target, config: &Config, args: &TargetArgs) -> serde_json::Result<String> {
    let addresses = |list: &[std::net::SocketAddr]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
    let namespaces: Vec<_> = config
        .namespaces
        .iter()
        .enumerate()
        .map(|(place, namespace)| json!({ "nsid": config.nsid(place), "backing": namespace.backing.to_string() }))
        .collect();
    serde_json::to_string(&json!({
        "format_version": 1,
        "nqn": target.nqn(),
        "ports": addresses(target.ports()),
        "discovery": addresses(target.discovery()),
        "namespaces": namespaces,
        "control": args.control,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_on_every_address_is_told_once_what_that_means() {
        let told = |ports: &[&str], discovery: &[&str]| {
            let addrs = |all: &[&str]| all.iter().map(|addr| addr.parse().unwrap()).collect::<Vec<SocketAddr>>();
            open_to_all(&addrs(ports), &addrs(discovery))
        };
        assert_eq!(told(&["127.0.0.1:4420", "[::1]:4420"], &["192.0.2.1:8009"]), None);
        for ports in [["0.0.0.0:4420", "[::]:4421"], ["127.0.0.1:1", "[::ffff:0.0.0.0]:4420"]] {
            let said = told(&ports, &["0.0.0.0:8009"]).unwrap();
            assert!(said.contains(ports[1]) && said.ends_with("can read and write") && !said.contains('\n'), "{said}");
        }
        let said = told(&["127.0.0.1:4420"], &["0.0.0.0:8009"]).unwrap();
        assert!(said.contains("0.0.0.0:8009") && !said.contains("write"), "{said}");
    }
}
