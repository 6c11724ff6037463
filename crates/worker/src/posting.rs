//! A message that an HTTP request publishes, while its body comes in, and what is answered to such requests.

use std::net::IpAddr;
use std::sync::Arc;

use tidecast_broker::auth::Grant;
use tidecast_broker::wire::{Code, Kind, json};
use tidecast_broker::{Message, Refusal};
use tidecast_websocket::http::{Body, BodyError, Response};
use tidecast_websocket::{Millis, Timing};

use crate::cors::Cors;

/// How an answer is given, whatever it is.
#[derive(Debug, Default)]
pub(crate) struct Manner {
    pub(crate) cors: Cors,
    /// Another request may follow.
    pub(crate) stays: bool,
}

impl Manner {
    /// Begins an answer.
    pub(crate) fn respond<'o>(&self, status: u16, out: &'o mut Vec<u8>) -> Response<'o> {
        let response = self.cors.write(Response::new(out, status));
        if self.stays {
            response
        } else {
            response.header("Connection", "close")
        }
    }

    /// Answers with a refusal; `retry` is after how many seconds it can be tried again, where that helps.
    pub(crate) fn refuse(&self, refusal: &Refusal, retry: u64, out: &mut Vec<u8>) {
        self.refuse_with(status_of(refusal.code), refusal.code, &refusal.text, retry, out);
    }

    /// The same with another status than the usual one.
    pub(crate) fn refuse_with(&self, status: u16, code: Code, text: &str, retry: u64, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        json::request_error(&mut body, code, text);
        let response = self.respond(status, out);
        let response = match status {
            401 => response.header("WWW-Authenticate", "Bearer"),
            405 => response.header("Allow", METHODS),
            429 | 503 => response.header("Retry-After", retry),
            _ => response,
        };
        response.body(JSON, &body);
    }
}

/// What may be done with a topic.
pub(crate) const METHODS: &str = "GET, HEAD, POST, OPTIONS";

const JSON: &str = "application/json";

/// The status that goes with a code.
fn status_of(code: Code) -> u16 {
    match code {
        Code::BadMessage | Code::UnknownVerb | Code::BadTopic => 400,
        Code::Unauthorized => 401,
        Code::Forbidden => 403,
        Code::NotFound => 404,
        Code::TooLarge => 413,
        Code::RateLimited => 429,
        Code::Overloaded => 503,
        _ => 500,
    }
}

/// What a body of this media type is. Without one it is bytes.
pub(crate) fn kind_of(media_type: Option<&str>) -> Kind {
    let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
    if media_type == JSON || media_type.ends_with("+json") {
        Kind::Json
    } else if media_type.starts_with("text/") {
        Kind::Text
    } else {
        Kind::Binary
    }
}

/// A message whose payload comes in.
///
/// Invariant: `counted <= payload.len()`
#[derive(Debug)]
pub(crate) struct Posting {
    pub(crate) topic: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) grant: Arc<Grant>,
    /// How often settings had changed when that was given.
    pub(crate) changes: u32,
    pub(crate) manner: Manner,
    /// The client waits until it is told to go on.
    pub(crate) waits: bool,
    /// The number of the listener that it came by, and who it is from.
    pub(crate) from: (u16, IpAddr),
    body: Body,
    payload: Vec<u8>,
    /// Octets that had come when the deadline was set.
    counted: usize,
    /// When more has to have come.
    pub(crate) deadline: Millis,
}

/// What is known of a message before its payload comes.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) topic: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) grant: Arc<Grant>,
    pub(crate) manner: Manner,
    pub(crate) waits: bool,
    pub(crate) body: Body,
}

impl Posting {
    /// A message of which nothing has come, settings having changed so often.
    pub(crate) fn new(envelope: Envelope, from: (u16, IpAddr), changes: u32, timing: &Timing, now: Millis) -> Posting {
        let Envelope {
            topic,
            kind,
            grant,
            manner,
            waits,
            body,
        } = envelope;
        Posting {
            topic,
            kind,
            grant,
            changes,
            manner,
            waits,
            from,
            body,
            payload: Vec::new(),
            counted: 0,
            deadline: now + timing.message_timeout,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.body.is_done()
    }

    pub(crate) fn memory(&self) -> usize {
        self.payload.capacity()
    }

    /// Takes what belongs to it from the start of `bytes`, and gives how much that was. As a message of a WebSocket, it has
    /// [`Timing::message_timeout`] for each piece.
    ///
    /// # Errors
    /// The body cannot be read, or is too large.
    pub(crate) fn take(&mut self, bytes: &[u8], timing: &Timing, now: Millis) -> Result<usize, BodyError> {
        let count = self.body.read(bytes, &mut self.payload)?;
        if self.payload.len() - self.counted >= Timing::MESSAGE_PIECE {
            self.counted = self.payload.len();
            self.deadline = now + timing.message_timeout;
        }
        Ok(count)
    }

    /// The message, once it is complete.
    pub(crate) fn message(&self) -> Message<'_> {
        Message {
            topic: &self.topic,
            payload: &self.payload,
            kind: self.kind,
            key: None,
        }
    }

    /// Answers that it was published.
    pub(crate) fn confirm(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        json::published(&mut body, &self.topic);
        self.manner.respond(202, out).body(JSON, &body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_websocket::http::BodyLength;

    #[test]
    fn the_media_type_says_what_a_body_is() {
        for (media_type, kind) in [
            (Some("application/json"), Kind::Json),
            (Some("Application/JSON"), Kind::Json),
            (Some("application/cloudevents+json"), Kind::Json),
            (Some("text/plain"), Kind::Text),
            (Some("text/html"), Kind::Text),
            (Some("application/octet-stream"), Kind::Binary),
            (Some("application/x-www-form-urlencoded"), Kind::Binary),
            (Some("json"), Kind::Binary),
            (None, Kind::Binary),
        ] {
            assert_eq!(kind_of(media_type), kind, "{media_type:?}");
        }
    }

    #[test]
    fn every_code_has_its_status_and_says_when_to_come_again() {
        let answer = |code, stays| {
            let mut out = Vec::new();
            let manner = Manner {
                stays,
                ..Manner::default()
            };
            let text = "why".into();
            manner.refuse(&Refusal { code, text }, 7, &mut out);
            String::from_utf8(out).unwrap()
        };
        for &code in Code::ALL {
            let text = answer(code, true);
            let status = status_of(code);
            assert!(
                text.starts_with(&format!("HTTP/1.1 {status} ")) && status >= 400,
                "{text}"
            );
            assert!(
                text.ends_with(&format!(r#"{{"error":{{"code":"{code}","text":"why"}}}}"#)),
                "{text}"
            );
            assert_eq!(
                text.contains("Retry-After: 7\r\n"),
                [429, 503].contains(&status),
                "{text}"
            );
            assert_eq!(text.contains("WWW-Authenticate: Bearer\r\n"), status == 401, "{text}");
            assert!(!text.contains("close"));
        }
        assert!(answer(Code::Internal, false).contains("\r\nConnection: close\r\n"));
    }

    #[test]
    fn a_body_has_time_for_each_of_its_pieces() {
        let timing = Timing {
            message_timeout: Millis(1000),
            ..Timing::default()
        };
        let most = 3 * Timing::MESSAGE_PIECE;
        let envelope = Envelope {
            topic: "a".into(),
            kind: Kind::Binary,
            grant: Arc::new(Grant::everything()),
            manner: Manner::default(),
            waits: false,
            body: Body::new(BodyLength::Octets(most as u64), most).unwrap(),
        };
        let mut posting = Posting::new(envelope, (0, [192, 0, 2, 1].into()), 0, &timing, Millis(0));
        let piece = vec![0; Timing::MESSAGE_PIECE];
        for (now, bytes, deadline) in [
            (500, &piece[1..], 1000),
            (900, &piece[..1], 1900),
            (1000, &piece[..9], 1900),
            (1500, &piece[..], 2500),
        ] {
            assert_eq!(posting.take(bytes, &timing, Millis(now)), Ok(bytes.len()));
            assert_eq!(posting.deadline, Millis(deadline), "at {now}");
        }
        assert!(!posting.is_complete());
        assert_eq!(posting.take(&piece, &timing, Millis(1600)), Ok(piece.len() - 9));
        assert!(posting.is_complete());
    }
}
