//! As much of an NBD client as a load needs: many writes in flight, and an honest account of what was answered.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const READ: u16 = 0;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;

pub(crate) struct Client(UnixStream);

impl Client {
    /// Opens the export of this name.
    pub(crate) fn open(socket: &Path, name: &str) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut hello = [0; 18];
        stream.read_exact(&mut hello)?;
        // NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES; then NBD_OPT_EXPORT_NAME.
        let mut request = 3_u32.to_be_bytes().to_vec();
        request.extend_from_slice(b"IHAVEOPT");
        request.extend_from_slice(&1_u32.to_be_bytes());
        request.extend_from_slice(&u32::try_from(name.len()).expect("short").to_be_bytes());
        request.extend_from_slice(name.as_bytes());
        stream.write_all(&request)?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer)?;
        Ok(Self(stream))
    }

    fn send(&mut self, kind: u16, cookie: u64, offset: u64, length: u32, payload: &[u8]) -> io::Result<()> {
        let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
        request.extend_from_slice(&0_u16.to_be_bytes());
        request.extend_from_slice(&kind.to_be_bytes());
        request.extend_from_slice(&cookie.to_be_bytes());
        request.extend_from_slice(&offset.to_be_bytes());
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(payload);
        self.0.write_all(&request)
    }

    /// Sends a write and does not wait.
    pub(crate) fn begin_write(&mut self, cookie: u64, offset: u64, payload: &[u8]) -> io::Result<()> {
        self.send(WRITE, cookie, offset, u32::try_from(payload.len()).expect("short"), payload)
    }

    /// The next answer: its cookie, and whether it is a success.
    pub(crate) fn answer(&mut self) -> io::Result<(u64, bool)> {
        let mut answer = [0; 16];
        self.0.read_exact(&mut answer)?;
        assert_eq!(answer[..4], 0x6744_6698_u32.to_be_bytes(), "a simple reply");
        let error = u32::from_be_bytes(answer[4..8].try_into().expect("4 bytes"));
        Ok((u64::from_be_bytes(answer[8..].try_into().expect("8 bytes")), error == 0))
    }

    pub(crate) fn write(&mut self, offset: u64, payload: &[u8]) -> io::Result<()> {
        self.begin_write(0, offset, payload)?;
        self.done()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.send(FLUSH, 0, 0, 0, &[])?;
        self.done()
    }

    pub(crate) fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.send(READ, 0, offset, u32::try_from(length).expect("short"), &[])?;
        self.done()?;
        let mut data = vec![0; length];
        self.0.read_exact(&mut data)?;
        Ok(data)
    }

    fn done(&mut self) -> io::Result<()> {
        match self.answer()? {
            (0, true) => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Another handle to the same connection, to read answers while this one writes.
    pub(crate) fn twin(&self) -> Self {
        Self(self.0.try_clone().expect("a descriptor"))
    }
}
