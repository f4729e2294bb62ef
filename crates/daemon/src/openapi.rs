//! The description of the control interface, generated from its code. `docs/openapi.json` is the same text, and a test
//! keeps it so.

use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Interlock control interface",
        description = "HTTP and JSON on the daemon's Unix socket: `curl --unix-socket /run/interlock/control.sock http://localhost/v1/status`"
    ),
    paths(
        crate::http::status,
        crate::http::connect,
        crate::http::disconnect,
        crate::http::disconnect_subsystem,
        crate::http::set,
        crate::http::reset,
        crate::http::rescan,
        crate::http::reconnect,
        crate::http::discovery,
        crate::http::discover,
        crate::http::undiscover,
        crate::http::exports,
        crate::http::export,
        crate::http::unexport,
        crate::http::fence_wait,
        crate::http::drained,
        crate::http::clear_flush_error,
        crate::http::accept_risk,
        crate::history::events,
        crate::history::receipts,
        crate::watch::counters,
        crate::watch::set_counter,
        crate::history::failovers,
        crate::history::failover,
        crate::metrics::page,
    )
)]
struct Document;

/// The document.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_what_the_code_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let truth = openapi().to_pretty_json().expect("a document") + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(file, &truth).expect("the docs can be written");
        }
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            committed == truth,
            "docs/openapi.json is old: run this test with UPDATE_GOLDEN=1 and look at the difference"
        );
    }
}
