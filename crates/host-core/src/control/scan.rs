//! Which namespaces a controller has, and what they look like: a pure machine, one command at a time.
//!
//! ```text
//! list (02h) -> per namespace: identifiers (03h) -> readiness (08h, from version 2.0 on, optional) -> geometry (00h)
//! ```
//! Base Specification, "Identify command". A namespace that cannot be used is named with its reason, not dropped.

use crate::Shape;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use interlock_wire::FromBytes;
use interlock_wire::admin::Identify;
use interlock_wire::identify::{IdentifyNamespace, NamespaceIds, NamespaceIndependent, parse_list};
use interlock_wire::status::Status;

/// Namespaces of one controller that are looked at; more are refused by name.
pub(super) const MAX_NAMESPACES: usize = 1024;
/// From this version on a controller may say whether a namespace is ready (CNS 08h).
const VERSION_2_0: u32 = 0x0002_0000;
/// Entries of a full page of the namespace list.
const LIST_PAGE: usize = 1024;

/// One usable namespace of a controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) nsid: u32,
    pub(super) ids: NamespaceIds,
    pub(super) shape: Shape,
    pub(super) shared: bool,
    pub(super) ana_group: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    List { after: u32 },
    Descriptors,
    Independent,
    Geometry,
    Done,
}

/// One scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scan {
    independent: bool,
    at: At,
    /// Still to look at; the last one comes first.
    todo: Vec<u32>,
    ids: NamespaceIds,
    pub(super) found: Vec<Found>,
    pub(super) refused: Vec<(u32, String)>,
}

impl Scan {
    pub(super) const fn new(vs: u32) -> Self {
        Self {
            independent: vs >= VERSION_2_0,
            at: At::List { after: 0 },
            todo: Vec::new(),
            ids: NamespaceIds { eui64: None, nguid: None, uuid: None, csi: None },
            found: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The next command; `None` when it is done.
    pub(super) fn ask(&self) -> Option<Identify> {
        let nsid = self.todo.last().copied().unwrap_or(0);
        match self.at {
            At::List { after } => Some(Identify::ActiveNamespaces { after }),
            At::Descriptors => Some(Identify::Descriptors { nsid }),
            At::Independent => Some(Identify::NamespaceIndependent { nsid }),
            At::Geometry => Some(Identify::Namespace { nsid }),
            At::Done => None,
        }
    }

    /// The answer to the last command.
    ///
    /// # Errors
    /// If the controller cannot say which namespaces it has.
    pub(super) fn handle_answer(&mut self, status: Status, data: &[u8]) -> Result<(), String> {
        match self.at {
            At::List { after } => {
                if !status.is_success() {
                    return Err(format!("Identify, active namespaces: {status}"));
                }
                let list = parse_list(data, after).map_err(|e| e.to_string())?;
                let full = list.len() == LIST_PAGE;
                let next = list.last().copied().unwrap_or(after);
                let room = MAX_NAMESPACES - self.todo.len();
                for nsid in list.iter().skip(room).take(1) {
                    self.refused.push((*nsid, format!("more than {MAX_NAMESPACES} namespaces on one controller")));
                }
                self.todo.extend(list.into_iter().take(room));
                if full && self.todo.len() < MAX_NAMESPACES {
                    self.at = At::List { after: next };
                } else {
                    self.todo.reverse();
                    self.begin();
                }
            }
            At::Descriptors => match (status.is_success(), NamespaceIds::parse(data)) {
                (true, Ok(ids)) if ids.csi.unwrap_or(0) != 0 => {
                    self.refuse(format!("its command set {} is not the NVM command set", ids.csi.unwrap_or(0)));
                }
                (true, Ok(ids)) => {
                    self.ids = ids;
                    self.at = if self.independent { At::Independent } else { At::Geometry };
                }
                (true, Err(e)) => self.refuse(e.to_string()),
                // Older controllers have identifiers in the geometry page only.
                (false, _) => {
                    self.ids = NamespaceIds::default();
                    self.at = At::Geometry;
                }
            },
            At::Independent => {
                let ready = !status.is_success()
                    || NamespaceIndependent::ref_from_prefix(data).is_ok_and(|(page, _)| page.nstat & 1 != 0);
                if ready {
                    self.at = At::Geometry;
                } else {
                    self.refuse("it is not ready (NSTAT.NRDY is 0)".to_string());
                }
            }
            At::Geometry => {
                if !status.is_success() {
                    self.refuse(format!("Identify Namespace: {status}"));
                } else if let Ok((page, _)) = IdentifyNamespace::ref_from_prefix(data) {
                    match self.geometry(page) {
                        Ok(found) => {
                            self.found.push(found);
                            self.next();
                        }
                        Err(why) => self.refuse(why),
                    }
                } else {
                    self.refuse("Identify Namespace: too short".to_string());
                }
            }
            At::Done => {}
        }
        Ok(())
    }

    fn geometry(&self, page: &IdentifyNamespace) -> Result<Found, String> {
        let geometry = page.geometry().map_err(|e| e.to_string())?;
        if !matches!(geometry.block_size, 512 | 4096) {
            return Err(format!("its blocks have {} bytes; 512 and 4096 are supported", geometry.block_size));
        }
        if geometry.metadata != 0 {
            return Err(format!("its blocks have {} bytes of metadata; none is supported", geometry.metadata));
        }
        let mut ids = self.ids;
        // What the descriptors leave out may stand here.
        ids.nguid = ids.nguid.or((page.nguid != [0; 16]).then_some(page.nguid));
        ids.eui64 = ids.eui64.or((page.eui64 != [0; 8]).then_some(page.eui64));
        ids.csi = None;
        Ok(Found {
            nsid: self.todo.last().copied().unwrap_or(0),
            ids,
            shape: Shape {
                block_size: geometry.block_size,
                blocks: geometry.blocks,
                metadata: geometry.metadata,
                read_only: page.is_write_protected(),
            },
            shared: page.is_shared(),
            ana_group: page.anagrpid.get(),
        })
    }

    fn refuse(&mut self, why: String) {
        if let Some(nsid) = self.todo.last() {
            self.refused.push((*nsid, why));
        }
        self.next();
    }

    fn next(&mut self) {
        self.todo.pop();
        self.begin();
    }

    fn begin(&mut self) {
        self.ids = NamespaceIds::default();
        self.at = if self.todo.is_empty() { At::Done } else { At::Descriptors };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use interlock_wire::IntoBytes;
    use interlock_wire::identify::encode_list;

    fn page(lbads: u8, blocks: u64) -> Vec<u8> {
        let mut page = IdentifyNamespace::default();
        page.nsze.set(blocks);
        page.ncap.set(blocks);
        page.lbaf[0].lbads = lbads;
        page.nmic = 1;
        page.as_bytes().to_vec()
    }

    #[test]
    fn asks_in_order_and_names_what_it_refuses() {
        let mut scan = Scan::new(0x20000);
        assert_eq!(scan.ask(), Some(Identify::ActiveNamespaces { after: 0 }));
        scan.handle_answer(Status::SUCCESS, &encode_list([1, 5])).expect("list");
        assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 1 }));
        let ids = NamespaceIds { uuid: Some([7; 16]), ..NamespaceIds::default() };
        scan.handle_answer(Status::SUCCESS, &ids.encode()).expect("ids");
        assert_eq!(scan.ask(), Some(Identify::NamespaceIndependent { nsid: 1 }));
        scan.handle_answer(Status::INVALID_FIELD, &[]).expect("optional");
        assert_eq!(scan.ask(), Some(Identify::Namespace { nsid: 1 }));
        scan.handle_answer(Status::SUCCESS, &page(9, 100)).expect("geometry");
        assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 5 }));
        scan.handle_answer(Status::INVALID_FIELD, &[]).expect("older");
        assert_eq!(scan.ask(), Some(Identify::Namespace { nsid: 5 }));
        scan.handle_answer(Status::SUCCESS, &page(10, 100)).expect("geometry");
        assert_eq!(scan.ask(), None);
        assert_eq!(scan.found.len(), 1);
        assert_eq!((scan.found[0].ids.uuid, scan.found[0].shape.blocks), (Some([7; 16]), 100));
        assert_eq!(scan.refused.len(), 1);
        assert!(scan.refused[0].1.contains("1024"), "{:?}", scan.refused);
    }

    #[test]
    fn a_namespace_that_is_not_ready_waits() {
        let mut scan = Scan::new(0x20000);
        scan.handle_answer(Status::SUCCESS, &encode_list([1])).expect("list");
        scan.handle_answer(Status::SUCCESS, &NamespaceIds::default().encode()).expect("ids");
        scan.handle_answer(Status::SUCCESS, &vec![0; 4096]).expect("independent");
        assert_eq!(scan.ask(), None);
        assert!(scan.refused[0].1.contains("not ready"));
    }

    #[test]
    fn a_list_that_never_ends_is_cut() {
        let mut scan = Scan::new(0x10400);
        scan.handle_answer(Status::SUCCESS, &encode_list(1..=1024)).expect("list");
        assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 1 }), "bounded by MAX_NAMESPACES");
        assert!(Scan::new(0).handle_answer(Status::INVALID_OPCODE, &[]).is_err());
        assert!(Scan::new(0).handle_answer(Status::SUCCESS, &encode_list([5, 4])).is_err());
    }
}
