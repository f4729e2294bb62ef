//! The other end of the control socket: one request, one answer.
//!
//! The verbs are short-lived programs without threads, so this client blocks and needs no runtime. It speaks HTTP/1.0:
//! an answer ends with its connection, and a stream of events is lines until then.

use crate::control::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the daemon of the system listens.
pub const DEFAULT_SOCKET: &str = "/run/interlock/control.sock";

/// Head of an answer: far more than ours has.
const HEAD_MAX: usize = 16 << 10;
/// Headers of an answer.
const HEADERS_MAX: usize = 32;
/// An answer: the status of 4,096 controllers is smaller.
const ANSWER_MAX: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there.
    NotThere {
        /// The socket.
        socket: PathBuf,
        /// In the kernel's words.
        error: io::Error,
    },
    /// It broke off, or took too long.
    Io {
        /// The socket.
        socket: PathBuf,
        /// In the kernel's words.
        error: io::Error,
    },
    /// What came is no answer of this interface.
    Strange {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        why: String,
    },
    /// The daemon says why it did not do it.
    Problem(Box<Problem>),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotThere { socket, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{}: permission denied", socket.display())
            }
            Self::NotThere { socket, .. } => {
                write!(f, "no daemon listens on {}", socket.display())
            }
            Self::Io { socket, error } if is_timeout(error) => {
                write!(f, "the daemon on {} did not answer in time", socket.display())
            }
            Self::Io { socket, error } => write!(f, "the daemon on {} broke off: {error}", socket.display()),
            Self::Strange { socket, why } => {
                write!(f, "what listens on {} is not an Interlock daemon: {why}", socket.display())
            }
            Self::Problem(problem) => f.write_str(&problem.error),
        }
    }
}

impl std::error::Error for ClientError {}

impl ClientError {
    /// True if the daemon did not answer in time; it may answer another request.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Io { error, .. } if is_timeout(error))
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A daemon, by its control socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    within: Duration,
}

impl Client {
    /// The daemon that listens there. `within` is the longest pause of an answer.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>, within: Duration) -> Self {
        Self { socket: socket.into(), within }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call("GET", path, None)
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn send<T: DeserializeOwned>(&self, method: &str, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|why| self.strange(why.to_string()))?;
        self.call(method, path, Some(&body))
    }

    /// Asks for something to be done that needs no more words.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<T, ClientError> {
        let mut reader = self.begin(method, path, body)?;
        let mut text = Vec::new();
        let read = reader.by_ref().take(ANSWER_MAX).read_to_end(&mut text);
        read.map_err(|error| self.broke_off(error))?;
        serde_json::from_slice(&text).map_err(|why| self.strange(why.to_string()))
    }

    /// Lines, as they come, until either end closes.
    ///
    /// # Errors
    /// See [`ClientError`]; later ones come in the place of a line.
    pub fn lines(&self, path: &str) -> Result<impl Iterator<Item = io::Result<String>> + use<>, ClientError> {
        let reader = self.begin("GET", path, None)?;
        // Events are rare: no pause between two is too long.
        let unlimited = reader.get_ref().set_read_timeout(None);
        unlimited.map_err(|error| self.broke_off(error))?;
        Ok(reader.lines())
    }

    /// Sends a request and reads the head of its answer; if that tells of a problem, all of it.
    fn begin(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<BufReader<UnixStream>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .map_err(|error| ClientError::NotThere { socket: self.socket.clone(), error })?;
        let length = body.map_or(0, <[u8]>::len);
        let mut request =
            format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
                .into_bytes();
        request.extend_from_slice(body.unwrap_or_default());
        let sent = stream
            .set_read_timeout(Some(self.within))
            .and_then(|()| stream.set_write_timeout(Some(self.within)))
            .and_then(|()| (&stream).write_all(&request));
        sent.map_err(|error| self.broke_off(error))?;
        let mut reader = BufReader::new(stream);
        let status = self.head(&mut reader)?;
        if (200..300).contains(&status) {
            return Ok(reader);
        }
        Err(self.refused(status, &mut reader))
    }

    /// The rest of an answer that tells of a problem.
    fn refused(&self, status: u16, reader: &mut impl BufRead) -> ClientError {
        let mut text = Vec::new();
        match reader.by_ref().take(ANSWER_MAX).read_to_end(&mut text) {
            Ok(_) => {}
            Err(error) => return self.broke_off(error),
        }
        match serde_json::from_slice::<Problem>(&text) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => self.strange(format!("status {status}: {}", String::from_utf8_lossy(&text).trim())),
        }
    }

    /// The head of an answer, up to and with its empty line: its status.
    fn head(&self, reader: &mut impl BufRead) -> Result<u16, ClientError> {
        let mut head = Vec::new();
        loop {
            let line = reader.by_ref().take((HEAD_MAX - head.len()) as u64).read_until(b'\n', &mut head);
            match line.map_err(|error| self.broke_off(error))? {
                0 => return Err(self.strange("it closed without an answer".into())),
                _ if head.ends_with(b"\r\n\r\n") => break,
                _ if head.len() >= HEAD_MAX => return Err(self.strange("the head of its answer has no end".into())),
                _ => {}
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        answer.parse(&head).map_err(|why| self.strange(why.to_string()))?;
        answer.code.ok_or_else(|| self.strange("its answer has no status".into()))
    }

    fn broke_off(&self, error: io::Error) -> ClientError {
        ClientError::Io { socket: self.socket.clone(), error }
    }

    fn strange(&self, why: String) -> ClientError {
        ClientError::Strange { socket: self.socket.clone(), why }
    }
}

/// Any bytes as an answer: it has a status or an error of its own, and never more of it is kept than its bound. For the fuzzer.
#[doc(hidden)]
pub fn fuzz_answer(bytes: &[u8]) {
    let client = Client::new("/fuzz", Duration::ZERO);
    let mut reader = bytes;
    let error = match client.head(&mut reader) {
        Ok(status) if (200..300).contains(&status) => {
            drop(serde_json::from_slice::<crate::Status>(reader));
            return;
        }
        Ok(status) => client.refused(status, &mut reader),
        Err(error) => error,
    };
    assert!(!error.to_string().is_empty(), "every error has its words");
}

/// A word as it stands in a path or a query: everything but letters, digits and `-._~` is written as `%XX`.
#[must_use]
pub fn escaped(word: &str) -> String {
    let mut text = String::new();
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Done, ProblemKind};
    use std::os::unix::net::UnixListener;

    /// Answers one request with these bytes; the client's result.
    fn answered(name: &str, answer: &'static [u8]) -> Result<Done, ClientError> {
        let socket = std::env::temp_dir().join(format!("interlock-client-{}-{name}", std::process::id()));
        let listener = UnixListener::bind(&socket).expect("a socket");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).expect("a request");
            stream.write_all(answer).expect("a reader");
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let result = Client::new(&socket, Duration::from_secs(20)).send("POST", "/v1/x", &[1]);
        let request = server.join().expect("it ends");
        std::fs::remove_file(&socket).expect("our own");
        assert!(request.starts_with("POST /v1/x HTTP/1.0\r\n") && request.ends_with("\r\n\r\n[1]"), "{request}");
        result
    }

    #[test]
    fn answers_are_data_problems_or_strange() {
        let done = answered("ok", b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"format_version\":1,\"devices\":[\"nvme0\"]}");
        assert_eq!(done.expect("data").devices, ["nvme0"]);
        let problem = answered(
            "problem",
            b"HTTP/1.0 404 Not Found\r\n\r\n{\"format_version\":1,\"kind\":\"not-found\",\"error\":\"no\",\"hints\":[],\"device\":null}",
        );
        let Err(ClientError::Problem(problem)) = problem else { panic!("{problem:?}") };
        assert_eq!((problem.kind, problem.error.as_str()), (ProblemKind::NotFound, "no"));
        for strange in [&b"SSH-2.0\r\n\r\n"[..], b"", b"HTTP/1.0 500 Oh\r\n\r\nno", b"HTTP/1.0 200 OK\r\n\r\n{"] {
            let result = answered("strange", strange);
            assert!(matches!(result, Err(ClientError::Strange { .. })), "{result:?}");
        }
        let endless: &[u8] = Box::leak(Box::new([b'x'; HEAD_MAX + 1]));
        assert!(matches!(answered("endless", endless), Err(ClientError::Strange { .. } | ClientError::Io { .. })));
    }

    #[test]
    fn a_socket_without_a_daemon_is_named() {
        let client = Client::new("/nonexistent/control.sock", Duration::from_secs(1));
        let error = client.get::<Done>("/v1/status").expect_err("nobody is there");
        assert_eq!(error.to_string(), "no daemon listens on /nonexistent/control.sock");
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("nqn.2026:a b/1"), "nqn.2026%3Aa%20b%2F1");
    }
}
