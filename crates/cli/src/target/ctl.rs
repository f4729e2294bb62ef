//! `interlock target ctl`: tells a running target what to change.

use super::config::fault;
use crate::failure::Failure;
use crate::output::{Format, print};
use interlock_api::ProblemKind;
use interlock_target::channel::{Answer, ChannelError, Client, Request};
use interlock_target::config::{Ana, Identifier, NamespaceConfig, size_in_bytes};
use interlock_target::help;
use interlock_target::status::{
    ConnectionStatus, ControllerStatus, LifeStatus, NamespaceStatus, PayerStatus, PortStatus, QuotaStatus, Status,
    TroubleStatus,
};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Change a running target, or show what it holds
///
/// The target must have been started with --control. Ports are named by their place in its configuration, from 0;
/// discovery-only ports follow.
#[derive(clap::Args)]
pub(crate) struct CtlArgs {
    /// The control socket of the target
    #[arg(long, value_name = "SOCKET", global = true)]
    control: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
    /// Output format: text, or one JSON document
    #[arg(short = 'o', long = "output-format", value_name = "FORMAT", value_enum, default_value_t = Format::Normal, global = true)]
    format: Format,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Print ports, namespaces, controllers, instances, connections and memory
    Status,
    /// Add, resize or remove a namespace; connected hosts receive an event
    #[command(subcommand)]
    Namespace(NamespaceVerb),
    /// Set the ANA state of a group as seen through a port; connected hosts receive an event
    Ana {
        /// Place of the port in the configuration, from 0
        port: u16,
        /// optimized, non-optimized, inaccessible, persistent-loss or change
        state: String,
        /// ANA group
        #[arg(long, value_name = "N", default_value_t = 1)]
        group: u32,
    },
    /// Close a port and reset its connections, or open it again
    #[command(subcommand)]
    Port(PortVerb),
    /// Inject a fault: kind=hold-writes,port=0 and so on, as in the configuration file; kind=clear ends all, `help` lists them
    Fault {
        /// Fault as kind=KIND and the keys of that kind, or `help`
        #[arg(value_name = "KEY=VALUE,...")]
        fault: String,
    },
    /// End the target gracefully
    Shutdown,
}

#[derive(clap::Subcommand)]
enum NamespaceVerb {
    /// Add a namespace
    Add {
        /// file:disk.img, mem:1G or null:64G
        backing: String,
        /// Namespace identifier; default: the lowest free one
        #[arg(long, value_name = "N")]
        nsid: Option<u32>,
        /// Bytes per block: 512 or 4096
        #[arg(long, value_name = "BYTES", default_value_t = 4096)]
        block_size: u32,
        /// Write protected
        #[arg(long)]
        read_only: bool,
        /// ANA group
        #[arg(long, value_name = "N", default_value_t = 1)]
        ana_group: u32,
        /// Namespace UUID; default: kept beside a file, new in memory
        #[arg(long, value_name = "UUID")]
        uuid: Option<Identifier<16>>,
        /// Namespace Globally Unique Identifier, 32 hexadecimal digits
        #[arg(long, value_name = "HEX")]
        nguid: Option<Identifier<16>>,
        /// IEEE Extended Unique Identifier, 16 hexadecimal digits
        #[arg(long, value_name = "HEX")]
        eui64: Option<Identifier<8>>,
    },
    /// Change the size of a namespace; a file that is too short is extended, and none is truncated
    Resize {
        /// Namespace identifier
        nsid: u32,
        /// New size, such as 2G; default: the present size of the file
        size: Option<String>,
    },
    /// Declare a failed flush of a namespace repaired; until then no flush succeeds
    ///
    /// Data that was written before may be lost. Check everything that relies on it (file systems, databases) first.
    ClearError {
        /// Namespace identifier
        nsid: u32,
    },
    /// Remove a namespace
    Remove {
        /// Namespace identifier
        nsid: u32,
    },
}

#[derive(clap::Subcommand)]
enum PortVerb {
    /// Stop listening, and reset connections
    Close {
        /// Place of the port in the configuration, from 0
        port: u16,
    },
    /// Listen again at the same address
    Open {
        /// Place of the port in the configuration, from 0
        port: u16,
    },
}

pub(super) fn run(args: &CtlArgs) -> anyhow::Result<ExitCode> {
    if matches!(&args.verb, Verb::Fault { fault } if fault == "help") {
        print(&help::table(&help::FAULTS))?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = args.control.as_ref().ok_or_else(|| {
        Failure::new("which target? `--control SOCKET` is missing").hint("the path that the target was started with")
    })?;
    let request = args.verb.request()?;
    let answer = Client::connect(path).and_then(|mut client| client.ask(&request)).map_err(|error| match error {
        ChannelError::Connect { path, source } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Failure::new(format!("{}: permission denied", path.display()))
                .kind(ProblemKind::Denied)
                .hint("only the user who started the target may use its control socket")
        }
        ChannelError::Connect { .. } => {
            Failure::caused(error).hint("start the target with `--control SOCKET`, and use the same path here")
        }
        error => Failure::caused(error),
    })?;
    print(&match args.format {
        Format::Normal => args.verb.words(&answer),
        Format::Json => {
            let mut document = json!({ "format_version": 1 });
            if let (Some(into), Ok(serde_json::Value::Object(members))) =
                (document.as_object_mut(), serde_json::to_value(&answer))
            {
                into.extend(members);
            }
            document.to_string()
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Verb {
    fn request(&self) -> anyhow::Result<Request> {
        Ok(match self {
            Self::Status => Request::Status {},
            Self::Namespace(NamespaceVerb::Add {
                backing,
                nsid,
                block_size,
                read_only,
                ana_group,
                uuid,
                nguid,
                eui64,
            }) => Request::NamespaceAdd(NamespaceConfig {
                nsid: *nsid,
                block_size: *block_size,
                read_only: *read_only,
                ana_group: *ana_group,
                uuid: *uuid,
                nguid: *nguid,
                eui64: *eui64,
                ..NamespaceConfig::new(backing.parse()?)
            }),
            Self::Namespace(NamespaceVerb::Resize { nsid, size }) => {
                let bytes = size.as_deref().map(size_in_bytes).transpose()?;
                Request::NamespaceResize { nsid: *nsid, bytes }
            }
            Self::Namespace(NamespaceVerb::ClearError { nsid }) => Request::NamespaceClearError { nsid: *nsid },
            Self::Namespace(NamespaceVerb::Remove { nsid }) => Request::NamespaceRemove { nsid: *nsid },
            Self::Ana { port, state, group } => {
                Request::Ana { port: *port, group: *group, state: state.parse::<Ana>()? }
            }
            Self::Port(PortVerb::Close { port }) => Request::PortClose { port: *port },
            Self::Port(PortVerb::Open { port }) => Request::PortOpen { port: *port },
            Self::Fault { fault: text } => Request::Fault { fault: fault(text)? },
            Self::Shutdown => Request::Shutdown {},
        })
    }

    /// One sentence for what was done.
    fn words(&self, answer: &Answer) -> String {
        match (self, answer) {
            (_, Answer::Status(status)) => status_words(status),
            (Self::Namespace(NamespaceVerb::Add { .. }), Answer::Namespace { nsid, bytes }) => {
                format!("namespace {nsid} was added: {bytes} bytes")
            }
            (_, Answer::Namespace { nsid, bytes }) => format!("namespace {nsid} has {bytes} bytes"),
            (_, Answer::Cleared { failed: true }) => "flushes may succeed again".into(),
            (_, Answer::Cleared { failed: false }) => "no flush had failed".into(),
            (Self::Ana { port, state, group }, Answer::Ana { changed }) => {
                let word = if *changed { "is now" } else { "was already" };
                format!("ANA group {group} {word} {state} through port {port}")
            }
            (_, Answer::Ana { .. }) => "the ANA state is set".into(),
            (_, Answer::Port { listen }) => format!("listening on {listen}"),
            (Self::Namespace(NamespaceVerb::Remove { nsid }), Answer::Done) => format!("namespace {nsid} was removed"),
            (Self::Port(PortVerb::Close { port }), Answer::Done) => format!("port {port} is closed"),
            (Self::Fault { fault }, Answer::Done) => format!("done: {fault}"),
            (Self::Shutdown, Answer::Done) => "the target ends".into(),
            (_, Answer::Done) => "done".into(),
        }
    }
}

fn status_words(status: &Status) -> String {
    let mut lines = vec![format!("subsystem {}, serial {}, model {}", status.nqn, status.serial, status.model)];
    lines.extend(status.ports.iter().map(port_words));
    lines.extend(status.namespaces.iter().map(namespace_words));
    lines.extend(status.controllers.iter().map(controller_words));
    lines.extend(status.lives.iter().map(life_words));
    lines.extend(status.connections.iter().map(connection_words));
    let memory = status.memory;
    lines.push(format!(
        "{} connections, {} commands inside, {} KiB in buffers ({} KiB kept for reuse), {} KiB resident, {} descriptors",
        status.connections.len(),
        memory.inside,
        memory.buffers >> 10,
        memory.cached >> 10,
        memory.resident >> 10,
        memory.descriptors,
    ));
    lines.push(quota_words(&status.quota));
    lines.extend(status.quota.payers.iter().map(payer_words));
    lines.extend(trouble_words(&status.troubles));
    lines.join("\n")
}

fn quota_words(quota: &QuotaStatus) -> String {
    format!(
        "peers hold {} of at most {} KiB; {} connections refused or ended to make room",
        quota.held >> 10,
        quota.total >> 10,
        quota.refused
    )
}

fn payer_words(payer: &PayerStatus) -> String {
    format!(
        "address {}: {} controllers, {} connections, {} KiB, {} connections refused",
        payer.address,
        payer.controllers,
        payer.connections,
        payer.bytes >> 10,
        payer.refused
    )
}

fn trouble_words(troubles: &TroubleStatus) -> Vec<String> {
    let TroubleStatus { quiesce_overruns, too_late } = troubles;
    let lines = [
        (*quiesce_overruns, "lives were NOT OVER within the Command Quiesce Time"),
        (
            *too_late,
            "commands were refused: they came up for execution after the time at which their host counts as lost",
        ),
    ];
    lines.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}

fn port_words(port: &PortStatus) -> String {
    let state = if port.open { "open" } else { "CLOSED" };
    if port.discovery_only {
        return format!("port {}: {} {state}, discovery only", port.port, port.listen);
    }
    let ana: Vec<String> = (1..).zip(&port.ana).map(|(group, state)| format!("group {group} {state}")).collect();
    format!("port {}: {} {state}, {}", port.port, port.listen, ana.join(", "))
}

fn namespace_words(namespace: &NamespaceStatus) -> String {
    let protected = if namespace.read_only { ", write protected" } else { "" };
    let failed = namespace.flush_failed.as_ref().map_or_else(String::new, |why| {
        format!(", A FLUSH FAILED ({why}): none succeeds until `ctl namespace clear-error {}`", namespace.nsid)
    });
    format!(
        "namespace {}: {}, {} bytes in blocks of {}, ANA group {}{protected}{failed}",
        namespace.nsid, namespace.backing, namespace.bytes, namespace.block_size, namespace.ana_group
    )
}

fn controller_words(controller: &ControllerStatus) -> String {
    let kind = if controller.discovery { "discovery controller" } else { "controller" };
    let life = controller.life.as_ref().map_or_else(String::new, |life| format!(", life {life}"));
    format!(
        "{kind} {}: {} through port {}, {}{life}, {} I/O queues, keep alive {} ms",
        controller.cntlid, controller.host, controller.port, controller.state, controller.queues, controller.kato_ms
    )
}

fn life_words(life: &LifeStatus) -> String {
    let by = life.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    format!("life {}: {}{by}, {} writes held", life.life, life.state, life.held)
}

fn connection_words(connection: &ConnectionStatus) -> String {
    let peer = connection.peer.map_or_else(|| "a peer that has gone".to_owned(), |peer| peer.to_string());
    let queue = match (connection.queue.as_str(), &connection.life) {
        ("io", Some(life)) => format!("I/O queue of life {life}"),
        ("io", None) => "I/O queue".into(),
        ("admin", _) => "admin queue".into(),
        ("new", _) => "no Connect yet".into(),
        (other, _) => other.to_owned(),
    };
    format!(
        "connection {}/{}: {peer} through port {}, {queue}, {} commands",
        connection.lane, connection.connection, connection.port, connection.commands
    )
}
