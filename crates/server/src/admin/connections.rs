//! `/v1/connections`: who is connected, and what can be done about it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tidecast_broker::wire::{Code, close};
use tidecast_broker::{Encoding, Refusal};
use tidecast_worker::{ConnectionDetails, ConnectionSummary, Stage, Task};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Failure, Problem, Query, check_limit, hundred};
use super::{State, search};

/// The longest reason of a Close, in bytes.
const MOST_REASON: usize = 123;

/// A connection in short.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connection {
    /// Its name, which its client was told in `hello`.
    #[schema(example = "0-1f-9c41b2a7")]
    name: String,
    /// The worker that it belongs to.
    worker: usize,
    /// Where its client is; without a port if only a proxy knows that.
    #[schema(example = "192.0.2.7:51234")]
    peer: String,
    /// Whose it is, if that is known.
    identity: Option<String>,
    /// `opening`, `open` or `closing`.
    stage: &'static str,
    /// `raw`, `json`, `binary` or `events`, if it is open.
    encoding: Option<&'static str>,
    /// The version of WebSocket, if it is open.
    websocket_version: Option<u8>,
    /// The extension that compresses, if any.
    compression: Option<&'static str>,
    /// Whether it goes through TLS.
    tls: bool,
    /// How long ago it was accepted.
    age_seconds: f64,
    /// Subscriptions that it has.
    subscriptions: usize,
    /// Messages that came from it.
    messages_in: u64,
    /// Messages that were delivered to it.
    messages_out: u64,
    /// Bytes that were received.
    bytes_in: u64,
    /// Bytes that were sent.
    bytes_out: u64,
    /// Bytes that wait because it does not read.
    waiting_bytes: usize,
}

impl Connection {
    fn new(worker: usize, summary: ConnectionSummary) -> Connection {
        let peer = summary.peer;
        Connection {
            name: summary.name,
            worker,
            peer: if peer.port() == 0 {
                peer.ip().to_string()
            } else {
                peer.to_string()
            },
            identity: summary.identity.as_deref().map(str::to_owned),
            stage: match summary.stage {
                Stage::Opening => "opening",
                Stage::Open => "open",
                Stage::Closing => "closing",
            },
            encoding: summary.encoding.map(|encoding| match encoding {
                Encoding::Raw => "raw",
                Encoding::Json => "json",
                Encoding::Binary => "binary",
                Encoding::Events => "events",
            }),
            websocket_version: summary.version.map(|version| version.number()),
            compression: Some(summary.compression).filter(|name| !name.is_empty()),
            tls: summary.tls,
            age_seconds: summary.age.as_secs_f64(),
            subscriptions: summary.subscriptions,
            messages_in: summary.messages_in,
            messages_out: summary.messages_out,
            bytes_in: summary.bytes_in,
            bytes_out: summary.bytes_out,
            waiting_bytes: summary.waiting,
        }
    }
}

/// Which connections are told.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConnectionQuery {
    /// Those whose name, identity or address contains this.
    search: Option<String>,
    /// Those for which so many bytes wait because they do not read.
    #[serde(default)]
    waiting: usize,
    /// `waiting`: all are looked at, and those come first for which most waits.
    sort: Option<ConnectionOrder>,
    /// At most so many, 1 to 1000.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
    /// Where to go on: `next` of the last answer.
    cursor: Option<String>,
}

/// How connections are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConnectionOrder {
    /// By the bytes that wait for them.
    Waiting,
}

/// Connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connections {
    /// Those that were asked for.
    connections: Vec<Connection>,
    /// There are more: where to go on.
    next: Option<String>,
}

/// List connections, or search for some
#[utoipa::path(get, path = "/v1/connections", params(ConnectionQuery), responses(
    (status = 200, body = Connections),
    (status = 400, description = "A parameter is wrong", body = Problem),
    (status = 503, description = "A worker is overloaded", body = Problem),
))]
pub(crate) async fn connections(
    Extract(state): Extract<Arc<State>>,
    Query(query): Query<ConnectionQuery>,
) -> Result<Json<Connections>, Failure> {
    check_limit(query.limit)?;
    let wanted = tidecast_worker::Wanted {
        text: query.search.as_deref().filter(|text| !text.is_empty()).map(Arc::from),
        waiting: query.waiting,
    };
    let (found, next) = if query.sort == Some(ConnectionOrder::Waiting) {
        if query.cursor.is_some() {
            return Err(Failure::bad_request(
                "sorted connections have no pages: leave cursor out",
            ));
        }
        let found = search::furthest_behind(&state.crew, &wanted, query.limit).await?;
        (found, None)
    } else {
        let from = query
            .cursor
            .as_deref()
            .map_or(Ok(search::Cursor::default()), str::parse)?;
        search::connections(&state.crew, &wanted, from, query.limit).await?
    };
    let connection = |(worker, summary)| Connection::new(worker, summary);
    Ok(Json(Connections {
        connections: found.into_iter().map(connection).collect(),
        next: next.map(|cursor| cursor.to_string()),
    }))
}

/// All there is to say of a connection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Details {
    #[serde(flatten)]
    connection: Connection,
    /// The topic that a raw connection publishes to.
    publishes_to: Option<String>,
    /// What it subscribes to; a thousand at the most.
    subscribed: Vec<Subscribed>,
    /// Topics that it may publish to; null for all.
    may_publish: Option<Vec<String>>,
    /// Topics that it may subscribe to; null for all.
    may_subscribe: Option<Vec<String>>,
    /// When its credentials are over, in seconds since 1970.
    expires: Option<u64>,
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscribed {
    /// What is subscribed to.
    filter: String,
    /// What is done when the client does not read: `close`, `drop-new`, `drop-old` or `latest`.
    slow: &'static str,
}

/// The worker that the connection of this name is on, if there is one.
fn worker_of(state: &State, name: &str) -> Result<usize, Failure> {
    state.crew.of_connection(name).ok_or_else(|| unknown_connection(name))
}

fn unknown_connection(name: &str) -> Failure {
    Failure::not_found(format!(
        "there is no connection {name:?}: it may have ended; /v1/connections lists those that there are"
    ))
}

/// One connection in detail
#[utoipa::path(get, path = "/v1/connections/{name}", params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = Details),
    (status = 404, description = "There is none of that name", body = Problem),
    (status = 503, description = "Its worker is overloaded", body = Problem),
))]
pub(crate) async fn connection(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
) -> Result<Json<Details>, Failure> {
    let worker = worker_of(&state, &name)?;
    let asked: Arc<str> = name.as_str().into();
    let found = state
        .crew
        .ask(worker, |reply| Task::Connection { name: asked, reply })
        .await?;
    let Some(details) = found else {
        return Err(unknown_connection(&name));
    };
    let ConnectionDetails {
        summary,
        publishes_to,
        subscriptions,
        may_publish,
        may_subscribe,
        expires,
    } = *details;
    Ok(Json(Details {
        connection: Connection::new(worker, summary),
        publishes_to,
        subscribed: subscriptions
            .into_iter()
            .map(|subscription| Subscribed {
                filter: subscription.filter.as_str().to_owned(),
                slow: subscription.slow.as_str(),
            })
            .collect(),
        may_publish,
        may_subscribe,
        expires,
    }))
}

/// How a connection is closed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CloseQuery {
    /// The code of the Close, 4000 to 4999 or 1001: of the broker's own, clients come back by themselves after 4000 to 4099, and
    /// not after 4100 to 4199.
    #[serde(default = "default_code")]
    #[param(default = 4101, minimum = 1001, maximum = 4999)]
    code: u16,
    /// Its reason, at most 123 bytes.
    #[serde(default = "default_reason")]
    #[param(default = "closed by an operator")]
    reason: String,
}

fn default_code() -> u16 {
    close::FORBIDDEN
}

fn default_reason() -> String {
    "closed by an operator".to_owned()
}

/// Close a connection
#[utoipa::path(delete, path = "/v1/connections/{name}", params(("name" = String, Path, description = "Its name"), CloseQuery), responses(
    (status = 204, description = "It is being closed"),
    (status = 400, description = "A parameter is wrong", body = Problem),
    (status = 404, description = "There is none of that name", body = Problem),
    (status = 503, description = "Its worker is overloaded", body = Problem),
))]
pub(crate) async fn disconnect(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    Query(CloseQuery { code, reason }): Query<CloseQuery>,
) -> Result<StatusCode, Failure> {
    if code != 1001 && !(4000..5000).contains(&code) {
        return Err(Failure::bad_request(format!(
            "code is 4000 to 4999, or 1001, not {code}"
        )));
    }
    if reason.len() > MOST_REASON {
        let len = reason.len();
        return Err(Failure::bad_request(format!(
            "reason may have {MOST_REASON} bytes, this one has {len}"
        )));
    }
    let worker = worker_of(&state, &name)?;
    let (asked, reason): (Arc<str>, Arc<str>) = (name.as_str().into(), reason.into());
    let close = |reply| Task::Close {
        name: asked,
        code,
        reason,
        reply,
    };
    let closed = state.crew.ask(worker, close).await?;
    if closed {
        tracing::info!(name, code, "an operator has closed a connection");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown_connection(&name))
    }
}

/// Which subscription is ended.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UnsubscribeQuery {
    /// What is subscribed to.
    #[param(example = "news/#")]
    filter: String,
}

/// End a subscription of a connection
///
/// The client is told. A raw connection, which has no other subscription, is closed.
#[utoipa::path(delete, path = "/v1/connections/{name}/subscriptions",
    params(("name" = String, Path, description = "Its name"), UnsubscribeQuery), responses(
    (status = 204, description = "It has ended"),
    (status = 400, description = "The filter is none", body = Problem),
    (status = 404, description = "There is no such connection, or it has no such subscription", body = Problem),
    (status = 503, description = "Its worker is overloaded", body = Problem),
))]
pub(crate) async fn unsubscribe(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
    Query(UnsubscribeQuery { filter }): Query<UnsubscribeQuery>,
) -> Result<StatusCode, Failure> {
    let worker = worker_of(&state, &name)?;
    let (asked, filter): (Arc<str>, Arc<str>) = (name.as_str().into(), filter.into());
    let unsubscribe = |reply| Task::Unsubscribe {
        name: asked,
        filter,
        reply,
    };
    let ended = state.crew.ask(worker, unsubscribe).await?;
    match ended {
        Ok(()) => {
            tracing::info!(name, "an operator has ended a subscription");
            Ok(StatusCode::NO_CONTENT)
        }
        Err(Refusal { code, text }) => {
            let status = match code {
                Code::NotFound => StatusCode::NOT_FOUND,
                _ => StatusCode::BAD_REQUEST,
            };
            Err(Failure::new(status, code.as_str(), text))
        }
    }
}
