//! How workers reach each other: a bounded mailbox each, and who has to be woken.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use tidecast_broker::auth::Verdict;
use tidecast_broker::{OwnedMessage, WorkerSet};
use tidecast_driver::Waker;

use crate::config::Config;
use crate::hook::Asker;
use crate::sleep::Sleep;
use crate::sync::{AtomicBool, AtomicUsize, fence};
use crate::task::Task;

/// What may wait for one worker before those who send to it have to wait themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Messages, at least 1.
    pub messages: usize,
    /// Bytes of payload; one message is always taken, whatever its size.
    pub bytes: usize,
    /// Questions of one worker to the [`Hook`](crate::Hook) that are not answered, at least 1.
    pub answers: usize,
}

/// Orders of the control plane that wait for one worker. There are never more than a few.
const ORDERS: usize = 64;
/// Tasks of the control plane that wait for one worker.
const TASKS: usize = 32;

/// What the control plane tells a worker.
#[derive(Clone, Debug)]
pub enum Order {
    /// Take these settings over, as far as they can change while it runs: see [`Config`].
    Configure(Arc<Config>),
    /// Accept no more, say goodbye to every connection, and end when all are closed or the time is up.
    Drain(Drain),
}

/// How a worker stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// Over how long goodbyes are spread, at most: a few connections take no time worth it.
    pub spread: Duration,
    /// How long whoever has been told may take, from the last goodbye on, for what waits for it and for its Close.
    pub patience: Duration,
    /// Over how long clients come back, if they do as they are told, beyond the five seconds that they always have.
    pub returning: Duration,
    /// Another process goes on with the listeners: nobody is told that there is no broker, and who is in the middle of a
    /// handshake finishes it here.
    pub succeeded: bool,
}

/// One worker's end of the mesh.
struct Mailbox {
    messages: ArrayQueue<Arc<OwnedMessage>>,
    bytes: CachePadded<AtomicUsize>,
    max_bytes: usize,
    orders: ArrayQueue<Order>,
    tasks: ArrayQueue<Task>,
    answers: ArrayQueue<(Asker, Verdict)>,
    sleep: CachePadded<Sleep>,
    /// Workers that could not deliver here and want to be woken when there is room, by number.
    waiting: Box<[AtomicBool]>,
    anyone_waiting: CachePadded<AtomicBool>,
    bell: OnceLock<Waker>,
}

/// The mailboxes of all workers of a process.
pub struct Mesh {
    boxes: Box<[Mailbox]>,
}

impl Mesh {
    /// A mesh of `workers` workers, numbered from 0.
    pub fn new(workers: usize, limits: MailboxLimits) -> Mesh {
        Mesh {
            boxes: (0..workers)
                .map(|_| Mailbox {
                    messages: ArrayQueue::new(limits.messages),
                    bytes: CachePadded::new(AtomicUsize::new(0)),
                    max_bytes: limits.bytes,
                    orders: ArrayQueue::new(ORDERS),
                    tasks: ArrayQueue::new(TASKS),
                    answers: ArrayQueue::new(limits.answers),
                    sleep: CachePadded::new(Sleep::new()),
                    waiting: (0..workers).map(|_| AtomicBool::new(false)).collect(),
                    anyone_waiting: CachePadded::new(AtomicBool::new(false)),
                    bell: OnceLock::new(),
                })
                .collect(),
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.boxes.len()
    }

    /// Gives an order to a worker and wakes it. One that has not looked at its orders for long forgets the oldest: it is to do what
    /// was said last.
    pub fn order(&self, worker: usize, order: Order) {
        let _ = self.boxes[worker].orders.force_push(order);
        if let Some(waker) = self.boxes[worker].bell.get() {
            waker.wake();
        }
    }

    /// Gives a task to a worker and wakes it, or gives the task back: too many wait already.
    ///
    /// # Errors
    /// The task.
    pub fn give(&self, worker: usize, task: Task) -> Result<(), Task> {
        let mailbox = &self.boxes[worker];
        mailbox.tasks.push(task)?;
        if let Some(waker) = mailbox.bell.get() {
            waker.wake();
        }
        Ok(())
    }

    /// Wakes a worker, which goes round its loop once at least, and counts that.
    pub fn nudge(&self, worker: usize) {
        if let Some(waker) = self.boxes[worker].bell.get() {
            waker.wake();
        }
    }

    /// The next task for `worker`.
    pub(crate) fn receive_task(&self, worker: usize) -> Option<Task> {
        self.boxes[worker].tasks.pop()
    }

    /// Messages that wait for `worker`, and the bytes of their payloads.
    pub fn depth(&self, worker: usize) -> (usize, usize) {
        let mailbox = &self.boxes[worker];
        (mailbox.messages.len(), mailbox.bytes.load(Ordering::Relaxed))
    }

    /// Answers a question of a worker, and wakes it. There is room: a worker has no more questions than answers fit.
    pub fn answer(&self, asker: Asker, verdict: Verdict) {
        let mailbox = &self.boxes[usize::from(asker.worker)];
        let _ = mailbox.answers.push((asker, verdict));
        if let Some(waker) = mailbox.bell.get() {
            waker.wake();
        }
    }

    /// How many questions a worker can have that are not answered.
    pub(crate) fn most_questions(&self, worker: usize) -> usize {
        self.boxes[worker].answers.capacity()
    }

    /// The next answer for `worker`.
    pub(crate) fn receive_answer(&self, worker: usize) -> Option<(Asker, Verdict)> {
        self.boxes[worker].answers.pop()
    }

    /// Makes `worker` known as reachable. Orders that were given before are found in its first turn.
    pub(crate) fn attach(&self, worker: usize, waker: Waker) {
        let attached = self.boxes[worker].bell.set(waker);
        assert!(attached.is_ok(), "worker {worker} is attached once");
    }

    /// Puts `message` into the mailbox of `to`, or gives it back if that is full; `from` is then woken once there is
    /// room.
    pub(crate) fn send(&self, from: usize, to: usize, message: Arc<OwnedMessage>) -> Result<(), Arc<OwnedMessage>> {
        let mailbox = &self.boxes[to];
        let Err(message) = mailbox.push(message) else {
            return Ok(());
        };
        mailbox.waiting[from].store(true, Ordering::SeqCst);
        mailbox.anyone_waiting.store(true, Ordering::SeqCst);
        // The receiver may have made room before it could see that somebody waits. Its half of the fence is in
        // `take_waiting`: either this sees the room or that sees the flag.
        fence(Ordering::SeqCst);
        mailbox.push(message)
    }

    /// The next message for `worker`.
    pub(crate) fn receive(&self, worker: usize) -> Option<Arc<OwnedMessage>> {
        let mailbox = &self.boxes[worker];
        let message = mailbox.messages.pop()?;
        mailbox
            .bytes
            .fetch_sub(message.as_message().payload.len(), Ordering::Relaxed);
        Some(message)
    }

    /// Whether there is a message for `worker`.
    pub(crate) fn has_mail(&self, worker: usize) -> bool {
        !self.boxes[worker].messages.is_empty()
    }

    /// The next order for `worker`.
    pub(crate) fn receive_order(&self, worker: usize) -> Option<Order> {
        self.boxes[worker].orders.pop()
    }

    /// The workers that waited for room in the mailbox of `worker`, to be called after taking messages from it.
    pub(crate) fn take_waiting(&self, worker: usize) -> impl Iterator<Item = usize> {
        let mailbox = &self.boxes[worker];
        fence(Ordering::SeqCst);
        let anyone =
            mailbox.anyone_waiting.load(Ordering::SeqCst) && mailbox.anyone_waiting.swap(false, Ordering::SeqCst);
        let count = if anyone { mailbox.waiting.len() } else { 0 };
        (0..count).filter(move |from| mailbox.waiting[*from].swap(false, Ordering::SeqCst))
    }

    /// Whether `worker`, which has messages for the full mailboxes of `full`, may sleep: its own mailbox is empty and
    /// nobody waits for that to be seen, and there was no room in any of `full` since it asked. Whoever changes that
    /// from now on will wake it. If it `has_task` under way, those behind it wait with it.
    pub(crate) fn prepare_sleep(&self, worker: usize, full: WorkerSet, has_task: bool) -> bool {
        let mailbox = &self.boxes[worker];
        mailbox.sleep.prepare(|| {
            // A flag that is gone was taken by a receiver that found this worker awake, and left it alone.
            let asked = |to: u16| self.boxes[usize::from(to)].waiting[worker].load(Ordering::SeqCst);
            mailbox.messages.is_empty()
                && mailbox.orders.is_empty()
                && mailbox.answers.is_empty()
                && (has_task || mailbox.tasks.is_empty())
                && !mailbox.anyone_waiting.load(Ordering::SeqCst)
                && full.iter().all(asked)
        })
    }

    /// `worker` is awake again.
    pub(crate) fn awake(&self, worker: usize) {
        self.boxes[worker].sleep.end();
    }

    /// What to wake so that `worker` sees what was put into its mailbox; `None` if it is awake or being woken.
    pub(crate) fn needs_waking(&self, worker: usize) -> Option<&Waker> {
        let mailbox = &self.boxes[worker];
        let waker = mailbox.bell.get()?;
        mailbox.sleep.interrupt().then_some(waker)
    }
}

impl Mailbox {
    fn push(&self, message: Arc<OwnedMessage>) -> Result<(), Arc<OwnedMessage>> {
        let len = message.as_message().payload.len();
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        if before > 0 && before + len > self.max_bytes {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
            return Err(message);
        }
        self.messages.push(message).inspect_err(|_| {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
        })
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mesh({} workers)", self.boxes.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use tidecast_broker::Message;
    use tidecast_broker::auth::Ruling;
    use tidecast_broker::wire::Kind;

    use super::*;

    fn message(len: usize) -> Arc<OwnedMessage> {
        let payload = vec![0; len];
        Arc::new(
            Message {
                topic: "t",
                payload: &payload,
                kind: Kind::Binary,
                key: None,
            }
            .to_owned(),
        )
    }

    const LIMITS: MailboxLimits = MailboxLimits {
        messages: 16,
        bytes: 1000,
        answers: 2,
    };

    #[test]
    fn a_full_mailbox_gives_the_message_back_and_names_the_waiting_sender() {
        let mesh = Mesh::new(3, LIMITS);
        for _ in 0..LIMITS.messages {
            mesh.send(0, 1, message(1)).unwrap();
        }
        assert!(mesh.send(2, 1, message(1)).is_err());
        assert!(mesh.receive(1).is_some());
        assert_eq!(mesh.take_waiting(1).collect::<Vec<_>>(), [2]);
        assert_eq!(mesh.take_waiting(1).count(), 0);
        mesh.send(2, 1, message(1)).unwrap();
    }

    #[test]
    fn a_mailbox_is_full_by_bytes_too_but_takes_one_message_of_any_size() {
        let mesh = Mesh::new(2, LIMITS);
        mesh.send(0, 1, message(LIMITS.bytes + 1)).unwrap();
        assert!(mesh.send(0, 1, message(1)).is_err());
        assert!(mesh.receive(1).is_some());
        mesh.send(0, 1, message(1)).unwrap();
    }

    #[test]
    fn a_worker_with_mail_does_not_sleep() {
        let mesh = Mesh::new(2, LIMITS);
        assert!(mesh.prepare_sleep(1, WorkerSet::EMPTY, false));
        mesh.awake(1);
        mesh.send(0, 1, message(1)).unwrap();
        assert!(!mesh.prepare_sleep(1, WorkerSet::EMPTY, false));
        mesh.order(0, Order::Drain(Drain::default()));
        assert!(!mesh.prepare_sleep(0, WorkerSet::EMPTY, false));
        assert!(matches!(mesh.receive_order(0), Some(Order::Drain(_))));
    }

    #[test]
    fn a_worker_that_does_not_look_for_long_is_still_told_the_last() {
        let mesh = Mesh::new(1, LIMITS);
        let order = |succeeded| {
            Order::Drain(Drain {
                succeeded,
                ..Drain::default()
            })
        };
        for _ in 0..2 * ORDERS {
            mesh.order(0, order(false));
        }
        mesh.order(0, order(true));
        let orders: Vec<Order> = std::iter::from_fn(|| mesh.receive_order(0)).collect();
        assert_eq!(orders.len(), ORDERS);
        assert!(matches!(
            orders.last(),
            Some(Order::Drain(Drain { succeeded: true, .. }))
        ));
    }

    #[test]
    fn a_worker_with_an_answer_does_not_sleep() {
        let mesh = Mesh::new(2, LIMITS);
        let (worker, slot, number) = (1, 2, 3);
        let asker = Asker { worker, slot, number };
        let verdict = Verdict {
            ruling: Ruling::Allow(None),
            fresh: Duration::ZERO,
        };
        mesh.answer(asker, verdict.clone());
        assert!(!mesh.prepare_sleep(1, WorkerSet::EMPTY, false) && mesh.prepare_sleep(0, WorkerSet::EMPTY, false));
        assert_eq!(mesh.receive_answer(1), Some((asker, verdict)));
        assert!(mesh.prepare_sleep(1, WorkerSet::EMPTY, false));
        assert_eq!(mesh.most_questions(1), 2);
    }

    #[test]
    fn tasks_wait_in_order_and_a_worker_has_only_so_many() {
        let mesh = Mesh::new(1, LIMITS);
        let task = |from| Task::Filters {
            from,
            reply: crate::task::Reply::new(|_| {}),
        };
        for from in 0..TASKS as u64 {
            mesh.give(0, task(from)).unwrap();
        }
        assert!(mesh.give(0, task(0)).is_err());
        assert!(!mesh.prepare_sleep(0, WorkerSet::EMPTY, false));
        assert!(
            mesh.prepare_sleep(0, WorkerSet::EMPTY, true),
            "one that waits is before them"
        );
        mesh.awake(0);
        for wanted in 0..TASKS as u64 {
            assert!(matches!(mesh.receive_task(0), Some(Task::Filters { from, .. }) if from == wanted));
        }
        assert!(mesh.prepare_sleep(0, WorkerSet::EMPTY, false));
    }

    #[test]
    fn a_worker_whose_wait_for_room_ended_while_it_was_awake_does_not_sleep() {
        let mesh = Mesh::new(2, LIMITS);
        let mut full = WorkerSet::EMPTY;
        full.insert(1);
        mesh.send(0, 1, message(LIMITS.bytes)).unwrap();
        assert!(mesh.send(0, 1, message(1)).is_err());
        assert!(mesh.prepare_sleep(0, full, false), "there is no room yet");
        mesh.awake(0);
        assert!(mesh.receive(1).is_some());
        assert_eq!(mesh.take_waiting(1).collect::<Vec<_>>(), [0]);
        assert!(
            !mesh.prepare_sleep(0, full, false),
            "it has been told, and is not told again"
        );
        mesh.send(0, 1, message(1)).unwrap();
        assert!(mesh.prepare_sleep(0, WorkerSet::EMPTY, false));
    }

    #[test]
    fn a_worker_does_not_sleep_before_it_has_seen_who_waits_for_room() {
        let mesh = Mesh::new(2, LIMITS);
        mesh.send(0, 1, message(LIMITS.bytes)).unwrap();
        assert!(mesh.send(0, 1, message(1)).is_err());
        assert!(mesh.receive(1).is_some());
        assert!(!mesh.prepare_sleep(1, WorkerSet::EMPTY, false));
        assert_eq!(mesh.take_waiting(1).collect::<Vec<_>>(), [0]);
        assert!(mesh.prepare_sleep(1, WorkerSet::EMPTY, false));
    }
}
