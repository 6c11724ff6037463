//! The loop of one worker.
//!
//! ```text
//!   ┌─▶ flush: one send per connection that has something ─▶ sleep, unless there is more to do ─┐
//!   │                                                                                           │
//!   └── wake other workers ◀── deadlines ◀── mail ◀── completions: accept, receive, … ◀─────────┘
//! ```
//!
//! A turn does bounded work: what is left over is done in the next one, after a flush.

mod arriving;
mod changing;
mod draining;
mod ending;
mod error;
mod events;
mod requests;
mod secure;
mod tasks;
mod waiting;

use std::collections::VecDeque;
use std::hash::RandomState;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidecast_broker::auth::Verdict;
use tidecast_broker::{Broker, Progress, SessionId, WorkerSet};
use tidecast_driver::{Completion, Driver, Listener, Op, Token, Wait, pin_to_core};
use tidecast_websocket::{Deflater, Error, Event, InflatePool, Input, Limits, Millis};

use crate::admission::Gate;
use crate::asking::{Asking, Command};
use crate::budget::Share;
use crate::config::{Config, Parts};
use crate::connection::{Phase, Slot};
use crate::counters::Counters;
use crate::fanout::{Closing, Fanout, Outcome};
use crate::gather::Gather;
use crate::hook::Asker;
use crate::journal::Journal;
use crate::ledger::{End, Ledger};
use crate::mesh::{Mesh, Order};
use crate::outbox::Range;
use crate::site::Site;
use crate::timers::{Due, Timers};
use crate::tls::Stage;
use draining::Draining;
pub use error::WorkerError;

/// Messages taken from the mailbox in one turn.
const MAIL_PER_TURN: usize = 4096;
/// How long frames wait after the 101 for versions whose clients lose what comes in one read with it.
const GREETING: Millis = Millis(20);
/// Inflaters kept for the next message: a message needs one only while it is being read, so few are in use at a time.
const POOLED_INFLATERS: usize = 16;
/// What logs may hold beyond twice a connection's limit before old segments are copied out.
const LOG_SLACK: usize = 16 << 20;
/// Connections for which tables have places from the start, if there may be so many. What nobody has touched takes no memory, while
/// tables that grow leave holes behind, and stand still as they move; larger ones the kernel moves.
const PLACES: usize = 1 << 16;

/// One thread's share of the broker.
pub struct Worker {
    number: u16,
    driver: Driver,
    slots: Vec<Slot>,
    active: u32,
    /// Of the active connections, those that only wait for the peer's FIN.
    lingering: u32,
    /// Shutdowns in flight.
    shutting: u32,
    /// The listening sockets, with the numbers of their settings.
    listeners: Vec<(u16, Listener)>,
    /// How many accepts are in flight for each listener.
    armed: Vec<u32>,
    accepting: Accepting,
    gate: Gate,
    memory: Share,
    /// Octets that connections hold of what has come in part.
    held: usize,
    /// When WebSockets are too old, in seconds, by slot; as far as that was ever limited.
    expiries: Vec<u32>,
    fanout: Fanout,
    tls: Stage,
    broker: Broker<Range>,
    mesh: Arc<Mesh>,
    counters: Arc<Counters>,
    journal: Arc<Journal>,
    ledger: Ledger,
    /// Messages of other workers that had subscribers here.
    mail_reached: u64,
    /// Messages that wait for the next flush: when they were received, and how many at that time.
    published: Vec<(Instant, u64)>,
    timers: Timers,
    site: Site,
    limits: Limits,
    inflaters: InflatePool,
    config: Config,
    /// Settings that are to be taken over next.
    next_config: Option<Arc<Config>>,
    /// How often they have been taken over.
    changes: u32,
    epoch: Instant,
    /// When the present turn began.
    woke: Instant,
    now: Millis,
    gather: Gather,
    /// What is to be sent is held back for more.
    holding: bool,
    /// Completions not looked at yet.
    inbox: VecDeque<Completion>,
    completions: Vec<Completion>,
    /// Connections for which a flush ended otherwise than by going on.
    notable: Vec<(u32, Outcome)>,
    expired: Vec<(u32, Due)>,
    /// Slots of publishers that wait for other workers.
    paused: Vec<u32>,
    /// Slots whose answers have gone out, and that may have asked for more.
    answered: Vec<u32>,
    /// What an operator publishes, while it is on its way.
    publishing: Option<tasks::Publishing>,
    /// Answers that nobody else gave.
    verdicts: VecDeque<(Asker, Verdict)>,
    /// Makes the names of connections.
    names: RandomState,
    /// What the connection at hand has to be sent.
    scratch: Vec<u8>,
    random: fastrand::Rng,
    /// Set once the broker stops.
    draining: Option<Draining>,
    /// Mail came before completions when both were handled last.
    mail_first: bool,
}

/// What is done about new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Yes,
    /// No slots are left but for the accepts in flight.
    Full,
    /// The kernel refused; to be tried again at this time.
    Retry(Millis),
    /// The broker stops.
    No,
}

impl Worker {
    /// Sets a worker up on the calling thread, which is the one to [`Worker::run`] it.
    ///
    /// # Errors
    /// The core cannot be used, or the kernel lacks or forbids what the driver needs.
    pub fn new(config: Config, parts: Parts) -> Result<Worker, WorkerError> {
        if let Some(core) = config.core {
            pin_to_core(core).map_err(|source| WorkerError::Core { core, source })?;
        }
        let sizes = tidecast_driver::Config {
            slots: config.max_connections,
            ..tidecast_driver::Config::default()
        };
        let driver = Driver::new(config.driver, &sizes)?;
        let Parts {
            number,
            listeners,
            mesh,
            shared,
            census,
            budget,
            counters,
            journal,
        } = parts;
        mesh.attach(number.into(), driver.waker());
        assert!(
            listeners
                .iter()
                .all(|(number, _)| usize::from(*number) < config.listeners.len()),
            "every listener has its settings"
        );
        let (deflater, inflaters) = match config.compression {
            Some(compression) => {
                let most = (compression.inflate_memory / InflatePool::INFLATER_BYTES).max(1);
                let deflater = Deflater::new(compression.level, compression.min_message);
                (deflater, InflatePool::new(most, most.min(POOLED_INFLATERS)))
            }
            None => (Deflater::default(), InflatePool::new(0, 0)),
        };
        let now = Millis(0);
        let mut fanout = Fanout::new(
            number,
            Arc::clone(&mesh),
            config.bounds(),
            Arc::clone(&config.authenticator),
            deflater,
        );
        fanout.set_rates(config.rates, config.identity, &census);
        let most = mesh.most_questions(number.into());
        fanout.asking = config.hook.clone().map(|hook| Asking::new(hook, number, most));
        let places = PLACES.min(config.max_connections as usize);
        let mut broker = Broker::new(number, config.broker_limits(), shared);
        let mut ledger = Ledger::default();
        broker.reserve(places);
        ledger.reserve(places);
        fanout.reserve(places);
        Ok(Worker {
            number,
            driver,
            slots: Vec::with_capacity(places),
            active: 0,
            lingering: 0,
            shutting: 0,
            armed: vec![0; listeners.len()],
            listeners,
            accepting: Accepting::Yes,
            epoch: census.epoch(),
            woke: Instant::now(),
            gate: Gate::new(census),
            memory: Share::new(budget),
            held: 0,
            expiries: Vec::new(),
            fanout,
            tls: Stage::default(),
            inflaters,
            broker,
            mesh,
            counters,
            journal,
            ledger,
            mail_reached: 0,
            published: Vec::new(),
            timers: Timers::new(now),
            site: Site::new(&config),
            limits: config.message_limits(),
            gather: Gather::new(config.flush_delay, Instant::now()),
            config,
            next_config: None,
            changes: 0,
            now,
            holding: false,
            inbox: VecDeque::new(),
            completions: Vec::new(),
            notable: Vec::new(),
            expired: Vec::new(),
            paused: Vec::new(),
            answered: Vec::new(),
            publishing: None,
            verdicts: VecDeque::new(),
            names: RandomState::new(),
            scratch: Vec::new(),
            random: fastrand::Rng::new(),
            draining: None,
            mail_first: false,
        })
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// The kernel failed in a way that leaves the driver unusable.
    pub fn run(mut self) -> Result<(), WorkerError> {
        self.accept()?;
        loop {
            self.flush_and_wait()?;
            self.now = (self.woke - self.epoch).into();
            self.broker.set_now((self.woke - self.epoch).as_micros() as u64);
            self.fanout.set_now(self.now);
            let before = self.published_here();
            if self.holding || self.fanout.has_room(self.now) {
                self.take_in()?;
            }
            while let Some(order) = self.mesh.receive_order(self.number.into()) {
                match order {
                    Order::Configure(config) => self.next_config = Some(config),
                    Order::Drain(order) => self.drain(order)?,
                }
            }
            self.take_settings_over()?;
            self.handle_tasks()?;
            let published = self.published_here() - before;
            if published > 0 {
                self.published.push((self.woke, published));
            }
            self.handle_deadlines()?;
            self.go_on_draining()?;
            self.close_overflowing();
            self.close_spent();
            self.wake_others()?;
            self.publish_counters();
            if self.is_drained() {
                self.tell_ends();
                return Ok(());
            }
        }
    }

    // Flushing and sleeping

    /// Sends what this turn produced and waits for something to happen, unless something has.
    fn flush_and_wait(&mut self) -> io::Result<()> {
        let me = usize::from(self.number);
        let held = self.hold();
        self.holding = !held.is_zero();
        if self.holding {
            return self.wait_for_more(held);
        }
        self.broker.settle(&mut self.fanout);
        self.gather.begin_flush(self.fanout.volume());
        self.fanout.begin_flush();
        let busy = self.fanout.piece_count() > 0 || self.has_work();
        let wait = if !busy && self.prepare_sleep() {
            Wait::AtMost(self.sleep_limit())
        } else {
            Wait::No
        };
        let begun = Instant::now();
        self.send(wait)?;
        self.mesh.awake(me);
        self.woken(begun, wait);
        let sent = self.fanout.piece_count();
        self.counters.sends.add(sent as u64);
        if sent > 0 {
            let pressed = !self.inbox.is_empty() || self.mesh.has_mail(me);
            self.gather.end_flush(begun, self.woke, pressed);
            self.counters.flush.record(self.woke - begun, 1);
            for (received, count) in self.published.drain(..) {
                self.counters.delivery.record(self.woke - received, count);
            }
        } else {
            self.gather.rest();
            // It is not sent now, as none of its subscribers reads.
            self.published.clear();
        }
        let (mut bytes, mut blocked) = (0, 0);
        let mut notable = std::mem::take(&mut self.notable);
        self.fanout.end_flush(|slot, outcome, count, messages| {
            bytes += count as u64;
            blocked += u64::from(outcome == Outcome::Blocked);
            let account = self.ledger.get_mut(slot);
            account.bytes_out += count as u64;
            account.messages_out += u64::from(messages);
            if outcome != Outcome::Sent {
                notable.push((slot, outcome));
            }
        });
        self.counters.bytes_out.add(bytes);
        self.counters.blocked.add(blocked);
        self.fanout
            .reclaim(LOG_SLACK + 2 * self.config.max_pending, self.memory.room());
        self.settle_memory();
        // Once a turn: who is given up for it meanwhile has given nothing back before the next flush.
        self.fanout.set_excess(self.memory.excess());
        for (slot, outcome) in notable.drain(..) {
            match outcome {
                Outcome::Sent => {}
                Outcome::Drained => self.finish(slot)?,
                Outcome::Greeted => self.arm(slot, self.now + GREETING),
                Outcome::Blocked => self.watch_writable(slot)?,
                Outcome::Broken(error) => {
                    self.blame(slot, End::of_error(error));
                    self.kill(slot)?;
                }
            }
        }
        self.notable = notable;
        self.tell_lags();
        Ok(())
    }

    /// Sends what the present flush has, and waits if that is nothing. What has to be sealed for it goes out as often as the
    /// arena is full.
    fn send(&mut self, wait: Wait) -> io::Result<()> {
        let mut first = 0;
        loop {
            let end = self.tls.seal(&mut self.fanout, first);
            let (fanout, tls) = (&self.fanout, &self.tls);
            let pieces = fanout.sending()[first..end].iter().map(|&slot| {
                let bytes = tls.piece(slot).unwrap_or_else(|| fanout.piece(slot));
                (Token::new(Op::Send, slot, 0), bytes)
            });
            let sends = pieces.filter(|(_, bytes)| !bytes.is_empty());
            self.driver.turn(sends, wait, &mut self.completions)?;
            // A send without a completion went out whole. The others are noted before anything else looks at a queue.
            for completion in self.completions.drain(..) {
                if completion.token.op() == Op::Send {
                    self.tls.refuse(completion.token.slot(), completion.result);
                    self.fanout.refuse(completion.token.slot(), completion.result);
                } else {
                    self.inbox.push_back(completion);
                }
            }
            first = end;
            if first == self.fanout.sending().len() {
                return Ok(());
            }
        }
    }

    /// How much longer what is to be sent is held back for more to come.
    fn hold(&mut self) -> Duration {
        let Worker {
            fanout, broker, gather, ..
        } = self;
        let is_new = fanout.volume().pushes > 0 || !broker.is_settled();
        if !is_new || fanout.is_full() || self.draining.is_some() {
            return Duration::ZERO;
        }
        gather.hold(fanout.appended(), Instant::now(), || {
            broker.settle(fanout);
            fanout.volume()
        })
    }

    /// Takes in what comes, and sleeps until then if nothing does.
    fn wait_for_more(&mut self, time: Duration) -> io::Result<()> {
        let me = usize::from(self.number);
        let wait = if !self.has_work() && self.prepare_sleep() {
            Wait::AtMost(time.min(self.sleep_limit()))
        } else {
            Wait::No
        };
        let begun = Instant::now();
        self.driver.turn([], wait, &mut self.completions)?;
        self.mesh.awake(me);
        self.woken(begun, wait);
        self.inbox.extend(self.completions.drain(..));
        Ok(())
    }

    /// A turn's call to the kernel, which was made at `begun` and may have slept, is over.
    fn woken(&mut self, begun: Instant, wait: Wait) {
        let now = Instant::now();
        let busy = if wait == Wait::No { now } else { begun } - self.woke;
        self.counters.turn.record(busy, 1);
        self.counters.busy.add(busy.as_nanos() as u64);
        self.woke = now;
    }

    /// Whether something is left to be done that nobody will wake this worker for.
    fn has_work(&self) -> bool {
        let waits = !self.inbox.is_empty() || !self.answered.is_empty() || !self.verdicts.is_empty();
        let publishes = self.publishing.as_ref().is_some_and(tasks::Publishing::goes_on);
        waits || publishes || self.is_changing() || self.has_goodbyes()
    }

    /// Tells subscribers what they missed: before what is left, if that is younger, else behind it.
    fn tell_lags(&mut self) {
        debug_assert!(
            self.broker.is_settled(),
            "what is said first comes before all that was published"
        );
        while let Some(slot) = self.fanout.lagging.pop() {
            let (broker, id) = (&mut self.broker, SessionId(slot));
            for lag in self.fanout.take_lags(slot) {
                if lag.first {
                    self.fanout
                        .say_first(slot, |fanout| broker.say_lag(id, lag.list, lag.dropped, fanout));
                } else {
                    broker.say_lag(id, lag.list, lag.dropped, &mut self.fanout);
                }
            }
        }
    }

    /// The workers for whose mailboxes publishers wait here.
    fn full_mailboxes(&self) -> WorkerSet {
        let paused = self
            .paused
            .iter()
            .filter_map(|slot| self.slots[*slot as usize].paused.as_deref());
        let publishing = self.publishing.as_ref().map(tasks::Publishing::targets);
        paused.fold(publishing.unwrap_or_default(), |all, paused| {
            all.union(paused.stalled.targets())
        })
    }

    /// Whether nothing has come that this worker would have to look at before it sleeps.
    fn prepare_sleep(&self) -> bool {
        let full = self.full_mailboxes();
        self.mesh
            .prepare_sleep(self.number.into(), full, self.publishing.is_some())
    }

    fn sleep_limit(&self) -> Duration {
        let mut limit = self.timers.next_in(self.now);
        if let Accepting::Retry(at) = self.accepting {
            limit = limit.min(at - self.now);
        }
        if let Some(next) = self.next_goodbye() {
            limit = limit.min(next - self.now);
        }
        Duration::from_millis(limit.0 + 1)
    }

    fn wake_others(&mut self) -> io::Result<()> {
        for worker in std::mem::take(&mut self.fanout.to_wake).iter() {
            if let Some(waker) = self.mesh.needs_waking(worker.into()) {
                self.driver.wake(waker)?;
            }
        }
        Ok(())
    }

    // Completions

    /// Handles what came from connections, from other workers, and from publishers that had to wait.
    fn take_in(&mut self) -> io::Result<()> {
        if self.memory.is_pressed() {
            // Others may have given up enough while this worker slept.
            self.settle_memory();
        }
        // Whatever comes second gets what the first left of this turn, which can be nothing: they take turns.
        self.mail_first = !self.mail_first;
        if self.mail_first {
            self.handle_mail();
            self.handle_completions()?;
        } else {
            self.handle_completions()?;
            self.handle_mail();
        }
        self.resume_paused()?;
        self.resume_answered()?;
        self.handle_verdicts()
    }

    /// Messages with subscribers here that were not taken over from other workers.
    fn published_here(&self) -> u64 {
        self.broker.stats().reached - self.mail_reached
    }

    fn handle_completions(&mut self) -> io::Result<()> {
        while !self.fanout.is_full() {
            let Some(completion) = self.inbox.pop_front() else {
                break;
            };
            let (slot, generation) = (completion.token.slot(), completion.token.generation());
            match completion.token.op() {
                Op::Accept => self.handle_accepted(completion)?,
                Op::Receive if self.is_current(slot, generation) => self.handle_received(slot, completion)?,
                Op::Writable if self.is_current(slot, generation) => {
                    self.slots[slot as usize].polling = false;
                    self.fanout.unblock(slot);
                    self.release(slot)?;
                }
                Op::Shutdown if self.is_current(slot, generation) => {
                    self.slots[slot as usize].shutting = false;
                    self.shutting -= 1;
                    self.release(slot)?;
                }
                // A cancelled operation completes itself; whether there was one to cancel does not matter.
                Op::Receive | Op::Writable | Op::Cancel | Op::Shutdown | Op::Close | Op::Wake | Op::Send => {}
            }
        }
        Ok(())
    }

    fn is_current(&self, slot: u32, generation: u32) -> bool {
        let current = self.slots.get(slot as usize).map(|slot| slot.generation);
        current.is_some_and(|current| current % Token::GENERATIONS == generation)
    }

    fn token(&self, op: Op, slot: u32) -> Token {
        Token::new(op, slot, self.slots[slot as usize].generation)
    }

    fn handle_received(&mut self, slot: u32, completion: Completion) -> io::Result<()> {
        self.slots[slot as usize].receiving = completion.more;
        match (completion.result, completion.data) {
            (0, _) => self.end(slot)?,
            (count, Some(mut bytes)) if count > 0 => {
                self.counters.bytes_in.add(bytes.len() as u64);
                self.ledger.get_mut(slot).bytes_in += bytes.len() as u64;
                self.received(slot, &mut bytes)?;
            }
            // The buffers ran out, which ends a receive, or it was cancelled: what follows below is the answer.
            (result, _) if result == -ENOBUFS || result == -ECANCELED => {}
            (error, _) => {
                self.blame(slot, End::of_error(error));
                self.kill(slot)?;
            }
        }
        self.account(slot)?;
        self.receive(slot)?;
        self.release(slot)
    }

    /// Receives from `slot`, unless that is going on or not wanted.
    fn receive(&mut self, slot: u32) -> io::Result<()> {
        let state = &mut self.slots[slot as usize];
        if !state.receiving && state.reads() {
            state.receiving = true;
            self.driver.receive(self.token(Op::Receive, slot))?;
        }
        Ok(())
    }

    fn watch_writable(&mut self, slot: u32) -> io::Result<()> {
        let state = &mut self.slots[slot as usize];
        if !state.polling {
            state.polling = true;
            self.driver.writable(self.token(Op::Writable, slot))?;
        }
        Ok(())
    }

    // Input

    fn input(&mut self, slot: u32, bytes: &mut [u8]) -> io::Result<()> {
        let state = &mut self.slots[slot as usize];
        if let Some(paused) = &mut state.paused {
            paused.rest.extend_from_slice(bytes);
            return Ok(());
        }
        match &state.phase {
            Phase::Proxy { .. } => self.proxy_header(slot, bytes),
            Phase::Head { .. } | Phase::Body(_) => self.requests(slot, bytes, None),
            Phase::Answering { .. } => {
                self.keep_for_later(slot, bytes);
                Ok(())
            }
            Phase::Open(_) => self.frames(slot, bytes),
            Phase::Free | Phase::Events { .. } | Phase::Finishing { .. } | Phase::Lingering { .. } | Phase::Dying => {
                Ok(())
            }
        }
    }

    /// Bytes of frames.
    fn frames(&mut self, slot: u32, bytes: &mut [u8]) -> io::Result<()> {
        let id = SessionId(slot);
        self.begin_asking(slot);
        let mut input = Input::new(bytes);
        loop {
            let Phase::Open(connection) = &mut self.slots[slot as usize].phase else {
                return Ok(());
            };
            self.scratch.clear();
            let polled = connection.poll_pooled(&mut input, self.now, &mut self.inflaters, &mut self.scratch);
            // What the protocol answers by itself, a pong, comes before what the broker does about what follows.
            if !self.scratch.is_empty() {
                self.broker.settle(&mut self.fanout);
                self.fanout.send_frames(slot, &self.scratch);
            }
            let mut last = false;
            let mut ended = false;
            let mut again = None;
            match polled {
                Ok(Some(Event::Text(text))) => {
                    self.ledger.get_mut(slot).messages_in += 1;
                    if let Progress::WaitsAt(at) = self.broker.handle_text(id, text, &mut self.fanout) {
                        again = Some(Command::Text(text[at..].to_owned()));
                    }
                }
                Ok(Some(Event::Binary(payload))) => {
                    self.ledger.get_mut(slot).messages_in += 1;
                    if let Progress::WaitsAt(at) = self.broker.handle_binary(id, payload, &mut self.fanout) {
                        again = Some(Command::Binary(payload[at..].to_owned()));
                    }
                }
                // Messages in parts are not asked for.
                Ok(Some(Event::Ping(_) | Event::Pong(_) | Event::TextPart { .. } | Event::BinaryPart { .. })) => {}
                Ok(Some(Event::Close { .. })) => {
                    self.ledger.blame(slot, End::Client, &self.counters);
                    ended = true;
                }
                Ok(None) => last = true,
                Err(error) => {
                    self.fail(slot, &error);
                    ended = true;
                }
            }
            if ended {
                self.end_session(slot);
                self.fanout.seal(slot);
                self.arm_by_state(slot);
                return self.finish(slot);
            }
            if self.has_to_wait(slot, again, None)? {
                break;
            }
            if last {
                return Ok(());
            }
        }
        let consumed = input.consumed();
        if let Some(paused) = &mut self.slots[slot as usize].paused {
            paused.rest = bytes[consumed..].to_vec();
        }
        self.pause_receiving(slot)
    }

    /// Closes the sessions that the broker wants closed.
    fn close_as_wanted(&mut self) -> io::Result<()> {
        while let Some(closing) = self.fanout.closing.pop() {
            let Closing { slot, code, reason } = closing;
            let end = End::of_code(code);
            self.blame(slot, end);
            match end {
                // Nothing that it says from now on counts.
                End::RateLimited | End::Forbidden => {
                    self.stop_waiting(slot)?;
                    self.abandon(slot, code, &reason)?;
                }
                _ => self.close(slot, code, &reason),
            }
        }
        Ok(())
    }

    fn fail(&mut self, slot: u32, error: &Error) {
        self.blame(slot, End::Protocol);
        if let Phase::Open(connection) = &mut self.slots[slot as usize].phase {
            self.broker.settle(&mut self.fanout);
            self.scratch.clear();
            connection.fail(error, self.now, &mut self.scratch);
            self.fanout.send_frames(slot, &self.scratch);
        }
    }

    fn handle_mail(&mut self) {
        let me = usize::from(self.number);
        for _ in 0..MAIL_PER_TURN {
            if self.fanout.is_full() {
                break;
            }
            let Some(message) = self.mesh.receive(me) else { break };
            let before = self.broker.stats().reached;
            self.broker.handle_forwarded(&message, &mut self.fanout);
            if self.broker.stats().reached > before {
                self.mail_reached += 1;
                let received = self.epoch + Duration::from_micros(message.published());
                self.published.push((received, 1));
            }
        }
        for waiting in self.mesh.take_waiting(me) {
            self.fanout.to_wake.insert(waiting as u16);
        }
    }

    fn publish_counters(&self) {
        let stats = self.broker.stats();
        self.counters.turns.add(1);
        self.counters.commands_refused.set(stats.refused);
        self.counters.published.set(stats.published);
        self.counters.forwarded.set(stats.forwarded);
        self.counters.undelivered.set(stats.undelivered);
        self.counters.dropped.set(self.fanout.dropped);
        self.counters.rate_limited.set(self.fanout.rate_limited());
        self.counters.delivered.set(stats.delivered);
        self.counters.subscriptions.set(stats.subscriptions);
        self.counters.deflated_from.set(self.fanout.deflated_bytes.0);
        self.counters.deflated_to.set(self.fanout.deflated_bytes.1);
        self.counters.queued.set(self.fanout.held() as u64);
        self.counters.incomplete.set(self.held as u64);
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Worker({}, {} connections)", self.number, self.active)
    }
}

const ENOBUFS: i32 = 105;
const ECANCELED: i32 = 125;
