//! Commands and replies of one connection, without a socket.
//!
//! The stream is taken apart here, and every command is checked against what the export is at that moment: its size,
//! its block size, whether it may be written. What passes can be submitted as it is. Unaligned requests are refused, not
//! emulated: a read-modify-write would be a second writer that no guard knows, and every client of today asks for the
//! block size.

use super::handshake::Agreed;
use super::wire::*;
use std::fmt;

/// The longest payload of a read or a write, as the protocol advises.
pub(crate) const PAYLOAD_MAX: u32 = 32 << 20;

/// What a client reads whose request gets no memory.
pub(crate) const NO_MEMORY: &str = "other clients hold the memory that the request needs; it was not carried out";

/// What the export is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Bytes.
    pub(crate) size: u64,
    /// Bytes: what every request is a multiple of. A power of two.
    pub(crate) block: u32,
    pub(crate) read_only: bool,
}

/// A command that may be submitted as it is: aligned, inside the export, allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The client's name for it.
    pub(crate) cookie: u64,
    pub(crate) command: Command,
}

/// Offsets and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read {
        offset: u64,
        len: u32,
    },
    Write {
        offset: u64,
        len: u32,
        fua: bool,
    },
    Flush,
    Trim {
        offset: u64,
        len: u32,
        fua: bool,
    },
    /// `fast`: an error, rather than a write of zeroes.
    WriteZeroes {
        offset: u64,
        len: u32,
        fua: bool,
        deallocate: bool,
        fast: bool,
    },
    BlockStatus {
        len: u32,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { offset, len } => write!(f, "read of {len} bytes at {offset}"),
            Self::Write { offset, len, .. } => write!(f, "write of {len} bytes at {offset}"),
            Self::Flush => f.write_str("flush"),
            Self::Trim { offset, len, .. } => write!(f, "trim of {len} bytes at {offset}"),
            Self::WriteZeroes { offset, len, .. } => write!(f, "write of {len} bytes of zeroes at {offset}"),
            Self::BlockStatus { len } => write!(f, "block status of {len} bytes"),
        }
    }
}

/// What to do after some bytes were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Offer what is left.
    More,
    /// A write begins: `len` bytes of payload follow, which need memory. If there is none, call
    /// [`Transmission::handle_no_memory`].
    Announced { len: u32 },
    /// The next `len` bytes (offered already) belong to the write that is being received, at `at`. Copy them and call
    /// [`Transmission::handle_placed`].
    Place { at: u32, len: u32 },
    /// Submit it.
    Submit(Request),
    /// Answer with an error.
    Refuse { cookie: u64, errno: Errno, why: &'static str },
    /// The client wants no more than the answers that are still to come.
    Disconnect,
    /// What follows cannot be understood: drop the connection.
    Broken(&'static str),
}

/// How many of the offered bytes were used, and what to do then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) used: usize,
    pub(crate) then: Then,
}

/// The answer to a command that is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    cookie: u64,
    errno: Errno,
    why: &'static str,
}

impl From<Refusal> for Then {
    fn from(Refusal { cookie, errno, why }: Refusal) -> Self {
        Self::Refuse { cookie, errno, why }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Header,
    Payload {
        request: Request,
        len: u32,
        at: u32,
    },
    /// The payload of a refused write; then the refusal. A client that is still sending may read nothing before.
    Skip {
        left: u32,
        refusal: Refusal,
    },
    Over,
}

/// The second phase of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Transmission {
    structured: bool,
    allocation: bool,
    header: [u8; REQUEST_LEN],
    have: usize,
    reading: Reading,
}

impl Transmission {
    pub(crate) const fn new(agreed: &Agreed) -> Self {
        Self {
            structured: agreed.structured,
            allocation: agreed.allocation,
            header: [0; REQUEST_LEN],
            have: 0,
            reading: Reading::Header,
        }
    }

    /// True between two commands: the place to stop reading if too much is in flight.
    pub(crate) fn is_between(&self) -> bool {
        self.reading == Reading::Header && self.have == 0
    }

    /// Where the next bytes of the stream belong if they are payload and at least `min`: offset and length.
    pub(crate) fn direct(&self, min: u32) -> Option<(u32, u32)> {
        match self.reading {
            Reading::Payload { len, at, .. } if len - at >= min => Some((at, len - at)),
            _ => None,
        }
    }

    /// Takes bytes. Call again with the rest, until nothing is left; `bytes` is not empty.
    pub(crate) fn handle_bytes(&mut self, view: &View, bytes: &[u8]) -> Taken {
        match &mut self.reading {
            Reading::Over => Taken { used: bytes.len(), then: Then::More },
            Reading::Skip { left, refusal } => {
                let used = bytes.len().min(*left as usize);
                *left -= used as u32; // no more than `left`
                if *left > 0 {
                    return Taken { used, then: Then::More };
                }
                let then = (*refusal).into();
                self.reading = Reading::Header;
                Taken { used, then }
            }
            Reading::Payload { len, at, .. } => {
                let here = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(*len - *at);
                Taken { used: 0, then: Then::Place { at: *at, len: here } }
            }
            Reading::Header => {
                let used = bytes.len().min(REQUEST_LEN - self.have);
                self.header[self.have..self.have + used].copy_from_slice(&bytes[..used]);
                self.have += used;
                if self.have < REQUEST_LEN {
                    return Taken { used, then: Then::More };
                }
                self.have = 0;
                Taken { used, then: self.command(view) }
            }
        }
    }

    /// `len` bytes of payload are in place; `Some`: that was the last of them.
    pub(crate) fn handle_placed(&mut self, len: u32) -> Option<Request> {
        let Reading::Payload { request, len: all, at } = &mut self.reading else {
            debug_assert!(false, "nothing was to be placed");
            return None;
        };
        *at += len;
        debug_assert!(*at <= *all, "more was placed than asked for");
        if *at < *all {
            return None;
        }
        let request = *request;
        self.reading = Reading::Header;
        Some(request)
    }

    /// The write that was announced gets no memory: its payload is read past, and then it is refused.
    pub(crate) fn handle_no_memory(&mut self) {
        if let Reading::Payload { request, len, at } = self.reading {
            let refusal = Refusal { cookie: request.cookie, errno: Errno::NoMemory, why: NO_MEMORY };
            self.reading = Reading::Skip { left: len - at, refusal };
        }
    }

    fn command(&mut self, view: &View) -> Then {
        let field = |at| be16(&self.header, at).unwrap_or(0);
        let magic = be32(&self.header, 0);
        let (flags, kind) = (field(4), field(6));
        let cookie = be64(&self.header, 8).unwrap_or(0);
        let offset = be64(&self.header, 16).unwrap_or(0);
        let len = be32(&self.header, 24).unwrap_or(0);
        if magic != Some(REQUEST) {
            self.reading = Reading::Over;
            return Then::Broken("a request does not begin with its magic number");
        }
        if kind == CMD_DISC {
            self.reading = Reading::Over;
            return Then::Disconnect;
        }
        match self.check(view, flags, kind, offset, len) {
            Ok(command @ Command::Write { .. }) if len > 0 => {
                self.reading = Reading::Payload { request: Request { cookie, command }, len, at: 0 };
                Then::Announced { len }
            }
            Ok(command) => Then::Submit(Request { cookie, command }),
            Err((errno, why)) => {
                let refusal = Refusal { cookie, errno, why };
                if kind == CMD_WRITE && len > 0 {
                    self.reading = Reading::Skip { left: len, refusal };
                    return Then::More;
                }
                refusal.into()
            }
        }
    }

    /// The one place where a client's wish becomes something that can be done.
    fn check(
        &self,
        view: &View,
        flags: u16,
        kind: u16,
        offset: u64,
        len: u32,
    ) -> Result<Command, (Errno, &'static str)> {
        let allowed = match kind {
            CMD_READ => CMD_FLAG_DF | CMD_FLAG_FUA,
            CMD_WRITE | CMD_TRIM | CMD_FLUSH => CMD_FLAG_FUA,
            CMD_WRITE_ZEROES => CMD_FLAG_FUA | CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
            CMD_BLOCK_STATUS => CMD_FLAG_FUA | CMD_FLAG_REQ_ONE,
            _ => return Err((Errno::Invalid, "this server does not know the command")),
        };
        if flags & !allowed != 0 {
            return Err((Errno::Invalid, "the command does not have this flag"));
        }
        if kind == CMD_FLUSH {
            return Ok(Command::Flush);
        }
        let changes = matches!(kind, CMD_WRITE | CMD_TRIM | CMD_WRITE_ZEROES);
        if changes && view.read_only {
            return Err((Errno::Perm, "the export is read-only"));
        }
        if offset.checked_add(u64::from(len)).is_none_or(|end| end > view.size) {
            let errno = if matches!(kind, CMD_WRITE | CMD_WRITE_ZEROES) { Errno::NoSpace } else { Errno::Invalid };
            return Err((errno, "the range ends beyond the end of the export"));
        }
        let mask = u64::from(view.block) - 1;
        if (offset | u64::from(len)) & mask != 0 {
            return Err((Errno::Invalid, "offset and length must be multiples of the minimum block size"));
        }
        if matches!(kind, CMD_READ | CMD_WRITE) && len > PAYLOAD_MAX {
            return Err((Errno::Invalid, "the payload is longer than 32 MiB"));
        }
        let fua = flags & CMD_FLAG_FUA != 0;
        match kind {
            CMD_READ => Ok(Command::Read { offset, len }),
            CMD_WRITE => Ok(Command::Write { offset, len, fua }),
            CMD_TRIM => Ok(Command::Trim { offset, len, fua }),
            CMD_WRITE_ZEROES if flags & CMD_FLAG_NO_HOLE != 0 && flags & CMD_FLAG_FAST_ZERO != 0 => {
                // Without deallocation a controller may write every zero to media.
                Err((Errno::NotSupported, "zeroes that keep their space are not promised to be fast"))
            }
            CMD_WRITE_ZEROES => Ok(Command::WriteZeroes {
                offset,
                len,
                fua,
                deallocate: flags & CMD_FLAG_NO_HOLE == 0,
                fast: flags & CMD_FLAG_FAST_ZERO != 0,
            }),
            _ if !self.allocation => Err((Errno::Invalid, "no metadata context was selected")),
            _ if len == 0 => Err((Errno::Invalid, "the block status of nothing")),
            _ => Ok(Command::BlockStatus { len }),
        }
    }
}

/// Heads of replies, ready to be sent.
impl Transmission {
    /// The command is done; no payload.
    pub(crate) fn done(&self, cookie: u64) -> Vec<u8> {
        simple(cookie, 0)
    }

    /// The head of a read's answer; `len` bytes of payload follow it.
    pub(crate) fn data(&self, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
        if !self.structured {
            return simple(cookie, 0);
        }
        if len == 0 {
            return chunk(cookie, REPLY_NONE, 0);
        }
        let mut head = chunk(cookie, REPLY_OFFSET_DATA, len + 8); // `len` is at most `PAYLOAD_MAX`
        head.extend(offset.to_be_bytes());
        head
    }

    /// Everything in the range is data, as far as anybody knows: NVMe has no question for it that all controllers answer.
    pub(crate) fn block_status(&self, cookie: u64, len: u32) -> Vec<u8> {
        let mut reply = chunk(cookie, REPLY_BLOCK_STATUS, 12);
        for word in [BASE_ALLOCATION_ID, len, 0] {
            reply.extend(word.to_be_bytes());
        }
        reply
    }

    /// The command failed.
    pub(crate) fn error(&self, cookie: u64, errno: Errno, why: &str) -> Vec<u8> {
        if !self.structured {
            return simple(cookie, errno as u32);
        }
        let why = &why.as_bytes()[..why.len().min(STRING_MAX)];
        let mut reply = chunk(cookie, REPLY_ERROR, 6 + why.len() as u32); // at most `STRING_MAX`
        reply.extend((errno as u32).to_be_bytes());
        reply.extend((why.len() as u16).to_be_bytes());
        reply.extend(why);
        reply
    }
}

fn simple(cookie: u64, errno: u32) -> Vec<u8> {
    let mut reply = Vec::with_capacity(16);
    reply.extend(SIMPLE_REPLY.to_be_bytes());
    reply.extend(errno.to_be_bytes());
    reply.extend(cookie.to_be_bytes());
    reply
}

fn chunk(cookie: u64, kind: u16, len: u32) -> Vec<u8> {
    let mut reply = Vec::with_capacity(32);
    reply.extend(STRUCTURED_REPLY.to_be_bytes());
    reply.extend(REPLY_FLAG_DONE.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend(cookie.to_be_bytes());
    reply.extend(len.to_be_bytes());
    reply
}
