use proptest::prelude::*;

use super::*;

const LOG: usize = 0;
const PRIVATE: usize = 1;
const GATHER: usize = 2;

fn frame(fill: u8, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0x82];
    match payload {
        0..126 => bytes.push(payload as u8),
        126..65536 => {
            bytes.push(126);
            bytes.extend((payload as u16).to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend((payload as u64).to_be_bytes());
        }
    }
    bytes.resize(bytes.len() + payload, fill);
    bytes
}

fn contents(queue: &Queue, outbox: &Outbox) -> Vec<u8> {
    queue.ranges().flat_map(|range| outbox.bytes(range)).copied().collect()
}

#[test]
fn a_subscriber_of_everything_has_one_range_however_many_messages_came() {
    let mut outbox = Outbox::new(3);
    let mut queue = Queue::default();
    let mut expected = Vec::new();
    for i in 0..1000 {
        let message = frame(i as u8, 100);
        let range = outbox.append(LOG, &[&message[..2], &message[2..]]);
        queue.push(range, &mut outbox);
        expected.extend(message);
    }
    assert_eq!(queue.ranges().count(), 1);
    assert_eq!(queue.len(), expected.len());
    assert_eq!(contents(&queue, &outbox), expected);
}

#[test]
fn a_log_is_written_over_once_everything_was_sent() {
    let mut outbox = Outbox::new(3);
    let mut queue = Queue::default();
    for turn in 0..10_000 {
        let range = outbox.append(LOG, &[&frame(turn as u8, 1000)]);
        assert_eq!(range.start, 0, "turn {turn} starts at the beginning");
        queue.push(range, &mut outbox);
        queue.sent_front(&mut outbox);
        assert!(queue.is_empty());
        outbox.reclaim();
    }
    assert_eq!(outbox.log_bytes(), SEGMENT);
}

#[test]
fn a_message_nobody_takes_costs_nothing_after_the_turn() {
    let mut outbox = Outbox::new(3);
    for _ in 0..100 {
        outbox.append(LOG, &[&frame(1, LARGE)]);
        outbox.append(LOG, &[&frame(1, 10)]);
        outbox.reclaim();
    }
    assert_eq!(outbox.segments.len(), 2);
    assert_eq!(outbox.free.len(), 1);
}

#[test]
fn small_ranges_go_out_together_and_large_ones_alone() {
    let mut outbox = Outbox::new(3);
    let mut queue = Queue::default();
    let mut expected = Vec::new();
    for i in 0..10 {
        let message = frame(i, 50);
        let range = outbox.append(LOG, &[&message]);
        queue.push(range, &mut outbox);
        outbox.append(LOG, &[&frame(99, 5)]); // for somebody else
        expected.extend(message);
    }
    let large = frame(7, 20_000);
    let range = outbox.append(PRIVATE, &[&large]);
    queue.push(range, &mut outbox);
    assert_eq!(queue.ranges().count(), 11);
    queue.gather(&mut outbox, GATHER);
    assert_eq!(queue.ranges().count(), 2);
    assert_eq!(outbox.bytes(queue.front()), expected);
    queue.sent_front(&mut outbox);
    queue.gather(&mut outbox, GATHER);
    assert_eq!(outbox.bytes(queue.front()), large);
    queue.sent_front(&mut outbox);
    assert!(queue.is_empty());
    outbox.reclaim();
    assert!(outbox.segments.iter().all(|segment| segment.pins == 0));
}

fn chunk(fill: u8, payload: usize) -> Vec<u8> {
    let mut bytes = format!("{payload:x}\r\n").into_bytes();
    bytes.resize(bytes.len() + payload, fill);
    bytes.extend(b"\r\n");
    bytes
}

const PAYLOADS: [usize; 6] = [0, 125, 126, 5000, 70_000, 3];

#[test]
fn a_cut_queue_ends_with_the_frame_in_transit() {
    ends_with_what_is_in_transit(Framing::Frames, &PAYLOADS.map(|payload| frame(1, payload)));
}

#[test]
fn a_cut_queue_ends_with_the_chunk_in_transit() {
    ends_with_what_is_in_transit(Framing::Chunks, &PAYLOADS.map(|payload| chunk(b'1', payload)));
}

fn ends_with_what_is_in_transit(framing: Framing, frames: &[Vec<u8>]) {
    let total: usize = frames.iter().map(Vec::len).sum();
    for sent in 1..total {
        let mut outbox = Outbox::new(3);
        let mut queue = Queue::default();
        for message in frames {
            let range = outbox.append(LOG, &[message]);
            queue.push(range, &mut outbox);
        }
        let mut left = sent;
        while left > 0 {
            let front = queue.front().len();
            if left >= front {
                queue.sent_front(&mut outbox);
                left -= front;
            } else {
                // In two steps, so that a second short send starts inside a frame.
                let first = left.div_ceil(2);
                queue.sent_part(first, framing, &mut outbox);
                if left > first {
                    queue.sent_part(left - first, framing, &mut outbox);
                }
                left = 0;
            }
        }
        let mut boundary = 0;
        for message in frames {
            if boundary >= sent {
                break;
            }
            boundary += message.len();
        }
        queue.cut(&mut outbox);
        assert_eq!(queue.len(), boundary - sent, "after {sent} bytes");
        let stream: Vec<u8> = frames.concat();
        assert_eq!(contents(&queue, &outbox), stream[sent..boundary]);
    }
}

#[test]
fn a_cut_queue_keeps_all_responses_that_came_before_the_first_frame() {
    for sent in 0..40 {
        let mut outbox = Outbox::new(3);
        let mut queue = Queue::default();
        for log in [LOG, PRIVATE, LOG] {
            let range = outbox.append(log, &[&[b'0' + log as u8; 10]]);
            queue.push_opaque(range, &mut outbox);
        }
        let range = outbox.append(LOG, &[&frame(7, 8)]);
        queue.push(range, &mut outbox);
        let before = contents(&queue, &outbox);
        let mut left = sent;
        while left > 0 {
            let front = queue.front().len();
            if left >= front {
                queue.sent_front(&mut outbox);
            } else {
                queue.sent_part(left, Framing::Frames, &mut outbox);
            }
            left = left.saturating_sub(front);
        }
        queue.cut(&mut outbox);
        let kept = if sent <= 30 { 30 } else { 40 };
        assert_eq!(contents(&queue, &outbox), before[sent..kept], "after {sent} bytes");
        assert_eq!(queue.len(), kept - sent);
        queue.clear(&mut outbox);
        outbox.reclaim();
        assert!(outbox.segments.iter().all(|segment| segment.pins == 0));
    }
}

#[test]
fn a_connection_that_is_behind_is_copied_out_of_an_old_segment() {
    let mut outbox = Outbox::new(3);
    let mut slow = Queue::default();
    let mut expected = Vec::new();
    // The slow one takes every 100th message only.
    for i in 0..10_000u32 {
        let message = frame(i as u8, 200);
        let range = outbox.append(LOG, &[&message]);
        if i % 100 == 0 {
            slow.push(range, &mut outbox);
            expected.extend(message);
        }
        outbox.reclaim();
    }
    assert!(outbox.log_bytes() > 4 * SEGMENT, "it pins the whole log");
    while let Some(oldest) = outbox.oldest_sealed() {
        slow.detach(oldest, &mut outbox);
        outbox.reclaim();
    }
    assert_eq!(outbox.log_bytes(), SEGMENT, "only the open segment is left");
    assert_eq!(contents(&slow, &outbox), expected);
    slow.clear(&mut outbox);
    outbox.reclaim();
    assert!(outbox.segments.iter().all(|segment| segment.pins == 0));
}

#[test]
fn a_cut_queue_of_deflated_frames_ends_where_it_ended_when_a_send_was_short() {
    let mut outbox = Outbox::new(3);
    let mut queue = Queue::default();
    let blocks = [[0xa5; 100], [0xb6; 100], [0xc7; 100]];
    for block in &blocks[..2] {
        let range = outbox.append(LOG, &[block]);
        queue.push(range, &mut outbox);
    }
    queue.sent_part(30, Framing::None, &mut outbox);
    let range = outbox.append(LOG, &[&blocks[2]]);
    queue.push(range, &mut outbox);
    queue.sent_part(10, Framing::None, &mut outbox);
    queue.cut(&mut outbox);
    assert_eq!(contents(&queue, &outbox), [&blocks[0][40..], &blocks[1][..]].concat());
}

#[derive(Clone, Debug)]
enum Step {
    Append { log: usize, payload: usize, to: Vec<bool> },
    Gather { queue: usize },
    SendFront { queue: usize },
    SendPart { queue: usize, share: u8 },
    Cut { queue: usize },
    Clear { queue: usize },
    EndTurn,
    DetachOldest,
}

const QUEUES: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let queue = 0..QUEUES;
    prop_oneof![
        8 => (0..2usize, prop_oneof![Just(0), 1..300usize, 10_000..40_000usize, 60_000..150_000usize], prop::collection::vec(any::<bool>(), QUEUES))
            .prop_map(|(log, payload, to)| Step::Append { log, payload, to }),
        2 => queue.clone().prop_map(|queue| Step::Gather { queue }),
        2 => queue.clone().prop_map(|queue| Step::SendFront { queue }),
        2 => (queue.clone(), any::<u8>()).prop_map(|(queue, share)| Step::SendPart { queue, share }),
        1 => queue.clone().prop_map(|queue| Step::Cut { queue }),
        1 => queue.prop_map(|queue| Step::Clear { queue }),
        2 => Just(Step::EndTurn),
        1 => Just(Step::DetachOldest),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Each queue beside a plain vector of bytes that does the same.
    #[test]
    fn a_queue_holds_what_a_plain_buffer_would(steps in prop::collection::vec(step(), 1..80)) {
        let mut outbox = Outbox::new(3);
        let mut queues: Vec<Queue> = (0..QUEUES).map(|_| Queue::default()).collect();
        // Unsent bytes, and the ends of frames counted from the front.
        let mut plain: Vec<(Vec<u8>, VecDeque<usize>)> = vec![Default::default(); QUEUES];
        let take = |plain: &mut (Vec<u8>, VecDeque<usize>), count: usize| {
            plain.0.drain(..count);
            while plain.1.front().is_some_and(|end| *end <= count) {
                plain.1.pop_front();
            }
            plain.1.iter_mut().for_each(|end| *end -= count);
        };
        // A queue stands inside a frame when its first frame was begun.
        let mut begun = [false; QUEUES];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append { log, payload, to } => {
                    let message = frame(number as u8, payload);
                    let range = outbox.append(log, &[&message]);
                    for i in (0..QUEUES).filter(|i| to[*i]) {
                        queues[i].push(range, &mut outbox);
                        plain[i].0.extend(&message);
                        let end = plain[i].0.len();
                        plain[i].1.push_back(end);
                    }
                }
                Step::Gather { queue } => queues[queue].gather(&mut outbox, GATHER),
                Step::SendFront { queue } if !queues[queue].is_empty() => {
                    let front = queues[queue].front();
                    prop_assert_eq!(outbox.bytes(front), &plain[queue].0[..front.len()]);
                    queues[queue].sent_front(&mut outbox);
                    take(&mut plain[queue], front.len());
                    begun[queue] = false;
                }
                Step::SendPart { queue, share } if queues[queue].front().len() > 1 => {
                    let front = queues[queue].front().len();
                    let count = (front * usize::from(share) / 256).clamp(1, front - 1);
                    queues[queue].sent_part(count, Framing::Frames, &mut outbox);
                    begun[queue] = !plain[queue].1.contains(&count) && (begun[queue] || count > 0);
                    take(&mut plain[queue], count);
                }
                Step::Cut { queue } => {
                    queues[queue].cut(&mut outbox);
                    let keep = if begun[queue] { plain[queue].1[0] } else { 0 };
                    plain[queue].0.truncate(keep);
                    plain[queue].1.truncate(usize::from(keep > 0));
                }
                Step::Clear { queue } => {
                    queues[queue].clear(&mut outbox);
                    plain[queue] = Default::default();
                    begun[queue] = false;
                }
                Step::EndTurn => outbox.reclaim(),
                Step::DetachOldest => {
                    outbox.reclaim();
                    if let Some(oldest) = outbox.oldest_sealed() {
                        for queue in &mut queues {
                            queue.detach(oldest, &mut outbox);
                        }
                        outbox.reclaim();
                        prop_assert_ne!(outbox.oldest_sealed(), Some(oldest));
                    }
                }
                Step::SendFront { .. } | Step::SendPart { .. } => {}
            }
            for (queue, plain) in queues.iter().zip(&plain) {
                prop_assert_eq!(queue.len(), plain.0.len());
                prop_assert_eq!(&contents(queue, &outbox), &plain.0);
            }
            let mut pins = vec![0; outbox.segments.len()];
            queues.iter().flat_map(Queue::ranges).for_each(|range| pins[range.segment as usize] += 1);
            for (segment, pins) in outbox.segments.iter().zip(pins) {
                prop_assert_eq!(segment.pins, pins);
            }
        }
    }
}
