//! The queue of one subscription that does not read a feed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::conflated::{Conflated, Key, topic_key};
use super::options::{KeyFunction, Overflow};
use super::signal::Signal;
use crate::group::Load;
use crate::group::registry::KeyState;
use crate::lockfree::cells::sync::{ArrayQueue, AtomicBool, AtomicU64, Ordering};
use crate::lockfree::cells::{Message, Taken};

/// A bounded queue that any number of publishers fill and one subscription empties.
///
/// Invariant: of the messages pushed, each was taken, is in the buffer, or was counted as lost; what
/// was counted is in `lost` or in the buffer beside a message, or was told.
pub(crate) struct Mailbox<T> {
    buffer: Buffer<T>,
    /// Dropped, and not told yet.
    lost: AtomicU64,
    pub(crate) signal: Signal,
    /// Counts what is queued, where a group goes by it.
    depth: Option<Load>,
}

enum Buffer<T> {
    Close {
        queue: ArrayQueue<Message<T>>,
        overflowed: AtomicBool,
    },
    /// Each with the number of those that were dropped just before it.
    DropNew(ArrayQueue<(Message<T>, u64)>),
    DropOld(ArrayQueue<Message<T>>),
    Latest(Box<Latest<T>>),
}

/// The one lock of the hub. To find the key, to replace its message, and to keep the order of keys
/// is one step on a table and a queue; without a lock it would be a copy of both, and so an
/// allocation for each delivery. It is held for a look into the table, never while anything is
/// allocated, dropped, hashed or called, and only this subscription and those who publish to it meet
/// there.
struct Latest<T> {
    conflated: Mutex<Conflated<T>>,
    key: Option<KeyFunction<T>>,
    state: KeyState,
}

impl<T> Latest<T> {
    fn lock(&self) -> MutexGuard<'_, Conflated<T>> {
        // Nothing panics under the lock, so that whatever poison says, the state is good.
        self.conflated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn new(overflow: Overflow, capacity: usize, key: Option<KeyFunction<T>>, depth: Option<Load>) -> Self {
        let buffer = match overflow {
            Overflow::Close => Buffer::Close {
                queue: ArrayQueue::new(capacity),
                overflowed: AtomicBool::new(false),
            },
            Overflow::DropNew => Buffer::DropNew(ArrayQueue::new(capacity)),
            Overflow::DropOld => Buffer::DropOld(ArrayQueue::new(capacity)),
            Overflow::Latest => Buffer::Latest(Box::new(Latest {
                conflated: Mutex::new(Conflated::new(capacity)),
                key,
                state: KeyState::default(),
            })),
        };
        Mailbox {
            buffer,
            lost: AtomicU64::new(0),
            signal: Signal::new(),
            depth,
        }
    }

    /// Queues a message, by the policy if there is no room; wakes the receiver, and says whether the
    /// message was queued.
    pub(crate) fn push(&self, message: &Message<T>) -> bool {
        let queued = match &self.buffer {
            Buffer::Close { queue, overflowed } => {
                let closed = overflowed.load(Ordering::Acquire);
                let queued = !closed && queue.push(message.clone()).is_ok();
                if !queued && !closed {
                    overflowed.store(true, Ordering::Release);
                }
                self.count(queued, 0);
                queued
            }
            Buffer::DropNew(queue) => {
                // What was dropped before goes with this one, so that it is told where it is missing.
                let before = match self.lost.load(Ordering::Relaxed) {
                    0 => 0,
                    _ => self.lost.swap(0, Ordering::Relaxed),
                };
                let queued = queue.push((message.clone(), before)).is_ok();
                if !queued {
                    self.lost.fetch_add(before + 1, Ordering::Release);
                }
                self.count(queued, 0);
                queued
            }
            Buffer::DropOld(queue) => {
                let dropped = queue.force_push(message.clone()).is_some();
                self.count(true, u64::from(dropped));
                true
            }
            Buffer::Latest(latest) => {
                let key = match &latest.key {
                    Some(key) => Key::Number(key(message.topic(), message.value())),
                    None => topic_key(&latest.state, message.topic()),
                };
                let message = message.clone();
                let dropped = latest.lock().push(key, message);
                self.count(true, u64::from(dropped.is_some()));
                true
            }
        };
        self.signal.notify();
        queued
    }

    /// Counts what went in, and what was dropped for it.
    fn count(&self, queued: bool, dropped: u64) {
        if dropped > 0 {
            // Release: see `take`.
            self.lost.fetch_add(dropped, Ordering::Release);
        }
        match &self.depth {
            Some(depth) if queued && dropped == 0 => depth.add(1),
            _ => {}
        }
    }

    /// What comes next. Called by the one receiver, who keeps `held` for the next call.
    pub(crate) fn take(&self, held: &mut Option<Message<T>>) -> Taken<T> {
        if let Some(message) = held.take() {
            return Taken::Message(message);
        }
        let message = match &self.buffer {
            Buffer::Close { queue, .. } => queue.pop(),
            Buffer::DropNew(queue) => match queue.pop() {
                Some((message, 0)) => Some(message),
                Some((message, before)) => {
                    self.taken();
                    *held = Some(message);
                    return Taken::Lagged(before);
                }
                None => {
                    let lost = self.take_lost();
                    return if lost > 0 { Taken::Lagged(lost) } else { Taken::Empty };
                }
            },
            // What is dropped is older than what is queued.
            Buffer::DropOld(queue) => match self.take_lost() {
                0 => queue.pop(),
                lost => return Taken::Lagged(lost),
            },
            Buffer::Latest(latest) => match self.take_lost() {
                0 => latest.lock().pop(),
                lost => return Taken::Lagged(lost),
            },
        };
        match message {
            Some(message) => {
                self.taken();
                Taken::Message(message)
            }
            None => Taken::Empty,
        }
    }

    /// The load that counts what is queued, if anything does.
    pub(crate) fn depth(&self) -> Option<&Load> {
        self.depth.as_ref()
    }

    fn taken(&self) {
        if let Some(depth) = &self.depth {
            depth.sub(1);
        }
    }

    fn take_lost(&self) -> u64 {
        match self.lost.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.lost.swap(0, Ordering::Acquire),
        }
    }

    /// Whether a message found no room and the policy is to close.
    pub(crate) fn overflowed(&self) -> bool {
        match &self.buffer {
            Buffer::Close { overflowed, .. } => overflowed.load(Ordering::Acquire),
            _ => false,
        }
    }
}
