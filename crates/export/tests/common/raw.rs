//! A client that says exactly what a test wants, byte by byte.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const ZEROES: u16 = 6;
pub const STATUS: u16 = 7;
pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const FAST_ZERO: u16 = 16;

/// How a command was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Data(Vec<u8>),
    Extents(Vec<(u32, u32)>),
    /// Number, and the sentence if replies are structured.
    Error(u32, String),
}

pub struct Raw {
    pub stream: UnixStream,
    pub structured: bool,
    pub size: u64,
    pub flags: u16,
    pub block_min: u32,
}

impl Raw {
    pub fn connect(socket: &Path) -> UnixStream {
        let stream = UnixStream::connect(socket).expect("it listens");
        stream.set_read_timeout(Some(super::PATIENCE)).expect("a timeout can be set");
        stream
    }

    /// Connects and chooses `name`.
    pub fn open(socket: &Path, name: &str, structured: bool) -> Self {
        let mut raw = Self { stream: Self::connect(socket), structured, size: 0, flags: 0, block_min: 0 };
        assert_eq!(raw.bytes(16), b"NBDMAGICIHAVEOPT");
        assert_eq!(raw.bytes(2), [0, 3]);
        raw.send(&3_u32.to_be_bytes());
        if structured {
            raw.option(8, &[]);
            assert_eq!(raw.reply(), (8, 1, Vec::new()));
            let query = [&name_of(name)[..], &1_u32.to_be_bytes(), &name_of("base:allocation")].concat();
            raw.option(10, &query);
            assert_eq!(raw.reply().1, 4);
            assert_eq!(raw.reply().1, 1);
        }
        raw.option(7, &[&name_of(name)[..], &[0, 0]].concat());
        loop {
            let (option, kind, data) = raw.reply();
            assert_eq!(option, 7);
            match kind {
                1 => return raw,
                3 if data[..2] == [0, 0] => {
                    raw.size = u64::from_be_bytes(data[2..10].try_into().expect("8 bytes"));
                    raw.flags = u16::from_be_bytes(data[10..12].try_into().expect("2 bytes"));
                }
                3 if data[..2] == [0, 3] => {
                    raw.block_min = u32::from_be_bytes(data[2..6].try_into().expect("4 bytes"));
                }
                other => panic!("NBD_OPT_GO was answered with {other:#x}: {}", String::from_utf8_lossy(&data)),
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        let len = u32::try_from(data.len()).expect("short");
        self.send(&[b"IHAVEOPT", &option.to_be_bytes()[..], &len.to_be_bytes(), data].concat());
    }

    /// Option, kind and data of an option reply.
    pub fn reply(&mut self) -> (u32, u32, Vec<u8>) {
        let head = self.bytes(20);
        assert_eq!(head[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let data = self.bytes(word(16) as usize);
        (word(8), word(12), data)
    }

    /// Sends a command.
    pub fn command(&mut self, kind: u16, flags: u16, cookie: u64, offset: u64, len: u32, payload: &[u8]) {
        self.send(&request(kind, flags, cookie, offset, len));
        self.send(payload);
    }

    /// The next reply: its cookie and what it says. `len` is that of the read it may answer.
    pub fn answer(&mut self, len: usize) -> (u64, Answer) {
        let magic = self.bytes(4);
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("4 bytes"));
        let long = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
        if magic == 0x6744_6698_u32.to_be_bytes() {
            let rest = self.bytes(12);
            let (errno, cookie) = (word(&rest[..4]), long(&rest[4..]));
            let answer = match errno {
                0 if !self.structured && len > 0 => Answer::Data(self.bytes(len)),
                0 => Answer::Done,
                errno => Answer::Error(errno, String::new()),
            };
            return (cookie, answer);
        }
        assert_eq!(magic, 0x668e_33ef_u32.to_be_bytes());
        assert!(self.structured, "a chunk although structured replies were not asked for");
        let head = self.bytes(16);
        assert_eq!(head[..2], [0, 1], "one chunk");
        let (kind, cookie) = (u16::from_be_bytes([head[2], head[3]]), long(&head[4..12]));
        let body = self.bytes(word(&head[12..]) as usize);
        let answer = match kind {
            0 => Answer::Done,
            1 => Answer::Data(body[8..].to_vec()),
            5 => Answer::Extents(body[4..].chunks(8).map(|pair| (word(&pair[..4]), word(&pair[4..]))).collect()),
            0x8001 => Answer::Error(word(&body[..4]), String::from_utf8_lossy(&body[6..]).into_owned()),
            other => panic!("chunk of type {other:#x}"),
        };
        (cookie, answer)
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&mut self, kind: u16, flags: u16, offset: u64, len: u32, payload: &[u8]) -> Answer {
        self.command(kind, flags, 77, offset, len, payload);
        let (cookie, answer) = self.answer(if kind == READ { len as usize } else { 0 });
        assert_eq!(cookie, 77);
        answer
    }

    pub fn write(&mut self, offset: u64, payload: &[u8]) -> Answer {
        self.ask(WRITE, 0, offset, u32::try_from(payload.len()).expect("short"), payload)
    }

    pub fn read(&mut self, offset: u64, len: u32) -> Answer {
        self.ask(READ, 0, offset, len, &[])
    }

    /// Nothing more comes.
    pub fn ends(&mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest); // a reset is an end, too
        assert!(rest.is_empty(), "{} more bytes came", rest.len());
    }
}

pub fn request(kind: u16, flags: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    [
        &0x2560_9513_u32.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &len.to_be_bytes(),
    ]
    .concat()
}

pub fn name_of(name: &str) -> Vec<u8> {
    [&u32::try_from(name.len()).expect("short").to_be_bytes()[..], name.as_bytes()].concat()
}
