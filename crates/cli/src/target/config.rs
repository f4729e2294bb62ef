//! The options of `interlock target`: what a file says, flags can say.

use crate::failure::Failure;
use crate::output::OutputArgs;
use anyhow::Context;
use interlock_target::config::{
    Ana, Backing, Config, DISCOVERY_PORT, FaultConfig, NamespaceConfig, PortConfig, unknown_key,
};
use interlock_target::help;
use std::path::PathBuf;

/// Run an NVMe/TCP target
///
/// Every port also answers discovery. Give either --config or the other options. With --control, `interlock target ctl` changes
/// the running target.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = crate::log::ENVIRONMENT)]
pub(crate) struct TargetArgs {
    #[command(subcommand)]
    pub(super) command: Option<TargetCommand>,
    /// Read everything from this TOML file
    #[arg(long, value_name = "FILE", conflicts_with = "flags")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// Listen here for `interlock target ctl`: a Unix socket for this user alone
    #[arg(long, value_name = "SOCKET")]
    pub(super) control: Option<PathBuf>,
    /// Print events on standard output, one line of JSON each, after the first line
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(super) events: Option<EventFormat>,
    /// Reactor threads, 1 to 256; default: one per port, at most one per processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EventFormat {
    Json,
}

/// What can be done beside running one.
#[derive(clap::Subcommand)]
pub(crate) enum TargetCommand {
    Ctl(super::ctl::CtlArgs),
}

/// How `--discovery` without a value is written down.
const WELL_KNOWN: &str = "well-known";

#[derive(clap::Args)]
#[group(id = "flags", multiple = true)]
#[allow(rustdoc::broken_intra_doc_links, reason = "these are the texts of --help: brackets are what a user types")]
struct Flags {
    /// Address to listen on, repeatable: 4420 (every IPv4 address), 127.0.0.1:4420 or [::1]:4420; port 0: any
    #[arg(long = "port", value_name = "ADDR")]
    ports: Vec<String>,
    /// Address to listen on for discovery only, repeatable; without a value: port 8009, which hosts try, at the address of
    /// the first port
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = WELL_KNOWN)]
    discovery: Vec<String>,
    /// Namespace to serve, repeatable: file:disk.img, mem:1G or null:64G
    #[arg(long = "namespace", value_name = "BACKING")]
    namespaces: Vec<String>,
    /// Subsystem NQN; default: one that no other target has, kept beside the first namespace that is a file
    #[arg(long, value_name = "NQN")]
    nqn: Option<String>,
    /// Serial number, 1 to 20 characters; default: one that no other target has, kept as the NQN is. Nodes of one subsystem
    /// must use the same
    #[arg(long, value_name = "TEXT")]
    serial: Option<String>,
    /// Directory for what outlives the target: its name, identities of namespaces, failed flushes; default: beside each file,
    /// and for devices /var/lib/interlock/target
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// UUID of a namespace, repeatable; default: kept for files, new at every start for memory. Nodes of one subsystem must use
    /// the same
    #[arg(long = "uuid", value_name = "NSID=UUID")]
    uuids: Vec<String>,
    /// NGUID of a namespace, 32 hexadecimal digits, repeatable; default: as for --uuid
    #[arg(long = "nguid", value_name = "NSID=HEX")]
    nguids: Vec<String>,
    /// EUI64 of a namespace, 16 hexadecimal digits, repeatable; default: none
    #[arg(long = "eui64", value_name = "NSID=HEX")]
    eui64s: Vec<String>,
    /// Bytes per block of every namespace: 512 or 4096
    #[arg(long, value_name = "BYTES")]
    block_size: Option<u32>,
    /// ANA groups, 1 to 128; namespaces are in group 1 unless the file or `ctl namespace add` says otherwise
    #[arg(long, value_name = "N")]
    ana_groups: Option<u32>,
    /// Host NQN that may connect, repeatable; default: any
    #[arg(long = "allow-host", value_name = "NQN")]
    allow_hosts: Vec<String>,
    /// Do not offer Cross-Controller Reset
    #[arg(long)]
    no_ccr: bool,
    /// Command Quiesce Time to state, in milliseconds; 0: none
    #[arg(long, value_name = "MS")]
    cqt: Option<u16>,
    /// Time for which a lost controller really continues, in milliseconds
    #[arg(long, value_name = "MS")]
    quiesce: Option<u32>,
    /// Do not grant digests
    #[arg(long)]
    no_digests: bool,
    /// Limit what peers can make the target hold, repeatable: connections=100,handshake_ms=500 and so on, as in [limits] of the file; `help`
    /// lists them
    #[arg(long = "limit", value_name = "KEY=VALUE,...")]
    limits: Vec<String>,
    /// Start with this fault in force, repeatable: kind=delay,port=0,ms=20 and so on, as in the file; `help` lists them
    #[arg(long = "fault", value_name = "KEY=VALUE,...")]
    faults: Vec<String>,
}

impl TargetArgs {
    /// What the target is made of.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let Some(path) = &self.config else { return self.flags.config() };
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Config::from_toml(&text).map_err(|why| Failure::new(format!("{}: {why}", path.display())))?)
    }

    /// The list that was asked for instead of a target.
    pub(super) fn asked_for_help(&self) -> Option<String> {
        let asks = |list: &[String]| list.iter().any(|text| text == "help");
        if asks(&self.flags.faults) {
            Some(help::table(&help::FAULTS))
        } else {
            asks(&self.flags.limits).then(|| help::table(&help::LIMITS))
        }
    }

    /// How many reactors to run it on.
    pub(super) fn reactors(&self, config: &Config) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(|| config.ports.len().clamp(1, processors), usize::from)
    }
}

impl Flags {
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::default();
        config.nqn.clone_from(&self.nqn);
        config.serial.clone_from(&self.serial);
        config.state.clone_from(&self.state);
        config.ports = self.ports.iter().map(|text| text.parse::<PortConfig>()).collect::<Result<_, _>>()?;
        let first = config.ports.first().map(|port| port.listen.ip());
        let discovery = |text: &String| match first.filter(|_| text == WELL_KNOWN) {
            Some(address) => Ok(PortConfig { listen: (address, DISCOVERY_PORT).into(), ana: Ana::default() }),
            None => text.replace(WELL_KNOWN, "8009").parse::<PortConfig>(),
        };
        config.discovery = self.discovery.iter().map(discovery).collect::<Result<_, _>>()?;
        for text in &self.namespaces {
            let backing: Backing = text.parse()?;
            let block_size = self.block_size.unwrap_or(4096);
            config.namespaces.push(NamespaceConfig { block_size, ..NamespaceConfig::new(backing) });
        }
        for text in &self.uuids {
            let (namespace, id) = identified(&mut config, text)?;
            namespace.uuid = Some(id.parse()?);
        }
        for text in &self.nguids {
            let (namespace, id) = identified(&mut config, text)?;
            namespace.nguid = Some(id.parse()?);
        }
        for text in &self.eui64s {
            let (namespace, id) = identified(&mut config, text)?;
            namespace.eui64 = Some(id.parse()?);
        }
        config.allow_hosts.clone_from(&self.allow_hosts);
        config.ana_groups = self.ana_groups.unwrap_or(config.ana_groups);
        config.recovery.ccr = !self.no_ccr;
        config.recovery.cqt_ms = self.cqt.unwrap_or(config.recovery.cqt_ms);
        config.recovery.quiesce_ms = self.quiesce.unwrap_or_else(|| {
            // A stated CQT is a promise: what nobody asked for must not break it.
            let stated = u32::from(config.recovery.cqt_ms);
            if stated == 0 { config.recovery.quiesce_ms } else { config.recovery.quiesce_ms.min(stated) }
        });
        config.digests = !self.no_digests;
        if !self.limits.is_empty() {
            config.limits = keyed(&self.limits.join(","), "limit", "connections=100,handshake_ms=500")?;
        }
        config.faults = self.faults.iter().map(|text| fault(text)).collect::<anyhow::Result<_>>()?;
        config.check()?;
        Ok(config)
    }
}

/// `1=IDENTIFIER`: the namespace that is given it, and the identifier.
fn identified<'a, 't>(config: &'a mut Config, text: &'t str) -> anyhow::Result<(&'a mut NamespaceConfig, &'t str)> {
    let wrong =
        || Failure::new(format!("`{text}` names no namespace: use `NSID=IDENTIFIER`, such as `1=0025385b71b00001`"));
    let (nsid, id) = text.split_once('=').ok_or_else(wrong)?;
    let nsid: usize = nsid.parse().map_err(|_| wrong())?;
    // On the command line they are numbered by place.
    let namespace = nsid.checked_sub(1).and_then(|place| config.namespaces.get_mut(place)).ok_or_else(wrong)?;
    Ok((namespace, id))
}

/// `kind=delay,port=0,ms=20`: the keys of a `[[fault]]`.
pub(super) fn fault(text: &str) -> anyhow::Result<FaultConfig> {
    keyed(text, "fault", "kind=delay,port=0,ms=20")
}

/// Keys and values as the configuration file knows them, in one line. `what` they are, and how they look.
fn keyed<T: serde::de::DeserializeOwned>(text: &str, what: &str, example: &str) -> anyhow::Result<T> {
    let mut keys = serde_json::Map::new();
    for pair in text.split(',') {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("`{text}` is not a valid {what}: use `{example}`")))?;
        let number = match value.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        };
        keys.insert(key.to_owned(), number.map_or_else(|| value.into(), |number: u32| number.into()));
    }
    serde_json::from_value(keys.into()).map_err(|why| {
        let words = why.to_string();
        let words = unknown_key(&words).map_or(words, |known| known.to_string());
        let hint = format!("`--{what} help` explains them");
        Failure::new(format!("`{text}` is not a valid {what}: {words}")).hint(&hint).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: TargetArgs,
    }

    fn config(options: &[&str]) -> anyhow::Result<Config> {
        let only = Only::try_parse_from(std::iter::once(&"target").chain(options))?;
        only.args.config()
    }

    #[test]
    fn flags_say_what_a_file_says() {
        let options = [
            "--port=4420",
            "--port=127.0.0.1:0",
            "--discovery=[::1]:8009",
            "--namespace=mem:1M",
            "--namespace=null:64G",
            "--block-size=512",
            "--allow-host=nqn.2026-11.io.example:host",
            "--no-ccr",
            "--cqt=200",
            "--no-digests",
            "--limit=connections=100",
            "--limit=handshake_ms=500,half_open=7",
            "--fault=kind=delay,port=1,ms=20",
            "--fault=kind=ccr-refuse,status=0x141",
        ];
        let from_flags = config(&options).expect("good options");
        let from_file = Config::from_toml(
            r#"
            allow_hosts = ["nqn.2026-11.io.example:host"]
            digests = false
            [[port]]
            listen = 4420
            [[port]]
            listen = "127.0.0.1:0"
            [[discovery]]
            listen = "[::1]:8009"
            [[namespace]]
            backing = "mem:1M"
            block_size = 512
            [[namespace]]
            backing = "null:64G"
            block_size = 512
            [recovery]
            ccr = false
            cqt_ms = 200
            quiesce_ms = 200
            [limits]
            connections = 100
            half_open = 7
            handshake_ms = 500
            [[fault]]
            kind = "delay"
            port = 1
            ms = 20
            [[fault]]
            kind = "ccr-refuse"
            status = 0x141
            "#,
        )
        .expect("a good file");
        assert_eq!(from_flags, from_file);
    }

    #[test]
    fn discovery_is_where_hosts_look_for_it() {
        let config = config(&["--port=127.0.0.1:0", "--discovery", "--namespace=mem:1M"]).expect("good options");
        assert_eq!(config.discovery[0].listen, "127.0.0.1:8009".parse().expect("an address"));
    }

    #[test]
    fn what_cannot_be_is_told_in_one_line() {
        for (options, text) in [
            (&["--namespace=mem:1M"][..], "a target needs at least one port"),
            (&["--port=0"], "a target needs at least one namespace"),
            (&["--port=x", "--namespace=mem:1M"], "`x` is not a valid address to listen on"),
            (&["--port=0", "--namespace=disk.img"], "`disk.img` is not a valid namespace"),
            (&["--port=0", "--namespace=mem:1M", "--fault=delay"], "`delay` is not a valid fault"),
            (
                &["--port=0", "--namespace=mem:1M", "--fault=kind=nothing"],
                "`kind=nothing` is not a valid fault: unknown choice `nothing`",
            ),
            (
                &["--port=0", "--namespace=mem:1M", "--limit=halfopen=1"],
                "`halfopen=1` is not a valid limit: unknown key `halfopen`: did you mean `half_open`?",
            ),
            (&["--port=0", "--namespace=mem:1M", "--limit=connections=0"], "`limits.connections` is 0: use 1 to"),
            (&["--config=/nonexistent/target.toml"], "cannot read `/nonexistent/target.toml`"),
        ] {
            let error = config(options).expect_err(text).to_string();
            assert!(error.starts_with(text) && !error.contains('\n'), "{options:?}: {error}");
        }
        assert!(config(&["--config=a", "--port=0"]).is_err(), "one or the other");
    }
}
