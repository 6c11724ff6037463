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

/// Has the kernel wake the calling thread on time. By default it may be 50 µs late, in order to wake several threads at
/// once, and every latency of an open loop would include that.
///
/// Where `/proc` does not allow it, the delay remains.
pub(crate) fn wake_on_time() {
    // `pid/task/tid`; the file is found only under the thread's own number.
    let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    if let Some(thread) = thread.file_name() {
        let slack = std::path::Path::new("/proc").join(thread).join("timerslack_ns");
        let _ = std::fs::write(slack, "1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_to_wake_on_time_sleeps_without_slack() {
        std::thread::spawn(|| {
            wake_on_time();
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            let thread = thread.file_name().unwrap().to_str().unwrap().to_owned();
            let slack = std::fs::read_to_string(format!("/proc/{thread}/timerslack_ns")).unwrap();
            assert_eq!(slack.trim(), "1");
        })
        .join()
        .unwrap();
    }
}
