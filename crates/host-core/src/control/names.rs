//! Which namespace is which: what is known of each, also when no path of it is left.
//!
//! A write in doubt is in doubt on a *disk*. Where that disk is found again - after a lost path, under another NSID,
//! behind a controller that forgets to say a UUID - its ranges are still protected, and a disk that only looks like it
//! must not get its writes. So names outlive paths, and what is found is compared with everything that was known of the
//! same (subsystem, NSID):
//!
//! ```text
//! one identifier equal, none contradicting   the same disk; what it states in addition is remembered
//! both state none at all                     the same, as far as anybody can know; one path at a time
//! no common identifier                       unclear: it waits, and is looked at again; unless the known one states none
//!                                            and its own controller says more of it now: then it is another
//! one contradicts                            another disk: it waits as long as others have the known one, or anything
//!                                            of that is protected
//! ```
//! A name is bound to the *format*, too: the bytes of a block and its metadata. A block number, a range to discard and a
//! range that is protected mean something else under another format, so a disk that was formatted gets a new name, once
//! nobody has the old one as a path and nothing of it is protected; and whoever holds the old one finds no namespace under
//! it again. A size that grows or shrinks changes no block number.
//!
//! What a target shows may be anything, and be another thing every second; so names have a bound for each subsystem, and a
//! name is forgotten where nothing can depend on it: nobody ever [opened](Names::open) it, so that no command was ever sent
//! under it, no controller has it, and nothing of it is protected. One that was opened stays: what was sent under it may
//! still arrive at whatever has its place. No [`HeadId`] is given twice.
//!
//! Two names that could be the same disk, by identifier or by (subsystem, NSID), are *twins*: what is protected of one is
//! protected of the other.

use crate::guards::{self as conditions, Guard};
use crate::{HeadId, Shape, Twin};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::Nqn;

/// Namespaces that this host remembers, over all subsystems.
const MAX_HEADS: usize = 65_536;

/// Of these, namespaces of one subsystem: as many as eight controllers show.
const MAX_OF_SUBSYSTEM: usize = 8_192;

/// What keeps a namespace from being replaced by another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Ties {
    /// Nothing: no other controller has it, and nothing of it is protected.
    #[default]
    None,
    /// Its controller alone has it now.
    Own,
    /// Another controller has it, or something of it is protected.
    Bound,
}

/// Why something that was found is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Doubt {
    /// It shares no identifier with what is known under its NSID.
    #[error(
        "it states no identifier by which it could be told whether it is the namespace that is known under its NSID; \
         it is looked at again"
    )]
    Unclear(HeadId),
    /// It is another disk, and the known one is not done with.
    #[error(
        "its identifiers differ from those known under its NSID, which other paths have or of which something is \
         protected: it is another disk, and waits"
    )]
    Other(HeadId),
    /// It is the known disk, in another format, and what is known is not done with.
    #[error(
        "its blocks have {} bytes now, and {} before, as other paths say or something of it is protected: it waits",
        now.block_size, was.block_size
    )]
    Format {
        /// The known one.
        head: HeadId,
        /// Its format.
        was: Format,
        /// That of what was found.
        now: Format,
    },
    /// The same disk under two NSIDs.
    #[error("namespace {nsid} of the subsystem has the same identifier")]
    Elsewhere {
        /// The other one.
        nsid: u32,
    },
    /// Its identifiers belong to two that are known.
    #[error("its identifiers are those of two namespaces that are known under its NSID: it waits")]
    Two,
    /// Too many of its subsystem.
    #[error("more than {MAX_OF_SUBSYSTEM} namespaces of this subsystem")]
    TooManyOfSubsystem,
    /// Too many.
    #[error("more than {MAX_HEADS} namespaces")]
    TooMany,
}

/// What block numbers and ranges of a namespace rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Format {
    /// Data bytes of a block.
    pub(super) block_size: u32,
    /// Metadata bytes of a block.
    pub(super) metadata: u16,
}

impl From<Shape> for Format {
    fn from(shape: Shape) -> Self {
        Self { block_size: shape.block_size, metadata: shape.metadata }
    }
}

/// How two sets of identifiers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    Same,
    Unclear,
    Differs,
}

fn compare(old: &NamespaceIds, new: &NamespaceIds) -> Likeness {
    fn one<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<bool> {
        Some(a? == b?)
    }
    let pairs = [one(old.uuid, new.uuid), one(old.nguid, new.nguid), one(old.eui64, new.eui64)];
    if pairs.contains(&Some(false)) {
        Likeness::Differs
    } else if pairs.contains(&Some(true)) || (!old.is_known() && !new.is_known()) {
        Likeness::Same
    } else {
        Likeness::Unclear
    }
}

/// What is known of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) subnqn: Nqn,
    pub(super) nsid: u32,
    /// Everything that it has ever stated.
    pub(super) ids: NamespaceIds,
    /// For as long as it has this name.
    format: Format,
    /// Commands may have been sent under this name.
    opened: bool,
    /// The disk was formatted since: this name is never given to anything again.
    ended: bool,
}

/// One identifier of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Identifier {
    Uuid([u8; 16]),
    Nguid([u8; 16]),
    Eui64([u8; 8]),
}

fn identifiers(ids: &NamespaceIds) -> impl Iterator<Item = Identifier> {
    let NamespaceIds { uuid, nguid, eui64, .. } = *ids;
    let all = [uuid.map(Identifier::Uuid), nguid.map(Identifier::Nguid), eui64.map(Identifier::Eui64)];
    all.into_iter().flatten()
}

/// The names of one subsystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct OfSubsystem {
    by_nsid: BTreeMap<u32, Vec<HeadId>>,
    /// All of them, the oldest first.
    all: BTreeSet<HeadId>,
}

/// All that this process has a name for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Names {
    /// Names that were given.
    given: u32,
    known: BTreeMap<HeadId, Known>,
    by_subsystem: BTreeMap<Nqn, OfSubsystem>,
    by_identifier: BTreeMap<Identifier, BTreeSet<HeadId>>,
    /// To be told to whoever has something under them.
    forgotten: Vec<HeadId>,
    /// Those that could be the same disk; only where there are any.
    twins: BTreeMap<HeadId, BTreeSet<HeadId>>,
}

impl Names {
    pub(super) fn get(&self, id: HeadId) -> Option<&Known> {
        self.known.get(&id)
    }

    /// Every namespace that ever had this name, gone ones included.
    pub(super) fn named(&self, subnqn: &Nqn, nsid: u32) -> &[HeadId] {
        self.by_subsystem.get(subnqn).and_then(|of| of.by_nsid.get(&nsid)).map_or(&[], Vec::as_slice)
    }

    /// Every name of the subsystem, those of gone namespaces included.
    pub(super) fn of_subsystem(&self, subnqn: &Nqn) -> impl Iterator<Item = HeadId> {
        self.by_subsystem.get(subnqn).into_iter().flat_map(|of| &of.all).copied()
    }

    /// True if what has this format is another one than what is known by that name.
    fn is_formatted(&self, known: &Known, format: Format) -> bool {
        conditions::enabled(Guard::HeadFormat) && (known.ended || known.format != format)
    }

    /// True if these identifiers say nothing new: one namespace that has had this NSID has stated each of them.
    pub(super) fn knows(&self, subnqn: &Nqn, nsid: u32, ids: &NamespaceIds) -> bool {
        let is_old = |known: &Known| {
            (ids.uuid.is_none() || ids.uuid == known.ids.uuid)
                && (ids.nguid.is_none() || ids.nguid == known.ids.nguid)
                && (ids.eui64.is_none() || ids.eui64 == known.ids.eui64)
        };
        ids.is_known() && self.named(subnqn, nsid).iter().filter_map(|id| self.known.get(id)).any(is_old)
    }

    /// Whose protected ranges are those of `id`, too.
    pub(super) fn twins(&self, id: HeadId) -> Vec<Twin> {
        let Some(own) = self.known.get(&id) else { return Vec::new() };
        let twins = self.twins.get(&id).into_iter().flatten().filter_map(|twin| {
            let known = self.known.get(twin)?;
            let same = compare(&own.ids, &known.ids) != Likeness::Differs;
            Some(Twin { head: *twin, whole: own.format != known.format, same })
        });
        twins.collect()
    }

    /// Whose name something that was found has; `None`: it needs a new one.
    ///
    /// # Errors
    /// It is not taken, for now.
    pub(super) fn find(
        &self,
        subnqn: &Nqn,
        nsid: u32,
        ids: &NamespaceIds,
        format: Format,
        ties: impl Fn(HeadId) -> Ties,
    ) -> Result<Option<HeadId>, Doubt> {
        let mut same = Vec::new();
        let mut doubt = None;
        for id in self.named(subnqn, nsid) {
            let Some(known) = self.known.get(id) else { continue };
            let (likeness, ties) = (compare(&known.ids, ids), ties(*id));
            match likeness {
                Likeness::Same if self.is_formatted(known, format) => {
                    if ties == Ties::Bound {
                        doubt = Some(Doubt::Format { head: *id, was: known.format, now: format });
                    }
                }
                Likeness::Same => same.push((ties, *id)),
                Likeness::Differs if ties == Ties::Bound => doubt = Some(Doubt::Other(*id)),
                // As long as it is there at all: what is lost once is found again. One that has never stated an
                // identifier is not known again by one, and its controller alone has it.
                Likeness::Unclear if ties == Ties::Bound || (ties == Ties::Own && known.ids.is_known()) => {
                    doubt = doubt.or(Some(Doubt::Unclear(*id)))
                }
                Likeness::Differs | Likeness::Unclear => {}
            }
        }
        if let Some(doubt) = doubt {
            return Err(doubt);
        }
        same.sort_unstable();
        let bound = same.iter().filter(|(ties, _)| *ties != Ties::None).count();
        match same.last() {
            _ if bound > 1 => return Err(Doubt::Two),
            Some((_, id)) => {
                self.refuse_elsewhere(subnqn, nsid, ids, &ties)?;
                return Ok(Some(*id));
            }
            None => {}
        }
        self.refuse_elsewhere(subnqn, nsid, ids, &ties)?;
        Ok(None)
    }

    /// Makes room for a new name, by forgetting those on which nothing depends: all that had its place or one of its identifiers (a
    /// disk that is given another NSID again and again has few names at once), and where there are too many, the older half of its
    /// subsystem.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn make_room(
        &mut self,
        subnqn: &Nqn,
        nsid: u32,
        ids: &NamespaceIds,
        ties: impl Fn(HeadId) -> Ties,
    ) -> Result<(), Doubt> {
        let may_go = |names: &Self, id: HeadId| {
            let stays = |known: &Known| known.opened && conditions::enabled(Guard::OpenedStays);
            names.known.get(&id).is_some_and(|known| !stays(known)) && ties(id) == Ties::None
        };
        let alike = identifiers(ids).filter_map(|identifier| self.by_identifier.get(&identifier)).flatten();
        let before: BTreeSet<HeadId> = self.named(subnqn, nsid).iter().chain(alike).copied().collect();
        before
            .into_iter()
            .filter(|id| may_go(self, *id))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|id| self.forget(id));
        let of_subsystem = |names: &Self| names.by_subsystem.get(subnqn).map_or(0, |of| of.all.len());
        let is_full = of_subsystem(self) >= MAX_OF_SUBSYSTEM;
        if is_full || self.known.len() >= MAX_HEADS {
            let idle: Vec<HeadId> = self.of_subsystem(subnqn).filter(|id| may_go(self, *id)).collect();
            idle.iter().take(idle.len().div_ceil(2)).for_each(|id| self.forget(*id));
        }
        if of_subsystem(self) >= MAX_OF_SUBSYSTEM {
            return Err(Doubt::TooManyOfSubsystem);
        }
        if self.known.len() >= MAX_HEADS { Err(Doubt::TooMany) } else { Ok(()) }
    }

    /// Commands may be sent under this name from now on. False if there is none.
    pub(super) fn open(&mut self, id: HeadId) -> bool {
        let known = self.known.get_mut(&id);
        known.is_some_and(|known| {
            known.opened = true;
            true
        })
    }

    /// Names that were forgotten since this was called last.
    pub(super) fn take_forgotten(&mut self) -> Vec<HeadId> {
        core::mem::take(&mut self.forgotten)
    }

    fn forget(&mut self, id: HeadId) {
        let Some(known) = self.known.remove(&id) else { return };
        if let Some(of) = self.by_subsystem.get_mut(&known.subnqn) {
            of.all.remove(&id);
            if let Some(named) = of.by_nsid.get_mut(&known.nsid) {
                named.retain(|other| *other != id);
                if named.is_empty() {
                    of.by_nsid.remove(&known.nsid);
                }
            }
            if of.all.is_empty() {
                self.by_subsystem.remove(&known.subnqn);
            }
        }
        for identifier in identifiers(&known.ids) {
            if let Some(same) = self.by_identifier.get_mut(&identifier) {
                same.remove(&id);
                if same.is_empty() {
                    self.by_identifier.remove(&identifier);
                }
            }
        }
        for twin in self.twins.remove(&id).unwrap_or_default() {
            if let Some(twins) = self.twins.get_mut(&twin) {
                twins.remove(&id);
                if twins.is_empty() {
                    self.twins.remove(&twin);
                }
            }
        }
        self.forgotten.push(id);
    }

    fn refuse_elsewhere(
        &self,
        subnqn: &Nqn,
        nsid: u32,
        ids: &NamespaceIds,
        ties: impl Fn(HeadId) -> Ties,
    ) -> Result<(), Doubt> {
        let alike = identifiers(ids).filter_map(|identifier| self.by_identifier.get(&identifier)).flatten();
        for (id, known) in alike.filter_map(|id| Some((*id, self.known.get(id)?))) {
            if known.subnqn == *subnqn && known.nsid != nsid && ties(id) == Ties::Bound {
                return Err(Doubt::Elsewhere { nsid: known.nsid });
            }
        }
        Ok(())
    }

    /// A new name. Names of the same disk in another format have ended.
    pub(super) fn add(&mut self, subnqn: &Nqn, nsid: u32, ids: &NamespaceIds, format: Format) -> HeadId {
        for other in self.named(subnqn, nsid).to_vec() {
            if let Some(known) = self.known.get_mut(&other) {
                known.ended |= known.format != format && compare(&known.ids, ids) == Likeness::Same;
            }
        }
        let id = HeadId(self.given);
        // Of 4,294,967,295 names; the last stands for none.
        self.given = self.given.saturating_add(1);
        let known = Known { subnqn: subnqn.clone(), nsid, ids: *ids, format, opened: false, ended: false };
        self.known.insert(id, known);
        let of = self.by_subsystem.entry(subnqn.clone()).or_default();
        of.all.insert(id);
        of.by_nsid.entry(nsid).or_default().push(id);
        self.find_twins(id);
        id
    }

    /// It states this, too.
    pub(super) fn learn(&mut self, id: HeadId, ids: &NamespaceIds) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let before = known.ids;
        known.ids.uuid = before.uuid.or(ids.uuid);
        known.ids.nguid = before.nguid.or(ids.nguid);
        known.ids.eui64 = before.eui64.or(ids.eui64);
        if known.ids != before {
            self.find_twins(id);
        }
    }

    fn find_twins(&mut self, id: HeadId) {
        let Some(own) = self.known.get(&id) else { return };
        let mut twins: BTreeSet<HeadId> = self.named(&own.subnqn, own.nsid).iter().copied().collect();
        if !conditions::enabled(Guard::SubsystemsApart) {
            twins.extend(self.known.iter().filter(|(_, known)| known.nsid == own.nsid).map(|(other, _)| *other));
        }
        for identifier in identifiers(&own.ids) {
            let same = self.by_identifier.entry(identifier).or_default();
            same.insert(id);
            twins.extend(same.iter());
        }
        twins.remove(&id);
        for twin in twins {
            self.twins.entry(id).or_default().insert(twin);
            self.twins.entry(twin).or_default().insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nqn(name: &str) -> Nqn {
        Nqn::new(alloc::format!("nqn.2014-08.org.example:{name}")).expect("valid")
    }

    const F: Format = Format { block_size: 512, metadata: 0 };
    const LARGE: Format = Format { block_size: 4096, metadata: 0 };

    fn ids(uuid: u8, nguid: u8) -> NamespaceIds {
        let id = |id: u8| (id != 0).then_some([id; 16]);
        NamespaceIds { uuid: id(uuid), nguid: id(nguid), ..NamespaceIds::default() }
    }

    #[test]
    fn what_is_found_against_what_is_known() {
        use Ties::{Bound, None, Own};
        let (other, unclear) = (Err(Doubt::Other(HeadId(0))), Err(Doubt::Unclear(HeadId(0))));
        let same = Ok(Some(HeadId(0)));
        let new = Ok(Option::None);
        // Known: UUID and NGUID, or one of them, or none. Found. Then what it means with each tie.
        for (known, found, by_ties) in [
            ((7, 8), (7, 8), [same, same, same]),
            ((7, 8), (7, 0), [same, same, same]),
            ((7, 0), (7, 8), [same, same, same]),
            ((7, 8), (0, 8), [same, same, same]),
            ((0, 0), (0, 0), [same, same, same]),
            ((7, 8), (7, 9), [new, new, other]),
            ((7, 8), (9, 8), [new, new, other]),
            ((7, 8), (9, 0), [new, new, other]),
            ((7, 0), (0, 8), [new, unclear, unclear]),
            ((7, 8), (0, 0), [new, unclear, unclear]),
            ((0, 0), (7, 8), [new, new, unclear]),
        ] {
            let mut names = Names::default();
            assert_eq!(names.add(&nqn("s"), 1, &ids(known.0, known.1), F), HeadId(0));
            for (ties, expected) in [None, Own, Bound].into_iter().zip(by_ties) {
                let got = names.find(&nqn("s"), 1, &ids(found.0, found.1), F, |_| ties);
                assert_eq!(got, expected, "known {known:?}, found {found:?}, {ties:?}");
            }
            assert_eq!(names.find(&nqn("t"), 1, &ids(found.0, found.1), F, |_| Bound), new, "another subsystem");
        }
    }

    #[test]
    fn identifiers_that_are_lost_and_found_again_keep_the_name() {
        let mut names = Names::default();
        let id = names.add(&nqn("s"), 1, &ids(7, 0), F);
        names.learn(id, &ids(7, 8));
        // Now it is known by either.
        assert_eq!(names.find(&nqn("s"), 1, &ids(0, 8), F, |_| Ties::Bound), Ok(Some(id)));
        assert_eq!(names.find(&nqn("s"), 1, &ids(0, 0), F, |_| Ties::Bound), Err(Doubt::Unclear(id)));
        assert_eq!(names.find(&nqn("s"), 1, &ids(7, 0), F, |_| Ties::None), Ok(Some(id)));
        names.learn(id, &ids(9, 9));
        assert_eq!(names.get(id).expect("known").ids, ids(7, 8), "nothing that was stated is overwritten");
    }

    #[test]
    fn one_disk_has_one_nsid_as_long_as_anything_holds_it_there() {
        let mut names = Names::default();
        let id = names.add(&nqn("s"), 1, &ids(7, 0), F);
        assert_eq!(names.find(&nqn("s"), 2, &ids(7, 0), F, |_| Ties::Bound), Err(Doubt::Elsewhere { nsid: 1 }));
        assert_eq!(names.find(&nqn("s"), 2, &ids(7, 0), F, |_| Ties::Own), Ok(None), "it moved");
        assert_eq!(names.find(&nqn("s"), 2, &ids(0, 0), F, |_| Ties::Bound), Ok(None));
        let moved = names.add(&nqn("s"), 2, &ids(7, 0), F);
        assert_eq!(
            names.find(&nqn("s"), 1, &ids(7, 0), F, |id| if id == moved { Ties::Bound } else { Ties::None }),
            Err(Doubt::Elsewhere { nsid: 2 })
        );
        assert_ne!(id, moved);
    }

    #[test]
    fn twins_are_found_by_identifier_in_any_subsystem_and_by_nsid() {
        let mut names = Names::default();
        let first = names.add(&nqn("s"), 1, &ids(7, 0), F);
        let replaced = names.add(&nqn("s"), 1, &ids(9, 0), F);
        let renamed = names.add(&nqn("t"), 5, &ids(7, 0), F);
        let nameless = names.add(&nqn("t"), 6, &ids(0, 0), F);
        let of = |names: &Names, id| names.twins(id).iter().map(|twin| twin.head).collect::<Vec<_>>();
        assert_eq!(of(&names, first), [replaced, renamed]);
        assert_eq!(of(&names, replaced), [first]);
        assert_eq!((of(&names, renamed), of(&names, nameless)), (alloc::vec![first], Vec::new()));
        names.learn(renamed, &ids(7, 3));
        names.learn(replaced, &ids(9, 3));
        assert_eq!(of(&names, renamed), [first, replaced], "what is learnt counts");
        // Where blocks have another size, block numbers mean nothing.
        assert!(names.twins(first).iter().all(|twin| !twin.whole));
        let formatted = names.add(&nqn("s"), 1, &ids(7, 0), LARGE);
        assert_eq!(names.twins(first).last(), Some(&Twin { head: formatted, whole: true, same: true }));
        assert!(names.twins(formatted).iter().all(|twin| twin.whole));
    }

    #[test]
    fn a_format_has_a_name_of_its_own_and_the_one_before_is_over() {
        let find = |names: &Names, format, ties| names.find(&nqn("s"), 1, &ids(7, 0), format, |_| ties);
        for format in [LARGE, Format { metadata: 8, ..F }] {
            let mut names = Names::default();
            let first = names.add(&nqn("s"), 1, &ids(7, 0), F);
            let doubt = Doubt::Format { head: first, was: F, now: format };
            assert_eq!(find(&names, format, Ties::Bound), Err(doubt), "others have it, or something is protected");
            assert_eq!(find(&names, format, Ties::Own), Ok(None));
            assert_eq!(find(&names, F, Ties::Bound), Ok(Some(first)), "nothing has happened yet");
            let second = names.add(&nqn("s"), 1, &ids(7, 0), format);
            assert_eq!(find(&names, format, Ties::None), Ok(Some(second)));
            // And back: handles of the first format were for blocks that are gone.
            assert_eq!(find(&names, F, Ties::None), Ok(None));
            let third = names.add(&nqn("s"), 1, &ids(7, 0), F);
            assert_eq!(find(&names, F, Ties::Own), Ok(Some(third)));
            assert!(names.twins(third).contains(&Twin { head: first, whole: false, same: true }));
            assert!(names.twins(third).contains(&Twin { head: second, whole: true, same: true }));
        }
        // Another disk in another format is another disk, and the first may come back.
        let mut names = Names::default();
        let first = names.add(&nqn("s"), 1, &ids(7, 0), F);
        names.add(&nqn("s"), 1, &ids(9, 0), LARGE);
        assert_eq!(find(&names, F, Ties::None), Ok(Some(first)));
    }

    /// A target that shows other namespaces all the time neither fills the memory nor takes the names of other subsystems.
    #[test]
    fn what_nothing_depends_on_is_forgotten_and_its_name_is_not_given_again() {
        let mut names = Names::default();
        let good = names.add(&nqn("good"), 1, &ids(1, 1), F);
        let unique = |n: u32| {
            let mut uuid = [0xee; 16];
            uuid[..4].copy_from_slice(&n.to_be_bytes());
            NamespaceIds { uuid: Some(uuid), ..NamespaceIds::default() }
        };
        let mut forgotten = 0;
        let mut opened = Vec::new();
        for n in 0..200_000_u32 {
            let nsid = 1 + n % 1024;
            names.make_room(&nqn("bad"), nsid, &unique(n), |_| Ties::None).expect("there is room");
            let id = names.add(&nqn("bad"), nsid, &unique(n), F);
            assert_eq!(id, HeadId(n + 1), "given once");
            if n % 1000 == 0 {
                assert!(names.open(id));
                opened.push(id);
            }
            forgotten += names.take_forgotten().len();
            assert!(names.known.len() <= 1 + MAX_OF_SUBSYSTEM);
        }
        assert_eq!(names.known.len() + forgotten, 200_001);
        assert!(names.get(good).is_some() && opened.iter().all(|id| names.get(*id).is_some()), "opened ones stay");
        assert_eq!(names.by_subsystem[&nqn("bad")].all.len(), names.known.len() - 1);
        assert_eq!(names.by_identifier.len(), names.known.len() + 1, "a UUID each, and an NGUID");
        assert!(!names.open(HeadId(7)), "forgotten");
    }

    /// One disk that has another NSID at every look: all its names are twins of each other.
    #[test]
    fn a_disk_that_moves_all_the_time_has_few_names_at_once() {
        let mut names = Names::default();
        for nsid in 1..=10_000 {
            // The name before is in use until the look is over.
            let ties = |id: HeadId| if id.0 + 2 >= nsid { Ties::Own } else { Ties::None };
            names.make_room(&nqn("bad"), nsid, &ids(7, 9), ties).expect("there is room");
            names.add(&nqn("bad"), nsid, &ids(7, 9), F);
            assert!(names.known.len() <= 3 && names.twins.values().map(BTreeSet::len).sum::<usize>() <= 6);
        }
    }

    #[test]
    fn a_subsystem_whose_names_are_all_in_use_is_full_and_others_are_not() {
        let mut names = Names::default();
        for nsid in 1..=MAX_OF_SUBSYSTEM as u32 {
            names.make_room(&nqn("bad"), nsid, &ids(0, 0), |_| Ties::Own).expect("there is room");
            names.add(&nqn("bad"), nsid, &ids(0, 0), F);
        }
        assert_eq!(
            names.make_room(&nqn("bad"), u32::MAX - 1, &ids(0, 0), |_| Ties::Own),
            Err(Doubt::TooManyOfSubsystem)
        );
        assert_eq!(names.make_room(&nqn("good"), 1, &ids(0, 0), |_| Ties::None), Ok(()));
        assert_eq!(names.make_room(&nqn("bad"), u32::MAX - 1, &ids(0, 0), |_| Ties::None), Ok(()), "they are gone");
        assert_eq!(names.take_forgotten().len(), MAX_OF_SUBSYSTEM / 2);
    }

    #[test]
    fn what_is_forgotten_leaves_no_twin_behind() {
        let mut names = Names::default();
        let idle = names.add(&nqn("s"), 1, &ids(7, 0), F);
        let elsewhere = names.add(&nqn("t"), 1, &ids(7, 0), F);
        assert_eq!(names.twins(elsewhere).len(), 1);
        names.make_room(&nqn("s"), 1, &ids(0, 0), |_| Ties::None).expect("room");
        assert_eq!((names.take_forgotten(), names.twins(elsewhere)), (alloc::vec![idle], Vec::new()));
        // One under which something may have been sent is the twin of what has its place now.
        assert!(names.open(elsewhere));
        names.make_room(&nqn("t"), 1, &ids(0, 0), |_| Ties::None).expect("room");
        let next = names.add(&nqn("t"), 1, &ids(9, 0), F);
        assert_eq!(names.twins(next), [Twin { head: elsewhere, whole: false, same: false }]);
    }

    #[test]
    fn identifiers_of_two_that_are_known_wait() {
        let mut names = Names::default();
        let by_uuid = names.add(&nqn("s"), 1, &ids(7, 0), F);
        let by_nguid = names.add(&nqn("s"), 1, &ids(0, 8), F);
        let find = |bound: &[HeadId]| {
            names.find(&nqn("s"), 1, &ids(7, 8), F, |id| if bound.contains(&id) { Ties::Bound } else { Ties::None })
        };
        assert_eq!(find(&[by_uuid, by_nguid]), Err(Doubt::Two));
        assert_eq!((find(&[by_uuid]), find(&[by_nguid])), (Ok(Some(by_uuid)), Ok(Some(by_nguid))));
    }
}
