//! Things that are done one by one and confirmed: commands, connections.

use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::pulse::Pulse;
use crate::tally::{LONGEST, histogram};
use crate::timeline::Timeline;

/// The operations of one thread.
#[derive(Debug)]
pub(crate) struct Operations {
    timeline: Timeline,
    pulse: Arc<Pulse>,
    hints: [usize; 2],
    /// By step.
    pub(crate) steps: Vec<Done>,
    /// Before, in and after the span.
    pub(crate) all: u64,
    pub(crate) failed: u64,
    /// Never answered.
    pub(crate) unanswered: u64,
    pub(crate) last: u64,
}

/// The operations of a step.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// Completed in it.
    pub(crate) count: u64,
    /// Of those that were to begin in it.
    pub(crate) latency: Histogram<u64>,
}

impl Done {
    pub(crate) fn new() -> Done {
        Done {
            count: 0,
            latency: histogram(),
        }
    }

    pub(crate) fn add(&mut self, other: &Done) {
        self.count += other.count;
        self.latency.add(&other.latency).expect("they are made alike");
    }
}

impl Operations {
    /// Latencies beat in `pulse` too.
    pub(crate) fn new(timeline: Timeline, pulse: Arc<Pulse>) -> Operations {
        Operations {
            pulse,
            hints: [0; 2],
            steps: vec![Done::new(); timeline.steps().len()],
            all: 0,
            failed: 0,
            unanswered: 0,
            last: 0,
            timeline,
        }
    }

    /// One that was to begin at `intended` is complete at `now`.
    pub(crate) fn complete(&mut self, intended: u64, now: u64) {
        self.complete_several(1, intended, now);
    }

    /// `count` are complete at `now`, the last of which was to begin at `intended`, which is timed.
    pub(crate) fn complete_several(&mut self, count: u64, intended: u64, now: u64) {
        self.all += count;
        self.last = now;
        if let Some(step) = self.timeline.step_at(now, &mut self.hints[0]) {
            self.steps[step].count += count;
        }
        let latency = now.saturating_sub(intended).min(LONGEST);
        self.pulse.beat(latency, 1);
        if let Some(step) = self.timeline.step_at(intended, &mut self.hints[1]) {
            self.steps[step]
                .latency
                .record(latency)
                .expect("the value is within the bounds");
        }
    }

    /// One was refused.
    pub(crate) fn fail(&mut self) {
        self.failed += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::load::Load;
    use crate::plan::Extent;

    #[test]
    fn operations_count_when_they_complete_and_are_timed_from_when_they_were_to_begin() {
        let load = Load::parse_rate("10,20", Duration::from_secs(1)).unwrap();
        let extent = Extent::Time {
            warmup: Duration::from_secs(1),
            measured: Duration::from_secs(2),
        };
        let timeline = Timeline::begin(Clock::start(), Duration::ZERO, extent, &load);
        let start = timeline.span().start;
        let mut operations = Operations::new(timeline, Arc::default());
        operations.complete(start - 500, start + 1_000);
        operations.complete(start + 999_000_000, start + 1_001_000_000);
        operations.complete(start + 1_999_000_000, start + 2_001_000_000);
        let counts: Vec<_> = operations
            .steps
            .iter()
            .map(|step| (step.count, step.latency.len()))
            .collect();
        assert_eq!(counts, [(1, 1), (1, 1)]);
        assert_eq!((operations.all, operations.last), (3, start + 2_001_000_000));
    }
}
