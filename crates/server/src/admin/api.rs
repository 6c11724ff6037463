//! The API below `/v1`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tidecast_broker::wire::{Kind, close};
use tidecast_broker::{Encoding, Refusal, SlowPolicy};
use tidecast_worker::{ConnectionDetails, ConnectionSummary, Publication, Stage, Task, Times, Totals};
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};

use super::answer::{Body, Failure, Problem, Query};
use super::process::Process;
use super::sampler::Sample;
use super::{Control, Readiness, State, search};
use crate::config::LogLevel;
use crate::log;

/// The topics that are told with the statistics.
const TOP_TOPICS: usize = 20;
/// The most messages of one request.
const MOST_MESSAGES: usize = 10_000;
/// The longest reason of a Close, in bytes.
const MOST_REASON: usize = 123;

// Statistics

/// What the broker does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// The version of tidecast.
    version: &'static str,
    /// `starting`, `ready` or `draining`.
    state: &'static str,
    /// For how long it has run.
    uptime_seconds: f64,
    /// Everything that is counted, by name, over all workers since the start.
    totals: BTreeMap<&'static str, u64>,
    /// What happened in a second, over the last five.
    rates: Rates,
    /// From when a message was received until it was handed to the kernel for its subscribers; of the last five seconds.
    delivery_seconds: Option<Quantiles>,
    /// How long turns of the workers' loops took.
    turn_seconds: Option<Quantiles>,
    /// How long it took to hand to the kernel what was to be sent, once a turn.
    flush_seconds: Option<Quantiles>,
    /// The workers.
    workers: Vec<WorkerStats>,
    /// Memory.
    memory: Memory,
    /// The topics that are published to most.
    top_topics: Vec<TopicStats>,
}

/// What happened in a second.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Rates {
    /// WebSockets opened.
    opened: f64,
    /// Messages published.
    published: f64,
    /// Messages delivered, once for each subscriber.
    delivered: f64,
    /// Deliveries that slow policies dropped.
    dropped: f64,
    /// Commands refused.
    refused: f64,
    /// Bytes received.
    received_bytes: f64,
    /// Bytes sent.
    sent_bytes: f64,
}

/// Times in seconds that a share of all did not exceed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
}

impl Quantiles {
    /// Those of these times, if there are any.
    fn of(times: &Times) -> Option<Quantiles> {
        Some(Quantiles {
            p50: times.quantile(0.5)?,
            p90: times.quantile(0.9)?,
            p99: times.quantile(0.99)?,
            p999: times.quantile(0.999)?,
        })
    }
}

/// What a worker does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerStats {
    /// Its number.
    worker: usize,
    /// The core that it is bound to, if it is.
    core: Option<usize>,
    /// The share of the last five seconds in which it was not asleep, 0 to 1.
    load: f64,
    /// Connections that it has.
    connections: u64,
    /// Subscriptions of these.
    subscriptions: u64,
    /// Messages that it delivered in a second.
    delivered: f64,
    /// Messages that wait for it, from other workers.
    mailbox_messages: usize,
    /// Bytes of their payloads.
    mailbox_bytes: usize,
    /// Bytes that wait to be sent.
    queued_bytes: u64,
}

/// What memory is used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Memory {
    /// Bytes that are held for clients.
    held_bytes: usize,
    /// Bytes that may be.
    limit_bytes: usize,
    /// Bytes of the process that are resident.
    resident_bytes: Option<u64>,
}

/// How much is published to a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicStats {
    /// The topic.
    topic: String,
    /// Messages in a second, about.
    messages_per_second: f64,
    /// Bytes in a second, about.
    bytes_per_second: f64,
}

/// What the broker does: sums, rates, times, and the busiest topics
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, body = Stats)))]
pub(crate) async fn stats(Extract(state): Extract<Arc<State>>) -> Json<Stats> {
    let sample = Sample::look(&state.counters);
    let (change, top_topics) = {
        let sampler = state.sampler.lock();
        (sampler.change(), sampler.top_topics(TOP_TOPICS))
    };
    let totals = Sample::totals(&state.counters);
    let rate = |counter: fn(&Totals) -> u64| change.as_ref().map_or(0.0, |change| change.rate(counter));
    let rate_of =
        |worker, counter: fn(&Totals) -> u64| change.as_ref().map_or(0.0, |change| change.rate_of(worker, counter));
    let worker = |(number, totals): (usize, &Totals)| {
        let (mailbox_messages, mailbox_bytes) = state.crew.depth(number);
        WorkerStats {
            worker: number,
            core: state.cores[number],
            load: (rate_of(number, |totals| totals.busy) / 1e9).clamp(0.0, 1.0),
            connections: totals.connections,
            subscriptions: totals.subscriptions,
            delivered: rate_of(number, |totals| totals.delivered),
            mailbox_messages,
            mailbox_bytes,
            queued_bytes: totals.queued,
        }
    };
    let times = change.as_ref().map(|change| &change.times);
    Json(Stats {
        version: env!("CARGO_PKG_VERSION"),
        state: match state.readiness() {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        },
        uptime_seconds: state.started.elapsed().as_secs_f64(),
        totals: totals.values().map(|(series, value)| (series.name, value)).collect(),
        rates: Rates {
            opened: rate(|totals| totals.opened),
            published: rate(|totals| totals.published),
            delivered: rate(|totals| totals.delivered),
            dropped: rate(|totals| totals.dropped),
            refused: rate(|totals| totals.commands_refused),
            received_bytes: rate(|totals| totals.bytes_in),
            sent_bytes: rate(|totals| totals.bytes_out),
        },
        delivery_seconds: times.and_then(|times| Quantiles::of(&times.delivery)),
        turn_seconds: times.and_then(|times| Quantiles::of(&times.turn)),
        flush_seconds: times.and_then(|times| Quantiles::of(&times.flush)),
        workers: sample.workers.iter().enumerate().map(worker).collect(),
        memory: Memory {
            held_bytes: state.budget.held(),
            limit_bytes: state.budget.limit(),
            resident_bytes: Process::look().resident,
        },
        top_topics: top_topics
            .into_iter()
            .map(|rate| TopicStats {
                topic: rate.topic,
                messages_per_second: rate.messages,
                bytes_per_second: rate.octets,
            })
            .collect(),
    })
}

// Publishing

/// What is there is a payload, also if it is `null`.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// A message to be published: to one topic or to many, with one of `payload`, `text` and `base64`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishMessage {
    /// The topic.
    #[schema(example = "news/today")]
    topic: Option<String>,
    /// Several topics, which get the same.
    #[serde(default)]
    topics: Vec<String>,
    /// Any JSON value, which is passed on byte for byte.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    /// Text that is passed on as it is.
    text: Option<String>,
    /// Bytes, in base64.
    base64: Option<String>,
    /// What it is the latest state of, beside its topic, for subscribers that want only the latest.
    key: Option<String>,
}

/// One message, or several under `messages`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishRequest {
    /// The topic.
    #[schema(example = "news/today")]
    topic: Option<String>,
    /// Several topics, which get the same.
    #[serde(default)]
    topics: Vec<String>,
    /// Any JSON value, which is passed on byte for byte.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<serde_json::Value>, example = json!({"hello": "world"}))]
    payload: Option<Box<RawValue>>,
    /// Text that is passed on as it is.
    text: Option<String>,
    /// Bytes, in base64.
    base64: Option<String>,
    /// What it is the latest state of, beside its topic, for subscribers that want only the latest.
    key: Option<String>,
    /// Messages, published in this order as far as they are for the same topic; nothing else may stand beside them.
    messages: Option<Vec<PublishMessage>>,
}

/// What became of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Published {
    /// How many were published, each topic of a message counted.
    published: usize,
    /// Those that were not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<NotPublished>,
}

/// A message that was not published.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotPublished {
    /// The topic.
    topic: String,
    /// What is wrong, for programs.
    #[schema(example = "bad_topic")]
    code: &'static str,
    /// The same for people.
    text: String,
}

impl PublishRequest {
    fn into_messages(self) -> Result<Vec<PublishMessage>, Failure> {
        let one = PublishMessage {
            topic: self.topic,
            topics: self.topics,
            payload: self.payload,
            text: self.text,
            base64: self.base64,
            key: self.key,
        };
        let Some(messages) = self.messages else {
            return Ok(vec![one]);
        };
        let PublishMessage {
            topic: None,
            topics,
            payload: None,
            text: None,
            base64: None,
            key: None,
        } = one
        else {
            return Err(Failure::bad_request("beside messages there can be nothing else"));
        };
        if !topics.is_empty() {
            return Err(Failure::bad_request("beside messages there can be nothing else"));
        }
        Ok(messages)
    }
}

impl PublishMessage {
    /// One publication for each topic.
    fn publications(self) -> Result<Vec<Publication>, Failure> {
        let (payload, kind) = match (self.payload, self.text, self.base64) {
            (Some(json), None, None) => (json.get().as_bytes().to_vec(), Kind::Json),
            (None, Some(text), None) => (text.into_bytes(), Kind::Text),
            (None, None, Some(base64)) => {
                let bytes = STANDARD.decode(base64);
                let bytes = bytes.map_err(|error| Failure::bad_request(format!("base64: {error}")))?;
                (bytes, Kind::Binary)
            }
            _ => {
                let text = "give one of payload (any JSON), text and base64";
                return Err(Failure::bad_request(text));
            }
        };
        let mut topics = self.topics;
        topics.extend(self.topic);
        if topics.is_empty() {
            return Err(Failure::bad_request("give a topic, or topics"));
        }
        let publication = |topic| Publication {
            topic,
            payload: payload.clone(),
            kind,
            key: self.key.clone(),
        };
        Ok(topics.into_iter().map(publication).collect())
    }
}

/// Publish messages
///
/// Whoever may use this API may publish to every topic. A message that is refused does not keep others from being published.
#[utoipa::path(post, path = "/v1/publish", request_body = PublishRequest, responses(
    (status = 200, description = "All were published", body = Published),
    (status = 400, description = "The request cannot be understood; nothing was published", body = Problem),
    (status = 413, description = "A message is too large; nothing was published", body = Problem),
    (status = 415, description = "The body is not application/json", body = Problem),
    (status = 422, description = "Some, or all, were not published", body = Published),
    (status = 503, description = "A worker is overloaded; some may have been published", body = Problem),
))]
pub(crate) async fn publish(
    Extract(state): Extract<Arc<State>>,
    Body(request): Body<PublishRequest>,
) -> Result<Response, Failure> {
    let mut publications = Vec::new();
    for message in request.into_messages()? {
        publications.extend(message.publications()?);
        if publications.len() > MOST_MESSAGES {
            let text = format!("one request may publish {MOST_MESSAGES} messages: split it");
            return Err(Failure::bad_request(text));
        }
    }
    let too_large = publications.iter().find(|one| one.payload.len() > state.max_message);
    if let Some(Publication { topic, payload, .. }) = too_large {
        let (most, len) = (state.max_message, payload.len());
        let text = format!("messages may have {most} bytes (max_message), this one for {topic:?} has {len}");
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
    }
    let refused = search::publish(&state.crew, publications).await?;
    let (published, refused) = refused;
    let status = if refused.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let refused = refused
        .into_iter()
        .map(|(topic, Refusal { code, text })| NotPublished {
            topic,
            code: code.as_str(),
            text: text.into_owned(),
        })
        .collect();
    Ok((status, Json(Published { published, refused })).into_response())
}

// Connections

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
    /// `raw`, `json` or `binary`, if it is open.
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

fn hundred() -> usize {
    100
}

/// Connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connections {
    /// Those that were asked for.
    connections: Vec<Connection>,
    /// There are more: where to go on.
    next: Option<String>,
}

fn check_limit(limit: usize) -> Result<(), Failure> {
    if (1..=1000).contains(&limit) {
        return Ok(());
    }
    Err(Failure::bad_request(format!("limit is 1 to 1000, not {limit}")))
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
    let worker = state
        .crew
        .of_connection(&name)
        .ok_or_else(|| unknown_connection(&name))?;
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
                slow: match subscription.slow {
                    SlowPolicy::Close => "close",
                    SlowPolicy::DropNew => "drop-new",
                    SlowPolicy::DropOld => "drop-old",
                    SlowPolicy::Latest => "latest",
                },
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
    let worker = state
        .crew
        .of_connection(&name)
        .ok_or_else(|| unknown_connection(&name))?;
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
    let worker = state
        .crew
        .of_connection(&name)
        .ok_or_else(|| unknown_connection(&name))?;
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
                tidecast_broker::wire::Code::NotFound => StatusCode::NOT_FOUND,
                _ => StatusCode::BAD_REQUEST,
            };
            Err(Failure::new(status, code.as_str(), text))
        }
    }
}

// Topics

/// Which topics are told.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TopicQuery {
    /// Those that begin with this.
    #[serde(default)]
    prefix: String,
    /// `subscribers`: those with most come first; else they are in the order of the alphabet.
    #[serde(default)]
    sort: TopicOrder,
    /// At most so many, 1 to 1000.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
}

/// How topics are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TopicOrder {
    /// By the alphabet.
    #[default]
    Name,
    /// By how many subscribe.
    Subscribers,
}

/// What is subscribed to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Topics {
    /// Topics and filters with subscribers.
    topics: Vec<TopicCount>,
    /// How many there are in all that were asked for.
    total: usize,
    /// There are more than could be looked at: give a longer prefix.
    truncated: bool,
}

/// A topic, or filter, and its subscribers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicCount {
    /// The topic, or the filter.
    filter: String,
    /// How many connections subscribe to it.
    subscribers: usize,
}

/// List topics and filters with how many subscribe to them
#[utoipa::path(get, path = "/v1/topics", params(TopicQuery), responses(
    (status = 200, body = Topics),
    (status = 400, description = "A parameter is wrong", body = Problem),
    (status = 503, description = "A worker is overloaded", body = Problem),
))]
pub(crate) async fn topics(
    Extract(state): Extract<Arc<State>>,
    Query(query): Query<TopicQuery>,
) -> Result<Json<Topics>, Failure> {
    check_limit(query.limit)?;
    let (found, truncated) = search::filters(&state.crew, &query.prefix).await?;
    let total = found.len();
    let mut topics: Vec<TopicCount> = found
        .into_iter()
        .map(|(filter, subscribers)| TopicCount { filter, subscribers })
        .collect();
    if query.sort == TopicOrder::Subscribers {
        // Stable: those with as many stay in the order of the alphabet.
        topics.sort_by_key(|topic| std::cmp::Reverse(topic.subscribers));
    }
    topics.truncate(query.limit);
    Ok(Json(Topics {
        topics,
        total,
        truncated,
    }))
}

// The broker itself

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Done {
    /// What was done, for people.
    text: String,
}

/// Has whoever runs the broker do something, and waits for the answer.
async fn control<T>(state: &State, wish: impl FnOnce(oneshot::Sender<T>) -> Control) -> Result<T, Failure> {
    let unavailable = || {
        let text = "the broker is busy with another request, or stops: try again";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
    };
    let (sender, answer) = oneshot::channel();
    state.control.try_send(wish(sender)).map_err(|_| unavailable())?;
    answer.await.map_err(|_| unavailable())
}

/// Read the configuration again, as at SIGHUP
#[utoipa::path(post, path = "/v1/reload", responses(
    (status = 200, body = Done),
    (status = 422, description = "It cannot be used; nothing is changed", body = Problem),
    (status = 503, description = "The broker stops", body = Problem),
))]
pub(crate) async fn reload(Extract(state): Extract<Arc<State>>) -> Result<Json<Done>, Failure> {
    match control(&state, Control::Reload).await? {
        Ok(text) => Ok(Json(Done { text })),
        Err(text) => Err(Failure::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_configuration",
            text,
        )),
    }
}

/// Have a new process take over, as at SIGUSR2
///
/// It is the same program, at the same path, with the same arguments and environment: another version, or another
/// configuration. It listens with the same sockets, so nobody is refused in between. When it serves, this one says goodbye to
/// its clients and ends.
#[utoipa::path(post, path = "/v1/upgrade", responses(
    (status = 202, description = "The new process serves; this one says goodbye", body = Done),
    (status = 422, description = "The new process has not come up; nothing is changed", body = Problem),
    (status = 503, description = "The broker stops", body = Problem),
))]
pub(crate) async fn upgrade(Extract(state): Extract<Arc<State>>) -> Result<(StatusCode, Json<Done>), Failure> {
    match control(&state, Control::Upgrade).await? {
        Ok(text) => Ok((StatusCode::ACCEPTED, Json(Done { text }))),
        Err(text) => Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "not_upgraded", text)),
    }
}

/// Say goodbye to all clients and stop, as at SIGTERM
#[utoipa::path(post, path = "/v1/drain", responses(
    (status = 202, description = "It has begun", body = Done),
    (status = 503, description = "The broker stops already", body = Problem),
))]
pub(crate) async fn drain(Extract(state): Extract<Arc<State>>) -> Result<(StatusCode, Json<Done>), Failure> {
    control(&state, Control::Drain).await?;
    let text = "the broker says goodbye to its clients, and stops".to_owned();
    Ok((StatusCode::ACCEPTED, Json(Done { text })))
}

/// How important something has to be to be logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogLevelBody {
    /// The level.
    level: Level,
}

/// How important something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Something failed.
    Error,
    /// Something may be wrong.
    Warn,
    /// Something happened.
    Info,
    /// More than most want to know.
    Debug,
}

/// What is logged
#[utoipa::path(get, path = "/v1/log-level", responses((status = 200, body = LogLevelBody)))]
pub(crate) async fn log_level() -> Json<LogLevelBody> {
    let level = match log::level() {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
    };
    Json(LogLevelBody { level })
}

/// Change what is logged, until the configuration is read again
#[utoipa::path(put, path = "/v1/log-level", request_body = LogLevelBody, responses(
    (status = 200, body = LogLevelBody),
    (status = 415, description = "The body is not application/json", body = Problem),
    (status = 422, description = "That is no level", body = Problem),
))]
pub(crate) async fn set_log_level(Body(body): Body<LogLevelBody>) -> Json<LogLevelBody> {
    log::set_level(match body.level {
        Level::Error => LogLevel::Error,
        Level::Warn => LogLevel::Warn,
        Level::Info => LogLevel::Info,
        Level::Debug => LogLevel::Debug,
    });
    tracing::info!(level = ?body.level, "an operator has changed what is logged");
    Json(body)
}
