//! `interlock io read|write|copy`: real data to and from a namespace, without a daemon.
//!
//! It is a host of its own for as long as it runs, with everything that a host owes: the identity is taken, lives are
//! recorded, a lost path is fenced. A process of the same identity - the daemon, usually - makes it refuse.
// The comments on arguments are help texts: their square brackets mean "may be left out", and are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod copy;

use crate::failure::Failure;
use crate::identity::diagnosed;
use anyhow::Context;
use clap::Subcommand;
use interlock_daemon::{Places, identity};
use interlock_host::{ControllerSpec, FileStore, Host, IdentityLock, Namespace, Nqn, Pool, PoolConfig, ProbeSpec};
use interlock_target::config::size_in_bytes;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// The TCP port of NVMe/TCP.
const NVME_PORT: u16 = 4420;
/// A path is live within this, or the command fails.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// What is in flight at the end is drained; what a lost path left is fenced or recorded.
const END_WITHIN: Duration = Duration::from_secs(20);

/// Move data to and from a namespace, without a daemon
///
/// A namespace is written as nvme:HOST[:PORT][,HOST[:PORT]...]/NQN[/NSID], as in
/// nvme:192.0.2.1:4420,192.0.2.2:4420/nqn.2026-11.io.interlock:target/1. With several ports the transfer survives the loss
/// of all but one.
#[derive(clap::Args)]
#[command(after_help = crate::log::ENVIRONMENT)]
pub(crate) struct IoArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Read a namespace to standard output
    Read {
        /// nvme:HOST[:PORT][,HOST[:PORT]...]/NQN[/NSID]
        #[arg(value_name = "NAMESPACE")]
        from: Place,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        who: Who,
    },
    /// Write standard input to a namespace
    Write {
        /// nvme:HOST[:PORT][,HOST[:PORT]...]/NQN[/NSID]
        #[arg(value_name = "NAMESPACE")]
        to: Place,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        who: Who,
    },
    /// Copy a file to a namespace, or a namespace to a file
    Copy {
        /// A file, or nvme:HOST[:PORT][,HOST[:PORT]...]/NQN[/NSID]
        #[arg(value_name = "FROM")]
        from: Place,
        /// A file, or nvme:HOST[:PORT][,HOST[:PORT]...]/NQN[/NSID]
        #[arg(value_name = "TO")]
        to: Place,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        who: Who,
    },
}

/// Which part.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Span {
    /// Offset in the namespace, in bytes or with K, M, G or T (powers of 1024): whole blocks
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size)]
    pub(crate) offset: u64,
    /// Length, in bytes or with K, M, G or T (powers of 1024); default: everything
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) length: Option<u64>,
}

/// A number of bytes; 0 is one.
fn size(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size_in_bytes(text).map_err(|error| error.to_string()) }
}

#[derive(clap::Args)]
struct Who {
    /// Host NQN; default: that of /etc/nvme/hostnqn
    #[arg(short = 'q', long, value_name = "NQN")]
    hostnqn: Option<String>,
    /// Host Identifier, a UUID; default: that of /etc/nvme/hostid
    #[arg(short = 'I', long, value_name = "UUID")]
    hostid: Option<String>,
    /// Directory for state that outlives the process; default: that of the daemon
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Directory with hostnqn and hostid
    #[arg(long, value_name = "DIR")]
    nvme_dir: Option<PathBuf>,
    /// Ask for header and data digests
    #[arg(short = 'G', long)]
    data_digest: bool,
    /// Print no progress
    #[arg(long)]
    quiet: bool,
}

/// Where data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File(PathBuf),
    Namespace(Remote),
}

/// A namespace by its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    ports: Vec<(String, u16)>,
    subnqn: Nqn,
    nsid: u32,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("nvme:") {
            None => Ok(Self::File(text.into())),
            Some(rest) => Remote::parse(rest).map(Self::Namespace),
        }
    }
}

impl Remote {
    fn parse(text: &str) -> Result<Self, String> {
        let form = "expected nvme:HOST[:PORT][,HOST[:PORT]...]/NQN[/NSID]";
        let (ports, name) = text.split_once("/nqn.").ok_or(form)?;
        let (nqn, nsid) = match name.rsplit_once('/') {
            Some((nqn, nsid)) if nsid.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number = nsid.parse().ok().filter(|number| (1..=0xFFFF_FFFE).contains(number));
                (nqn, number.ok_or_else(|| format!("`{nsid}` is not a valid namespace identifier"))?)
            }
            _ => (name, 1),
        };
        let subnqn = Nqn::new(format!("nqn.{nqn}")).map_err(|why| why.to_string())?;
        let ports = ports
            .split(',')
            .map(|port| {
                // The colons of an address in brackets are its own.
                let (host, number) = match port.rsplit_once(':') {
                    Some((host, number)) if !number.ends_with(']') => {
                        (host, number.parse().map_err(|_| format!("`{number}` is not a valid TCP port"))?)
                    }
                    _ => (port, NVME_PORT),
                };
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                if host.is_empty() { Err(form.to_owned()) } else { Ok((host.to_owned(), number)) }
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Self { ports, subnqn, nsid })
    }
}

pub(crate) fn run(args: &IoArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Read { from, span, who } => {
            let Place::Namespace(remote) = from else { return Err(no_namespace(from)) };
            with(remote, who, |ns| copy::read(ns, *span, &mut std::io::stdout().lock(), !who.quiet).map(drop))
        }
        Verb::Write { to, span, who } => {
            let Place::Namespace(remote) = to else { return Err(no_namespace(to)) };
            with(remote, who, |ns| copy::write(ns, *span, &mut std::io::stdin().lock(), None, !who.quiet).map(drop))
        }
        Verb::Copy { from: Place::File(file), to: Place::Namespace(remote), span, who } => {
            let mut input = std::fs::File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
            let size = input.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
            with(remote, who, |ns| copied(copy::write(ns, *span, &mut input, size, !who.quiet)?, who))
        }
        Verb::Copy { from: Place::Namespace(remote), to: Place::File(file), span, who } => with(remote, who, |ns| {
            let mut output =
                std::fs::File::create(file).with_context(|| format!("cannot write `{}`", file.display()))?;
            let bytes = copy::read(ns, *span, &mut output, !who.quiet)?;
            output.sync_all().with_context(|| format!("cannot make `{}` durable", file.display()))?;
            copied(bytes, who)
        }),
        Verb::Copy { .. } => Err(Failure::new("one of the two must be a namespace, the other a file")
            .hint("a namespace is written as nvme:HOST[:PORT][,HOST[:PORT]...]/NQN[/NSID]")
            .into()),
    }
}

/// Says what was copied.
fn copied(bytes: u64, who: &Who) -> anyhow::Result<()> {
    if !who.quiet {
        crate::output::print(&format!("copied {bytes} bytes, durably"))?;
    }
    Ok(())
}

fn no_namespace(place: &Place) -> anyhow::Error {
    let Place::File(file) = place else { return Failure::new("not a namespace").into() };
    Failure::new(format!("`{}` is not a valid namespace", file.display()))
        .hint("a namespace is written as nvme:HOST[:PORT][,HOST[:PORT]...]/NQN[/NSID]")
        .into()
}

/// Does something as a host that is connected to the namespace, and ends in order.
fn with(remote: &Remote, who: &Who, work: impl FnOnce(&Namespace) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let usual = Places::usual();
    let places = Places {
        state: who.state_dir.clone().unwrap_or(usual.state),
        nvme: who.nvme_dir.clone().unwrap_or(usual.nvme),
        ..usual
    };
    let settings = identity::load(&places, who.hostnqn.as_deref(), who.hostid.as_deref())?;
    let own = "give this command an identity of its own with -I, or let that process do the work";
    let _lock = IdentityLock::take(settings.hostid).map_err(|error| Failure::new(error).hint(own))?;
    let store = FileStore::open(places.of_host(settings.hostid), &settings)?;
    let config = PoolConfig { name: "io".into(), ..PoolConfig::default() };
    let pool = Pool::new(config).context("the reactor cannot start")?;
    let host = Host::start_with(pool.reactors(), settings, Box::new(store))?;
    let worked = connect(&host, remote, who).and_then(|namespace| work(&namespace));
    let ended = host.shutdown(END_WITHIN).context("the host did not end gracefully; the next one fences what is left");
    drop(host);
    let stopped = pool.shutdown(END_WITHIN).context("the reactor does not end");
    worked.and(ended).and(stopped)?;
    Ok(ExitCode::SUCCESS)
}

/// One path is enough; those that fail are told, and tried again while others work.
fn connect(host: &Host, remote: &Remote, who: &Who) -> anyhow::Result<Namespace> {
    let mut problems = Vec::new();
    let mut live = 0;
    for (traddr, port) in &remote.ports {
        let mut spec = ControllerSpec::new(traddr, *port, remote.subnqn.clone());
        (spec.hdgst, spec.ddgst) = (who.data_digest, who.data_digest);
        match host.connect_and_wait(spec.clone(), CONNECT_WITHIN) {
            Ok(_) => live += 1,
            Err(error) => problems.push((spec, error)),
        }
    }
    if live == 0 {
        let (spec, error) = problems.pop().ok_or_else(|| Failure::new("no port was given"))?;
        let settings = host.settings().clone();
        let look = ProbeSpec::subsystem(&spec.traddr, spec.trsvcid, spec.subnqn, settings);
        return Err(diagnosed(error.into(), &look));
    }
    for (spec, error) in problems {
        crate::output::say(&format!("warning: {error}; continuing without this path"))?;
        // It may come while the others work.
        let _ = host.connect(spec);
    }
    Ok(host.namespace(remote.subnqn.as_str(), remote.nsid)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_told_from_a_file_and_read_whole() {
        assert_eq!("disk.img".parse::<Place>(), Ok(Place::File("disk.img".into())));
        let Ok(Place::Namespace(remote)) = "nvme:h:1,[::1]:2/nqn.2026-11.io.example:a/b/7".parse() else {
            panic!("one")
        };
        assert_eq!(remote.ports, [("h".to_owned(), 1), ("::1".to_owned(), 2)]);
        assert_eq!((remote.subnqn.as_str(), remote.nsid), ("nqn.2026-11.io.example:a/b", 7));
        let Ok(Place::Namespace(remote)) = "nvme:h:1/nqn.2026-11.io.example:a".parse() else { panic!("one") };
        assert_eq!(remote.nsid, 1);
        let Ok(Place::Namespace(remote)) = "nvme:h,[::1]/nqn.2026-11.io.example:a".parse() else { panic!("one") };
        assert_eq!(remote.ports, [("h".to_owned(), 4420), ("::1".to_owned(), 4420)]);
        assert_eq!((size("0"), size("4K"), size("1M")), (Ok(0), Ok(4096), Ok(1 << 20)));
        assert!(size("4 lots").is_err());
        for wrong in [
            "nvme:",
            "nvme:/nqn.2026-11.io.example:a",
            "nvme:h:x/nqn.2026-11.io.example:a",
            "nvme::1/nqn.2026-11.io.example:a",
            "nvme:h:1",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
