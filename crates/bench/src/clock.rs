//! The one clock of a run.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Nanoseconds since the generator started, the same for all its threads; monotonic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { epoch: Instant::now() }
    }

    #[inline]
    pub(crate) fn now(self) -> u64 {
        // 584 years fit.
        self.epoch.elapsed().as_nanos() as u64
    }
}

/// A duration in the unit of the clock.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The measured part of a run, in nanoseconds of the clock. It never ends if messages are counted instead.
pub(crate) type Span = Range<u64>;
