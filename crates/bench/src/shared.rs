//! What the threads of a run tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidecast_driver::{Kind, Waker};

use crate::clock::Clock;
use crate::ledger::Landings;
use crate::plan::Plan;
use crate::pulse::Pulse;
use crate::scenario::Layout;
use crate::timeline::Timeline;
use crate::tls::Client;

/// Read by all threads of a run. Every cell is written by one thread only, save the flag to stop.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// Tells the messages of this run from those of others.
    pub(crate) run: u32,
    /// What the system is asked by.
    pub(crate) driver: Kind,
    /// How TLS is spoken, if it is.
    pub(crate) tls: Option<Client>,
    pub(crate) landings: Landings,
    /// When the load begins and what is measured, once every connection is open.
    timeline: OnceLock<Timeline>,
    /// By thread, once all are set up.
    pub(crate) wakers: OnceLock<Vec<Waker>>,
    /// Publishers are to stop: something failed.
    stop: AtomicBool,
    publishers: Vec<Published>,
    /// By thread, what has happened so far.
    threads: Vec<Happened>,
}

#[derive(Debug, Default)]
struct Published {
    issued: AtomicU64,
    finished: AtomicBool,
}

/// On cache lines of its own, for it is written every turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Happened {
    /// Deliveries, confirmed commands, connections that were opened and closed.
    events: AtomicU64,
    /// Bytes that came or went with them.
    bytes: AtomicU64,
    /// How long what the scenario is about took.
    pulse: Arc<Pulse>,
    /// Connections that are open.
    opened: AtomicU64,
    /// What the thread has left to do by itself is done.
    idle: AtomicBool,
}

impl Shared {
    pub(crate) fn new(plan: &Plan, layout: &Layout, run: u32, driver: Kind, tls: Option<Client>) -> Shared {
        let threads = plan.threads.get();
        let waits = (0..threads).map(|thread| {
            let share = layout.share(thread, threads);
            let by_topic = layout.subscribers_by_topic(&share);
            (0..layout.publishers()).map(move |publisher| {
                by_topic[layout.topic_of_publisher(publisher) as usize] > 0
                    // Whoever asks for itself what was taken in waits for itself.
                    || layout.probing && share.publishers.contains(&publisher)
            })
        });
        Shared {
            clock: Clock::start(),
            run,
            driver,
            tls,
            landings: Landings::new(waits),
            timeline: OnceLock::new(),
            wakers: OnceLock::new(),
            stop: AtomicBool::new(false),
            publishers: (0..layout.publishers()).map(|_| Published::default()).collect(),
            threads: (0..threads).map(|_| Happened::default()).collect(),
        }
    }

    /// What is measured, once that is known.
    pub(crate) fn timeline(&self) -> Option<&Timeline> {
        self.timeline.get()
    }

    /// The load begins `pause` after now.
    pub(crate) fn begin(&self, plan: &Plan, pause: Duration) -> &Timeline {
        self.timeline
            .get_or_init(|| Timeline::begin(self.clock, pause, plan.extent, &plan.load))
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

    /// So many things have happened in a thread so far, and so many bytes came or went with them.
    pub(crate) fn happened(&self, thread: usize, count: u64, bytes: u64) {
        self.threads[thread].events.store(count, Ordering::Relaxed);
        self.threads[thread].bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that came or went in all threads so far.
    pub(crate) fn all_bytes(&self) -> u64 {
        let bytes = |thread: &Happened| thread.bytes.load(Ordering::Relaxed);
        self.threads.iter().map(bytes).sum()
    }

    /// Where a thread's latencies of what the scenario is about beat.
    pub(crate) fn pulse(&self, thread: usize) -> Arc<Pulse> {
        Arc::clone(&self.threads[thread].pulse)
    }

    pub(crate) fn pulses(&self) -> impl Iterator<Item = &Pulse> {
        self.threads.iter().map(|thread| &*thread.pulse)
    }

    /// What has happened in all threads so far.
    pub(crate) fn all_happened(&self) -> u64 {
        let events = |thread: &Happened| thread.events.load(Ordering::Relaxed);
        self.threads.iter().map(events).sum()
    }

    /// A thread has opened so many connections so far.
    pub(crate) fn opened(&self, thread: usize, count: usize) {
        self.threads[thread].opened.store(count as u64, Ordering::Relaxed);
    }

    /// The connections that all threads have opened so far.
    pub(crate) fn all_opened(&self) -> u64 {
        let opened = |thread: &Happened| thread.opened.load(Ordering::Relaxed);
        self.threads.iter().map(opened).sum()
    }

    /// A thread has nothing left to do by itself.
    pub(crate) fn idle(&self, thread: usize) {
        self.threads[thread].idle.store(true, Ordering::Release);
    }

    pub(crate) fn all_idle(&self) -> bool {
        self.threads.iter().all(|thread| thread.idle.load(Ordering::Acquire))
    }
}
