//! What nvme-cli users have already: `nvme-fabrics.conf` and its `.d` (nvme-cli 3), `discovery.conf` and `config.json`
//! (nvme-cli 2).
//!
//! A host that moves to this program must not type its connections again. These files are read, never written. What they
//! say of other transports and of other host identities is left to other programs. What cannot be understood is named
//! with its place, and the connections that depend on it are not made: an option that is misspelt may have asked for
//! authentication. The rest is used.

pub(crate) mod ini;
mod legacy;
mod options;

use crate::exclusions::{drop_ins, text};
use ini::Line;
use interlock_api::ConnectRequest;
use interlock_host::HostSettings;
use options::{Class, Left, Options};
pub(crate) use options::{NOT_BUILT, asks_for_security};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What is to be connected, or asked what to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Ports of subsystems.
    pub connections: Vec<ConnectRequest>,
    /// Discovery controllers.
    pub discovery: Vec<DiscoveryController>,
    /// What is wrong, with its place; what depends on it is not used.
    pub problems: Vec<String>,
    /// What is right and left out all the same, with its place and why.
    pub notes: Vec<String>,
}

/// A discovery controller, and the settings of what its log names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryController {
    /// Where it is, and the way there; `subnqn` is its NQN.
    pub controller: ConnectRequest,
    /// Its Keep Alive Timeout, in seconds; never that of what its log names.
    pub kato_s: u16,
    /// Settings of what its log names; address, port and NQN of this are not used.
    pub found: ConnectRequest,
}

impl DiscoveryController {
    /// One whose settings are for what its log names; its own Keep Alive Timeout is that of Linux.
    #[must_use]
    pub fn of(request: ConnectRequest) -> Self {
        Self { controller: request.clone(), kato_s: DISCOVERY_KATO_S, found: ConnectRequest { found: true, ..request } }
    }
}

pub(crate) const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
pub(crate) const DISCOVERY_PORT: u16 = 8009;
/// Keep Alive Timeout of a connection that only waits for events, as in Linux.
pub(crate) const DISCOVERY_KATO_S: u16 = 30;

const DC_DEFAULTS: &str = "Discovery Controller Defaults";
const IO_DEFAULTS: &str = "I/O Controller Defaults";
const SECTIONS: [&str; 5] = ["Host", DC_DEFAULTS, IO_DEFAULTS, "Discovery Controller", "Subsystem"];

impl Wanted {
    /// Everything in a directory such as `/etc/nvme`, for this host; `None`: it has no identity yet. Files that are not there
    /// say nothing.
    #[must_use]
    pub fn read(dir: &Path, who: Option<&HostSettings>) -> Self {
        let mut wanted = Self::default();
        let conf = dir.join("nvme-fabrics.conf");
        let main = wanted.text(&conf);
        let more = drop_ins(&dir.join("nvme-fabrics.conf.d")).unwrap_or_else(|(dir, error)| {
            wanted.problems.push(format!("{}: {error}", dir.display()));
            Vec::new()
        });
        let more: Vec<(String, String)> =
            more.iter().filter_map(|file| Some((file.display().to_string(), wanted.text(file)?))).collect();
        let main = main.map(|text| (conf.display().to_string(), text));
        wanted.fabrics(main.as_ref().map(|(file, text)| (file.as_str(), text.as_str())), &more, who);
        let file = dir.join("discovery.conf");
        if let Some(text) = wanted.text(&file) {
            wanted.discovery_conf(&text, &file.display().to_string(), who);
        }
        let file = dir.join("config.json");
        if let Some(text) = wanted.text(&file) {
            wanted.config_json(&text, &file.display().to_string(), who);
        }
        wanted.stas(&dir.parent().unwrap_or(dir).join("stas"));
        wanted
    }

    pub(crate) fn fuzz(text: &str) -> Self {
        let mut wanted = Self::default();
        wanted.fabrics(Some(("fuzz", text)), &[], None);
        wanted.discovery_conf(text, "fuzz", None);
        wanted.config_json(text, "fuzz", None);
        wanted
    }

    /// True if nothing is there, right or wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn text(&mut self, file: &Path) -> Option<String> {
        text(file).unwrap_or_else(|error| {
            self.problems.push(format!("{}: {error}", file.display()));
            None
        })
    }

    /// nvme-stas has files of its own, with exclusions of its own: whoever moves from it must know that they do not count.
    fn stas(&mut self, dir: &Path) {
        for name in ["stafd.conf", "stacd.conf", "sys.conf"] {
            let file = dir.join(name);
            let there = match std::fs::metadata(&file) {
                Ok(_) => true,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            };
            if there {
                self.notes.push(format!(
                    "{}: files of nvme-stas are not read; its controllers and exclusions do not count here",
                    file.display()
                ));
            }
        }
    }

    /// Takes what options say; `found`: it is a discovery controller, and this is for what its log names.
    fn take(&mut self, options: &Options, found: Option<&Options>, at: &str, who: Option<&HostSettings>) {
        let discovery = found.is_some();
        let request = match options.request(discovery, who) {
            Ok(request) => request,
            Err(Left::OtherTransport) => return,
            Err(Left::OtherHost(whose)) => {
                return self.notes.push(format!("{at}: left out: it is for another host, {whose}"));
            }
            Err(Left::Refused(why)) => return self.problems.push(format!("{at}: {why}")),
        };
        if let Some(text) = options.without_effect() {
            self.notes.push(format!("{at}: {text}"));
        }
        let Some(found) = found else { return self.connections.push(request) };
        if let Some(key) = found.asks_for_security() {
            return self.problems.push(format!("{at}: `{key}` of what its log names: {NOT_BUILT}"));
        }
        match found.settings("", false, DISCOVERY_NQN) {
            Ok(mut settings) => {
                // What is found is reached the same way.
                settings.host_traddr = settings.host_traddr.or(request.host_traddr);
                settings.host_iface = settings.host_iface.or_else(|| request.host_iface.clone());
                let kato_s = options.text("keep-alive-tmo").map_or(DISCOVERY_KATO_S, |_| request.keep_alive_tmo_s);
                self.discovery.push(DiscoveryController { controller: request, kato_s, found: settings });
            }
            Err(why) => self.problems.push(format!("{at}: for what its log names: {why}")),
        }
    }

    /// nvme-cli 3: sections of `key = value`. The most specific wins: line, section, `[Host]`, defaults of the file, defaults
    /// of the main file; an empty value takes back what an outer one said.
    fn fabrics(&mut self, main: Option<(&str, &str)>, more: &[(String, String)], who: Option<&HostSettings>) {
        let mut main = main.map(|(name, text)| self.parse(name, text));
        let mut more: Vec<Conf> = more.iter().map(|(name, text)| self.parse(name, text)).collect();
        // A host may have one file only, and a file of another identity must say which.
        let mut hosts: BTreeMap<String, String> = BTreeMap::new();
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        for (conf, first) in main.iter_mut().map(|conf| (conf, true)).chain(more.iter_mut().map(|conf| (conf, false))) {
            let Some(host) = &conf.host else { continue };
            if !first && host.text("hostnqn").is_none() {
                conf.faulty = true;
                self.problems.push(format!("{}: `[Host]` of a drop-in must say its hostnqn", conf.name));
            }
            for (key, known) in [("hostnqn", &mut hosts), ("hostid", &mut ids)] {
                if let Some(value) = host.text(key)
                    && let Some(other) = known.insert(value.to_ascii_lowercase(), conf.name.clone())
                {
                    self.problems.push(format!("{}: {key} {value} is that of {other}", conf.name));
                }
            }
        }
        let outer = main.as_ref().map(|conf| (conf.discovery.clone(), conf.io.clone())).unwrap_or_default();
        for (conf, first) in main.iter().map(|conf| (conf, true)).chain(more.iter().map(|conf| (conf, false))) {
            let (mut discovery, mut io) = outer.clone();
            if !first {
                discovery.over(&conf.discovery);
                io.over(&conf.io);
            }
            let mut host = conf.host.clone().unwrap_or_default();
            if conf.faulty {
                host.spoil();
            }
            for defaults in [&mut discovery, &mut io] {
                defaults.over(&host);
            }
            for section in &conf.sections {
                let mut options = if section.discovery { discovery.clone() } else { io.clone() };
                options.over(&section.options);
                if section.controllers.is_empty() {
                    self.problems.push(format!("{}: no `controller =` line says where it is", section.at));
                }
                for (line, at) in &section.controllers {
                    let mut one = options.clone();
                    one.over(line);
                    self.take(&one, section.discovery.then_some(&io), at, who);
                }
            }
        }
    }

    /// The sections of one file. What is wrong is told, and spoils the scope in which it stands.
    fn parse(&mut self, file: &str, text: &str) -> Conf {
        let mut conf = Conf { name: file.to_owned(), ..Conf::default() };
        let mut section = None;
        for (number, line) in ini::lines(text) {
            let at = format!("{file}, line {number}");
            let problem = match line {
                Line::Section(name) => {
                    section = SECTIONS.into_iter().find(|known| *known == name);
                    conf.begin(name, &at)
                }
                Line::Pair(key, value) => conf.pair(section, key, value, &at),
                Line::Junk(text) => {
                    conf.spoil(section);
                    if text.starts_with('[') {
                        // What follows belongs to no section that is known.
                        section = None;
                        conf.faulty = true;
                    }
                    Err(format!("`{text}` is neither a section nor `key = value`"))
                }
            };
            if let Err(why) = problem {
                self.problems.push(format!("{at}: {why}"));
            }
        }
        conf
    }
}

/// One file of nvme-cli 3.
#[derive(Clone, Debug, Default)]
struct Conf {
    name: String,
    host: Option<Options>,
    discovery: Options,
    io: Options,
    sections: Vec<Section>,
    /// Something stands in no section that is known, or it is not clear whose file this is: nothing of it is connected.
    faulty: bool,
}

#[derive(Clone, Debug, Default)]
struct Section {
    discovery: bool,
    at: String,
    options: Options,
    controllers: Vec<(Options, String)>,
}

impl Conf {
    /// Begins a section.
    fn begin(&mut self, name: &str, at: &str) -> Result<(), String> {
        match name {
            "Subsystem" | "Discovery Controller" => {
                let discovery = name == "Discovery Controller";
                self.sections.push(Section { discovery, at: at.to_owned(), ..Section::default() });
                Ok(())
            }
            "Host" if self.host.is_some() => {
                self.faulty = true;
                Err("a file has one `[Host]` only".into())
            }
            "Host" => {
                self.host = Some(Options::default());
                Ok(())
            }
            DC_DEFAULTS if !self.discovery.is_empty() => Err(format!("`[{name}]` stands here twice")),
            IO_DEFAULTS if !self.io.is_empty() => Err(format!("`[{name}]` stands here twice")),
            DC_DEFAULTS | IO_DEFAULTS => Ok(()),
            other => {
                let known = crate::refusal::nearest(other, SECTIONS);
                let hint = known.map_or_else(String::new, |known| format!(": did you mean `[{known}]`?"));
                Err(format!("section `[{other}]` is unknown{hint}"))
            }
        }
    }

    /// The scope of a section.
    fn scope(&mut self, section: Option<&str>) -> Option<&mut Options> {
        match section? {
            "Host" => self.host.as_mut(),
            DC_DEFAULTS => Some(&mut self.discovery),
            IO_DEFAULTS => Some(&mut self.io),
            _ => self.sections.last_mut().map(|section| &mut section.options),
        }
    }

    fn spoil(&mut self, section: Option<&str>) {
        match self.scope(section) {
            Some(scope) => scope.spoil(),
            None => self.faulty = true,
        }
    }

    fn pair(&mut self, section: Option<&str>, key: &str, value: &str, at: &str) -> Result<(), String> {
        let classes: &[Class] = match section {
            Some("Host") => &[Class::Identity, Class::Tunable],
            Some(DC_DEFAULTS | IO_DEFAULTS) => &[Class::Tunable],
            Some(_) if key == "controller" => {
                let (line, told) = controller(value);
                if let Some(section) = self.sections.last_mut() {
                    section.controllers.push((line, at.to_owned()));
                }
                return told;
            }
            Some(_) => &[Class::Name, Class::Tunable],
            None => {
                self.faulty = true;
                return Err(format!("`{key}` stands in no section that is known"));
            }
        };
        self.scope(section).map_or(Ok(()), |scope| scope.set(key, value, classes))
    }
}

/// A `controller =` line: what it says, and what is wrong with it.
fn controller(text: &str) -> (Options, Result<(), String>) {
    let mut line = Options::default();
    let mut told = Ok(());
    for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let one = match pair.split_once('=') {
            Some((key, value)) => line.set(key.trim(), value.trim(), &[Class::Address, Class::Tunable]),
            None => {
                line.spoil();
                Err(format!("`{pair}` is not `key=value`"))
            }
        };
        told = told.and(one);
    }
    (line, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(main: &str, more: &[&str], who: Option<&HostSettings>) -> Wanted {
        let more: Vec<_> = ('b'..).zip(more).map(|(name, text)| (name.to_string(), (*text).to_owned())).collect();
        let mut wanted = Wanted::default();
        wanted.fabrics(Some(("a", main)), &more, who);
        wanted
    }

    #[test]
    fn nvme_cli_3_files_are_read_with_their_layers() {
        let who = HostSettings::random().expect("random numbers");
        let main = format!(
            "
            # everything
            [Discovery Controller Defaults]
            keep-alive-tmo = 40
            [I/O Controller Defaults]
            ctrl-loss-tmo = -1
            keep-alive-tmo = 7
            reconnect-delay = 3
            [Host]
            hostnqn = {}
            hostsymname = lab
            reconnect-delay = 4
            [Discovery Controller]
            controller = transport=tcp;traddr=192.0.2.1
            controller = transport=rdma;traddr=192.0.2.9
            [Subsystem]
            nqn = nqn.2014-08.org.example:disk
            keep-alive-tmo = 3
            controller = transport=tcp;traddr=192.0.2.2;trsvcid=4421
            controller = transport=tcp;traddr=192.0.2.3;keep-alive-tmo=;host-iface=eth0
        ",
            who.hostnqn
        );
        let more = "[I/O Controller Defaults]\nkeep-alive-tmo = 9\n[Subsystem]\nnqn = nqn.2014-08.org.example:other\n\
                    hdr-digest = Y\ncontroller = transport=tcp;traddr=192.0.2.4\n[Discovery Controller]\n\
                    nqn = nqn.2014-08.org.example:cdc\ncontroller = transport=tcp;traddr=192.0.2.5\n";
        let wanted = read(
            &main,
            &[more, "[Subsystem]\nnqn = nqn.2014-08.org.example:third\ncontroller=transport=tcp;traddr=192.0.2.6"],
            Some(&who),
        );
        assert_eq!(wanted.problems, [""; 0]);
        let brief: Vec<_> = wanted
            .connections
            .iter()
            .map(|c| {
                (c.traddr.as_str(), c.trsvcid, c.keep_alive_tmo_s, c.ctrl_loss_tmo_s, c.reconnect_delay_s, c.hdr_digest)
            })
            .collect();
        assert_eq!(
            brief,
            [
                ("192.0.2.2", 4421, 3, -1, 4, false),
                ("192.0.2.3", 4420, 5, -1, 4, false),
                ("192.0.2.4", 4420, 9, -1, 3, true),
                ("192.0.2.6", 4420, 7, -1, 3, false)
            ]
        );
        let brief: Vec<_> = wanted
            .discovery
            .iter()
            .map(|one| {
                (one.controller.subnqn.as_str(), one.kato_s, one.found.keep_alive_tmo_s, one.found.ctrl_loss_tmo_s)
            })
            .collect();
        assert_eq!(brief, [(DISCOVERY_NQN, 40, 7, -1), ("nqn.2014-08.org.example:cdc", 40, 9, -1)]);
    }

    const DISK: &str = "[Subsystem]\nnqn = nqn.2014-08.org.example:disk\ncontroller = transport=tcp;traddr=192.0.2.1\n";

    #[test]
    fn no_security_of_any_level_is_dropped() {
        for main in [
            format!("[Host]\ndhchap-secret = DHHC-1:00:x:\n{DISK}"),
            format!("{DISK}[Host]\nkxchap-secret = x\n"),
            format!("[I/O Controller Defaults]\ntls = on\n{DISK}"),
            format!("{DISK}tls = T\n"),
            format!("{DISK}TLS_Key = x\n"),
            format!("{DISK}keyring = .nvme\n"),
            "[Subsystem]\nnqn = nqn.x\ncontroller = transport=tcp;traddr=192.0.2.1;concat=1\n".to_owned(),
        ] {
            let wanted = read(&main, &[], None);
            assert!(wanted.connections.is_empty(), "{main}");
            assert!(wanted.problems.iter().any(|text| text.contains("not built yet")), "{main}: {:?}", wanted.problems);
        }
        let found =
            "[I/O Controller Defaults]\ntls = 1\n[Discovery Controller]\ncontroller = transport=tcp;traddr=192.0.2.1\n";
        let wanted = read(found, &[], None);
        assert!(
            wanted.discovery.is_empty() && wanted.problems[0].contains("what its log names"),
            "{:?}",
            wanted.problems
        );
        // Of the main file's defaults too, and taken back where a section says so.
        let wanted = read("[I/O Controller Defaults]\ntls = 1\n", &[DISK, &format!("{DISK}tls =\n")], None);
        assert_eq!((wanted.connections.len(), wanted.problems.len()), (1, 1), "{:?}", wanted.problems);
    }

    #[test]
    fn what_is_wrong_spoils_what_depends_on_it_and_nothing_else() {
        let other = "[Subsystem]\nnqn = nqn.2014-08.org.example:other\ncontroller = transport=tcp;traddr=192.0.2.2\n";
        for (text, left, want) in [
            (format!("{DISK}tsl = 1\n{other}"), 1, "a, line 4: `tsl` is unknown"),
            (format!("{DISK}nqn = nqn.x\n{other}"), 1, "a, line 4: `nqn` stands here twice"),
            (format!("{DISK}nonsense\n{other}"), 1, "a, line 4: `nonsense` is neither"),
            (format!("{DISK}controller = transport=tcp;tradr=192.0.2.3\n"), 1, "did you mean `traddr`?"),
            (format!("{DISK}traddr = 192.0.2.3\n{other}"), 1, "`traddr` cannot stand here"),
            (format!("[Host]\nhostnmq = x\n{DISK}{other}"), 0, "did you mean `hostnqn`?"),
            (format!("[Host]\n[Host]\n{DISK}{other}"), 0, "a file has one `[Host]` only"),
            (format!("[Hosts]\ndhchap = x\n{DISK}{other}"), 0, "did you mean `[Host]`?"),
            (format!("[Host\n{DISK}{other}"), 0, "`[Host` is neither"),
            (format!("tls = 1\n{DISK}{other}"), 0, "`tls` stands in no section"),
            (format!("[What]\n{DISK}{other}"), 2, "section `[What]` is unknown"),
            (format!("[I/O Controller Defaults]\nqueue-size = x\n{DISK}"), 0, "queue-size = x"),
            (format!("{DISK}[Subsystem]\nnqn = nqn.x\n"), 1, "no `controller =` line"),
            (format!("{DISK}[Subsystem]\ncontroller = transport=tcp;traddr=192.0.2.3\n"), 1, "nqn is missing"),
            (format!("{DISK}keep-alive-tmo = 0\n{other}"), 1, "keep_alive_tmo 0"),
        ] {
            let wanted = read(&text, &[], None);
            assert_eq!(wanted.connections.len(), left, "{text}: {:?}", wanted.problems);
            assert!(wanted.problems.iter().any(|problem| problem.contains(want)), "{text}: {:?}", wanted.problems);
        }
    }

    #[test]
    fn a_file_of_another_identity_is_left_out_and_named() {
        let who = HostSettings::random().expect("random numbers");
        let theirs = format!("[Host]\nhostnqn = nqn.2014-08.org.example:other\n{DISK}");
        let wanted = read(DISK, &[&theirs], Some(&who));
        assert_eq!((wanted.connections.len(), wanted.problems.len()), (1, 0), "{:?}", wanted.problems);
        assert_eq!(wanted.notes, ["b, line 5: left out: it is for another host, nqn.2014-08.org.example:other"]);
        let nameless = read("", &[&format!("[Host]\nhostsymname = x\n{DISK}")], Some(&who));
        assert_eq!(nameless.connections.len(), 0);
        assert!(nameless.problems[0].contains("must say its hostnqn"), "{:?}", nameless.problems);
        let twice = read(&theirs, &[&theirs], Some(&who));
        assert!(twice.problems[0].contains("is that of a"), "{:?}", twice.problems);
    }

    #[test]
    fn what_is_not_read_is_named() {
        let dir = std::env::temp_dir().join(format!("interlock-fabrics-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for sub in ["stas", "nvme/nvme-fabrics.conf.d"] {
            std::fs::create_dir_all(dir.join(sub)).expect("a directory");
        }
        assert!(Wanted::read(&dir.join("nvme"), None).is_empty());
        std::fs::write(dir.join("stas/stacd.conf"), "").expect("a file");
        std::fs::write(dir.join("nvme/discovery.conf"), b"\xff").expect("a file");
        let wanted = Wanted::read(&dir.join("nvme"), None);
        assert!(wanted.notes[0].contains("stacd.conf: files of nvme-stas are not read"), "{:?}", wanted.notes);
        assert!(wanted.problems[0].contains("discovery.conf: "), "{:?}", wanted.problems);
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
