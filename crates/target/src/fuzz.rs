//! Any bytes where a target reads files and requests: what must hold, for the fuzzer and for `cargo test`.

use crate::channel::Request;
use crate::config::{Config, ConfigError, SAMPLE_NQN};
use crate::shape::{Names, core_config, fault_of};
use crate::target::TargetError;

/// A `target.toml`. Whatever a file may say, the core takes.
///
/// # Panics
/// If it does not.
pub fn fuzz_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let config = match Config::from_toml(&text) {
        Ok(config) => config,
        Err(ConfigError::Syntax(words) | ConfigError::Value(words)) => return assert!(!words.is_empty()),
        Err(ConfigError::UnknownChoice { known, .. } | ConfigError::UnknownKey { known, .. }) => {
            return assert!(!known.is_empty(), "what is not known is answered with what is");
        }
    };
    let name = |given: &Option<String>, other: &str| given.clone().unwrap_or_else(|| other.into());
    let names = Names { nqn: name(&config.nqn, SAMPLE_NQN), serial: name(&config.serial, "1") };
    for fault in &config.faults {
        let _ = fault_of(*fault);
    }
    match core_config(&config, &names, 1, Vec::new()) {
        Ok(core) => core.check().expect("the core takes what a file may say"),
        // Names, and memory for queues of this depth, are looked at there.
        Err(TargetError::Nqn { .. } | TargetError::Config(ConfigError::Value(_))) => {}
        Err(other) => panic!("{other}"),
    }
}

/// Lines of the control channel. What is understood is written and read again as the same; what is not has its sentence.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_channel(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        match Request::from_line(line) {
            Ok(request) => {
                let again = request.to_line().expect("what was read can be written");
                assert_eq!(Request::from_line(again.as_bytes()), Ok(request));
            }
            Err(words) => assert!(!words.is_empty() && !words.contains('\n'), "{words:?}"),
        }
    }
}
