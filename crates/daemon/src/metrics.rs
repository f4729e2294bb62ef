//! `/metrics`: on the control socket, on a port if one is wanted, and as an exporter of its own beside any Linux host.
//!
//! Whoever may connect to the port may read it, so it is on loopback unless an address is given.

use crate::port::serve_metrics;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::waiting::quick;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use interlock_observe::metrics::{self, Monotonic};
use interlock_observe::{Snapshot, Source, SourceError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

/// The address in `text`: `ADDRESS:PORT`, `:PORT` or `PORT`. Without an address it is that of loopback.
///
/// # Errors
/// If it is none, in a sentence.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| format!("`{text}` is not a valid address: use `127.0.0.1:9899`, `[::1]:9899` or `9899`"))
}

impl Service {
    /// The whole host as the model has it: as operators see it, or with counters that never fall. Control is asked once: to
    /// tell of a thousand controllers takes the reactor that carries I/O milliseconds.
    pub(crate) fn snapshot(&self, monotonic: bool) -> Result<Snapshot, Refusal> {
        let status = self.host.status()?;
        let counters = self.counters_of(&status, monotonic)?;
        Ok(interlock_observe::daemon::snapshot(&self.status_of(&status), &counters))
    }
}

/// Everything, for Prometheus: as OpenMetrics text for those who ask for it, else in text format 0.0.4.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(crate) async fn page(State(service): State<Arc<Service>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let make = Arc::clone(&service);
    let make = async move { quick(&make, |service| Ok(metrics::text(&service.snapshot(true)?).into())).await };
    let page = service.shared_metrics.get(make).await?;
    Ok(negotiated(&headers, String::from_utf8_lossy(&page).into_owned()))
}

/// A page in the format that was asked for.
fn negotiated(headers: &HeaderMap, page: String) -> Response {
    // A header may be written as several.
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if metrics::wants_openmetrics(Some(&accept.join(","))) {
        return ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response();
    }
    ([(header::CONTENT_TYPE, metrics::PLAIN_CONTENT_TYPE)], metrics::plain(&page)).into_response()
}

/// What a metrics port offers of the daemon: nothing else.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new().route("/metrics", get(page)).route("/", get(front)).with_state(service)
}

async fn front() -> &'static str {
    "Interlock: the metrics are at /metrics\n"
}

/// A source that is scraped without a daemon.
struct Exported {
    source: Box<dyn Source + Send>,
    monotonic: Monotonic,
}

impl Exported {
    fn text(&mut self) -> Result<String, SourceError> {
        let mut snapshot = self.source.scrape()?;
        self.monotonic.smooth(&mut snapshot);
        Ok(metrics::text(&snapshot))
    }
}

/// One page of a source.
///
/// # Errors
/// If the source cannot be read.
pub fn once(source: Box<dyn Source + Send>) -> Result<String, SourceError> {
    Exported { source, monotonic: Monotonic::default() }.text()
}

/// Serves the metrics of a source until SIGTERM or SIGINT. `ready` is told where.
///
/// # Errors
/// If the address cannot be listened on.
pub fn export(source: Box<dyn Source + Send>, address: SocketAddr, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    ready(listener.local_addr()?);
    let exported = Arc::new(Mutex::new(Exported { source, monotonic: Monotonic::default() }));
    let app = Router::new().route("/metrics", get(exported_page)).route("/", get(front)).with_state(exported);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    runtime.block_on(async move {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::select! {
            served = serve_metrics(listener, app) => served,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

async fn exported_page(State(exported): State<Arc<Mutex<Exported>>>, headers: HeaderMap) -> Response {
    let text = tokio::task::spawn_blocking(move || exported.lock().unwrap_or_else(PoisonError::into_inner).text());
    match text.await {
        Ok(Ok(text)) => negotiated(&headers, text),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a mistake in the program\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_on_loopback_unless_told_otherwise() {
        for (text, address) in [
            ("9899", "127.0.0.1:9899"),
            (":9899", "127.0.0.1:9899"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::]:9899", "[::]:9899"),
        ] {
            assert_eq!(listen_address(text).map(|address| address.to_string()), Ok(address.to_owned()));
        }
        for wrong in ["", "nine", "99999", "localhost:9899", "1.2.3.4"] {
            assert!(listen_address(wrong).is_err(), "{wrong}");
        }
    }
}
