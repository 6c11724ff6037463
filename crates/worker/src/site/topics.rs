//! Plain HTTP on the address of a topic: publications, streams of events, and what pages ask before.

use std::borrow::Cow;
use std::sync::Arc;

use tidecast_broker::Target;
use tidecast_broker::auth::Grant;
use tidecast_broker::wire::{Code, close, events};
use tidecast_websocket::http::{Body, BodyLength, HttpError, Request, percent_decode};

use super::{Answer, Site};
use crate::asking::Asking;
use crate::authentication::{Denial, Held, Visitor};
use crate::cors::Cors;
use crate::posting::{Envelope, METHODS, Manner, kind_of};

/// The topic and the parameters of an address, decoded.
pub(super) struct Address<'b> {
    pub(super) topic: Cow<'b, str>,
    query: Vec<(Cow<'b, str>, Cow<'b, str>)>,
}

impl<'b> Address<'b> {
    /// Decodes the address of `request`, whose path ends with `topic`.
    ///
    /// # Errors
    /// It is not UTF-8 that is percent-encoded; this text says so.
    pub(super) fn decode(request: &Request<'b>, topic: &'b str) -> Result<Address<'b>, &'static str> {
        let decode = |text| {
            percent_decode(text)
                .ok_or("The address has a % that is not followed by two hexadecimal digits, or is not UTF-8.")
        };
        let pairs = request.query().map(|(name, value)| Ok((decode(name)?, decode(value)?)));
        let query: Result<_, &'static str> = pairs.collect();
        Ok(Address {
            topic: decode(topic)?,
            query: query?,
        })
    }

    pub(super) fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// Why a request is not served.
struct Unserved {
    status: u16,
    code: Code,
    text: Cow<'static, str>,
    /// As what it is counted.
    answer: Answer,
}

impl Unserved {
    fn new(status: u16, code: Code, text: impl Into<Cow<'static, str>>) -> Unserved {
        Unserved {
            status,
            code,
            text: text.into(),
            answer: Answer::Refused,
        }
    }
}

impl From<HttpError> for Unserved {
    fn from(error: HttpError) -> Unserved {
        Unserved::new(error.status(), Code::BadMessage, error.to_string())
    }
}

impl From<Denial> for Unserved {
    fn from(denial: Denial) -> Unserved {
        let (status, code) = if denial.code == close::FORBIDDEN {
            (403, Code::Forbidden)
        } else {
            (401, Code::Unauthorized)
        };
        Unserved {
            answer: Answer::Denied,
            ..Unserved::new(status, code, denial.text)
        }
    }
}

impl Site {
    /// Whether a request for a topic is one for plain HTTP, and not one that begins a WebSocket or should.
    pub(super) fn is_plain(request: &Request<'_>) -> bool {
        let wants_events = ["GET", "HEAD"].contains(&request.method()) && request.accepts(events::MEDIA_TYPE);
        !request.wants_websocket() && (wants_events || request.method() != "GET")
    }

    /// Answers such a request.
    pub(super) fn plain(
        &self,
        request: &Request<'_>,
        topic: &str,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
        out: &mut Vec<u8>,
    ) -> Answer {
        // Until it is known what to do with a body, the next request cannot be found behind it.
        let has_body = request.body_length() != Ok(BodyLength::NONE);
        let mut manner = Manner {
            stays: !visitor.leaves && request.keeps_alive() && !has_body,
            ..Manner::default()
        };
        let served = match Cors::judge(request, &visitor.door.origins) {
            Ok(cors) => {
                manner.cors = cors;
                match request.method() {
                    "OPTIONS" => {
                        let response = manner.respond(204, out).header("Allow", METHODS);
                        manner.cors.write_options(response, METHODS).end();
                        return Answer::Options { stays: manner.stays };
                    }
                    "POST" => self.publication(request, topic, &mut manner, visitor, asking),
                    "GET" | "HEAD" if request.accepts(events::MEDIA_TYPE) => {
                        self.events(request, topic, &mut manner, visitor, asking, out)
                    }
                    _ => {
                        let hint =
                            "publish with POST, or listen with GET and Accept: text/event-stream, or by WebSocket";
                        Err(Some(Unserved::new(405, Code::BadMessage, hint)))
                    }
                }
            }
            Err(text) => Err(Some(Unserved {
                answer: Answer::Foreign,
                ..Unserved::new(403, Code::Forbidden, text)
            })),
        };
        match served {
            Ok(answer) => answer,
            Err(None) => Answer::Waiting,
            Err(Some(unserved)) => {
                // As a refused handshake does, it ends the connection: who guesses has to come again for each guess.
                manner.stays = false;
                let Unserved {
                    status,
                    code,
                    text,
                    answer,
                } = unserved;
                manner.refuse_with(status, code, &text, 1, out);
                answer
            }
        }
    }

    /// Decides about a message before its payload has come. Without a reason why not, the hook has to be asked first.
    fn publication(
        &self,
        request: &Request<'_>,
        topic: &str,
        manner: &mut Manner,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
    ) -> Result<Answer, Option<Unserved>> {
        let unserved = |error: HttpError| Some(error.into());
        request.check_host().map_err(unserved)?;
        let length = request.body_length().map_err(unserved)?;
        let waits = request.expects_continue().map_err(unserved)?;
        let bad_topic = |text: String| Some(Unserved::new(400, Code::BadTopic, text));
        let address = Address::decode(request, topic).map_err(|text| bad_topic(text.to_owned()))?;
        let target = Target::publication(&address.topic, &self.topics).map_err(|error| bad_topic(error.to_string()))?;
        let grant = self.admitted(&target, request, visitor, asking)?;
        let most = target.max_payload(self.authentication.rules());
        let most = most.map_or(self.max_body, |most| most.min(self.max_body));
        let body = Body::new(length, most)
            .map_err(|error| Some(Unserved::new(error.status(), Code::TooLarge, error.to_string())))?;
        manner.stays = request.keeps_alive();
        Ok(Answer::Publish(Box::new(Envelope {
            topic: target.filter().as_str().into(),
            kind: kind_of(request.media_type()),
            grant,
            manner: std::mem::take(manner),
            waits: waits && !body.is_done(),
            body,
        })))
    }

    /// Decides about a stream of events, and begins it.
    fn events(
        &self,
        request: &Request<'_>,
        topic: &str,
        manner: &mut Manner,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
        out: &mut Vec<u8>,
    ) -> Result<Answer, Option<Unserved>> {
        let bad_message = |status, text| Some(Unserved::new(status, Code::BadMessage, text));
        request.check_host().map_err(|error| Some(error.into()))?;
        if request.body_length().map_err(|error| Some(error.into()))? != BodyLength::NONE {
            return Err(bad_message(400, "a request for events has no body"));
        }
        if request.minor_version() == 0 {
            return Err(bad_message(
                505,
                "events are sent in chunks, which HTTP/1.0 does not have: use HTTP/1.1",
            ));
        }
        let bad_topic = |text: String| Some(Unserved::new(400, Code::BadTopic, text));
        let address = Address::decode(request, topic).map_err(|text| bad_topic(text.to_owned()))?;
        let target = Target::subscription(&address.topic, address.parameters(), &self.topics)
            .map_err(|error| bad_topic(error.to_string()))?;
        let grant = self.admitted(&target, request, visitor, asking)?;
        let is_head = request.method() == "HEAD";
        manner.stays = is_head && manner.stays;
        manner
            .respond(200, out)
            .header("Content-Type", events::MEDIA_TYPE)
            .header("Cache-Control", "no-store")
            // What nginx would keep back until it has more is to be passed on at once.
            .header("X-Accel-Buffering", "no")
            .header("X-Content-Type-Options", "nosniff")
            .header("Transfer-Encoding", "chunked")
            .end();
        Ok(if is_head {
            Answer::Page { stays: manner.stays }
        } else {
            Answer::Events(target, grant)
        })
    }

    /// What a visitor may do that may do this.
    fn admitted(
        &self,
        target: &Target,
        request: &Request<'_>,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
    ) -> Result<Arc<Grant>, Option<Unserved>> {
        self.authentication
            .admit_to(target, request, None, visitor, asking)
            .map_err(|held| match held {
                Held::Denied(denial) => Some(denial.into()),
                Held::Wait => None,
            })
    }
}
