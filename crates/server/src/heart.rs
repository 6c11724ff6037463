//! Whether the workers live: each is woken now and then, and has to go round its loop for it.

use std::sync::Arc;

use tidecast_worker::{Counters, Mesh};

/// Looks after the workers.
pub(crate) struct Heart {
    mesh: Arc<Mesh>,
    counters: Vec<Arc<Counters>>,
    /// The turns of each worker when it was woken last.
    turns: Vec<u64>,
}

impl Heart {
    /// Wakes all workers for the first time.
    pub(crate) fn new(mesh: Arc<Mesh>, counters: Vec<Arc<Counters>>) -> Heart {
        let mut heart = Heart {
            turns: vec![u64::MAX; counters.len()],
            mesh,
            counters,
        };
        heart.beat();
        heart
    }

    /// The workers that have done nothing since they were woken last; all are woken again.
    pub(crate) fn beat(&mut self) -> Vec<usize> {
        let mut silent = Vec::new();
        for (worker, (counters, before)) in self.counters.iter().zip(&mut self.turns).enumerate() {
            let turns = counters.turns.get();
            if std::mem::replace(before, turns) == turns {
                silent.push(worker);
            }
            self.mesh.nudge(worker);
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use tidecast_worker::MailboxLimits;

    use super::*;

    #[test]
    fn workers_that_do_not_turn_are_found_by_the_second_beat() {
        let limits = MailboxLimits {
            messages: 1,
            bytes: 1,
            answers: 1,
        };
        // Nobody runs them.
        let mut heart = Heart::new(Arc::new(Mesh::new(2, limits)), vec![Arc::default(), Arc::default()]);
        assert_eq!(heart.beat(), [0, 1]);
    }
}
