//! Log pages.
//!
//! NVM Express Base Specification, "Get Log Page command".

use super::Control;
use super::controller::{Controller, ControllerKey, Kind};
use crate::SubsystemId;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::SocketAddr;
use interlock_base::Instant;
use interlock_wire::IntoBytes;
use interlock_wire::admin::{self, GetLog};
use interlock_wire::ana;
use interlock_wire::ccr;
use interlock_wire::discovery::{self, Family, Kind as RecordKind, Record, SecureChannel, Security};
use interlock_wire::fabrics::CNTLID_DYNAMIC;
use interlock_wire::identify::text_field;
use interlock_wire::log::{
    self, ChangedNamespaces, Effects, EffectsLog, FeaturesLog, FirmwareSlots, LID_ANA, LID_CCR, LID_CHANGED_NAMESPACES,
    LID_DISCOVERY, LID_EFFECTS, LID_ERROR, LID_FEATURES, LID_FIRMWARE, LID_MI_EFFECTS, LID_SMART, LID_SUPPORTED,
    SupportedLogs,
};
use interlock_wire::nqn::Nqn;
use interlock_wire::nvm;
use interlock_wire::sqe::OPCODE_FABRICS;
use interlock_wire::status::Status;

/// The features of an I/O controller.
const FEATURES: [u8; 10] = [
    admin::FID_ARBITRATION,
    admin::FID_POWER,
    admin::FID_TEMPERATURE,
    admin::FID_ERROR_RECOVERY,
    admin::FID_VOLATILE_WRITE_CACHE,
    admin::FID_QUEUES,
    admin::FID_WRITE_ATOMICITY,
    admin::FID_ASYNC_EVENTS,
    admin::FID_KEEP_ALIVE,
    admin::FID_HOST_ID,
];

/// Bytes before the entries of the CCR log, and bytes of each.
const CCR_HEADER: u64 = 8;
const CCR_ENTRY: u64 = 8;

impl Control {
    pub(super) fn get_log(&mut self, now: Instant, key: ControllerKey, get: &GetLog) -> Result<Vec<u8>, Status> {
        let invalid = Status::INVALID_FIELD.with_dnr();
        let unknown = Status::INVALID_LOG_PAGE.with_dnr();
        let controller = self.controllers.get(&key).ok_or(invalid)?;
        let page = match controller.kind {
            Kind::Discovery => match get.lid {
                LID_SUPPORTED => SupportedLogs::of(&[LID_SUPPORTED, LID_DISCOVERY]).as_bytes().to_vec(),
                LID_DISCOVERY => self.discovery_log(controller),
                _ => return Err(unknown),
            },
            Kind::Io(id) => match get.lid {
                LID_SUPPORTED => self.supported(controller).as_bytes().to_vec(),
                LID_ERROR => controller.errors.page(),
                LID_SMART => self.smart(now, key).as_bytes().to_vec(),
                LID_FIRMWARE => firmware().as_bytes().to_vec(),
                LID_CHANGED_NAMESPACES => {
                    ChangedNamespaces::These(controller.changed.iter().copied().collect()).encode()
                }
                LID_EFFECTS => self.effects(controller).as_bytes().to_vec(),
                LID_FEATURES => FeaturesLog::of(&FEATURES).as_bytes().to_vec(),
                LID_MI_EFFECTS => FeaturesLog::default().as_bytes().to_vec(),
                LID_ANA if self.config.subsystems[usize::from(id.0)].ana_groups > 0 => {
                    self.ana_log(controller, id).encode(get.lsp & ana::LSP_GROUPS_ONLY != 0)
                }
                LID_CCR if self.ccr_limit(controller) > 0 => self.ccr_page(key),
                _ => return Err(unknown),
            },
        };
        let mut answer = excerpt(&page, get, self.config.limits.max_transfer)?;
        trim(&mut answer);
        let controller = self.controllers.get_mut(&key).ok_or(invalid)?;
        if get.lid == LID_CCR && ccr::removes_completed(get) && !self.script.ccr_keep_entries {
            // Only what was returned. Running ones come first, then the completed ones in their order.
            let running = controller.ccrs.iter().filter(|run| run.run == super::controller::Run::Logged).count();
            let completed = |entry: u64| {
                usize::try_from(entry).unwrap_or(usize::MAX).saturating_sub(running).min(controller.ccr_log.len())
            };
            // Wholly returned: one that was cut at either end is still to be read.
            let first = completed(get.offset.saturating_sub(CCR_HEADER).div_ceil(CCR_ENTRY));
            let end = completed(get.offset.saturating_add(get.len.into()).saturating_sub(CCR_HEADER) / CCR_ENTRY);
            controller.ccr_log.drain(first.min(end)..end);
        }
        if !get.retain_event {
            if get.lid == LID_CHANGED_NAMESPACES {
                controller.changed.clear();
            }
            controller.events.read(get.lid);
        }
        Ok(answer)
    }

    fn supported(&self, controller: &Controller) -> SupportedLogs {
        let mut lids = alloc::vec![
            LID_SUPPORTED,
            LID_ERROR,
            LID_SMART,
            LID_FIRMWARE,
            LID_CHANGED_NAMESPACES,
            LID_EFFECTS,
            LID_FEATURES,
            LID_MI_EFFECTS
        ];
        if controller.subsystem().is_some_and(|id| self.config.subsystems[usize::from(id.0)].ana_groups > 0) {
            lids.push(LID_ANA);
        }
        if self.ccr_limit(controller) > 0 {
            lids.push(LID_CCR);
        }
        SupportedLogs::of(&lids)
    }

    // No scopes: Linux logs a warning for a command whose effects name one.
    fn effects(&self, controller: &Controller) -> EffectsLog {
        let mut log = EffectsLog::default();
        for opcode in [
            admin::OPCODE_GET_LOG,
            admin::OPCODE_IDENTIFY,
            admin::OPCODE_ABORT,
            admin::OPCODE_SET_FEATURES,
            admin::OPCODE_GET_FEATURES,
            admin::OPCODE_ASYNC_EVENT,
            admin::OPCODE_KEEP_ALIVE,
            OPCODE_FABRICS,
        ] {
            log.set_admin(opcode, Effects::SUPPORTED);
        }
        if self.ccr_limit(controller) > 0 {
            log.set_admin(ccr::OPCODE, Effects::SUPPORTED);
        }
        for opcode in [nvm::OPCODE_FLUSH, nvm::OPCODE_READ, nvm::OPCODE_COMPARE, nvm::OPCODE_VERIFY] {
            log.set_io(opcode, Effects::SUPPORTED);
        }
        for opcode in [nvm::OPCODE_WRITE, nvm::OPCODE_WRITE_ZEROES, nvm::OPCODE_DSM] {
            log.set_io(opcode, Effects::SUPPORTED | Effects::BLOCK_CHANGE);
        }
        log
    }

    fn ana_log(&self, controller: &Controller, id: SubsystemId) -> ana::Log {
        let subsystem = &self.subsystems[usize::from(id.0)];
        let port = controller.port;
        let groups = (1..=subsystem.namespaces.groups())
            .map(|group| ana::Group {
                id: group,
                change_count: subsystem.group_changes.get(&(port, group)).copied().unwrap_or(0),
                state: subsystem.namespaces.state(port, group),
                nsids: subsystem.namespaces.iter().filter(|ns| ns.ana_group == group).map(|ns| ns.nsid).collect(),
            })
            .collect();
        ana::Log { change_count: subsystem.ana_changes.get(&port).copied().unwrap_or(0), groups }
    }

    /// The service itself, then every subsystem that this host may connect to, on every port where it is offered.
    fn discovery_log(&self, controller: &Controller) -> Vec<u8> {
        let mut records = Vec::new();
        let record = |kind, subnqn: &Nqn, port: u16, address: SocketAddr| Record {
            kind,
            family: if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 },
            traddr: address.ip().to_string(),
            trsvcid: address.port(),
            subnqn: subnqn.clone(),
            portid: port,
            cntlid: CNTLID_DYNAMIC,
            asqsz: self.config.limits.queue_depth,
            eflags: if kind == RecordKind::Current { discovery::EFLAG_EPCSD } else { 0 },
            secure_channel: SecureChannel::NotRequired,
            may_disable_sq_flow_control: true,
            security: Security::None,
        };
        // A host cannot connect to an unspecified address: it is shown the one through which it came.
        let reach = |address: SocketAddr| {
            if address.ip().is_unspecified() { SocketAddr::new(controller.local.ip(), address.port()) } else { address }
        };
        if let Some(port) = self.config.ports.iter().find(|port| port.id == controller.port) {
            records.push(record(RecordKind::Current, &Nqn::discovery(), port.id.0, reach(port.address)));
        }
        for id in self.subsystem_ids() {
            let subsystem = &self.config.subsystems[usize::from(id.0)];
            if !subsystem.hosts.admits(&controller.host.nqn) {
                continue;
            }
            for port in
                self.config.ports.iter().filter(|port| port.offers.includes(id) && !self.closed.contains(&port.id))
            {
                records.push(record(RecordKind::Nvm, &subsystem.nqn, port.id.0, reach(port.address)));
            }
        }
        discovery::Log::encode(self.genctr, &records)
    }
}

/// What a host asks for of a page, without the zeros behind the page that it asks for as well: [`trim`] would leave them out, and
/// making a megabyte of them takes longer than everything else about the command.
fn excerpt(page: &[u8], get: &GetLog, limit: u32) -> Result<Vec<u8>, Status> {
    let has = u64::try_from(page.len()).unwrap_or(u64::MAX).saturating_sub(get.offset);
    let len = u32::try_from(has).unwrap_or(u32::MAX).max(1);
    if get.len > len && get.len <= limit {
        return log::slice(page, &GetLog { len, ..*get }, limit);
    }
    log::slice(page, get, limit)
}

/// Leaves out the zeros at the end, all but one byte: the lane makes them when they are sent. A host may ask for a megabyte of a page
/// of nothing, many times, and never take it.
fn trim(answer: &mut Vec<u8>) {
    let end = answer.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    answer.truncate(end);
    answer.shrink_to_fit();
}

fn firmware() -> FirmwareSlots {
    let mut page = FirmwareSlots { afi: 1, ..FirmwareSlots::default() };
    page.frs[0] = text_field(env!("CARGO_PKG_VERSION"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zeros_behind_a_page_are_left_out_without_being_made() {
        let page: Vec<u8> = (1..=200).map(|byte| if byte % 50 < 20 { 0 } else { byte }).collect();
        let limit = 4096;
        for offset in (0..=208).step_by(4) {
            for len in (4..=300).step_by(4).chain([4096, 4100]) {
                let get = GetLog { lid: 1, nsid: 0, lsp: 0, retain_event: false, offset, len };
                let trimmed = |mut bytes: Vec<u8>| {
                    trim(&mut bytes);
                    bytes
                };
                let expected = log::slice(&page, &get, limit).map(trimmed);
                assert_eq!(excerpt(&page, &get, limit).map(trimmed), expected, "{get:?}");
            }
        }
        let whole = GetLog { lid: 1, nsid: 0, lsp: 0, retain_event: false, offset: 0, len: 4096 };
        assert_eq!(excerpt(&page, &whole, limit).map(|bytes| bytes.len()), Ok(200));
    }
}
