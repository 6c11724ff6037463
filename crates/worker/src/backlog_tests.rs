use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    bytes: 100,
    messages: 10,
};
const OLD: Slow = Slow::DropOld { list: 1 };
const NEW: Slow = Slow::DropNew { list: 2 };

fn latest(key: u64) -> Slow {
    Slow::Latest { list: 3, key }
}

/// A backlog behind an empty queue, and the outbox that its messages lie in.
struct House {
    backlog: Backlog,
    queue: Queue,
    outbox: Outbox,
}

impl House {
    fn new() -> House {
        House {
            backlog: Backlog::default(),
            queue: Queue::default(),
            outbox: Outbox::new(1),
        }
    }

    fn push(&mut self, message: &[u8], slow: Slow) -> Kept {
        let range = self.outbox.append(0, &[message]);
        let kept = self
            .backlog
            .push(range, slow, self.queue.len(), BOUNDS, &mut self.outbox);
        self.backlog.check();
        kept
    }

    /// What goes out when the socket has room for everything.
    fn drain(&mut self) -> String {
        let mut out = Vec::new();
        while !self.backlog.is_empty() || !self.queue.is_empty() {
            self.backlog.refill(&mut self.queue, &mut self.outbox);
            self.backlog.check();
            while !self.queue.is_empty() {
                out.extend_from_slice(self.outbox.bytes(self.queue.front()));
                self.queue.sent_front(&mut self.outbox);
            }
        }
        String::from_utf8(out).unwrap()
    }
}

fn lag(list: u32, dropped: u64, first: bool) -> Lag {
    Lag { list, dropped, first }
}

#[test]
fn what_fits_waits_in_order_whatever_its_policy() {
    let mut house = House::new();
    for (message, slow) in [(b"a", OLD), (b"b", Slow::Close), (b"c", NEW), (b"d", latest(7))] {
        assert_eq!(house.push(message, slow), Kept::Within(0));
    }
    assert_eq!(house.drain(), "abcd");
    assert!(house.backlog.is_finished());
}

#[test]
fn drop_new_keeps_what_came_first() {
    let mut house = House::new();
    for i in 0..15 {
        house.push(format!("{i},").as_bytes(), NEW);
    }
    assert_eq!(house.backlog.take_lags(), [lag(2, 5, false)]);
    assert_eq!(house.drain(), "0,1,2,3,4,5,6,7,8,9,");
}

#[test]
fn drop_old_keeps_what_came_last_by_number_and_by_size() {
    let mut house = House::new();
    for i in 0..15 {
        house.push(format!("{i},").as_bytes(), OLD);
    }
    assert_eq!(house.push(&[b'x'; 90], OLD), Kept::Within(7));
    assert_eq!(house.backlog.take_lags(), [lag(1, 12, true)]);
    assert!(house.drain().starts_with("12,13,14,x"));
}

#[test]
fn latest_keeps_one_of_each_key_and_the_order_of_the_last_ones() {
    let mut house = House::new();
    for (message, key) in [("a1 ", 1), ("b1 ", 2), ("a2 ", 1), ("c1 ", 3), ("a3 ", 1), ("b2 ", 2)] {
        house.push(message.as_bytes(), latest(key));
    }
    assert_eq!(house.backlog.take_lags(), [lag(3, 3, true)]);
    assert_eq!(house.drain(), "c1 a3 b2 ");
}

#[test]
fn what_may_not_be_dropped_is_not_and_too_much_of_it_is_told() {
    let mut house = House::new();
    house.push(b"reply ", Slow::Close);
    for i in 0..20 {
        house.push(format!("{i} ").as_bytes(), OLD);
    }
    assert_eq!(house.push(&[b'r'; 90], Slow::Close), Kept::Within(8));
    assert_eq!(house.push(b"more!", Slow::Close), Kept::Beyond);
    // But what only drop-new fills has room for a reply.
    house.backlog.clear(&mut house.outbox);
    for _ in 0..20 {
        house.push(&[b'n'; 10], NEW);
    }
    assert_eq!(house.push(b"reply", Slow::Close), Kept::Within(0));
    house.backlog.clear(&mut house.outbox);
    assert!(house.backlog.is_finished());
}

#[test]
fn one_message_always_waits_however_large() {
    let mut house = House::new();
    for slow in [OLD, NEW, latest(1), Slow::Close] {
        assert_eq!(house.push(&[b'x'; 1000], slow), Kept::Within(0));
        assert_eq!(house.drain().len(), 1000);
    }
}

#[test]
fn what_waits_in_a_segment_that_is_wanted_back_is_copied_out() {
    let mut house = House::new();
    house.push(b"first ", OLD);
    house.push(b"second ", latest(1));
    // Seals the segment.
    for _ in 0..10 {
        house.outbox.append(0, &[&[0; 60_000]]);
    }
    let victim = house.outbox.oldest_sealed().expect("the first segment is full");
    house.backlog.detach(victim, &mut house.outbox);
    house.backlog.check();
    house.outbox.reclaim();
    assert_ne!(house.outbox.oldest_sealed(), Some(victim));
    house.push(b"third", OLD);
    assert_eq!(house.drain(), "first second third");
}

/// The same in the plainest way.
#[derive(Default)]
struct Model {
    waiting: Vec<(Vec<u8>, Slow)>,
    dropped: u64,
}

impl Model {
    fn beyond(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(|(message, _)| message.len()).sum();
        self.waiting.len() > 1 && (bytes > BOUNDS.bytes || self.waiting.len() > BOUNDS.messages)
    }

    /// Gives false if the connection is to be closed.
    fn push(&mut self, message: &[u8], slow: Slow) -> bool {
        if let Slow::Latest { .. } = slow {
            let before = self.waiting.len();
            self.waiting.retain(|(_, other)| *other != slow);
            self.dropped += (before - self.waiting.len()) as u64;
        }
        self.waiting.push((message.to_vec(), slow));
        if matches!(slow, Slow::DropNew { .. }) && self.beyond() {
            self.waiting.pop();
            self.dropped += 1;
        }
        while self.beyond() {
            let Some(oldest) = self.waiting.iter().position(|(_, slow)| slow.drops_old()) else {
                let fixed = self.waiting.iter().filter(|(_, slow)| *slow == Slow::Close);
                return fixed.map(|(message, _)| message.len()).sum::<usize>() <= BOUNDS.bytes;
            };
            self.waiting.remove(oldest);
            self.dropped += 1;
        }
        true
    }
}

proptest! {
    #[test]
    fn any_messages_of_any_policies_wait_as_in_a_plain_list(
        steps in prop::collection::vec((0..8u8, 0..4u64, 1..30usize), 1..200)
    ) {
        let mut house = House::new();
        let mut model = Model::default();
        let mut told = 0;
        for (number, (step, key, size)) in steps.into_iter().enumerate() {
            let slow = match step {
                0 | 1 => OLD,
                2 => NEW,
                3..6 => latest(key),
                6 => Slow::Close,
                _ => {
                    let sent: Vec<u8> = std::mem::take(&mut model.waiting).into_iter().flat_map(|(message, _)| message).collect();
                    prop_assert_eq!(house.drain(), String::from_utf8(sent).unwrap());
                    continue;
                }
            };
            let message = vec![b'a' + (number % 26) as u8; size];
            let stays = model.push(&message, slow);
            prop_assert_eq!(house.push(&message, slow) != Kept::Beyond, stays);
            if !stays {
                house.backlog.clear(&mut house.outbox);
                break;
            }
            told += house.backlog.take_lags().iter().map(|lag| lag.dropped).sum::<u64>();
            prop_assert_eq!(told, model.dropped);
            prop_assert_eq!(house.backlog.len(), model.waiting.iter().map(|(message, _)| message.len()).sum::<usize>());
        }
        house.drain();
        prop_assert!(house.backlog.is_empty());
    }
}
