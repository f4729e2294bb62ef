//! Files of nvme-cli 2: `discovery.conf`, a line of options for each discovery controller, and `config.json`, hosts with
//! their subsystems and ports.

use super::options::{Class, Options};
use super::{DISCOVERY_NQN, Wanted};
use interlock_host::HostSettings;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

const ANYWHERE: [Class; 4] = [Class::Address, Class::Name, Class::Tunable, Class::Identity];

/// An option of nvme-cli: its long name, its letter, and whether it takes a value.
type Known = (&'static str, Option<char>, bool);

/// Options of `nvme discover` that say how to print or what to do afterwards.
const OF_THE_COMMAND: [Known; 11] = [
    ("persistent", Some('p'), false),
    ("quiet", None, false),
    ("force", None, false),
    ("verbose", Some('v'), false),
    ("dump-config", Some('O'), false),
    ("nbft", None, false),
    ("no-nbft", None, false),
    ("raw", Some('r'), true),
    ("device", None, true),
    ("output-format", Some('o'), true),
    ("config", Some('J'), true),
];

/// Options of a connection.
const OF_A_CONNECTION: [Known; 31] = [
    ("transport", Some('t'), true),
    ("nqn", Some('n'), true),
    ("traddr", Some('a'), true),
    ("trsvcid", Some('s'), true),
    ("host-traddr", Some('w'), true),
    ("host-iface", Some('f'), true),
    ("hostnqn", Some('q'), true),
    ("hostid", Some('I'), true),
    ("hostsymname", None, true),
    ("nr-io-queues", Some('i'), true),
    ("nr-write-queues", Some('W'), true),
    ("nr-poll-queues", Some('P'), true),
    ("queue-size", Some('Q'), true),
    ("keep-alive-tmo", Some('k'), true),
    ("reconnect-delay", Some('c'), true),
    ("ctrl-loss-tmo", Some('l'), true),
    ("fast-io-fail-tmo", Some('F'), true),
    ("tos", Some('T'), true),
    ("dhchap-secret", Some('S'), true),
    ("dhchap-ctrl-secret", Some('C'), true),
    ("kxchap-secret", None, true),
    ("kxchap-ctrl-secret", None, true),
    ("keyring", None, true),
    ("tls-key", None, true),
    ("tls-key-identity", None, true),
    ("duplicate-connect", Some('D'), false),
    ("hdr-digest", Some('g'), false),
    ("data-digest", Some('G'), false),
    ("disable-sqflow", Some('d'), false),
    ("tls", None, false),
    ("concat", None, false),
];

/// One option as it was written: its long name, and whether it takes a value.
fn option(word: &str) -> Result<(&'static str, bool), String> {
    let all = || OF_A_CONNECTION.into_iter().chain(OF_THE_COMMAND);
    let unknown = || format!("`{word}` is not a valid option");
    let Some(long) = word.strip_prefix("--") else {
        let letter = word.chars().nth(1);
        let found = all().find(|(_, own, _)| own.is_some() && *own == letter);
        return found.map(|(name, _, value)| (name, value)).ok_or_else(unknown);
    };
    // nvme-cli 2 also spells some with underscores, and takes every beginning that only one option has.
    let long = long.replace('_', "-");
    if let Some((name, _, value)) = all().find(|(name, ..)| *name == long) {
        return Ok((name, value));
    }
    let begun: Vec<Known> = all().filter(|(name, ..)| !long.is_empty() && name.starts_with(&long)).collect();
    match begun.as_slice() {
        [(name, _, value)] => Ok((name, *value)),
        [] => Err(unknown()),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, ..)| *name).collect();
            Err(format!("`{word}` may be {}", names.join(" or ")))
        }
    }
}

impl Wanted {
    pub(super) fn discovery_conf(&mut self, text: &str, file: &str, who: Option<&HostSettings>) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = format!("{file}, line {number}");
            let mut options = Options::default();
            for problem in arguments(line, &mut options) {
                self.problems.push(format!("{at}: {problem}"));
            }
            // The settings of the line are those of the discovery controller, and what it names has the defaults.
            self.take(&options, Some(&Options::default()), &at, who);
        }
    }

    pub(super) fn config_json(&mut self, text: &str, file: &str, who: Option<&HostSettings>) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let hosts = match serde_json::from_str::<Json>(text) {
            Ok(Json::List(hosts)) => hosts,
            Ok(_) => return self.problems.push(format!("{file}: it is not a list of hosts")),
            Err(why) => return self.problems.push(format!("{file}: {why}")),
        };
        for (place, host) in (1..).zip(hosts) {
            self.host(host, &format!("{file}, host {place}"), who);
        }
    }

    fn host(&mut self, host: Json, at: &str, who: Option<&HostSettings>) {
        let Json::Object(fields) = host else { return self.problems.push(format!("{at}: it is not an object")) };
        let (mut options, mut subsystems) = (Options::default(), Vec::new());
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("subsystems", Json::List(list)) => subsystems.extend(list),
                // What nvme-cli itself keeps between its runs.
                ("persistent_discovery_ctrl" | "persistent-discovery-ctrl", Json::Leaf(_)) => {}
                (_, Json::Leaf(text)) => {
                    self.set_json(&mut options, &key, &text, at, &[Class::Identity, Class::Tunable])
                }
                (_, _) => {
                    options.spoil();
                    self.problems.push(format!("{at}: `{key}` is unknown"));
                }
            }
        }
        for (place, subsystem) in (1..).zip(subsystems) {
            self.subsystem(subsystem, &options, &format!("{at}, subsystem {place}"), who);
        }
    }

    fn subsystem(&mut self, subsystem: Json, host: &Options, at: &str, who: Option<&HostSettings>) {
        let Json::Object(fields) = subsystem else { return self.problems.push(format!("{at}: it is not an object")) };
        let (mut own, mut ports) = (Options::default(), Vec::new());
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("ports", Json::List(list)) => ports.extend(list),
                // A label for people.
                ("application", Json::Leaf(_)) => {}
                (_, Json::Leaf(text)) => self.set_json(&mut own, &key, &text, at, &[Class::Name, Class::Tunable]),
                (_, _) => {
                    own.spoil();
                    self.problems.push(format!("{at}: `{key}` is unknown"));
                }
            }
        }
        for (place, port) in (1..).zip(ports) {
            let at = format!("{at}, port {place}");
            let Json::Object(fields) = port else {
                self.problems.push(format!("{at}: it is not an object"));
                continue;
            };
            let (mut options, mut line) = (host.clone(), Options::default());
            let mut discovery = own.text("nqn") == Some(DISCOVERY_NQN);
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("discovery", Json::Leaf(text)) => discovery |= text == "true",
                    ("persistent", Json::Leaf(_)) => {}
                    (_, Json::Leaf(text)) => self.set_json(&mut line, &key, &text, &at, &ANYWHERE),
                    (_, _) => {
                        line.spoil();
                        self.problems.push(format!("{at}: `{key}` is unknown"));
                    }
                }
            }
            options.over(&own);
            options.over(&line);
            self.take(&options, discovery.then(Options::default).as_ref(), &at, who);
        }
    }

    /// Keys of this file have underscores; `none` and null say that nothing is set.
    fn set_json(&mut self, options: &mut Options, key: &str, text: &str, at: &str, classes: &[Class]) {
        let text = if text == "none" { "" } else { text };
        if text.is_empty() && !super::options::asks_for_security(key) {
            return;
        }
        let name = key.replace('_', "-");
        if let Err(why) = options.set(&name, text, classes) {
            self.problems.push(format!("{at}: {why}"));
        }
    }
}

/// Takes the options of a line; what is wrong with it.
fn arguments(line: &str, options: &mut Options) -> Vec<String> {
    let mut problems = Vec::new();
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if !word.starts_with('-') || word.len() < 2 {
            options.spoil();
            problems.push(format!("`{word}` is not a valid option"));
            continue;
        }
        // `--key=value`, `-kvalue`, `-k=value`; flags of one letter may share a word.
        let (mut name, mut attached) = (word, None);
        if word.starts_with("--") {
            (name, attached) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        } else if let Some((end, _)) = word.char_indices().nth(2) {
            (name, attached) = (&word[..end], Some(word[end..].trim_start_matches('=')));
        }
        let (key, takes) = match option(name) {
            Ok(found) => found,
            Err(why) => {
                options.spoil();
                problems.push(why);
                continue;
            }
        };
        let mut keys = vec![(key, takes)];
        if !takes && !name.starts_with("--") {
            for letter in attached.take().unwrap_or_default().chars() {
                match option(&format!("-{letter}")) {
                    Ok((key, false)) => keys.push((key, false)),
                    _ => {
                        options.spoil();
                        problems.push(format!("`{word}`: `{letter}` is not allowed there"));
                    }
                }
            }
        }
        for (key, takes) in keys {
            let value = match attached {
                Some(value) => Some(value),
                None if takes => words.next(),
                None => None,
            };
            if takes && value.is_none_or(str::is_empty) {
                options.spoil();
                problems.push(format!("`{word}` needs a value"));
                continue;
            }
            if OF_THE_COMMAND.iter().any(|(known, ..)| *known == key) {
                continue;
            }
            if let Err(why) = options.set(key, value.unwrap_or("yes"), &ANYWHERE) {
                problems.push(why);
            }
        }
    }
    problems
}

/// JSON in which a key may not stand twice.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Json {
    /// A string, a number, a boolean, or null as nothing.
    Leaf(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> serde::Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Leaf(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Leaf(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Leaf(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Leaf(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Leaf(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Leaf(String::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object: Vec<(String, Json)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Json>()? {
            if object.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format!("`{key}` stands in one object twice")));
            }
            object.push((key, value));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str, who: Option<&HostSettings>) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.discovery_conf(text, "d", who);
        wanted
    }

    #[test]
    fn lines_of_options_are_read() {
        let wanted = conf(
            "# old\n-t tcp -a 192.0.2.1 -s 8009 -l -1 -k 40 -p\n--transport=tcp --traddr=192.0.2.2 --hdr-digest\n\
             -ttcp -a192.0.2.3 -s=8010 -gG\n-t rdma -a x\n--transp tcp --trad 192.0.2.4\n",
            None,
        );
        assert_eq!(wanted.problems, [""; 0]);
        let brief: Vec<_> = wanted
            .discovery
            .iter()
            .map(|one| (one.controller.traddr.as_str(), one.controller.trsvcid, one.controller.hdr_digest, one.kato_s))
            .collect();
        assert_eq!(
            brief,
            [
                ("192.0.2.1", 8009, false, 40),
                ("192.0.2.2", 8009, true, 30),
                ("192.0.2.3", 8010, true, 30),
                ("192.0.2.4", 8009, false, 30)
            ]
        );
        assert_eq!(wanted.discovery[0].found.keep_alive_tmo_s, 5, "its keep alive is not that of what it names");
        assert!(wanted.discovery[2].controller.data_digest);
    }

    /// The Keep Alive Timeout of a discovery controller holds up no I/O: none at all is fine, as with nvme-cli, and so is a long one.
    #[test]
    fn a_discovery_controller_may_have_any_keep_alive() {
        let wanted = conf("-t tcp -a 192.0.2.1 -k 0\n-t tcp -a 192.0.2.2 --keep-alive-tmo=120\n", None);
        assert_eq!(wanted.problems, [""; 0]);
        let katos: Vec<_> = wanted.discovery.iter().map(|one| (one.kato_s, one.found.keep_alive_tmo_s)).collect();
        assert_eq!(katos, [(0, 5), (120, 5)]);
    }

    #[test]
    fn lines_that_are_wrong_are_refused_and_named() {
        for (line, want) in [
            ("-z", "d, line 1: `-z` is not a valid option"),
            ("-t tcp", "d, line 1: traddr is missing"),
            ("-a 192.0.2.1", "d, line 1: transport is missing"),
            ("-t tcp -a 192.0.2.1 -a 192.0.2.2", "`traddr` stands here twice"),
            ("-t tcp -a 192.0.2.1 --tls", "not built yet"),
            ("-t tcp -a 192.0.2.1 --tl", "`--tl` may be "),
            ("-t tcp -a 192.0.2.1 -S DHHC-1:00:x:", "not built yet"),
            ("-t tcp -a 192.0.2.1 -SDHHC-1:00:x:", "not built yet"),
            ("-t tcp -a 192.0.2.1 --dhchap_secret=DHHC-1:00:x:", "not built yet"),
            ("-t tcp -a 192.0.2.1 -C x", "not built yet"),
            ("-t tcp -a 192.0.2.1 --keyring .nvme", "not built yet"),
            ("-t tcp -a 192.0.2.1 --conc", "not built yet"),
            ("-t tcp -a 192.0.2.1 extra", "`extra` is not a valid option"),
            ("-t tcp -a 192.0.2.1 -s", "`-s` needs a value"),
            ("-t tcp -a 192.0.2.1 --hdr-digst", "`--hdr-digst` is not a valid option"),
        ] {
            let wanted = conf(line, None);
            assert!(wanted.discovery.is_empty(), "{line}");
            assert!(wanted.problems.iter().any(|problem| problem.contains(want)), "{line}: {:?}", wanted.problems);
        }
    }

    #[test]
    fn entries_of_another_host_are_left_out_and_named() {
        let who = HostSettings::random().expect("random numbers");
        let line = |nqn: &str, id: &str| format!("-t tcp -a 192.0.2.1 -q {nqn} -I {id}\n");
        let ours = conf(&line(who.hostnqn.as_str(), &who.hostid.to_string().to_uppercase()), Some(&who));
        assert_eq!((ours.discovery.len(), ours.notes.len()), (1, 0));
        for text in [
            line("nqn.2014-08.org.example:other", &who.hostid.to_string()),
            line(who.hostnqn.as_str(), "11111111-1111-1111-1111-111111111111"),
            "-ttcp -a192.0.2.1 -qnqn.2014-08.org.example:other".to_owned(),
        ] {
            let other = conf(&text, Some(&who));
            assert_eq!((other.discovery.len(), other.problems.len()), (0, 0), "{text}");
            assert!(other.notes[0].contains("another host"), "{:?}", other.notes);
        }
    }

    fn json(text: &str) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.config_json(text, "j", None);
        wanted
    }

    #[test]
    fn hosts_subsystems_and_ports_are_read() {
        let wanted = json(
            r#"[{"persistent_discovery_ctrl":true,"subsystems":[{"nqn":"nqn.2014-08.org.example:disk","application":"db","ports":[
                {"transport":"tcp","traddr":"192.0.2.5","trsvcid":"4421","keep_alive_tmo":9,"tls":false,"host_traddr":"none"},
                {"transport":"fc","traddr":"nn-0x1"},
                {"transport":"tcp","traddr":"192.0.2.6","dhchap_key":"DHHC-1:00:x:"}]},
                {"nqn":"nqn.2014-08.org.nvmexpress.discovery","ports":[{"transport":"tcp","traddr":"192.0.2.7"}]}]}]"#,
        );
        assert_eq!(wanted.connections.len(), 1);
        assert_eq!((wanted.connections[0].trsvcid, wanted.connections[0].keep_alive_tmo_s), (4421, 9));
        assert_eq!(wanted.problems.len(), 1, "{:?}", wanted.problems);
        assert!(
            wanted.problems[0].starts_with("j, host 1, subsystem 1, port 3: `dhchap-key`"),
            "{:?}",
            wanted.problems
        );
        assert_eq!(wanted.discovery.len(), 1);
    }

    #[test]
    fn keys_of_every_level_count() {
        let port = r#"{"transport":"tcp","traddr":"192.0.2.5"}"#;
        let whole = |host: &str, subsystem: &str| {
            format!(r#"[{{{host}"subsystems":[{{{subsystem}"nqn":"nqn.2014-08.org.example:d","ports":[{port}]}}]}}]"#)
        };
        assert_eq!(json(&whole("", "")).connections.len(), 1);
        for (host, subsystem, want) in [
            (r#""dhchap_key":"DHHC-1:00:x:","#, "", "not built yet"),
            (r#""tls":true,"#, "", "not built yet"),
            ("", r#""dhchap_ctrl_key":"DHHC-1:00:x:","#, "not built yet"),
            (r#""hostnqm":"x","#, "", "`hostnqm` is unknown"),
            (r#""hosts":[],"#, "", "`hosts` is unknown"),
            ("", r#""nqn":"nqn.x","#, "twice"),
        ] {
            let wanted = json(&whole(host, subsystem));
            assert_eq!(wanted.connections.len(), 0, "{host}{subsystem}");
            assert!(wanted.problems.iter().any(|problem| problem.contains(want)), "{want}: {:?}", wanted.problems);
        }
        let other = json(&whole(r#""hostnqn":"nqn.2014-08.org.example:other","#, ""));
        assert_eq!(
            (other.connections.len(), other.problems.len(), other.notes.len()),
            (0, 0, 1),
            "{:?}",
            other.problems
        );
        for text in ["nonsense", "{}", "[1]"] {
            assert_eq!(json(text).problems.len(), 1, "{text}");
        }
    }
}
