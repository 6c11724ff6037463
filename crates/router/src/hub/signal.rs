//! Waking those who wait for a message.
//!
//! The two sides each write one thing and then look at the other's: a receiver arms and then looks
//! for messages once more, a publisher makes a message visible and then looks who is armed. Both
//! with a sequentially consistent fence or operation in between, so that at least one of them sees
//! the other.

use std::sync::Arc;
use std::task::Waker;

use crate::lockfree::cells::sync::{AtomicBool, AtomicUsize, AtomicWaker, Ordering, SegQueue, fence};

/// Where the one receiver of a mailbox waits.
pub(crate) struct Signal {
    armed: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    pub(crate) fn new() -> Self {
        Signal {
            armed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// The receiver's part: what is published after this wakes it. It must look for messages once
    /// more before it sleeps.
    pub(crate) fn arm(&self, waker: &Waker) {
        self.waker.register(waker);
        self.armed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The publisher's part, after the message is there.
    pub(crate) fn notify(&self) {
        fence(Ordering::SeqCst);
        // Looked at first: nearly always nobody sleeps, and reading shares the line.
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// One receiver among many of a feed.
pub(crate) struct Sleeper {
    /// Among the waiters, or being woken.
    queued: AtomicBool,
    waker: AtomicWaker,
}

impl Sleeper {
    pub(crate) fn new() -> Self {
        Sleeper {
            queued: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }
}

/// Where the receivers of a feed wait. A publisher looks at one number if nobody does.
pub(crate) struct Waiters {
    /// How many are queued. Counted after they are, so that it may be off by those on their way, and
    /// even below 0, which is not 0 either.
    count: AtomicUsize,
    queue: SegQueue<Arc<Sleeper>>,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Waiters {
            count: AtomicUsize::new(0),
            queue: SegQueue::new(),
        }
    }

    /// As [`Signal::arm`].
    pub(crate) fn arm(&self, sleeper: &Arc<Sleeper>, waker: &Waker) {
        sleeper.waker.register(waker);
        // Who finds it queued has the waker seen by whoever takes it out of the queue later: that is
        // a swap of the same flag.
        if !sleeper.queued.swap(true, Ordering::AcqRel) {
            self.queue.push(Arc::clone(sleeper));
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    /// Wakes all. What made the message visible must have been a sequentially consistent operation.
    pub(crate) fn notify(&self) {
        // Loom knows the order of such fences, not that of such operations.
        #[cfg(loom)]
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) != 0 {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_all(&self) {
        while let Some(sleeper) = self.queue.pop() {
            self.count.fetch_sub(1, Ordering::SeqCst);
            sleeper.queued.swap(false, Ordering::AcqRel);
            sleeper.waker.wake();
        }
    }
}
