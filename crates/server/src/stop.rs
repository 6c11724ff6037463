//! How long a stop takes, and what it asks of clients.

use std::time::Duration;

use tidecast_worker::Drain;

/// Beyond the time that workers give to closing handshakes, how long they may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// Over how long clients come back in any case.
const USUAL_RETURN: Duration = Duration::from_secs(5);

/// Settings of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopSettings {
    /// Over how long goodbyes are spread.
    pub(crate) spread: Duration,
    /// How long who has been told may take.
    pub(crate) patience: Duration,
    /// How many clients a second are to come back; any number, if it is 0.
    pub(crate) return_rate: u32,
}

impl StopSettings {
    /// What clients are given in all.
    pub(crate) fn time(&self) -> Duration {
        self.spread + self.patience
    }

    /// What workers have to end.
    pub(crate) fn limit(&self) -> Duration {
        self.time() + GRACE
    }

    /// The order for workers that have so many connections together. `succeeded` says that another process goes on.
    pub(crate) fn order(&self, connections: u64, succeeded: bool) -> Drain {
        let needed = match self.return_rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(connections as f64 / f64::from(rate)),
        };
        Drain {
            spread: self.spread,
            patience: self.patience,
            returning: needed.saturating_sub(USUAL_RETURN),
            succeeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_clients_there_were_the_longer_they_take_to_come_back() {
        let mut settings = StopSettings {
            spread: Duration::from_secs(2),
            patience: Duration::from_secs(5),
            return_rate: 1000,
        };
        for (connections, seconds) in [(0, 0), (5_000, 0), (6_000, 1), (1_000_000, 995)] {
            let order = settings.order(connections, false);
            assert_eq!(order.returning, Duration::from_secs(seconds), "{connections}");
        }
        settings.return_rate = 0;
        assert_eq!(settings.order(1_000_000, true).returning, Duration::ZERO);
        assert_eq!((settings.time().as_secs(), settings.limit().as_secs()), (7, 9));
    }
}
