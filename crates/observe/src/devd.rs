//! Events in the forms that other programs wait for: FreeBSD's devd lines, and uevent-style keys.
//!
//! Whoever has a devd rule or a udev rule for NVMe should not have to learn a third form. [`line()`] is what devd(8) sends to
//! its listeners; [`keys`] are what a rule or a hook finds in its environment; [`fields`] are the fields of the event by the
//! names that they have in JSON.

use interlock_api::{Event, What};
use serde_json::Value;

/// The event as devd tells it: `!system=nvme subsystem=controller type=RECONNECT name="nvme0"`, and what else is known.
#[must_use]
pub fn line(event: &Event) -> String {
    let namespace = namespace(&event.what);
    let (subsystem, name) = match (namespace, &event.controller) {
        (Some(namespace), _) => ("namespace", Some(namespace)),
        (None, Some(controller)) => ("controller", Some(controller.as_str())),
        (None, None) => ("host", None),
    };
    // FreeBSD's word for it; the others are those of the event stream.
    let kind = match event.what {
        What::ReconnectWanted { .. } => "RECONNECT".into(),
        _ => event.what.name().to_uppercase(),
    };
    let mut text = format!("!system=nvme subsystem={subsystem} type={kind}");
    let mut add = |key: &str, value: &str| text.push_str(&format!(" {key}=\"{}\"", quoted(value)));
    if let Some(name) = name {
        add("name", name);
    }
    if let Some(nqn) = &event.subsystem {
        add("subnqn", nqn);
    }
    add("seq", &event.seq.to_string());
    add("text", &event.text);
    text
}

/// In quotation marks, on one line.
fn quoted(text: &str) -> String {
    let escaped = text.chars().filter(|letter| !letter.is_control());
    escaped.flat_map(|letter| if matches!(letter, '"' | '\\') { vec!['\\', letter] } else { vec![letter] }).collect()
}

fn namespace(what: &What) -> Option<&str> {
    match what {
        What::AnaChange { namespace, .. }
        | What::NamespaceAdded { namespace, .. }
        | What::NamespaceRemoved { namespace }
        | What::NamespaceResized { namespace, .. } => Some(namespace),
        _ => None,
    }
}

/// The fields of an event that are one value, by their names in JSON, in order.
#[must_use]
pub fn fields(event: &Event) -> Vec<(String, String)> {
    let Ok(Value::Object(map)) = serde_json::to_value(event) else { return Vec::new() };
    let plain = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_so) => Some(is_so.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    map.into_iter().filter_map(|(key, value)| Some((key, plain(value)?))).collect()
}

/// The event as uevents name things, for the environment of a program: `NVME_EVENT`, `NVME_CTRL`, `NVME_SUBNQN`, and every
/// field as `INTERLOCK_` with its name in capitals.
#[must_use]
pub fn keys(event: &Event) -> Vec<(String, String)> {
    let mut keys = vec![("NVME_EVENT".to_owned(), event.what.name().to_owned())];
    keys.extend(event.controller.clone().map(|name| ("NVME_CTRL".to_owned(), name)));
    keys.extend(event.subsystem.clone().map(|nqn| ("NVME_SUBNQN".to_owned(), nqn)));
    let clean = |text: String| text.replace('\0', "");
    keys.extend(
        fields(event).into_iter().map(|(key, value)| (format!("INTERLOCK_{}", key.to_uppercase()), clean(value))),
    );
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_api::{Level, Version};

    fn event(what: What) -> Event {
        Event {
            format_version: Version,
            seq: 12,
            at_ns: 5,
            unix_ms: 6,
            level: Level::Warn,
            subsystem: Some("nqn.2014-08.org.example:s".into()),
            controller: Some("nvme0".into()),
            life: None,
            what,
            text: "says \"this\"\nand \\ that".into(),
        }
    }

    #[test]
    fn a_devd_line_begins_as_freebsd_sends_it() {
        let told = line(&event(What::ReconnectWanted { lost_for_ms: 7 }));
        assert_eq!(
            told,
            "!system=nvme subsystem=controller type=RECONNECT name=\"nvme0\" subnqn=\"nqn.2014-08.org.example:s\" \
             seq=\"12\" text=\"says \\\"this\\\"and \\\\ that\""
        );
        let removed = line(&event(What::NamespaceRemoved { namespace: "nvme0n1".into() }));
        assert!(removed.starts_with("!system=nvme subsystem=namespace type=NAMESPACE_REMOVED name=\"nvme0n1\" "));
        let host = line(&Event { controller: None, subsystem: None, ..event(What::ShutDown) });
        assert!(host.starts_with("!system=nvme subsystem=host type=SHUT_DOWN seq=\"12\""), "{host}");
    }

    #[test]
    fn keys_have_every_field_that_is_one_value() {
        let keys = keys(&event(What::ReconnectWanted { lost_for_ms: 7 }));
        let has = |key: &str, value: &str| keys.iter().any(|(k, v)| k == key && v == value);
        assert!(has("NVME_EVENT", "reconnect_wanted") && has("NVME_CTRL", "nvme0") && has("INTERLOCK_SEQ", "12"));
        assert!(has("INTERLOCK_LOST_FOR_MS", "7") && has("INTERLOCK_LEVEL", "warn"), "{keys:?}");
        assert!(!keys.iter().any(|(key, _)| key == "INTERLOCK_LIFE"), "what is not known is not there");
    }
}
