//! Which disk a namespace is: one that is deleted leaves its NSID to another, with another identity or another format.
//!
//! A disk has one volume of the application, for ever. The one that was there before is still written to by whoever holds
//! its old handle, and nothing of that may ever reach the disk that has its NSID now (`one_disk_one_head`). It is replaced
//! only while no association stands: a command that a target has received names an NSID and no more, so that what was sent
//! before the host could know would reach the new disk through any host.

use crate::chaos::Act;
use crate::draw::Plan;
use crate::mix::Kind;
use crate::parts::Division;
use crate::world::{SPARE_BLOCKS, World, note};
use interlock_check::OpId;
use interlock_host_core::HeadId;
use interlock_target_core::{Namespace, SubsystemId};
use interlock_wire::identify::NamespaceIds;
use std::time::Duration;

/// How a namespace comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// As another disk with the same geometry.
    Anew,
    /// As another disk, with blocks of another size.
    AnewWithLargeBlocks,
    /// As the same, formatted with blocks of another size.
    Formatted,
}

/// What a disk is, by what a target says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The part of the world that it belongs to.
    pub(crate) part: u16,
    pub(crate) nsid: u32,
    /// Which of those that ever had this NSID its identity is.
    identity: u8,
    block_shift: u8,
    /// Its identity has had another format before. Once is enough: a host that is not there cannot tell a second time from
    /// none.
    formatted: bool,
}

impl Disk {
    pub(crate) const fn first(division: Division, part: u16, nsid: u32) -> Self {
        Self { part, nsid, identity: division.identity(part), block_shift: 9, formatted: false }
    }

    /// The same, by another name.
    pub(crate) const fn renamed(self, times: u8) -> Self {
        Self { identity: 64 + times, ..self }
    }

    /// True if the load can use it: it knows blocks of one size only.
    pub(crate) const fn is_loaded(self) -> bool {
        self.block_shift == 9
    }

    const fn uuid(self) -> [u8; 16] {
        let mut uuid = [100 + self.nsid as u8; 16];
        uuid[15] = uuid[15].wrapping_add(self.identity);
        uuid
    }

    pub(crate) fn namespace(self, plan: &Plan) -> Namespace {
        let mut nguid = [self.nsid as u8; 16];
        nguid[15] = nguid[15].wrapping_add(self.identity);
        Namespace {
            nsid: self.nsid,
            blocks: plan.blocks + SPARE_BLOCKS,
            block_shift: self.block_shift,
            read_only: false,
            nguid,
            uuid: self.uuid(),
            ana_group: plan.ana_group(self.nsid),
            eui64: None,
            zeroes_when_deallocated: true,
        }
    }

    const fn after(self, how: Replaced) -> Self {
        let identity = match how {
            Replaced::Anew | Replaced::AnewWithLargeBlocks => self.identity + 16,
            Replaced::Formatted => self.identity,
        };
        let block_shift = match how {
            Replaced::Anew => self.block_shift,
            Replaced::AnewWithLargeBlocks | Replaced::Formatted => 21 - self.block_shift,
        };
        Self { identity, block_shift, formatted: identity == self.identity, ..self }
    }
}

/// True if these are identifiers of the first disk that ever had this NSID.
pub(crate) fn is_first(nsid: u32, ids: &NamespaceIds) -> bool {
    let first = Disk::first(Division::None, 0, nsid);
    ids.uuid == Some(first.uuid()) || ids.nguid == Some([nsid as u8; 16])
}

/// It is looked again whether every association has ended.
const LOOK: Duration = Duration::from_millis(5);

impl World {
    /// Another disk takes the place of this one, as soon as no connection to it stands.
    pub(crate) fn replace_namespace(&mut self, nsid: u32, how: Replaced) {
        if nsid as usize > self.plan.namespaces || self.app.volumes_made() > MOST {
            return;
        }
        let mounted = self.app.mounted(0, nsid);
        if how == Replaced::Formatted && mounted.formatted {
            return;
        }
        let listens = self.net.paths.iter().any(|path| path.open);
        if listens {
            // Somebody mended the ports: too late.
            return;
        }
        if !self.by_target.is_empty() {
            self.plan_act(self.now + LOOK, Act::Replace { nsid, how });
            return;
        }
        self.met(if how == Replaced::Formatted { Kind::NamespaceFormatted } else { Kind::NamespaceReplaced });
        let disk = mounted.after(how);
        note!(self, "target: namespace {nsid} is {disk:?} from now on");
        self.app.mount(&self.plan, disk);
        self.media.mount();
        let subsystem = SubsystemId(0);
        self.target.remove_namespace(subsystem, nsid).expect("it was there");
        self.target.add_namespace(subsystem, disk.namespace(&self.plan)).expect("its NSID is free");
        self.drain_target();
    }

    /// A target that was switched on again has the disks that it had.
    pub(crate) fn remount(&mut self) {
        let division = self.plan.division;
        for (part, nsid) in
            (0..division.parts()).flat_map(|part| (1..).take(self.plan.namespaces).map(move |n| (part, n)))
        {
            let disk = self.app.mounted(part, nsid);
            if self.is_late(nsid) {
                self.target.remove_namespace(SubsystemId(part), nsid).expect("every target begins with it");
            } else if disk != Disk::first(division, disk.part, nsid) {
                let subsystem = SubsystemId(part);
                self.target.remove_namespace(subsystem, nsid).expect("every target begins with it");
                self.target.add_namespace(subsystem, disk.namespace(&self.plan)).expect("its NSID is free");
            }
        }
    }

    /// The host has a head: which disk is it? By the path through which it was found, and by what the host itself knows it
    /// by.
    pub(crate) fn head_added(&mut self, head: HeadId, nsid: u32) {
        let Some(info) = self.control.heads().find(|info| info.id == head) else { return };
        let (uuid, block_size, path) = (info.ids.uuid, info.shape.block_size, info.paths.first().map(|path| path.0));
        let address = self.control.controllers().find(|info| Some(info.id) == path).and_then(|info| info.addr);
        let port = (0..self.plan.ports).find(|port| Some(crate::world::address(*port)) == address);
        let part = port.map(|port| self.plan.division.part_of(port));
        let is = |disk: Disk| {
            disk.nsid == nsid
                && (self.plan.division.shares_disks() || part.is_none_or(|part| part == disk.part))
                && uuid.is_none_or(|uuid| uuid == disk.uuid())
                && 1 << disk.block_shift == block_size
        };
        if self.control.open(head) {
            self.app.bind(head, is);
        }
        self.new_head_is_free(head);
    }

    /// A change takes effect on the disk of this volume: it must be one that was asked of that.
    pub(crate) fn one_disk_one_head(&mut self, volume: usize, op: Option<OpId>) {
        let Some(op) = op.filter(|op| (op.0 >> 32) as usize != volume) else { return };
        let (wanted, reached) = (self.app.disk((op.0 >> 32) as usize), self.app.disk(volume));
        let text = format!("#{:x}, asked of {wanted:?}, takes effect on {reached:?}", op.0);
        self.violate("one_disk_one_head", text);
    }
}

/// Disks of one run.
const MOST: usize = 12;
