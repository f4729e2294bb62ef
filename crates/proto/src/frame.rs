//! From a byte stream to headers and data.
//!
//! A TCP stream may be cut anywhere, also in the middle of a header or a digest. [`Frames`] keeps the one partial
//! header of the stream, checks each header with the one validator, and tells where data goes. What a header *means*
//! is the business of the queue that owns it: between a header with data and its data the queue names the
//! [`Destination`], and until it did nothing more is taken.

use crate::Place;
use alloc::vec::Vec;
use interlock_base::Span;
use interlock_wire::pdu::{self, Agreed, CommonHeader, Direction, Fatal, Layout};
use interlock_wire::{FromBytes, digest};

/// Longest header with its digest: ICReq and ICResp have 128 bytes and no digest, a command capsule 72 + 4. A
/// termination request is 24 bytes; its up to 128 bytes of data are skipped, not kept.
const MAX_HEAD: usize = 128 + 4;

/// Bytes of the common header.
const COMMON: usize = 8;

/// The receive side of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Frames {
    direction: Direction,
    agreed: Agreed,
    head: [u8; MAX_HEAD],
    have: usize,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Collecting the common header.
    Common,
    /// Collecting the rest of the header and its digest.
    Head(Layout),
    /// Skipping padding, then data.
    Pad { left: usize, body: Body },
    /// In the data.
    Data(Body),
    /// Collecting the data digest.
    Digest { body: Body, bytes: [u8; 4], have: usize },
}

/// The data of one PDU under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Body {
    to: Destination,
    total: u32,
    done: u32,
    ddgst: bool,
    /// Finished CRC-32C of the `done` bytes.
    crc: u32,
}

/// Where the data of one PDU goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Destination {
    /// Not known yet: nothing more is taken.
    Unknown,
    /// A driver's buffer; as long as the data.
    Span(Span),
    /// Appended to these bytes.
    Bytes(Vec<u8>),
    /// Dropped.
    Nowhere,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Nothing: more bytes, or a destination, are needed.
    More,
    /// A checked header; read it with [`Frames::head`]. If the layout has data, [`Frames::set_destination`] is next.
    Head(Layout),
    /// Data for a driver's buffer.
    Place(Place),
    /// The data of the PDU is complete.
    Body(Received),
}

/// The data of one PDU, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many bytes.
    pub(crate) len: u32,
    /// The bytes of [`Destination::Bytes`], what was there before included.
    pub(crate) bytes: Vec<u8>,
    /// False if a data digest was on and did not match (dropped data always matches).
    pub(crate) digest_ok: bool,
}

impl Frames {
    pub(crate) fn new(direction: Direction, agreed: Agreed) -> Self {
        Self { direction, agreed, head: [0; MAX_HEAD], have: 0, state: State::Common }
    }

    /// What is checked from the next header on.
    pub(crate) fn agree(&mut self, agreed: Agreed) {
        self.agreed = agreed;
    }

    pub(crate) const fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// The bytes of the header that was collected last (or so far), its digest not included once complete.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..self.have]
    }

    /// Takes from `bytes` up to the next find. Returns how many were used, and the find.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Fed), Fatal> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match &mut self.state {
                State::Common => {
                    if self.have >= COMMON {
                        self.have = 0; // a header that was handed out
                    }
                    used += collect(&mut self.head[..COMMON], &mut self.have, rest);
                    if self.have < COMMON {
                        return Ok((used, Fed::More));
                    }
                    let layout = self.validate()?;
                    self.state = State::Head(layout);
                }
                State::Head(layout) => {
                    let layout = *layout;
                    used += collect(&mut self.head[..layout.head_total], &mut self.have, rest);
                    if self.have < layout.head_total {
                        return Ok((used, Fed::More));
                    }
                    self.check_digest(&layout)?;
                    self.have = layout.header;
                    self.state = if layout.data == 0 {
                        State::Common
                    } else {
                        let body =
                            Body { to: Destination::Unknown, total: layout.data, done: 0, ddgst: layout.ddgst, crc: 0 };
                        State::Pad { left: layout.pad, body }
                    };
                    return Ok((used, Fed::Head(layout)));
                }
                State::Pad { body: Body { to: Destination::Unknown, .. }, .. } => return Ok((used, Fed::More)),
                State::Pad { left, body } => {
                    let skip = rest.len().min(*left);
                    used += skip;
                    *left -= skip;
                    if *left > 0 {
                        return Ok((used, Fed::More));
                    }
                    self.state = State::Data(take(body));
                }
                State::Data(body) => {
                    let offered = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(body.total - body.done);
                    if offered == 0 {
                        return Ok((used, Fed::More));
                    }
                    let piece = &rest[..offered as usize];
                    let crc = match &mut body.to {
                        Destination::Span(span) => {
                            let place =
                                Place { to: span.slice(body.done, offered), digest: body.ddgst.then_some(body.crc) };
                            return Ok((used, Fed::Place(place)));
                        }
                        Destination::Bytes(kept) => {
                            kept.extend_from_slice(piece);
                            if body.ddgst { digest::crc32c_append(body.crc, piece) } else { 0 }
                        }
                        Destination::Nowhere | Destination::Unknown => 0,
                    };
                    used += piece.len();
                    if let Some(received) = self.placed(offered, crc) {
                        return Ok((used, Fed::Body(received)));
                    }
                }
                State::Digest { body, bytes: digest, have } => {
                    used += collect(digest, have, rest);
                    if *have < digest.len() {
                        return Ok((used, Fed::More));
                    }
                    let matches = u32::from_le_bytes(*digest) == body.crc;
                    let body = take(body);
                    self.state = State::Common;
                    return Ok((used, Fed::Body(body.finish(matches))));
                }
            }
        }
    }

    /// `len` bytes of data are where they belong; `crc` is the finished CRC-32C of the data of this PDU so far (any
    /// value without a data digest). Returns the data of the PDU if that completed it.
    ///
    /// # Panics
    /// If that many bytes were not wanted: the driver's mistake.
    pub(crate) fn placed(&mut self, len: u32, crc: u32) -> Option<Received> {
        let State::Data(body) = &mut self.state else {
            panic!("the driver placed {len} bytes although no data was expected");
        };
        assert!(len <= body.total - body.done, "the driver placed {len} bytes, more than the PDU has left");
        body.done += len;
        body.crc = crc;
        if body.done < body.total {
            return None;
        }
        let body = take(body);
        if body.ddgst {
            self.state = State::Digest { body, bytes: [0; 4], have: 0 };
            return None;
        }
        self.state = State::Common;
        Some(body.finish(true))
    }

    /// Names where the data of the PDU goes whose header was handed out last.
    ///
    /// # Panics
    /// If that PDU has no data, or a span of another length is named: a mistake of the queue.
    pub(crate) fn set_destination(&mut self, to: Destination) {
        let body = self.body_mut().expect("only a header with data asks for a destination");
        if let Destination::Span(span) = &to {
            assert_eq!(span.len, body.total, "a destination is as long as the data of its PDU");
        }
        body.to = to;
    }

    /// The rest of the data under way is dropped. Nothing happens if there is none.
    pub(crate) fn drop_rest(&mut self) {
        if let Some(body) = self.body_mut() {
            body.to = Destination::Nowhere;
        }
    }

    /// True if no PDU has begun that is not over.
    pub(crate) const fn is_between_pdus(&self) -> bool {
        // The last header stays until the next one begins.
        matches!(self.state, State::Common) && (self.have == 0 || self.have >= COMMON)
    }

    /// True if nothing more is taken until a destination is named.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(&self.state, State::Pad { body: Body { to: Destination::Unknown, .. }, .. })
    }

    /// The next bytes of the stream, if they are at least `min` bytes of payload for one span; and the CRC to continue.
    pub(crate) fn direct(&self, min: u32) -> Option<Place> {
        match &self.state {
            State::Data(Body { to: Destination::Span(span), total, done, ddgst, crc }) if total - done >= min => {
                Some(Place { to: span.slice(*done, total - done), digest: ddgst.then_some(*crc) })
            }
            _ => None,
        }
    }

    fn body_mut(&mut self) -> Option<&mut Body> {
        match &mut self.state {
            State::Pad { body, .. } | State::Data(body) | State::Digest { body, .. } => Some(body),
            State::Common | State::Head(_) => None,
        }
    }

    fn validate(&self) -> Result<Layout, Fatal> {
        let (common, _) = CommonHeader::read_from_prefix(&self.head).expect("the head is longer than a common header");
        pdu::validate(self.direction, &common, &self.agreed)
    }

    fn check_digest(&self, layout: &Layout) -> Result<(), Fatal> {
        let (header, digest) = self.head[..layout.head_total].split_at(layout.header);
        if digest.is_empty() {
            return Ok(());
        }
        let got = u32::from_le_bytes(digest.try_into().expect("a header digest has 4 bytes"));
        if got == digest::crc32c(header) { Ok(()) } else { Err(Fatal::header_digest(got)) }
    }
}

impl Body {
    fn finish(self, matches: bool) -> Received {
        match self.to {
            Destination::Bytes(bytes) => Received { len: self.total, bytes, digest_ok: matches },
            Destination::Span(_) => Received { len: self.total, bytes: Vec::new(), digest_ok: matches },
            Destination::Nowhere | Destination::Unknown => {
                Received { len: self.total, bytes: Vec::new(), digest_ok: true }
            }
        }
    }
}

/// Moves a body out of a state that is about to be replaced.
fn take(body: &mut Body) -> Body {
    Body { to: core::mem::replace(&mut body.to, Destination::Unknown), ..*body }
}

/// Fills `into` from `have` on with what `bytes` has; returns how many bytes that were.
fn collect(into: &mut [u8], have: &mut usize, bytes: &[u8]) -> usize {
    let n = bytes.len().min(into.len() - *have);
    into[*have..*have + n].copy_from_slice(&bytes[..n]);
    *have += n;
    n
}
