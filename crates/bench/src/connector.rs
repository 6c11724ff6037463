//! One thread that opens connections and closes them again.

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
use crate::scenario::{Layout, Pace, Role};
use crate::schedule::Schedule;
use crate::shared::Shared;
use crate::slow::SlowReport;
use crate::tally::Step;
use crate::thread::{NAP, Outcome, Ready, announce, dialer, differences, exchange};
use crate::timeline::{Sampled, Timeline};

/// Connections that may be under way, closing ones included, if the limit of descriptors allows.
const SLOTS: u64 = 16_384;

/// Connections that may be opening, whatever is due: the backlog of a server has an end.
const OPENING: usize = 4096;

/// Connections begun in one turn: answers that have come meanwhile are not to wait for long.
const BATCH: usize = 32;

/// How long the thread sleeps when there was no socket to be had.
const SHORT_NAP: Duration = Duration::from_millis(1);

/// Runs thread `index`, as [`thread::run`](crate::thread::run) does.
///
/// # Errors
/// There is no driver, or it failed. A connection that fails is one of the run's errors.
pub(crate) fn run(
    index: u32,
    plan: &Plan,
    layout: &Layout,
    shared: &Shared,
    ready: &Sender<Ready>,
) -> Result<Outcome, Error> {
    let mut connector = Connector::new(index, plan, layout, shared)?;
    announce(index, &connector.exchange, ready)?;
    let timeline = loop {
        if shared.is_stopped() {
            return Err(Error::Stopped);
        }
        if let Some(timeline) = shared.timeline() {
            break timeline;
        }
        connector.exchange.turn(Wait::AtMost(NAP))?;
    };
    connector.begin(timeline);
    connector.work(timeline)?;
    Ok(connector.finish())
}

struct Connector<'a> {
    index: usize,
    plan: &'a Plan,
    shared: &'a Shared,
    dialer: Dialer,
    exchange: Exchange<'a>,
    schedule: Schedule,
    /// No socket was to be had when one was last asked for.
    failing: bool,
    /// Connections that were begun.
    next: u64,
    limit: u64,
    operations: Operations,
    effort: Sampled<Effort>,
}

impl<'a> Connector<'a> {
    fn new(index: u32, plan: &'a Plan, layout: &Layout, shared: &'a Shared) -> Result<Self, Error> {
        let threads = plan.threads.get();
        let slots = descriptor_limit().map_err(Error::Driver)?.min(SLOTS) as usize;
        let share = layout.share(index, threads);
        Ok(Connector {
            index: index as usize,
            plan,
            shared,
            dialer: dialer(plan, layout)?,
            exchange: exchange(index as usize, plan, layout, shared, &share, slots)?,
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
            operations: Operations::new(Timeline::never(), shared.pulse(index as usize)),
            effort: Sampled::new(&Timeline::never()),
        })
    }

    fn begin(&mut self, timeline: &Timeline) {
        self.schedule.begin(timeline.start);
        self.operations = Operations::new(timeline.clone(), self.shared.pulse(self.index));
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
            self.exchange.turn(wait)?;
            self.settle();
            let events = self.operations.all + self.exchange.gone as u64;
            self.shared.happened(self.index, self.operations.all, 0);
            if self.exchange.under_way() == 0 && finished {
                return Ok(());
            }
            if events > ended || self.exchange.under_way() == 0 {
                (ended, progress) = (events, now);
            } else if now.saturating_sub(progress) > stall {
                self.operations.unanswered = self.exchange.under_way() as u64;
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
            let Some(intended) = self.schedule.due(self.next, self.exchange.under_way() as u64, now) else {
                return Ok(now >= end);
            };
            if intended >= end {
                return Ok(true);
            }
            if self.is_full() {
                return Ok(false);
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
                    self.exchange.add(purpose, socket)?;
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
                    self.exchange
                        .error(format!("a connection to {address} failed: {source}{remedy}"));
                    // It will not be better at once.
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    /// Whether no connection can be begun, whatever is due.
    fn is_full(&self) -> bool {
        self.exchange.unsettled() >= OPENING || self.exchange.driver.vacant_slots() == 0
    }

    fn sleep(&self, now: u64, finished: bool) -> Wait {
        if self.failing && !finished {
            return Wait::AtMost(SHORT_NAP);
        }
        // A window without room, and what comes when all has begun, depend on what arrives.
        let due = self
            .schedule
            .wait(self.next, now)
            .filter(|_| !finished && !self.is_full());
        match due {
            Some(due) if due.is_zero() => Wait::No,
            Some(due) => Wait::AtMost(NAP.min(due)),
            None => Wait::AtMost(NAP),
        }
    }

    /// Counts what has opened, and has it closed.
    fn settle(&mut self) {
        for passed in std::mem::take(&mut self.exchange.passing) {
            self.operations.complete(passed.began, passed.opened);
            self.exchange.close(passed.slot);
        }
    }

    fn finish(mut self) -> Outcome {
        let steps = self.operations.steps.len();
        let errors = self.exchange.take_errors();
        Outcome {
            faults: Faults::default(),
            steps: vec![Step::new(); steps],
            published: vec![0; steps],
            failed: self.operations.failed + self.exchange.refused,
            unanswered: self.operations.unanswered,
            last: self.operations.last,
            operations: self.operations.steps,
            slow: SlowReport::default(),
            opening: self.exchange.opening,
            handshakes: self.exchange.handshakes,
            foreign: 0,
            effort: differences(self.effort),
            errors,
        }
    }
}
