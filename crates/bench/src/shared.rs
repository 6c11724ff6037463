//! What the threads of a run tell each other.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidecast_driver::RingHandle;

use crate::clock::{Clock, Span, nanoseconds};
use crate::ledger::Landings;
use crate::plan::{Extent, Plan, Role};

/// Read by all threads of a run. Every cell is written by one thread only, save the flag to stop.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// Tells the messages of this run from those of others.
    pub(crate) run: u32,
    pub(crate) landings: Landings,
    /// When publishing begins and what is measured, once every connection is open.
    span: OnceLock<(u64, Span)>,
    /// By thread, once all are set up.
    pub(crate) rings: OnceLock<Vec<RingHandle>>,
    /// Publishers are to stop: something failed.
    stop: AtomicBool,
    publishers: Vec<Published>,
    /// By thread, the deliveries so far.
    delivered: Vec<Delivered>,
}

#[derive(Debug, Default)]
struct Published {
    issued: AtomicU64,
    finished: AtomicBool,
}

/// On cache lines of its own, for it is written every turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Delivered(AtomicU64);

impl Shared {
    pub(crate) fn new(plan: &Plan, run: u32) -> Shared {
        let publishers = plan.publishers.get() as usize;
        let threads = 0..plan.threads.get();
        let subscribed = threads
            .clone()
            .map(|thread| !plan.share(plan.subscribers, thread).is_empty());
        Shared {
            clock: Clock::start(),
            run,
            landings: Landings::new(subscribed, publishers),
            span: OnceLock::new(),
            rings: OnceLock::new(),
            stop: AtomicBool::new(false),
            publishers: (0..publishers).map(|_| Published::default()).collect(),
            delivered: threads.map(|_| Delivered::default()).collect(),
        }
    }

    /// When publishing begins, and what is measured; none while connections are being opened.
    pub(crate) fn span(&self) -> Option<(u64, Span)> {
        self.span.get().cloned()
    }

    /// Every connection is open: publishing begins after `pause`.
    pub(crate) fn begin(&self, extent: Extent, pause: Duration) -> (u64, Span) {
        let start = self.clock.now() + nanoseconds(pause);
        let span = match extent {
            Extent::Time { warmup, measured } => {
                let from = start.saturating_add(nanoseconds(warmup));
                from..from.saturating_add(nanoseconds(measured))
            }
            Extent::Count(_) => start..u64::MAX,
        };
        self.span.get_or_init(|| (start, span)).clone()
    }

    /// Something failed: nothing is to be published any more.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// A publisher has sent `issued` messages so far.
    pub(crate) fn issued(&self, publisher: usize, issued: u64) {
        self.publishers[publisher].issued.store(issued, Ordering::Release);
    }

    /// A publisher will send no more.
    pub(crate) fn finished(&self, publisher: usize) {
        self.publishers[publisher].finished.store(true, Ordering::Release);
    }

    /// By publisher, how many messages were sent; final once [`Shared::all_finished`].
    pub(crate) fn sent(&self) -> Vec<u64> {
        let issued = |publisher: &Published| publisher.issued.load(Ordering::Acquire);
        self.publishers.iter().map(issued).collect()
    }

    pub(crate) fn all_finished(&self) -> bool {
        let finished = |publisher: &Published| publisher.finished.load(Ordering::Acquire);
        self.publishers.iter().all(finished)
    }

    /// Whether every message sent so far has reached every subscriber.
    pub(crate) fn all_landed(&self) -> bool {
        let landed = |(number, publisher): (usize, &Published)| {
            self.landings.landed(number) >= publisher.issued.load(Ordering::Acquire)
        };
        self.publishers.iter().enumerate().all(landed)
    }

    /// A thread has received `count` deliveries so far.
    pub(crate) fn delivered(&self, thread: usize, count: u64) {
        self.delivered[thread].0.store(count, Ordering::Relaxed);
    }

    /// Deliveries of all threads so far.
    pub(crate) fn all_delivered(&self) -> u64 {
        self.delivered.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

/// By publisher, the thread that owns it.
pub(crate) fn owners(plan: &Plan) -> Vec<usize> {
    (0..plan.threads.get())
        .flat_map(|thread| connections(plan, Role::Publisher, thread).map(move |_| thread as usize))
        .collect()
}

/// The numbers of a thread's connections of a role.
pub(crate) fn connections(plan: &Plan, role: Role, thread: u32) -> std::ops::Range<u32> {
    match role {
        Role::Subscriber => plan.share(plan.subscribers, thread),
        Role::Publisher => plan.share(plan.publishers.get(), thread),
    }
}
