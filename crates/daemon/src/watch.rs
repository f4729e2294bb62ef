//! The part of the control interface that is watched: counters and metrics.

use crate::http::{Checked, does};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use interlock_api::{Counters, Done, Problem, SetCounter};
use serde::Deserialize;
use std::sync::Arc;

/// Its routes.
pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new().route("/v1/counters", get(counters).patch(set_counter)).route("/metrics", get(crate::metrics::page))
}

#[derive(Deserialize)]
pub(crate) struct Monotonic {
    #[serde(default)]
    monotonic: bool,
}

/// Everything that is counted, with the I/O of every path and namespace.
#[utoipa::path(get, path = "/v1/counters",
    params(("monotonic" = Option<bool>, Query, description = "as if nobody had ever set a counter back")),
    responses((status = 200, body = Counters)))]
pub(crate) async fn counters(
    State(service): State<Arc<Service>>,
    Query(query): Query<Monotonic>,
) -> Result<Json<Counters>, Refusal> {
    does(service, move |service| service.counters(query.monotonic)).await
}

/// Set what a counter of `diag/` shows, or all of a device: it begins anew at once, and what is scraped goes on.
#[utoipa::path(patch, path = "/v1/counters", request_body = SetCounter,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn set_counter(
    State(service): State<Arc<Service>>,
    Checked(request): Checked<SetCounter>,
) -> Result<Json<Done>, Refusal> {
    does(service, move |service| service.set_counter(&request)).await
}
