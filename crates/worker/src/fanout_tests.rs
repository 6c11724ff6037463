//! What is queued goes out in order, and no connection makes the others pay for it.

use tidecast_broker::auth::Settings;

use super::*;
use crate::mesh::MailboxLimits;

fn fanout() -> Fanout {
    let limits = MailboxLimits {
        messages: 1,
        bytes: 1,
        answers: 1,
    };
    let bounds = Bounds {
        bytes: 1024,
        messages: 100,
    };
    let authenticator = Authenticator::new(&Settings::default()).unwrap();
    Fanout::new(
        0,
        Arc::new(Mesh::new(1, limits)),
        vec![bounds],
        Arc::new(authenticator),
        Deflater::default(),
    )
}

/// A flush in which no send finds room in its socket.
fn block(fanout: &mut Fanout) {
    fanout.begin_flush();
    let slots = fanout.sending().to_vec();
    slots.into_iter().for_each(|slot| fanout.refuse(slot, -EAGAIN));
    fanout.end_flush(|_, _, _, _| {});
}

/// A frame of so many octets.
fn frame(octets: u16) -> Vec<u8> {
    let [high, low] = (octets - 4).to_be_bytes();
    [&[0x82, 126, high, low][..], &vec![7; usize::from(octets) - 4]].concat()
}

/// One flush in which every send goes out whole: what was sent from which slot.
fn flush(fanout: &mut Fanout) -> Vec<(u32, Vec<u8>)> {
    fanout.begin_flush();
    let sent = fanout
        .sending()
        .iter()
        .map(|slot| (*slot, fanout.piece(*slot).to_vec()));
    let sent = sent.filter(|(_, bytes)| !bytes.is_empty()).collect();
    fanout.end_flush(|_, _, _, _| {});
    fanout.reclaim(usize::MAX, 0);
    sent
}

#[test]
fn what_follows_a_response_that_goes_alone_waits_to_be_let_out() {
    let mut fanout = fanout();
    fanout.open(0, false);
    fanout.send_response(0, b"101", true);
    fanout.send_frames(0, b"\x81\x01a");
    assert_eq!(flush(&mut fanout), [(0, b"101".to_vec())]);
    assert_eq!(flush(&mut fanout), []);
    fanout.unblock(0);
    assert_eq!(flush(&mut fanout), [(0, b"\x81\x01a".to_vec())]);
}

#[test]
fn nothing_is_produced_before_what_was_is_sent_unless_that_takes_too_long() {
    let mut fanout = fanout();
    let frame = [&[0x82, 126, 0x01, 0x00][..], &[7; 256]].concat();
    (0..2).for_each(|slot| fanout.open(slot, false));
    assert!(fanout.has_room(Millis(0)));
    // Taking turns in one log, no two of a queue's ranges touch; large ones are not gathered either.
    let large = [&[0x82, 126, 0x80, 0x00][..], &[7; 0x8000]].concat();
    for _ in 0..4 {
        (0..2).for_each(|slot| fanout.send_frames(slot, &large));
    }
    for pieces_left in (0..4).rev() {
        assert_eq!(flush(&mut fanout).len(), 2);
        assert_eq!(fanout.has_room(Millis(1)), pieces_left == 0);
    }
    // Within the limit of what may wait for a socket, patience ends.
    for _ in 0..3 {
        (0..2).for_each(|slot| fanout.send_frames(slot, &frame));
    }
    assert!(!fanout.has_room(CATCH_UP));
    assert!(fanout.has_room(CATCH_UP + Millis(1)));
    // Beyond it, it does not.
    (0..2).for_each(|slot| fanout.send_frames(slot, &large));
    assert!(!fanout.has_room(CATCH_UP + CATCH_UP + CATCH_UP));
}

#[test]
fn a_connection_that_closes_before_its_response_goes_out_alone_is_sent_nothing() {
    let mut fanout = fanout();
    fanout.open(0, false);
    fanout.send_response(0, b"101", true);
    fanout.close(0);
    assert_eq!(flush(&mut fanout), []);
    // Neither does the next connection of that slot inherit the pause.
    fanout.open(0, false);
    fanout.send_response(0, b"101", false);
    fanout.send_frames(0, b"\x81\x01a");
    assert_eq!(flush(&mut fanout), [(0, b"101\x81\x01a".to_vec())]);
}

#[test]
fn while_memory_is_short_blocked_connections_are_given_up_one_by_one_as_they_grow() {
    let mut fanout = fanout();
    (0..4).for_each(|slot| fanout.open(slot, false));
    for slot in 0..3 {
        fanout.send_frames(slot, &frame(300));
    }
    block(&mut fanout);
    assert!(!fanout.is_overflowing());
    // More than one of them holds has to go.
    fanout.set_excess(501);
    for slot in 0..4 {
        fanout.send_frames(slot, &frame(200));
    }
    let cut: Vec<_> = std::iter::from_fn(|| fanout.cut_overflowing()).collect();
    assert_eq!(cut, [(1, Behind::NoMemory), (0, Behind::NoMemory)]);
    assert!(fanout.lane(0).is_empty() && fanout.lane(1).is_empty());
    assert_eq!((fanout.lane(2).len(), fanout.lane(3).len()), (500, 200));
    // Beyond its own limit, a connection is only to blame itself.
    fanout.set_excess(500);
    fanout.send_frames(2, &frame(900));
    assert_eq!(fanout.cut_overflowing(), Some((2, Behind::TooFar)));
}

#[test]
fn while_memory_is_short_what_may_be_dropped_is_and_its_connection_stays() {
    let mut fanout = fanout();
    fanout.open(0, false);
    fanout.send_frames(0, &frame(100));
    block(&mut fanout);
    let push = |fanout: &mut Fanout| {
        let range = fanout.append(PRIVATE, &[&frame(100)]);
        fanout.push(0, range, Slow::DropOld { list: 1 }, BoundsId::default());
        fanout.lane(0).len()
    };
    assert_eq!([(); 4].map(|()| push(&mut fanout)), [200, 300, 400, 500]);
    fanout.set_excess(1 << 20);
    assert_eq!([(); 4].map(|()| push(&mut fanout)), [500; 4]);
    assert_eq!(fanout.dropped, 4);
    fanout.set_excess(0);
    assert_eq!(push(&mut fanout), 600);
    assert!(!fanout.is_overflowing());
}

#[test]
fn from_old_segments_connections_are_copied_out_as_long_as_there_is_room_and_then_cut() {
    let mut fanout = fanout();
    (0..3).for_each(|slot| fanout.open(slot, false));
    for slot in 0..2 {
        fanout.send_frames(slot, &frame(1000));
    }
    block(&mut fanout);
    // Others fill the log with what is sent at once.
    while fanout.outbox.oldest_sealed().is_none() {
        fanout.send_frames(2, &frame(60_000));
        let before = fanout.lane(2).len();
        assert!(before > 0);
        fanout.begin_flush();
        fanout.end_flush(|_, _, _, _| {});
    }
    fanout.reclaim(usize::MAX, 0);
    assert!(fanout.held() > 100_000, "the segment is pinned");
    fanout.reclaim(0, 1500);
    assert_eq!(fanout.lane(0).len(), 1000);
    assert!(fanout.lane(1).is_empty());
    assert_eq!(fanout.cut_overflowing(), Some((1, Behind::NoMemory)));
    assert_eq!(fanout.cut_overflowing(), None);
    assert!((1000..2000).contains(&fanout.held()), "{}", fanout.held());
    fanout.unblock(0);
    assert_eq!(flush(&mut fanout), [(0, frame(1000))]);
    assert_eq!(fanout.held(), 0);
}
