//! Whom to ask, and who asks: the options that `discover` and `doctor` share.

use crate::connect::SecurityArgs;
use crate::failure::Failure;
use anyhow::Context;
use interlock_api::ProblemKind;
use interlock_daemon::identity;
use interlock_host::{
    HostId, HostSettings, Nqn, Pool, PoolConfig, ProbeError, ProbeReport, ProbeSpec, TargetProblem, probe,
};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Where other NVMe tools keep the identity of this host.
const NVME: &str = "/etc/nvme";

/// The reactor of a look has nothing to do but that.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A look after a failed attempt to connect.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    Tcp,
}

/// Whom to ask, and who asks.
#[derive(clap::Args)]
pub(crate) struct PeerArgs {
    /// Transport
    #[arg(short, long, value_name = "TYPE", value_enum, default_value_t = Transport::Tcp)]
    pub(crate) transport: Transport,
    /// Address or name of the target; link-local IPv6 with its scope, as in fe80::1%eth0
    #[arg(short = 'a', long, value_name = "ADDR", value_parser = crate::connect::address)]
    pub(crate) traddr: String,
    /// Host NQN; default: that of /etc/nvme/hostnqn, or a random one
    #[arg(short = 'q', long, value_name = "NQN")]
    hostnqn: Option<String>,
    /// Host Identifier, a UUID; default: that of /etc/nvme/hostid, or a random one
    #[arg(short = 'I', long, value_name = "UUID")]
    hostid: Option<String>,
    /// Source address
    #[arg(short = 'w', long, value_name = "ADDR")]
    pub(crate) host_traddr: Option<IpAddr>,
    /// Network interface to connect from
    #[arg(short = 'f', long, value_name = "NAME")]
    pub(crate) host_iface: Option<String>,
    /// Give up after this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    #[command(flatten)]
    security: SecurityArgs,
}

impl PeerArgs {
    /// True if the command line says who asks.
    pub(crate) const fn names_a_host(&self) -> bool {
        self.hostnqn.is_some() || self.hostid.is_some()
    }

    /// What asks for authentication or TLS.
    pub(crate) fn refuse_security(&self) -> anyhow::Result<()> {
        self.security.refuse()
    }

    /// Who asks.
    pub(crate) fn settings(&self) -> anyhow::Result<HostSettings> {
        self.security.refuse()?;
        if self.names_a_host() {
            let random = HostSettings::random().context("no random numbers for a host identity")?;
            let hostid = match &self.hostid {
                Some(text) => text.parse::<HostId>().map_err(|why| Failure::new(format!("-I: {why}")))?,
                None => random.hostid,
            };
            let hostnqn = match &self.hostnqn {
                Some(text) => Nqn::new(text.as_str()).map_err(|why| Failure::new(format!("-q: {why}")))?,
                None => Nqn::of_host(hostid),
            };
            return Ok(HostSettings { hostnqn, hostid });
        }
        // The files belong together. One that is wrong is told: another identity would see other disks.
        match identity::look(Path::new(NVME)).map_err(Failure::caused)? {
            Some(who) => Ok(who),
            None => Ok(HostSettings::random().context("no random numbers for a host identity")?),
        }
    }

    /// The limit of everything.
    pub(crate) const fn within(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }

    /// With what the options say about the way there.
    pub(crate) fn direct(&self, mut spec: ProbeSpec) -> ProbeSpec {
        let Transport::Tcp = self.transport;
        let within = self.within();
        spec.host_traddr = self.host_traddr;
        spec.host_iface.clone_from(&self.host_iface);
        // --timeout may be longer than the default of a step: then the step gets it all.
        spec.timeouts.tcp_connect = within;
        spec.timeouts.handshake = within;
        spec.timeouts.admin = within;
        spec
    }
}

impl PeerArgs {
    /// A failed look as a failure of the command.
    pub(crate) fn failed(&self, error: &ProbeError) -> Failure {
        let unreachable = matches!(error, ProbeError::Target { why: TargetProblem::Unreachable { .. }, .. });
        let own_side = unreachable && (self.host_traddr.is_some() || self.host_iface.is_some());
        let failure = failed(error);
        if own_side {
            failure.hint("is the source address (-w) one of this machine, and is the interface (-f) there and up?")
        } else {
            failure
        }
    }
}

/// What is in the way of a connection that failed: a look knows a port that speaks TLS, or something else, by its answer, and says
/// what to do. Where it sees nothing of that, the error stands.
pub(crate) fn diagnosed(error: anyhow::Error, spec: &ProbeSpec) -> anyhow::Error {
    use TargetProblem::{Authentication, HungUp, NotNvme, Tls};
    let look = || {
        let looker = Looker::new()?;
        let looked = looker.look(spec, LOOK_WITHIN);
        looker.end()?;
        anyhow::Ok(looked.err())
    };
    let Ok(Some(seen)) = look() else { return error };
    if matches!(&seen, ProbeError::Target { why: Tls | Authentication | NotNvme { .. } | HungUp { .. }, .. }) {
        return failed(&seen).into();
    }
    let failure = Failure::of(&error).kind(ProblemKind::Target);
    seen.hint().map_or(error, |hint| failure.hint(hint).into())
}

/// A failed look as a failure of the command.
pub(crate) fn failed(error: &ProbeError) -> Failure {
    let failure = Failure::new(error).kind(ProblemKind::Target);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Looks from a reactor of its own.
pub(crate) struct Looker(Pool);

impl Looker {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let config = PoolConfig { spin: Duration::ZERO, name: "look".into(), ..PoolConfig::default() };
        Ok(Self(Pool::new(config).context("the reactor cannot start")?))
    }

    pub(crate) fn reactor(&self) -> interlock_host::Reactor {
        self.0.reactor(0)
    }

    pub(crate) fn look(&self, spec: &ProbeSpec, within: Duration) -> Result<ProbeReport, ProbeError> {
        probe(&self.0.reactor(0), spec, within)
    }

    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.0.shutdown(STOP_WITHIN).context("the reactor does not end")
    }
}
