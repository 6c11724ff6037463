//! `/v1/publish`: publishing one message or many.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tidecast_broker::Refusal;
use tidecast_broker::wire::Kind;
use tidecast_worker::Publication;
use utoipa::ToSchema;

use super::answer::{Body, Failure, Problem};
use super::{State, search};

/// The most messages of one request.
const MOST_MESSAGES: usize = 10_000;

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
    /// How many publications it is: one for each topic.
    fn count(&self) -> usize {
        self.topics.len() + usize::from(self.topic.is_some())
    }

    /// Those, which share the payload.
    fn publications(self) -> Result<impl Iterator<Item = Publication>, Failure> {
        if self.count() == 0 {
            return Err(Failure::bad_request("give a topic, or topics"));
        }
        let (payload, kind): (Arc<[u8]>, Kind) = match (self.payload, self.text, self.base64) {
            (Some(json), None, None) => (json.get().as_bytes().into(), Kind::Json),
            (None, Some(text), None) => (text.into_bytes().into(), Kind::Text),
            (None, None, Some(base64)) => {
                let bytes = STANDARD.decode(base64);
                let bytes = bytes.map_err(|error| Failure::bad_request(format!("base64: {error}")))?;
                (bytes.into(), Kind::Binary)
            }
            _ => {
                let text = "give one of payload (any JSON), text and base64";
                return Err(Failure::bad_request(text));
            }
        };
        let key: Option<Arc<str>> = self.key.map(Arc::from);
        let publication = move |topic| Publication {
            topic,
            payload: Arc::clone(&payload),
            kind,
            key: key.clone(),
        };
        Ok(self.topics.into_iter().chain(self.topic).map(publication))
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
    let messages = request.into_messages()?;
    let count: usize = messages.iter().map(PublishMessage::count).sum();
    if count > MOST_MESSAGES {
        let text = format!(
            "one request may publish {MOST_MESSAGES} messages, each topic counted; these are {count}: split it"
        );
        return Err(Failure::bad_request(text));
    }
    let mut publications = Vec::with_capacity(count);
    for message in messages {
        publications.extend(message.publications()?);
    }
    let most = state.max_message();
    let too_large = publications.iter().find(|one| one.payload.len() > most);
    if let Some(Publication { topic, payload, .. }) = too_large {
        let len = payload.len();
        let text = format!("messages may have {most} bytes (max_message), this one for {topic:?} has {len}");
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
    }
    let (published, refused) = search::publish(&state.crew, publications).await?;
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
