//! Silence, in virtual time.

use tidecast_websocket::{
    Connection, Extension, Input, Limits, Millis, Opcode, Params, State, TimedOut, Timing, Version, code,
};

use crate::support::{KEY, NOW, masked, plain, plain_close};

const TIMING: Timing = Timing {
    ping_interval: Millis::from_secs(25),
    pong_timeout: Millis::from_secs(20),
    close_timeout: Millis::from_secs(5),
    idle_timeout: Millis::NEVER,
    message_timeout: Millis::NEVER,
};

fn server() -> Connection {
    Connection::server(Version::V13, Limits::default(), NOW)
}

fn seconds(count: u64) -> Millis {
    NOW + Millis::from_secs(count)
}

fn feed(connection: &mut Connection, mut octets: Vec<u8>, now: Millis) {
    let mut input = Input::new(&mut octets);
    while connection.poll(&mut input, now, &mut Vec::new()).unwrap().is_some() {}
}

#[test]
fn silence_is_broken_by_a_ping_and_any_octet_counts_as_its_answer() {
    let mut server = server();
    let mut out = Vec::new();
    assert_eq!(server.poll_timeout(&TIMING), seconds(25));
    assert_eq!(server.handle_timeout(seconds(24), &TIMING, &mut out), None);
    assert_eq!(out, [], "early calls do nothing");

    assert_eq!(server.handle_timeout(seconds(25), &TIMING, &mut out), None);
    let body = (seconds(25).0 as u32).to_be_bytes();
    assert_eq!(out, plain(Version::V13, Opcode::Ping, true, &body));
    assert_eq!(server.poll_timeout(&TIMING), seconds(45));
    assert_eq!(server.handle_timeout(seconds(30), &TIMING, &mut out), None);

    // Half a header proves as much as a Pong.
    feed(&mut server, vec![0x8a], seconds(31));
    assert_eq!(server.heard_at(), seconds(31));
    assert_eq!(server.poll_timeout(&TIMING), seconds(56));
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_on() {
    let mut server = server();
    let mut out = Vec::new();
    server.handle_timeout(seconds(25), &TIMING, &mut out);
    out.clear();
    let gave_up = server.handle_timeout(seconds(45), &TIMING, &mut out);
    assert_eq!(gave_up, Some(TimedOut::Pong));
    assert_eq!(out, plain_close(Version::V13, 1011, "no answer to a ping"));
    assert_eq!(server.state(), State::Draining);
    assert_eq!(server.poll_timeout(&TIMING), seconds(50));
    let dropped = server.handle_timeout(seconds(50), &TIMING, &mut out);
    assert_eq!(dropped, Some(TimedOut::Close));
    assert_eq!(server.state(), State::Closed);
}

#[test]
fn the_peers_close_is_not_waited_for_longer_than_the_close_timeout() {
    let mut server = server();
    let mut out = Vec::new();
    server.close(code::GOING_AWAY, "", seconds(1), &mut out);
    assert_eq!(server.poll_timeout(&TIMING), seconds(6));
    // Talking on does not buy time.
    feed(
        &mut server,
        masked(Version::V13, Opcode::Text, true, b"but"),
        seconds(5),
    );
    assert_eq!(server.poll_timeout(&TIMING), seconds(6));
    assert_eq!(server.handle_timeout(seconds(5), &TIMING, &mut out), None);
    let timed_out = server.handle_timeout(seconds(6), &TIMING, &mut out);
    assert_eq!(timed_out, Some(TimedOut::Close));
    assert_eq!(server.poll_timeout(&TIMING), Millis::NEVER);
    assert_eq!(server.handle_timeout(Millis::NEVER, &TIMING, &mut out), None);
}

#[test]
fn after_the_peers_close_its_end_of_the_transport_is_not_waited_for_longer_either() {
    let mut server = server();
    let close = masked(Version::V13, Opcode::Close, true, &1000_u16.to_be_bytes());
    feed(&mut server, close, seconds(2));
    assert_eq!(server.state(), State::Draining);
    assert_eq!(server.poll_timeout(&TIMING), seconds(7));
    let timed_out = server.handle_timeout(seconds(7), &TIMING, &mut Vec::new());
    assert_eq!(timed_out, Some(TimedOut::Close));
}

#[test]
fn an_interval_that_never_ends_sends_no_ping() {
    let timing = Timing {
        ping_interval: Millis::NEVER,
        ..TIMING
    };
    let mut client = Connection::client(Version::V7, Limits::default(), || KEY, NOW);
    let mut out = Vec::new();
    assert_eq!(client.poll_timeout(&timing), Millis::NEVER);
    assert_eq!(client.handle_timeout(seconds(1 << 30), &timing, &mut out), None);
    assert_eq!(out, []);
}

#[test]
fn a_message_that_comes_piece_by_piece_may_take_as_long_as_its_size_asks_for() {
    let timing = Timing {
        ping_interval: Millis::NEVER,
        message_timeout: Millis::from_secs(60),
        ..TIMING
    };
    let deflate = Extension::PerMessageDeflate(Params::default());
    for extension in [None, Some(deflate)] {
        let mut server = server().with_extension(extension);
        let mut out = Vec::new();
        let message = masked(Version::V13, Opcode::Binary, true, &vec![7; 1 << 20]);
        // As slow as it may be: a piece a minute, by drops.
        let drops = message.chunks(Timing::MESSAGE_PIECE / 16);
        let mut now = seconds(0);
        for drop in drops {
            assert_eq!(server.handle_timeout(now, &timing, &mut out), None);
            feed(&mut server, drop.to_vec(), now);
            now = now + Millis(60_000 / 17);
        }
        assert!(server.is_between_messages());
        assert_eq!(server.poll_timeout(&timing), Millis::NEVER);
        assert_eq!((server.state(), &out[..]), (State::Open, &[][..]));
    }
}

#[test]
fn a_message_that_does_not_go_on_ends_the_connection_and_nothing_is_kept_of_it() {
    let timing = Timing {
        ping_interval: Millis::NEVER,
        message_timeout: Millis::from_secs(60),
        ..TIMING
    };
    for version in Version::ALL {
        let whole = masked(version, Opcode::Binary, true, &[7; 70_000]);
        let fragment = masked(version, Opcode::Text, false, b"to be continued");
        let close = masked(version, Opcode::Close, true, b"");
        for begun in [&whole[..1], &whole[..7], &whole[..69_000], &fragment, &close[..1]] {
            let mut server = Connection::server(version, Limits::default(), NOW);
            let mut out = Vec::new();
            feed(&mut server, begun.to_vec(), seconds(10));
            let held = server.memory();
            assert!(held > 0);
            // Pings in between, where they may stand, and drops are no progress.
            for second in [30, 50, 69] {
                let is_between_frames = begun == &fragment[..];
                let drop = if is_between_frames {
                    masked(version, Opcode::Ping, true, b"alive")
                } else {
                    whole[begun.len()..][..usize::from(begun.len() > 7)].to_vec()
                };
                feed(&mut server, drop, seconds(second));
                assert_eq!(server.handle_timeout(seconds(second), &timing, &mut out), None);
            }
            out.clear();
            let due = server.poll_timeout(&timing);
            assert_eq!(due, seconds(70), "{version:?} after {} octets", begun.len());
            assert_eq!(server.handle_timeout(due, &timing, &mut out), Some(TimedOut::Message));
            let reason = "a message that was begun did not go on for too long";
            let code = match version {
                Version::V13 => code::POLICY,
                Version::V6 | Version::V7 | Version::V8 => code::UNSUPPORTED,
            };
            assert_eq!(out, plain_close(version, code, reason));
            assert_eq!((server.state(), server.memory()), (State::Draining, 0));
            feed(&mut server, whole.clone(), due);
            assert_eq!(server.memory(), 0, "what comes now is dropped");
        }
    }
}

#[test]
fn who_sends_no_message_for_too_long_is_closed_however_well_it_answers_pings() {
    let timing = Timing {
        idle_timeout: Millis::from_secs(60),
        ..TIMING
    };
    for version in Version::ALL {
        let mut server = Connection::server(version, Limits::default(), NOW);
        let mut out = Vec::new();
        // Pongs keep it alive, and messages, also one that is not complete yet.
        feed(
            &mut server,
            masked(version, Opcode::Text, true, b"message"),
            seconds(10),
        );
        for second in (20..=60).step_by(10) {
            feed(&mut server, masked(version, Opcode::Pong, true, b""), seconds(second));
            assert_eq!(server.handle_timeout(seconds(second), &timing, &mut out), None);
        }
        let half = masked(version, Opcode::Binary, true, &[0; 1000])[..500].to_vec();
        feed(&mut server, half, seconds(65));
        assert_eq!(server.handle_timeout(seconds(89), &timing, &mut out), None);
        let half = masked(version, Opcode::Binary, true, &[0; 1000])[500..].to_vec();
        feed(&mut server, half, seconds(89));
        assert_eq!(out, []);
        // A minute later, to the second, it is not.
        for second in (100..=140).step_by(10) {
            feed(&mut server, masked(version, Opcode::Pong, true, b""), seconds(second));
        }
        let due = server.poll_timeout(&timing);
        assert!((seconds(149)..=seconds(151)).contains(&due), "{due:?}");
        assert_eq!(server.handle_timeout(due, &timing, &mut out), Some(TimedOut::Idle));
        assert_eq!(
            out,
            plain_close(version, code::GOING_AWAY, "no message came for too long")
        );
        assert_eq!(server.state(), State::CloseSent);
        assert_eq!(server.poll_timeout(&timing), due + timing.close_timeout);
    }
}
