//! One thread of the generator: opens its connections, publishes, receives, and closes.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::time::Duration;

use hdrhistogram::Histogram;
use tidecast_driver::{Config, Driver, Wait, Waker, descriptor_limit, pin_to_core};

use crate::agenda::Agenda;
use crate::check::Faults;
use crate::churner::Churner;
use crate::clock::{nanoseconds, wake_on_time};
use crate::connector;
use crate::dial::{Dialer, remedy};
use crate::effort::Effort;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::load::Load;
use crate::operations::{Done, Operations};
use crate::peer::{Outlet, Purpose};
use crate::plan::{Extent, Plan};
use crate::probe::{Probe, SPACING};
use crate::publisher::Publisher;
use crate::scenario::{Layout, Pace, Role, Scenario, Share};
use crate::shared::Shared;
use crate::slow::{Slow, SlowReport};
use crate::tally::{Received, Step, Tally};
use crate::timeline::{Sampled, Timeline};
use crate::tls::TlsReport;

/// Handshakes one thread has in flight: enough to keep a server busy, few enough for its backlog.
const OPENING: usize = 64;

/// The longest sleep: states of other threads are looked at this often.
pub(crate) const NAP: Duration = Duration::from_millis(20);

/// How long the closing handshakes of all connections may take.
const CLOSING: Duration = Duration::from_secs(5);

/// How long nothing may come to the slow ones, once they read again, until that is taken for all there is.
const QUIET: Duration = Duration::from_secs(1);

/// What a thread measured.
pub(crate) struct Outcome {
    pub(crate) faults: Faults,
    /// By step.
    pub(crate) steps: Vec<Step>,
    /// By step, messages that were to be sent in it.
    pub(crate) published: Vec<u64>,
    /// By step, what was done one by one.
    pub(crate) operations: Vec<Done>,
    pub(crate) failed: u64,
    pub(crate) unanswered: u64,
    pub(crate) slow: SlowReport,
    pub(crate) opening: Histogram<u64>,
    pub(crate) handshakes: TlsReport,
    pub(crate) foreign: u64,
    /// By step.
    pub(crate) effort: Vec<Effort>,
    /// When the last thing that counts happened.
    pub(crate) last: u64,
    pub(crate) errors: Vec<String>,
}

/// A thread that has opened all its connections.
pub(crate) struct Ready {
    pub(crate) thread: usize,
    pub(crate) waker: Waker,
}

/// Runs thread `index`; says on `ready` when its connections are open, and then waits for [`Shared::begin`].
///
/// # Errors
/// A connection could not be opened, or the driver failed.
pub(crate) fn run(
    index: u32,
    plan: &Plan,
    layout: &Layout,
    shared: &Shared,
    ready: &Sender<Ready>,
) -> Result<Outcome, Error> {
    if !plan.cores.is_empty() {
        let core = plan.cores[index as usize % plan.cores.len()];
        pin_to_core(core).map_err(|source| Error::Pin { core, source })?;
    }
    if !matches!((&plan.load, &layout.load), (Load::Window(_), Load::Window(_))) {
        wake_on_time();
    }
    if plan.scenario == Scenario::Connect {
        return connector::run(index, plan, layout, shared, ready);
    }
    let mut thread = Thread::new(index, plan, layout, shared)?;
    thread.open()?;
    announce(index, &thread.exchange, ready)?;
    thread.wait()?;
    thread.work()?;
    thread.close()?;
    Ok(thread.finish())
}

/// Says that a thread is ready.
pub(crate) fn announce(index: u32, exchange: &Exchange<'_>, ready: &Sender<Ready>) -> Result<(), Error> {
    let announced = ready.send(Ready {
        thread: index as usize,
        waker: exchange.driver.waker(),
    });
    // The receiver gives up only after another thread failed.
    announced.map_err(|_| Error::Stopped)
}

/// The driver of thread `index` with room for `slots` connections, and what goes with it.
pub(crate) fn exchange<'a>(
    index: usize,
    plan: &'a Plan,
    layout: &Layout,
    shared: &Shared,
    share: &Share,
    slots: usize,
) -> Result<Exchange<'a>, Error> {
    // The file table may not be larger than the descriptor limit, which this raises as far as it goes.
    let limit = descriptor_limit().map_err(Error::Driver)?;
    if slots as u64 > limit {
        return Err(Error::Slots { needed: slots, limit });
    }
    let sizes = Config {
        slots: slots.max(1) as u32,
        ..Config::default()
    };
    let driver = Driver::new(shared.driver, &sizes)?;
    // Beside commands, deliveries are not what is watched.
    let pulse = (layout.churners == 0).then(|| shared.pulse(index));
    let tally = Tally::new(shared.run, plan, layout, share, pulse);
    let slow = Slow::new(share.stalled.len(), layout.publishers());
    Ok(Exchange::new(plan, shared, driver, tally, slow))
}

/// The dialer of a thread of `plan`.
pub(crate) fn dialer(plan: &Plan, layout: &Layout) -> Result<Dialer, Error> {
    let url = plan.target(Role::Subscriber, 0)?;
    let total = layout.share(0, 1).len();
    Dialer::new(url.host(), url.port(), &plan.local_addresses, total, plan.open_timeout)
}

/// What this thread used in each step, of what it had used at the ends of them.
pub(crate) fn differences(samples: Sampled<Effort>) -> Vec<Effort> {
    let pairs = samples.finish(|| Some(Effort::now()));
    pairs.into_iter().map(|(begin, end)| end.since(begin)).collect()
}

struct Thread<'a> {
    index: usize,
    plan: &'a Plan,
    layout: &'a Layout,
    shared: &'a Shared,
    share: Share,
    exchange: Exchange<'a>,
    publishers: Vec<Publisher>,
    churners: Vec<Churner>,
    publishing: Agenda,
    churning: Agenda,
    /// Numbers taken from an agenda: kept for its memory.
    taken: Vec<usize>,
    operations: Operations,
    /// By publisher, the thread it belongs to.
    owners: Vec<usize>,
    effort: Sampled<Effort>,
}

impl<'a> Thread<'a> {
    fn new(index: u32, plan: &'a Plan, layout: &'a Layout, shared: &'a Shared) -> Result<Self, Error> {
        let threads = plan.threads.get();
        let share = layout.share(index, threads);
        let exchange = exchange(index as usize, plan, layout, shared, &share, share.len())?;
        Ok(Thread {
            index: index as usize,
            plan,
            layout,
            shared,
            share,
            exchange,
            publishers: Vec::new(),
            churners: Vec::new(),
            publishing: Agenda::default(),
            churning: Agenda::default(),
            taken: Vec::new(),
            operations: Operations::new(Timeline::never(), shared.pulse(index as usize)),
            owners: layout.owners(threads),
            effort: Sampled::new(&Timeline::never()),
        })
    }

    /// Opens all connections, a bounded number at a time, and no faster than the plan says.
    fn open(&mut self) -> Result<(), Error> {
        let mut dialer = dialer(self.plan, self.layout)?;
        let paces = self.layout.paces();
        let wanted: Vec<(Role, usize)> = self.share.connections().collect();
        let total = wanted.len();
        let begun = self.shared.clock.now();
        let rate = self
            .plan
            .open_rate
            .map(|rate| rate / f64::from(self.plan.threads.get()));
        let (mut opened, mut progress) = (0, begun);
        let mut wanted = wanted.into_iter().enumerate().peekable();
        while self.exchange.opened < total {
            let mut nap = NAP;
            while self.exchange.unsettled() < OPENING
                && let Some(&(at, (role, number))) = wanted.peek()
            {
                let now = self.shared.clock.now();
                let due = rate.map_or(now, |rate| begun + (at as f64 * 1e9 / rate) as u64);
                if due > now {
                    nap = nap.min(Duration::from_nanos(due - now));
                    break;
                }
                wanted.next();
                let socket = dialer.dial().map_err(|(address, source)| Error::Connect {
                    number: at + 1,
                    total,
                    address: address.to_string(),
                    remedy: remedy(&source),
                    source,
                })?;
                let slot = self.exchange.add(self.purpose(role, number, due), socket)?;
                self.enlist(role, number, slot, &paces);
            }
            self.exchange.turn(Wait::AtMost(nap))?;
            self.exchange.keep_alive(self.shared.clock.now());
            if self.shared.is_stopped() {
                return Err(Error::Stopped);
            }
            let now = self.shared.clock.now();
            // Time passes without progress only while somebody is asked.
            if self.exchange.opened > opened || self.exchange.unsettled() == 0 {
                (opened, progress) = (self.exchange.opened, now);
                self.shared.opened(self.index, opened);
            } else if now - progress > nanoseconds(self.plan.open_timeout) {
                return Err(Error::OpenTimeout {
                    open: opened,
                    total,
                    timeout: self.plan.open_timeout,
                });
            }
        }
        self.shared.opened(self.index, total);
        Ok(())
    }

    /// What connection `number` of a role is for.
    fn purpose(&self, role: Role, number: usize, began: u64) -> Purpose {
        let (number, topic) = match role {
            // Those whose number is looked up for what they receive are numbered within the thread, as its counters are.
            Role::Subscriber | Role::Echo => (
                number - self.share.subscribers.start,
                self.layout.topic_of_subscriber(number),
            ),
            Role::Stalled => (number - self.share.stalled.start, 0),
            Role::Churner => (number - self.share.churners.start, 0),
            Role::Publisher => (number, self.layout.topic_of_publisher(number)),
            Role::Idle | Role::Passing => (number, 0),
        };
        Purpose {
            role,
            number,
            topic,
            began,
        }
    }

    /// Makes what a connection that sends by itself needs for that.
    fn enlist(&mut self, role: Role, number: usize, slot: u32, paces: &[Pace]) {
        match (role, &self.plan.scenario) {
            (Role::Publisher | Role::Echo, _) => {
                let pace = paces[number];
                let publisher = Publisher::new(self.plan, self.layout, pace, self.shared.run, number, slot);
                self.publishers.push(publisher);
                if self.layout.probing {
                    let spacing = if self.plan.protocol.is_path() { SPACING } else { 0 };
                    self.exchange.peers[slot as usize].probe = Some(Probe::new(self.layout.in_flight(), spacing));
                }
            }
            (Role::Churner, Scenario::Churn { filters, .. }) => {
                let pace = Pace::even(number, self.layout.churners as usize);
                self.churners
                    .push(Churner::new(self.plan, pace, *filters, number, slot));
            }
            _ => {}
        }
    }

    /// Keeps the connections alive until all threads are ready.
    fn wait(&mut self) -> Result<(), Error> {
        loop {
            if self.shared.is_stopped() {
                return Err(Error::Stopped);
            }
            if let Some(timeline) = self.shared.timeline() {
                self.exchange.tally.measure(timeline.clone());
                self.operations = Operations::new(timeline.clone(), self.shared.pulse(self.index));
                self.effort = Sampled::new(timeline);
                for publisher in &mut self.publishers {
                    publisher.begin(timeline.clone());
                }
                for churner in &mut self.churners {
                    churner.begin(timeline);
                }
                self.publishing = Agenda::new(self.publishers.len());
                self.churning = Agenda::new(self.churners.len());
                return self.exchange.pause();
            }
            self.exchange.turn(Wait::AtMost(NAP))?;
            self.exchange.keep_alive(self.shared.clock.now());
        }
    }

    /// Publishes and receives until every message of all threads has landed, or nothing moves any more.
    fn work(&mut self) -> Result<(), Error> {
        let timeline = self.shared.timeline().expect("the run has begun");
        let (start, end) = (timeline.start, timeline.span().end);
        let stall = nanoseconds(self.plan.stall);
        let now = self.shared.clock.now();
        let (mut happened, mut progress, mut looked) = (0, now, now);
        loop {
            let now = self.shared.clock.now();
            self.effort.look(now, || Some(Effort::now()));
            let mut wait = self.publish(now);
            if !self.churners.is_empty() {
                wait = shorter(wait, self.churn(now));
            }
            self.exchange.turn(wait)?;
            self.exchange.keep_alive(now);
            self.tell()?;
            if self.exchange.has_failed() {
                self.shared.stop();
            }
            if self.is_done(now, end) {
                return Ok(());
            }
            // Time without anything happening counts only while something is outstanding.
            if now - looked > nanoseconds(NAP) {
                looked = now;
                let all = self.shared.all_happened();
                if all > happened || (self.shared.all_landed() && self.shared.all_idle()) {
                    (happened, progress) = (all, now);
                } else if now.saturating_sub(progress) > stall && now >= start.saturating_add(stall) {
                    self.shared.stop();
                    self.finish_publishers();
                    self.give_up();
                    return Ok(());
                }
            }
        }
    }

    fn is_done(&mut self, now: u64, end: u64) -> bool {
        // What goes on beside commands ends when those do.
        if self.layout.churners > 0 && matches!(self.plan.extent, Extent::Count(_)) && self.shared.all_idle() {
            self.finish_publishers();
        }
        // Who only holds connections holds them to the end.
        let held = self.layout.idle == 0 || now >= end || self.shared.is_stopped();
        held && self.shared.all_idle() && self.shared.all_finished() && self.shared.all_landed() && self.has_sent_all()
    }

    /// Sends all that is to be sent at `now`, and returns how long the thread may sleep.
    fn publish(&mut self, now: u64) -> Wait {
        if self.shared.is_stopped() {
            self.finish_publishers();
        }
        let mut taken = std::mem::take(&mut self.taken);
        self.publishing.take(now, &mut taken);
        for index in taken.drain(..) {
            let publisher = &mut self.publishers[index];
            if publisher.is_finished() {
                continue;
            }
            let landed = self.shared.landings.landed(publisher.number);
            let outlet = self.exchange.peers[publisher.slot as usize].outlet();
            // What the socket has not taken yet comes first; the messages behind it keep their intended times.
            if outlet.out.is_empty() {
                publisher.publish(landed, now, outlet);
                self.shared.issued(publisher.number, publisher.sent());
                self.exchange.list(publisher.slot);
                if publisher.is_finished() {
                    self.shared.finished(publisher.number);
                    continue;
                }
            }
            let peer = &self.exchange.peers[publisher.slot as usize];
            let wait = publisher
                .wait(landed, now, peer.probe.as_ref())
                .filter(|_| !peer.out.blocked);
            self.publishing.put(index, now, wait);
        }
        self.taken = taken;
        self.publishing.sleep(now, NAP)
    }

    fn finish_publishers(&mut self) {
        let now = self.shared.clock.now();
        for publisher in &mut self.publishers {
            let Outlet { probe, out, .. } = self.exchange.peers[publisher.slot as usize].outlet();
            publisher.finish(now, probe, &mut out.bytes);
            self.exchange.list(publisher.slot);
            self.shared.finished(publisher.number);
        }
    }

    /// Takes the answers to commands, says all commands that are due at `now`, and returns how long the thread may sleep.
    fn churn(&mut self, now: u64) -> Wait {
        let mut answered = std::mem::take(&mut self.exchange.answered);
        for answer in answered.drain(..) {
            let intended = self.churners[answer.churner].answered(answer.reference);
            match (intended, answer.refused) {
                (Some(intended), None) => self.operations.complete(intended, answer.at),
                (_, Some(reason)) => {
                    self.operations.fail();
                    self.exchange.error(reason);
                }
                (None, None) => self
                    .exchange
                    .error("the broker confirmed a command that was not outstanding".to_owned()),
            }
        }
        self.exchange.answered = answered;
        if self.shared.is_stopped() {
            self.churners.iter_mut().for_each(Churner::finish);
        }
        let mut taken = std::mem::take(&mut self.taken);
        self.churning.take(now, &mut taken);
        for index in taken.drain(..) {
            let churner = &mut self.churners[index];
            if churner.is_done() {
                continue;
            }
            let Outlet { stream, out, .. } = self.exchange.peers[churner.slot as usize].outlet();
            if out.is_empty() {
                churner.speak(now, stream, &mut out.bytes);
                self.exchange.list(churner.slot);
            }
            let blocked = self.exchange.peers[churner.slot as usize].out.blocked;
            let wait = churner.wait(now).filter(|_| !blocked);
            self.churning.put(index, now, wait);
        }
        self.taken = taken;
        self.churning.sleep(now, NAP)
    }

    /// Whatever has no answer will not get one.
    fn give_up(&mut self) {
        self.churners.iter_mut().for_each(Churner::finish);
        let commands: usize = self.churners.iter().map(Churner::outstanding).sum();
        let untaken = |publisher: &Publisher| publisher.sent() - self.shared.landings.landed(publisher.number);
        let messages: u64 = match self.layout.probing {
            true => self.publishers.iter().map(untaken).sum(),
            false => 0,
        };
        self.operations.unanswered = commands as u64 + messages;
    }

    fn has_sent_all(&self) -> bool {
        self.publishers
            .iter()
            .all(|publisher| self.exchange.peers[publisher.slot as usize].out.is_empty())
    }

    /// Tells the other threads what this one has received, and wakes those that can send because of it.
    fn tell(&mut self) -> Result<(), Error> {
        let Self {
            index,
            plan,
            layout,
            shared,
            exchange,
            owners,
            operations,
            churners,
            ..
        } = self;
        if churners.iter().all(Churner::is_done) {
            shared.idle(*index);
        }
        for taken in exchange.taken.drain(..) {
            operations.complete_several(taken.news, taken.intended, taken.at);
            shared.landings.publish(*index, taken.publisher, taken.total);
        }
        let taken = if layout.probing {
            operations.all * plan.size as u64
        } else {
            0
        };
        shared.happened(
            *index,
            exchange.tally.all_deliveries() + operations.all,
            exchange.tally.all_bytes() + taken,
        );
        let mut wake = BTreeSet::new();
        for (publisher, completed) in exchange.tally.take_moved() {
            if shared.landings.publish(*index, publisher, completed) && owners[publisher] != *index {
                wake.insert(owners[publisher]);
            }
        }
        if wake.is_empty() {
            return Ok(());
        }
        let wakers = shared
            .wakers
            .get()
            .expect("all threads were ready before the first delivery");
        for thread in wake {
            exchange.driver.wake(&wakers[thread]).map_err(Error::Driver)?;
        }
        Ok(())
    }

    /// Closes every connection in order, after the slow ones have read what is there for them.
    fn close(&mut self) -> Result<(), Error> {
        if !self.share.stalled.is_empty() {
            self.catch_up()?;
        }
        self.exchange.close_all();
        let deadline = self.shared.clock.now() + nanoseconds(CLOSING);
        while self.exchange.under_way() > 0 {
            self.exchange.turn(Wait::AtMost(NAP))?;
            if self.shared.clock.now() > deadline {
                let left = self.exchange.under_way();
                self.exchange.error(format!(
                    "{left} connections were not closed by the server within {CLOSING:?}"
                ));
                break;
            }
        }
        Ok(())
    }

    /// Has the slow ones read until nothing comes any more.
    fn catch_up(&mut self) -> Result<(), Error> {
        self.exchange.resume()?;
        let (mut events, mut heard) = (0, self.shared.clock.now());
        loop {
            self.exchange.turn(Wait::AtMost(NAP))?;
            let (now, all) = (self.shared.clock.now(), self.exchange.slow.events());
            if all > events {
                (events, heard) = (all, now);
            } else if now - heard > nanoseconds(QUIET) {
                return Ok(());
            }
        }
    }

    fn finish(mut self) -> Outcome {
        let steps = self.operations.steps.len();
        let mut published = vec![0; steps];
        for publisher in &self.publishers {
            for (sum, count) in published.iter_mut().zip(publisher.published()) {
                *sum += count;
            }
        }
        let errors = self.exchange.take_errors();
        let Exchange {
            tally,
            slow,
            opening,
            handshakes,
            foreign,
            ..
        } = self.exchange;
        let Received {
            mut faults,
            steps,
            last,
        } = tally.finish(&self.shared.sent());
        let (slow, slow_faults) = slow.finish();
        faults.add(&slow_faults);
        Outcome {
            faults,
            steps,
            published,
            failed: self.operations.failed,
            unanswered: self.operations.unanswered,
            last: last.max(self.operations.last),
            operations: self.operations.steps,
            slow,
            opening,
            handshakes,
            foreign,
            effort: differences(self.effort),
            errors,
        }
    }
}

/// The shorter of two sleeps.
fn shorter(one: Wait, other: Wait) -> Wait {
    match (one, other) {
        (Wait::AtMost(one), Wait::AtMost(other)) => Wait::AtMost(one.min(other)),
        _ => Wait::No,
    }
}
