//! What controllers and namespaces say about themselves.
//!
//! NVM Express Base Specification, "Identify command"; NVM Command Set Specification, "Identify Namespace".

use super::Control;
use super::controller::{Controller, ControllerKey, EVENT_REQUESTS_MAX, Kind};
use crate::config::SubsystemConfig;
use crate::health::ERRORS_MAX;
use crate::{NSID_MAX, Namespace, Namespaces};
use alloc::vec::Vec;
use interlock_wire::IntoBytes;
use interlock_wire::admin::Identify;
use interlock_wire::identify::{
    CMIC_ANA, CMIC_MULTI_CONTROLLER, CMIC_MULTI_PORT, CNTRLTYPE_DISCOVERY, CNTRLTYPE_IO, CTRATT_HOST_ID_128,
    CTRATT_TBKAS, IdentifyController, IdentifyNamespace, Lbaf, NamespaceIds, NamespaceIndependent, NvmController,
    NvmNamespace, Oncs, encode_list, text_field,
};
use interlock_wire::nqn::Nqn;
use interlock_wire::status::Status;

/// What the target calls its firmware: its own version.
const FIRMWARE: &str = env!("CARGO_PKG_VERSION");
/// Data blocks by offset in the capsule, and transport data blocks, of any alignment.
const SGLS: u32 = 0x0030_0001;
/// Flush is per namespace; there is a volatile cache.
const VWC: u8 = 0b101;
/// Longest stay of an ANA group in the change state, in seconds: an operator's matter, so the usual value.
const ANATT: u8 = 10;
/// All five states can be seen, and a namespace stays in its group.
const ANACAP: u8 = 0b0101_1111;
/// Log attributes: effects log, offsets, and the logs of supported logs, features and NVMe-MI commands.
const LPA: u8 = 0b10_0110;
/// Temperature that warns (WCTEMP), in kelvin.
pub(super) const WARNING_TEMPERATURE: u16 = 0x157;
/// Write Zeroes size limit, 2^n pages of 4096 bytes: what NLB can say in blocks of that size.
const WZSL: u8 = 16;

impl Control {
    pub(super) fn identify(&self, key: ControllerKey, identify: Identify) -> Result<Vec<u8>, Status> {
        let invalid = Status::INVALID_FIELD.with_dnr();
        let controller = self.controllers.get(&key).ok_or(invalid)?;
        let Kind::Io(id) = controller.kind else {
            return match identify {
                Identify::Controller => Ok(self.identify_discovery(controller).as_bytes().to_vec()),
                _ => Err(invalid),
            };
        };
        let config = &self.config.subsystems[usize::from(id.0)];
        let namespaces = &self.subsystems[usize::from(id.0)].namespaces;
        let zeros = || alloc::vec![0; 4096];
        match identify {
            Identify::Controller => Ok(self.identify_io(controller, config).as_bytes().to_vec()),
            Identify::ActiveNamespaces { after } if after >= u32::MAX - 1 => Err(Status::INVALID_NAMESPACE.with_dnr()),
            Identify::ActiveNamespaces { after } => {
                Ok(encode_list(namespaces.iter().map(|namespace| namespace.nsid).filter(|nsid| *nsid > after)))
            }
            Identify::Namespace { nsid } => Ok(find(namespaces, nsid)?.map_or_else(zeros, |namespace| {
                identify_namespace(namespaces, controller, namespace).as_bytes().to_vec()
            })),
            Identify::Descriptors { nsid } => {
                let namespace = namespaces.get(nsid).ok_or(Status::INVALID_NAMESPACE.with_dnr())?;
                let ids = NamespaceIds {
                    eui64: namespace.eui64,
                    nguid: Some(namespace.nguid),
                    uuid: Some(namespace.uuid),
                    csi: Some(0),
                };
                Ok(ids.encode())
            }
            Identify::NamespaceIndependent { nsid } => Ok(find(namespaces, nsid)?.map_or_else(zeros, |namespace| {
                let mut page = NamespaceIndependent {
                    nmic: 1,
                    nsattr: namespace.read_only.into(),
                    nstat: 1,
                    ..NamespaceIndependent::default()
                };
                page.anagrpid.set(group(namespaces, namespace));
                page.as_bytes().to_vec()
            })),
            Identify::NamespaceCsi { nsid, csi: 0 } => {
                find(namespaces, nsid).map(|_| NvmNamespace::default().as_bytes().to_vec())
            }
            // A Verify reads into a buffer of this target: it is as large as other commands at most.
            Identify::ControllerCsi { csi: 0 } => {
                let vsl = (self.config.limits.max_transfer / 4096).ilog2() as u8;
                Ok(NvmController { vsl, wzsl: WZSL, ..NvmController::default() }.as_bytes().to_vec())
            }
            Identify::NamespaceCsi { .. } | Identify::ControllerCsi { .. } => Err(invalid),
        }
    }

    /// What both kinds of controllers have in common.
    fn identify_common(&self, controller: &Controller, subnqn: &Nqn) -> IdentifyController {
        let limits = &self.config.limits;
        let mut page = IdentifyController {
            fr: text_field(FIRMWARE),
            rab: 6,
            mdts: (limits.max_transfer / 4096).ilog2() as u8,
            aerl: EVENT_REQUESTS_MAX as u8 - 1,
            elpe: if controller.subsystem().is_some() { ERRORS_MAX as u8 - 1 } else { 0 },
            acl: 3,
            frmw: 3,
            lpa: LPA,
            sqes: 0x66,
            cqes: 0x44,
            msdbd: 1,
            subnqn: subnqn.to_field(),
            ..IdentifyController::default()
        };
        page.cntlid.set(controller.cntlid);
        page.ver.set(self.version(controller).0);
        page.oaes.set(self.oaes(controller).bits());
        page.maxcmd.set(limits.queue_depth);
        page.sgls.set(SGLS);
        page.wctemp.set(WARNING_TEMPERATURE);
        page.cctemp.set(0x175);
        page.iorcsz.set(1);
        page.set_in_capsule_io(limits.in_capsule);
        page
    }

    fn identify_discovery(&self, controller: &Controller) -> IdentifyController {
        let mut page = IdentifyController {
            sn: text_field("discovery"),
            mn: text_field("Interlock discovery"),
            cntrltype: CNTRLTYPE_DISCOVERY,
            lpa: 0b100,
            // Not reported: neither a direct one nor a central one that takes registrations.
            dctype: 0,
            ..self.identify_common(controller, &Nqn::discovery())
        };
        page.kas.set(10);
        page.ctratt.set(CTRATT_TBKAS);
        page
    }

    fn identify_io(&self, controller: &Controller, config: &SubsystemConfig) -> IdentifyController {
        let ccrl = config.ccr.limit();
        let mut page = IdentifyController {
            sn: text_field(&config.serial),
            mn: text_field(&config.model),
            cntrltype: CNTRLTYPE_IO,
            cmic: CMIC_MULTI_PORT | CMIC_MULTI_CONTROLLER,
            vwc: VWC,
            ccrl,
            ..self.identify_common(controller, &config.nqn)
        };
        if ccrl > 0 {
            page.ciu = controller.ciu;
            page.cirn.set(controller.cirn);
        }
        page.ctratt.set(CTRATT_HOST_ID_128 | if config.tbkas { CTRATT_TBKAS } else { 0 });
        page.kas.set(config.kas);
        page.cqt.set(config.cqt_ms);
        page.nn.set(NSID_MAX);
        page.mnan.set(NSID_MAX);
        page.oncs.set((Oncs::COMPARE | Oncs::DSM | Oncs::WRITE_ZEROES | Oncs::VERIFY).bits());
        if config.ana_groups > 0 {
            page.cmic |= CMIC_ANA;
            page.anatt = ANATT;
            page.anacap = ANACAP;
            page.anagrpmax.set(config.ana_groups);
            page.nanagrpid.set(config.ana_groups);
        }
        page
    }
}

/// An active namespace, none if the NSID is free.
fn find(namespaces: &Namespaces, nsid: u32) -> Result<Option<&Namespace>, Status> {
    if (1..=NSID_MAX).contains(&nsid) { Ok(namespaces.get(nsid)) } else { Err(Status::INVALID_NAMESPACE.with_dnr()) }
}

/// Its ANA group; 0 if ANA is not reported.
fn group(namespaces: &Namespaces, namespace: &Namespace) -> u32 {
    if namespaces.groups() == 0 { 0 } else { namespace.ana_group }
}

fn identify_namespace(namespaces: &Namespaces, controller: &Controller, namespace: &Namespace) -> IdentifyNamespace {
    let mut page = IdentifyNamespace {
        nmic: 1,
        // Bits 2:0 tell what deallocated blocks read as; bit 3 that Write Zeroes may deallocate.
        dlfeat: if namespace.zeroes_when_deallocated { 0b1001 } else { 0 },
        nsattr: namespace.read_only.into(),
        nguid: namespace.nguid,
        eui64: namespace.eui64.unwrap_or_default(),
        nvmcap: (u128::from(namespace.blocks) << namespace.block_shift).to_le_bytes(),
        ..IdentifyNamespace::default()
    };
    page.lbaf[0] = Lbaf { lbads: namespace.block_shift, ..Lbaf::default() };
    page.nsze.set(namespace.blocks);
    page.ncap.set(namespace.blocks);
    page.nuse.set(namespace.blocks);
    let group = group(namespaces, namespace);
    page.anagrpid.set(group);
    if group != 0 && !namespaces.state(controller.port, group).is_usable() {
        page.nuse.set(0);
        page.nvmcap = [0; 16];
    }
    page
}
