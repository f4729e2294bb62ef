//! Requests in words of the host, and back.

use crate::view::millis;
use interlock_api as api;
use interlock_host::{ControllerSpec, FencePolicy, FlushScope, IoPolicy, Nqn, OnLoss, Setting};
use std::net::IpAddr;
use std::time::Duration;

/// What was asked for, as the host takes it.
///
/// # Errors
/// In one sentence.
fn spec(request: &api::ConnectRequest) -> Result<ControllerSpec, String> {
    if request.transport != "tcp" {
        return Err(format!("transport `{}`: only `tcp` is there", request.transport));
    }
    let subnqn = Nqn::new(request.subnqn.as_str()).map_err(|why| format!("`{}`: {why}", request.subnqn))?;
    let mut spec = ControllerSpec::new(&request.traddr, request.trsvcid, subnqn);
    spec.host_traddr = request.host_traddr;
    spec.host_iface.clone_from(&request.host_iface);
    spec.nr_io_queues = request.nr_io_queues;
    spec.queue_size = request.queue_size;
    spec.kato = Duration::from_secs(request.keep_alive_tmo_s.into());
    spec.reconnect.delay = Duration::from_secs(request.reconnect_delay_s.into());
    spec.reconnect.ctrl_loss = limit(request.ctrl_loss_tmo_s);
    spec.reconnect.fast_io_fail = limit(request.fast_io_fail_tmo_s);
    spec.hdgst = request.hdr_digest;
    spec.ddgst = request.data_digest;
    spec.iopolicy = iopolicy(request.iopolicy);
    spec.fence = fence(request.fence);
    spec.on_loss = on_loss(request.on_loss);
    spec.timeouts.assumed_cqt = span_or_never(request.assumed_cqt_ms);
    spec.timeouts.clock_slew_permille = request.clock_slew_permille;
    spec.timeouts.proxy_delay = Duration::from_millis(request.proxy_delay_ms.into());
    spec.proxied = request.proxy_delay_ms > 0;
    spec.disable_is_fence = request.disable_is_fence;
    spec.ignore_dnr = request.ignore_dnr;
    spec.flush_scope = match request.flush_scope {
        api::FlushScope::Subsystem => FlushScope::Subsystem,
        api::FlushScope::Controller => FlushScope::Controller,
    };
    Ok(spec)
}

/// The same, if the host would take it.
///
/// # Errors
/// Why not, in one sentence.
pub(crate) fn check(request: &api::ConnectRequest) -> Result<ControllerSpec, String> {
    check_traddr(&request.traddr)?;
    if request.host_iface.as_deref() == Some("") {
        return Err("host_iface is empty: give the name of an interface, or leave it out".into());
    }
    let spec = spec(request)?;
    spec.check().map_err(|why| why.to_string())?;
    Ok(spec)
}

/// Whether the daemon would take a request, as far as that can be said without the target.
///
/// # Errors
/// Why not, in one sentence.
pub fn check_request(request: &api::ConnectRequest) -> Result<(), String> {
    checked(request).map(drop)
}

/// What one asks for by name, checked as a whole: what files inherit from each other may be less.
///
/// # Errors
/// Why the host would not take it, in one sentence.
pub(crate) fn checked(request: &api::ConnectRequest) -> Result<ControllerSpec, String> {
    if let (Some(local), Ok(peer)) = (request.host_traddr, request.traddr.split('%').next().unwrap_or_default().parse())
    {
        let (local, peer): (IpAddr, IpAddr) = (local.to_canonical(), IpAddr::to_canonical(&peer));
        if local.is_ipv4() != peer.is_ipv4() {
            let family = |ip: IpAddr| if ip.is_ipv4() { "an IPv4" } else { "an IPv6" };
            let (from, to) = (family(local), family(peer));
            return Err(format!("host_traddr {local} is {from} address, and traddr {peer} is {to} address"));
        }
    }
    check(request)
}

/// What a file put around an address, or beside it, would be looked up as a name, again and again.
fn check_traddr(traddr: &str) -> Result<(), String> {
    let odd = |c: &char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | ',' | ';' | '=' | '/' | '\\');
    match traddr.chars().find(odd) {
        Some(c) => {
            let (text, c): (String, String) =
                (traddr.chars().take(60).flat_map(char::escape_debug).collect(), c.escape_debug().collect());
            Err(format!("traddr `{text}` is neither an address nor a host name: it contains `{c}`"))
        }
        None => Ok(()),
    }
}

/// Stands for the NQN of whatever a discovery log may name.
pub(crate) const ANY_NQN: &str = "nqn.2014-08.org.example:any";

/// The same for what the log of a discovery controller names: it is connected with the settings of this request.
///
/// # Errors
/// Why not, in one sentence.
pub(crate) fn check_found(request: &api::ConnectRequest) -> Result<ControllerSpec, String> {
    check(&api::ConnectRequest { subnqn: ANY_NQN.into(), ..request.clone() })
}

/// What is in force.
pub(crate) fn settings(spec: &ControllerSpec) -> api::SettingsStatus {
    let seconds =
        |limit: Option<Duration>| limit.map_or(-1, |limit| i64::try_from(limit.as_secs()).unwrap_or(i64::MAX));
    api::SettingsStatus {
        reconnect_delay_s: spec.reconnect.delay.as_secs(),
        ctrl_loss_tmo_s: seconds(spec.reconnect.ctrl_loss),
        fast_io_fail_tmo_s: seconds(spec.reconnect.fast_io_fail),
        iopolicy: match spec.iopolicy {
            IoPolicy::RoundRobin => api::IoPolicy::RoundRobin,
            IoPolicy::QueueDepth => api::IoPolicy::QueueDepth,
            IoPolicy::Numa => api::IoPolicy::Numa,
        },
        fence: match spec.fence {
            FencePolicy::Strict => api::FencePolicy::Strict,
            FencePolicy::Legacy => api::FencePolicy::Legacy,
        },
        on_loss: match spec.on_loss {
            OnLoss::Reconnect => api::OnLoss::Reconnect,
            OnLoss::Notify => api::OnLoss::Notify,
        },
        assumed_cqt_ms: spec.timeouts.assumed_cqt.map_or(-1, |span| i64::try_from(millis(span)).unwrap_or(i64::MAX)),
        clock_slew_permille: spec.timeouts.clock_slew_permille,
        proxy_delay_ms: millis(spec.timeouts.proxy_delay),
        disable_is_fence: spec.disable_is_fence,
        ignore_dnr: spec.ignore_dnr,
        flush_scope: match spec.flush_scope {
            FlushScope::Subsystem => api::FlushScope::Subsystem,
            FlushScope::Controller => api::FlushScope::Controller,
        },
        hdr_digest: spec.hdgst,
        data_digest: spec.ddgst,
    }
}

/// The changes that a request asks for, in an order in which each can be: limits are widened before they are narrowed.
pub(crate) fn changes(request: &api::SetRequest) -> Vec<Setting> {
    let mut changes = Vec::new();
    changes.extend(request.reconnect_delay_s.map(|delay| Setting::ReconnectDelay(Duration::from_secs(delay.into()))));
    let fast = request.fast_io_fail_tmo_s.map(|fast| Setting::FastIoFailTmo(limit(fast)));
    let loss = request.ctrl_loss_tmo_s.map(|loss| Setting::CtrlLossTmo(limit(loss)));
    if fast.is_some() && loss.is_some() {
        // Whatever was in force: without a fast limit every loss limit can be.
        changes.push(Setting::FastIoFailTmo(None));
    }
    changes.extend(loss.into_iter().chain(fast));
    changes.extend(request.iopolicy.map(|policy| Setting::IoPolicy(iopolicy(policy))));
    changes.extend(request.fence.map(|policy| Setting::FencePolicy(fence(policy))));
    changes.extend(request.on_loss.map(|policy| Setting::OnLoss(on_loss(policy))));
    changes.extend(request.clock_slew_permille.map(Setting::ClockSlew));
    changes.extend(request.assumed_cqt_ms.map(|span| Setting::AssumedCqt(span_or_never(span))));
    changes
}

/// The same changes in what is remembered.
pub(crate) fn remember(request: &api::SetRequest, known: &mut api::ConnectRequest) {
    known.reconnect_delay_s = request.reconnect_delay_s.unwrap_or(known.reconnect_delay_s);
    known.ctrl_loss_tmo_s = request.ctrl_loss_tmo_s.unwrap_or(known.ctrl_loss_tmo_s);
    known.fast_io_fail_tmo_s = request.fast_io_fail_tmo_s.unwrap_or(known.fast_io_fail_tmo_s);
    known.iopolicy = request.iopolicy.unwrap_or(known.iopolicy);
    known.fence = request.fence.unwrap_or(known.fence);
    known.on_loss = request.on_loss.unwrap_or(known.on_loss);
    known.assumed_cqt_ms = request.assumed_cqt_ms.unwrap_or(known.assumed_cqt_ms);
    known.clock_slew_permille = request.clock_slew_permille.unwrap_or(known.clock_slew_permille);
}

fn span_or_never(millis: i64) -> Option<Duration> {
    u64::try_from(millis).ok().map(Duration::from_millis)
}

fn limit(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

const fn iopolicy(policy: api::IoPolicy) -> IoPolicy {
    match policy {
        api::IoPolicy::RoundRobin => IoPolicy::RoundRobin,
        api::IoPolicy::QueueDepth => IoPolicy::QueueDepth,
        api::IoPolicy::Numa => IoPolicy::Numa,
    }
}

const fn fence(policy: api::FencePolicy) -> FencePolicy {
    match policy {
        api::FencePolicy::Strict => FencePolicy::Strict,
        api::FencePolicy::Legacy => FencePolicy::Legacy,
    }
}

const fn on_loss(policy: api::OnLoss) -> OnLoss {
    match policy {
        api::OnLoss::Reconnect => OnLoss::Reconnect,
        api::OnLoss::Notify => OnLoss::Notify,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_api::{ConnectRequest, SetRequest};

    #[test]
    fn what_no_address_and_no_name_contains_is_refused_and_shown_harmlessly() {
        for good in ["192.0.2.1", "array-1.example", "fe80::1%eth0", "[2001:db8::1]", "host_name"] {
            assert_eq!(check_traddr(good), Ok(()));
        }
        for (wrong, word) in [
            ("\"192.0.2.1\"", "contains `\\\"`"),
            ("192.0.2.1,192.0.2.2", "contains `,`"),
            ("192.0.2.1 ", "contains ` `"),
            ("tcp://192.0.2.1", "contains `/`"),
            ("192.0.2.1\n2026 error forged", "contains `\\n`"),
            ("traddr=192.0.2.1", "contains `=`"),
        ] {
            let why = check(&api::ConnectRequest::new(wrong, 4420, "nqn.2014-08.org.example:s")).expect_err("refused");
            assert!(why.contains(word) && !why.contains('\n'), "{wrong}: {why}");
        }
    }

    #[test]
    fn what_is_empty_is_not_left_out() {
        let mut request = ConnectRequest::new("192.0.2.1", 4420, "nqn.2014-08.org.example:s");
        assert!(check(&request).is_ok());
        request.host_iface = Some(String::new());
        assert!(check(&request).expect_err("refused").contains("host_iface is empty"));
    }

    #[test]
    fn what_is_asked_for_is_what_is_in_force() {
        let mut request = ConnectRequest::new("192.0.2.1", 4420, "nqn.2014-08.org.example:disk");
        let usual = spec(&request).expect("good");
        assert_eq!(usual, ControllerSpec::new("192.0.2.1", 4420, usual.subnqn.clone()), "the same defaults");
        request.iopolicy = api::IoPolicy::Numa;
        let all = SetRequest {
            reconnect_delay_s: Some(1),
            ctrl_loss_tmo_s: Some(-1),
            fast_io_fail_tmo_s: Some(7),
            iopolicy: Some(api::IoPolicy::QueueDepth),
            fence: Some(api::FencePolicy::Legacy),
            on_loss: Some(api::OnLoss::Notify),
            clock_slew_permille: Some(84),
            assumed_cqt_ms: Some(-1),
        };
        remember(&all, &mut request);
        let now = settings(&spec(&request).expect("good"));
        assert_eq!((now.reconnect_delay_s, now.ctrl_loss_tmo_s, now.fast_io_fail_tmo_s), (1, -1, 7));
        assert_eq!((now.iopolicy, now.fence), (api::IoPolicy::QueueDepth, api::FencePolicy::Legacy));
        assert_eq!((now.on_loss, now.clock_slew_permille), (api::OnLoss::Notify, 84));
        assert_eq!(now.assumed_cqt_ms, -1);
        assert_eq!(changes(&all).len(), 9);
        assert_eq!(changes(&SetRequest::default()), []);
        (request.hdr_digest, request.data_digest, request.ignore_dnr) = (true, false, true);
        request.flush_scope = api::FlushScope::Controller;
        let now = settings(&spec(&request).expect("good"));
        assert_eq!((now.flush_scope, now.hdr_digest, now.data_digest), (api::FlushScope::Controller, true, false));
        assert!(now.ignore_dnr);
        request.transport = "rdma".into();
        assert!(spec(&request).is_err());
    }
}
