//! Falling asleep without missing a message, and waking without waking twice.
//!
//! ```text
//!   receiver                          sender
//!   asleep = true                     put a message
//!   ── fence ──                       ── fence ──
//!   nothing to take? then sleep       asleep? then, if it is the first to see it, wake
//! ```
//!
//! Either the receiver sees the message or the sender sees it asleep: the fences order each side's write before its
//! read, so not both reads can miss the other's write. A sender that wakes takes the flag, so that of many senders one
//! wakes; the receiver then finds everybody's messages.

use std::sync::atomic::Ordering;

use crate::sync::{AtomicBool, fence};

/// Whether a thread sleeps.
#[derive(Debug)]
pub(crate) struct Sleep(AtomicBool);

impl Sleep {
    pub(crate) fn new() -> Sleep {
        Sleep(AtomicBool::new(false))
    }

    /// Announces sleep. Gives false, and takes it back, if there is something to do after all.
    pub(crate) fn prepare(&self, idle: impl FnOnce() -> bool) -> bool {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sleep = idle();
        if !sleep {
            self.end();
        }
        sleep
    }

    /// Sleep is over.
    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// To be called after giving the thread something to do: whether the caller has to wake it.
    pub(crate) fn interrupt(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::*;

    /// Two senders and a receiver that sleeps when it has nothing: no message stays unseen while it sleeps unwoken,
    /// and one sleep is ended by at most one wake-up.
    #[test]
    fn a_receiver_never_sleeps_through_a_message() {
        // Three preemptions find every published bug of this kind; without a bound this takes a minute.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let sleep = Arc::new(Sleep::new());
            let messages = Arc::new(AtomicUsize::new(0));
            let wakes = Arc::new(AtomicUsize::new(0));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (sleep, messages, wakes) = (sleep.clone(), messages.clone(), wakes.clone());
                    thread::spawn(move || {
                        messages.fetch_add(1, Ordering::Relaxed);
                        if sleep.interrupt() {
                            wakes.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let slept = sleep.prepare(|| messages.load(Ordering::Relaxed) == 0);
            for sender in senders {
                sender.join().unwrap();
            }
            let wakes = wakes.load(Ordering::Relaxed);
            assert!(wakes <= 1, "one sleep, {wakes} wake-ups");
            assert!(!slept || wakes == 1, "it slept and nobody woke it");
        });
    }
}
