//! Nothing leaks and nothing is freed twice.

use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use tidecast_router::{Filter, Limits, Router};

/// A subscriber that counts how many of it there are.
struct Counted(Arc<AtomicIsize>);

impl Counted {
    fn new(count: &Arc<AtomicIsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count.clone())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted::new(&self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets the reclamation go on until `count` is reached.
fn wait_for(count: &AtomicIsize, wanted: isize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while count.load(Ordering::Relaxed) != wanted {
        assert!(Instant::now() < deadline, "{} are left", count.load(Ordering::Relaxed));
        // A thread of another test that is pinned holds reclamation up: let it run.
        crossbeam_epoch::pin().flush();
        std::thread::yield_now();
    }
}

fn filters() -> Vec<Filter> {
    let texts = ["a", "a/b", "a/#", "+", "+/b", "#", "a/+/c", "a/b/c/d", "$x/y"];
    texts
        .iter()
        .map(|text| Filter::parse(text, &Limits::default()).expect("a filter"))
        .collect()
}

#[test]
fn what_updates_put_out_of_use_is_dropped_while_the_router_lives() {
    let count = Arc::new(AtomicIsize::new(0));
    let router = Router::new();
    let mut subscriptions = Vec::new();
    for round in 0..500 {
        for filter in filters() {
            let id = router.subscribe(&filter, Counted::new(&count));
            subscriptions.push((filter, id));
        }
        if round % 3 == 0 {
            for (filter, id) in subscriptions.drain(..7) {
                assert!(router.unsubscribe(&filter, id).is_some());
            }
        }
    }
    wait_for(&count, router.len() as isize);
    for (filter, id) in subscriptions {
        assert!(router.unsubscribe(&filter, id).is_some());
    }
    wait_for(&count, 0);
}

#[test]
fn what_updates_at_once_put_out_of_use_is_dropped_without_another_update() {
    let count = Arc::new(AtomicIsize::new(0));
    let router = Router::new();
    let filters = filters();
    for _ in 0..300 {
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for thread in 0..3 {
                let (router, filters, count, start) = (&router, &filters, &count, &start);
                scope.spawn(move || {
                    start.wait();
                    for update in 0..20 {
                        let filter = &filters[(thread + update) % filters.len()];
                        let id = router.subscribe(filter, Counted::new(count));
                        assert!(router.unsubscribe(filter, id).is_some());
                    }
                });
            }
        });
        wait_for(&count, 0);
    }
}

#[test]
fn a_dropped_router_drops_its_subscribers() {
    let count = Arc::new(AtomicIsize::new(0));
    let router = Router::new();
    for _ in 0..500 {
        for filter in filters() {
            router.subscribe(&filter, Counted::new(&count));
        }
    }
    drop(router);
    wait_for(&count, 0);
}

#[test]
fn a_clone_that_panics_leaves_the_router_as_it_was_and_leaks_nothing() {
    /// Panics when cloned while the fuse is at 0.
    struct Fused(Counted, Arc<AtomicIsize>);
    impl Clone for Fused {
        fn clone(&self) -> Self {
            assert!(self.1.fetch_sub(1, Ordering::Relaxed) != 0, "the fuse has burnt down");
            Fused(self.0.clone(), self.1.clone())
        }
    }

    let count = Arc::new(AtomicIsize::new(0));
    let fuse = Arc::new(AtomicIsize::new(-1));
    let router = Router::new();
    let filter = &filters()[2];
    let mut last = None;
    for _ in 0..100 {
        last = Some(router.subscribe(filter, Fused(Counted::new(&count), fuse.clone())));
    }
    let last = last.expect("a hundred were made");
    wait_for(&count, 100);
    for clones in 0..3 {
        let generation = router.generation();
        for update in [true, false] {
            fuse.store(clones, Ordering::Relaxed);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if update {
                    router.subscribe(filter, Fused(Counted::new(&count), fuse.clone()));
                } else {
                    router.unsubscribe(filter, last);
                }
            }));
            assert!(outcome.is_err());
            assert_eq!((router.len(), router.generation()), (100, generation));
        }
    }
    fuse.store(-1, Ordering::Relaxed);
    wait_for(&count, 100);
    drop(router);
    wait_for(&count, 0);
}
