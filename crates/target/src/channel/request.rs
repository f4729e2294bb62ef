//! Requests and answers, and how they are written.

use crate::config::{Ana, ConfigError, FaultConfig, NamespaceConfig, unknown_key};
use crate::status::Status;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::SocketAddr;

/// The version of what is written here. A target refuses any other.
pub const FORMAT_VERSION: u32 = 1;

/// What a target can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Say what it looks like.
    Status {},
    /// Add a namespace.
    NamespaceAdd(NamespaceConfig),
    /// Change the size of a namespace.
    NamespaceResize {
        /// Which.
        nsid: u32,
        /// Bytes; without it, as large as its file is now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// Take a namespace away.
    NamespaceRemove {
        /// Which.
        nsid: u32,
    },
    /// A flush of a namespace that failed was dealt with: flushes may succeed again.
    NamespaceClearError {
        /// Which.
        nsid: u32,
    },
    /// Set the ANA state of a group as seen through a port.
    Ana {
        /// Its place in the list of ports, from 0.
        port: u16,
        /// ANA group. Default 1.
        #[serde(default = "first_group")]
        group: u32,
        /// The state from now on.
        state: Ana,
    },
    /// Stop listening on a port, and reset its connections.
    PortClose {
        /// Its place in the list of ports, from 0; discovery-only ports follow.
        port: u16,
    },
    /// Listen on a closed port again.
    PortOpen {
        /// Its place in the list of ports, from 0; discovery-only ports follow.
        port: u16,
    },
    /// Do something wrong.
    Fault {
        /// What.
        fault: FaultConfig,
    },
    /// End the target in order.
    Shutdown {},
}

const fn first_group() -> u32 {
    1
}

/// What a target answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done,
    /// The namespace as it is now.
    Namespace {
        /// Namespace Identifier.
        nsid: u32,
        /// Bytes.
        bytes: u64,
    },
    /// The ANA state is as asked.
    Ana {
        /// It was another one before.
        changed: bool,
    },
    /// Flushes of the namespace may succeed.
    Cleared {
        /// One had failed.
        failed: bool,
    },
    /// The port is open.
    Port {
        /// Where it listens.
        listen: SocketAddr,
    },
    /// What it looks like.
    Status(Box<Status>),
}

/// A request with its version.
#[derive(Serialize)]
struct Versioned<'a> {
    format_version: u32,
    #[serde(flatten)]
    request: &'a Request,
}

/// An answer with its version.
#[derive(Serialize, Deserialize)]
pub(super) struct Reply {
    format_version: u32,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Ok(Answer),
    Error(String),
}

impl Request {
    /// The line that asks for it, without the end of the line.
    pub(crate) fn to_line(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Versioned { format_version: FORMAT_VERSION, request: self })
    }

    /// Reads a line.
    ///
    /// # Errors
    /// Says what is wrong with it, as one sentence for whoever wrote it.
    pub(crate) fn from_line(line: &[u8]) -> Result<Self, String> {
        let value: Value =
            serde_json::from_slice(line).map_err(|why| format!("a request is one line of JSON: {why}"))?;
        let Value::Object(mut members) = value else { return Err("a request is a JSON object".into()) };
        match members.remove("format_version") {
            Some(version) if version == FORMAT_VERSION => {}
            Some(other) => {
                return Err(format!("`format_version` is {other}, and this target speaks {FORMAT_VERSION} only"));
            }
            None => return Err(format!("`format_version` is missing: it is {FORMAT_VERSION}")),
        }
        serde_json::from_value(members.into()).map_err(|why| {
            let words = why.to_string();
            one_line(&unknown_key(&words).map_or(words, |known: ConfigError| known.to_string()))
        })
    }
}

/// What a client wrote may be repeated in an error, and must not look like several.
fn one_line(words: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    words.chars().map(shown).collect()
}

impl Reply {
    pub(super) fn new(outcome: Result<Answer, String>) -> Self {
        let outcome = match outcome {
            Ok(answer) => Outcome::Ok(answer),
            Err(words) => Outcome::Error(words),
        };
        Self { format_version: FORMAT_VERSION, outcome }
    }

    pub(super) fn into_result(self) -> Result<Answer, String> {
        match self.outcome {
            Outcome::Ok(answer) => Ok(answer),
            Outcome::Error(words) => Err(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_survives_the_line() {
        let backing = "mem:64M".parse().unwrap();
        let fault = |fault| Request::Fault { fault };
        let requests = [
            Request::Status {},
            Request::NamespaceAdd(NamespaceConfig { nsid: Some(3), ..NamespaceConfig::new(backing) }),
            Request::NamespaceResize { nsid: 1, bytes: Some(4096) },
            Request::NamespaceResize { nsid: 1, bytes: None },
            Request::NamespaceRemove { nsid: 1 },
            Request::NamespaceClearError { nsid: 1 },
            Request::Ana { port: 1, group: 2, state: Ana::Inaccessible },
            Request::PortClose { port: 0 },
            Request::PortOpen { port: 0 },
            fault(FaultConfig::Delay { port: 0, ms: 5 }),
            fault(FaultConfig::Clear {}),
            Request::Shutdown {},
        ];
        for request in requests {
            let line = request.to_line().unwrap();
            assert_eq!(Request::from_line(line.as_bytes()), Ok(request), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_sentence() {
        for (line, words) in [
            ("", "a request is one line of JSON"),
            ("[]", "a request is a JSON object"),
            (r#"{"request":"status"}"#, "`format_version` is missing: it is 1"),
            (r#"{"format_version":2,"request":"status"}"#, "`format_version` is 2, and this target speaks 1 only"),
            (r#"{"format_version":1,"request":"statsu"}"#, "unknown choice `statsu`: did you mean `status`?"),
            (r#"{"format_version":1,"request":"status","of":1}"#, "unknown key `of`"),
            (r#"{"format_version":1,"request":"port-close","prot":1}"#, "unknown key `prot`: did you mean `port`?"),
            (
                r#"{"format_version":1,"request":"namespace-add","backing":"mem:1M","blocksize":512}"#,
                "unknown key `blocksize`: did you mean `block_size`?",
            ),
            (
                r#"{"format_version":1,"request":"fault","fault":{"kind":"delay","port":0,"sm":1}}"#,
                "unknown key `sm`: did you mean `ms`?",
            ),
            (r#"{"format_version":1,"request":"fault","fault":{"kind":"clear","port":0}}"#, "unknown key `port`"),
            (r#"{"format_version":1,"request":"port-close"}"#, "missing field `port`"),
            (r#"{"format_version":1,"request":"a\nb"}"#, r"unknown choice `a\nb`: there are `status`,"),
            (r#"{"format_version":1,"request":"namespace-add","backing":"a\nb"}"#, r"`a\nb` is not a valid namespace"),
        ] {
            let error = Request::from_line(line.as_bytes()).unwrap_err();
            assert!(error.starts_with(words) && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn answers_are_of_format_1() {
        // What programs read must not change by accident.
        for (outcome, line) in [
            (Ok(Answer::Done), r#"{"format_version":1,"ok":{"answer":"done"}}"#),
            (
                Ok(Answer::Namespace { nsid: 3, bytes: 4096 }),
                r#"{"format_version":1,"ok":{"answer":"namespace","nsid":3,"bytes":4096}}"#,
            ),
            (Ok(Answer::Ana { changed: true }), r#"{"format_version":1,"ok":{"answer":"ana","changed":true}}"#),
            (Err("no".to_owned()), r#"{"format_version":1,"error":"no"}"#),
        ] {
            assert_eq!(serde_json::to_string(&Reply::new(outcome.clone())).unwrap(), line);
            let reply: Reply = serde_json::from_str(line).unwrap();
            assert_eq!(reply.into_result(), outcome);
        }
    }
}
