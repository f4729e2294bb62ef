//! What holds the blocks of a namespace.
//!
//! The lane decides *whether* an operation may touch media; a store only does it. Memory and null answer at once; a file
//! answers when the kernel has, and the operation counts as outstanding until then, whatever happens to the connection
//! meanwhile.

use crate::file::{FileStore, Opened};
use crate::memory::Memory;
use interlock_base::Instant;
use interlock_ring::{BufTable, Cx, Event};
use interlock_target_core::{MediaId, MediaKind, MediaResult, Namespace};
use std::sync::Arc;

/// The blocks of one namespace, as one lane uses them.
pub(crate) enum Store {
    Memory { memory: Arc<Memory>, shift: u8 },
    Null,
    File(FileStore),
}

/// The blocks of one namespace, shared by all lanes.
#[derive(Clone)]
pub(crate) enum Backing {
    Memory(Arc<Memory>),
    Null,
    File(Arc<Opened>),
}

impl Backing {
    /// Why a flush of it has failed, while nobody has said that this was dealt with.
    pub(crate) fn flush_failed(&self) -> Option<String> {
        match self {
            Self::File(opened) => opened.flushes().failed(),
            Self::Memory(_) | Self::Null => None,
        }
    }

    /// The share of one lane, on its reactor.
    pub(crate) fn attach(&self, cx: &mut Cx<'_>, namespace: &Namespace) -> std::io::Result<Store> {
        let shift = namespace.block_shift;
        Ok(match self {
            Self::Memory(memory) => Store::Memory { memory: Arc::clone(memory), shift },
            Self::Null => Store::Null,
            Self::File(opened) => Store::File(FileStore::attach(cx, opened, shift)?),
        })
    }
}

impl Store {
    /// Does an operation, or begins it: `None` means that [`Store::handle_op`] will tell. Nothing of it begins after `until`.
    pub(crate) fn start(
        &mut self,
        cx: &mut Cx<'_>,
        buffers: &mut BufTable,
        id: MediaId,
        kind: MediaKind,
        until: Option<Instant>,
    ) -> Option<MediaResult> {
        match self {
            Self::Memory { memory, shift } => Some(in_memory(memory, *shift, buffers, kind)),
            Self::Null => Some(in_null(buffers, kind)),
            Self::File(file) => file.start(cx, buffers, id, kind, until),
        }
    }

    /// Lets go of what it has on this reactor. Nothing may be under way.
    pub(crate) fn close(self, cx: &mut Cx<'_>) {
        match self {
            Self::File(file) => file.close(cx),
            Self::Memory { .. } | Self::Null => {}
        }
    }

    /// A file operation of this store is over.
    pub(crate) fn handle_op(
        &mut self,
        cx: &mut Cx<'_>,
        buffers: &mut BufTable,
        event: Event,
    ) -> Option<(MediaId, MediaResult)> {
        match self {
            Self::File(file) => file.handle_op(cx, buffers, event),
            Self::Memory { .. } | Self::Null => None,
        }
    }
}

fn in_memory(memory: &Memory, shift: u8, buffers: &mut BufTable, kind: MediaKind) -> MediaResult {
    match kind {
        MediaKind::Read { slba, into } => match buffers.bytes_mut(into) {
            Some(bytes) => {
                memory.read(slba << shift, bytes);
                interlock_carry::note_copied(bytes.len());
            }
            None => return MediaResult::ReadFailed,
        },
        MediaKind::Compare { slba, with } => {
            let expected = buffers.bytes(with);
            let mut found = vec![0; expected.len()];
            memory.read(slba << shift, &mut found);
            if found != expected {
                return MediaResult::Different;
            }
        }
        MediaKind::Write { slba, from, .. } => {
            memory.write(slba << shift, buffers.bytes(from));
            interlock_carry::note_copied(from.len as usize);
        }
        MediaKind::Flush => {}
        MediaKind::Zero { range, .. } => memory.zero(range.slba << shift..(range.slba + range.blocks) << shift),
        MediaKind::Deallocate { ranges } => {
            for range in ranges {
                memory.zero(range.slba << shift..(range.slba + range.blocks) << shift);
            }
        }
    }
    MediaResult::Done
}

fn in_null(buffers: &mut BufTable, kind: MediaKind) -> MediaResult {
    match kind {
        MediaKind::Read { into, .. } => match buffers.bytes_mut(into) {
            // Buffers are recycled: what an earlier command left must not be read as the namespace's content.
            Some(bytes) => bytes.fill(0),
            None => return MediaResult::ReadFailed,
        },
        MediaKind::Compare { with, .. } => {
            if buffers.bytes(with).iter().any(|byte| *byte != 0) {
                return MediaResult::Different;
            }
        }
        MediaKind::Write { .. } | MediaKind::Flush | MediaKind::Zero { .. } | MediaKind::Deallocate { .. } => {}
    }
    MediaResult::Done
}
