//! What is queued goes out in order, and no connection makes the others pay for it.

use tidecast_broker::auth::Settings;

use super::*;
use crate::mesh::MailboxLimits;

fn fanout() -> Fanout {
    fanout_of(1024)
}

/// One in which so many octets may wait for a connection.
fn fanout_of(bytes: usize) -> Fanout {
    let limits = MailboxLimits {
        messages: 1,
        bytes: 1,
        answers: 1,
    };
    let bounds = Bounds { bytes, messages: 100 };
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

/// The connections to be closed, and why.
fn cut(fanout: &mut Fanout) -> Vec<(u32, Behind)> {
    fanout.choose_overflowing();
    std::iter::from_fn(|| fanout.cut_overflowing()).collect()
}

/// Puts one frame, in a segment of its own, to several connections.
fn share(fanout: &mut Fanout, slots: &[u32], octets: usize) {
    let range = fanout.append(PRIVATE, &[&vec![7; octets]]);
    slots
        .iter()
        .for_each(|slot| fanout.push(*slot, range, Slow::Close, BoundsId::default()));
}

#[test]
fn while_memory_is_short_those_that_grow_are_given_up_as_long_as_something_is_won_by_it() {
    const LARGE: usize = 100_000;
    let mut fanout = fanout_of(10 * LARGE);
    (0..6).for_each(|slot| fanout.open(slot, false));
    share(&mut fanout, &[0, 1], LARGE);
    share(&mut fanout, &[2], 2 * LARGE);
    share(&mut fanout, &[3], LARGE);
    share(&mut fanout, &[4], 5 * LARGE);
    block(&mut fanout);
    fanout.reclaim(usize::MAX, 0);
    assert_eq!(cut(&mut fanout), []);
    // Number 4 has the most, but does not grow; nor does number 5 wait for its socket.
    let grow = |fanout: &mut Fanout| [0, 3, 1, 2, 5].map(|slot| fanout.send_frames(slot, &frame(200)));
    fanout.set_excess(LARGE);
    grow(&mut fanout);
    assert_eq!(cut(&mut fanout), [(2, Behind::NoMemory)]);
    assert!(fanout.lane(2).is_empty());
    (0..=2).for_each(|slot| fanout.unblock(slot));
    block(&mut fanout);
    fanout.seal(2);
    // What two have is won with the second.
    fanout.set_excess(LARGE + LARGE / 2);
    grow(&mut fanout);
    let mut given_up = cut(&mut fanout);
    assert_eq!(given_up[0], (1, Behind::NoMemory), "the last that was chosen");
    given_up.sort_unstable_by_key(|(slot, _)| *slot);
    assert_eq!(given_up, [0, 1, 3].map(|slot| (slot, Behind::NoMemory)));
    fanout.reclaim(usize::MAX, 0);
    assert!((5 * LARGE..6 * LARGE).contains(&fanout.held()), "{}", fanout.held());
}

#[test]
fn a_connection_beyond_its_own_limit_has_only_itself_to_blame() {
    let mut fanout = fanout();
    fanout.open(0, false);
    fanout.send_frames(0, &frame(300));
    block(&mut fanout);
    fanout.set_excess(500);
    fanout.send_frames(0, &frame(900));
    assert_eq!(cut(&mut fanout), [(0, Behind::TooFar)]);
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
