//! `/v1/tap`: looking at what is published, as it is.
//!
//! Workers show messages to a tap as they are published; what comes faster than anybody can read is skipped, and counted.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidecast_broker::wire::Kind;
use tidecast_broker::{Filter, MOST_TAPS, Message, Tap};
use tidecast_worker::Task;
use tokio::sync::mpsc;
use tokio::time::Interval;
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::answer::{Failure, Problem, Query};
use super::process::unix_time;

/// Messages that are shown in a second, at the most.
const MOST_PER_SECOND: u64 = 200;
/// How often that is measured; also how often the one who looks hears something, so that it is noticed when nobody does any more.
const TICK: Duration = Duration::from_millis(500);
const MOST_PER_TICK: u64 = MOST_PER_SECOND * TICK.as_millis() as u64 / 1000;
/// How much of a payload is shown, in bytes.
const MOST_SHOWN: usize = 4096;

/// The names of taps.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What is looked at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TapQuery {
    /// The topics, as a filter.
    #[param(example = "news/#")]
    filter: String,
}

/// A line of a tap.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum TapLine {
    /// A message.
    Message(Box<Shown>),
    /// Messages that came too fast to be shown.
    Skipped {
        /// How many.
        skipped: u64,
    },
    /// Nothing: somebody is still here.
    Idle {},
}

/// A message that was published: it has one of `payload`, `text` and `base64`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Shown {
    /// When, in seconds since 1970.
    time: f64,
    /// The topic.
    topic: String,
    /// What it is the latest state of, beside its topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The size of its payload in bytes.
    bytes: usize,
    /// Whether only the beginning of it is here.
    truncated: bool,
    /// A JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    /// Text, or the beginning of a JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Bytes, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Shown {
    fn new(message: &Message<'_>) -> Shown {
        let bytes = message.payload.len();
        let truncated = bytes > MOST_SHOWN;
        let shown = &message.payload[..bytes.min(MOST_SHOWN)];
        let as_text = || Some(String::from_utf8_lossy(shown).into_owned());
        let (mut payload, mut text, mut base64) = (None, None, None);
        match message.kind {
            Kind::Json if !truncated => match serde_json::from_slice(&in_one_line(shown)) {
                Ok(json) => payload = Some(json),
                Err(_) => text = as_text(),
            },
            Kind::Json | Kind::Text => text = as_text(),
            Kind::Binary => base64 = Some(STANDARD.encode(shown)),
        }
        Shown {
            time: unix_time(),
            topic: message.topic.to_owned(),
            key: message.key.map(str::to_owned),
            bytes,
            truncated,
            payload,
            text,
            base64,
        }
    }
}

/// A JSON value without line breaks, which would end the line that it is shown in: between its parts they mean as much as a space,
/// and within a string there can be none.
fn in_one_line(json: &[u8]) -> Vec<u8> {
    let octets = json.iter();
    octets
        .map(|octet| if matches!(octet, b'\n' | b'\r') { b' ' } else { *octet })
        .collect()
}

/// What was shown, on its way to the one who looks. When that one is gone, the tap is closed.
struct Feed {
    shown: mpsc::Receiver<Shown>,
    /// How many may still be shown, and how many were not.
    allowed: Arc<AtomicU64>,
    skipped: Arc<AtomicU64>,
    ticks: Interval,
    state: Arc<State>,
    id: u64,
}

impl Drop for Feed {
    fn drop(&mut self) {
        for worker in 0..self.state.crew.len() {
            let (state, id) = (Arc::clone(&self.state), self.id);
            tokio::spawn(async move {
                // One that is busy is told again: a tap that stays open costs something.
                while state.crew.tell(worker, Task::Untap { id }).is_err() {
                    tokio::time::sleep(TICK).await;
                }
            });
        }
    }
}

impl Stream for Feed {
    type Item = Result<String, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = if let Poll::Ready(Some(shown)) = self.shown.poll_recv(context) {
            TapLine::Message(Box::new(shown))
        } else if self.ticks.poll_tick(context).is_ready() {
            self.allowed.store(MOST_PER_TICK, Ordering::Relaxed);
            match self.skipped.swap(0, Ordering::Relaxed) {
                0 => TapLine::Idle {},
                skipped => TapLine::Skipped { skipped },
            }
        } else {
            return Poll::Pending;
        };
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        Poll::Ready(Some(Ok(text)))
    }
}

/// Look at what is published
///
/// The answer has no end: one line of JSON for each message, as it is published. At most 200 in a second are shown, the others
/// counted; a line without anything comes twice a second.
#[utoipa::path(get, path = "/v1/tap", params(TapQuery), responses(
    (status = 200, description = "Lines of JSON", body = TapLine, content_type = "application/x-ndjson"),
    (status = 400, description = "The filter is none", body = Problem),
    (status = 503, description = "As many look as may", body = Problem),
))]
pub(crate) async fn tap(
    Extract(state): Extract<Arc<State>>,
    Query(query): Query<TapQuery>,
) -> Result<Response, Failure> {
    let filter = Filter::parse(&query.filter, &state.topics);
    let filter = filter.map_err(|error| Failure::bad_request(format!("filter {:?}: {error}", query.filter)))?;
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (sender, shown) = mpsc::channel(MOST_PER_SECOND as usize);
    let (allowed, skipped) = (Arc::new(AtomicU64::new(MOST_PER_TICK)), Arc::new(AtomicU64::new(0)));
    let feed = Feed {
        shown,
        allowed: Arc::clone(&allowed),
        skipped: Arc::clone(&skipped),
        ticks: tokio::time::interval(TICK),
        state: Arc::clone(&state),
        id,
    };
    let show = Arc::new(move |message: &Message<'_>| {
        let one_less = |allowed: u64| allowed.checked_sub(1);
        let may = allowed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok();
        if !may || sender.try_send(Shown::new(message)).is_err() {
            skipped.fetch_add(1, Ordering::Relaxed);
        }
    });
    for worker in 0..state.crew.len() {
        let tap = Tap {
            id,
            filter: filter.clone(),
            show: Arc::clone(&show) as _,
        };
        // If it fails `feed` goes, and the others are told.
        let opened = state.crew.ask(worker, |reply| Task::Tap { tap, reply }).await?;
        if !opened {
            let text = format!("{MOST_TAPS} are looking already, which is as many as may: end one");
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text));
        }
    }
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(feed)).into_response())
}
