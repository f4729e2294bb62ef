//! The control interface: HTTP and JSON on a Unix socket.
//!
//! Anybody with `curl` can do what the verbs do. A request is small, a field that is not known is an error with the
//! nearest one that is, and a verb that waits is a task ([`crate::waiting`]): the interface always answers.

use crate::budget::{Payer, Peer};
use crate::history;
use crate::refusal::{Refusal, meant};
use crate::service::{Service, Which};
use crate::waiting::{self, quick, slow};
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Extension, Json, Router};
use interlock_api::{
    ConnectRequest, Connected, DiscoveryControllers, Done, Drained, ExportKind, ExportRequest, ExportStatus, Exports,
    Fenced, Problem, ProblemKind, SetRequest, Status,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// All routes.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/openapi.json", get(|| async { Json(crate::openapi()) }))
        .route("/v1/status", get(status))
        .route("/v1/controllers", post(connect))
        .route("/v1/controllers/{device}", delete(disconnect))
        .route("/v1/controllers/{device}", patch(set))
        .route("/v1/controllers/{device}/reset", post(reset))
        .route("/v1/controllers/{device}/rescan", post(rescan))
        .route("/v1/controllers/{device}/reconnect", post(reconnect))
        .route("/v1/subsystems/{nqn}", delete(disconnect_subsystem))
        .route("/v1/discovery", get(discovery).post(discover).delete(undiscover))
        .route("/v1/exports", get(exports).post(export))
        .route("/v1/exports/{name}", delete(unexport))
        .route("/v1/namespaces/{namespace}/fence", get(fence_wait))
        .route("/v1/subsystems/{subsystem}/drained", get(drained))
        .route("/v1/namespaces/{namespace}/flush-error", delete(clear_flush_error))
        .route("/v1/lives/{life}/accept-risk", post(accept_risk))
        .route("/v1/events", get(history::events))
        .route("/v1/receipts", get(history::receipts))
        .route("/v1/failovers", get(history::failovers))
        .route("/v1/failovers/{id}", get(history::failover))
        .merge(crate::watch::routes())
        .fallback(nothing_there)
        .method_not_allowed_fallback(wrong_method)
        .with_state(service)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.0.kind {
            ProblemKind::BadRequest => StatusCode::BAD_REQUEST,
            ProblemKind::NotFound => StatusCode::NOT_FOUND,
            ProblemKind::Already | ProblemKind::InUse => StatusCode::CONFLICT,
            ProblemKind::Target => StatusCode::BAD_GATEWAY,
            ProblemKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ProblemKind::Denied => StatusCode::FORBIDDEN,
            ProblemKind::Internal | ProblemKind::NoDaemon | ProblemKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}

/// A body that was checked.
pub(crate) struct Checked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Checked<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bad = |why: String| Refusal::new(ProblemKind::BadRequest, why);
        let body = Bytes::from_request(request, state).await.map_err(|why| bad(why.body_text()))?;
        serde_json::from_slice(&body).map(Self).map_err(|why| {
            let why = why.to_string();
            let refusal = bad(format!("the request's body: {why}"));
            match meant(&why) {
                Some(hint) => refusal.hint(hint),
                None => refusal,
            }
        })
    }
}

/// Does something that is answered at once.
pub(crate) async fn does<T: Send + 'static>(
    service: Arc<Service>,
    work: impl FnOnce(&Arc<Service>) -> Result<T, Refusal> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    quick(&service, work).await.map(Json)
}

/// Does something that may take seconds.
async fn takes_long<T: Send + 'static>(
    service: Arc<Service>,
    work: impl FnOnce(&Arc<Service>) -> Result<T, Refusal> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    slow(&service, &service.room.slow, work).await.map(Json)
}

/// Queries of requests that may be forced.
#[derive(Deserialize)]
pub(crate) struct Force {
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
pub(crate) struct Where {
    traddr: String,
    trsvcid: u16,
}

#[derive(Deserialize)]
pub(crate) struct Within {
    timeout_ms: Option<u64>,
}

/// Everything at one moment.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(crate) async fn status(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    service.shared_status.answer(&service, |service| service.status()).await
}

/// Connect a controller, and keep it connected over restarts.
#[utoipa::path(post, path = "/v1/controllers", request_body = ConnectRequest,
    responses((status = 200, body = Connected), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 502, body = Problem)))]
pub(crate) async fn connect(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Checked(request): Checked<ConnectRequest>,
) -> Result<Json<Connected>, Refusal> {
    waiting::connect(service, peer, request).await.map(Json)
}

/// Disconnect a controller (`nvme0`), or all of a subsystem (`nvme-subsys0`), in order.
#[utoipa::path(delete, path = "/v1/controllers/{device}",
    params(("device" = String, Path), ("force" = Option<bool>, Query, description = "also if it is in use")),
    responses((status = 200, body = Done), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn disconnect(
    State(service): State<Arc<Service>>,
    Path(device): Path<String>,
    Query(query): Query<Force>,
) -> Result<Json<Done>, Refusal> {
    waiting::disconnect(service, Which::Device(device), query.force).await.map(Json)
}

/// Disconnect all controllers of a subsystem, by its NQN.
#[utoipa::path(delete, path = "/v1/subsystems/{nqn}",
    params(("nqn" = String, Path), ("force" = Option<bool>, Query, description = "also if it is in use")),
    responses((status = 200, body = Done), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn disconnect_subsystem(
    State(service): State<Arc<Service>>,
    Path(nqn): Path<String>,
    Query(query): Query<Force>,
) -> Result<Json<Done>, Refusal> {
    waiting::disconnect(service, Which::Subsystem(nqn), query.force).await.map(Json)
}

/// Change settings of a controller, or of all of a subsystem, while they run.
#[utoipa::path(patch, path = "/v1/controllers/{device}", request_body = SetRequest, params(("device" = String, Path)),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn set(
    State(service): State<Arc<Service>>,
    Path(device): Path<String>,
    Checked(request): Checked<SetRequest>,
) -> Result<Json<Done>, Refusal> {
    does(service, move |service| service.set(&Which::Device(device), &request)).await
}

/// End the life of a controller in order, and begin a new one.
#[utoipa::path(post, path = "/v1/controllers/{device}/reset", params(("device" = String, Path)),
    responses((status = 200, body = Done), (status = 404, body = Problem)))]
pub(crate) async fn reset(
    State(service): State<Arc<Service>>,
    Path(device): Path<String>,
) -> Result<Json<Done>, Refusal> {
    does(service, move |service| service.reset(&Which::Device(device))).await
}

/// Look at the namespaces of a controller now, as if it had said that they changed; one that is not live is looked at when it
/// is.
#[utoipa::path(post, path = "/v1/controllers/{device}/rescan", params(("device" = String, Path)),
    responses((status = 200, body = Done), (status = 404, body = Problem)))]
pub(crate) async fn rescan(
    State(service): State<Arc<Service>>,
    Path(device): Path<String>,
) -> Result<Json<Done>, Refusal> {
    does(service, move |service| service.rescan(&Which::Device(device))).await
}

/// Try now to reconnect a lost controller; one that was given up starts again.
#[utoipa::path(post, path = "/v1/controllers/{device}/reconnect", params(("device" = String, Path)),
    responses((status = 200, body = Done), (status = 404, body = Problem)))]
pub(crate) async fn reconnect(
    State(service): State<Arc<Service>>,
    Path(device): Path<String>,
) -> Result<Json<Done>, Refusal> {
    does(service, move |service| service.reconnect(&Which::Device(device))).await
}

/// All discovery controllers that are watched.
#[utoipa::path(get, path = "/v1/discovery", responses((status = 200, body = DiscoveryControllers)))]
pub(crate) async fn discovery(State(service): State<Arc<Service>>) -> Result<Json<DiscoveryControllers>, Refusal> {
    does(service, |service| Ok(service.discovery_list())).await
}

/// Watch a discovery controller, also after restarts: what its log names is connected with these settings, now and
/// whenever it changes. `subnqn` is the discovery NQN.
#[utoipa::path(post, path = "/v1/discovery", request_body = ConnectRequest,
    responses((status = 200, body = DiscoveryControllers), (status = 400, body = Problem)))]
pub(crate) async fn discover(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Checked(request): Checked<ConnectRequest>,
) -> Result<Json<DiscoveryControllers>, Refusal> {
    does(service, move |service| service.discover(&request, Payer::User(peer.uid))).await
}

/// Watch a discovery controller no more. What it named stays connected.
#[utoipa::path(delete, path = "/v1/discovery",
    params(("traddr" = String, Query), ("trsvcid" = u16, Query)),
    responses((status = 200, body = Done), (status = 404, body = Problem)))]
pub(crate) async fn undiscover(
    State(service): State<Arc<Service>>,
    Query(query): Query<Where>,
) -> Result<Json<Done>, Refusal> {
    does(service, move |service| service.undiscover(&query.traddr, query.trsvcid)).await
}

/// All exports.
#[utoipa::path(get, path = "/v1/exports", responses((status = 200, body = Exports)))]
pub(crate) async fn exports(State(service): State<Arc<Service>>) -> Result<Json<Exports>, Refusal> {
    does(service, |service| Ok(service.export_list())).await
}

/// Offer a namespace as a block device over NBD, also after restarts.
#[utoipa::path(post, path = "/v1/exports", request_body = ExportRequest,
    responses((status = 200, body = ExportStatus), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(crate) async fn export(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Checked(request): Checked<ExportRequest>,
) -> Result<Json<ExportStatus>, Refusal> {
    let payer = Payer::User(peer.uid);
    if request.kind == ExportKind::Ublk {
        return slow(&service, &service.room.devices, move |service| service.export(&request, payer)).await.map(Json);
    }
    does(service, move |service| service.export(&request, payer)).await
}

/// End an export.
#[utoipa::path(delete, path = "/v1/exports/{name}",
    params(("name" = String, Path), ("force" = Option<bool>, Query, description = "also if clients are connected")),
    responses((status = 200, body = Done), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn unexport(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    Query(query): Query<Force>,
) -> Result<Json<Done>, Refusal> {
    takes_long(service, move |service| service.unexport(&name, query.force)).await
}

/// Wait until every lost life of this host is proven unable to change a namespace (`nvme0n1`, or `NQN:NSID`).
#[utoipa::path(get, path = "/v1/namespaces/{namespace}/fence",
    params(("namespace" = String, Path),
        ("timeout_ms" = Option<u64>, Query, description = "longest wait, in milliseconds; default: do not wait")),
    responses((status = 200, body = Fenced), (status = 404, body = Problem), (status = 504, body = Problem)))]
pub(crate) async fn fence_wait(
    State(service): State<Arc<Service>>,
    Path(namespace): Path<String>,
    Query(query): Query<Within>,
) -> Result<Json<Fenced>, Refusal> {
    let within = Duration::from_millis(query.timeout_ms.unwrap_or(0));
    waiting::fenced(service, namespace, within).await.map(Json)
}

/// Wait until every lost life of this host is proven unable to change any namespace of a subsystem (`nvme-subsys0`, or its
/// NQN).
#[utoipa::path(get, path = "/v1/subsystems/{subsystem}/drained",
    params(("subsystem" = String, Path),
        ("timeout_ms" = Option<u64>, Query, description = "longest wait, in milliseconds; default: do not wait")),
    responses((status = 200, body = Drained), (status = 404, body = Problem), (status = 504, body = Problem)))]
pub(crate) async fn drained(
    State(service): State<Arc<Service>>,
    Path(subsystem): Path<String>,
    Query(query): Query<Within>,
) -> Result<Json<Drained>, Refusal> {
    let within = Duration::from_millis(query.timeout_ms.unwrap_or(0));
    waiting::drained(service, subsystem, within).await.map(Json)
}

/// Let flushes of a namespace (`nvme0n1`, or `NQN:NSID`) succeed again after one lost data. Write what was lost again first:
/// clearing the error confirms that this was done, or that the data is not needed.
#[utoipa::path(delete, path = "/v1/namespaces/{namespace}/flush-error", params(("namespace" = String, Path)),
    responses((status = 200, body = Done), (status = 404, body = Problem)))]
pub(crate) async fn clear_flush_error(
    State(service): State<Arc<Service>>,
    Path(namespace): Path<String>,
) -> Result<Json<Done>, Refusal> {
    does(service, move |service| service.clear_flush_error(&namespace)).await
}

/// Declare a lost life (`life3`) over without proof. UNSAFE, and counted as unsafe.
#[utoipa::path(post, path = "/v1/lives/{life}/accept-risk", params(("life" = String, Path)),
    responses((status = 200, body = Done), (status = 404, body = Problem)))]
pub(crate) async fn accept_risk(
    State(service): State<Arc<Service>>,
    Path(life): Path<String>,
) -> Result<Json<Done>, Refusal> {
    does(service, move |service| service.accept_risk(&life)).await
}

async fn nothing_there(request: Request) -> Refusal {
    Refusal::new(ProblemKind::NotFound, format!("there is nothing at `{}`", request.uri().path()))
        .hint("`/openapi.json` lists what there is")
}

async fn wrong_method(request: Request) -> (StatusCode, Json<Problem>) {
    let text = format!("{} is not allowed on `{}`", request.method(), request.uri().path());
    let refusal = Refusal::new(ProblemKind::BadRequest, text).hint("`/openapi.json` lists what there is");
    (StatusCode::METHOD_NOT_ALLOWED, Json(refusal.0))
}
