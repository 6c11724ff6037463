//! One publisher: which messages it sends now.

use std::time::Duration;

use tidecast_websocket::{Opcode, Version, encode_frame};

use crate::clock::Span;
use crate::ledger::MAX_IN_FLIGHT;
use crate::payload::{Stamp, Template};
use crate::plan::{Extent, Plan, Protocol};
use crate::schedule::Schedule;

/// Bytes a publisher puts into one send, unless a single message has more: a turn of the loop does bounded work.
const BATCH: usize = 1 << 20;

/// The state of one publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Its number in the run.
    pub(crate) number: usize,
    /// The slot of its connection.
    pub(crate) slot: u32,
    run: u32,
    version: Version,
    opcode: Opcode,
    template: Template,
    schedule: Schedule,
    /// The number of the next message, which is how many were sent.
    next: u64,
    /// How many it sends at most.
    limit: u64,
    span: Span,
    published: u64,
    finished: bool,
    random: fastrand::Rng,
}

impl Publisher {
    /// One that sends nothing before [`Publisher::begin`].
    pub(crate) fn new(plan: &Plan, run: u32, number: usize, slot: u32) -> Publisher {
        Publisher {
            number,
            slot,
            run,
            version: plan.version,
            opcode: match plan.protocol {
                Protocol::Raw => Opcode::Binary,
                Protocol::Json => Opcode::Text,
            },
            template: Template::new(plan.protocol, &plan.topic, plan.size),
            schedule: Schedule::new(plan.load, u64::MAX, number, plan.publishers.get() as usize),
            next: 0,
            limit: match plan.extent {
                Extent::Time { .. } => u64::MAX,
                Extent::Count(count) => count,
            },
            span: u64::MAX..u64::MAX,
            published: 0,
            finished: false,
            // The masking keys of a load generator protect nobody from anything; cheap ones do.
            random: fastrand::Rng::new(),
        }
    }

    /// Publishing begins at `start`; `span` is measured, and nothing is sent after it.
    pub(crate) fn begin(&mut self, plan: &Plan, start: u64, span: Span) {
        self.schedule = Schedule::new(plan.load, start, self.number, plan.publishers.get() as usize);
        self.span = span;
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.next
    }

    /// Messages that were to be sent in the span.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Whether it will send no more.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// It sends no more.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// Appends the frames of all messages that are to be sent at `now`, `landed` of the earlier ones having reached every
    /// subscriber.
    pub(crate) fn publish(&mut self, landed: u64, now: u64, out: &mut Vec<u8>) {
        while !self.finished && out.len() < BATCH {
            if self.next == self.limit {
                self.finished = true;
                return;
            }
            let in_flight = self.next - landed.min(self.next);
            if in_flight >= MAX_IN_FLIGHT {
                return;
            }
            let Some(intended) = self.schedule.due(self.next, in_flight, now) else {
                // Nothing is due; the end of the run is noticed all the same.
                self.finished = now >= self.span.end;
                return;
            };
            if intended >= self.span.end {
                self.finished = true;
                return;
            }
            let stamp = Stamp {
                run: self.run,
                publisher: self.number as u32,
                sequence: self.next,
                intended,
            };
            let key = self.random.u32(..).to_ne_bytes();
            encode_frame(self.version, self.opcode, self.template.stamped(&stamp), Some(key), out);
            self.next += 1;
            self.published += u64::from(self.span.contains(&intended));
        }
    }

    /// How long after `now` the next message is due, `landed` of the earlier ones having reached every subscriber; none if
    /// that does not depend on time.
    pub(crate) fn wait(&self, landed: u64, now: u64) -> Option<Duration> {
        if self.finished || self.next - landed.min(self.next) >= MAX_IN_FLIGHT {
            return None;
        }
        self.schedule.wait(self.next, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Load;

    const FRAME: usize = 2 + 4 + 100;

    fn publisher(load: Load, extent: Extent) -> (Plan, Publisher) {
        let plan = Plan {
            load,
            extent,
            size: 100,
            ..Plan::default()
        };
        let publisher = Publisher::new(&plan, 1, 0, 0);
        (plan, publisher)
    }

    fn frames(publisher: &mut Publisher, landed: u64, now: u64) -> usize {
        let mut out = Vec::new();
        publisher.publish(landed, now, &mut out);
        assert_eq!(out.len() % FRAME, 0);
        out.len() / FRAME
    }

    #[test]
    fn the_whole_window_goes_out_at_once_and_what_has_landed_is_replaced() {
        let (plan, mut publisher) = publisher(Load::Window(8), Extent::Count(20));
        publisher.begin(&plan, 100, 100..u64::MAX);
        assert_eq!(frames(&mut publisher, 0, 100), 8);
        assert_eq!(frames(&mut publisher, 0, 101), 0);
        assert_eq!(frames(&mut publisher, 3, 102), 3);
        assert_eq!(frames(&mut publisher, 11, 103), 8);
        assert!(!publisher.is_finished());
        assert_eq!(frames(&mut publisher, 19, 104), 1);
        assert!(publisher.is_finished());
        assert_eq!((publisher.sent(), publisher.published()), (20, 20));
    }

    #[test]
    fn a_run_by_time_ends_with_its_span_and_counts_what_was_sent_in_it() {
        let time = Extent::Time {
            warmup: Duration::ZERO,
            measured: Duration::ZERO,
        };
        let (plan, mut publisher) = publisher(Load::Window(2), time);
        publisher.begin(&plan, 0, 1_000..2_000);
        assert_eq!(frames(&mut publisher, 0, 500), 2);
        assert_eq!(frames(&mut publisher, 2, 1_500), 2);
        assert_eq!(frames(&mut publisher, 2, 1_999), 0, "the window is full");
        assert!(!publisher.is_finished());
        assert_eq!(frames(&mut publisher, 2, 2_000), 0);
        assert!(publisher.is_finished(), "also with a full window");
        assert_eq!((publisher.sent(), publisher.published()), (4, 2));
    }

    #[test]
    fn an_open_loop_sends_all_that_is_overdue_up_to_what_can_be_in_flight() {
        let (plan, mut publisher) = publisher(Load::Rate(1e9), Extent::Count(u64::MAX));
        publisher.begin(&plan, 0, 0..u64::MAX);
        assert_eq!(publisher.wait(0, 0), Some(Duration::ZERO));
        let mut sent = 0;
        loop {
            match frames(&mut publisher, 0, u64::MAX / 2) {
                0 => break,
                some => sent += some as u64,
            }
        }
        assert_eq!(sent, MAX_IN_FLIGHT);
        assert_eq!(publisher.wait(0, u64::MAX / 2), None, "time alone does not help");
        assert_eq!(frames(&mut publisher, 5, u64::MAX / 2), 5);
    }
}
