//! Commands that stall inside, on whichever lane, and who writes over them meanwhile.
//!
//! The hazard that fencing is there for has two halves: an old write that is still inside, and a newer one to the same
//! blocks that is executed before it. Lanes tell each other of the first half, by way of `Control`, so that the
//! second can be seen on any of them.

use crate::{BlockRange, Ghost, LaneId, NamespaceKey};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The media-changing commands that stall until somebody says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Holding {
    /// By lane, and the order in which they came there; whether something that overtook one was told.
    commands: BTreeMap<(LaneId, u64), (Ghost, bool)>,
}

impl Holding {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// A command stalls; without one it does so no more.
    pub(super) fn note(&mut self, lane: LaneId, order: u64, ghost: Option<Ghost>) {
        match ghost {
            Some(ghost) => self.commands.insert((lane, order), (ghost, false)),
            None => self.commands.remove(&(lane, order)),
        };
    }

    /// Those that a change of these blocks overtakes, each told once.
    pub(super) fn overtaken(
        &mut self,
        namespace: NamespaceKey,
        ranges: impl Iterator<Item = BlockRange>,
    ) -> Vec<Ghost> {
        let ranges: Vec<BlockRange> = ranges.collect();
        let meets = |ghost: &Ghost| {
            let apart = |range: &BlockRange| {
                range.slba.saturating_add(range.blocks) <= ghost.slba
                    || ghost.slba.saturating_add(ghost.blocks) <= range.slba
            };
            ghost.namespace == namespace && !ranges.iter().all(apart)
        };
        let met = self.commands.values_mut().filter(|(ghost, told)| !told && meets(ghost));
        met.map(|(ghost, told)| {
            *told = true;
            *ghost
        })
        .collect()
    }
}
