//! What nvme-cli users have already: `nvme-fabrics.conf` and its `.d` (nvme-cli 3), `discovery.conf` and `config.json`
//! (nvme-cli 2).
//!
//! A host that moves to this program must not type its connections again. These files are read, never written. What they
//! say of other transports is left to other programs; what cannot be understood is told with its place, and the rest is
//! used.

use crate::exclusions::drop_ins;
use interlock_api::ConnectRequest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// What is to be connected, or asked what to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Ports of subsystems.
    pub connections: Vec<ConnectRequest>,
    /// Discovery controllers; `subnqn` is the discovery NQN.
    pub discovery: Vec<ConnectRequest>,
    /// What was not understood, with its place: told, and not used.
    pub problems: Vec<String>,
}

pub(crate) const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
pub(crate) const DISCOVERY_PORT: u16 = 8009;

impl Wanted {
    /// Everything in a directory such as `/etc/nvme`. Files that are not there say nothing.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let mut wanted = Self::default();
        let mut conf = vec![dir.join("nvme-fabrics.conf")];
        conf.extend(drop_ins(&dir.join("nvme-fabrics.conf.d")));
        let texts: Vec<(String, String)> =
            conf.iter().filter_map(|file| Some((file.display().to_string(), wanted.text(file)?))).collect();
        wanted.fabrics(&texts);
        let file = dir.join("discovery.conf");
        if let Some(text) = wanted.text(&file) {
            wanted.discovery_conf(&text, &file.display().to_string());
        }
        let file = dir.join("config.json");
        if let Some(text) = wanted.text(&file) {
            wanted.config_json(&text, &file.display().to_string());
        }
        wanted
    }

    fn text(&mut self, file: &Path) -> Option<String> {
        match fs::read_to_string(file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.problems.push(format!("{}: {error}", file.display()));
                None
            }
        }
    }

    fn problem(&mut self, file: &str, line: usize, why: &str) {
        self.problems.push(format!("{file}, line {line}: {why}"));
    }

    /// Takes what options say; the address decides between a subsystem and a discovery controller.
    fn take(&mut self, options: &Options, discovery: bool, at: &str) {
        match options.request(discovery) {
            Ok(Some(request)) if discovery => self.discovery.push(request),
            Ok(Some(request)) => self.connections.push(request),
            // Of another transport: not ours.
            Ok(None) => {}
            Err(why) => self.problems.push(format!("{at}: {why}")),
        }
    }

    /// nvme-cli 3: sections of `key = value`, the most specific wins, an empty value resets.
    fn fabrics(&mut self, files: &[(String, String)]) {
        let mut defaults: BTreeMap<&str, Options> = BTreeMap::new();
        let mut sections: Vec<Section> = Vec::new();
        for (file, text) in files {
            let mut name = String::new();
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.trim();
                if line.is_empty() || line.starts_with(['#', ';']) {
                    continue;
                }
                if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                    name = section.trim().to_owned();
                    match name.as_str() {
                        "Subsystem" | "Discovery Controller" => sections.push(Section {
                            discovery: name == "Discovery Controller",
                            at: format!("{file}, line {number}"),
                            ..Section::default()
                        }),
                        "Host" | "Defaults" | "Subsystem Defaults" | "Discovery Controller Defaults" => {}
                        other => self.problem(file, number, &format!("section `[{other}]` is not known")),
                    }
                    continue;
                }
                let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
                    self.problem(file, number, "neither a section nor `key = value`");
                    continue;
                };
                match (name.as_str(), key) {
                    // The identity is that of the daemon.
                    ("Host", _) => {}
                    ("Subsystem" | "Discovery Controller", "controller") => {
                        if let Some(section) = sections.last_mut() {
                            section.controllers.push((value.to_owned(), format!("{file}, line {number}")));
                        }
                    }
                    ("Subsystem" | "Discovery Controller", key) => {
                        if let Some(section) = sections.last_mut() {
                            section.options.set(key, value);
                        }
                    }
                    ("Defaults", key) => defaults.entry("").or_default().set(key, value),
                    ("Subsystem Defaults", key) => defaults.entry("subsystem").or_default().set(key, value),
                    ("Discovery Controller Defaults", key) => defaults.entry("discovery").or_default().set(key, value),
                    _ => self.problem(file, number, &format!("`{key}` stands in no section that is known")),
                }
            }
        }
        for section in sections {
            let kind = if section.discovery { "discovery" } else { "subsystem" };
            let mut options = Options::default();
            for layer in [defaults.get(""), defaults.get(kind), Some(&section.options)].into_iter().flatten() {
                options.over(layer);
            }
            if section.controllers.is_empty() {
                self.take(&options, section.discovery, &section.at);
            }
            for (text, at) in &section.controllers {
                let mut one = options.clone();
                for pair in text.split(';').filter(|pair| !pair.trim().is_empty()) {
                    match pair.split_once('=') {
                        Some((key, value)) => one.set(key.trim(), value.trim()),
                        None => self.problems.push(format!("{at}: `{pair}` is no `key=value`")),
                    }
                }
                self.take(&one, section.discovery, at);
            }
        }
    }

    /// nvme-cli 2: a line of options for each discovery controller.
    fn discovery_conf(&mut self, text: &str, file: &str) {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut options = Options::default();
            let mut words = line.split_whitespace().peekable();
            while let Some(word) = words.next() {
                let (key, value) = match word.split_once('=') {
                    Some((key, value)) if key.starts_with("--") => (key, Some(value.to_owned())),
                    _ => (word, None),
                };
                let Some(key) = long(key) else {
                    self.problem(file, number, &format!("`{word}` is no option"));
                    continue;
                };
                let value = value.or_else(|| {
                    let next = words.peek().filter(|next| !next.starts_with('-') || next.parse::<i64>().is_ok())?;
                    let value = (*next).to_owned();
                    words.next();
                    Some(value)
                });
                options.set(key, value.as_deref().unwrap_or("true"));
            }
            self.take(&options, true, &format!("{file}, line {number}"));
        }
    }

    /// nvme-cli 2: hosts, their subsystems, their ports.
    fn config_json(&mut self, text: &str, file: &str) {
        let hosts: Vec<JsonHost> = match serde_json::from_str(text) {
            Ok(hosts) => hosts,
            Err(why) => return self.problems.push(format!("{file}: {why}")),
        };
        for subsystem in hosts.into_iter().flat_map(|host| host.subsystems) {
            for port in subsystem.ports {
                let mut options = Options::default();
                for (key, value) in port {
                    let text = match value {
                        serde_json::Value::String(text) => text,
                        other => other.to_string(),
                    };
                    options.set(&key.replace('_', "-"), &text);
                }
                options.set("nqn", &subsystem.nqn);
                let discovery =
                    subsystem.nqn == DISCOVERY_NQN || options.0.get("discovery").is_some_and(|v| v == "true");
                self.take(&options, discovery, &format!("{file}, subsystem {}", subsystem.nqn));
            }
        }
    }
}

#[derive(Default)]
struct Section {
    discovery: bool,
    at: String,
    options: Options,
    controllers: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct JsonHost {
    #[serde(default)]
    subsystems: Vec<JsonSubsystem>,
}

#[derive(Deserialize)]
struct JsonSubsystem {
    #[serde(default)]
    nqn: String,
    #[serde(default)]
    ports: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// The long form of an option of nvme-cli.
fn long(word: &str) -> Option<&str> {
    if let Some(long) = word.strip_prefix("--") {
        return Some(long);
    }
    Some(match word {
        "-t" => "transport",
        "-a" => "traddr",
        "-s" => "trsvcid",
        "-n" => "nqn",
        "-q" => "hostnqn",
        "-I" => "hostid",
        "-w" => "host-traddr",
        "-f" => "host-iface",
        "-i" => "nr-io-queues",
        "-Q" => "queue-size",
        "-k" => "keep-alive-tmo",
        "-c" => "reconnect-delay",
        "-l" => "ctrl-loss-tmo",
        "-g" => "hdr-digest",
        "-G" => "data-digest",
        "-p" => "persistent",
        _ => return None,
    })
}

/// Options by their long names.
#[derive(Clone, Debug, Default)]
struct Options(BTreeMap<String, String>);

impl Options {
    /// An empty value takes the option back.
    fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    fn over(&mut self, more: &Self) {
        self.0.extend(more.0.clone());
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.is_empty() && *text != "none")
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        self.text(key).map(|text| text.parse().map_err(|_| format!("{key} = {text}: expected a number"))).transpose()
    }

    fn flag(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| matches!(text, "true" | "yes" | "on" | "1"))
    }

    /// `None`: it is of another transport.
    fn request(&self, discovery: bool) -> Result<Option<ConnectRequest>, String> {
        if self.text("transport").is_some_and(|transport| transport != "tcp") {
            return Ok(None);
        }
        let traddr = self.text("traddr").ok_or("traddr is missing")?;
        let nqn = match self.text("nqn").or_else(|| self.text("subsysnqn")) {
            Some(nqn) => nqn,
            None if discovery => DISCOVERY_NQN,
            None => return Err("nqn is missing".into()),
        };
        for secret in ["tls", "concat", "dhchap-secret", "dhchap-key", "kxchap-secret"] {
            let there =
                if matches!(secret, "tls" | "concat") { self.flag(secret) } else { self.text(secret).is_some() };
            if there {
                return Err(format!("{secret}: TLS and in-band authentication are not built yet"));
            }
        }
        let port = if discovery { DISCOVERY_PORT } else { 4420 };
        let mut request = ConnectRequest::new(traddr, self.number("trsvcid")?.unwrap_or(port), nqn);
        request.host_traddr = self.number("host-traddr").map_err(|_| "host-traddr is no address")?;
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
        Ok(Some(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvme_cli_3_files_are_read_with_their_layers() {
        let main = "
            # everything
            [Host]
            hostnqn = nqn.2014-08.org.example:h
            [Defaults]
            keep-alive-tmo = 7
            [Subsystem Defaults]
            ctrl-loss-tmo = -1
            [Discovery Controller]
            controller = transport=tcp;traddr=192.0.2.1
            controller = transport=rdma;traddr=192.0.2.9
            [Subsystem]
            nqn = nqn.2014-08.org.example:disk
            keep-alive-tmo = 3
            controller = transport=tcp;traddr=192.0.2.2;trsvcid=4421
            controller = transport=tcp;traddr=192.0.2.3;keep-alive-tmo=
        ";
        let more = "[Subsystem]\nnqn = nqn.2014-08.org.example:other\ntraddr = 192.0.2.4\nhdr-digest = true\nnonsense\n[What]\n";
        let mut wanted = Wanted::default();
        wanted.fabrics(&[("a".into(), main.into()), ("b".into(), more.into())]);
        let brief: Vec<_> = wanted
            .connections
            .iter()
            .map(|c| (c.traddr.as_str(), c.trsvcid, c.keep_alive_tmo_s, c.ctrl_loss_tmo_s, c.hdr_digest))
            .collect();
        assert_eq!(
            brief,
            [("192.0.2.2", 4421, 3, -1, false), ("192.0.2.3", 4420, 5, -1, false), ("192.0.2.4", 4420, 7, -1, true)]
        );
        assert_eq!(wanted.discovery.len(), 1);
        assert_eq!((wanted.discovery[0].trsvcid, wanted.discovery[0].keep_alive_tmo_s), (8009, 7));
        assert_eq!(
            wanted.problems,
            ["b, line 5: neither a section nor `key = value`", "b, line 6: section `[What]` is not known"]
        );
    }

    #[test]
    fn nvme_cli_2_files_are_read() {
        let mut wanted = Wanted::default();
        wanted.discovery_conf(
            "# old\n-t tcp -a 192.0.2.1 -s 8009 -l -1\n--transport=tcp --traddr=192.0.2.2 --hdr-digest\n-t rdma -a x\n-z\n",
            "d",
        );
        let brief: Vec<_> =
            wanted.discovery.iter().map(|c| (c.traddr.as_str(), c.ctrl_loss_tmo_s, c.hdr_digest)).collect();
        assert_eq!(brief, [("192.0.2.1", -1, false), ("192.0.2.2", 600, true)]);
        assert_eq!(wanted.problems, ["d, line 5: `-z` is no option", "d, line 5: traddr is missing"]);
        let mut wanted = Wanted::default();
        wanted.config_json(
            r#"[{"hostnqn":"nqn.x","subsystems":[{"nqn":"nqn.2014-08.org.example:disk","ports":[
                {"transport":"tcp","traddr":"192.0.2.5","trsvcid":"4421","keep_alive_tmo":9},
                {"transport":"fc","traddr":"nn-0x1"},
                {"transport":"tcp","traddr":"192.0.2.6","dhchap_key":"DHHC-1:00:x:"}]}]}]"#,
            "j",
        );
        assert_eq!(wanted.connections.len(), 1);
        assert_eq!((wanted.connections[0].trsvcid, wanted.connections[0].keep_alive_tmo_s), (4421, 9));
        assert_eq!(wanted.problems.len(), 1, "{:?}", wanted.problems);
        wanted.config_json("nonsense", "j");
        assert_eq!(wanted.problems.len(), 2);
    }
}
