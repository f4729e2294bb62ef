//! The asking side of the control channel.

use super::request::Reply;
use super::{ANSWER_MAX, ANSWER_WITHIN, Answer, ChannelError, Request};
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
        (&mut self.0).take(ANSWER_MAX).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let reply: Reply = serde_json::from_slice(&answer).map_err(garbled)?;
        reply.into_result().map_err(ChannelError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_many_connections_is_read_whole() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let mut request = String::new();
            BufReader::new(&theirs).read_line(&mut request).unwrap();
            let spaces = " ".repeat(3 << 20);
            (&theirs)
                .write_all(format!("{{\"format_version\":1,{spaces}\"ok\":{{\"answer\":\"done\"}}}}\n").as_bytes())
                .unwrap();
        });
        let answer = Client(BufReader::new(ours)).ask(&Request::Status {});
        assert!(matches!(answer, Ok(Answer::Done)), "{answer:?}");
        thread.join().unwrap();
    }
}
