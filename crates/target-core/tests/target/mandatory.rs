//! What a controller of this version must answer, and that everything which says what it answers agrees.
//!
//! NVM Express Base Specification, "I/O Controller Requirements", "Discovery Controller Requirements": the tables of commands, log
//! pages and features. Hosts of other makers ask for all of it, and act on what a bit says without trying.

use crate::rig::*;
use interlock_target_core::config::Ccr;
use interlock_target_core::{ConnId, MediaResult};
use interlock_wire::FromBytes;
use interlock_wire::admin::{
    self, EventMask, FID_HOST_ID, GetFeatures, GetLog, Identify, OPCODE_ASYNC_EVENT, QueueCount, SetFeatures,
};
use interlock_wire::fabrics::{Cc, Version};
use interlock_wire::identify::{IdentifyNamespace, NvmController, Oncs};
use interlock_wire::log::*;
use interlock_wire::nqn::DISCOVERY_NQN;
use interlock_wire::nvm::{self, Command};
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;

fn live() -> (Rig, Path) {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    (rig, a)
}

fn discovery() -> (Rig, ConnId) {
    let mut rig = Rig::new(config());
    let (admin, _) = Host { kato_ms: 30_000, ..Host::new(1) }.admin(&mut rig, A, DISCOVERY_NQN);
    set_cc(&mut rig, admin, Cc::new(false).with_enable(true));
    (rig, admin)
}

fn status(rig: &mut Rig, conn: ConnId, sqe: Sqe, into: u32) -> Status {
    rig.ask(conn, sqe, &[], into).0.status()
}

/// Gets a feature: its value, or why not.
fn feature(rig: &mut Rig, conn: ConnId, fid: u8) -> Result<u32, Status> {
    let mut get = GetFeatures::current(fid).to_sqe();
    let into = if fid == FID_HOST_ID { 16 } else { 0 };
    if fid == FID_HOST_ID {
        // Of 128 bits.
        get.cdw11.set(1);
    }
    let (cqe, _) = rig.ask(conn, get, &[], into);
    if cqe.status().is_success() { Ok(cqe.dw0.get()) } else { Err(cqe.status()) }
}

#[test]
fn every_mandatory_feature_has_a_value() {
    let (mut rig, a) = live();
    let queues = QueueCount::pairs(64).to_u32();
    let events = (EventMask::NAMESPACE | EventMask::ANA).bits();
    for (fid, name, value) in [
        (0x01, "Arbitration: no limit to a burst", 7),
        (0x02, "Power Management: state 0", 0),
        (0x04, "Temperature Threshold: where it warns", 0x157),
        (0x05, "Error Recovery: nothing is limited in time", 0),
        (0x06, "Volatile Write Cache: enabled", 1),
        (0x07, "Number of Queues", queues),
        (0x0A, "Write Atomicity Normal", 0),
        (0x0B, "Asynchronous Event Configuration", events),
        (0x0F, "Keep Alive Timer: none was asked for", 0),
    ] {
        assert_eq!(feature(&mut rig, a.admin, fid), Ok(value), "{fid:#x} {name}");
    }
    // Select says the default here, and nothing that could be saved.
    let default = GetFeatures { select: admin::Select::Default, ..GetFeatures::current(0x04) };
    assert_eq!(rig.ask(a.admin, default.to_sqe(), &[], 0).0.dw0.get(), 0x157);
    let mut under = GetFeatures::current(0x04).to_sqe();
    under.cdw11.set(1 << 20);
    assert_eq!(rig.ask(a.admin, under, &[], 0).0.dw0.get(), 0, "a temperature that is too low warns of nothing");
}

#[test]
fn the_log_of_features_names_those_that_can_be_read() {
    let (mut rig, a) = live();
    let page = FeaturesLog::read_from_bytes(&log(&mut rig, a.admin, LID_FEATURES, 4096)).unwrap();
    for fid in 0..=255 {
        let named = page.features[usize::from(fid)].get() & 1 == 1;
        let got = feature(&mut rig, a.admin, fid);
        assert_eq!(got.is_ok(), named, "feature {fid:#x}: {got:?}");
        if !named {
            assert_eq!(got, Err(Status::INVALID_FIELD.with_dnr()));
            let set = SetFeatures { fid, save: false, nsid: 0, cdw11: 0 };
            assert_eq!(status(&mut rig, a.admin, set.to_sqe(), 0), Status::INVALID_FIELD.with_dnr(), "{fid:#x}");
        }
    }
    // What can be read and not set says so, and not that it does not exist.
    for fid in [0x01, 0x02, 0x04, 0x05, 0x0A] {
        let set = SetFeatures { fid, save: false, nsid: 0, cdw11: 1 };
        assert_eq!(status(&mut rig, a.admin, set.to_sqe(), 0), Status::FEATURE_NOT_CHANGEABLE.with_dnr(), "{fid:#x}");
    }
}

#[test]
fn the_log_of_commands_names_those_that_are_known() {
    let (mut rig, a) = live();
    let effects = EffectsLog::read_from_bytes(&log(&mut rig, a.admin, LID_EFFECTS, 4096)).unwrap();
    for opcode in 0..=255 {
        for (conn, named) in [(a.admin, effects.admin(opcode)), (a.io, effects.io(opcode))] {
            let named = named.contains(Effects::SUPPORTED);
            // A Fabrics command is one of many; those that are known are tried elsewhere.
            if opcode == interlock_wire::sqe::OPCODE_FABRICS {
                assert_eq!(named, conn == a.admin);
                continue;
            }
            let mut sqe = Sqe::new(opcode);
            sqe.nsid.set(1);
            let token = rig.submit(conn, sqe, &[], 0);
            let known = match rig.answer(conn, token) {
                Some((cqe, _)) => !cqe.status().is(Status::INVALID_OPCODE),
                None => conn == a.admin && opcode == OPCODE_ASYNC_EVENT,
            };
            assert_eq!(known, named, "opcode {opcode:#x} on {conn:?}");
        }
    }
}

#[test]
fn optional_commands_are_those_that_oncs_names() {
    let (mut rig, a) = live();
    let effects = EffectsLog::read_from_bytes(&log(&mut rig, a.admin, LID_EFFECTS, 4096)).unwrap();
    let oncs = identify(&mut rig, a.admin).optional_commands();
    for (bit, opcode) in [
        (Oncs::COMPARE, nvm::OPCODE_COMPARE),
        (Oncs::WRITE_UNCORRECTABLE, 0x04),
        (Oncs::DSM, nvm::OPCODE_DSM),
        (Oncs::WRITE_ZEROES, nvm::OPCODE_WRITE_ZEROES),
        (Oncs::RESERVATIONS, 0x0D),
        (Oncs::VERIFY, nvm::OPCODE_VERIFY),
    ] {
        assert_eq!(oncs.contains(bit), effects.io(opcode).contains(Effects::SUPPORTED), "{bit:?}");
    }
    // Reservations are an attribute of the namespace as well.
    let page = rig.get(a.admin, Identify::Namespace { nsid: 1 }.to_sqe(), 4096);
    assert_eq!(IdentifyNamespace::read_from_bytes(&page).unwrap().rescap, 0);
}

#[test]
fn log_attributes_say_what_the_logs_are() {
    for ccr in [Ccr::DEFAULT, Ccr::Off] {
        let mut config = config();
        config.subsystems[0].ccr = ccr;
        let mut rig = Rig::new(config);
        let a = Host::new(1).live(&mut rig, A);
        let id = identify(&mut rig, a.admin);
        let version = if ccr == Ccr::Off { Version::V2_1 } else { Version::V2_3 };
        assert_eq!(id.ver.get(), version.0);
        let supported = SupportedLogs::read_from_bytes(&log(&mut rig, a.admin, LID_SUPPORTED, 1024)).unwrap();
        for lid in [LID_SUPPORTED, LID_ERROR, LID_SMART, LID_FIRMWARE, LID_EFFECTS, LID_FEATURES, LID_MI_EFFECTS] {
            assert!(supported.has(lid), "log {lid:#x} is mandatory or named by LPA");
        }
        assert_eq!(supported.has(LID_CCR), ccr != Ccr::Off);
        let bit = |n: u8| id.lpa >> n & 1 == 1;
        // Health of a namespace.
        for nsid in [1, 99] {
            let get = GetLog { nsid, ..GetLog::new(LID_SMART, 512) };
            assert_eq!(status(&mut rig, a.admin, get.to_sqe(), 512).is_success(), bit(0), "namespace {nsid}");
        }
        for nsid in [0, NSID_ALL] {
            let get = GetLog { nsid, ..GetLog::new(LID_SMART, 512) };
            assert!(status(&mut rig, a.admin, get.to_sqe(), 512).is_success(), "{nsid:#x} is the controller");
        }
        assert_eq!(supported.has(LID_EFFECTS), bit(1));
        // Extended data: lengths of 32 bits, and offsets.
        let whole = log(&mut rig, a.admin, LID_ERROR, 4096);
        let rest = rig.get(a.admin, GetLog::new(LID_ERROR, 512).at(64).to_sqe(), 512);
        assert_eq!((bit(2), &rest[..]), (true, &whole[64..576]));
        assert!(!bit(3) && !supported.has(LID_TELEMETRY_HOST), "telemetry");
        assert!(!bit(4) && !supported.has(LID_PERSISTENT_EVENT), "persistent events");
        assert!(bit(5), "logs 00h, 12h and 13h");
    }
}

const LID_TELEMETRY_HOST: u8 = 0x07;
const LID_PERSISTENT_EVENT: u8 = 0x0D;

#[test]
fn events_can_be_asked_for_as_offered_and_no_others() {
    let (mut rig, a) = live();
    let offered = identify(&mut rig, a.admin).events();
    for bit in 0..32 {
        let mask = EventMask::from_bits_retain(1 << bit);
        let set = status(&mut rig, a.admin, SetFeatures::async_events(mask).to_sqe(), 0);
        // Bits 7:0 are warnings of the health log; OAES does not say which there are.
        let allowed = bit < 8 || offered.contains(mask);
        assert_eq!(set.is_success(), allowed, "bit {bit}: {set}");
        if allowed {
            assert_eq!(feature(&mut rig, a.admin, 0x0B), Ok(mask.bits()));
        }
    }
    // All at once, as SPDK does; and it is what is in force.
    let all = offered | EventMask::from_bits_retain(0xFF);
    assert!(status(&mut rig, a.admin, SetFeatures::async_events(all).to_sqe(), 0).is_success());
    assert_eq!(feature(&mut rig, a.admin, 0x0B), Ok(all.bits()));
    assert_eq!(status(&mut rig, a.admin, SetFeatures::async_events(EventMask::empty()).to_sqe(), 0), Status::SUCCESS);
    // Refused ones change nothing.
    let beyond = SetFeatures::async_events(EventMask::DISCOVERY | all);
    assert_eq!(status(&mut rig, a.admin, beyond.to_sqe(), 0), Status::INVALID_FIELD.with_dnr());
    assert_eq!(feature(&mut rig, a.admin, 0x0B), Ok(0));
    let token = a.aer(&mut rig);
    assert!(rig.answer(a.admin, token).is_none(), "requests are taken whatever was asked for");
}

#[test]
fn what_limits_say_holds() {
    let (mut rig, a) = live();
    let id = identify(&mut rig, a.admin);
    let largest = id.max_transfer(0).expect("a limit");
    let read = |bytes: u32| Command::Read { slba: 0, nlb: bytes / 512, fua: false }.to_sqe(1);
    assert!(status(&mut rig, a.io, read(largest), largest).is_success());
    let page = rig.get(a.admin, Identify::ControllerCsi { csi: 0 }.to_sqe(), 4096);
    let limits = NvmController::read_from_bytes(&page).unwrap();
    // Write Zeroes and Verify move no data: they have limits of their own, and without one hosts cut them at MDTS.
    assert!(4096_u64 << limits.wzsl > u64::from(largest));
    assert_eq!(4096_u64 << limits.vsl, u64::from(largest));
    let all = BLOCKS as u32;
    assert!(all * 512 > largest);
    let zeroes = Command::WriteZeroes { slba: 0, nlb: all, deallocate: false, fua: false }.to_sqe(1);
    assert!(status(&mut rig, a.io, zeroes, 0).is_success());
    let verify = |bytes: u32| Command::Verify { slba: 0, nlb: bytes / 512 }.to_sqe(1);
    assert!(status(&mut rig, a.io, verify(largest), 0).is_success());
    assert!(!status(&mut rig, a.io, verify(largest + 512), 0).is_success());
}

/// As many as ELPE says, numbered from 1, and counted by the health log.
#[test]
fn errors_are_in_their_log_and_counted_in_the_other() {
    let (mut rig, a) = live();
    let entries = usize::from(identify(&mut rig, a.admin).elpe) + 1;
    rig.media_fails = Some(MediaResult::ReadFailed);
    for _ in 0..entries + 3 {
        rig.ask(a.io, Command::Read { slba: 0, nlb: 1, fua: false }.to_sqe(1), &[], 512);
    }
    let page = log(&mut rig, a.admin, LID_ERROR, entries as u32 * 64);
    let counts: Vec<u64> =
        page.chunks_exact(64).map(|entry| u64::from_le_bytes(entry[..8].try_into().unwrap())).collect();
    assert_eq!(counts, (4..=entries as u64 + 3).rev().collect::<Vec<_>>());
    let health = Smart::read_from_bytes(&log(&mut rig, a.admin, LID_SMART, 512)).unwrap();
    assert_eq!((health.error_entries.get(), health.media_errors.get()), (entries as u128 + 3, entries as u128 + 3));
}

#[test]
fn a_discovery_controller_says_what_it_is_and_answers_that() {
    let (mut rig, admin) = discovery();
    let id = identify(&mut rig, admin);
    // Not reported: a direct one and a central one would have to take Discovery Information Management.
    assert_eq!((id.cntrltype, id.dctype), (2, 0));
    assert_eq!(status(&mut rig, admin, Sqe::new(0x21), 0), Status::INVALID_OPCODE.with_dnr());
    let supported = SupportedLogs::read_from_bytes(&log(&mut rig, admin, LID_SUPPORTED, 1024)).unwrap();
    for lid in 0..=255 {
        let want = if supported.has(lid) { Status::SUCCESS } else { Status::INVALID_LOG_PAGE.with_dnr() };
        assert_eq!(status(&mut rig, admin, GetLog::new(lid, 4096).to_sqe(), 4096), want, "log {lid:#x}");
    }
    assert!(supported.has(LID_DISCOVERY));
    for fid in 0..=255 {
        assert_eq!(feature(&mut rig, admin, fid).is_ok(), [0x0B, 0x0F].contains(&fid), "feature {fid:#x}");
    }
    assert_eq!(feature(&mut rig, admin, 0x0F), Ok(30_000));
    let wanted = SetFeatures::async_events(EventMask::DISCOVERY);
    assert!(id.events().contains(EventMask::DISCOVERY) && status(&mut rig, admin, wanted.to_sqe(), 0).is_success());
    assert!(status(&mut rig, admin, admin::keep_alive(), 0).is_success());
}
