//! Where one PDU ends and the next begins, in a stream that arrives in any pieces.
//!
//! The proxy stands between two peers that have agreed on things it was not asked about. So it takes each PDU's own
//! FLAGS for what was agreed, and lets `wire` find the parts. A stream that it cannot follow is forwarded as it is.

use interlock_wire::FromBytes;
use interlock_wire::pdu::{Agreed, CommonHeader, Direction, Flags, Layout, PduType, validate};

/// Bytes of the common header.
const COMMON: usize = size_of::<CommonHeader>();

/// What a few bytes more have brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing new.
    Part,
    /// A header is complete.
    Head(Head),
    /// A PDU is complete.
    End,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Where the parts of its PDU are.
    pub(crate) layout: Layout,
    /// The header itself, without digest.
    pub(crate) bytes: Vec<u8>,
}

impl Head {
    /// As one of the structures of `wire`.
    pub(crate) fn read<T: FromBytes>(&self) -> Option<T> {
        T::read_from_bytes(&self.bytes).ok()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In a header; so far this.
    Head(Vec<u8>),
    /// Behind a header; so many bytes are left of the PDU.
    Body(u64),
    /// Nobody knows.
    Lost,
}

/// Follows one direction of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Framer {
    dir: Direction,
    place: Place,
}

impl Framer {
    /// At the beginning of a connection.
    pub(crate) const fn new(dir: Direction) -> Self {
        Self { dir, place: Place::Head(Vec::new()) }
    }

    /// True while the next byte belongs to a header, so that what it belongs to is not known yet.
    pub(crate) const fn in_head(&self) -> bool {
        matches!(self.place, Place::Head(_))
    }

    /// True if the stream cannot be followed.
    pub(crate) const fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost)
    }

    /// Takes some of `bytes` and says how many, and what they have brought. To be repeated until nothing is left and
    /// the step is [`Step::Part`].
    pub(crate) fn next(&mut self, bytes: &[u8]) -> (usize, Step) {
        match &mut self.place {
            Place::Lost => (bytes.len(), Step::Part),
            Place::Body(0) => {
                self.place = Place::Head(Vec::new());
                (0, Step::End)
            }
            Place::Body(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= take as u64;
                if *left > 0 {
                    return (take, Step::Part);
                }
                self.place = Place::Head(Vec::new());
                (take, Step::End)
            }
            Place::Head(head) => {
                let goal = if head.len() < COMMON { COMMON } else { header_len(head) };
                let take = (goal - head.len()).min(bytes.len());
                head.extend_from_slice(&bytes[..take]);
                if head.len() < COMMON {
                    return (take, Step::Part);
                }
                let Some(layout) = layout(self.dir, head) else {
                    self.place = Place::Lost;
                    return (take, Step::Part);
                };
                if head.len() < layout.header {
                    return (take, Step::Part);
                }
                let bytes = std::mem::take(head);
                self.place = Place::Body(layout.total() - layout.header as u64);
                (take, Step::Head(Head { layout, bytes }))
            }
        }
    }
}

fn header_len(head: &[u8]) -> usize {
    PduType::from_u8(head[0]).map_or(COMMON, PduType::header_len)
}

fn layout(dir: Direction, head: &[u8]) -> Option<Layout> {
    let common = CommonHeader::read_from_bytes(&head[..COMMON]).ok()?;
    let flags = common.flags();
    let agreed = Agreed {
        hdgst: flags.contains(Flags::HDGST),
        ddgst: flags.contains(Flags::DDGST),
        align: 4,
        max_data: u32::MAX,
        max_in_capsule: u32::MAX,
        ready: PduType::from_u8(common.pdu_type)?.has_digests(),
    };
    validate(dir, &common, &agreed).ok()
}

/// For fuzzing: any stream in any pieces is followed to its last byte, the same way however it was cut.
#[doc(hidden)]
pub fn fuzz_frames(bytes: &[u8]) {
    for dir in [Direction::ToController, Direction::ToHost] {
        let follow = |piece: usize| {
            let (mut framer, mut ends, mut at) = (Framer::new(dir), Vec::new(), 0);
            for chunk in bytes.chunks(piece) {
                let mut left = chunk;
                loop {
                    let (taken, step) = framer.next(left);
                    (at, left) = (at + taken, &left[taken..]);
                    match step {
                        Step::Part if left.is_empty() => break,
                        Step::Part => {}
                        Step::Head(head) => assert!(head.bytes.len() == head.layout.header),
                        Step::End => ends.push(at),
                    }
                }
            }
            assert_eq!(at, bytes.len(), "every byte is forwarded");
            (ends, framer)
        };
        assert_eq!(follow(1), follow(bytes.len().max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::samples::{self, Sample};

    /// Every header and end, with the place in the stream at which it was found.
    fn follow(stream: &[u8], pieces: impl Iterator<Item = usize>) -> Vec<(usize, Step)> {
        let mut framer = Framer::new(Direction::ToController);
        let (mut at, mut found) = (0, Vec::new());
        for piece in pieces {
            let mut left = &stream[at..(at + piece).min(stream.len())];
            loop {
                let (taken, step) = framer.next(left);
                (at, left) = (at + taken, &left[taken..]);
                if step != Step::Part {
                    found.push((at, step));
                } else if left.is_empty() {
                    break;
                }
            }
        }
        found
    }

    #[test]
    fn every_split_finds_the_same_pdus() {
        for framing in samples::FRAMINGS {
            let Sample { stream, ends } = samples::stream(&framing);
            let whole = follow(&stream, std::iter::once(stream.len()));
            let found: Vec<usize> = whole.iter().filter(|(_, step)| *step == Step::End).map(|(at, _)| *at).collect();
            assert_eq!(found, ends, "{framing:?}");
            assert_eq!(follow(&stream, std::iter::repeat_n(1, stream.len())), whole, "byte by byte");
            for cut in 1..stream.len() {
                assert_eq!(follow(&stream, [cut, stream.len() - cut].into_iter()), whole, "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_is_let_through_and_never_panics() {
        let mut framer = Framer::new(Direction::ToController);
        assert_eq!(framer.next(&[0xff; 100]), (8, Step::Part));
        assert!(framer.is_lost());
        assert_eq!(framer.next(&[0xff; 100]), (100, Step::Part));
        // A command capsule that is shorter than its header.
        let mut framer = Framer::new(Direction::ToController);
        framer.next(&[4, 0, 72, 0, 8, 0, 0, 0]);
        assert!(framer.is_lost());
    }
}
