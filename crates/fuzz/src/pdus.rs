//! A byte stream, cut into PDUs: for those who look at a conversation and are no part of it.

use interlock_wire::FromBytes;
use interlock_wire::digest::crc32c;
use interlock_wire::pdu::{Agreed, CommonHeader, Direction, Fatal, Flags, Layout, validate};

/// One PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// Where its parts are.
    pub layout: Layout,
    /// FLAGS.
    pub flags: Flags,
    /// The header, without digest.
    pub head: Vec<u8>,
    /// Its data, without padding and digest. Of a termination: the offender's header.
    pub data: Vec<u8>,
    /// Every byte of it, as it came.
    pub bytes: Vec<u8>,
    /// True if every digest it carries is right.
    pub digests_ok: bool,
}

impl Pdu {
    /// Its header as one of the structures of `wire`.
    #[must_use]
    pub fn read<T: FromBytes>(&self) -> Option<T> {
        T::read_from_bytes(&self.head).ok()
    }
}

/// What is next in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Not a whole PDU yet.
    More,
    /// A PDU.
    Pdu(Box<Pdu>),
    /// No PDU that may be here. The stream cannot be followed any more.
    Bad(Fatal),
}

/// Cuts one direction of a connection. The receiver's view: what it agreed to decides what is legal.
#[derive(Clone, Debug)]
pub struct Pdus {
    dir: Direction,
    agreed: Agreed,
    bytes: Vec<u8>,
    lost: Option<Fatal>,
}

impl Pdus {
    /// At the beginning of a connection, or with what was agreed already.
    #[must_use]
    pub const fn new(dir: Direction, agreed: Agreed) -> Self {
        Self { dir, agreed, bytes: Vec::new(), lost: None }
    }

    /// From now on this is agreed.
    pub const fn agree(&mut self, agreed: Agreed) {
        self.agreed = agreed;
    }

    /// What is agreed.
    #[must_use]
    pub const fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Bytes that came and are not cut yet.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.bytes.len()
    }

    /// More bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next PDU.
    pub fn read(&mut self) -> Read {
        if let Some(fatal) = self.lost {
            return Read::Bad(fatal);
        }
        let Ok((common, _)) = CommonHeader::read_from_prefix(&self.bytes) else { return Read::More };
        let layout = match validate(self.dir, &common, &self.agreed) {
            Ok(layout) => layout,
            Err(fatal) => {
                self.lost = Some(fatal);
                return Read::Bad(fatal);
            }
        };
        let total = usize::try_from(layout.total()).unwrap_or(usize::MAX);
        if self.bytes.len() < total {
            return Read::More;
        }
        let bytes: Vec<u8> = self.bytes.drain(..total).collect();
        let head = bytes[..layout.header].to_vec();
        let begin = layout.head_total + layout.pad;
        let data = bytes[begin..begin + layout.data as usize].to_vec();
        let matches = |at: usize, of: &[u8]| bytes[at..at + 4] == crc32c(of).to_le_bytes();
        let hdgst_ok = !layout.hdgst() || matches(layout.header, &head);
        let ddgst_ok = !layout.ddgst || matches(total - 4, &data);
        Read::Pdu(Box::new(Pdu { flags: common.flags(), layout, head, data, digests_ok: hdgst_ok && ddgst_ok, bytes }))
    }
}
