//! Options of a connection by the names of nvme-cli, whatever file they stand in.
//!
//! Two rules hold everywhere. What asks for authentication or TLS is recognised in any spelling and refuses the
//! connection, because both are not built yet: a connection without them would not be what was asked for. And what is
//! not understood refuses the connection as well: a misspelt option may have been one of those.

use super::DISCOVERY_NQN;
use crate::connect;
use crate::refusal::nearest;
use interlock_api::{ConnectRequest, canonical_address};
use interlock_host::{HostSettings, Nqn};
use std::collections::BTreeMap;

pub(crate) const NOT_BUILT: &str = "TLS and in-band authentication are not built yet, and without them this connection would \
                                    not be what was asked for";

/// Where an option may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// One path: address, port, and the way there.
    Address,
    /// The subsystem.
    Name,
    /// A setting of a connection.
    Tunable,
    /// Who connects.
    Identity,
}

const ADDRESS: [&str; 5] = ["transport", "traddr", "trsvcid", "host-traddr", "host-iface"];
const IDENTITY: [&str; 3] = ["hostnqn", "hostid", "hostsymname"];
const TUNABLE: [&str; 13] = [
    "nr-io-queues",
    "nr-write-queues",
    "nr-poll-queues",
    "queue-size",
    "keep-alive-tmo",
    "reconnect-delay",
    "ctrl-loss-tmo",
    "fast-io-fail-tmo",
    "tos",
    "duplicate-connect",
    "disable-sqflow",
    "hdr-digest",
    "data-digest",
];
const FLAGS: [&str; 4] = ["duplicate-connect", "disable-sqflow", "hdr-digest", "data-digest"];
/// Settings of the kernel's driver that have no meaning here. `disable-sqflow` is what this host always does.
const WITHOUT_EFFECT: [&str; 4] = ["nr-write-queues", "nr-poll-queues", "tos", "duplicate-connect"];
const TRANSPORTS: [&str; 4] = ["tcp", "rdma", "fc", "loop"];

fn class(key: &str) -> Option<Class> {
    Some(match key {
        "nqn" => Class::Name,
        _ if ADDRESS.contains(&key) => Class::Address,
        _ if TUNABLE.contains(&key) => Class::Tunable,
        _ if IDENTITY.contains(&key) => Class::Identity,
        _ => return None,
    })
}

fn names(classes: &[Class]) -> impl Iterator<Item = &'static str> {
    let all = ["nqn"].into_iter().chain(ADDRESS).chain(TUNABLE).chain(IDENTITY);
    let classes = classes.to_vec();
    all.filter(move |name| class(name).is_some_and(|class| classes.contains(&class)))
}

/// True if this can only be about authentication or TLS: `tls`, `TLS_KEY`, `dhchap-ctrl-secret`, `kxchap_secret`, `keyring`
/// and all that is spelt like them.
pub(crate) fn asks_for_security(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["tls", "chap", "psk", "concat", "keyring", "secret", "auth", "dhgroup"].iter().any(|part| key.contains(part))
}

/// True of key material in its interchange formats, whatever the key beside it is called.
pub(crate) fn is_secret(value: &str) -> bool {
    let begin = |mark: &str| value.get(..mark.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(mark));
    begin("DHHC-1:") || begin("KXHC-1:") || begin("NVMeTLSkey-1:")
}

/// A boolean in all its forms.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// Options of one scope: a section, a line, an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// By name; an empty value takes the option back from the scopes around this one.
    values: BTreeMap<String, String>,
    /// True if something in this scope or around it was not understood.
    faulty: bool,
}

impl Options {
    /// Something in this scope was not understood: what depends on it is not connected.
    pub(super) const fn spoil(&mut self) {
        self.faulty = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty() && !self.faulty
    }

    /// True if authentication or TLS is asked for.
    pub(super) fn asks_for_security(&self) -> Option<&str> {
        self.values.iter().find(|(key, value)| asks_for_security(key) && !value.is_empty()).map(|(key, _)| key.as_str())
    }

    /// Takes an option that may be of these classes. Options of security are taken everywhere: they refuse.
    ///
    /// # Errors
    /// Why it is not understood; this scope is spoilt then.
    pub(super) fn set(&mut self, key: &str, value: &str, classes: &[Class]) -> Result<(), String> {
        let taken = self.take(key, value, classes);
        self.faulty |= taken.is_err();
        taken
    }

    fn take(&mut self, key: &str, value: &str, classes: &[Class]) -> Result<(), String> {
        if self.values.contains_key(key) {
            return Err(format!("`{key}` stands here twice"));
        }
        let mut value = value;
        if asks_for_security(key) {
            let name = key.to_ascii_lowercase().replace('_', "-");
            // Whether a key or a secret is there decides; `tls` and `concat` say so themselves.
            if matches!(name.as_str(), "tls" | "concat") && !value.is_empty() {
                let on = boolean(value).ok_or_else(|| format!("{key} = {value}: expected yes or no"))?;
                value = if on { value } else { "" };
            }
            self.values.insert(name, value.to_owned());
            return Ok(());
        }
        if is_secret(value) {
            return Err(format!("`{key}` is unknown, and its value is a secret: {NOT_BUILT}"));
        }
        let Some(class) = class(key) else {
            let hint = nearest(&key.to_ascii_lowercase().replace('_', "-"), names(classes));
            let hint = hint.map_or_else(String::new, |known| format!(": did you mean `{known}`?"));
            return Err(format!("`{key}` is unknown{hint}"));
        };
        if !classes.contains(&class) {
            return Err(format!("`{key}` cannot stand here"));
        }
        if value.is_empty() && matches!(key, "nqn" | "traddr" | "transport" | "hostnqn") {
            return Err(format!("`{key}` has no value"));
        }
        if FLAGS.contains(&key) && !value.is_empty() && boolean(value).is_none() {
            return Err(format!("{key} = {value}: expected yes or no"));
        }
        self.values.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// This scope, and around it the other one.
    pub(super) fn over(&mut self, inner: &Self) {
        self.values.extend(inner.values.clone());
        self.faulty |= inner.faulty;
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        self.text(key)
            .map(|text| text.parse().map_err(|_| format!("{key} = {text}: expected a number in its range")))
            .transpose()
    }

    fn flag(&self, key: &str) -> bool {
        self.text(key).and_then(boolean).unwrap_or(false)
    }

    /// The connection that these options describe.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn request(&self, discovery: bool, who: Option<&HostSettings>) -> Result<ConnectRequest, Left> {
        if let Some(key) = self.asks_for_security() {
            return Err(Left::Refused(format!("`{key}`: {NOT_BUILT}")));
        }
        match self.text("transport") {
            None => return Err(Left::Refused("transport is missing".into())),
            Some("tcp") => {}
            Some(other) if TRANSPORTS.contains(&other) => return Err(Left::OtherTransport),
            Some(other) => {
                let known = TRANSPORTS.join(", ");
                return Err(Left::Refused(format!("transport `{other}` is unknown; transports are {known}")));
            }
        }
        if self.faulty {
            let why = "not connected, because something that belongs to it was not understood".into();
            return Err(Left::Refused(why));
        }
        self.check_identity(who)?;
        let traddr = self.text("traddr").ok_or_else(|| Left::Refused("traddr is missing".into()))?;
        let nqn = match self.text("nqn") {
            Some(nqn) => nqn,
            None if discovery => DISCOVERY_NQN,
            None => return Err(Left::Refused("nqn is missing".into())),
        };
        if nqn.contains(['"', '\'']) {
            return Err(Left::Refused(format!("nqn = {nqn}: values stand without quotes")));
        }
        Nqn::new(nqn).map_err(|why| Left::Refused(format!("nqn = {nqn}: {why}")))?;
        let request = self.settings(&canonical_address(traddr), discovery, nqn).map_err(Left::Refused)?.canonical();
        // What the host would refuse later is refused here, where its place is known.
        if discovery {
            // Its Keep Alive Timeout holds up no I/O: any will do, also none.
            let keep_alive_tmo_s = ConnectRequest::new("", 0, "").keep_alive_tmo_s;
            connect::check_found(&ConnectRequest { keep_alive_tmo_s, ..request.clone() }).map_err(Left::Refused)?;
        } else {
            connect::check(&request).map_err(Left::Refused)?;
        }
        Ok(request)
    }

    /// The same settings for something else.
    ///
    /// # Errors
    /// Which option is none.
    pub(super) fn settings(&self, traddr: &str, discovery: bool, nqn: &str) -> Result<ConnectRequest, String> {
        let port = if discovery { super::DISCOVERY_PORT } else { 4420 };
        let mut request = ConnectRequest::new(traddr, self.number("trsvcid")?.unwrap_or(port), nqn);
        request.host_traddr =
            self.text("host-traddr").map(|text| text.parse().map_err(|_| "host-traddr is no address")).transpose()?;
        request.host_iface = self.text("host-iface").map(str::to_owned);
        request.nr_io_queues = self.number("nr-io-queues")?.unwrap_or(request.nr_io_queues);
        request.queue_size = self.number("queue-size")?.unwrap_or(request.queue_size);
        request.keep_alive_tmo_s = self.number("keep-alive-tmo")?.unwrap_or(request.keep_alive_tmo_s);
        request.reconnect_delay_s = self.number("reconnect-delay")?.unwrap_or(request.reconnect_delay_s);
        request.ctrl_loss_tmo_s = self.number("ctrl-loss-tmo")?.unwrap_or(request.ctrl_loss_tmo_s);
        request.fast_io_fail_tmo_s = self.number("fast-io-fail-tmo")?.unwrap_or(request.fast_io_fail_tmo_s);
        request.hdr_digest = self.flag("hdr-digest");
        request.data_digest = self.flag("data-digest");
        request.first_attempt_decides = false;
        request.found = true;
        Ok(request)
    }

    /// Another identity is another host: this daemon does not connect for it.
    fn check_identity(&self, who: Option<&HostSettings>) -> Result<(), Left> {
        let ours = who.map(|who| (who.hostnqn.to_string(), who.hostid.to_string()));
        let (nqn, id) = ours.unzip();
        if let Some(hostnqn) = self.text("hostnqn")
            && nqn.as_deref() != Some(hostnqn)
        {
            return Err(Left::OtherHost(hostnqn.to_owned()));
        }
        if let Some(hostid) = self.text("hostid")
            && !id.is_some_and(|id| id.eq_ignore_ascii_case(hostid))
        {
            return Err(Left::OtherHost(format!("Host ID {hostid}")));
        }
        Ok(())
    }

    /// Options that are set and do nothing here.
    pub(super) fn without_effect(&self) -> Option<String> {
        let set: Vec<&str> = WITHOUT_EFFECT.into_iter().filter(|key| self.text(key).is_some()).collect();
        (!set.is_empty()).then(|| format!("{}: settings of the kernel's driver, without effect here", set.join(", ")))
    }
}

/// Why an entry is not connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It is of another transport: left to others.
    OtherTransport,
    /// It is for another host identity: this one.
    OtherHost(String),
    /// It is wrong, or asks for what is not built.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Class; 4] = [Class::Address, Class::Name, Class::Tunable, Class::Identity];

    fn path(more: &[(&str, &str)]) -> Result<ConnectRequest, String> {
        let mut options = Options::default();
        let path = [("transport", "tcp"), ("traddr", "192.0.2.1"), ("nqn", "nqn.2014-08.org.example:disk")];
        for (key, value) in path.iter().chain(more) {
            options.set(key, value, &ALL)?;
        }
        options.request(false, None).map_err(|left| format!("{left:?}"))
    }

    #[test]
    fn a_name_in_quotes_is_another_name() {
        let told = path(&[]).map(drop);
        assert_eq!(told, Ok(()));
        let mut options = Options::default();
        for (key, value) in [("transport", "tcp"), ("traddr", "192.0.2.1"), ("nqn", "\"nqn.2014-08.org.example:disk\"")]
        {
            options.set(key, value, &ALL).expect("known");
        }
        let told = options.request(false, None).map_err(|left| format!("{left:?}")).expect_err("quotes");
        assert!(told.contains("values stand without quotes"), "{told}");
    }

    #[test]
    fn no_security_that_is_asked_for_is_dropped() {
        for key in [
            "tls",
            "TLS",
            "Tls-Key",
            "tls_key",
            "tls-key-identity",
            "tls_key_identity",
            "keyring",
            "concat",
            "CONCAT",
            "dhchap-secret",
            "dhchap_key",
            "dhchap-ctrl-secret",
            "dhchap_ctrl_key",
            "kxchap-secret",
            "kxchap_ctrl_secret",
            "dhchap-key",
            "psk",
            "auth",
            "dhgroup",
        ] {
            let told = path(&[(key, "1")]).expect_err(key);
            assert!(told.contains("not built yet"), "{key}: {told}");
        }
        for yes in ["1", "yes", "Y", "TRUE", "t", "On"] {
            assert!(path(&[("tls", yes)]).is_err(), "{yes}");
        }
        for no in ["0", "no", "N", "FALSE", "f", "Off", ""] {
            assert!(path(&[("tls", no)]).is_ok(), "{no}");
        }
        assert!(path(&[("tls", "maybe")]).is_err());
        for secret in ["DHHC-1:00:x:", "NVMeTLSkey-1:01:x:", "dhhc-1:00:x:"] {
            let told = path(&[("dhcap-scret", secret)]).expect_err("misspelt");
            assert!(told.contains("its value is a secret") && !told.contains("00:x"), "{told}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_connected() {
        for (key, value, want) in [
            ("keep-alive-tmo", "five", "keep-alive-tmo = five"),
            ("keep-alive-tmo", "0", "keep_alive_tmo 0"),
            ("trsvcid", "70000", "trsvcid = 70000"),
            ("hdr-digest", "maybe", "expected yes or no"),
            ("keep-alive-tm", "5", "did you mean `keep-alive-tmo`?"),
            ("keep_alive_tmo", "5", "did you mean `keep-alive-tmo`?"),
            ("traddr", "192.0.2.2", "twice"),
            ("host-traddr", "eth0", "host-traddr is no address"),
        ] {
            let told = path(&[(key, value)]).expect_err(key);
            assert!(told.contains(want), "{key}: {told}");
        }
        let mut options = Options::default();
        for (key, value) in [("transport", "tpc"), ("traddr", "192.0.2.1"), ("nqn", "nqn.x")] {
            options.set(key, value, &ALL).expect("known");
        }
        assert!(matches!(options.request(false, None), Err(Left::Refused(why)) if why.contains("`tpc` is unknown")));
    }
}
