//! One thread that opens connections and closes them again.
//!
//! A ring gives each of its slots once. So this thread has a ring as long as that has slots left, and then another one; the
//! old ring is kept until its connections have ended.

use std::sync::mpsc::Sender;
use std::time::Duration;

use tidecast_driver::{Wait, descriptor_limit};

use crate::check::Faults;
use crate::clock::nanoseconds;
use crate::dial::{Dialer, remedy};
use crate::effort::Effort;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::operations::Operations;
use crate::peer::Purpose;
use crate::plan::{Extent, Plan};
use crate::scenario::{Layout, Pace, Role, Share};
use crate::schedule::Schedule;
use crate::shared::Shared;
use crate::slow::SlowReport;
use crate::tally::{Step, histogram};
use crate::thread::{NAP, Outcome, Ready, announce, dialer, differences, exchange};
use crate::timeline::{Sampled, Timeline};
use crate::tls::TlsReport;

/// Slots of a ring, if the limit of descriptors allows: a new ring costs milliseconds, which are to come rarely.
const SLOTS: u64 = 16_384;

/// Connections that may be opening, whatever is due: the backlog of a server has an end.
const OPENING: usize = 4096;

/// Connections begun in one turn: answers that have come meanwhile are not to wait for long.
const BATCH: usize = 32;

/// How long the thread sleeps while an old ring has connections, for nothing wakes it when something happens there; and when
/// there was no socket to be had.
const SHORT_NAP: Duration = Duration::from_millis(1);

/// Runs thread `index`, as [`thread::run`](crate::thread::run) does.
///
/// # Errors
/// There is no ring, or it failed. A connection that fails is one of the run's errors.
pub(crate) fn run(
    index: u32,
    plan: &Plan,
    layout: &Layout,
    shared: &Shared,
    ready: &Sender<Ready>,
) -> Result<Outcome, Error> {
    let mut connector = Connector::new(index, plan, layout, shared)?;
    announce(index, &connector.current, ready)?;
    let timeline = loop {
        if shared.is_stopped() {
            return Err(Error::Stopped);
        }
        if let Some(timeline) = shared.timeline() {
            break timeline;
        }
        connector.current.turn(Wait::AtMost(NAP))?;
    };
    connector.begin(timeline);
    connector.work(timeline)?;
    Ok(connector.finish())
}

struct Connector<'a> {
    index: usize,
    plan: &'a Plan,
    layout: &'a Layout,
    shared: &'a Shared,
    share: Share,
    slots: usize,
    dialer: Dialer,
    /// Where connections are opened.
    current: Exchange<'a>,
    /// Rings without free slots.
    retired: Vec<Exchange<'a>>,
    schedule: Schedule,
    /// No socket was to be had when one was last asked for.
    failing: bool,
    /// Connections that were begun.
    next: u64,
    limit: u64,
    /// Connections that ended on rings that are gone.
    ended: usize,
    operations: Operations,
    opening: hdrhistogram::Histogram<u64>,
    handshakes: TlsReport,
    errors: Vec<String>,
    effort: Sampled<Effort>,
}

impl<'a> Connector<'a> {
    fn new(index: u32, plan: &'a Plan, layout: &'a Layout, shared: &'a Shared) -> Result<Self, Error> {
        let threads = plan.threads.get();
        let slots = descriptor_limit().map_err(Error::Ring)?.min(SLOTS) as usize;
        let share = layout.share(index, threads);
        Ok(Connector {
            index: index as usize,
            plan,
            layout,
            shared,
            slots,
            dialer: dialer(plan, layout)?,
            current: exchange(plan, layout, shared, &share, slots)?,
            retired: Vec::new(),
            share,
            schedule: Schedule::new(
                plan.load.after(plan.warmup()),
                u64::MAX,
                Pace::even(index as usize, threads as usize),
            ),
            failing: false,
            next: 0,
            limit: match plan.extent {
                Extent::Time { .. } => u64::MAX,
                Extent::Count(count) => count,
            },
            ended: 0,
            operations: Operations::new(Timeline::never()),
            opening: histogram(),
            handshakes: TlsReport::default(),
            errors: Vec::new(),
            effort: Sampled::new(&Timeline::never()),
        })
    }

    fn begin(&mut self, timeline: &Timeline) {
        self.schedule.begin(timeline.start);
        self.operations = Operations::new(timeline.clone());
        self.effort = Sampled::new(timeline);
    }

    /// Opens and closes until the time is over or the count is reached, and every connection has ended.
    fn work(&mut self, timeline: &Timeline) -> Result<(), Error> {
        let end = timeline.span().end;
        let stall = nanoseconds(self.plan.stall);
        let (mut ended, mut progress) = (0, timeline.start);
        let mut finished = false;
        loop {
            let now = self.shared.clock.now();
            self.effort.look(now, || Some(Effort::now()));
            if !finished {
                finished = self.open(now, end)?;
            }
            let wait = self.sleep(now, finished);
            self.current.turn(wait)?;
            for retired in &mut self.retired {
                retired.turn(Wait::No)?;
            }
            self.settle();
            let events = self.operations.all + self.gone() as u64;
            self.shared.happened(self.index, self.operations.all);
            if self.under_way() == 0 && finished {
                return Ok(());
            }
            if events > ended || self.under_way() == 0 {
                (ended, progress) = (events, now);
            } else if now.saturating_sub(progress) > stall {
                self.operations.unanswered = self.under_way() as u64;
                return Ok(());
            }
        }
    }

    /// Opens all connections that are due at `now`; whether there will be no more.
    fn open(&mut self, now: u64, end: u64) -> Result<bool, Error> {
        for _ in 0..BATCH {
            if self.next == self.limit || self.shared.is_stopped() {
                return Ok(true);
            }
            let Some(intended) = self.schedule.due(self.next, self.under_way() as u64, now) else {
                return Ok(now >= end);
            };
            if intended >= end {
                return Ok(true);
            }
            if self.current.unsettled() >= OPENING {
                return Ok(false);
            }
            if self.current.peers.len() == self.slots {
                let fresh = exchange(self.plan, self.layout, self.shared, &self.share, self.slots)?;
                self.retired.push(std::mem::replace(&mut self.current, fresh));
            }
            let number = self.next as usize;
            self.next += 1;
            let dialed = self.dialer.dial();
            self.failing = dialed.is_err();
            match dialed {
                Ok(socket) => {
                    let purpose = Purpose {
                        role: Role::Passing,
                        number,
                        topic: 0,
                        began: intended,
                    };
                    self.current.add(purpose, socket)?;
                }
                Err((address, source)) if number == 0 => {
                    return Err(Error::Connect {
                        number: 1,
                        total: 1,
                        address: address.to_string(),
                        remedy: remedy(&source),
                        source,
                    });
                }
                Err((address, source)) => {
                    self.operations.fail();
                    let remedy = remedy(&source);
                    self.current
                        .error(format!("a connection to {address} failed: {source}{remedy}"));
                    // It will not be better at once.
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    fn sleep(&self, now: u64, finished: bool) -> Wait {
        if self.failing && !finished {
            return Wait::AtMost(SHORT_NAP);
        }
        let nap = if self.retired.is_empty() { NAP } else { SHORT_NAP };
        // A window without room, and what comes when all has begun, depend on what arrives.
        let due = self.schedule.wait(self.next, now).filter(|_| !finished);
        let full = self.current.unsettled() >= OPENING;
        match due {
            Some(due) if due.is_zero() && !full => Wait::No,
            Some(due) if !full => Wait::AtMost(nap.min(due)),
            _ => Wait::AtMost(nap),
        }
    }

    /// Counts what has opened and has it closed, and lets go of rings whose connections have all ended.
    fn settle(&mut self) {
        for exchange in self.retired.iter_mut().chain([&mut self.current]) {
            for passed in std::mem::take(&mut exchange.passing) {
                self.operations.complete(passed.began, passed.opened);
                exchange.close(passed.slot);
            }
        }
        for index in (0..self.retired.len()).rev() {
            let exchange = &self.retired[index];
            if exchange.gone == exchange.peers.len() {
                let ended = self.retired.swap_remove(index);
                self.let_go(ended);
            }
        }
    }

    /// Keeps what is to be known of a ring.
    fn let_go(&mut self, mut exchange: Exchange<'a>) {
        self.opening.add(&exchange.opening).expect("they are made alike");
        self.handshakes.add(std::mem::take(&mut exchange.handshakes));
        self.operations.failed += exchange.refused;
        self.ended += exchange.gone;
        self.errors.extend(exchange.take_errors());
    }

    /// Connections that have not ended.
    fn under_way(&self) -> usize {
        let alive = |exchange: &Exchange<'_>| exchange.peers.len() - exchange.gone;
        self.retired.iter().map(alive).sum::<usize>() + alive(&self.current)
    }

    /// Connections that have ended.
    fn gone(&self) -> usize {
        let retired = self.retired.iter().map(|exchange| exchange.gone).sum::<usize>();
        self.ended + retired + self.current.gone
    }

    fn finish(mut self) -> Outcome {
        let steps = self.operations.steps.len();
        for exchange in std::mem::take(&mut self.retired) {
            self.let_go(exchange);
        }
        let current = &mut self.current;
        self.opening.add(&current.opening).expect("they are made alike");
        self.handshakes.add(std::mem::take(&mut current.handshakes));
        self.operations.failed += current.refused;
        self.errors.extend(current.take_errors());
        Outcome {
            faults: Faults::default(),
            steps: vec![Step::new(); steps],
            published: vec![0; steps],
            failed: self.operations.failed,
            unanswered: self.operations.unanswered,
            last: self.operations.last,
            operations: self.operations.steps,
            slow: SlowReport::default(),
            opening: self.opening,
            handshakes: self.handshakes,
            foreign: 0,
            effort: differences(self.effort),
            errors: self.errors,
        }
    }
}
