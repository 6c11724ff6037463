//! What a thread of the generator has used: so that a run that was limited by the generator is known from one that was
//! limited by the broker.

use std::ops::AddAssign;
use std::time::Duration;

use tidecast_driver::thread_cpu_time;

/// What the calling thread has used so far, or in a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Processor time, user and system.
    pub(crate) cpu: Duration,
    /// Time in which it could have run, but no core was free: what other processes take from it.
    pub(crate) waited: Duration,
}

impl Effort {
    /// Of the calling thread, so far. Where the kernel does not count waiting, there is none.
    pub(crate) fn now() -> Effort {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Effort {
            cpu: thread_cpu_time(),
            waited: waited(&statistics).unwrap_or_default(),
        }
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Effort) -> Effort {
        Effort {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }

    /// Time in which it was not idle.
    pub(crate) fn awake(&self) -> Duration {
        self.cpu + self.waited
    }
}

impl AddAssign for Effort {
    fn add_assign(&mut self, other: Effort) {
        self.cpu += other.cpu;
        self.waited += other.waited;
    }
}

/// The second number of `schedstat`: nanoseconds on a run queue.
fn waited(statistics: &str) -> Option<Duration> {
    let nanoseconds = statistics.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_core_is_the_second_number() {
        assert_eq!(waited("221427 2472420 2\n"), Some(Duration::from_nanos(2_472_420)));
        assert_eq!(waited(""), None);
    }

    #[test]
    fn efforts_of_spans_add_up() {
        let effort = |cpu, waited| Effort {
            cpu: Duration::from_millis(cpu),
            waited: Duration::from_millis(waited),
        };
        let mut sum = effort(30, 8).since(effort(10, 5));
        assert_eq!((sum, sum.awake()), (effort(20, 3), Duration::from_millis(23)));
        sum += effort(1, 2);
        assert_eq!(sum, effort(21, 5));
    }
}
