//! What happened, asked for: events as they come and as they were, receipts.

use crate::events::{Follower, Told};
use crate::http::does;
use crate::refusal::Refusal;
use crate::service::Service;
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use interlock_api::{Event, KeptReceipt, Problem, ProblemKind, Receipts, Version, What};
use interlock_observe::journal::JournalError;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Lines on their way to one reader.
const LINES: usize = 64;
/// Receipts of one answer, unless less is asked for.
const RECEIPTS: usize = 1_000;
/// The most that may be asked for at once.
const MOST: usize = 10_000;

/// Where a reader of events begins, and whether it stays.
#[derive(Deserialize)]
pub(crate) struct From {
    after: Option<u64>,
    last: Option<u64>,
    follow: Option<bool>,
}

/// What happens, one JSON document per line, until either end closes.
#[utoipa::path(get, path = "/v1/events",
    params(("after" = Option<u64>, Query, description = "begin with those after this number; 0: with the oldest that is kept"),
        ("last" = Option<u64>, Query, description = "begin with so many of the past; default: with the next"),
        ("follow" = Option<bool>, Query, description = "false: end with the last there is; default: go on with what comes")),
    responses((status = 200, body = Event, content_type = "application/x-ndjson"), (status = 400, body = Problem)))]
pub(crate) async fn events(State(service): State<Arc<Service>>, Query(from): Query<From>) -> Result<Response, Refusal> {
    let told = Arc::clone(&service.told);
    let begin = match (from.after, from.last) {
        (Some(_), Some(_)) => {
            let text = "`after` and `last` both say where to begin: give one of them";
            return Err(Refusal::new(ProblemKind::BadRequest, text));
        }
        (Some(after), None) => after,
        (None, Some(last)) => {
            let most = usize::try_from(last).unwrap_or(MOST).min(MOST);
            does(service, move |service| Ok(before_last(&service.told, most))).await?.0
        }
        (None, None) => told.last(),
    };
    let until = if from.follow.unwrap_or(true) { u64::MAX } else { told.last() };
    let (lines, receiver) = mpsc::channel(LINES);
    let follower = told.follow(begin);
    if begin < until {
        tokio::spawn(send(follower, until, lines));
    }
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The number before the last `most` events.
fn before_last(told: &Told, most: usize) -> u64 {
    let end = told.last() + 1;
    let oldest = told.recent(most).first().map_or(end, |event| event.seq);
    oldest - 1
}

/// Sends lines up to this number, as fast as they are read; ends when nobody reads any more.
async fn send(mut follower: Follower, until: u64, lines: mpsc::Sender<Result<String, Infallible>>) {
    loop {
        let events = tokio::select! {
            events = follower.next() => events,
            () = lines.closed() => return,
        };
        for event in events.unwrap_or_default() {
            let Ok(line) = serde_json::to_string(event.as_ref()) else { continue };
            if event.seq > until || lines.send(Ok(line + "\n")).await.is_err() || event.seq == until {
                return;
            }
        }
    }
}

/// Which receipts.
#[derive(Deserialize)]
pub(crate) struct Which {
    after: Option<u64>,
    last: Option<usize>,
}

/// The receipts that are kept: for every fence, why a retry was allowed.
#[utoipa::path(get, path = "/v1/receipts",
    params(("after" = Option<u64>, Query, description = "only those of events after this number"),
        ("last" = Option<u64>, Query, description = "the last so many; default: 1000")),
    responses((status = 200, body = Receipts), (status = 500, body = Problem)))]
pub(crate) async fn receipts(
    State(service): State<Arc<Service>>,
    Query(which): Query<Which>,
) -> Result<Json<Receipts>, Refusal> {
    let most = which.last.unwrap_or(RECEIPTS).min(MOST);
    does(service, move |service| {
        let events = service.told.of_kind("fenced", which.after.unwrap_or(0), u64::MAX, most)?;
        let receipts = events.into_iter().filter_map(|event| match event.what {
            What::Fenced { receipt } => Some(KeptReceipt { seq: event.seq, receipt: *receipt }),
            _ => None,
        });
        Ok(Receipts { format_version: Version, receipts: receipts.collect() })
    })
    .await
}

impl std::convert::From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        Self::new(ProblemKind::Internal, error)
    }
}
