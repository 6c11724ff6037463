//! What one thread's subscribers have received: checked, counted, timed.

use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::check::{Checker, Faults};
use crate::ledger::Ledger;
use crate::payload::{Locator, Stamp};
use crate::plan::Plan;
use crate::pulse::Pulse;
use crate::scenario::{Layout, Share};
use crate::timeline::Timeline;

/// The longest latency told apart, in nanoseconds: an hour.
pub(crate) const LONGEST: u64 = 3_600_000_000_000;

/// A histogram of nanoseconds, exact to three digits from 64 ns on.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(64, LONGEST, 3).expect("the bounds are in order and the digits at most five")
}

/// A message that is no delivery of this run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

/// Deliveries are counted in batches, the bytes of one read each: one clock reading stands for all of them.
#[derive(Debug)]
pub(crate) struct Tally {
    run: u32,
    /// Publishers of each topic.
    publishers: usize,
    /// By subscriber of this thread.
    topics: Vec<u32>,
    /// By topic.
    locators: Vec<Locator>,
    checker: Checker,
    ledger: Ledger,
    timeline: Timeline,
    /// Where the last look into the timeline for a time of sending, and for one of arrival, ended.
    hints: [usize; 2],
    /// By step.
    steps: Vec<Step>,
    all_deliveries: u64,
    /// Bytes of frames with them.
    all_bytes: u64,
    pulse: Option<Arc<Pulse>>,
    /// When the last delivery came.
    last: u64,
    /// Of the current batch: when it arrived, and what it held so far.
    arrived: u64,
    batch: u64,
    /// Deliveries of the batch that were to be sent at the same time, and that time: messages that were sent together
    /// come together and are recorded together.
    alike: u64,
    intended: u64,
}

/// What was received in a step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) deliveries: u64,
    /// Bytes of frames.
    pub(crate) wire_bytes: u64,
    /// Of the deliveries that were to be sent in it.
    pub(crate) latency: Histogram<u64>,
}

impl Step {
    pub(crate) fn new() -> Step {
        Step {
            deliveries: 0,
            wire_bytes: 0,
            latency: histogram(),
        }
    }

    pub(crate) fn add(&mut self, other: &Step) {
        self.deliveries += other.deliveries;
        self.wire_bytes += other.wire_bytes;
        self.latency.add(&other.latency).expect("they are made alike");
    }
}

/// What was received in the whole run.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) faults: Faults,
    pub(crate) steps: Vec<Step>,
    pub(crate) last: u64,
}

impl Tally {
    /// For the subscribers of one thread, whose latencies beat in `pulse` too, if it is they that are watched.
    pub(crate) fn new(run: u32, plan: &Plan, layout: &Layout, share: &Share, pulse: Option<Arc<Pulse>>) -> Tally {
        let subscribers = share.subscribers.clone();
        let by_topic = layout.subscribers_by_topic(share);
        let waiting = (0..layout.publishers())
            .map(|publisher| by_topic[layout.topic_of_publisher(publisher) as usize])
            .collect();
        Tally {
            run,
            publishers: layout.publishers_each as usize,
            topics: subscribers
                .clone()
                .map(|subscriber| layout.topic_of_subscriber(subscriber))
                .collect(),
            locators: (0..layout.topics)
                .map(|topic| Locator::new(plan.protocol, &plan.topic_name(topic)))
                .collect(),
            checker: Checker::new(subscribers.len(), layout.publishers_each as usize),
            ledger: Ledger::new(waiting, layout.in_flight()),
            timeline: Timeline::never(),
            hints: [0; 2],
            steps: vec![Step::new()],
            all_deliveries: 0,
            all_bytes: 0,
            pulse,
            last: 0,
            arrived: 0,
            batch: 0,
            alike: 0,
            intended: 0,
        }
    }

    /// Says what part of the run is measured.
    pub(crate) fn measure(&mut self, timeline: Timeline) {
        self.steps = vec![Step::new(); timeline.steps().len()];
        self.timeline = timeline;
    }

    /// Publishers with messages that all subscribers of this thread have got since the last call, and how many those are.
    pub(crate) fn take_moved(&mut self) -> impl Iterator<Item = (usize, u64)> {
        self.ledger.take_moved()
    }

    /// Before, in and after the span.
    pub(crate) fn all_deliveries(&self) -> u64 {
        self.all_deliveries
    }

    /// Bytes of frames, before, in and after the span.
    pub(crate) fn all_bytes(&self) -> u64 {
        self.all_bytes
    }

    /// The stamp of a delivery of `topic`, if it is one of this run.
    pub(crate) fn stamp(&self, topic: u32, message: &[u8]) -> Option<Stamp> {
        let stamp = self.locators.get(topic as usize)?.stamp(message)?;
        (stamp.run == self.run).then_some(stamp)
    }

    /// Bytes arrived at `now`; the deliveries in them follow, then [`Tally::end_batch`].
    #[inline]
    pub(crate) fn begin_batch(&mut self, now: u64) {
        self.arrived = now;
    }

    /// A message was delivered to a subscriber of this thread.
    #[inline]
    pub(crate) fn deliver(&mut self, subscriber: usize, message: &[u8]) -> Result<(), NotOurs> {
        let topic = self.topics[subscriber] as usize;
        let stamp = match self.locators[topic].stamp(message) {
            Some(stamp) if stamp.run == self.run => stamp,
            _ => return Err(NotOurs),
        };
        let Stamp {
            publisher,
            sequence,
            intended,
            ..
        } = stamp;
        let publisher = publisher as usize;
        // The number among those of the topic: what comes from another one's publisher has gone astray.
        let number = publisher.wrapping_sub(topic * self.publishers);
        if number >= self.publishers {
            self.checker.corrupt();
            return Ok(());
        }
        let accounted = self
            .checker
            .deliver(subscriber, number, sequence, self.ledger.capacity());
        self.ledger.account(publisher, accounted);
        if intended != self.intended {
            self.record();
            self.intended = intended;
        }
        self.alike += 1;
        self.batch += 1;
        Ok(())
    }

    /// The batch, of `bytes` bytes as they came, is over.
    #[inline]
    pub(crate) fn end_batch(&mut self, bytes: usize) {
        self.record();
        if self.batch > 0 {
            self.last = self.arrived;
        }
        self.all_deliveries += self.batch;
        self.all_bytes += bytes as u64;
        if let Some(step) = self.timeline.step_at(self.arrived, &mut self.hints[1]) {
            self.steps[step].deliveries += self.batch;
            self.steps[step].wire_bytes += bytes as u64;
        }
        self.batch = 0;
    }

    /// Records the latency of the deliveries that are alike. What was to be sent in a step counts there, whenever it came:
    /// a slow delivery must not escape by being late.
    fn record(&mut self) {
        if self.alike == 0 {
            return;
        }
        let latency = self.arrived.saturating_sub(self.intended).min(LONGEST);
        if let Some(pulse) = &self.pulse {
            pulse.beat(latency, self.alike);
        }
        if let Some(step) = self.timeline.step_at(self.intended, &mut self.hints[0]) {
            self.steps[step]
                .latency
                .record_n(latency, self.alike)
                .expect("the value is within the bounds");
        }
        self.alike = 0;
    }

    /// Ends the run, in which publisher `p` sent `sent[p]` messages.
    pub(crate) fn finish(self, sent: &[u64]) -> Received {
        let Tally { topics, publishers, .. } = self;
        let of_topic = |subscriber: usize| &sent[topics[subscriber] as usize * publishers..][..publishers];
        Received {
            faults: self.checker.finish(of_topic),
            steps: self.steps,
            last: self.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::load::Load;
    use crate::payload::Template;
    use crate::plan::Extent;
    use crate::protocol::Protocol;
    use crate::scenario::Scenario;

    const RUN: u32 = 9;

    fn tally(scenario: Scenario) -> Tally {
        let plan = Plan {
            scenario,
            load: Load::Window(8),
            ..Plan::default()
        };
        let layout = plan.layout();
        Tally::new(RUN, &plan, &layout, &layout.share(0, 1), None)
    }

    fn fanout() -> Tally {
        tally(Scenario::Fanout {
            publishers: 1,
            subscribers: 2,
        })
    }

    fn measured() -> (Tally, u64) {
        let mut tally = fanout();
        let extent = Extent::Time {
            warmup: Duration::ZERO,
            measured: Duration::from_millis(1),
        };
        let timeline = Timeline::begin(Clock::start(), Duration::from_millis(1), extent, &Load::Window(8));
        let start = timeline.start;
        tally.measure(timeline);
        (tally, start)
    }

    fn message(run: u32, publisher: u32, sequence: u32, intended: u64) -> Vec<u8> {
        let stamp = Stamp {
            run,
            publisher,
            sequence,
            intended,
        };
        Template::new(Protocol::Raw, "t", 32).stamped(&stamp).to_vec()
    }

    fn batch(tally: &mut Tally, now: u64, subscriber: usize, messages: &[(u32, u64)]) {
        tally.begin_batch(now);
        for &(sequence, intended) in messages {
            tally.deliver(subscriber, &message(RUN, 0, sequence, intended)).unwrap();
        }
        tally.end_batch(messages.len() * 34);
    }

    #[test]
    fn deliveries_count_by_arrival_and_latencies_by_the_time_of_sending() {
        let (mut tally, start) = measured();
        // Sent before the span, arrived in it; sent in it, twice at the same time; sent in it, arrived after it.
        batch(
            &mut tally,
            start + 100_000,
            0,
            &[(0, start - 100_000), (1, start + 50_000), (2, start + 50_000)],
        );
        batch(&mut tally, start + 1_500_000, 0, &[(3, start + 990_000)]);
        batch(&mut tally, start + 1_600_000, 1, &[(0, start - 100_000)]);
        assert_eq!(tally.take_moved().collect::<Vec<_>>(), [(0, 1)]);
        assert_eq!(tally.all_deliveries(), 5);
        let received = tally.finish(&[4]);
        assert_eq!(received.faults.lost, 3, "the second subscriber lacks three");
        let [step] = &*received.steps else {
            panic!("one step is measured");
        };
        assert_eq!(
            (step.deliveries, step.wire_bytes, received.last),
            (3, 102, start + 1_600_000)
        );
        assert_eq!(step.latency.len(), 3);
        let (min, max) = (step.latency.min() as f64, step.latency.max() as f64);
        assert!((min - 50_000.0).abs() < 100.0, "{min}");
        assert!((max - 510_000.0).abs() < 1_000.0, "{max}");
    }

    #[test]
    fn messages_of_other_runs_are_not_ours_and_impossible_ones_are_corrupt() {
        let mut tally = fanout();
        assert_eq!(tally.deliver(0, &message(RUN + 1, 0, 0, 0)), Err(NotOurs));
        assert_eq!(tally.deliver(0, b"hello"), Err(NotOurs));
        assert_eq!(tally.deliver(0, &message(RUN, 1, 0, 0)), Ok(()), "no such publisher");
        assert_eq!(
            tally.deliver(0, &message(RUN, 0, 8, 0)),
            Ok(()),
            "more than can be in flight"
        );
        tally.end_batch(0);
        assert_eq!(tally.all_deliveries(), 1);
        assert_eq!(tally.finish(&[0]).faults.corrupt, 2);
    }

    #[test]
    fn a_message_at_a_subscriber_of_another_topic_is_corrupt() {
        let mut tally = tally(Scenario::Echo { connections: 3 });
        assert_eq!(tally.deliver(1, &message(RUN, 1, 0, 0)), Ok(()));
        assert_eq!(tally.deliver(1, &message(RUN, 2, 0, 0)), Ok(()));
        assert_eq!(tally.take_moved().collect::<Vec<_>>(), [(1, 1)]);
        let faults = tally.finish(&[0, 1, 1]).faults;
        assert_eq!((faults.corrupt, faults.lost), (1, 1));
    }
}
