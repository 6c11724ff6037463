//! What holds of both drivers, and is tried with both.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::*;
use crate::socket::listen;
use crate::token::Op;

/// Tries each with both drivers.
macro_rules! with_both {
    ($($claim:ident)+) => {
        mod io_uring {
            $(#[test] fn $claim() { super::$claim(super::Kind::IoUring) })+
        }
        mod epoll {
            $(#[test] fn $claim() { super::$claim(super::Kind::Epoll) })+
        }
    };
}

with_both! {
    bytes_arrive_in_provided_buffers_and_the_end_as_a_zero
    a_whole_send_is_silent_and_a_short_one_tells_how_much_went_out
    many_more_sends_than_the_queue_holds_go_out_in_one_turn
    a_full_table_refuses_and_a_closed_slot_is_used_again
    of_many_accepts_in_flight_each_tells_its_own_peer
    accepts_of_one_listener_are_cancelled_together_and_those_of_another_go_on
    a_socket_is_installed_where_another_was_closed
    a_dropped_driver_lets_go_of_what_it_listened_on
    a_cancelled_receive_ends_and_says_so
    a_sleeping_thread_is_woken_by_another_driver_and_by_a_plain_thread
    what_came_before_a_receive_began_is_received_with_its_end
    what_follows_an_urgent_octet_does_not_wait_for_more_to_come
    a_broken_connection_ends_what_is_in_flight_for_it
    the_peer_of_a_connection_that_was_shut_down_sees_its_end_and_is_still_heard
    an_operation_on_a_slot_without_a_connection_fails_alone
    a_turn_with_nothing_to_do_ends_by_its_time_limit
}

const LISTENER: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(10);

fn driver(kind: Kind, config: &Config) -> Driver {
    Driver::new(kind, config).unwrap_or_else(|error| panic!("{error}"))
}

fn small() -> Config {
    Config {
        entries: 16,
        completions: 64,
        slots: 64,
        buffers: 4,
        buffer_size: 256,
    }
}

/// Turns until `done` says so, handing it every completion.
fn run(driver: &mut Driver, what: &str, mut done: impl FnMut(&mut Driver, Completion) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let mut completions = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "{what} took too long");
        driver.turn([], Wait::AtMost(DEADLINE), &mut completions).unwrap();
        let mut finished = false;
        for completion in completions.drain(..) {
            finished |= done(driver, completion);
        }
        if finished {
            return;
        }
    }
}

fn connect(driver: &mut Driver) -> (TcpStream, u32) {
    let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
    driver.accept(&listener, LISTENER).unwrap();
    let peer = TcpStream::connect(listener.address()).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut slot = None;
    run(driver, "accepting", |driver, completion| {
        assert_eq!((completion.token.op(), completion.token.slot()), (Op::Accept, LISTENER));
        assert_eq!(driver.take_peer(completion.token), peer.local_addr().ok());
        slot = Some(u32::try_from(completion.result).unwrap());
        true
    });
    (peer, slot.unwrap())
}

fn bytes_arrive_in_provided_buffers_and_the_end_as_a_zero(kind: Kind) {
    let mut driver = driver(kind, &small());
    let (mut peer, slot) = connect(&mut driver);
    let token = Token::new(Op::Receive, slot, 7);
    driver.receive(token).unwrap();
    // Far more than the four buffers of 256 bytes hold, so that they have to go round and receives have to restart.
    let sent: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
    let bytes = sent.clone();
    let writer = std::thread::spawn(move || peer.write_all(&bytes).unwrap());
    let mut received = Vec::new();
    run(&mut driver, "receiving", |driver, completion| {
        assert_eq!(completion.token, token);
        match completion.result {
            0 => return true,
            error if error < 0 => assert_eq!(completion.error(), Some(libc::ENOBUFS)),
            _ => received.extend_from_slice(&completion.data.expect("a filled buffer")),
        }
        if !completion.more {
            driver.receive(token).unwrap();
        }
        false
    });
    writer.join().unwrap();
    assert_eq!(received, sent);
    assert_eq!(driver.buffers_in_use().0, 0);
}

fn a_whole_send_is_silent_and_a_short_one_tells_how_much_went_out(kind: Kind) {
    let mut driver = driver(kind, &small());
    let (mut peer, slot) = connect(&mut driver);
    let token = Token::new(Op::Send, slot, 1);
    let mut completions = Vec::new();
    driver
        .turn([(token, &b"hello"[..])], Wait::No, &mut completions)
        .unwrap();
    assert!(completions.is_empty(), "{completions:?}");
    let mut greeting = [0; 5];
    peer.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello");

    // The peer does not read: the socket takes what fits, reports it, and then nothing at all.
    let bytes: Vec<u8> = (0..16 << 20u32).map(|i| (i % 251) as u8).collect();
    let mut sent = 0;
    loop {
        driver
            .turn([(token, &bytes[sent..])], Wait::No, &mut completions)
            .unwrap();
        let completion = completions.pop().expect("16 MiB do not fit into a socket");
        assert_eq!(completion.token, token);
        if completion.error() == Some(libc::EAGAIN) {
            break;
        }
        assert!(completion.result > 0, "{completion:?}");
        sent += completion.result as usize;
    }
    assert!(0 < sent && sent < bytes.len());

    // Once it reads, the socket becomes writable and the rest follows.
    let expected = bytes.clone();
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; expected.len()];
        peer.read_exact(&mut received).unwrap();
        assert!(received == expected, "the stream is exact");
    });
    let writable = token.with(Op::Writable);
    while sent < bytes.len() {
        driver.writable(writable).unwrap();
        run(&mut driver, "becoming writable", |_, completion| {
            completion.token == writable
        });
        driver
            .turn([(token, &bytes[sent..])], Wait::No, &mut completions)
            .unwrap();
        sent = match completions.pop() {
            None => bytes.len(),
            Some(completion) if completion.error() == Some(libc::EAGAIN) => sent,
            Some(completion) => sent + usize::try_from(completion.result).expect("no other failure"),
        };
    }
    reader.join().unwrap();
}

fn many_more_sends_than_the_queue_holds_go_out_in_one_turn(kind: Kind) {
    let mut driver = driver(kind, &small());
    let listener = listen("127.0.0.1:0".parse().unwrap(), 64, 1).unwrap().remove(0);
    let mut peers = Vec::new();
    for _ in 0..50 {
        let ours = TcpStream::connect(listener.address()).unwrap();
        peers.push((driver.install(OwnedFd::from(ours)).unwrap(), listener_accept(&listener)));
    }
    let sends: Vec<_> = peers
        .iter()
        .map(|(slot, _)| (Token::new(Op::Send, *slot, 0), slot.to_be_bytes()))
        .collect();
    let mut completions = Vec::new();
    driver
        .turn(
            sends.iter().map(|(token, bytes)| (*token, &bytes[..])),
            Wait::No,
            &mut completions,
        )
        .unwrap();
    assert!(completions.is_empty(), "{completions:?}");
    for (slot, mut peer) in peers {
        let mut bytes = [0; 4];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(u32::from_be_bytes(bytes), slot);
    }
}

fn listener_accept(listener: &Listener) -> TcpStream {
    use std::os::fd::AsFd;
    let owned = listener.as_fd().try_clone_to_owned().unwrap();
    let listener = std::net::TcpListener::from(owned);
    let until = Instant::now() + DEADLINE;
    // Whoever has connected may be in the queue only a moment later.
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn a_full_table_refuses_and_a_closed_slot_is_used_again(kind: Kind) {
    let mut driver = driver(kind, &Config { slots: 1, ..small() });
    let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
    driver.accept(&listener, LISTENER).unwrap();
    let first = TcpStream::connect(listener.address()).unwrap();
    run(&mut driver, "accepting the first", |_, completion| {
        completion.result == 0
    });
    driver.accept(&listener, LISTENER).unwrap();
    let _second = TcpStream::connect(listener.address()).unwrap();
    run(&mut driver, "refusing the second", |_, completion| {
        assert_eq!(completion.error(), Some(libc::ENFILE));
        true
    });
    driver.close(Token::new(Op::Close, 0, 0)).unwrap();
    drop(first);
    driver.accept(&listener, LISTENER).unwrap();
    let _third = TcpStream::connect(listener.address()).unwrap();
    run(&mut driver, "accepting the third", |_, completion| {
        assert_eq!(completion.result, 0, "slot 0 is free again: {completion:?}");
        true
    });
}

fn of_many_accepts_in_flight_each_tells_its_own_peer(kind: Kind) {
    let mut driver = driver(kind, &small());
    let listeners =
        ["127.0.0.1:0", "[::1]:0"].map(|address| listen(address.parse().unwrap(), 64, 1).unwrap().remove(0));
    for _ in 0..8 {
        for (number, listener) in (0..).zip(&listeners) {
            driver.accept(listener, number).unwrap();
        }
    }
    driver.turn([], Wait::No, &mut Vec::new()).unwrap();
    // All at once, so that accepts complete together.
    let peers: Vec<TcpStream> = (0..16)
        .map(|i| TcpStream::connect(listeners[i % 2].address()).unwrap())
        .collect();
    let mut expected: Vec<_> = (0..)
        .zip(&peers)
        .map(|(i, peer)| (i % 2, peer.local_addr().unwrap()))
        .collect();
    let mut accepted = Vec::new();
    run(&mut driver, "accepting all", |driver, completion| {
        assert!(completion.result >= 0, "{completion:?}");
        let peer = driver
            .take_peer(completion.token)
            .expect("whoever is accepted has an address");
        assert_eq!(driver.take_peer(completion.token), None);
        accepted.push((completion.token.slot(), peer));
        accepted.len() == peers.len()
    });
    expected.sort_unstable();
    accepted.sort_unstable();
    assert_eq!(accepted, expected);
}

fn accepts_of_one_listener_are_cancelled_together_and_those_of_another_go_on(kind: Kind) {
    let mut driver = driver(kind, &small());
    let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
    let other = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
    for _ in 0..3 {
        driver.accept(&listener, LISTENER).unwrap();
    }
    driver.accept(&other, LISTENER + 1).unwrap();
    driver.turn([], Wait::No, &mut Vec::new()).unwrap();
    driver.cancel_accepts(LISTENER).unwrap();
    // The descriptor may be closed before the kernel sees the cancellation.
    drop(listener);
    let mut cancelled = 0;
    run(&mut driver, "cancelling", |_, completion| {
        if completion.token.op() == Op::Accept {
            assert_eq!(
                (completion.token.slot(), completion.error()),
                (LISTENER, Some(libc::ECANCELED))
            );
            cancelled += 1;
        }
        cancelled == 3
    });
    let peer = TcpStream::connect(other.address()).unwrap();
    run(&mut driver, "accepting elsewhere", |driver, completion| {
        completion.token.op() == Op::Accept && driver.take_peer(completion.token) == peer.local_addr().ok()
    });
}

fn a_socket_is_installed_where_another_was_closed(kind: Kind) {
    let mut driver = driver(kind, &Config { slots: 2, ..small() });
    let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
    let install = |driver: &mut Driver| {
        let ours = TcpStream::connect(listener.address()).unwrap();
        (driver.install(OwnedFd::from(ours)), listener_accept(&listener))
    };
    let (_first, mut second) = (install(&mut driver), install(&mut driver).1);
    assert_eq!(driver.vacant_slots(), 0);
    let (refused, _) = install(&mut driver);
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENFILE));
    for round in 0..10u8 {
        driver.close(Token::new(Op::Close, 1, 0)).unwrap();
        if kind == Kind::IoUring {
            let (early, _) = install(&mut driver);
            assert!(
                early.is_err(),
                "a close that is only queued would hit the new connection"
            );
        }
        let mut completions = Vec::new();
        driver.turn([], Wait::No, &mut completions).unwrap();
        assert!(completions.is_empty(), "{completions:?}");
        assert_eq!(driver.vacant_slots(), 1);
        assert_eq!(
            second.read(&mut [0]).unwrap(),
            0,
            "the peer of the closed one sees its end"
        );
        let (slot, peer) = install(&mut driver);
        assert_eq!(slot.unwrap(), 1);
        second = peer;
        let sends = [(Token::new(Op::Send, 1, 0), &[round][..])];
        driver.turn(sends, Wait::No, &mut completions).unwrap();
        assert!(completions.is_empty(), "{completions:?}");
        let mut said = [0];
        second.read_exact(&mut said).unwrap();
        assert_eq!(said, [round]);
    }
}

fn a_dropped_driver_lets_go_of_what_it_listened_on(kind: Kind) {
    let mut address = "127.0.0.1:0".parse().unwrap();
    for round in 0..20 {
        let listener = listen(address, 16, 1)
            .unwrap_or_else(|error| panic!("round {round}: {error}"))
            .remove(0);
        address = listener.address();
        let mut driver = driver(kind, &small());
        // More than the kernel ends at a time.
        for _ in 0..48 {
            driver.accept(&listener, LISTENER).unwrap();
        }
        driver.turn([], Wait::No, &mut Vec::new()).unwrap();
        // One more that the kernel has not seen yet.
        driver.accept(&listener, LISTENER).unwrap();
    }
}

fn a_cancelled_receive_ends_and_says_so(kind: Kind) {
    let mut driver = driver(kind, &small());
    let (_peer, slot) = connect(&mut driver);
    let token = Token::new(Op::Receive, slot, 0);
    driver.receive(token).unwrap();
    driver.cancel(token).unwrap();
    let mut ended = Vec::new();
    run(&mut driver, "cancelling", |_, completion| {
        ended.push((completion.token.op(), completion.result));
        ended.len() == 2
    });
    assert!(ended.contains(&(Op::Receive, -libc::ECANCELED)), "{ended:?}");
    assert!(ended.contains(&(Op::Cancel, 0)), "{ended:?}");
}

fn a_sleeping_thread_is_woken_by_another_driver_and_by_a_plain_thread(kind: Kind) {
    let mut driver = driver(kind, &small());
    let waker = driver.waker();
    // Either knows how to wake the other.
    for other in Kind::ALL {
        let waker = waker.clone();
        let by_driver = std::thread::spawn(move || {
            let mut other = self::driver(other, &small());
            other.wake(&waker).unwrap();
            other.turn([], Wait::No, &mut Vec::new()).unwrap();
        });
        run(&mut driver, &format!("waking by {other:?}"), |_, completion| {
            completion.token.op() == Op::Wake
        });
        by_driver.join().unwrap();
    }
    for round in 0..3 {
        let waker = waker.clone();
        let by_thread = std::thread::spawn(move || waker.wake());
        run(
            &mut driver,
            &format!("waking by a thread, round {round}"),
            |_, completion| completion.token.op() == Op::Wake,
        );
        by_thread.join().unwrap();
    }
}

/// All that comes before the end, however it is cut.
fn receive_to_the_end(driver: &mut Driver, token: Token) -> Vec<u8> {
    driver.receive(token).unwrap();
    let mut received = Vec::new();
    run(driver, "receiving", |driver, completion| {
        assert_eq!(completion.token, token);
        match completion.result {
            0 => return true,
            error if error < 0 => assert_eq!(completion.error(), Some(libc::ENOBUFS)),
            _ => received.extend_from_slice(&completion.data.expect("a filled buffer")),
        }
        if !completion.more {
            driver.receive(token).unwrap();
        }
        false
    });
    received
}

fn what_came_before_a_receive_began_is_received_with_its_end(kind: Kind) {
    let mut driver = driver(kind, &small());
    let (mut peer, slot) = connect(&mut driver);
    // One receive that is taken back, so that there is something to remember.
    let token = Token::new(Op::Receive, slot, 0);
    driver.receive(token).unwrap();
    driver.cancel(token).unwrap();
    run(&mut driver, "cancelling", |_, completion| {
        completion.token.op() == Op::Cancel
    });
    peer.write_all(b"all of it").unwrap();
    drop(peer);
    let _ = driver.turn([], Wait::No, &mut Vec::new());
    assert_eq!(receive_to_the_end(&mut driver, token.with(Op::Receive)), b"all of it");
}

fn what_follows_an_urgent_octet_does_not_wait_for_more_to_come(kind: Kind) {
    let mut driver = driver(kind, &small());
    let (mut peer, slot) = connect(&mut driver);
    // A receive stops in front of it, though there is more.
    peer.write_all(b"before").unwrap();
    socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    peer.write_all(b"behind").unwrap();
    let token = Token::new(Op::Receive, slot, 0);
    driver.receive(token).unwrap();
    let mut received = Vec::new();
    run(&mut driver, "receiving", |_, completion| {
        received.extend_from_slice(&completion.data.expect("octets"));
        received.len() == 12
    });
    assert_eq!(received, b"beforebehind");
}

fn a_broken_connection_ends_what_is_in_flight_for_it(kind: Kind) {
    let mut driver = driver(kind, &small());
    let (peer, slot) = connect(&mut driver);
    let token = Token::new(Op::Receive, slot, 5);
    let full = vec![0; 16 << 20];
    let mut completions = Vec::new();
    loop {
        let send = (token.with(Op::Send), &full[..]);
        driver.turn([send], Wait::No, &mut completions).unwrap();
        if completions.pop().and_then(|sent| sent.error()) == Some(libc::EAGAIN) {
            break;
        }
    }
    driver.receive(token).unwrap();
    driver.writable(token.with(Op::Writable)).unwrap();
    // With octets that nobody has read, a close is a reset.
    drop(peer);
    let mut ended = Vec::new();
    run(&mut driver, "breaking", |_, completion| {
        ended.push((completion.token, completion.error()));
        ended.len() == 2
    });
    assert!(ended.contains(&(token, Some(libc::ECONNRESET))), "{ended:?}");
    assert!(ended.contains(&(token.with(Op::Writable), None)), "{ended:?}");
}

fn the_peer_of_a_connection_that_was_shut_down_sees_its_end_and_is_still_heard(kind: Kind) {
    let mut driver = driver(kind, &small());
    let (mut peer, slot) = connect(&mut driver);
    let token = Token::new(Op::Shutdown, slot, 0);
    driver.shut_down(token).unwrap();
    run(&mut driver, "shutting down", |_, completion| {
        assert_eq!(completion.token, token);
        completion.result == 0
    });
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    peer.write_all(b"last words").unwrap();
    drop(peer);
    assert_eq!(receive_to_the_end(&mut driver, token.with(Op::Receive)), b"last words");
}

fn an_operation_on_a_slot_without_a_connection_fails_alone(kind: Kind) {
    let mut driver = driver(kind, &small());
    let token = Token::new(Op::Receive, 7, 0);
    driver.receive(token).unwrap();
    driver.writable(token.with(Op::Writable)).unwrap();
    driver.shut_down(token.with(Op::Shutdown)).unwrap();
    let mut completions = Vec::new();
    let send = (token.with(Op::Send), &b"x"[..]);
    driver.turn([send], Wait::No, &mut completions).unwrap();
    let mut failed: Vec<_> = completions.drain(..).map(|one| one.token.op()).collect();
    while failed.len() < 4 {
        driver.turn([], Wait::AtMost(DEADLINE), &mut completions).unwrap();
        assert!(!completions.is_empty(), "only {failed:?} in {DEADLINE:?}");
        for completion in completions.drain(..) {
            assert_eq!(completion.error(), Some(libc::EBADF), "{completion:?}");
            failed.push(completion.token.op());
        }
    }
    failed.sort_by_key(|op| *op as u8);
    assert_eq!(failed, [Op::Receive, Op::Send, Op::Writable, Op::Shutdown]);
}

fn a_turn_with_nothing_to_do_ends_by_its_time_limit(kind: Kind) {
    let mut driver = driver(kind, &small());
    let mut completions = Vec::new();
    driver
        .turn([], Wait::AtMost(Duration::from_millis(1)), &mut completions)
        .unwrap();
    assert!(completions.is_empty());
}

#[test]
fn a_ring_whose_turn_was_cut_short_refuses_to_go_on() {
    let mut driver = driver(Kind::IoUring, &small());
    let (_peer, slot) = connect(&mut driver);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let bytes = [1; 8];
        let sends = (0..2).map(|i| {
            assert_eq!(i, 0, "the second send is not to be had");
            (Token::new(Op::Send, slot, 0), &bytes[..])
        });
        driver.turn(sends, Wait::No, &mut Vec::new())
    }));
    assert!(panicked.is_err());
    assert!(driver.turn([], Wait::No, &mut Vec::new()).is_err());
    assert!(driver.receive(Token::new(Op::Receive, slot, 0)).is_err());
}
