//! The workers, as the control plane speaks to them.

use std::sync::Arc;

use tidecast_worker::{Mesh, Reply, Task, place_of};
use tokio::sync::mpsc;

use super::PATIENCE;

/// A worker did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// It has too much to do for us already.
    #[error("worker {0} has as many tasks as it takes: try again")]
    Busy(usize),
    /// No answer came in time.
    #[error("worker {0} did not answer within 5 s: it is overloaded, or ends")]
    Silent(usize),
}

/// The workers.
#[derive(Debug)]
pub(crate) struct Crew {
    mesh: Arc<Mesh>,
}

impl Crew {
    pub(crate) fn new(mesh: Arc<Mesh>) -> Crew {
        Crew { mesh }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.mesh.workers()
    }

    /// Messages that wait for a worker, and the bytes of their payloads.
    pub(crate) fn depth(&self, worker: usize) -> (usize, usize) {
        self.mesh.depth(worker)
    }

    /// The worker that a connection's name says it belongs to.
    pub(crate) fn of_connection(&self, name: &str) -> Option<usize> {
        let (worker, _) = place_of(name)?;
        Some(worker.into()).filter(|worker| *worker < self.len())
    }

    /// Has a worker do a task, and waits for the answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        worker: usize,
        task: impl FnOnce(Reply<T>) -> Task,
    ) -> Result<T, Unavailable> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let reply = Reply::new(move |answer| {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        });
        let given = self.mesh.give(worker, task(reply));
        given.map_err(|_| Unavailable::Busy(worker))?;
        match tokio::time::timeout(PATIENCE, receiver.recv()).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) | Err(_) => Err(Unavailable::Silent(worker)),
        }
    }

    /// Gives a worker a task whose answers, if any, come by other ways.
    pub(crate) fn tell(&self, worker: usize, task: Task) -> Result<(), Unavailable> {
        self.mesh.give(worker, task).map_err(|_| Unavailable::Busy(worker))
    }
}
