//! The asking side of the control channel.

use super::request::Reply;
use super::{ANSWER_WITHIN, Answer, ChannelError, LINE_MAX, Request};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to the control socket of a target.
#[derive(Debug)]
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// If no target listens there.
    pub fn connect(path: &Path) -> Result<Self, ChannelError> {
        let stream =
            UnixStream::connect(path).map_err(|source| ChannelError::Connect { path: path.to_owned(), source })?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// If the target refuses, or does not answer.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, ChannelError> {
        let garbled = |why: serde_json::Error| ChannelError::Garbled(why.to_string());
        let mut line = request.to_line().map_err(garbled)?;
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes())?;
        let mut answer = Vec::new();
        (&mut self.0).take(LINE_MAX).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let reply: Reply = serde_json::from_slice(&answer).map_err(garbled)?;
        reply.into_result().map_err(ChannelError::Refused)
    }
}
