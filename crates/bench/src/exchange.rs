//! One thread's connections on its ring: bytes out, deliveries in.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use tidecast_driver::{Completion, Op, Ring, Token, Wait};
use tidecast_websocket::{Event, InflatePool, Input, Millis, State};
use tidecast_wire::{Code, Command, Reference, Reply, json};

use crate::clock::Clock;
use crate::error::Error;
use crate::peer::{Answer, Peer, Stage, Target};
use crate::plan::{Plan, Protocol, Role};
use crate::recall::Recall;
use crate::tally::Tally;

/// Errors that are told one by one; of more of the same kind the number is enough.
const TOLD: usize = 10;

/// Buffers a receive takes that has waited for some: what had come meanwhile fills several.
const BUFFERS_EACH: u16 = 8;

/// The receive buffers are all filled: the receive has to be started again.
const ENOBUFS: i32 = 105;
/// The socket has no room.
const EAGAIN: i32 = 11;

/// The connections of one thread, by slot of its ring.
pub(crate) struct Exchange<'a> {
    plan: &'a Plan,
    clock: Clock,
    pub(crate) ring: Ring,
    pub(crate) peers: Vec<Peer>,
    pub(crate) tally: Tally,
    subscribe_to: Target<'a>,
    publish_to: Target<'a>,
    /// Slots with something to send and room to send it.
    listed: Vec<u32>,
    /// Slots whose receive ended for want of buffers, the longest waiting first.
    starved: VecDeque<u32>,
    completions: Vec<Completion>,
    /// Connections that can be used, or could once.
    pub(crate) opened: usize,
    /// Connections that ended.
    pub(crate) gone: usize,
    /// Messages at subscribers that are not of this run.
    pub(crate) foreign: u64,
    errors: Vec<String>,
    untold: usize,
    inflaters: InflatePool,
    recall: Recall,
}

/// What a message that is no delivery of the run means.
enum Said {
    Nothing,
    Foreign,
    Subscribed,
    Refused(String),
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        clock: Clock,
        ring: Ring,
        tally: Tally,
        subscribe_to: Target<'a>,
        publish_to: Target<'a>,
    ) -> Self {
        Exchange {
            plan,
            clock,
            ring,
            peers: Vec::new(),
            tally,
            subscribe_to,
            publish_to,
            listed: Vec::new(),
            starved: VecDeque::new(),
            completions: Vec::new(),
            opened: 0,
            gone: 0,
            foreign: 0,
            errors: Vec::new(),
            untold: 0,
            // The broker's messages need none of what came before, but a stream keeps its inflater.
            inflaters: InflatePool::new(usize::MAX, 16),
            recall: Recall::default(),
        }
    }

    pub(crate) fn target(&self, role: Role) -> &Target<'a> {
        match role {
            Role::Subscriber => &self.subscribe_to,
            Role::Publisher => &self.publish_to,
        }
    }

    /// Whether something went wrong since the run began.
    pub(crate) fn has_failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// What was received, and what went wrong, a line each.
    pub(crate) fn into_parts(mut self) -> (Tally, Vec<String>) {
        if self.untold > 0 {
            self.errors.push(format!("and {} more of the kind", self.untold));
        }
        (self.tally, self.errors)
    }

    /// Takes note of something that went wrong.
    pub(crate) fn error(&mut self, what: String) {
        if self.errors.len() < TOLD {
            self.errors.push(what);
        } else {
            self.untold += 1;
        }
    }

    /// Takes a connected socket and sends the request for a WebSocket. Returns its slot.
    pub(crate) fn add(&mut self, role: Role, number: usize, socket: TcpStream) -> Result<u32, Error> {
        let now = millis(self.clock.now());
        let target = self.target(role);
        let key = tidecast_client::handshake_key().map_err(|error| Error::Random(error.to_string()))?;
        let peer = Peer::open(role, number, &target.handshake(key), now)
            .map_err(|error| self.unopened(role, error.to_string()))?;
        let slot = self.ring.install(OwnedFd::from(socket)).map_err(Error::Ring)?;
        debug_assert_eq!(
            slot as usize,
            self.peers.len(),
            "the ring gives slots in ascending order"
        );
        self.peers.push(peer);
        self.ring
            .receive(Token::new(Op::Receive, slot, 0))
            .map_err(Error::Ring)?;
        self.list(slot);
        Ok(slot)
    }

    /// Has the output of a connection sent by the next turn.
    pub(crate) fn list(&mut self, slot: u32) {
        let out = &mut self.peers[slot as usize].out;
        if !out.is_empty() && !out.blocked && !out.listed {
            out.listed = true;
            self.listed.push(slot);
        }
    }

    /// Starts the closing handshake of every connection that is open.
    pub(crate) fn close_all(&mut self) {
        let now = millis(self.clock.now());
        for slot in 0..self.peers.len() as u32 {
            let peer = &mut self.peers[slot as usize];
            if matches!(peer.stage, Stage::Open | Stage::Subscribing) {
                peer.close(now);
                self.list(slot);
            }
        }
    }

    /// Sends what is listed, and takes in what has come.
    ///
    /// # Errors
    /// The ring failed, or a connection could not be opened.
    pub(crate) fn turn(&mut self, wait: Wait) -> Result<(), Error> {
        self.feed()?;
        // Those still starved cannot wake the thread.
        let wait = if self.starved.is_empty() { wait } else { Wait::No };
        let Self {
            ring,
            peers,
            listed,
            completions,
            ..
        } = self;
        let sends = listed
            .iter()
            .map(|&slot| (Token::new(Op::Send, slot, 0), peers[slot as usize].out.rest()));
        ring.turn(sends, wait, completions).map_err(Error::Ring)?;
        let mut completions = std::mem::take(&mut self.completions);
        let outcome = self.settle(&completions).and_then(|()| {
            completions
                .drain(..)
                .try_for_each(|completion| self.complete(completion))
        });
        self.completions = completions;
        outcome
    }

    /// Starts receives again that ended for want of buffers: as many as the buffers are likely to do for. All at once would
    /// only fail again, for a system call's worth of work each.
    fn feed(&mut self) -> Result<(), Error> {
        let (_, buffers) = self.ring.buffers_in_use();
        let portion = self.starved.len().min(usize::from(buffers / BUFFERS_EACH));
        for slot in self.starved.drain(..portion) {
            if self.peers[slot as usize].stage != Stage::Gone {
                let token = Token::new(Op::Receive, slot, 0);
                self.ring.receive(token).map_err(Error::Ring)?;
            }
        }
        Ok(())
    }

    /// Notes what became of the sends: those not reported went out whole.
    fn settle(&mut self, completions: &[Completion]) -> Result<(), Error> {
        if self.listed.is_empty() {
            return Ok(());
        }
        for completion in completions {
            if completion.token.op() != Op::Send {
                continue;
            }
            let slot = completion.token.slot();
            let out = &mut self.peers[slot as usize].out;
            out.listed = false;
            match completion.error() {
                None => out.advance(completion.result as usize),
                Some(EAGAIN) => {}
                Some(errno) => {
                    self.lose(slot, &std::io::Error::from_raw_os_error(errno).to_string())?;
                    continue;
                }
            }
            let out = &mut self.peers[slot as usize].out;
            if !out.is_empty() {
                out.blocked = true;
                self.ring
                    .writable(Token::new(Op::Writable, slot, 0))
                    .map_err(Error::Ring)?;
            }
        }
        let Self { listed, peers, .. } = self;
        for slot in listed.drain(..) {
            let out = &mut peers[slot as usize].out;
            if std::mem::take(&mut out.listed) {
                out.advance(out.rest().len());
            }
        }
        Ok(())
    }

    fn complete(&mut self, completion: Completion) -> Result<(), Error> {
        let Completion {
            token,
            result,
            data,
            more,
        } = completion;
        let slot = token.slot();
        match token.op() {
            Op::Receive => {
                match (data, result) {
                    (Some(mut bytes), 1..) => self.receive(slot, &mut bytes)?,
                    (_, 0) => self.end(slot)?,
                    (_, error) if -error == ENOBUFS => {
                        self.starved.push_back(slot);
                        return Ok(());
                    }
                    (_, error) => {
                        let error = std::io::Error::from_raw_os_error(-error);
                        self.lose(slot, &error.to_string())?;
                    }
                }
                let peer = &self.peers[slot as usize];
                if !more && peer.stage != Stage::Gone {
                    self.ring.receive(token).map_err(Error::Ring)?;
                } else if !more && peer.out.is_empty() {
                    self.ring.close(token.with(Op::Close)).map_err(Error::Ring)?;
                }
            }
            Op::Writable => {
                self.peers[slot as usize].out.blocked = false;
                self.list(slot);
            }
            // Sends are settled already; a wake-up has done its work by ending the sleep; nothing else is asked for.
            Op::Send | Op::Wake | Op::Accept | Op::Cancel | Op::Shutdown | Op::Close => {}
        }
        Ok(())
    }

    fn receive(&mut self, slot: u32, bytes: &mut [u8]) -> Result<(), Error> {
        let now = self.clock.now();
        if self.peers[slot as usize].stage != Stage::Opening {
            return self.frames(slot, bytes, now);
        }
        let Self {
            peers,
            subscribe_to,
            publish_to,
            ..
        } = self;
        let peer = &mut peers[slot as usize];
        let target = match peer.role {
            Role::Subscriber => subscribe_to,
            Role::Publisher => publish_to,
        };
        match peer.answer(bytes, target, millis(now)) {
            Ok(Answer::Incomplete) => Ok(()),
            Ok(Answer::Declined) => {
                let role = peer.role;
                let reason = format!("the server does not accept {}", self.plan.compression);
                Err(self.unopened(role, reason))
            }
            Ok(Answer::Open(mut frames)) => {
                self.opened(slot);
                self.frames(slot, &mut frames, now)
            }
            Err(error) => {
                let role = peer.role;
                Err(self.unopened(role, error.to_string()))
            }
        }
    }

    /// The handshake is done: subscribes, where that takes a command.
    fn opened(&mut self, slot: u32) {
        let peer = &mut self.peers[slot as usize];
        if self.plan.protocol == Protocol::Json && peer.role == Role::Subscriber {
            peer.stage = Stage::Subscribing;
            let mut command = Vec::new();
            json::command(
                &mut command,
                &Command::Sub {
                    filter: (&*self.plan.topic).into(),
                    reference: Some(Reference::number(1)),
                    since: None,
                    slow: None,
                },
            );
            peer.connection
                .send(tidecast_websocket::Opcode::Text, &command, &mut peer.out.bytes);
            self.list(slot);
        } else {
            peer.stage = Stage::Open;
            self.opened += 1;
        }
    }

    /// Frames arrived at `now`.
    fn frames(&mut self, slot: u32, bytes: &mut [u8], now: u64) -> Result<(), Error> {
        let Self {
            peers,
            tally,
            plan,
            foreign,
            inflaters,
            recall,
            ..
        } = self;
        let peer = &mut peers[slot as usize];
        let subscriber = peer.role == Role::Subscriber;
        let length = bytes.len();
        let mut position = 0;
        let (mut subscribed, mut trouble) = (false, None);
        tally.begin_batch(now);
        loop {
            let between = peer.connection.is_between_messages();
            if let (Some(next), true) = (&mut peer.recalls, between)
                && let Some((length, message)) = recall.find(next, &bytes[position..])
                && tally.deliver(peer.number, message).is_ok()
            {
                position += length;
                continue;
            }
            let start = position;
            let mut input = Input::new(&mut bytes[start..]);
            let message = match peer
                .connection
                .poll_pooled(&mut input, millis(now), inflaters, &mut peer.out.bytes)
            {
                Ok(Some(Event::Binary(message))) => message,
                Ok(Some(Event::Text(message))) => message.as_bytes(),
                // Messages in parts are not asked for.
                Ok(Some(Event::Ping(_) | Event::Pong(_) | Event::TextPart { .. } | Event::BinaryPart { .. })) => {
                    continue;
                }
                Ok(Some(Event::Close { code, reason })) => {
                    if peer.stage != Stage::Closing {
                        let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                        trouble = Some(format!("the server closed it with {code} {reason}"));
                    }
                    position += input.consumed();
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    peer.connection.fail(&error, millis(now), &mut peer.out.bytes);
                    trouble = Some(format!("the server broke the protocol: {error}"));
                    break;
                }
            };
            position += input.consumed();
            if subscriber && tally.deliver(peer.number, message).is_ok() {
                match &mut peer.recalls {
                    Some(next) if between => {
                        let message: Box<[u8]> = message.into();
                        recall.learn(next, &bytes[start..position], &message);
                    }
                    Some(next) => recall.skip(next, message),
                    None => {}
                }
                continue;
            }
            match other(plan.protocol, message) {
                Said::Nothing => {}
                Said::Foreign => *foreign += u64::from(subscriber),
                Said::Subscribed => subscribed = true,
                Said::Refused(reason) => trouble = Some(reason),
            }
        }
        tally.end_batch(if subscriber { length } else { 0 });
        if subscribed && peer.stage == Stage::Subscribing {
            peer.stage = Stage::Open;
            self.opened += 1;
        }
        // An answer to a ping or to a Close.
        self.list(slot);
        match trouble {
            Some(trouble) => self.lose(slot, &trouble),
            None => Ok(()),
        }
    }

    /// The server ended the stream.
    fn end(&mut self, slot: u32) -> Result<(), Error> {
        let peer = &self.peers[slot as usize];
        let orderly = peer.stage == Stage::Closing && peer.connection.state() == State::Draining;
        if orderly {
            self.forget(slot);
            Ok(())
        } else {
            self.lose(slot, "the server ended the connection without a Close")
        }
    }

    /// A connection is of no use any more. Once the run has begun that is one of its errors.
    fn lose(&mut self, slot: u32, reason: &str) -> Result<(), Error> {
        let Peer {
            role, number, stage, ..
        } = self.peers[slot as usize];
        match stage {
            Stage::Gone => Ok(()),
            Stage::Opening | Stage::Subscribing => Err(self.unopened(role, reason.to_owned())),
            Stage::Open | Stage::Closing => {
                self.error(format!("{} {number} of this thread: {reason}", name(role)));
                self.forget(slot);
                Ok(())
            }
        }
    }

    /// Nothing more is expected of a connection.
    fn forget(&mut self, slot: u32) {
        self.peers[slot as usize].stage = Stage::Gone;
        self.gone += 1;
    }

    fn unopened(&self, role: Role, reason: String) -> Error {
        Error::Open {
            role: name(role),
            url: self.target(role).url.to_string(),
            reason,
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Subscriber => "subscriber",
        Role::Publisher => "publisher",
    }
}

/// What the broker says beside the deliveries of the run.
#[cold]
fn other(protocol: Protocol, message: &[u8]) -> Said {
    if protocol == Protocol::Raw {
        return Said::Foreign;
    }
    let Ok(text) = str::from_utf8(message) else {
        return Said::Refused("the broker sent a binary message on a JSON connection".to_owned());
    };
    match json::parse_reply(text) {
        Ok(Reply::Message { .. }) => Said::Foreign,
        Ok(Reply::Ok { .. }) => Said::Subscribed,
        Ok(Reply::Err { code, text, .. }) => Said::Refused(format!("the broker refused: {code}: {text}")),
        Ok(_) => Said::Nothing,
        Err(error) if error.code == Code::UnknownVerb => Said::Nothing,
        Err(error) => Said::Refused(format!("the broker sent what cannot be read: {error}")),
    }
}

fn millis(now: u64) -> Millis {
    Millis(now / 1_000_000)
}
