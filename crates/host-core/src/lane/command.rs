//! Requests as commands.

use crate::{Op, Request};
use interlock_proto::{Sink, Source};
use interlock_wire::nvm::{Command, DsmRange};
use interlock_wire::sqe::Sqe;

/// Blocks one Read, Compare, Write or Write Zeroes can name.
pub(super) const MAX_BLOCKS: u32 = interlock_wire::nvm::NLB_MAX;

/// The command of a request on the namespace `nsid`, with its data.
pub(super) fn command(request: &Request, nsid: u32) -> (Sqe, Source, Sink) {
    let (slba, nlb) = (request.slba, request.nlb);
    let (command, out, into) = match request.op {
        Op::Read => {
            (Command::Read { slba, nlb, fua: false }, Source::None, request.data.map_or(Sink::None, Sink::Span))
        }
        Op::Compare => {
            (Command::Compare { slba, nlb, fua: false }, request.data.map_or(Source::None, Source::Span), Sink::None)
        }
        Op::Write { fua } => {
            (Command::Write { slba, nlb, fua }, request.data.map_or(Source::None, Source::Span), Sink::None)
        }
        Op::WriteZeroes { deallocate } => {
            (Command::WriteZeroes { slba, nlb, deallocate, fua: false }, Source::None, Sink::None)
        }
        Op::Discard => {
            let range = DsmRange::encode(&[DsmRange::new(slba, nlb)]);
            (Command::Dsm { ranges: 1, deallocate: true }, Source::Bytes(range), Sink::None)
        }
        Op::Flush => (Command::Flush, Source::None, Sink::None),
    };
    debug_assert_eq!(command.has_late_effect(), request.op.changes_media(), "{command:?} and {:?} differ", request.op);
    (command.to_sqe(nsid), out, into)
}
