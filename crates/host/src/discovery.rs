//! A discovery log in the words that nvme-cli users know.

use interlock_host_core::probe::DiscoveryLog;
use interlock_wire::discovery::Entry;
use interlock_wire::identify::text;

pub use interlock_wire::discovery::Kind as RecordKind;

/// One record, every field as text. What a record says that has no word prints as `unrecognized`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWords {
    /// `tcp`, `rdma`, `fc`, `loop`.
    pub trtype: &'static str,
    /// `ipv4`, `ipv6` and so on.
    pub adrfam: &'static str,
    /// What is there.
    pub subtype: &'static str,
    /// Transport requirements.
    pub treq: &'static str,
    /// Port of the subsystem.
    pub portid: u16,
    /// TCP port.
    pub trsvcid: String,
    /// Subsystem NQN.
    pub subnqn: String,
    /// Address.
    pub traddr: String,
    /// Flags.
    pub eflags: &'static str,
    /// Security of TCP; `None` for other transports.
    pub sectype: Option<&'static str>,
    /// What is reached over TCP there; `None` for other transports, and for subtypes that this program does not know.
    pub over_tcp: Option<RecordKind>,
    /// No connection may be made without a secure channel (TREQ 01b).
    pub needs_secure_channel: bool,
}

/// The records of a log in words, in order.
#[must_use]
pub fn in_words(log: &DiscoveryLog) -> Vec<RecordWords> {
    log.entries.iter().map(words).collect()
}

/// Where a subsystem can be reached over TCP, by this log: address, TCP port and port ID, in order.
#[must_use]
pub fn ways_to(log: &DiscoveryLog, subnqn: &str) -> Vec<(String, u16, u16)> {
    log.records()
        .flatten()
        .filter(|record| record.kind == RecordKind::Nvm && record.subnqn.as_str() == subnqn)
        .map(|record| (record.traddr, record.trsvcid, record.portid))
        .collect()
}

/// The subsystems of a log, each once, in order.
#[must_use]
pub fn subsystems(log: &DiscoveryLog) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for record in log.records().flatten().filter(|record| record.kind == RecordKind::Nvm) {
        if !found.iter().any(|known| known == record.subnqn.as_str()) {
            found.push(record.subnqn.to_string());
        }
    }
    found
}

fn words(entry: &Entry) -> RecordWords {
    const UNKNOWN: &str = "unrecognized";
    RecordWords {
        trtype: match entry.trtype {
            0 => "pcie",
            1 => "rdma",
            2 => "fc",
            3 => "tcp",
            254 => "loop",
            _ => UNKNOWN,
        },
        adrfam: match entry.adrfam {
            0 => "pci",
            1 => "ipv4",
            2 => "ipv6",
            3 => "infiniband",
            4 => "fibre-channel",
            254 => "loop",
            _ => UNKNOWN,
        },
        subtype: match entry.subtype {
            1 => "discovery subsystem referral",
            2 => "nvme subsystem",
            3 => "current discovery subsystem",
            _ => UNKNOWN,
        },
        treq: match entry.treq & 7 {
            0 => "not specified",
            1 => "required",
            2 => "not required",
            4 => "not specified, sq flow control disable supported",
            5 => "required, sq flow control disable supported",
            6 => "not required, sq flow control disable supported",
            _ => UNKNOWN,
        },
        portid: entry.portid.get(),
        trsvcid: text(&entry.trsvcid),
        subnqn: text(&entry.subnqn),
        traddr: text(&entry.traddr),
        eflags: match entry.eflags.get() & 7 {
            0 => "none",
            1 => "duplicate discovery information",
            2 => "explicit discovery connections",
            3 => "explicit discovery connections, duplicate discovery information",
            4 => "no cdc connectivity",
            5 => "no cdc connectivity, duplicate discovery information",
            6 => "no cdc connectivity, explicit discovery connections",
            _ => "no cdc connectivity, explicit discovery connections, duplicate discovery information",
        },
        sectype: (entry.trtype == interlock_wire::discovery::TRTYPE_TCP).then(|| match entry.tsas[0] {
            0 => "none",
            1 => "tls",
            2 => "tls13",
            _ => UNKNOWN,
        }),
        over_tcp: match (entry.trtype, entry.subtype) {
            (interlock_wire::discovery::TRTYPE_TCP, 1) => Some(RecordKind::Referral),
            (interlock_wire::discovery::TRTYPE_TCP, 2) => Some(RecordKind::Nvm),
            (interlock_wire::discovery::TRTYPE_TCP, 3) => Some(RecordKind::Current),
            _ => None,
        },
        needs_secure_channel: entry.treq & 3 == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_wire::discovery::{Family, Record, SecureChannel, Security};
    use interlock_wire::nqn::Nqn;

    fn record(kind: RecordKind, subnqn: &str, port: u16) -> Record {
        Record {
            kind,
            family: Family::Ipv4,
            traddr: "192.0.2.7".into(),
            trsvcid: port,
            subnqn: Nqn::new(subnqn).expect("a name"),
            portid: port - 4419,
            cntlid: 0xFFFF,
            asqsz: 32,
            eflags: 3,
            secure_channel: SecureChannel::NotSpecified,
            may_disable_sq_flow_control: true,
            security: Security::None,
        }
    }

    #[test]
    fn every_field_has_its_word_and_ways_are_found() {
        let records = [
            record(RecordKind::Current, "nqn.2014-08.org.nvmexpress.discovery", 4420),
            record(RecordKind::Nvm, "nqn.2026-11.io.example:a", 4420),
            record(RecordKind::Nvm, "nqn.2026-11.io.example:a", 4421),
            record(RecordKind::Nvm, "nqn.2026-11.io.example:b", 4422),
        ];
        let mut entries: Vec<Entry> = records.iter().map(Record::to_entry).collect();
        let first = words(&entries[0]);
        assert_eq!((first.trtype, first.adrfam, first.subtype), ("tcp", "ipv4", "current discovery subsystem"));
        assert_eq!(first.treq, "not specified, sq flow control disable supported");
        assert_eq!(first.eflags, "explicit discovery connections, duplicate discovery information");
        assert_eq!((first.over_tcp, first.needs_secure_channel), (Some(RecordKind::Current), false));
        entries[1].treq = 5;
        entries[1].eflags.set(5);
        let second = words(&entries[1]);
        assert_eq!((second.over_tcp, second.needs_secure_channel), (Some(RecordKind::Nvm), true));
        assert_eq!(second.eflags, "no cdc connectivity, duplicate discovery information");
        assert_eq!((first.sectype, first.portid, first.trsvcid.as_str()), (Some("none"), 1, "4420"));
        // A transport that we do not speak is shown, and is no way.
        entries[3].trtype = 1;
        let log = DiscoveryLog { generation: 1, entries };
        let rdma = &in_words(&log)[3];
        assert_eq!((rdma.trtype, rdma.sectype, rdma.over_tcp), ("rdma", None, None));
        let ways = ways_to(&log, "nqn.2026-11.io.example:a");
        assert_eq!(ways, [("192.0.2.7".into(), 4420, 1), ("192.0.2.7".into(), 4421, 2)]);
        assert_eq!(subsystems(&log), ["nqn.2026-11.io.example:a"]);
    }
}
