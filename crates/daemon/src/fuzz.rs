//! Any bytes where the daemon reads files and requests: what must hold, for the fuzzer and for `cargo test`.

use crate::config::Config;
use crate::connect::{changes, check};
use crate::exclusions::Exclusions;
use crate::fabrics::Wanted;
use interlock_api::{ConnectRequest, ExportRequest, SetCounter, SetRequest};
use interlock_host::{HostId, HostSettings, Nqn};
use std::path::Path;

/// Configuration files of every kind; the first byte says which.
pub fn fuzz_config(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    let file = Path::new("fuzz");
    match kind % 3 {
        0 => drop(Config::parse(&text, file)),
        1 => drop(Wanted::fuzz(&text)),
        _ => Exclusions::fuzz(&text, file),
    }
}

/// The record and its changes: what can be read is written and read again as the same.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_record(bytes: &[u8]) {
    let hostid = HostId([0x11; 16]);
    let who = HostSettings { hostnqn: Nqn::of_host(hostid), hostid };
    crate::record::fuzz(bytes, &who);
}

/// Bodies of requests. What is understood is checked, and what passes the check can be connected.
pub fn fuzz_requests(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<ConnectRequest>(bytes) {
        let _ = check(&request);
    }
    if let Ok(request) = serde_json::from_slice::<SetRequest>(bytes) {
        let _ = changes(&request);
    }
    let _ = serde_json::from_slice::<ExportRequest>(bytes);
    let _ = serde_json::from_slice::<SetCounter>(bytes);
}
