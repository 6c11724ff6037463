//! The broker's protocol from the client's side, without I/O: what to say, what was answered, and when to come back.
//!
//! ```text
//!              hello                    lost, temporary
//!   Greeting --------> Open ------------------------------> Down(until)
//!      ^  |              |                                   |   ^
//!      |  +--------------|--- lost ------------------------- | --+ failed
//!      |                 | lost for good                     |
//!      |                 +-----------> Over <----------------+ failed for good
//!      +-------------------------- connected ----------------+
//! ```
//!
//! At most one command is awaited at a time: both faces take `&mut self`. So there is one place for an answer.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tidecast_wire::{Code, Command, Details, Kind, Payload, Reference, Reply, binary, json};

use crate::backoff::{Backoff, Reconnect};
use crate::error::{Error, Refusal};
use crate::event::{Delivery, Event, Hello, Publish};
use crate::link::Message;

/// The subprotocols to offer for a conversation: those of `options`, and JSON if none of them is the broker's own.
pub(crate) fn offers(protocols: &[String]) -> Vec<String> {
    let ours = [json::SUBPROTOCOL, binary::SUBPROTOCOL];
    let mut offers = protocols.to_vec();
    if !offers.iter().any(|name| ours.contains(&&**name)) {
        offers.insert(0, json::SUBPROTOCOL.to_owned());
    }
    offers
}

/// Where the conversation stands.
#[derive(Debug)]
enum Phase {
    /// Connected; `hello` has to come until then.
    Greeting(Instant),
    Open,
    /// Not connected before then.
    Down(Instant),
    /// Not connected any more.
    Over(Ended),
}

/// What ended the conversation. The error itself is told once, its like afterwards.
#[derive(Debug)]
struct Ended {
    error: Option<Error>,
    like: Error,
}

/// The answer to a command: the offset, where it has one.
pub(crate) type Answer = Result<Option<u64>, Error>;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send what [`Conversation::poll_send`] gives, then wait for a message, at most until then.
    Receive(Option<Instant>),
    /// Nothing until then.
    Wait(Instant),
    /// Connect.
    Connect,
}

/// What a command was about.
#[derive(Debug)]
enum Asked {
    Sub(String),
    /// The same after a reconnection: nobody waits for the answer.
    Resub(String),
    Unsub(String),
    Pub,
}

#[derive(Debug)]
pub(crate) struct Conversation {
    phase: Phase,
    /// Commands and replies are packets, not JSON.
    in_packets: bool,
    timeout: Duration,
    backoff: Option<Backoff>,
    hello: Option<Hello>,
    /// Confirmed filters, in the order they were confirmed.
    subscriptions: Vec<String>,
    next_reference: u64,
    /// Commands without an answer, by their `ref`.
    asked: HashMap<u64, Asked>,
    /// The `ref` that is waited for, and the answer once there is one.
    awaited: Option<(u64, Option<Answer>)>,
    /// The `bye` of this connection: close code and how long to stay away.
    bye: Option<(u16, Duration)>,
    out: VecDeque<Message>,
    events: VecDeque<Event>,
}

impl Conversation {
    /// For a connection that came up at `now`, with the subprotocol agreed on. Until [`Conversation::come_back`] it does
    /// not.
    pub(crate) fn new(timeout: Duration, protocol: Option<&str>, now: Instant) -> Conversation {
        Conversation {
            phase: Phase::Greeting(now + timeout),
            in_packets: protocol == Some(binary::SUBPROTOCOL),
            timeout,
            backoff: None,
            hello: None,
            subscriptions: Vec::new(),
            next_reference: 1,
            asked: HashMap::new(),
            awaited: None,
            bye: None,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// From now on comes back after a loss of the connection, which came up at `since`.
    pub(crate) fn come_back(&mut self, reconnect: Option<Reconnect>, since: Instant) {
        self.backoff = reconnect.map(|settings| Backoff::new(settings, since));
    }

    /// Whether commands can be given.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// What the broker said last of itself.
    pub(crate) fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    pub(crate) fn subscriptions(&self) -> &[String] {
        &self.subscriptions
    }

    /// A new connection came up.
    pub(crate) fn handle_connected(&mut self, protocol: Option<&str>, now: Instant) {
        self.in_packets = protocol == Some(binary::SUBPROTOCOL);
        self.phase = Phase::Greeting(now + self.timeout);
        if let Some(backoff) = &mut self.backoff {
            backoff.handle_connected(now);
        }
    }

    /// The connection was lost, or could not be had. `random` as for [`Backoff::handle_lost`].
    pub(crate) fn handle_lost(&mut self, error: Error, now: Instant, random: u32) {
        self.out.clear();
        self.asked.clear();
        if let Some((_, answer @ None)) = &mut self.awaited {
            *answer = Some(Err(error.again()));
        }
        let (code, at_least) = self.bye.take().unzip();
        // A stream that just ends after the `bye` says no more; the `bye` does.
        let temporary = match (&error, code) {
            (Error::Lost(_), Some(code)) => tidecast_wire::close::may_come_back(code),
            _ => error.is_temporary(),
        };
        let retry_at = self
            .backoff
            .as_mut()
            .filter(|_| temporary)
            .and_then(|backoff| backoff.handle_lost(now, at_least.unwrap_or_default(), random));
        match retry_at {
            Some(retry_at) => {
                self.phase = Phase::Down(retry_at);
                self.events.push_back(Event::Lost { error, retry_at });
            }
            None => {
                self.phase = Phase::Over(Ended {
                    like: error.again(),
                    error: Some(error),
                });
            }
        }
    }

    /// The time of [`Step::Receive`] has come, and no message with it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.phase {
            Phase::Greeting(until) if now >= until => Err(Error::TimedOut {
                what: "opened a WebSocket, but said no hello",
                timeout: self.timeout,
            }),
            _ => Ok(()),
        }
    }

    /// A message came.
    ///
    /// # Errors
    /// It is none of this protocol: the connection is of no use.
    pub(crate) fn handle_message(&mut self, message: &Message) -> Result<(), Error> {
        match message {
            Message::Text(text) if !self.in_packets => self.handle_parsed(json::parse_reply(text)),
            Message::Binary(packets) if self.in_packets => binary::Packets::new(packets)
                .try_for_each(|packet| self.handle_parsed(packet.and_then(|packet| binary::parse_reply(&packet)))),
            Message::Text(_) => Err(Error::Unreadable("a text message".to_owned())),
            Message::Binary(_) => Err(Error::Unreadable("a binary message".to_owned())),
        }
    }

    fn handle_parsed(&mut self, reply: Result<Reply<'_>, tidecast_wire::Error<'_>>) -> Result<(), Error> {
        match reply {
            Ok(Reply::Hello {
                session,
                max_message,
                ping_ms,
            }) => {
                self.handle_hello(Hello {
                    session: session.into_owned(),
                    max_message,
                    ping: Duration::from_millis(ping_ms),
                });
                Ok(())
            }
            Ok(other) if matches!(self.phase, Phase::Greeting(_)) => {
                Err(Error::Unreadable(format!("{other:?} instead of hello")))
            }
            Ok(reply) => {
                self.handle_reply(reply);
                Ok(())
            }
            // A newer broker may say things that this version need not understand.
            Err(error) if error.code == Code::UnknownVerb => Ok(()),
            Err(error) => Err(Error::Unreadable(error.to_string())),
        }
    }

    fn handle_hello(&mut self, hello: Hello) {
        let again = self.hello.replace(hello).is_some();
        self.phase = Phase::Open;
        if !again {
            return;
        }
        self.events.push_back(Event::Reconnected);
        for filter in self.subscriptions.clone() {
            let reference = self.ask(Asked::Resub(filter.clone()));
            self.say(&sub(&filter, reference));
        }
    }

    fn handle_reply(&mut self, reply: Reply<'_>) {
        match reply {
            Reply::Message { topic, payload, offset } => self.events.push_back(Event::Message(Delivery {
                topic: topic.into_owned(),
                payload: Payload {
                    kind: payload.kind,
                    bytes: Cow::Owned(payload.bytes.into_owned()),
                },
                offset,
            })),
            Reply::Ok { reference, details } => self.handle_ok(&reference, &details),
            Reply::Err { reference, code, text } => {
                let refusal = Refusal {
                    code: code.into_owned(),
                    text: text.into_owned(),
                };
                self.handle_err(reference.as_ref(), refusal);
            }
            Reply::Lag { filter, dropped } => self.events.push_back(Event::Lag {
                filter: filter.into_owned(),
                dropped,
            }),
            Reply::Bye { code, text, retry_ms } => {
                let retry = Duration::from_millis(retry_ms);
                self.bye = Some((code, retry));
                self.events.push_back(Event::Bye {
                    code,
                    text: text.into_owned(),
                    retry,
                });
            }
            Reply::Hello { .. } | Reply::Pong => {}
        }
    }

    fn handle_ok(&mut self, reference: &Reference<'_>, details: &Details<'_>) {
        let Some((number, asked)) = self.answered(reference) else {
            return;
        };
        match asked {
            Asked::Sub(filter) if !self.subscriptions.contains(&filter) => self.subscriptions.push(filter),
            Asked::Unsub(filter) => self.subscriptions.retain(|held| *held != filter),
            Asked::Sub(_) | Asked::Resub(_) | Asked::Pub => {}
        }
        self.answer(number, Ok(details.offset));
    }

    fn handle_err(&mut self, reference: Option<&Reference<'_>>, refusal: Refusal) {
        match reference.and_then(|reference| self.answered(reference)) {
            Some((_, Asked::Resub(filter))) => {
                self.subscriptions.retain(|held| *held != filter);
                self.events.push_back(Event::Unsubscribed { filter, refusal });
            }
            Some((number, _)) if self.awaits(number) => self.answer(number, Err(Error::Rejected(refusal))),
            _ => self.events.push_back(Event::Refused(refusal)),
        }
    }

    /// The command that was answered.
    fn answered(&mut self, reference: &Reference<'_>) -> Option<(u64, Asked)> {
        let number = reference.as_json().parse().ok()?;
        Some((number, self.asked.remove(&number)?))
    }

    fn awaits(&self, number: u64) -> bool {
        matches!(self.awaited, Some((awaited, None)) if awaited == number)
    }

    fn answer(&mut self, number: u64, answer: Answer) {
        if self.awaits(number) {
            self.awaited = Some((number, Some(answer)));
        }
    }

    /// Subscribes; [`Conversation::poll_answer`] gives the answer.
    pub(crate) fn subscribe(&mut self, filter: &str) {
        let reference = self.ask_and_await(Asked::Sub(filter.to_owned()));
        self.say(&sub(filter, reference));
    }

    /// Unsubscribes; [`Conversation::poll_answer`] gives the answer.
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let reference = self.ask_and_await(Asked::Unsub(filter.to_owned()));
        self.say(&Command::Unsub {
            filter: filter.into(),
            reference: Some(reference),
        });
    }

    /// Publishes; if `confirmed`, [`Conversation::poll_answer`] gives the answer.
    ///
    /// # Errors
    /// [`Error::Payload`]; then nothing is said.
    pub(crate) fn publish(&mut self, publish: &Publish<'_>, confirmed: bool) -> Result<(), Error> {
        let is_of_its_kind = match publish.kind {
            Kind::Json => json::is_valid(publish.payload),
            Kind::Text => std::str::from_utf8(publish.payload).is_ok(),
            Kind::Binary => true,
        };
        if !is_of_its_kind {
            let reason = format!("the payload is not of kind {}", publish.kind.as_str());
            return Err(Error::Payload(reason));
        }
        // Taken for good only once the size is known to be fine.
        let number = self.next_reference;
        let message = self.encode(&Command::Pub {
            topic: publish.topic.into(),
            payload: Payload {
                kind: publish.kind,
                bytes: publish.payload.into(),
            },
            reference: confirmed.then(|| Reference::number(number)),
            retain: publish.retain,
            echo: publish.echo,
            key: publish.key.map(Into::into),
            id: publish.id.map(Into::into),
        });
        let limit = self.hello.as_ref().map_or(u64::MAX, |hello| hello.max_message);
        let size = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(packet) => packet.len(),
        };
        if size as u64 > limit {
            return Err(Error::Payload(format!(
                "the message takes {size} bytes, and the broker takes at most {limit} (its --max-message)"
            )));
        }
        if confirmed {
            self.ask_and_await(Asked::Pub);
        }
        self.out.push_back(message);
        Ok(())
    }

    fn ask_and_await(&mut self, asked: Asked) -> Reference<'static> {
        // Whatever was awaited before was given up by whoever awaited it.
        self.awaited = Some((self.next_reference, None));
        self.ask(asked)
    }

    fn ask(&mut self, asked: Asked) -> Reference<'static> {
        let number = self.next_reference;
        self.next_reference += 1;
        self.asked.insert(number, asked);
        Reference::number(number)
    }

    fn say(&mut self, command: &Command<'_>) {
        let message = self.encode(command);
        self.out.push_back(message);
    }

    fn encode(&self, command: &Command<'_>) -> Message {
        let mut out = Vec::new();
        if self.in_packets {
            binary::command(&mut out, command);
            Message::Binary(out)
        } else {
            json::command(&mut out, command);
            Message::Text(String::from_utf8(out).expect("JSON is UTF-8"))
        }
    }

    /// The next message to send.
    pub(crate) fn poll_send(&mut self) -> Option<Message> {
        self.out.pop_front()
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The answer to the last command, once.
    pub(crate) fn poll_answer(&mut self) -> Option<Answer> {
        let (_, answer) = self.awaited.as_mut()?;
        let answer = answer.take()?;
        self.awaited = None;
        Some(answer)
    }

    /// What to do next.
    ///
    /// # Errors
    /// It is over.
    pub(crate) fn poll_step(&mut self, now: Instant) -> Result<Step, Error> {
        match &mut self.phase {
            Phase::Greeting(until) => Ok(Step::Receive(Some(*until))),
            Phase::Open => Ok(Step::Receive(None)),
            Phase::Down(until) if now < *until => Ok(Step::Wait(*until)),
            Phase::Down(_) => Ok(Step::Connect),
            Phase::Over(ended) => Err(ended.error.take().unwrap_or_else(|| ended.like.again())),
        }
    }
}

fn sub<'a>(filter: &'a str, reference: Reference<'a>) -> Command<'a> {
    Command::Sub {
        filter: filter.into(),
        reference: Some(reference),
        since: None,
        slow: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A conversation that was greeted, and comes back after a loss.
    fn open(now: Instant) -> Conversation {
        let mut conversation = Conversation::new(Duration::from_secs(1), None, now);
        hear(
            &mut conversation,
            r#"["hello",{"session":"s","max_message":99,"ping_ms":1}]"#,
        );
        conversation.come_back(Some(Reconnect::default()), now);
        conversation
    }

    fn hear(conversation: &mut Conversation, text: &str) {
        conversation.handle_message(&Message::Text(text.to_owned())).unwrap();
    }

    fn lost() -> Error {
        Error::Lost(std::io::ErrorKind::ConnectionReset.into())
    }

    #[test]
    fn a_bye_counts_even_if_its_close_does_not_come_any_more() {
        let now = Instant::now();
        let mut conversation = open(now);
        hear(&mut conversation, r#"["bye",4001,"draining",1730]"#);
        conversation.handle_lost(lost(), now, 0);
        let until = now + Duration::from_millis(1730);
        assert_eq!(conversation.poll_step(now).unwrap(), Step::Wait(until));
        assert_eq!(conversation.poll_step(until).unwrap(), Step::Connect);

        let mut conversation = open(now);
        hear(&mut conversation, r#"["bye",4100,"unauthorized",0]"#);
        conversation.handle_lost(lost(), now, 0);
        assert!(conversation.poll_step(now).is_err());
    }

    #[test]
    fn an_answer_nobody_waits_for_any_more_still_counts_and_is_not_taken_for_another() {
        let mut conversation = open(Instant::now());
        conversation.subscribe("given/up");
        conversation.subscribe("a");
        hear(&mut conversation, r#"["ok",1,{}]"#);
        assert!(conversation.poll_answer().is_none());
        hear(&mut conversation, r#"["ok",2,{}]"#);
        assert!(matches!(conversation.poll_answer(), Some(Ok(None))));
        assert!(conversation.poll_answer().is_none());
        assert_eq!(conversation.subscriptions(), ["given/up", "a"]);
    }

    #[test]
    fn what_a_newer_broker_says_is_passed_over_and_what_is_no_protocol_is_not() {
        let mut conversation = open(Instant::now());
        hear(&mut conversation, r#"["tomorrow",1]"#);
        for message in [Message::Text("{}".into()), Message::Binary(Vec::new())] {
            let error = conversation.handle_message(&message).unwrap_err();
            assert!(matches!(error, Error::Unreadable(_)), "{error}");
        }
        let mut unanswered = Conversation::new(Duration::ZERO, None, Instant::now());
        let early = Message::Text(r#"["pong"]"#.into());
        assert!(unanswered.handle_message(&early).is_err());
    }
}
