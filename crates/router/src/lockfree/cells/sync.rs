//! What the loom tests swap: atomics, queues and the waker of a task.

#[cfg(not(loom))]
pub(crate) use self::real::*;

#[cfg(loom)]
pub(crate) use self::model::*;

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

    pub(crate) use atomic_waker::AtomicWaker;
    pub(crate) use crossbeam_queue::{ArrayQueue, SegQueue};
}

#[cfg(loom)]
mod model {
    use std::collections::VecDeque;

    use std::task::Waker;

    use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

    /// Stands for that of the crate of this name, with its signatures.
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            AtomicWaker(loom::future::AtomicWaker::new())
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }

    /// Stands for crossbeam's, which has its own tests: what is modelled is what we build on it.
    pub(crate) struct SegQueue<T>(Mutex<VecDeque<T>>);

    impl<T> SegQueue<T> {
        pub(crate) fn new() -> Self {
            SegQueue(Mutex::new(VecDeque::new()))
        }

        pub(crate) fn push(&self, value: T) {
            self.0.lock().expect("no panic before").push_back(value);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().expect("no panic before").pop_front()
        }
    }

    /// Stands for crossbeam's, as above.
    pub(crate) struct ArrayQueue<T> {
        queue: Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            ArrayQueue {
                queue: Mutex::new(VecDeque::new()),
                capacity,
            }
        }

        pub(crate) fn push(&self, value: T) -> Result<(), T> {
            let mut queue = self.queue.lock().expect("no panic before");
            if queue.len() == self.capacity {
                return Err(value);
            }
            queue.push_back(value);
            Ok(())
        }

        pub(crate) fn force_push(&self, value: T) -> Option<T> {
            let mut queue = self.queue.lock().expect("no panic before");
            let oldest = if queue.len() == self.capacity {
                queue.pop_front()
            } else {
                None
            };
            queue.push_back(value);
            oldest
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.queue.lock().expect("no panic before").pop_front()
        }
    }
}
