//! One thread's connections on its driver: bytes out, bytes in. What the bytes mean is in [`hearing`](crate::hearing).

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use hdrhistogram::Histogram;
use tidecast_client::explain_tls;
use tidecast_driver::{Completion, Driver, Op, Token, Wait};
use tidecast_websocket::{InflatePool, Millis, State};

use crate::clock::{Clock, nanoseconds};
use crate::dial::remedy;
use crate::error::Error;
use crate::hearing::Answered;
use crate::peer::{Answer, Peer, Purpose, Stage, Target};
use crate::plan::Plan;
use crate::probe::Taken;
use crate::recall::Recall;
use crate::scenario::Role;
use crate::shared::Shared;
use crate::slow::Slow;
use crate::tally::{LONGEST, Tally, histogram};
use crate::tls::{Client, TlsReport};

/// Errors that are told one by one; of more of the same kind the number is enough.
const TOLD: usize = 10;

/// Bytes of buffers that a receive takes which has waited for some: much has come meanwhile.
const BYTES_EACH: usize = 128 * 1024;

/// How often a session is kept alive, where that is up to the client: brokers wait for 60 seconds and half as long again.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(20);

/// What servers do that have no TLS, and some that have another.
const TLS_ENDED: &str =
    "the server ended the connection in the TLS handshake: does it speak TLS on that port, and this version?";

/// The receive buffers are all filled: the receive has to be started again.
const ENOBUFS: i32 = 105;
/// The socket has no room.
const EAGAIN: i32 = 11;
/// We took the receive back.
const ECANCELED: i32 = 125;

/// The connections of one thread, by slot of its driver.
pub(crate) struct Exchange<'a> {
    pub(crate) plan: &'a Plan,
    run: u32,
    clock: Clock,
    tls: Option<Client>,
    /// What was agreed on in TLS.
    pub(crate) handshakes: TlsReport,
    /// What records said: kept for its memory.
    opened_octets: Vec<u8>,
    pub(crate) driver: Driver,
    pub(crate) peers: Vec<Peer>,
    pub(crate) tally: Tally,
    pub(crate) slow: Slow,
    /// What the broker said to commands since somebody asked.
    pub(crate) answered: Vec<Answered>,
    /// What publishers without subscribers know to be taken in since somebody asked.
    pub(crate) taken: Vec<Taken>,
    /// Slots with something to send and room to send it.
    listed: Vec<u32>,
    /// Slots whose receive ended for want of buffers, the longest waiting first.
    starved: VecDeque<u32>,
    completions: Vec<Completion>,
    /// Connections that were to be opened.
    pub(crate) added: usize,
    /// Connections that can be used, or could once.
    pub(crate) opened: usize,
    /// Those among them that opened since somebody asked, with the time each took, if that matters.
    pub(crate) passing: Vec<Passed>,
    /// From the time it was to be opened until it could be used, in nanoseconds.
    pub(crate) opening: Histogram<u64>,
    /// Connections that ended.
    pub(crate) gone: usize,
    /// Messages at subscribers that are not of this run.
    pub(crate) foreign: u64,
    /// Connections that were to be opened and closed, and could not be opened.
    pub(crate) refused: u64,
    errors: Vec<String>,
    untold: usize,
    pub(crate) inflaters: InflatePool,
    pub(crate) recall: Recall,
    /// The slow ones do not read.
    paused: bool,
    kept_alive: u64,
}

/// A connection that was opened to be closed: when it could be used, and when that was to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    pub(crate) slot: u32,
    pub(crate) began: u64,
    pub(crate) opened: u64,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(plan: &'a Plan, shared: &Shared, driver: Driver, tally: Tally, slow: Slow) -> Self {
        Exchange {
            plan,
            run: shared.run,
            clock: shared.clock,
            tls: shared.tls.clone(),
            handshakes: TlsReport::default(),
            opened_octets: Vec::new(),
            driver,
            peers: Vec::new(),
            tally,
            slow,
            answered: Vec::new(),
            taken: Vec::new(),
            listed: Vec::new(),
            starved: VecDeque::new(),
            completions: Vec::new(),
            added: 0,
            opened: 0,
            passing: Vec::new(),
            opening: histogram(),
            gone: 0,
            foreign: 0,
            refused: 0,
            errors: Vec::new(),
            untold: 0,
            // The broker's messages need none of what came before, but a stream keeps its inflater.
            inflaters: InflatePool::new(usize::MAX, 16),
            recall: Recall::default(),
            paused: false,
            kept_alive: shared.clock.now(),
        }
    }

    /// Whether something went wrong since the run began.
    pub(crate) fn has_failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Connections that are neither open nor gone.
    pub(crate) fn unsettled(&self) -> usize {
        self.added - self.opened
    }

    /// Connections that have not ended.
    pub(crate) fn under_way(&self) -> usize {
        self.added - self.gone
    }

    /// What went wrong, a line each.
    pub(crate) fn take_errors(&mut self) -> Vec<String> {
        let mut errors = std::mem::take(&mut self.errors);
        if self.untold > 0 {
            errors.push(format!("and {} more of the kind", std::mem::take(&mut self.untold)));
        }
        errors
    }

    /// Takes note of something that went wrong.
    pub(crate) fn error(&mut self, what: String) {
        if self.errors.len() < TOLD {
            self.errors.push(what);
        } else {
            self.untold += 1;
        }
    }

    /// Takes a socket that is connected or about to be, and sends the request for a WebSocket. Returns its slot.
    pub(crate) fn add(&mut self, purpose: Purpose, socket: OwnedFd) -> Result<u32, Error> {
        let now = millis(self.clock.now());
        let target = Target::new(self.plan, purpose.role, purpose.topic);
        let key = tidecast_client::handshake_key().map_err(|error| Error::Random(error.to_string()))?;
        let session = self.tls.as_ref().map(Client::session);
        let peer = Peer::open(purpose, &target, session, key, now)
            .map_err(|error| self.unopened(purpose.role, purpose.topic, error.to_string()))?;
        let slot = self.driver.install(socket).map_err(Error::Driver)?;
        match self.peers.get_mut(slot as usize) {
            Some(ended) => {
                debug_assert!(ended.released, "the driver gives slots that were closed");
                *ended = peer;
            }
            None => {
                debug_assert_eq!(slot as usize, self.peers.len(), "otherwise it gives the next one");
                self.peers.push(peer);
            }
        }
        self.added += 1;
        self.driver
            .writable(Token::new(Op::Writable, slot, 0))
            .map_err(Error::Driver)?;
        Ok(slot)
    }

    /// Has the output of a connection sent by the next turn.
    pub(crate) fn list(&mut self, slot: u32) {
        let Peer { out, released, .. } = &mut self.peers[slot as usize];
        if *released {
            out.discard();
        } else if !out.is_empty() && !out.blocked && !out.listed {
            out.listed = true;
            self.listed.push(slot);
        }
    }

    /// Starts the closing handshake of a connection that is open.
    pub(crate) fn close(&mut self, slot: u32) {
        let now = millis(self.clock.now());
        let peer = &mut self.peers[slot as usize];
        if matches!(peer.stage, Stage::Open | Stage::Subscribing) {
            peer.close(self.plan.protocol.farewell(), now);
            self.list(slot);
        }
    }

    /// Starts the closing handshake of every connection that is open.
    pub(crate) fn close_all(&mut self) {
        for slot in 0..self.peers.len() as u32 {
            self.close(slot);
        }
    }

    /// Keeps sessions alive, where that is up to the client.
    pub(crate) fn keep_alive(&mut self, now: u64) {
        let Some(packet) = self.plan.protocol.keep_alive() else {
            return;
        };
        if now.saturating_sub(self.kept_alive) < nanoseconds(KEEP_ALIVE) {
            return;
        }
        self.kept_alive = now;
        for slot in 0..self.peers.len() as u32 {
            let peer = &mut self.peers[slot as usize];
            if peer.stage == Stage::Open {
                peer.connection
                    .send(self.plan.protocol.opcode(), packet, &mut peer.out.bytes);
                if let Some(probe) = &mut peer.probe {
                    probe.keep_alive(now);
                }
                self.list(slot);
            }
        }
    }

    /// The slow ones read nothing from now on.
    pub(crate) fn pause(&mut self) -> Result<(), Error> {
        self.paused = true;
        for slot in self.slow_slots() {
            self.driver
                .cancel(Token::new(Op::Receive, slot, 0))
                .map_err(Error::Driver)?;
        }
        Ok(())
    }

    /// The slow ones read again.
    pub(crate) fn resume(&mut self) -> Result<(), Error> {
        self.paused = false;
        // Those that starved before they were told not to read are among the slow ones: none is to read twice.
        let Self { starved, peers, .. } = self;
        starved.retain(|&slot| peers[slot as usize].role != Role::Stalled);
        for slot in self.slow_slots() {
            self.start_receiving(slot)?;
        }
        Ok(())
    }

    fn slow_slots(&self) -> Vec<u32> {
        let is_slow = |peer: &Peer| peer.role == Role::Stalled && peer.stage == Stage::Open;
        (0..self.peers.len() as u32)
            .filter(|&slot| is_slow(&self.peers[slot as usize]))
            .collect()
    }

    /// Sends what is listed, and takes in what has come.
    ///
    /// # Errors
    /// The driver failed, or a connection could not be opened.
    pub(crate) fn turn(&mut self, wait: Wait) -> Result<(), Error> {
        self.feed()?;
        for &slot in &self.listed {
            self.peers[slot as usize].seal();
        }
        // Those still starved cannot wake the thread.
        let wait = if self.starved.is_empty() { wait } else { Wait::No };
        let Self {
            driver,
            peers,
            listed,
            completions,
            ..
        } = self;
        let sends = listed
            .iter()
            .map(|&slot| (Token::new(Op::Send, slot, 0), peers[slot as usize].out.rest()));
        driver.turn(sends, wait, completions).map_err(Error::Driver)?;
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
        let portion = self.starved.len().min(self.driver.buffer_memory() / BYTES_EACH);
        for _ in 0..portion {
            let Some(slot) = self.starved.pop_front() else { break };
            self.peers[slot as usize].receiving = false;
            self.receive_on(slot)?;
        }
        Ok(())
    }

    fn start_receiving(&mut self, slot: u32) -> Result<(), Error> {
        self.peers[slot as usize].receiving = true;
        self.driver
            .receive(Token::new(Op::Receive, slot, 0))
            .map_err(Error::Driver)
    }

    /// A receive has ended: another one begins, unless the connection is not to be read now or has ended too.
    fn receive_on(&mut self, slot: u32) -> Result<(), Error> {
        let peer = &self.peers[slot as usize];
        if peer.stage == Stage::Gone {
            self.release(slot)
        } else if self.paused && peer.role == Role::Stalled {
            Ok(())
        } else {
            self.start_receiving(slot)
        }
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
                    out.discard();
                    self.fail(slot, io::Error::from_raw_os_error(errno))?;
                    continue;
                }
            }
            let out = &mut self.peers[slot as usize].out;
            if !out.is_empty() {
                out.blocked = true;
                self.driver
                    .writable(Token::new(Op::Writable, slot, 0))
                    .map_err(Error::Driver)?;
            }
        }
        let mut listed = std::mem::take(&mut self.listed);
        for slot in listed.drain(..) {
            let Peer { out, stage, .. } = &mut self.peers[slot as usize];
            if std::mem::take(&mut out.listed) {
                out.advance(out.rest().len());
            }
            if *stage == Stage::Gone {
                self.release(slot)?;
            }
        }
        self.listed = listed;
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
                if -result == ENOBUFS {
                    self.starved.push_back(slot);
                    return Ok(());
                }
                self.peers[slot as usize].receiving = more;
                match (data, result) {
                    (Some(mut bytes), 1..) => self.receive(slot, &mut bytes)?,
                    (_, 0) => self.end(slot)?,
                    // Whoever took it back has it begin again, if at all.
                    (_, error) if -error == ECANCELED => {
                        return if self.peers[slot as usize].stage == Stage::Gone {
                            self.release(slot)
                        } else {
                            Ok(())
                        };
                    }
                    (_, error) => self.fail(slot, io::Error::from_raw_os_error(-error))?,
                }
                if !more {
                    self.receive_on(slot)?;
                }
            }
            Op::Writable => {
                let peer = &mut self.peers[slot as usize];
                peer.out.blocked = false;
                match peer.stage {
                    Stage::Gone => return self.release(slot),
                    Stage::Connecting => {
                        peer.stage = Stage::Opening;
                        self.start_receiving(slot)?;
                    }
                    Stage::Opening | Stage::Subscribing | Stage::Open | Stage::Closing => {}
                }
                self.list(slot);
            }
            // Sends are settled already; a wake-up has done its work by ending the sleep; nothing else is asked for.
            Op::Send | Op::Wake | Op::Accept | Op::Cancel | Op::Shutdown | Op::Close => {}
        }
        Ok(())
    }

    fn receive(&mut self, slot: u32, bytes: &mut [u8]) -> Result<(), Error> {
        let peer = &mut self.peers[slot as usize];
        let Some(session) = peer.session.as_mut().filter(|_| peer.stage != Stage::Gone) else {
            return self.take(slot, bytes);
        };
        let mut octets = std::mem::take(&mut self.opened_octets);
        let handshaking = session.is_handshaking();
        let opened = session.open(bytes, &mut octets);
        if handshaking && !session.is_handshaking() {
            self.handshakes.note(session);
        }
        // TLS itself may have something to say.
        peer.seal();
        self.list(slot);
        let taken = self.take(slot, &mut octets);
        octets.clear();
        self.opened_octets = octets;
        taken?;
        match opened {
            Ok(false) => Ok(()),
            Ok(true) => self.end(slot),
            Err(error) => {
                let Peer { role, topic, .. } = self.peers[slot as usize];
                let url = Target::new(self.plan, role, topic).url;
                self.lose(slot, &explain_tls(&error, url.host()))
            }
        }
    }

    /// Takes in what the WebSocket is told.
    fn take(&mut self, slot: u32, bytes: &mut [u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let peer = &mut self.peers[slot as usize];
        match peer.stage {
            Stage::Gone => return Ok(()),
            Stage::Opening => {}
            Stage::Connecting | Stage::Subscribing | Stage::Open | Stage::Closing => {
                return self.frames(slot, bytes, now);
            }
        }
        let (role, topic) = (peer.role, peer.topic);
        let target = Target::new(self.plan, role, topic);
        match peer.answer(bytes, &target, millis(now)) {
            Ok(Answer::Incomplete) => Ok(()),
            Ok(Answer::Declined) => {
                let reason = format!("the server does not accept {}", self.plan.compression);
                self.lose(slot, &reason)
            }
            Ok(Answer::Open(mut frames)) => {
                peer.begin_session(self.plan, self.run);
                self.open_if_answered(slot, now);
                self.list(slot);
                self.frames(slot, &mut frames, now)
            }
            Err(error) => self.lose(slot, &error.to_string()),
        }
    }

    /// Once nothing is awaited any more, a connection can be used.
    pub(crate) fn open_if_answered(&mut self, slot: u32, now: u64) {
        let peer = &mut self.peers[slot as usize];
        if peer.stage == Stage::Subscribing && peer.awaited == 0 {
            peer.stage = Stage::Open;
            self.opened += 1;
            let took = now.saturating_sub(peer.began).min(LONGEST);
            self.opening.record(took).expect("the value is within the bounds");
            if peer.role == Role::Passing {
                self.passing.push(Passed {
                    slot,
                    began: peer.began,
                    opened: now,
                });
            }
        }
    }

    /// The server ended the stream.
    fn end(&mut self, slot: u32) -> Result<(), Error> {
        let peer = &self.peers[slot as usize];
        let orderly = peer.stage == Stage::Closing && peer.connection.state() == State::Draining;
        // Brokers with a farewell of their own end the connection at that.
        if orderly || (peer.stage == Stage::Closing && self.plan.protocol.farewell().is_some()) {
            self.forget(slot)
        } else {
            let tls = peer.is_in_tls_handshake();
            let reason = if tls {
                TLS_ENDED
            } else {
                "the server ended the connection without a Close"
            };
            self.lose(slot, reason)
        }
    }

    /// A system call for a connection failed.
    fn fail(&mut self, slot: u32, source: io::Error) -> Result<(), Error> {
        let peer = &self.peers[slot as usize];
        let unconnected = matches!(peer.stage, Stage::Connecting | Stage::Opening) && !remedy(&source).is_empty();
        if unconnected && peer.role != Role::Passing {
            return Err(Error::Connect {
                number: slot as usize + 1,
                total: self.driver.slots() as usize,
                address: self.plan.url.clone(),
                remedy: remedy(&source),
                source,
            });
        }
        // The end of a connection that we said farewell on may come as a reset, where the server does not wait for the
        // answer to its Close.
        if peer.stage == Stage::Closing && self.plan.protocol.farewell().is_some() {
            return self.forget(slot);
        }
        let tls = peer.is_in_tls_handshake() && peer.stage != Stage::Connecting;
        let reason = if tls {
            format!("{TLS_ENDED} ({source})")
        } else {
            source.to_string()
        };
        self.lose(slot, &reason)
    }

    /// A connection is of no use any more. Once the run has begun that is one of its errors.
    pub(crate) fn lose(&mut self, slot: u32, reason: &str) -> Result<(), Error> {
        let Peer {
            role,
            number,
            topic,
            stage,
            ..
        } = self.peers[slot as usize];
        match (stage, role) {
            (Stage::Gone, _) => {}
            (Stage::Connecting | Stage::Opening | Stage::Subscribing, Role::Passing) => {
                self.error(format!("a connection could not be opened: {reason}"));
                // Neither open nor to be opened.
                self.opened += 1;
                self.refused += 1;
                self.forget(slot)?;
            }
            (Stage::Connecting | Stage::Opening | Stage::Subscribing, _) => {
                return Err(self.unopened(role, topic, reason.to_owned()));
            }
            (Stage::Open | Stage::Closing, Role::Stalled) => {
                self.slow
                    .closed(reason.strip_prefix("the server closed it with ").unwrap_or(reason));
                self.forget(slot)?;
            }
            (Stage::Open | Stage::Closing, _) => {
                self.error(format!("{} {number} of this thread: {reason}", role.name()));
                self.forget(slot)?;
            }
        }
        Ok(())
    }

    /// Nothing more is expected of a connection: it ends as soon as the kernel has let go of it.
    fn forget(&mut self, slot: u32) -> Result<(), Error> {
        let peer = &mut self.peers[slot as usize];
        peer.stage = Stage::Gone;
        self.gone += 1;
        if peer.receiving {
            self.driver
                .cancel(Token::new(Op::Receive, slot, 0))
                .map_err(Error::Driver)?;
        }
        if peer.out.blocked {
            peer.out.discard();
            self.driver
                .cancel(Token::new(Op::Writable, slot, 0))
                .map_err(Error::Driver)?;
        }
        self.release(slot)
    }

    /// Gives back the slot of a connection that ended, if the kernel has nothing to do for it any more.
    fn release(&mut self, slot: u32) -> Result<(), Error> {
        let Peer {
            out,
            receiving,
            released,
            ..
        } = &mut self.peers[slot as usize];
        if *released || *receiving || out.blocked || out.listed || !out.is_empty() {
            return Ok(());
        }
        *released = true;
        self.driver.close(Token::new(Op::Close, slot, 0)).map_err(Error::Driver)
    }

    fn unopened(&self, role: Role, topic: u32, reason: String) -> Error {
        Error::Open {
            role: role.name(),
            url: Target::new(self.plan, role, topic).url.to_string(),
            reason,
        }
    }
}

pub(crate) fn millis(now: u64) -> Millis {
    Millis(now / 1_000_000)
}
