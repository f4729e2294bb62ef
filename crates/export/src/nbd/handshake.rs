//! From the first byte to the choice of an export, without a socket.
//!
//! The client asks, option after option; each gets its answer from what is offered at that moment. A client that breaks
//! the framing is sent away, because nothing after that can be understood; one that asks for something unknown is told
//! so and may go on. Whatever it sends, this remembers no more than one option of bounded length.

use super::wire::*;
use std::mem;

/// Bytes of one option that are taken; longer ones are answered with "too big".
const OPTION_MAX: usize = 64 << 10;

/// Bytes of one option that are read past to say so; a client that sends more is sent away.
const SKIP_MAX: usize = 4 << 20;

/// Bytes that are said before the client has to take them: one option may be answered with the names of all exports.
pub(crate) const SAY_MAX: usize = 64 << 10;

/// Options in one handshake: more than any client needs, and an end to one that never chooses.
const OPTIONS_MAX: u32 = 1024;

/// What a client is told about one export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) read_only: bool,
    /// Bytes: what every request is a multiple of.
    pub(crate) block_min: u32,
    /// Bytes: what is best.
    pub(crate) block_preferred: u32,
    /// Bytes: the longest payload.
    pub(crate) payload_max: u32,
}

impl Offer {
    /// Transmission flags.
    fn flags(&self, structured: bool) -> u16 {
        let mut flags = TRANS_HAS_FLAGS | TRANS_SEND_FLUSH | TRANS_CAN_MULTI_CONN;
        if self.read_only {
            flags |= TRANS_READ_ONLY;
        } else {
            flags |= TRANS_SEND_FUA | TRANS_SEND_TRIM | TRANS_SEND_WRITE_ZEROES | TRANS_SEND_FAST_ZERO;
        }
        if structured {
            flags |= TRANS_SEND_DF; // every read is answered with one chunk
        }
        flags
    }
}

/// What there is to choose from, at this moment.
pub(crate) trait Offers {
    /// The export of this name; the empty name means the only one.
    fn find(&self, name: &str) -> Option<Offer>;

    /// The export at this place in the list; `None` behind the last.
    fn nth(&self, at: usize) -> Option<Offer>;
}

/// What both sides have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The export.
    pub(crate) name: String,
    /// Structured replies.
    pub(crate) structured: bool,
    /// `base:allocation` was selected for this export.
    pub(crate) allocation: bool,
}

/// How a handshake stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The client has not chosen yet.
    Asking,
    /// Commands follow.
    Agreed(Agreed),
    /// The client said goodbye: send what is there, then close.
    Goodbye,
    /// What follows cannot be understood; close. Why, for the log.
    Broken(&'static str),
}

#[derive(Clone, Debug)]
enum Reading {
    ClientFlags,
    Header,
    Data {
        option: u32,
        len: usize,
    },
    Skip {
        option: u32,
        left: usize,
    },
    /// The list of exports is being said: those from this place on are missing.
    List {
        at: usize,
    },
}

/// The handshake of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    reading: Reading,
    have: Vec<u8>,
    no_zeroes: bool,
    structured: bool,
    /// The export for which `base:allocation` was selected.
    allocation: Option<String>,
    options: u32,
    standing: Standing,
    out: Vec<u8>,
}

impl Handshake {
    /// A new one; its greeting waits in [`Handshake::take_output`].
    pub(crate) fn new() -> Self {
        let mut out = Vec::with_capacity(18);
        out.extend(INIT_PASSWD.to_be_bytes());
        out.extend(IHAVEOPT.to_be_bytes());
        out.extend((FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
        Self {
            reading: Reading::ClientFlags,
            have: Vec::new(),
            no_zeroes: false,
            structured: false,
            allocation: None,
            options: 0,
            standing: Standing::Asking,
            out,
        }
    }

    /// Takes bytes, and says how many; stops as soon as the client has chosen, or when [`SAY_MAX`] bytes are there to be
    /// [taken](Handshake::take_output).
    pub(crate) fn handle_bytes(&mut self, offers: &(impl Offers + ?Sized), bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.standing == Standing::Asking && !self.is_full() {
            let rest = &bytes[at..];
            if self.is_listing() {
                self.list(offers);
                continue;
            }
            if let Reading::Skip { option, left } = &mut self.reading {
                let take = (*left).min(rest.len());
                *left -= take;
                at += take;
                if *left == 0 {
                    let option = *option;
                    self.reading = Reading::Header;
                    self.refuse(option, REP_ERR_TOO_BIG, "the option is longer than 64 KiB");
                }
                continue;
            }
            let want = match self.reading {
                Reading::ClientFlags => 4,
                Reading::Header => 16,
                Reading::Data { len, .. } => len,
                Reading::Skip { .. } | Reading::List { .. } => 0,
            };
            let take = (want - self.have.len()).min(rest.len());
            self.have.extend_from_slice(&rest[..take]);
            at += take;
            while self.standing == Standing::Asking && self.piece(offers) {}
        }
        at
    }

    const fn is_full(&self) -> bool {
        self.out.len() >= SAY_MAX
    }

    /// True if there is more to say although nothing comes.
    pub(crate) const fn is_listing(&self) -> bool {
        matches!(self.reading, Reading::List { .. })
    }

    /// Goes on with the list of exports, if one is being said.
    pub(crate) fn list(&mut self, offers: &(impl Offers + ?Sized)) {
        while let Reading::List { at } = self.reading
            && !self.is_full()
        {
            let Some(offer) = offers.nth(at) else {
                self.reading = Reading::Header;
                return self.reply(OPT_LIST, REP_ACK, &[]);
            };
            let mut entry = Vec::new();
            string(&mut entry, &offer.name);
            entry.extend(offer.description.as_bytes());
            self.reply(OPT_LIST, REP_SERVER, &entry);
            self.reading = Reading::List { at: at + 1 };
        }
    }

    /// Bytes for the client.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        mem::take(&mut self.out)
    }

    pub(crate) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Works on a whole piece, if there is one; true if another one may be there (an option without data).
    fn piece(&mut self, offers: &(impl Offers + ?Sized)) -> bool {
        match self.reading {
            Reading::ClientFlags if self.have.len() == 4 => {
                let flags = be32(&self.have, 0).unwrap_or(u32::MAX);
                self.have.clear();
                if flags & !u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES) != 0 {
                    self.standing = Standing::Broken("unknown client flags");
                }
                self.no_zeroes = flags & u32::from(FLAG_NO_ZEROES) != 0;
                self.reading = Reading::Header;
                false
            }
            Reading::Header if self.have.len() == 16 => {
                let header = (be64(&self.have, 0), be32(&self.have, 8), be32(&self.have, 12));
                self.have.clear();
                let (Some(IHAVEOPT), Some(option), Some(len)) = header else {
                    self.standing = Standing::Broken("an option does not begin with its magic number");
                    return false;
                };
                self.options += 1;
                let len = len as usize;
                if self.options > OPTIONS_MAX {
                    self.standing = Standing::Broken("more than 1024 options without a choice");
                } else if len > SKIP_MAX {
                    self.standing = Standing::Broken("an option of more than 4 MiB");
                } else if len > OPTION_MAX {
                    self.reading = Reading::Skip { option, left: len };
                } else {
                    self.reading = Reading::Data { option, len };
                }
                true
            }
            Reading::Data { option, len } if self.have.len() == len => {
                let data = mem::take(&mut self.have);
                self.reading = Reading::Header;
                self.option(offers, option, &data);
                false
            }
            _ => false,
        }
    }

    fn option(&mut self, offers: &(impl Offers + ?Sized), option: u32, data: &[u8]) {
        match option {
            OPT_EXPORT_NAME => self.export_name(offers, data),
            OPT_ABORT => {
                self.reply(option, REP_ACK, &[]);
                self.standing = Standing::Goodbye;
            }
            OPT_LIST if data.is_empty() => {
                self.reading = Reading::List { at: 0 };
                self.list(offers);
            }
            OPT_LIST => self.refuse(option, REP_ERR_INVALID, "NBD_OPT_LIST has no data"),
            OPT_INFO | OPT_GO => self.info(offers, option, data),
            OPT_STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                self.reply(option, REP_ACK, &[]);
            }
            OPT_STRUCTURED_REPLY => self.refuse(option, REP_ERR_INVALID, "NBD_OPT_STRUCTURED_REPLY has no data"),
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => self.meta_context(offers, option, data),
            _ => self.refuse(option, REP_ERR_UNSUP, "this server does not know the option"),
        }
    }

    /// The oldest way to choose; it has no way to say no.
    fn export_name(&mut self, offers: &(impl Offers + ?Sized), data: &[u8]) {
        let Some(offer) = std::str::from_utf8(data).ok().and_then(|name| offers.find(name)) else {
            self.standing = Standing::Broken("NBD_OPT_EXPORT_NAME names no export");
            return;
        };
        self.out.extend(offer.size.to_be_bytes());
        self.out.extend(offer.flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            self.out.extend([0; 124]);
        }
        self.agree(&offer);
    }

    fn info(&mut self, offers: &(impl Offers + ?Sized), option: u32, data: &[u8]) {
        let mut data = Data(data);
        let parsed = data.string().and_then(|name| {
            let wanted = (0..data.u16()?).map(|_| data.u16()).collect::<Option<Vec<u16>>>()?;
            data.0.is_empty().then_some((name, wanted))
        });
        let Some((name, wanted)) = parsed else {
            return self.refuse(option, REP_ERR_INVALID, "the data is not a name and a list of requests");
        };
        let Some(offer) = offers.find(&name) else {
            let why =
                if offers.nth(0).is_none() { "nothing is exported here" } else { "there is no export of this name" };
            return self.refuse(option, REP_ERR_UNKNOWN, why);
        };
        let mut info = Vec::new();
        info.extend(INFO_EXPORT.to_be_bytes());
        info.extend(offer.size.to_be_bytes());
        info.extend(offer.flags(self.structured).to_be_bytes());
        self.reply(option, REP_INFO, &info);
        if wanted.contains(&INFO_NAME) {
            self.reply(option, REP_INFO, &[&INFO_NAME.to_be_bytes(), offer.name.as_bytes()].concat());
        }
        if wanted.contains(&INFO_DESCRIPTION) && !offer.description.is_empty() {
            self.reply(option, REP_INFO, &[&INFO_DESCRIPTION.to_be_bytes(), offer.description.as_bytes()].concat());
        }
        // Said whether it was asked for or not: requests that are no multiple of the block size are refused.
        let mut sizes = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
        for size in [offer.block_min, offer.block_preferred, offer.payload_max] {
            sizes.extend(size.to_be_bytes());
        }
        self.reply(option, REP_INFO, &sizes);
        self.reply(option, REP_ACK, &[]);
        if option == OPT_GO {
            self.agree(&offer);
        }
    }

    fn meta_context(&mut self, offers: &(impl Offers + ?Sized), option: u32, data: &[u8]) {
        if option == OPT_SET_META_CONTEXT {
            self.allocation = None;
        }
        let mut data = Data(data);
        let parsed = data.string().and_then(|name| {
            let queries = (0..data.u32()?).map(|_| data.string()).collect::<Option<Vec<String>>>()?;
            data.0.is_empty().then_some((name, queries))
        });
        let Some((name, queries)) = parsed else {
            return self.refuse(option, REP_ERR_INVALID, "the data is not a name and a list of queries");
        };
        if !self.structured {
            return self.refuse(option, REP_ERR_INVALID, "NBD_OPT_STRUCTURED_REPLY comes first");
        }
        let Some(offer) = offers.find(&name) else {
            return self.refuse(option, REP_ERR_UNKNOWN, "there is no export of this name");
        };
        let set = option == OPT_SET_META_CONTEXT;
        let named = queries.iter().any(|query| query == BASE_ALLOCATION);
        let listed = !set && (queries.is_empty() || queries.iter().any(|query| query == "base:"));
        if named || listed {
            let id = if set { BASE_ALLOCATION_ID } else { 0 };
            self.reply(option, REP_META_CONTEXT, &[&id.to_be_bytes(), BASE_ALLOCATION.as_bytes()].concat());
            if set {
                self.allocation = Some(offer.name.clone());
            }
        }
        self.reply(option, REP_ACK, &[]);
    }

    fn agree(&mut self, offer: &Offer) {
        self.standing = Standing::Agreed(Agreed {
            name: offer.name.clone(),
            structured: self.structured,
            allocation: self.allocation.as_ref() == Some(&offer.name),
        });
    }

    fn refuse(&mut self, option: u32, kind: u32, why: &str) {
        self.reply(option, kind, why.as_bytes());
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) {
        self.out.extend(OPT_REPLY.to_be_bytes());
        self.out.extend(option.to_be_bytes());
        self.out.extend(kind.to_be_bytes());
        self.out.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.out.extend_from_slice(data);
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(text.as_bytes());
}

/// What is left of an option's data.
struct Data<'a>(&'a [u8]);

impl Data<'_> {
    fn u16(&mut self) -> Option<u16> {
        let value = be16(self.0, 0)?;
        self.0 = &self.0[2..];
        Some(value)
    }

    fn u32(&mut self) -> Option<u32> {
        let value = be32(self.0, 0)?;
        self.0 = &self.0[4..];
        Some(value)
    }

    fn string(&mut self) -> Option<String> {
        let len = self.u32()? as usize;
        if len > STRING_MAX || len > self.0.len() {
            return None;
        }
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}
