//! Inflaters, and the buffers they fill: who holds them, and how long.

use tidecast_websocket::{Connection, Error, Event, InflatePool, Input, Limits, Opcode, State, Version};

use crate::permessage::{NO_TAKEOVER, TAKEOVER, compressed, deflated, everywhere, prose, server, server_with};
use crate::support::{KEY, NOW, SEGMENTATIONS, Segmentation, listen_pooled, masked, plain_close, text};

#[test]
fn an_inflater_is_held_while_a_message_arrives_or_for_good_where_takeover_was_agreed() {
    let frame = compressed(Version::V13, Opcode::Text, true, &deflated(&[b'x'; 500]), Some(KEY));
    let (start, end) = frame.split_at(9);
    for (params, kept) in [(NO_TAKEOVER, 0), (TAKEOVER, 1)] {
        let mut pool = InflatePool::new(1, 1);
        let mut server = server(Version::V13, params);
        for _ in 0..3 {
            listen_pooled(&mut server, start, Segmentation::Whole, &mut pool);
            assert_eq!((pool.in_use(), pool.pooled()), (1, 0));
            let heard = listen_pooled(&mut server, end, Segmentation::Whole, &mut pool);
            assert_eq!(heard.said.len(), 1);
            assert_eq!((pool.in_use(), pool.pooled()), (kept, 1 - kept));
            assert_eq!(pool.bytes(), InflatePool::INFLATER_BYTES);
        }
        let plain = masked(Version::V13, Opcode::Close, true, &1000_u16.to_be_bytes());
        listen_pooled(&mut server, &plain, Segmentation::Whole, &mut pool);
        listen_pooled(&mut server, b"more", Segmentation::Whole, &mut pool);
        assert_eq!((server.state(), pool.in_use()), (State::Draining, 0));
    }
}

/// Where the payload of the only event in `frame` lies.
fn address(server: &mut Connection, frame: &[u8], pool: &mut InflatePool) -> usize {
    let (mut frame, mut out) = (frame.to_vec(), Vec::new());
    let mut input = Input::new(&mut frame);
    let event = server.poll_pooled(&mut input, NOW, pool, &mut out);
    let Ok(Some(Event::Binary(payload))) = event else {
        panic!("{event:?} is no binary message");
    };
    let address = payload.as_ptr().addr();
    assert_eq!(server.poll_pooled(&mut input, NOW, pool, &mut out), Ok(None));
    address
}

#[test]
fn whole_messages_are_inflated_into_one_buffer_which_half_a_message_does_not_take() {
    let mut pool = InflatePool::new(3, 3);
    let payload = |len| deflated(&b"the tide rises, the tide falls; ".repeat(len));
    let frame = |len| compressed(Version::V13, Opcode::Binary, true, &payload(len), Some(KEY));
    let (mut one, mut other) = (server(Version::V13, NO_TAKEOVER), server(Version::V13, TAKEOVER));
    let buffer = address(&mut one, &frame(1000), &mut pool);
    assert_eq!(address(&mut other, &frame(10), &mut pool), buffer);

    // Cut by its sender, or on the way.
    let fragment = compressed(Version::V13, Opcode::Binary, false, &payload(100), Some(KEY));
    for half in [fragment, frame(100)[..20].to_vec()] {
        let mut slow = server(Version::V13, NO_TAKEOVER);
        listen_pooled(&mut slow, &half, Segmentation::Whole, &mut pool);
        assert!(!slow.is_between_messages());
        assert_eq!(address(&mut one, &frame(100), &mut pool), buffer);
    }
}

#[test]
fn what_a_message_is_refused_for_does_not_depend_on_the_messages_before() {
    let mut pool = InflatePool::new(2, 2);
    let large = compressed(
        Version::V13,
        Opcode::Binary,
        true,
        &deflated(&prose(100_000)),
        Some(KEY),
    );
    let mut text = [b'a'; 3000];
    text[2000] = 0xff;
    let text = compressed(Version::V13, Opcode::Text, true, &deflated(&text), Some(KEY));
    let limits = Limits {
        max_message: 1000,
        ..Limits::default()
    };
    for segmentation in SEGMENTATIONS {
        let heard = listen_pooled(
            &mut server(Version::V13, NO_TAKEOVER),
            &large,
            Segmentation::Whole,
            &mut pool,
        );
        assert_eq!(heard.said.len(), 1);
        let mut limited = server_with(Version::V13, NO_TAKEOVER, limits);
        let heard = listen_pooled(&mut limited, &text, segmentation, &mut pool);
        assert_eq!(heard.error, Some(Error::MessageTooBig { limit: 1000 }));
    }
}

#[test]
fn an_inflater_counts_for_the_pool_that_lent_it_until_it_is_back_or_gone() {
    let frame = compressed(Version::V13, Opcode::Text, true, &deflated(&[b'x'; 500]), Some(KEY));
    let (start, end) = frame.split_at(9);
    let (mut lender, mut other) = (InflatePool::new(2, 2), InflatePool::new(2, 2));
    let mut moved = server(Version::V13, NO_TAKEOVER);
    listen_pooled(&mut moved, start, Segmentation::Whole, &mut lender);
    let mut dropped = server(Version::V13, NO_TAKEOVER);
    listen_pooled(&mut dropped, start, Segmentation::Whole, &mut lender);
    assert_eq!((lender.in_use(), other.in_use()), (2, 0));

    // It goes on where another pool is at hand.
    let heard = listen_pooled(&mut moved, end, Segmentation::Whole, &mut other);
    assert_eq!(heard.said.len(), 1);
    assert_eq!((lender.in_use(), lender.pooled()), (1, 0));
    assert_eq!((other.in_use(), other.pooled()), (0, 0));
    drop(dropped);
    assert_eq!(lender.in_use(), 0);
}

#[test]
fn without_an_inflater_left_a_compressed_message_closes_with_1013_and_a_plain_one_is_heard() {
    let mut pool = InflatePool::new(0, 0);
    for (version, segmentation) in everywhere() {
        let mut server = server(version, NO_TAKEOVER);
        let octets = [
            masked(version, Opcode::Text, true, b"plain"),
            compressed(version, Opcode::Text, true, &deflated(&[b'x'; 500]), Some(KEY)),
        ]
        .concat();
        let heard = listen_pooled(&mut server, &octets, segmentation, &mut pool);
        assert_eq!(heard.said, [text("plain")]);
        assert_eq!(heard.error, Some(Error::NoInflater));
        let code = if version == Version::V13 { 1013 } else { 1001 };
        assert_eq!(heard.out, plain_close(version, code, &Error::NoInflater.to_string()));
    }
}
