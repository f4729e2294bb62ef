//! What happened, asked for: events as they come and as they were, receipts.

use crate::events::{Follower, Told};
use crate::http::does;
use crate::refusal::Refusal;
use crate::service::Service;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use interlock_api::{Event, Failover, Failovers, KeptReceipt, Problem, ProblemKind, Receipts, Story, Version, What};
use interlock_observe::journal::JournalError;
use interlock_observe::story::story;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Lines on their way to one reader.
const LINES: usize = 64;
/// Receipts of one answer, unless less is asked for.
const RECEIPTS: usize = 1_000;
/// Failovers of one answer, unless more is asked for: each is put together from its events.
const FAILOVERS: usize = 20;
/// The most failovers that may be asked for at once.
const FAILOVERS_MOST: usize = 500;
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
        ("last" = Option<u64>, Query, description = "past events to begin with; default: none"),
        ("follow" = Option<bool>, Query, description = "false: end with the last that is there; default: continue with what comes")),
    responses((status = 200, body = Event, content_type = "application/x-ndjson"), (status = 400, body = Problem),
        (status = 409, body = Problem)))]
pub(crate) async fn events(State(service): State<Arc<Service>>, Query(from): Query<From>) -> Result<Response, Refusal> {
    let told = Arc::clone(&service.told);
    let place = service.room.follow()?;
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
        tokio::spawn(async move {
            send(follower, until, lines).await;
            drop(place);
        });
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
        ("last" = Option<u64>, Query, description = "the last ones, this many; default: 1000")),
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

/// The failovers that are kept, the oldest first.
#[utoipa::path(get, path = "/v1/failovers",
    params(("after" = Option<u64>, Query, description = "only those that began after this number"),
        ("last" = Option<u64>, Query, description = "the last ones, this many; default: 20, at most 500")),
    responses((status = 200, body = Failovers), (status = 500, body = Problem)))]
pub(crate) async fn failovers(
    State(service): State<Arc<Service>>,
    Query(which): Query<Which>,
) -> Result<Json<Failovers>, Refusal> {
    let most = which.last.unwrap_or(FAILOVERS).min(FAILOVERS_MOST);
    does(service, move |service| {
        let began = beginnings(&service.told, which.after.unwrap_or(0), most)?;
        let mut failovers = Vec::new();
        for id in began {
            failovers.extend(tell(&service.told, id)?.map(Failover::from));
        }
        Ok(Failovers { format_version: Version, failovers })
    })
    .await
}

/// The story of one failover, by the number of the event with which it began; or of the `last` one.
#[utoipa::path(get, path = "/v1/failovers/{id}", params(("id" = String, Path, description = "a number, or `last`")),
    responses((status = 200, body = Story), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn failover(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
) -> Result<Json<Story>, Refusal> {
    does(service, move |service| {
        let number = match id.as_str() {
            "last" => beginnings(&service.told, 0, 1)?
                .pop()
                .ok_or_else(|| Refusal::new(ProblemKind::NotFound, "no controller has been lost in what is kept"))?,
            other => other.parse().map_err(|_| {
                let text = format!("`{other}` is not a failover: give its number, or `last`");
                Refusal::new(ProblemKind::BadRequest, text)
            })?,
        };
        tell(&service.told, number)?.ok_or_else(|| {
            let text = format!("no failover began with event {number}");
            Refusal::new(ProblemKind::NotFound, text).hint("`interlock history` lists those that are kept")
        })
    })
    .await
}

/// The numbers of the last failovers, in order.
fn beginnings(told: &Told, after: u64, most: usize) -> Result<Vec<u64>, Refusal> {
    let mut began = Vec::new();
    for kind in ["lost", "predecessor_found"] {
        began.extend(told.of_kind(kind, after, u64::MAX, most)?.iter().map(|event| event.seq));
    }
    began.sort_unstable();
    Ok(began.split_off(began.len().saturating_sub(most)))
}

fn tell(told: &Told, id: u64) -> Result<Option<Story>, Refusal> {
    Ok(story(&told.about(id)?, id))
}

impl std::convert::From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        Self::new(ProblemKind::Internal, error)
    }
}
