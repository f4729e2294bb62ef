//! Moving bytes: many requests in flight, in order to and from the stream.

use super::Span;
use crate::failure::Failure;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use interlock_host::{Buf, Namespace, Outcome, Split, SplitEnd};
use std::collections::VecDeque;
use std::io::{Read, Write};

/// Bytes per transfer: one or two commands of most targets, and few enough to keep many in flight.
const PIECE: u64 = 256 << 10;
/// Requests in flight.
const DEPTH: usize = 16;

/// From the namespace to a stream: how many bytes.
pub(super) fn read(ns: &Namespace, span: Span, out: &mut impl Write, progress: bool) -> anyhow::Result<u64> {
    let block = u64::from(ns.shape().block_size);
    let size = ns.shape().blocks * block;
    let end = end(span, size, block)?;
    let bar = bar(end - span.offset, progress);
    let mut flying: VecDeque<(u64, u64, Split)> = VecDeque::new();
    let mut at = span.offset;
    loop {
        while flying.len() < DEPTH && at < end {
            let length = PIECE.min(end - at);
            let blocks = u32::try_from(length.div_ceil(block)).expect("a piece has few blocks");
            flying.push_back((at, length, ns.read_split(at / block, blocks)));
            at += length;
        }
        let Some((from, length, pending)) = flying.pop_front() else { break };
        let SplitEnd { outcome, done, buf } = pending.wait();
        let buf = buf.filter(|_| outcome == Outcome::Ok);
        let buf = buf.ok_or_else(|| failed("read", from + u64::from(done) * block, outcome))?;
        let length = usize::try_from(length).expect("a piece fits in memory");
        out.write_all(&buf.as_slice()[..length])?;
        bar.inc(length as u64);
    }
    bar.finish_and_clear();
    out.flush()?;
    Ok(end - span.offset)
}

/// From a stream to the namespace: how many bytes. What does not fill its last block is filled with what is there.
pub(super) fn write(
    ns: &Namespace,
    span: Span,
    input: &mut impl Read,
    known: Option<u64>,
    progress: bool,
) -> anyhow::Result<u64> {
    let block = u64::from(ns.shape().block_size);
    let size = ns.shape().blocks * block;
    let end = end(span, size, block)?;
    let room = end - span.offset;
    if let Some(known) = known.filter(|known| *known > room && span.length.is_none()) {
        let text = format!("{known} bytes do not fit: the namespace has room for {room} from there");
        return Err(Failure::new(text).hint("nothing was written").into());
    }
    let bar = bar(known.unwrap_or(room).min(room), progress);
    let mut flying: VecDeque<(u64, u64, Split)> = VecDeque::new();
    let mut at = span.offset;
    let mut ended = false;
    while !ended || !flying.is_empty() {
        while !ended && flying.len() < DEPTH && at < end {
            let mut buf = ns.buffer(u32::try_from(PIECE / block).expect("a piece has few blocks"));
            let room = usize::try_from(PIECE.min(end - at)).expect("a piece fits in memory");
            let bytes = buf.get_mut().expect("a fresh buffer has one holder");
            let length = fill(input, &mut bytes[..room]).context("cannot read what is to be written")?;
            ended = length < room;
            if length == 0 {
                break;
            }
            let whole = (length as u64).div_ceil(block) * block;
            if whole > length as u64 {
                complete(ns, at, &mut buf, length, whole)?;
            }
            let whole = usize::try_from(whole).expect("a piece fits in memory");
            flying.push_back((at, length as u64, ns.write_split(at / block, buf.narrowed(0..whole), false)));
            at += length as u64;
        }
        ended |= at >= end;
        let Some((from, length, pending)) = flying.pop_front() else { break };
        let SplitEnd { outcome, done, .. } = pending.wait();
        if outcome != Outcome::Ok {
            return Err(failed("write", from + u64::from(done) * block, outcome).into());
        }
        bar.inc(length);
    }
    // Done is what survives the loss of power.
    let (outcome, _) = ns.flush().wait();
    bar.finish_and_clear();
    if outcome != Outcome::Ok {
        return Err(failed("flush", at, outcome).into());
    }
    if span.length.is_none() && known.is_none() && at >= size && fill(input, &mut [0])? > 0 {
        return Err(Failure::new(format!(
            "the input is longer than the namespace: its first {room} bytes were written"
        ))
        .into());
    }
    Ok(at - span.offset)
}

/// The rest of the last block keeps what it has.
fn complete(ns: &Namespace, at: u64, buf: &mut Buf, length: usize, whole: u64) -> anyhow::Result<()> {
    let block = u64::from(ns.shape().block_size);
    let last = at + whole - block;
    let (outcome, old) = ns.read(last / block, 1).wait();
    let old = old.filter(|_| outcome == Outcome::Ok).ok_or_else(|| failed("read", last, outcome))?;
    let whole = usize::try_from(whole).expect("a piece fits in memory");
    let rest = whole - length;
    let bytes = buf.get_mut().expect("nobody else has it yet");
    bytes[length..whole].copy_from_slice(&old.as_slice()[old.as_slice().len() - rest..]);
    Ok(())
}

/// Reads until the buffer is full or the input has ended.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match input.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Where the span ends.
fn end(span: Span, size: u64, block: u64) -> anyhow::Result<u64> {
    if !span.offset.is_multiple_of(block) {
        return Err(Failure::new(format!("--offset {}: a block has {block} bytes, begin at one", span.offset)).into());
    }
    let end = span.length.map_or(Some(size), |length| span.offset.checked_add(length));
    match end.filter(|end| *end <= size && span.offset <= size) {
        Some(end) => Ok(end),
        None => Err(Failure::new(format!("the namespace ends at {size} bytes")).into()),
    }
}

fn bar(bytes: u64, progress: bool) -> ProgressBar {
    // It is drawn on standard error, and only if that is a terminal.
    let target = if progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressBar::with_draw_target(Some(bytes), target)
        .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn failed(what: &str, at: u64, outcome: Outcome) -> Failure {
    let failure = Failure::new(format!("{what} at byte {at}: {}", words(outcome)));
    match outcome {
        Outcome::Indeterminate { .. } | Outcome::OutcomeUnknown | Outcome::Poison { .. } => {
            failure.hint("it may or may not have taken effect: look before you repeat it")
        }
        _ => failure,
    }
}

fn words(outcome: Outcome) -> String {
    match outcome {
        Outcome::Ok => "done".into(),
        Outcome::Failed(status) => format!("the controller says {status}"),
        Outcome::NotSent(why) => format!("not sent: {why}"),
        Outcome::CacheLost { .. } | Outcome::Poison { .. } => outcome.to_string(),
        Outcome::Indeterminate { .. } => "its path was lost, and it could not be repeated in time".into(),
        Outcome::OutcomeUnknown => "its path was lost, and it must not be repeated blindly".into(),
    }
}
