//! A client of an NBD export that keeps so many requests in flight: what a disk of another program would get.

use crate::case::Plan;
use crate::round::{Round, Tally};
use anyhow::{Context, Result, ensure};
use interlock_base::Rng;
use interlock_export::{ExportSettings, NbdServer, NbdSettings};
use interlock_host::Namespace;
use interlock_ring::{Pool, now};
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an export of this program is called.
const DISK: &str = "disk";

const OPTS_MAGIC: u64 = 0x4948_4156_454f_5054;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const FIXED_NO_ZEROES: u32 = 3;
const EXPORT_NAME: u32 = 1;

/// An export of a namespace.
pub(crate) struct Export {
    server: NbdServer,
    dir: TempDir,
}

impl Export {
    pub(crate) fn new(pool: &Pool, namespace: &Namespace) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = NbdServer::start(pool.reactors(), NbdSettings::new(dir.path().join("nbd")))?;
        server.add(ExportSettings::new(DISK, namespace.clone()))?;
        Ok(Self { server, dir })
    }

    /// One round over a connection of its own.
    pub(crate) fn round(&self, plan: Plan, bytes: u32) -> Result<Round> {
        round(&self.dir.path().join("nbd"), DISK, plan, bytes)
    }

    pub(crate) fn end(self) -> Result<()> {
        Ok(self.server.stop(interlock_export::Stop::Force, PATIENCE)?)
    }
}

/// One round with the export of this name behind `socket`, over a connection of its own.
pub(crate) fn round(socket: &Path, export: &str, plan: Plan, bytes: u32) -> Result<Round> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let size = negotiate(&mut stream, export).context("the export does not agree")?;
    let mut client = Client {
        replies: BufReader::with_capacity(256 << 10, stream.try_clone()?),
        requests: stream,
        plan,
        dice: Rng::new(plan.seed),
        positions: size / u64::from(bytes),
        bytes,
        reading: vec![false; plan.depth as usize],
        payload: vec![0; bytes as usize],
        tally: Tally::new(now(), plan.depth),
    };
    client.run()
}

/// The oldest way, which every server knows; gives the size.
fn negotiate(stream: &mut UnixStream, export: &str) -> Result<u64> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    let mut hello = FIXED_NO_ZEROES.to_be_bytes().to_vec();
    hello.extend(OPTS_MAGIC.to_be_bytes());
    hello.extend(EXPORT_NAME.to_be_bytes());
    hello.extend(u32::try_from(export.len())?.to_be_bytes());
    hello.extend(export.as_bytes());
    stream.write_all(&hello)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    let (size, _) = answer.split_first_chunk::<8>().context("8 of 10 bytes")?;
    Ok(u64::from_be_bytes(*size))
}

struct Client {
    requests: UnixStream,
    replies: BufReader<UnixStream>,
    plan: Plan,
    dice: Rng,
    positions: u64,
    bytes: u32,
    /// What each slot waits for.
    reading: Vec<bool>,
    payload: Vec<u8>,
    tally: Tally,
}

impl Client {
    fn submit(&mut self, slot: usize, out: &mut Vec<u8>) {
        let reads = self.plan.reads(&mut self.dice);
        self.reading[slot] = reads;
        self.tally.submitted(now(), slot);
        out.extend(REQUEST_MAGIC.to_be_bytes());
        out.extend([0, 0, 0, u8::from(!reads)]);
        out.extend((slot as u64).to_be_bytes());
        out.extend((self.dice.below(self.positions) * u64::from(self.bytes)).to_be_bytes());
        out.extend(self.bytes.to_be_bytes());
        if !reads {
            out.extend_from_slice(&self.payload);
        }
    }

    fn run(&mut self) -> Result<Round> {
        let mut out = Vec::new();
        self.tally = Tally::new(now(), self.plan.depth);
        for slot in 0..self.plan.depth as usize {
            self.submit(slot, &mut out);
        }
        while !self.tally.is_idle() {
            self.requests.write_all(&out)?;
            out.clear();
            // Everything that has come, and then one system call for what follows from it.
            loop {
                let mut reply = [0; 16];
                self.replies.read_exact(&mut reply)?;
                let (magic, rest) = reply.split_first_chunk::<4>().context("4 of 16 bytes")?;
                let (error, slot) = rest.split_first_chunk::<4>().context("4 of 12 bytes")?;
                ensure!(u32::from_be_bytes(*magic) == REPLY_MAGIC && *error == [0; 4], "the export answers {reply:?}");
                let slot = usize::from_be_bytes(slot.try_into()?);
                if *self.reading.get(slot).context("an answer to nobody")? {
                    self.replies.read_exact(&mut self.payload)?;
                }
                self.tally.finished(now(), slot);
                if self.tally.goes_on(now(), self.plan.duration) {
                    self.submit(slot, &mut out);
                }
                if self.replies.buffer().len() < reply.len() {
                    break;
                }
            }
        }
        Ok(self.tally.round(now()))
    }
}
