//! `interlock connect`, `disconnect`, `disconnect-all`.

use crate::ask::{AskArgs, EndArgs, failed, forced};
use crate::failure::Failure;
use crate::output::{Format, OutputArgs, print, say};
use clap::ValueEnum;
use interlock_api::{
    Client, ClientError, ConnectRequest, Connected, ControllerState, ControllerStatus, Done, FencePolicy, FlushScope,
    IoPolicy, OnLoss, ProblemKind, Status, escaped,
};
use interlock_daemon::check_request;
use serde_json::json;
use std::net::IpAddr;
use std::process::ExitCode;

/// Choices of `--iopolicy`, in Linux' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    RoundRobin,
    QueueDepth,
    Numa,
}

impl From<Policy> for IoPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::RoundRobin => Self::RoundRobin,
            Policy::QueueDepth => Self::QueueDepth,
            Policy::Numa => Self::Numa,
        }
    }
}

/// Choices of `--flush-scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flush {
    /// Controllers share their write cache, or have none: a flush takes one path
    Subsystem,
    /// Each controller has a cache of its own: a flush goes to all, and fails once if one was lost with unflushed writes
    Controller,
}

impl From<Flush> for FlushScope {
    fn from(scope: Flush) -> Self {
        match scope {
            Flush::Subsystem => Self::Subsystem,
            Flush::Controller => Self::Controller,
        }
    }
}

/// Choices of `--fence-policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fence {
    /// Only after its path was fenced
    Strict,
    /// At once, as other hosts do: UNSAFE, may lose data
    Legacy,
}

impl From<Fence> for FencePolicy {
    fn from(policy: Fence) -> Self {
        match policy {
            Fence::Strict => Self::Strict,
            Fence::Legacy => Self::Legacy,
        }
    }
}

/// Choices of `--on-loss` of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Loss {
    /// The daemon
    Reconnect,
    /// An operator or a hook, with `interlock reconnect`: an event asks for it
    Notify,
}

impl From<Loss> for OnLoss {
    fn from(policy: Loss) -> Self {
        match policy {
            Loss::Reconnect => Self::Reconnect,
            Loss::Notify => Self::Notify,
        }
    }
}

/// Settings of a connection, with nvme-cli's names and letters.
#[derive(clap::Args)]
pub(crate) struct SettingArgs {
    /// Source address
    #[arg(short = 'w', long, value_name = "ADDR")]
    host_traddr: Option<IpAddr>,
    /// Network interface to connect from
    #[arg(short = 'f', long, value_name = "NAME")]
    host_iface: Option<String>,
    /// I/O queue pairs, 1 to 1024; default: one per reactor
    #[arg(short = 'i', long, value_name = "N")]
    nr_io_queues: Option<u16>,
    /// Entries of each I/O queue; default: 128
    #[arg(short = 'Q', long, value_name = "N")]
    queue_size: Option<u16>,
    /// Keep Alive Timeout, 1 to 60 seconds; default: 5
    #[arg(short = 'k', long, value_name = "S")]
    keep_alive_tmo: Option<u16>,
    /// Seconds between attempts to reconnect; default: 10
    #[arg(short = 'c', long, value_name = "S")]
    reconnect_delay: Option<u32>,
    /// Give up on a lost controller after this many seconds; -1 or `off`: never; default: 600
    #[arg(short = 'l', long, value_name = "S", allow_hyphen_values = true, value_parser = seconds_or_off)]
    ctrl_loss_tmo: Option<i64>,
    /// Fail I/O that is not in doubt after this many seconds without a path; -1 or `off`: never; default: off
    #[arg(long, short_alias = 'F', value_name = "S", allow_hyphen_values = true, value_parser = seconds_or_off)]
    fast_io_fail_tmo: Option<i64>,
    /// Ask for header digests
    #[arg(short = 'g', long)]
    hdr_digest: bool,
    /// Ask for data digests
    #[arg(short = 'G', long)]
    data_digest: bool,
    /// Policy that chooses the path of a command; default: round-robin
    #[arg(long, value_name = "POLICY", value_enum)]
    iopolicy: Option<Policy>,
    /// When to repeat a write of a lost path elsewhere; default: strict
    #[arg(long, value_name = "POLICY", value_enum)]
    fence_policy: Option<Fence>,
    /// Who reconnects a lost controller; default: reconnect
    #[arg(long, value_name = "WHO", value_enum)]
    on_loss: Option<Loss>,
    /// Quiesce time to assume where the target states none, in milliseconds; -1 or `never`: assume none, so that only a
    /// reset or an operator ends a doubt. A paused target breaks any assumption. Default: 5000
    #[arg(long, value_name = "MS", allow_hyphen_values = true, value_parser = millis_or_never)]
    assumed_cqt: Option<i64>,
    /// Allowance for a slow clock of the target: percent by which its times may be longer than stated, 0 to 100; default: 10
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    clock_slew: Option<u16>,
    /// Longest delay that a middlebox which terminates TCP may add, in milliseconds; default: 0, there is none
    #[arg(long, value_name = "MS")]
    proxy_delay: Option<u32>,
    /// Take a completed disable for a fence: this target is known to finish or drop all commands first (most do not)
    #[arg(long)]
    disable_is_fence: bool,
    /// Keep trying although the target answers with Do Not Retry, as some do while they are reconfigured
    #[arg(long)]
    ignore_dnr: bool,
    /// Caches that a flush through one path covers; default: subsystem
    #[arg(long, value_name = "SCOPE", value_enum)]
    flush_scope: Option<Flush>,
    #[command(flatten)]
    security: SecurityArgs,
}

/// Options of nvme-cli for authentication and TLS. They are taken so that nobody believes to have them: each is an error.
#[derive(clap::Args)]
pub(crate) struct SecurityArgs {
    /// Not built yet: gives an error
    #[arg(long, hide = true)]
    tls: bool,
    /// Not built yet: gives an error
    #[arg(long, hide = true)]
    concat: bool,
    /// Not built yet: gives an error
    #[arg(short = 'S', long, alias = "kxchap-secret", hide = true)]
    dhchap_secret: Option<String>,
    /// Not built yet: gives an error
    #[arg(short = 'C', long, alias = "kxchap-ctrl-secret", hide = true)]
    dhchap_ctrl_secret: Option<String>,
    /// Not built yet: gives an error
    #[arg(long, hide = true)]
    tls_key: Option<String>,
    /// Not built yet: gives an error
    #[arg(long, hide = true)]
    tls_key_identity: Option<String>,
    /// Not built yet: gives an error
    #[arg(long, hide = true)]
    keyring: Option<String>,
}

impl SecurityArgs {
    pub(crate) fn refuse(&self) -> anyhow::Result<()> {
        let texts =
            [&self.dhchap_secret, &self.dhchap_ctrl_secret, &self.tls_key, &self.tls_key_identity, &self.keyring];
        if !self.tls && !self.concat && texts.iter().all(|text| text.is_none()) {
            return Ok(());
        }
        Err(Failure::new("TLS and in-band authentication are not built yet")
            .hint("nothing was connected: a connection without them would not be what you asked for")
            .into())
    }
}

/// An address or a name as it stands, unless it is more than that.
pub(crate) fn address(text: &str) -> Result<String, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("give the address without `{scheme}://`"));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && (!host.contains(':') || host.ends_with(']'))
        && port.parse::<u16>().is_ok()
    {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        return Err(format!("the port is an option of its own: -a {host} -s {port}"));
    }
    Ok(text.to_owned())
}

pub(crate) fn seconds_or_off(text: &str) -> Result<i64, String> {
    if text == "off" {
        return Ok(-1);
    }
    text.parse().map_err(|_| "expected seconds, -1 or `off`".into())
}

pub(crate) fn millis_or_never(text: &str) -> Result<i64, String> {
    match text {
        "never" | "-1" => Ok(-1),
        _ => text.parse::<u32>().map(i64::from).map_err(|_| "expected milliseconds, -1 or `never`".into()),
    }
}

/// `8.4` or `8.4%`, in thousandths.
pub(crate) fn percent(text: &str) -> Result<u16, String> {
    let wrong = || String::from("expected percent, 0 to 100, with one decimal at most");
    let (whole, tenths) =
        text.strip_suffix('%').unwrap_or(text).split_once('.').unwrap_or((text.trim_end_matches('%'), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || whole.len() > 3 || !digits(tenths) || tenths.len() != 1 {
        return Err(wrong());
    }
    let permille = whole.parse::<u16>().map_err(|_| wrong())? * 10 + tenths.parse::<u16>().map_err(|_| wrong())?;
    if permille > 1_000 { Err(wrong()) } else { Ok(permille) }
}

impl SettingArgs {
    /// What asks for authentication or TLS.
    pub(crate) fn refuse_security(&self) -> anyhow::Result<()> {
        self.security.refuse()
    }

    /// A request with these settings.
    pub(crate) fn request(&self, traddr: &str, trsvcid: u16, subnqn: &str) -> anyhow::Result<ConnectRequest> {
        self.refuse_security()?;
        let mut request = ConnectRequest::new(traddr, trsvcid, subnqn);
        self.apply(&mut request);
        request.host_traddr = self.host_traddr;
        Ok(request)
    }

    /// Puts what the command line says in place of what a file says. A source address is for its own family of addresses.
    pub(crate) fn apply(&self, request: &mut ConnectRequest) {
        let fits = |local: &IpAddr| {
            let bare = request.traddr.split('%').next().unwrap_or_default();
            bare.parse::<IpAddr>().map_or(true, |ip| ip.is_ipv4() == local.is_ipv4())
        };
        request.host_traddr = self.host_traddr.filter(fits).or(request.host_traddr);
        request.host_iface = self.host_iface.clone().or(request.host_iface.take());
        request.nr_io_queues = self.nr_io_queues.unwrap_or(request.nr_io_queues);
        request.queue_size = self.queue_size.unwrap_or(request.queue_size);
        request.keep_alive_tmo_s = self.keep_alive_tmo.unwrap_or(request.keep_alive_tmo_s);
        request.reconnect_delay_s = self.reconnect_delay.unwrap_or(request.reconnect_delay_s);
        request.ctrl_loss_tmo_s = self.ctrl_loss_tmo.unwrap_or(request.ctrl_loss_tmo_s);
        request.fast_io_fail_tmo_s = self.fast_io_fail_tmo.unwrap_or(request.fast_io_fail_tmo_s);
        request.hdr_digest |= self.hdr_digest;
        request.data_digest |= self.data_digest;
        request.iopolicy = self.iopolicy.map_or(request.iopolicy, Into::into);
        request.fence = self.fence_policy.map_or(request.fence, Into::into);
        request.on_loss = self.on_loss.map_or(request.on_loss, Into::into);
        request.assumed_cqt_ms = self.assumed_cqt.unwrap_or(request.assumed_cqt_ms);
        request.clock_slew_permille = self.clock_slew.unwrap_or(request.clock_slew_permille);
        request.proxy_delay_ms = self.proxy_delay.unwrap_or(request.proxy_delay_ms);
        request.disable_is_fence |= self.disable_is_fence;
        request.ignore_dnr |= self.ignore_dnr;
        request.flush_scope = self.flush_scope.map_or(request.flush_scope, Into::into);
    }
}

/// Connect a subsystem through one port, and keep it connected
#[derive(clap::Args)]
pub(crate) struct ConnectArgs {
    /// Transport
    #[arg(short, long, value_name = "TYPE", value_enum, default_value_t = crate::identity::Transport::Tcp)]
    transport: crate::identity::Transport,
    /// Address or name of the target; link-local IPv6 with its scope, as in fe80::1%eth0
    #[arg(short = 'a', long, value_name = "ADDR", value_parser = address)]
    traddr: String,
    /// TCP port
    #[arg(short = 's', long, value_name = "PORT", default_value_t = 4420)]
    trsvcid: u16,
    /// Subsystem NQN
    #[arg(short = 'n', long, value_name = "NQN")]
    nqn: String,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    settings: SettingArgs,
    /// Keep trying if the first attempt fails, also if the target answers with Do Not Retry
    #[arg(long)]
    keep_trying: bool,
    /// Succeed if the path is connected already
    #[arg(long)]
    idempotent: bool,
    /// Check the settings, print what would be connected, and connect nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// As whom: the daemon is one host, so this can only be checked.
#[derive(clap::Args)]
pub(crate) struct WhoArgs {
    /// Host NQN: must be that of the daemon
    #[arg(short = 'q', long, value_name = "NQN")]
    hostnqn: Option<String>,
    /// Host Identifier: must be that of the daemon
    #[arg(short = 'I', long, value_name = "UUID")]
    hostid: Option<String>,
}

impl WhoArgs {
    pub(crate) fn check(&self, client: &Client) -> anyhow::Result<()> {
        if self.hostnqn.is_none() && self.hostid.is_none() {
            return Ok(());
        }
        let status: interlock_api::Status = client.get("/v1/status").map_err(failed)?;
        for (asked, has, option) in
            [(&self.hostnqn, &status.hostnqn, "--hostnqn"), (&self.hostid, &status.hostid, "--hostid")]
        {
            if let Some(asked) = asked
                && !asked.eq_ignore_ascii_case(has)
            {
                let text = format!("{option} {asked}: the daemon is another host, {has}");
                return Err(Failure::new(text)
                    .hint("one daemon is one host: start another one with that identity")
                    .into());
            }
        }
        Ok(())
    }
}

pub(crate) fn connect(args: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let crate::identity::Transport::Tcp = args.transport;
    let mut request = args.settings.request(&args.traddr, args.trsvcid, &args.nqn)?;
    request.first_attempt_decides = !args.keep_trying;
    // Whoever wants it tried until it succeeds does not want one answer of the target to end that.
    request.ignore_dnr |= args.keep_trying;
    let client = args.ask.client();
    args.who.check(&client)?;
    if args.dry_run {
        check_request(&request).map_err(|why| Failure::new(why).kind(ProblemKind::BadRequest))?;
        print(&match args.output.format {
            Format::Normal => as_command(&request),
            Format::Json => {
                serde_json::to_string_pretty(&json!({ "format_version": 1, "wanted": [request], "connected": [] }))?
            }
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let connected = connect_one(&client, &request, args.idempotent)?;
    print(&match args.output.format {
        Format::Normal => normal(&connected, &request),
        Format::Json => serde_json::to_string_pretty(&connected)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn connect_one(client: &Client, request: &ConnectRequest, idempotent: bool) -> Result<Connected, Failure> {
    match client.send::<Connected>("POST", "/v1/controllers", request) {
        Ok(connected) => Ok(connected),
        Err(ClientError::Problem(problem)) if idempotent && problem.kind == ProblemKind::Already => {
            let status: interlock_api::Status = client.get("/v1/status").map_err(failed)?;
            let device = problem.device.unwrap_or_default();
            let found = status.controllers.iter().find(|ctrl| ctrl.name == device);
            Ok(Connected {
                format_version: interlock_api::Version,
                live: found.is_some_and(|ctrl| ctrl.state == ControllerState::Live),
                subsystem: found.map_or_else(String::new, |ctrl| ctrl.subsystem.clone()),
                device,
            })
        }
        Err(error) => Err(failed(error)),
    }
}

/// How it would be connected by hand.
pub(crate) fn as_command(request: &ConnectRequest) -> String {
    format!("interlock connect -t tcp -a {} -s {} -n {}", request.traddr, request.trsvcid, request.subnqn)
}

pub(crate) fn normal(connected: &Connected, request: &ConnectRequest) -> String {
    // As nvme-cli says it.
    let mut text = format!("connecting to device: {}", connected.device);
    if !connected.live {
        text.push_str(&format!(
            "\n{} port {}: not live yet, being tried; see `interlock status`",
            request.traddr, request.trsvcid
        ));
    }
    text
}

/// Disconnect gracefully: outstanding commands complete first; the rest are fenced
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["nqn", "device", "discovery"])))]
pub(crate) struct DisconnectArgs {
    /// Subsystem NQN: all its controllers
    #[arg(short = 'n', long, value_name = "NQN")]
    nqn: Option<String>,
    /// Controller or subsystem by name, as in nvme0 or nvme-subsys0; repeatable or separated by commas
    #[arg(short = 'd', long, value_name = "DEVICE", value_delimiter = ',')]
    device: Vec<String>,
    /// Stop watching this discovery controller; what it named stays connected
    #[arg(long, value_name = "ADDR:PORT", value_parser = discovery_address)]
    discovery: Option<(String, u16)>,
    #[command(flatten)]
    end: EndArgs,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn disconnect(args: &DisconnectArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client();
    let (mut ended, mut failures) = (Vec::new(), Vec::new());
    if let Some((traddr, trsvcid)) = &args.discovery {
        let path = format!("/v1/discovery?traddr={}&trsvcid={trsvcid}", escaped(traddr));
        ended = args.end.end(&client, &path)?.devices;
        if args.output.format == Format::Normal {
            print(&format!("{traddr} port {trsvcid}: no longer watched"))?;
        }
    }
    if let Some(nqn) = &args.nqn {
        ended = args.end.end(&client, &format!("/v1/subsystems/{}", escaped(nqn)))?.devices;
        if args.output.format == Format::Normal {
            print(&format!("NQN:{nqn} disconnected {} controller(s)", ended.len()))?;
        }
    }
    for device in &args.device {
        let word = device.strip_prefix("/dev/").unwrap_or(device);
        let done = match args.end.end(&client, &format!("/v1/controllers/{}", escaped(word))) {
            Ok(done) => done.devices,
            // One that cannot be ended keeps no other from being ended.
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        if args.output.format == Format::Normal {
            for device in &done {
                print(&format!("disconnected {device}"))?;
            }
        }
        ended.extend(done);
    }
    each(failures, &ended, args.device.len(), args.output.format, || {
        Ok(serde_json::to_string_pretty(&json!({ "format_version": 1, "devices": ended }))?)
    })
}

/// The end of a verb that was asked to do something to each of `asked` devices, and did it to `done`: what failed is told, and
/// the one failure of one device is the failure of the verb. `document` is printed if JSON is asked for and nothing failed.
pub(crate) fn each(
    mut failures: Vec<Failure>,
    done: &[String],
    asked: usize,
    format: Format,
    document: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<ExitCode> {
    if failures.is_empty() {
        if format == Format::Json {
            print(&document()?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let first = failures.remove(0);
    if asked <= 1 {
        return Err(first.into());
    }
    let others: Vec<String> = failures.iter().map(Failure::in_one_line).collect();
    let first = others.into_iter().fold(first, |first, other| first.hint(format!("also: {other}")));
    let done = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
    Err(first.hint(format!("done: {done}")).into())
}

/// `192.0.2.9`, `192.0.2.9:8009`, `[::1]:8009`.
fn discovery_address(text: &str) -> Result<(String, u16), String> {
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
            port.parse().map(|port| (bare(host), port)).map_err(|_| format!("`{port}` is not a valid port"))
        }
        _ => Ok((bare(text), 8009)),
    }
}

/// Disconnect everything that the daemon has connected
#[derive(clap::Args)]
pub(crate) struct DisconnectAllArgs {
    /// Keep this one: a controller, a subsystem, a namespace's name for its subsystem, or an NQN; repeatable or separated by
    /// commas; a name that is not known is an error, and nothing is disconnected
    #[arg(short = 'x', long, value_name = "NAME", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Transport of what is to be disconnected
    #[arg(short = 'r', long, value_name = "TYPE", value_enum, default_value_t = crate::identity::Transport::Tcp)]
    transport: crate::identity::Transport,
    /// Disconnect although clients use exports: their outstanding requests are abandoned
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Tries everything, and fails if anything failed.
pub(crate) fn disconnect_all(args: &DisconnectAllArgs) -> anyhow::Result<ExitCode> {
    let crate::identity::Transport::Tcp = args.transport;
    let client = args.ask.client();
    let status = args.ask.status()?;
    let kept = kept(&args.exclude, &status)?;
    let (mut ended, mut problems) = (Vec::new(), Vec::new());
    for ctrl in status.controllers.iter().filter(|ctrl| !kept.contains(&ctrl.name.as_str())) {
        match client.call::<Done>("DELETE", &forced(&format!("/v1/controllers/{}", ctrl.name), args.force), None) {
            Ok(done) => ended.extend(done.devices),
            Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::NotFound => {}
            Err(ClientError::Problem(problem)) => problems.push(format!("{}: {}", ctrl.name, problem.error)),
            Err(error) => return Err(failed(error).into()),
        }
    }
    print(&match args.output.format {
        Format::Normal => {
            ended.iter().map(|device| format!("disconnected {device}\n")).collect::<String>()
                + match (ended.is_empty() && problems.is_empty(), kept.is_empty()) {
                    (true, true) => "nothing is connected",
                    (true, false) => "nothing but what is kept is connected",
                    _ => "",
                }
        }
        Format::Json => {
            serde_json::to_string_pretty(&json!({ "format_version": 1, "devices": ended, "problems": problems }))?
        }
    })?;
    for problem in &problems {
        say(&format!("error: {problem}"))?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The controllers that are to be kept. A slip in the name of a disk that is in use must not end it.
fn kept<'a>(exclude: &[String], status: &'a Status) -> Result<Vec<&'a str>, Failure> {
    let mut kept = Vec::new();
    for name in exclude {
        let name = name.strip_prefix("/dev/").unwrap_or(name);
        let of_namespace = status.namespaces.iter().find(|ns| ns.name == name).map(|ns| &ns.subsystem);
        let matches = |ctrl: &&ControllerStatus| {
            [&ctrl.name, &ctrl.subsystem, &ctrl.subnqn].iter().any(|known| *known == name)
                || of_namespace == Some(&ctrl.subsystem)
        };
        let before = kept.len();
        kept.extend(status.controllers.iter().filter(matches).map(|ctrl| ctrl.name.as_str()));
        if kept.len() == before {
            let known: Vec<&str> = status.controllers.iter().map(|ctrl| ctrl.name.as_str()).collect();
            let failure = Failure::new(format!("-x {name}: it is not connected, and nothing was disconnected"))
                .kind(ProblemKind::NotFound);
            return Err(if known.is_empty() {
                failure.hint("nothing is connected")
            } else {
                failure.hint(format!("connected are: {}", known.join(", ")))
            });
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_an_address_says_where_the_rest_goes() {
        for good in ["192.0.2.1", "host.example", "fe80::1%eth0", "[::1]", "::1", "2001:db8::4420", ""] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for (wrong, word) in [
            ("192.0.2.1:4420", "-a 192.0.2.1 -s 4420"),
            ("[::1]:4420", "-a ::1 -s 4420"),
            ("tcp://h", "without `tcp://`"),
        ] {
            let why = address(wrong).expect_err("more than an address");
            assert!(why.contains(word), "{wrong}: {why}");
        }
    }
}
