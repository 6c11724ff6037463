//! The broker of one worker.

mod inspect;
mod opening;
mod review;
mod rights;
mod step;
mod subscribing;

use std::hash::RandomState;
use std::sync::Arc;

use tidecast_auth::{Event, Grant};
use tidecast_wire::{Code, Command, Error, Kind, Payload, Reference, SlowPolicy, binary, close, json};

use crate::delivery::Delivery;
use crate::index::Index;
use crate::message::{Kept, Message, OwnedMessage, Pick};
use crate::permit::{Progress, Withheld};
use crate::routes::Routes;
use crate::rules::{BoundsId, Rules};
use crate::run::Run;
use crate::session::{Face, Session, SessionId};
use crate::shared::Shared;
use crate::shares::Shares;
use crate::slow::Slow;
use crate::tap::Taps;
use crate::top::Top;
use crate::workers::WorkerSet;
pub use inspect::{FilterPage, SessionSummary, Subscription};
use review::Review;
use rights::not_permitted;
pub use step::Refusal;
use step::Step;

/// Renditions there can be: the caller numbers the ways in which a message is put on the wire, from 0.
pub const RENDITIONS: usize = 24;

/// What a client may do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Topics and filters.
    pub topics: tidecast_router::Limits,
    /// Subscriptions of one connection.
    pub subscriptions: u32,
    /// Subscriptions of all connections, of all workers.
    pub all_subscriptions: usize,
    /// What is done with messages for a subscription that is behind and did not say.
    pub slow: SlowPolicy,
    /// The largest message in bytes, as told in `hello`; enforced below this crate, by the framing.
    pub message: usize,
    /// The interval of the server's pings in milliseconds, as told in `hello`.
    pub ping_ms: u64,
    /// What holds for some topics.
    pub rules: Arc<Rules>,
}

/// Whether a session may say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// It is within its rates.
    Within,
    /// It is beyond them, and is told so.
    Beyond,
    /// It was told often enough, and is closed.
    Spent,
}

/// What comes out of a [`Broker`].
pub trait Output {
    /// A message as one rendition puts it on the wire.
    type Encoded: Copy;

    /// Asked for each command of a session, or message of a raw one, of so many octets: whether it may.
    fn spend(&mut self, session: SessionId, octets: usize) -> Allowance;

    /// Sends a reply, one message, to one session.
    fn reply(&mut self, session: SessionId, payload: &[u8], text: bool);

    /// Puts `message` on the wire for all sessions of `rendition`. Called at most once per message and rendition.
    /// Where other workers get the message too, what is costly can be taken from `kept`, or left there for them. Without
    /// `compress` it is not compressed, whatever the rendition.
    fn encode(&mut self, rendition: u8, message: &Message<'_>, kept: Option<&Kept>, compress: bool) -> Self::Encoded;

    /// Two messages, or more of them, as one, if they can be sent as one: `later` was encoded for the same rendition after
    /// `earlier`.
    fn join(earlier: Self::Encoded, later: Self::Encoded) -> Option<Self::Encoded>;

    /// Sends what [`Output::encode`] gave for the session's rendition: one message or several that were joined, `whole`, of
    /// so many `messages`. `parts` are these one by one, each with what is to be done with it if the session is behind.
    /// `bounds` says how far behind it may be.
    fn deliver(
        &mut self,
        session: SessionId,
        whole: Self::Encoded,
        messages: u32,
        parts: impl Iterator<Item = (Self::Encoded, Slow)>,
        bounds: BoundsId,
    );

    /// Hands `message` to other workers. Never called with an empty set.
    fn forward(&mut self, workers: WorkerSet, message: Arc<OwnedMessage>);

    /// Hands `message` to one other worker, unless that has no room for it: nobody can be made to wait. Tells whether it
    /// did.
    fn try_forward(&mut self, worker: u16, message: Arc<OwnedMessage>) -> bool;

    /// Whether something that `grant` permits is done: publishing to `name`, or subscribing to it.
    ///
    /// # Errors
    /// It is not. After [`Withheld::Unknown`] the same command comes again, once there is another answer.
    fn permit(&mut self, session: SessionId, event: Event, name: &str, grant: &Grant) -> Result<(), Withheld>;

    /// Judges a token that a session presents.
    ///
    /// # Errors
    /// As [`Output::permit`]; why it is refused is for the client to read.
    fn authenticate(&mut self, session: SessionId, token: &str) -> Result<Arc<Grant>, Withheld>;

    /// Closes a session with a close code.
    fn close(&mut self, session: SessionId, code: u16, reason: &str);
}

/// What a broker has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages published by this worker's sessions.
    pub published: u64,
    /// Deliveries to this worker's sessions.
    pub delivered: u64,
    /// Messages taken over from other workers.
    pub forwarded: u64,
    /// Messages, published or taken over, that had subscribers among this worker's sessions.
    pub reached: u64,
    /// Messages for a group whose picked member had left, when nobody else of it could be reached.
    pub undelivered: u64,
    /// Commands answered with an `err`, and raw messages that closed their connection.
    pub refused: u64,
    /// Subscriptions at present.
    pub subscriptions: u64,
}

/// Sessions of one worker, what they subscribe to, and what their commands mean.
#[derive(Debug)]
pub struct Broker<E> {
    worker: u16,
    /// The time, on the caller's clock.
    now: u64,
    limits: Limits,
    shared: Arc<Shared>,
    sessions: Vec<Session>,
    index: Index,
    shares: Shares,
    /// What these may take, in octets.
    most_memory: usize,
    routes: Routes,
    /// The limits that hold as a rule, by the present rules.
    usual: BoundsId,
    /// What is left to be done about sessions since rules or rights have changed.
    review: Option<Review>,
    /// Sessions of this worker that were picked from the groups of the message at hand.
    picked: Vec<SessionId>,
    /// Members of other workers, likewise.
    picks: Vec<Pick>,
    /// What was published last, if it goes to one list and has not been handed to its sessions.
    run: Run<E>,
    stats: Stats,
    top: Top,
    taps: Taps,
    mark: u32,
    /// Makes of topic and key what a message replaces.
    keys: RandomState,
    scratch: Vec<u8>,
    /// Replies to the packets of the message at hand, to go out as one message.
    batch: Vec<u8>,
    batching: bool,
}

impl<E: Copy> Broker<E> {
    /// The broker of worker number `worker`, which is below [`WorkerSet::MAX`].
    pub fn new(worker: u16, limits: Limits, shared: Arc<Shared>) -> Broker<E> {
        assert!(
            usize::from(worker) < WorkerSet::MAX,
            "worker {worker} of at most {}",
            WorkerSet::MAX
        );
        Broker {
            worker,
            now: 0,
            limits,
            shared,
            sessions: Vec::new(),
            index: Index::default(),
            shares: Shares::default(),
            most_memory: usize::MAX,
            picked: Vec::new(),
            picks: Vec::new(),
            run: Run::default(),
            routes: Routes::default(),
            usual: BoundsId::default(),
            review: None,
            stats: Stats::default(),
            top: Top::default(),
            taps: Taps::default(),
            mark: 0,
            keys: RandomState::new(),
            scratch: Vec::new(),
            batch: Vec::new(),
            batching: false,
        }
    }

    /// What it has done.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// It is `now`, on a clock that all workers share: what is published from now on is stamped with it.
    pub fn set_now(&mut self, now: u64) {
        self.now = now;
        self.top.begin_turn();
    }

    /// By which limits sessions are measured as a rule, now and until the rules change.
    pub fn usual_bounds(&self) -> BoundsId {
        self.usual
    }

    /// There are to be places for so many sessions without moving any.
    pub fn reserve(&mut self, places: usize) {
        self.sessions.reserve(places);
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Octets that subscriptions take, those in the router of all workers included.
    pub fn memory(&self) -> usize {
        self.index.memory() + self.shares.memory()
    }

    /// From now on subscriptions may take `most` octets. Those that there are stay.
    pub fn set_most_memory(&mut self, most: usize) {
        self.most_memory = most;
    }

    /// How a session speaks; a connection that was never opened here, or is not any more, says nothing that counts.
    fn face(&self, id: SessionId) -> &Face {
        self.sessions
            .get(id.index())
            .map_or(&Face::Closed, |session| &session.face)
    }

    /// A text message from a session, one command or payload. `text` is valid UTF-8, which the framing has checked.
    pub fn handle_text(&mut self, id: SessionId, text: &str, out: &mut impl Output<Encoded = E>) -> Progress {
        match self.face(id) {
            Face::Json => self.handle_command(id, json::parse(text), text.len(), out).into(),
            Face::Packets => {
                let hint = "tidecast.bin.v1 is spoken in binary messages; this one was text";
                self.handle_command(id, Err(bad_message(hint)), text.len(), out).into()
            }
            Face::Raw(raw) => {
                let kind = raw.text_kind;
                if kind == Kind::Json && !json::is_valid(text.as_bytes()) {
                    self.fail(
                        id,
                        "a text message of a kind=json connection has to be one JSON value",
                        out,
                    );
                    return Progress::Done;
                }
                self.publish_raw(id, text.as_bytes(), kind, out)
            }
            Face::Closed => Progress::Done,
        }
    }

    /// A binary message from a session.
    pub fn handle_binary(&mut self, id: SessionId, payload: &[u8], out: &mut impl Output<Encoded = E>) -> Progress {
        match self.face(id) {
            Face::Json => {
                let hint = "tidecast.json.v1 is spoken in text messages; this one was binary";
                self.handle_command(id, Err(bad_message(hint)), payload.len(), out)
                    .into()
            }
            Face::Packets => self.handle_packets(id, payload, out),
            Face::Raw(_) => self.publish_raw(id, payload, Kind::Binary, out),
            Face::Closed => Progress::Done,
        }
    }

    /// Delivers a message that another worker forwarded.
    pub fn handle_forwarded(&mut self, owned: &OwnedMessage, out: &mut impl Output<Encoded = E>) {
        self.stats.forwarded += 1;
        self.picked.clear();
        let mine = |pick: &&Pick| pick.member.of_worker() == self.worker;
        for pick in owned.picks().iter().filter(mine) {
            if self.shares.is_member(pick.member) {
                self.picked.push(pick.member.session());
            } else {
                // It left while the message was on its way here. Somebody of its group still gets it.
                self.stats.undelivered += u64::from(!pick_again(self.worker, pick, owned, &mut self.picked, out));
            }
        }
        let message = owned.as_message();
        let Limits { topics, rules, .. } = &self.limits;
        let route = self
            .routes
            .resolve(message.topic, topics, rules, &self.shared.router, self.worker);
        // The worker that forwarded it has checked the topic by the same limits.
        let Ok(route) = route else { return };
        let lists = if owned.is_for_lists() { &route.lists[..] } else { &[] };
        let delivery = Delivery {
            message: &message,
            kept: Some(owned.kept()),
            lists,
            picked: &self.picked,
            usual: self.usual,
            except: None,
            keys: &self.keys,
            compress: rules.get(route.rule).is_none_or(|rule| rule.compress),
        };
        self.stats.reached += u64::from(delivery.reaches_anybody());
        self.stats.delivered += delivery.deliver(&mut self.run, &self.index, &mut self.sessions, &mut self.mark, out);
    }

    /// Hands what was published to those of its sessions that have not been handed it: the last messages, as long as one
    /// list gets them all, are kept back to be handed over together. To be called before what the output has is sent.
    pub fn settle(&mut self, out: &mut impl Output<Encoded = E>) {
        self.stats.delivered += self.run.deliver(&self.index, out);
    }

    /// Whether there is anything to [settle](Broker::settle).
    pub fn is_settled(&self) -> bool {
        self.run.is_empty()
    }

    /// Says `bye` to a session that has words for it; the caller closes it afterwards.
    pub fn say_bye(&mut self, id: SessionId, code: u16, text: &str, retry_ms: u64, out: &mut impl Output<Encoded = E>) {
        if id.index() < self.sessions.len() {
            self.say(
                id,
                out,
                |out| json::bye(out, code, text, retry_ms),
                |out| binary::bye(out, code, text, retry_ms),
            );
        }
    }

    /// Sends a reply in the words of a session that has any. Those of packets are collected while a message of them is
    /// handled.
    fn say(
        &mut self,
        id: SessionId,
        out: &mut impl Output<Encoded = E>,
        in_json: impl FnOnce(&mut Vec<u8>),
        in_packets: impl FnOnce(&mut Vec<u8>),
    ) {
        // It hears what it was to receive before in the order in which that came about.
        if let Some(list) = self.run.list()
            && self.index.membership(&self.sessions[id.index()], list).is_some()
        {
            self.settle(out);
        }
        match self.sessions[id.index()].face {
            Face::Json => {
                self.scratch.clear();
                in_json(&mut self.scratch);
                out.reply(id, &self.scratch, true);
            }
            Face::Packets => {
                in_packets(&mut self.batch);
                if !self.batching {
                    self.end_batch(id, out);
                }
            }
            Face::Raw(_) | Face::Closed => {}
        }
    }

    /// Sends what was collected.
    fn end_batch(&mut self, id: SessionId, out: &mut impl Output<Encoded = E>) {
        if !self.batch.is_empty() {
            out.reply(id, &self.batch, false);
            self.batch.clear();
        }
    }

    /// Handles the packets of one message. Their replies go out as one message, but not later than a delivery that a
    /// packet behind them may bring.
    fn handle_packets(&mut self, id: SessionId, message: &[u8], out: &mut impl Output<Encoded = E>) -> Progress {
        self.batching = true;
        let mut packets = binary::Packets::new(message);
        let mut progress = Progress::Done;
        loop {
            let at = message.len() - packets.rest().len();
            let Some(packet) = packets.next() else { break };
            let octets = packet.as_ref().map_or(message.len(), binary::Packet::octets);
            let result = packet.and_then(|packet| binary::parse(&packet));
            if let Ok(Command::Pub { .. }) = result {
                self.end_batch(id, out);
            }
            let step = self.handle_command(id, result, octets, out);
            if step == Step::Wait {
                progress = Progress::WaitsAt(at);
            }
            if step != Step::Next {
                break;
            }
        }
        self.batching = false;
        self.end_batch(id, out);
        progress
    }

    fn handle_command(
        &mut self,
        id: SessionId,
        command: Result<Command<'_>, Error<'_>>,
        octets: usize,
        out: &mut impl Output<Encoded = E>,
    ) -> Step {
        let result = match (out.spend(id, octets), command) {
            (Allowance::Within, Ok(command)) => {
                let reference = command.reference().cloned();
                self.apply(id, command, out).map_err(|refusal| (reference, refusal))
            }
            (Allowance::Within, Err(Error { code, reference, text })) => Err((reference, Refusal { code, text })),
            (Allowance::Beyond, command) => {
                let reference = match command {
                    Ok(command) => command.reference().cloned(),
                    Err(error) => error.reference,
                };
                Err((reference, Refusal::new(Code::RateLimited, TOO_FAST)))
            }
            (Allowance::Spent, _) => {
                self.stats.refused += 1;
                out.close(id, close::RATE_LIMITED, TOO_FAST);
                return Step::End;
            }
        };
        result.unwrap_or_else(|(reference, refusal)| {
            self.refuse(id, reference.as_ref(), &refusal, out);
            Step::Next
        })
    }

    fn apply(
        &mut self,
        id: SessionId,
        command: Command<'_>,
        out: &mut impl Output<Encoded = E>,
    ) -> Result<Step, Refusal> {
        let unsupported = |what: &str| {
            Err(Refusal::new(
                Code::BadMessage,
                format!("{what} is not available in this version of tidecast; leave it out"),
            ))
        };
        match command {
            Command::Sub { since: Some(_), .. } => unsupported("the option since"),
            Command::Sub {
                filter,
                reference,
                slow,
                ..
            } => {
                let step = self.subscribe(id, &filter, slow, out)?;
                if step == Step::Next {
                    self.confirm(id, reference.as_ref(), out);
                }
                Ok(step)
            }
            Command::Unsub { filter, reference } => {
                self.unsubscribe(id, &filter, out)?;
                self.confirm(id, reference.as_ref(), out);
                Ok(Step::Next)
            }
            Command::Pub { retain: true, .. } => unsupported("the option retain"),
            Command::Pub { id: Some(_), .. } => unsupported("the option id"),
            Command::Pub {
                topic,
                payload: Payload { kind, bytes },
                reference,
                echo,
                key,
                ..
            } => {
                let message = Message {
                    topic: &topic,
                    payload: &bytes,
                    kind,
                    key: key.as_deref(),
                };
                let step = self.publish(&message, Publisher::Session { id, echo }, out)?;
                if step == Step::Next {
                    self.confirm(id, reference.as_ref(), out);
                }
                Ok(step)
            }
            Command::Auth { token, reference } => {
                match out.authenticate(id, &token) {
                    Ok(grant) => {
                        self.sessions[id.index()].refused_tokens = 0;
                        self.set_grant(id, grant, out);
                    }
                    Err(withheld) => {
                        // Who is held back by a limit has shown a good one.
                        if let Withheld::Refused(_) = withheld {
                            self.count_refused_token(id, out);
                        }
                        return Step::withheld(withheld, Code::Unauthorized);
                    }
                }
                self.confirm(id, reference.as_ref(), out);
                Ok(Step::Next)
            }
            Command::Ping => {
                self.say(id, out, json::pong, binary::pong);
                Ok(Step::Next)
            }
        }
    }

    /// Says how many messages of a subscription were dropped, `list` being that of their [`Slow`], to a session that has
    /// words for it and still subscribes.
    pub fn say_lag(&mut self, id: SessionId, list: u32, dropped: u64, out: &mut impl Output<Encoded = E>) {
        let session = &self.sessions[id.index()];
        if self.index.membership(session, list).is_none() {
            return;
        }
        if let Some(filter) = self.index.filter(list, self.shared.directory(self.worker)) {
            let filter = filter.as_str();
            self.say(
                id,
                out,
                |out| json::lag(out, filter, dropped),
                |out| binary::lag(out, filter, dropped),
            );
        }
    }

    fn publish_raw(
        &mut self,
        id: SessionId,
        payload: &[u8],
        kind: Kind,
        out: &mut impl Output<Encoded = E>,
    ) -> Progress {
        // It has no words for a refusal but the close reason.
        if out.spend(id, payload.len()) != Allowance::Within {
            self.stats.refused += 1;
            out.close(id, close::RATE_LIMITED, TOO_FAST);
            return Progress::Done;
        }
        let session = &mut self.sessions[id.index()];
        // Taken out so that the topic can be read while everything else changes.
        let Face::Raw(raw) = std::mem::take(&mut session.face) else {
            return Progress::Done;
        };
        let result = match &raw.publish {
            Ok(topic) => {
                let message = Message {
                    topic,
                    payload,
                    kind,
                    key: None,
                };
                let echo = raw.echo;
                self.publish(&message, Publisher::Session { id, echo }, out)
            }
            Err(reason) => Err(Refusal::new(Code::BadMessage, *reason)),
        };
        self.sessions[id.index()].face = Face::Raw(raw);
        let step = result.unwrap_or_else(|refusal| {
            self.stats.refused += 1;
            let code = match refusal.code {
                Code::Forbidden => close::FORBIDDEN,
                Code::Unauthorized => close::UNAUTHORIZED,
                _ => close::BAD_REQUEST,
            };
            out.close(id, code, &refusal.text);
            Step::Next
        });
        step.into()
    }

    /// Publishes what an operator wants published, who is not asked for any rights.
    ///
    /// # Errors
    /// It cannot be: why, and what to do about it.
    pub fn publish_for_operator(
        &mut self,
        message: &Message<'_>,
        out: &mut impl Output<Encoded = E>,
    ) -> Result<(), Refusal> {
        self.publish(message, Publisher::Operator, out).map(drop)
    }

    /// Publishes the body of an HTTP request of connection `id`, which comes with `grant` and has no session.
    ///
    /// # Errors
    /// It cannot be published: why, and what to do about it.
    pub fn publish_for_request(
        &mut self,
        id: SessionId,
        grant: &Grant,
        message: &Message<'_>,
        out: &mut impl Output<Encoded = E>,
    ) -> Result<Progress, Refusal> {
        let is_what_it_says = || match message.kind {
            Kind::Json if !json::is_valid(message.payload) => {
                Err("the body has to be one JSON value, in UTF-8, as its Content-Type says")
            }
            Kind::Text if std::str::from_utf8(message.payload).is_err() => {
                Err("the body has to be UTF-8: a text can be published in no other encoding")
            }
            _ => Ok(()),
        };
        let published = match out.spend(id, message.payload.len()) {
            Allowance::Within => is_what_it_says()
                .map_err(|text| Refusal::new(Code::BadMessage, text))
                .and_then(|()| self.publish(message, Publisher::Request { id, grant }, out)),
            Allowance::Beyond | Allowance::Spent => Err(Refusal::new(Code::RateLimited, TOO_FAST)),
        };
        self.stats.refused += u64::from(published.is_err());
        published.map(Progress::from)
    }

    /// Publishes to all workers' subscribers.
    fn publish(
        &mut self,
        message: &Message<'_>,
        by: Publisher<'_>,
        out: &mut impl Output<Encoded = E>,
    ) -> Result<Step, Refusal> {
        if message.topic.starts_with('$') && is_reserved(message.topic) {
            let text = "topics below $SYS belong to the broker and $share is no topic: publish to another one";
            return Err(Refusal::new(Code::Forbidden, text));
        }
        let Limits { topics, rules, .. } = &self.limits;
        let route = self
            .routes
            .resolve(message.topic, topics, rules, &self.shared.router, self.worker)
            .map_err(|error| Refusal::topic(message.topic, error))?;
        let rule = rules.get(route.rule);
        let client = match by {
            Publisher::Session { id, .. } => {
                let grant = self.sessions[id.index()].grant.as_deref();
                Some((id, grant.expect("only open sessions command")))
            }
            Publisher::Request { id, grant } => Some((id, grant)),
            Publisher::Operator => None,
        };
        if let Some((_, grant)) = client
            && !rules.permit_publish(route.rule, message.topic, topics, grant)
        {
            return Err(not_permitted(grant, "publish to", message.topic));
        }
        if let Some(most) = rule.and_then(|rule| rule.max_payload)
            && message.payload.len() > most
        {
            let text = format!(
                "payloads for {:?} may have {most} bytes, this one has {}",
                message.topic,
                message.payload.len()
            );
            return Err(Refusal::new(Code::TooLarge, text));
        }
        if let Some((id, grant)) = client
            && let Err(withheld) = out.permit(id, Event::Publish, message.topic, grant)
        {
            return Step::withheld(withheld, Code::Forbidden);
        }
        self.stats.published += 1;
        self.top.count(message.topic, message.payload.len());
        self.taps.show(message, topics);
        let mut others = route.workers.without(self.worker);
        if others.is_empty() && route.lists.is_empty() && route.groups.is_empty() {
            return Ok(Step::Next);
        }
        self.picked.clear();
        for &(ref group, key) in &route.groups {
            // Also `except` itself may be picked: the group gets each message, whoever publishes it.
            let Some(member) = group.pick(key) else { continue };
            if member.of_worker() == self.worker {
                self.picked.push(member.session());
            } else {
                others.insert(member.of_worker());
                let group = group.clone();
                self.picks.push(Pick { member, group, key });
            }
        }
        let shared = (!others.is_empty()).then(|| {
            let picks = std::mem::take(&mut self.picks);
            Arc::new(message.to_owned().with_picks(picks).published_at(self.now))
        });
        if let Some(shared) = &shared {
            out.forward(others, Arc::clone(shared));
        }
        let delivery = Delivery {
            message,
            kept: shared.as_deref().map(OwnedMessage::kept),
            lists: &route.lists,
            picked: &self.picked,
            usual: self.usual,
            except: by.excepts(),
            keys: &self.keys,
            compress: rule.is_none_or(|rule| rule.compress),
        };
        self.stats.reached += u64::from(delivery.reaches_anybody());
        self.stats.delivered += delivery.deliver(&mut self.run, &self.index, &mut self.sessions, &mut self.mark, out);
        Ok(Step::Next)
    }

    fn confirm(&mut self, id: SessionId, reference: Option<&Reference<'_>>, out: &mut impl Output<Encoded = E>) {
        if let Some(reference) = reference {
            self.say(
                id,
                out,
                |out| json::ok(out, reference, None),
                |out| binary::ok(out, reference, None),
            );
        }
    }

    fn refuse(
        &mut self,
        id: SessionId,
        reference: Option<&Reference<'_>>,
        refusal: &Refusal,
        out: &mut impl Output<Encoded = E>,
    ) {
        self.stats.refused += 1;
        let Refusal { code, text } = refusal;
        self.say(
            id,
            out,
            |out| json::err(out, reference, *code, text),
            |out| binary::err(out, reference, *code, text),
        );
    }

    /// Ends a raw session, which has no words for an error but the close reason.
    fn fail(&mut self, id: SessionId, reason: &str, out: &mut impl Output<Encoded = E>) {
        self.stats.refused += 1;
        out.close(id, close::BAD_REQUEST, reason);
    }

    /// Checks what has to hold between calls.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.index.check(&self.sessions, self.shared.directory(self.worker));
    }
}

/// Who publishes.
#[derive(Clone, Copy, Debug)]
enum Publisher<'a> {
    /// A session, which gets its own message back only with `echo`.
    Session { id: SessionId, echo: bool },
    /// An HTTP request of a connection.
    Request { id: SessionId, grant: &'a Grant },
    /// An operator.
    Operator,
}

impl Publisher<'_> {
    /// Who does not get the message.
    fn excepts(self) -> Option<SessionId> {
        match self {
            Publisher::Session { id, echo: false } => Some(id),
            Publisher::Session { .. } | Publisher::Request { .. } | Publisher::Operator => None,
        }
    }
}

fn bad_message(hint: &'static str) -> Error<'static> {
    Error {
        code: Code::BadMessage,
        reference: None,
        text: hint.into(),
    }
}

/// What is said to a client beyond its rates.
const TOO_FAST: &str = "this connection says more than it may: slow down";

/// Topics that clients may not publish to.
fn is_reserved(topic: &str) -> bool {
    matches!(topic.split('/').next(), Some("$SYS" | "$share"))
}

/// Finds somebody else of the group for a message whose pick has left: one of this worker, or of another one, which is
/// handed the message for it alone. Gives false if there is nobody, or no way to reach them.
fn pick_again(
    worker: u16,
    pick: &Pick,
    message: &OwnedMessage,
    picked: &mut Vec<SessionId>,
    out: &mut impl Output,
) -> bool {
    // Of this worker only members are left in the group: whoever leaves does so before it is picked here.
    let Some(member) = pick.group.pick(pick.key) else {
        return false;
    };
    if member.of_worker() == worker {
        picked.push(member.session());
        return true;
    }
    let pick = Pick { member, ..pick.clone() };
    let alone = message.as_message().to_owned().for_picks_only();
    let alone = alone.with_picks(vec![pick]).published_at(message.published());
    out.try_forward(member.of_worker(), Arc::new(alone))
}

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;
