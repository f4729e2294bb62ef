//! I/O commands: from their encoding to [`Work`].
//!
//! NVM Command Set Specification, "I/O Commands".

use crate::{BlockRange, Work};
use alloc::vec::Vec;
use interlock_wire::nvm::{Command, DsmRange};
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;

/// What a command needs before it can go to the gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Parsed {
    /// Nothing but its data.
    Work(Work),
    /// The ranges that follow as data; they are hints if `deallocate` is not set, and then nothing is to be done.
    Ranges { count: u16, deallocate: bool },
}

/// Reads a command.
///
/// # Errors
/// The status to answer with.
pub(super) fn parse(sqe: &Sqe) -> Result<Parsed, Status> {
    let range = |slba, nlb: u32| BlockRange { slba, blocks: nlb.into() };
    Ok(Parsed::Work(match Command::from_sqe(sqe)? {
        Command::Flush => Work::Flush,
        Command::Read { slba, nlb, .. } => Work::Read(range(slba, nlb)),
        Command::Compare { slba, nlb, .. } => Work::Compare(range(slba, nlb)),
        Command::Write { slba, nlb, fua } => Work::Write { range: range(slba, nlb), fua },
        Command::WriteZeroes { slba, nlb, deallocate, fua } => Work::Zero { range: range(slba, nlb), deallocate, fua },
        Command::Dsm { ranges, deallocate } => return Ok(Parsed::Ranges { count: ranges, deallocate }),
        Command::Verify { slba, nlb } => Work::Verify(range(slba, nlb)),
        // Not offered in ONCS.
        Command::WriteUncorrectable { .. } => return Err(Status::INVALID_OPCODE.with_dnr()),
    }))
}

/// The ranges of a Dataset Management command that name any block.
///
/// # Errors
/// The status to answer with if there are fewer than announced.
pub(super) fn ranges(data: &[u8], count: u16) -> Result<Vec<BlockRange>, Status> {
    let ranges = DsmRange::decode(data, count)?;
    let named = |range: &DsmRange| BlockRange { slba: range.slba.get(), blocks: range.nlb.get().into() };
    Ok(ranges.iter().map(named).filter(|range| range.blocks > 0).collect())
}
