//! The paths, and which status each gives.
//!
//! A status code is the whole answer for load balancers; the body says why in words. Every path and code:
//! `docs/surfaces.md`. Layer: the edge; what is answered is decided by `state`, `admin` and the loop.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{self, Admission, Denied};
use super::door::Peer;
use super::state::{Answer, Gate, State};
use super::{Board, Config, Requests, metrics, page};
use crate::agent::view::{Reply, Request, RequestKind};
use crate::client::Held;
use crate::clock::BootTime;

/// The longest body of a request in bytes.
const BODY_CAP: usize = 4096;
/// How long a request waits for the loop.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// What every path works on.
struct Served {
    config: Config,
    board: Arc<Board>,
    requests: Requests,
    admission: Admission,
}

impl Served {
    fn state(&self) -> State {
        let directory = self.config.directory.display().to_string();
        State::of(self.board.read(), &self.config.limits, &directory, Timestamp::now())
    }
}

type App = Shared<Arc<Served>>;

/// All paths.
pub(super) fn routes(config: Config, board: Arc<Board>, requests: Requests) -> Router {
    let served = Arc::new(Served { config, board, requests, admission: Admission::new() });
    Router::new()
        .route("/", get(page))
        .route("/page.css", get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)))
        .route("/page.js", get(async || ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], page::SCRIPT)))
        .route("/healthz", get(async |app: App| text(&app.state().health)))
        .route("/readyz", get(async |app: App| word("ready", &app.state().ready)))
        .route("/rolez", get(async |app: App| (StatusCode::OK, app.state().role + "\n")))
        .route("/leader", get(async |app: App| text(&app.state().leader)))
        .route("/replica", get(replica))
        .route("/metrics", get(exposition))
        .route("/v1/state", get(async |app: App| Json(app.state())))
        .route("/v1/lease", get(lease))
        .route("/v1/{request}", post(request))
        .fallback(async || problem(StatusCode::NOT_FOUND, "there is nothing here; paths: docs/surfaces.md"))
        .layer(middleware::map_response(headers))
        .layer(DefaultBodyLimit::max(BODY_CAP))
        .with_state(served)
}

/// What goes with every answer: it is of this moment, for this one request, and is what it says it is.
async fn headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text(answer: &Answer) -> Response {
    let status = if answer.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", answer.why)).into_response()
}

/// One fixed word for yes, which probes hold their expectation against; `/v1/state` has the reason.
fn word(yes: &str, answer: &Answer) -> Response {
    match answer.ok {
        true => (StatusCode::OK, format!("{yes}\n")).into_response(),
        false => text(answer),
    }
}

fn problem(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "schema": "bootstrap.problem/1", "why": why }))).into_response()
}

async fn page(app: App) -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, page::POLICY)], Html(page::html(&app.state())))
}

#[derive(Deserialize)]
struct ReplicaQuery {
    max_lag: Option<u64>,
}

async fn replica(app: App, query: Result<Query<ReplicaQuery>, QueryRejection>) -> Response {
    let state = app.state();
    match query.map(|Query(query)| query.max_lag) {
        Err(_) => problem(StatusCode::BAD_REQUEST, "expected `max_lag=` and a number of snapshots"),
        Ok(None) => text(&state.replica),
        Ok(Some(max_lag)) => text(&state.replica_within(max_lag, &app.config.limits)),
    }
}

#[derive(Deserialize)]
struct LeaseQuery {
    #[serde(default)]
    min_remaining_ms: u64,
}

async fn lease(app: App, query: Result<Query<LeaseQuery>, QueryRejection>) -> Response {
    let Ok(Query(LeaseQuery { min_remaining_ms })) = query else {
        return problem(StatusCode::BAD_REQUEST, "expected `min_remaining_ms=` and a number");
    };
    let state = app.state();
    match state.gate(min_remaining_ms) {
        Gate::Open { remaining_ms } => {
            let view = state.view;
            let held = Held {
                schema: "bootstrap.lease-held/1".to_owned(),
                group: view.group,
                node: view.node,
                instance: view.instance,
                term: view.term,
                remaining_ms,
            };
            Json(held).into_response()
        }
        Gate::Shut(why) => {
            let body = json!({
                "schema": "bootstrap.lease-not-held/1",
                "why": why,
                "mode": state.view.mode,
                "role": state.role,
                "holder": state.view.holder,
                "remaining_ms": state.view.remaining_ms,
            });
            (StatusCode::CONFLICT, Json(body)).into_response()
        }
    }
}

async fn exposition(app: App) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&app.state())).into_response()
}

#[derive(Deserialize)]
struct ReasonQuery {
    reason: Option<String>,
}

async fn request(
    app: App,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    query: Result<Query<ReasonQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(kind) = RequestKind::of(&name) else {
        return problem(StatusCode::NOT_FOUND, "there is no such request; requests: docs/surfaces.md");
    };
    let by = match app.admission.admit(peer, app.config.tcp.as_ref(), bearer(&headers), BootTime::now()) {
        Ok(by) => by,
        Err(denied) => return deny(denied),
    };
    let given = query.ok().and_then(|Query(query)| query.reason);
    let reason = match admin::reason(given.or_else(|| reason_in(&body)).as_deref()) {
        Ok(reason) => reason,
        Err(why) => return problem(StatusCode::BAD_REQUEST, why),
    };
    let (reply, replied) = crossbeam_channel::bounded(1);
    if app.requests.try_send((Request { kind, reason, by }, reply)).is_err() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "the agent takes no requests now; see its log");
    }
    // A thread of its own waits: the loop is a thread too, and answers after it decided.
    let waited = tokio::task::spawn_blocking(move || replied.recv_timeout(REPLY_WITHIN)).await;
    match waited {
        Ok(Ok(Reply::Accepted(what))) => {
            let body = json!({ "schema": "bootstrap.accepted/1", "request": kind.as_str(), "why": what });
            (StatusCode::ACCEPTED, Json(body)).into_response()
        }
        Ok(Ok(Reply::Refused(why))) => problem(StatusCode::CONFLICT, &why),
        Ok(Err(_)) | Err(_) => problem(
            StatusCode::GATEWAY_TIMEOUT,
            "the agent did not say in time whether it does this; see `bootstrap status` before asking again",
        ),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn reason_in(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("reason")?.as_str().map(str::to_owned)
}

fn deny(denied: Denied) -> Response {
    match denied {
        Denied::NoToken(why) => problem(
            StatusCode::FORBIDDEN,
            &format!("{why}, so requests are taken on the Unix socket only: `bootstrap --help` lists the commands"),
        ),
        Denied::Missing | Denied::Wrong => {
            let mut response = problem(StatusCode::UNAUTHORIZED, "expected `Authorization: Bearer` and the token");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Denied::TooOften(seconds) => {
            let why = format!("too many requests; try again in {seconds} s");
            let mut response = problem(StatusCode::TOO_MANY_REQUESTS, &why);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            response
        }
    }
}
