//! Whether the workers live: each is woken now and then, and has to go round its loop for it.

use std::sync::Arc;

use tidecast_worker::{Counters, Mesh};

/// Looks after the workers.
pub(crate) struct Heart {
    mesh: Arc<Mesh>,
    counters: Vec<Arc<Counters>>,
    workers: Vec<Pulse>,
}

/// What was seen of a worker.
#[derive(Clone, Copy)]
struct Pulse {
    /// Its turns when it was woken last.
    turns: u64,
    /// How often in a row it was woken and did nothing.
    missed: u32,
}

impl Pulse {
    /// It is looked at again, and has made so many turns by now.
    fn look(&mut self, turns: u64) {
        let missed = if turns == self.turns { self.missed + 1 } else { 0 };
        *self = Pulse { turns, missed };
    }
}

impl Heart {
    /// Wakes all workers for the first time.
    pub(crate) fn new(mesh: Arc<Mesh>, counters: Vec<Arc<Counters>>) -> Heart {
        let never = Pulse {
            turns: u64::MAX,
            missed: 0,
        };
        let mut heart = Heart {
            workers: vec![never; counters.len()],
            mesh,
            counters,
        };
        heart.beat();
        heart
    }

    /// Sees who has done something since the last beat, and wakes all workers again.
    pub(crate) fn beat(&mut self) {
        for (worker, (counters, pulse)) in self.counters.iter().zip(&mut self.workers).enumerate() {
            pulse.look(counters.turns.get());
            self.mesh.nudge(worker);
        }
    }

    /// The workers that have done nothing for so many beats in a row. Beats are counted, and not time: if the whole process stood
    /// still, no worker is to blame.
    pub(crate) fn silent(&self, beats: u32) -> Vec<usize> {
        let workers = self.workers.iter().enumerate();
        let silent = workers.filter(|(_, pulse)| pulse.missed >= beats);
        silent.map(|(worker, _)| worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidecast_worker::MailboxLimits;

    use super::*;

    #[test]
    fn workers_that_do_not_turn_are_silent_for_as_many_beats() {
        let limits = MailboxLimits {
            messages: 1,
            bytes: 1,
            answers: 1,
        };
        // Nobody runs them.
        let mut heart = Heart::new(Arc::new(Mesh::new(2, limits)), vec![Arc::default(), Arc::default()]);
        assert!(heart.silent(1).is_empty(), "they were woken only now");
        heart.beat();
        assert_eq!(heart.silent(1), [0, 1]);
        heart.workers[0].look(1);
        heart.workers[1].look(0);
        assert_eq!(
            (heart.silent(1), heart.silent(2), heart.silent(3)),
            (vec![1], vec![1], vec![])
        );
    }
}
