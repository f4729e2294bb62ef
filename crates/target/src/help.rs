//! What faults and limits there are, for people who do not read code: said by `--fault help`, `--limit help`, the page
//! `docs/target.md` and whoever wrote a name that nobody knows. Tests hold all of it to what is read.

/// A name with the keys that belong to it, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// As it is written.
    pub name: &'static str,
    /// Keys that it needs besides, with examples; for a limit its default.
    pub with: &'static str,
    /// What it does.
    pub what: &'static str,
}

const fn known(name: &'static str, with: &'static str, what: &'static str) -> Known {
    Known { name, with, what }
}

/// Every kind of fault, as `--fault kind=KIND,KEY=VALUE` and `[[fault]]` know them.
pub const FAULTS: [Known; 20] = [
    known(
        "hold-writes",
        "port=0",
        "media-changing commands received on a port stall inside, and outlive their connection",
    ),
    known("stop-holding", "port=0", "once: commands received from now on execute again; what is held stays held"),
    known("release", "", "once: every held command is delivered now, and holding ends on every port"),
    known("delay", "port=0,ms=20", "I/O commands received on a port start this much later, in ms"),
    known("drop", "port=0", "I/O commands received on a port vanish: neither executed nor answered"),
    known(
        "crash-on",
        "port=0,nsid=1,lba=8",
        "a controller dies of every command received on a port that names this block: its connection is reset",
    ),
    known("fail-io", "port=0,status=0x360", "I/O commands received on a port are answered with this status; 0 ends it"),
    known("mute", "port=0", "a port is silent: nothing is read, written, closed or accepted"),
    known("unmute", "port=0", "once: a mute port works again; connections that ended meanwhile are reset"),
    known("reset-connections", "port=0", "once: every connection of a port is reset"),
    known("ccr-refuse", "status=0x141", "every Cross-Controller Reset is refused with this status"),
    known("ccr-late", "ms=500", "the log reports a finished Cross-Controller Reset this much later, in ms"),
    known("ccr-lose-event", "", "no event is raised when a Cross-Controller Reset finishes"),
    known("repeat-event", "", "once: every controller reports its last event again"),
    known(
        "ccr-stale-entry",
        "",
        "once: every CCR log gets a completed entry as an earlier life would have left behind",
    ),
    known("ccr-keep-entries", "", "entries that a host asks to remove from a CCR log stay there"),
    known("ccr-fail", "", "a Cross-Controller Reset is accepted and then fails: the controller keeps its life"),
    known("slow-drain", "ms=500", "a life that is reset keeps executing what it holds for this long, in ms"),
    known("rdy-before-drained", "", "CSTS.RDY is 0 although commands may still execute"),
    known("clear", "", "once: ends all of the above; held commands are delivered, mute ports work again"),
];

/// Every limit, as `--limit KEY=VALUE` and `[limits]` know them.
pub const LIMITS: [Known; 7] = [
    known("connections", "4096", "connections per lane, 1 to 1048576"),
    known(
        "half_open",
        "1024",
        "connections per lane without a complete Connect, 1 to 1048576: the oldest makes room for one more",
    ),
    known("handshake_ms", "10000", "how long a connection may stay without a complete Connect, 100 to 600000"),
    known("transfer_ms", "30000", "how long a peer may leave data unsent, or an answer untaken, 1000 to 3600000"),
    known("controllers", "1024", "controllers, and as many discovery controllers, 1 to 65519"),
    known(
        "memory_mib",
        "512",
        "everything that peers can make the target hold, in MiB, four transfers to 1048576; each lane has the same part",
    ),
    known("connection_buffers_mib", "32", "payload in buffers per connection, in MiB, one transfer to 1048576"),
];

/// A table of them, a line each.
#[must_use]
pub fn table(all: &[Known]) -> String {
    let first = |known: &Known| format!("{} {}", known.name, known.with).trim_end().to_owned();
    let width = all.iter().map(|known| first(known).len()).max().unwrap_or(0);
    let line = |known: &Known| format!("{:width$}  {}", first(known), known.what);
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FaultConfig};

    /// The words between backquotes behind "expected one of".
    fn expected(error: &str) -> Vec<String> {
        let (_, list) = error.split_once("expected ").expect("serde lists what it knows");
        list.split('`').skip(1).step_by(2).map(Into::into).collect()
    }

    #[test]
    fn every_fault_is_listed_and_every_listed_one_is_read() {
        let error = serde_json::from_str::<FaultConfig>(r#"{"kind":"nothing"}"#).unwrap_err().to_string();
        assert_eq!(FAULTS.map(|known| known.name).to_vec(), expected(&error));
        for Known { name, with, .. } in FAULTS {
            let with = with.replace(',', "\n");
            let text = format!(
                "[[fault]]\nkind = \"{name}\"\n{with}\n[[port]]\nlisten = 0\n[[namespace]]\nbacking = \"mem:1M\"\n"
            );
            assert!(Config::from_toml(&text).is_ok(), "{text}: {:?}", Config::from_toml(&text));
        }
    }

    #[test]
    fn every_limit_is_listed_with_its_default() {
        let rest = "[[port]]\nlisten = 0\n[[namespace]]\nbacking = \"mem:1M\"\n";
        let error = toml::from_str::<Config>("[limits]\nnothing = 1").unwrap_err().to_string();
        assert_eq!(LIMITS.map(|known| known.name).to_vec(), expected(&error));
        let list: String = LIMITS.iter().map(|known| format!("{} = {}\n", known.name, known.with)).collect();
        let config = Config::from_toml(&format!("{rest}[limits]\n{list}")).unwrap();
        assert_eq!(config.limits, Config::default().limits);
        for (known, (name, _, low, high)) in LIMITS.iter().zip(config.limits.ranges(config.max_transfer_kib)) {
            let low = match name {
                "memory_mib" => "four transfers".to_owned(),
                "connection_buffers_mib" => "one transfer".to_owned(),
                _ => low.to_string(),
            };
            assert!(known.name == name && known.what.contains(&format!("{low} to {high}")), "{name}: {}", known.what);
        }
    }

    #[test]
    fn the_file_on_the_page_is_one() {
        let page = include_str!("../../../docs/target.md");
        let (_, rest) = page.split_once("```toml\n").expect("a file");
        let (file, _) = rest.split_once("```").expect("its end");
        Config::from_toml(file).unwrap();
    }

    #[test]
    fn the_page_says_them_all() {
        let page = include_str!("../../../docs/target.md");
        for list in [&FAULTS[..], &LIMITS[..]] {
            for line in table(list).lines() {
                assert!(page.lines().any(|known| known == line), "docs/target.md lacks the line\n{line}");
            }
        }
    }
}
