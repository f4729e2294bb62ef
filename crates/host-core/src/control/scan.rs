//! Which namespaces a controller has, and what they look like: a pure machine, one command at a time.
//!
//! ```text
//! list (02h) -> per namespace: identifiers (03h) -> readiness (08h, from version 2.0 on, optional) -> geometry (00h)
//! ```
//! Base Specification, "Identify command". A namespace that cannot be used is named with its reason, not dropped. What
//! could not be read says nothing about the namespace ([`Question::hear`]): whoever has it as a path keeps it, and it is
//! looked at again. A list that lacks a namespace that was there is read twice before it is believed, and so are
//! identifiers that nothing known under the NSID states: by them a disk is told from every other.

use crate::Shape;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use interlock_proto::DataError;
use interlock_proto::host::{Heard, Question, Unread};
use interlock_wire::FromBytes;
use interlock_wire::admin::Identify;
use interlock_wire::identify::{Geometry, IdentifyNamespace, NamespaceIds, NamespaceIndependent, parse_list};
use interlock_wire::status::Status;

/// Namespaces of one controller that are looked at; more are refused by name.
pub(super) const MAX_NAMESPACES: usize = 1024;
/// From this version on a controller may say whether a namespace is ready (CNS 08h).
const VERSION_2_0: u32 = 0x0002_0000;
/// Entries of a full page of the namespace list.
pub(super) const LIST_PAGE: usize = 1024;

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

/// What is to be said of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Seen {
    /// It cannot be used.
    Refused(String),
    /// It could not be read, or is not ready: it is looked at again.
    Unread(String),
    /// It is used, and something that it says of itself is not believed.
    Doubted(String),
}

impl Seen {
    pub(super) const fn is_unread(&self) -> bool {
        matches!(self, Self::Unread(_))
    }

    pub(super) fn into_why(self) -> String {
        match self {
            Self::Refused(why) | Self::Unread(why) | Self::Doubted(why) => why,
        }
    }
}

/// One scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scan {
    independent: bool,
    at: At,
    /// Namespaces that were there when the controller was asked last.
    expected: BTreeSet<u32>,
    /// The list was read twice.
    relisted: bool,
    /// Still to look at; the last one comes first.
    todo: Vec<u32>,
    /// What the identifiers were when they were read first, where that is to be confirmed; `None`: not offered.
    first: Option<Option<NamespaceIds>>,
    ids: NamespaceIds,
    /// As the list has them.
    pub(super) listed: Vec<u32>,
    pub(super) found: Vec<Found>,
    pub(super) seen: BTreeMap<u32, Seen>,
}

impl Scan {
    pub(super) const fn new(vs: u32, expected: BTreeSet<u32>) -> Self {
        Self {
            independent: vs >= VERSION_2_0,
            at: At::List { after: 0 },
            expected,
            relisted: false,
            todo: Vec::new(),
            first: None,
            ids: NamespaceIds { eui64: None, nguid: None, uuid: None, csi: None },
            listed: Vec::new(),
            found: Vec::new(),
            seen: BTreeMap::new(),
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

    /// The answer to the last command. `is_known`: whether these identifiers are known under this NSID.
    ///
    /// # Errors
    /// If the controller cannot say which namespaces it has.
    pub(super) fn handle_answer(
        &mut self,
        status: Status,
        data: &[u8],
        is_known: impl FnOnce(u32, &NamespaceIds) -> bool,
    ) -> Result<(), String> {
        match self.at {
            At::List { after } => {
                if !status.is_success() {
                    return Err(format!("Identify, active namespaces: {status}"));
                }
                let list = parse_list(data, after).map_err(|e| e.to_string())?;
                let full = list.len() == LIST_PAGE;
                let next = list.last().copied().unwrap_or(after);
                // One more than are looked at, so that it can be named. Of a second reading, what the first one named is
                // there already.
                let most = if self.relisted { 2 * MAX_NAMESPACES } else { MAX_NAMESPACES } + 1;
                let room = most - self.todo.len();
                self.todo.extend(list.into_iter().take(room));
                if full && self.todo.len() < most {
                    self.at = At::List { after: next };
                    return Ok(());
                }
                self.todo.sort_unstable();
                self.todo.dedup();
                if !self.relisted && self.expected.iter().any(|nsid| self.todo.binary_search(nsid).is_err()) {
                    self.relisted = true;
                    self.at = At::List { after: 0 };
                } else {
                    if let Some(nsid) = self.todo.get(MAX_NAMESPACES) {
                        let why = format!(
                            "more than {MAX_NAMESPACES} namespaces on one controller: from this one on, none is used"
                        );
                        self.seen.insert(*nsid, Seen::Refused(why));
                    }
                    self.todo.truncate(MAX_NAMESPACES);
                    self.listed.clone_from(&self.todo);
                    self.todo.reverse();
                    self.begin();
                }
            }
            At::Descriptors => match Question::Identifiers.hear(status) {
                Heard::Answer => {
                    let (ids, bad) = NamespaceIds::read(data);
                    if let Some(csi) = ids.csi.filter(|csi| *csi != 0) {
                        self.end(Seen::Refused(format!("its command set {csi} is not the NVM command set")));
                        return Ok(());
                    }
                    if let Some(bad) = bad.filter(|bad| bad.is_of_command_set()) {
                        self.end(Seen::Unread(format!("its command set is not clear: {bad}; it is looked at again")));
                        return Ok(());
                    }
                    if let (Some(nsid), Some(bad)) = (self.todo.last(), bad) {
                        self.seen.insert(*nsid, Seen::Doubted(format!("{bad}: that one is not believed")));
                    }
                    let is_known = self.todo.last().is_some_and(|nsid| is_known(*nsid, &ids));
                    self.identified(Some(ids), is_known);
                }
                // Older controllers have identifiers in the geometry page only.
                Heard::NotOffered => self.identified(None, false),
                Heard::Unknown(why) => self.unread("its identifiers", why),
            },
            At::Independent => match (Question::Readiness.hear(status), NamespaceIndependent::ref_from_prefix(data)) {
                (Heard::Answer, Ok((page, _))) if page.nstat & 1 == 0 => {
                    self.end(Seen::Unread("it is not ready (NSTAT.NRDY is 0); it is looked at again".to_string()));
                }
                (Heard::Answer, Ok(_)) | (Heard::NotOffered, _) => self.at = At::Geometry,
                (Heard::Answer, Err(_)) => self.unread("whether it is ready", Unread::Data(DataError::Short)),
                (Heard::Unknown(why), _) => self.unread("whether it is ready", why),
            },
            At::Geometry => match (Question::Geometry.hear(status), IdentifyNamespace::ref_from_prefix(data)) {
                (Heard::Answer, Ok((page, _))) => match page.geometry() {
                    Ok(geometry) => match self.geometry(page, geometry) {
                        Ok(found) => {
                            self.found.push(found);
                            self.next();
                        }
                        Err(why) => self.end(Seen::Refused(why)),
                    },
                    // The list says that it is there, and no namespace can be like this page: one of them is old or cut off.
                    Err(error) => self.end(Seen::Unread(format!("{error}; it is looked at again"))),
                },
                (Heard::Answer, Err(_)) => self.unread("its geometry", Unread::Data(DataError::Short)),
                (Heard::NotOffered, _) => self.unread("its geometry", Unread::Status(status)),
                (Heard::Unknown(why), _) => self.unread("its geometry", why),
            },
            At::Done => {}
        }
        Ok(())
    }

    /// The identifiers were read: they count once they are known, or are the same a second time.
    fn identified(&mut self, ids: Option<NamespaceIds>, is_known: bool) {
        match self.first {
            None if !is_known => self.first = Some(ids),
            Some(first) if !is_known && first != ids => {
                let why = "its identifiers differ from one reading to the next; they are read again";
                self.end(Seen::Unread(why.to_string()));
            }
            _ => {
                self.at = if self.independent && ids.is_some() { At::Independent } else { At::Geometry };
                self.ids = ids.unwrap_or_default();
            }
        }
    }

    fn geometry(&self, page: &IdentifyNamespace, geometry: Geometry) -> Result<Found, String> {
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

    fn unread(&mut self, what: &str, why: Unread) {
        self.end(Seen::Unread(format!("{what} could not be read: {why}; it is looked at again")));
    }

    fn end(&mut self, seen: Seen) {
        if let Some(nsid) = self.todo.last() {
            self.seen.insert(*nsid, seen);
        }
        self.next();
    }

    fn next(&mut self) {
        self.todo.pop();
        self.begin();
    }

    fn begin(&mut self) {
        self.ids = NamespaceIds::default();
        self.first = None;
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
        let mut scan = Scan::new(0x20000, BTreeSet::new());
        assert_eq!(scan.ask(), Some(Identify::ActiveNamespaces { after: 0 }));
        scan.handle_answer(Status::SUCCESS, &encode_list([1, 5]), |_, _| true).expect("list");
        assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 1 }));
        let ids = NamespaceIds { uuid: Some([7; 16]), ..NamespaceIds::default() };
        scan.handle_answer(Status::SUCCESS, &ids.encode(), |_, _| true).expect("ids");
        assert_eq!(scan.ask(), Some(Identify::NamespaceIndependent { nsid: 1 }));
        scan.handle_answer(Status::INVALID_FIELD, &[], |_, _| true).expect("optional");
        assert_eq!(scan.ask(), Some(Identify::Namespace { nsid: 1 }));
        scan.handle_answer(Status::SUCCESS, &page(9, 100), |_, _| true).expect("geometry");
        assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 5 }));
        scan.handle_answer(Status::INVALID_FIELD, &[], |_, _| true).expect("older");
        assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 5 }), "it may have been this once");
        scan.handle_answer(Status::INVALID_FIELD, &[], |_, _| true).expect("older");
        assert_eq!(scan.ask(), Some(Identify::Namespace { nsid: 5 }));
        scan.handle_answer(Status::SUCCESS, &page(10, 100), |_, _| true).expect("geometry");
        assert_eq!(scan.ask(), None);
        assert_eq!(scan.found.len(), 1);
        assert_eq!((scan.found[0].ids.uuid, scan.found[0].shape.blocks), (Some([7; 16]), 100));
        assert!(matches!(&scan.seen[&5], Seen::Refused(why) if why.contains("1024")), "{:?}", scan.seen);
        assert_eq!(scan.seen.len(), 1);
    }

    #[test]
    fn a_namespace_that_is_not_ready_waits() {
        let mut scan = Scan::new(0x20000, BTreeSet::new());
        scan.handle_answer(Status::SUCCESS, &encode_list([1]), |_, _| true).expect("list");
        scan.handle_answer(Status::SUCCESS, &NamespaceIds::default().encode(), |_, _| true).expect("ids");
        scan.handle_answer(Status::SUCCESS, &vec![0; 4096], |_, _| true).expect("independent");
        assert_eq!(scan.ask(), None);
        assert!(matches!(&scan.seen[&1], Seen::Unread(why) if why.contains("not ready")));
    }

    #[test]
    fn what_could_not_be_read_is_neither_there_nor_gone() {
        let list = encode_list([1, 5]);
        let ids = NamespaceIds { uuid: Some([7; 16]), ..NamespaceIds::default() };
        for status in [Status::INTERNAL_ERROR.with_dnr(), Status::INVALID_NAMESPACE, Status::DATA_TRANSFER_ERROR] {
            for step in 0..3 {
                let mut scan = Scan::new(0x20000, BTreeSet::new());
                scan.handle_answer(Status::SUCCESS, &list, |_, _| true).expect("list");
                for at in 0..=step {
                    let (status, data) = match at {
                        _ if at == step => (status, Vec::new()),
                        0 => (Status::SUCCESS, ids.encode()),
                        _ => (Status::INVALID_FIELD, Vec::new()),
                    };
                    scan.handle_answer(status, &data, |_, _| true).expect("a namespace");
                }
                assert!(matches!(&scan.seen[&1], Seen::Unread(why) if why.contains("could not be read")), "{scan:?}");
                assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 5 }), "the others are looked at");
                assert!(scan.found.is_empty());
            }
        }
        // No namespace can be like that: a page that is cut off, or empty, says nothing.
        for cut in [0, 8, 104, 128] {
            let mut scan = Scan::new(0x10400, BTreeSet::new());
            scan.handle_answer(Status::SUCCESS, &encode_list([1]), |_, _| true).expect("list");
            scan.handle_answer(Status::SUCCESS, &ids.encode(), |_, _| true).expect("ids");
            let mut page = page(9, 100);
            page[cut..].fill(0);
            scan.handle_answer(Status::SUCCESS, &page, |_, _| true).expect("a page of zeroes");
            assert!(scan.seen[&1].is_unread(), "cut at {cut}: {:?}", scan.seen);
        }
        // Only the geometry has to be there.
        let mut scan = Scan::new(0x20000, BTreeSet::new());
        scan.handle_answer(Status::SUCCESS, &encode_list([1]), |_, _| true).expect("list");
        scan.handle_answer(Status::SUCCESS, &ids.encode(), |_, _| true).expect("ids");
        scan.handle_answer(Status::SUCCESS, &[0; 4], |_, _| true).expect("too short");
        assert!(scan.seen[&1].is_unread());
    }

    #[test]
    fn a_bad_descriptor_costs_itself_and_not_the_namespace() {
        let ids = NamespaceIds { uuid: Some([7; 16]), nguid: Some([8; 16]), ..NamespaceIds::default() };
        let mut data = ids.encode();
        // The NGUID comes first, and claims 15 bytes: what follows is found by that length.
        data[1] = 15;
        data.remove(4 + 15);
        let mut scan = Scan::new(0x10400, BTreeSet::new());
        scan.handle_answer(Status::SUCCESS, &encode_list([1]), |_, _| true).expect("list");
        scan.handle_answer(Status::SUCCESS, &data, |_, _| true).expect("ids");
        assert_eq!(scan.ask(), Some(Identify::Namespace { nsid: 1 }));
        scan.handle_answer(Status::SUCCESS, &page(9, 100), |_, _| true).expect("geometry");
        assert_eq!((scan.found[0].ids.uuid, scan.found[0].ids.nguid), (Some([7; 16]), None));
        assert!(matches!(&scan.seen[&1], Seen::Doubted(why) if why.contains("15 bytes")), "{:?}", scan.seen);
    }

    #[test]
    fn identifiers_that_nobody_knows_are_read_twice() {
        let ids = |uuid, nguid| NamespaceIds {
            uuid: Some([uuid; 16]),
            nguid: (nguid != 0).then_some([nguid; 16]),
            ..NamespaceIds::default()
        };
        // The answers, and what becomes of the namespace.
        let (answer, absent) = (|ids: NamespaceIds| (Status::SUCCESS, ids.encode()), (Status::INVALID_FIELD, vec![]));
        for (first, second, expected) in [
            (answer(ids(7, 8)), answer(ids(7, 8)), Some(ids(7, 8))),
            (answer(ids(7, 8)), answer(ids(7, 0)), None),
            (answer(ids(6, 8)), answer(ids(7, 8)), None),
            (answer(NamespaceIds::default()), answer(ids(7, 8)), None),
            (absent.clone(), answer(ids(7, 8)), None),
            (answer(ids(7, 8)), absent.clone(), None),
            (absent.clone(), absent, Some(NamespaceIds::default())),
        ] {
            let mut scan = Scan::new(0x10400, BTreeSet::new());
            scan.handle_answer(Status::SUCCESS, &encode_list([1, 5]), |_, _| false).expect("list");
            for (status, data) in [first, second] {
                assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 1 }));
                scan.handle_answer(status, &data, |_, _| false).expect("identifiers");
            }
            match expected {
                Some(ids) => {
                    scan.handle_answer(Status::SUCCESS, &page(9, 100), |_, _| false).expect("geometry");
                    assert_eq!(scan.found[0].ids, ids);
                }
                None => assert!(scan.seen[&1].is_unread(), "{:?}", scan.seen),
            }
            assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 5 }));
        }
        // What is known already ends a doubt, too.
        let mut scan = Scan::new(0x10400, BTreeSet::new());
        scan.handle_answer(Status::SUCCESS, &encode_list([1]), |_, _| false).expect("list");
        scan.handle_answer(Status::SUCCESS, &ids(6, 8).encode(), |_, _| false).expect("misread");
        scan.handle_answer(Status::SUCCESS, &ids(7, 8).encode(), |nsid, found| (nsid, *found) == (1, ids(7, 8)))
            .expect("as known");
        assert_eq!(scan.ask(), Some(Identify::Namespace { nsid: 1 }));
    }

    #[test]
    fn a_list_that_lacks_what_was_there_is_read_twice() {
        let expected = || BTreeSet::from([1, 5]);
        for second in [encode_list([1, 5]), encode_list([])] {
            let mut scan = Scan::new(0x10400, expected());
            scan.handle_answer(Status::SUCCESS, &encode_list([1]), |_, _| true).expect("list");
            assert_eq!(scan.ask(), Some(Identify::ActiveNamespaces { after: 0 }));
            scan.handle_answer(Status::SUCCESS, &second, |_, _| true).expect("list");
            let mut asked = Vec::new();
            while let Some(Identify::Descriptors { nsid }) = scan.ask() {
                asked.push(nsid);
                scan.handle_answer(Status::INTERNAL_ERROR, &[], |_, _| true).expect("a namespace");
            }
            assert_eq!(asked, if second[4] == 5 { vec![1, 5] } else { vec![1] }, "either list names it, or none");
            assert_eq!(scan.ask(), None);
        }
        let mut scan = Scan::new(0x10400, expected());
        scan.handle_answer(Status::SUCCESS, &encode_list([1, 5, 6]), |_, _| true).expect("list");
        assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 1 }), "nothing is missing");
    }

    #[test]
    fn as_many_namespaces_as_are_used_are_used_and_none_is_refused() {
        let mut scan = Scan::new(0x10400, BTreeSet::new());
        scan.handle_answer(Status::SUCCESS, &encode_list(1..=1024), |_, _| true).expect("list");
        scan.handle_answer(Status::SUCCESS, &encode_list([]), |_, _| true).expect("list");
        assert_eq!((scan.seen.len(), scan.listed.len()), (0, 1024));
        // A list that changes between two readings: what both name is more than are used.
        let mut scan = Scan::new(0x10400, BTreeSet::from([9_000]));
        scan.handle_answer(Status::SUCCESS, &encode_list(1..=1000), |_, _| true).expect("list");
        assert_eq!(scan.ask(), Some(Identify::ActiveNamespaces { after: 0 }), "one is missing: it is read again");
        scan.handle_answer(Status::SUCCESS, &encode_list((501..=1500).chain([9_000])), |_, _| true).expect("list");
        assert_eq!(scan.listed.len(), 1024);
        assert!(matches!(&scan.seen[&1025], Seen::Refused(_)), "{:?}", scan.seen);
    }

    #[test]
    fn a_list_that_never_ends_is_cut() {
        let mut scan = Scan::new(0x10400, BTreeSet::new());
        scan.handle_answer(Status::SUCCESS, &encode_list(1..=1024), |_, _| true).expect("list");
        assert_eq!(scan.ask(), Some(Identify::ActiveNamespaces { after: 1024 }), "are there more?");
        scan.handle_answer(Status::SUCCESS, &encode_list(1025..=2048), |_, _| true).expect("list");
        assert_eq!(scan.ask(), Some(Identify::Descriptors { nsid: 1 }), "bounded by MAX_NAMESPACES");
        assert!(matches!(&scan.seen[&1025], Seen::Refused(why) if why.contains("more than 1024")), "{:?}", scan.seen);
        assert_eq!((scan.seen.len(), scan.listed.len()), (1, 1024));
        assert!(Scan::new(0, BTreeSet::new()).handle_answer(Status::INVALID_OPCODE, &[], |_, _| true).is_err());
        assert!(
            Scan::new(0, BTreeSet::new()).handle_answer(Status::SUCCESS, &encode_list([5, 4]), |_, _| true).is_err()
        );
    }
}
