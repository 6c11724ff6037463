//! Connections that do not stay, or do not behave.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tidecast_client::wire::Kind;
use tidecast_client::{Client, Error, Message, Options, Session};

use super::Run;
use super::http::{Events, TEXT, asked, post};
use super::support::*;
use super::watch::{CLOSED, DROPPED};

/// From one guest to the next, of each of those that send them.
const VISIT: Duration = Duration::from_millis(10);
/// Of what nobody reads in time.
const FLOOD: usize = 64 << 10;
const FLOOD_PERIOD: Duration = Duration::from_millis(8);
/// How long somebody reads who then goes to sleep again.
const AWAKE: Duration = Duration::from_secs(2);

/// Options of somebody who has no patience for one handshake after the other.
fn hasty() -> Options {
    Options {
        concurrent_handshakes: true,
        ..Options::default()
    }
}

fn json(run: &Run) -> Client {
    let mut json = Client::connect(&run.broker.ws("/ws"), &hasty()).unwrap();
    assert!(text(&mut json).starts_with(r#"["hello""#));
    json
}

/// Publishes to more topics than a worker remembers the ways of, so that guests, whose topics are all new, make it forget as many
/// as they make it remember.
pub(crate) fn fill(run: &Run) {
    const TOPICS: usize = 60_000;
    // Chance decides which worker has a connection: with so many each has some.
    for connection in 0..8 {
        let mut json = json(run);
        for topic in 0..TOPICS {
            json.queue_text(&format!(r#"["pub","fill/{connection}/{topic}",1]"#))
                .unwrap();
            if topic % 100 == 99 {
                json.flush().unwrap();
            }
        }
        assert_eq!(ask(&mut json, r#"["ping"]"#), r#"["pong"]"#);
    }
}

/// Sends one guest after the other, each kind in turn.
pub(crate) fn come_and_go(run: &Run, number: u64) {
    let broker = &run.broker;
    let mut next = Instant::now();
    for visit in 0.. {
        if run.is_over() {
            return;
        }
        // No two guests have a topic in common, and none is used a second time.
        let topic = format!("guests/{number}/{visit}");
        let path = topic.replace('/', "%2F");
        match visit % 12 {
            0 => {
                let mut json = json(run);
                for filter in [&topic, "guests/+/+", "guests/#"] {
                    json.queue_text(&format!(r#"["sub","{filter}"]"#)).unwrap();
                }
                let answer = ask(&mut json, &format!(r#"["pub","{topic}",1]"#));
                assert!(answer.starts_with(r#"["msg","guests/"#), "{answer}");
                json.close(1000, "").unwrap();
            }
            1 => drop(json(run)),
            2 => {
                let mut raw = Client::connect(&broker.ws(&format!("/t/{path}")), &hasty()).unwrap();
                raw.send_text("to myself").unwrap();
                assert_eq!(text(&mut raw), "to myself");
            }
            3 => {
                // Gone in the middle of a frame.
                let mut peer = Peer::open(broker, &format!("/t/{path}"), 13);
                let frame = masked(0x81, &[b'x'; 5000]);
                peer.say(&frame[..2500]);
            }
            4 => {
                // Gone in the middle of a request.
                let request = upgrade("/ws", "Sec-WebSocket-Version: 13\r\n");
                Peer::connect(broker).say(&request.as_bytes()[..60]);
            }
            5 => drop(Peer::connect(broker)),
            6 => {
                let answer = asked(broker, &post(&path, TEXT, "hello"));
                assert_eq!(answer.status, 202, "{answer:?}");
            }
            7 => {
                let answer = asked(broker, &post("%00", TEXT, "hello"));
                assert_eq!(answer.status, 400, "{answer:?}");
            }
            8 => {
                // What is not masked is no frame of a client.
                let mut peer = Peer::open(broker, "/ws", 13);
                peer.frame();
                peer.say(&[0x81, 0x01, b'x']);
                peer.frame();
            }
            9 => drop(Events::open(broker, &format!("/t/{path}"), "")),
            10 => {
                let mut json = json(run);
                let answer = ask(&mut json, r#"["sub","a/+b",{"ref":1}]"#);
                assert!(answer.starts_with(r#"["err",1,"bad_topic""#), "{answer}");
                let answer = ask(&mut json, "no JSON at all");
                assert!(answer.starts_with(r#"["err",null,"bad_message""#), "{answer}");
            }
            _ => {
                // What it was sent is never read, so this is a reset.
                let mut raw = Client::connect(&broker.ws("/t/flood?mode=sub"), &hasty()).unwrap();
                let _ = raw.receive(Some(Instant::now() + VISIT));
            }
        }
        run.guests.fetch_add(1, Relaxed);
        run.pace(&mut next, VISIT);
    }
}

/// Publishes more than those can hold who do not read.
pub(crate) fn flood(run: &Run) {
    let options = Options {
        protocols: vec!["tidecast.bin.v1".into()],
        ..hasty()
    };
    let mut session = Session::connect(&run.broker.ws("/ws"), &options, None).unwrap();
    let payload = vec![7; FLOOD];
    let mut next = Instant::now();
    while !run.is_over() {
        session.publish_confirmed("flood", &payload, Kind::Binary).unwrap();
        run.pace(&mut next, FLOOD_PERIOD);
    }
}

/// Subscribes, does not read, and comes again once it was closed for it.
pub(crate) fn sleep_until_closed(run: &Run) {
    while !run.is_over() {
        let before = run.count(CLOSED);
        let mut raw = Client::connect(&run.broker.ws("/t/flood?mode=sub"), &hasty()).unwrap();
        run.sleep_until_more(CLOSED, before);
        let end = loop {
            match raw.receive(Some(Instant::now() + DEADLINE)) {
                Ok(Some(_)) if run.is_over() => return,
                Ok(Some(_)) => {}
                Ok(None) => panic!("neither messages nor an end"),
                Err(end) => break end,
            }
        };
        // Its last words may not reach somebody whose buffers are full for too long.
        let code = match end {
            Error::Closed { code, .. } => code,
            _ => None,
        };
        assert!(matches!(code, Some(4000) | None), "{end}");
    }
}

/// Subscribes with a policy that drops, sleeps until it has missed something, and is told so when it wakes up.
pub(crate) fn sleep_and_wake<const POLICY: usize>(run: &Run) {
    let policy = ["drop-old", "latest"][POLICY];
    let mut json = json(run);
    let answer = ask(&mut json, &format!(r#"["sub","flood",{{"ref":1,"slow":"{policy}"}}]"#));
    assert_eq!(answer, r#"["ok",1,{}]"#);
    while !run.is_over() {
        // How much the sockets in between hold is the kernel's choice, and another one each time.
        run.sleep_until_more(DROPPED, run.count(DROPPED));
        let awake = Instant::now();
        while !run.is_over() && awake.elapsed() < AWAKE {
            let Ok(Some(Message::Text(said))) = json.receive(Some(awake + DEADLINE)) else {
                assert!(run.is_over(), "there is always more");
                return;
            };
            let is_expected = said.starts_with(r#"["msg","flood","#) || said.starts_with(r#"["lag","flood","#);
            assert!(is_expected, "{said:.200}");
        }
    }
}

/// Stays, and subscribes to something else all the time.
pub(crate) fn wander(run: &Run) {
    let mut json = json(run);
    let mut next = Instant::now();
    for number in 0u64.. {
        if run.is_over() {
            return;
        }
        for filter in [format!("wander/{number}"), format!("wander/{number}/+/#")] {
            let answer = ask(&mut json, &format!(r#"["sub","{filter}",{{"ref":1}}]"#));
            assert_eq!(answer, r#"["ok",1,{}]"#);
            let answer = ask(&mut json, &format!(r#"["unsub","{filter}",{{"ref":2}}]"#));
            assert_eq!(answer, r#"["ok",2,{}]"#);
        }
        run.pace(&mut next, VISIT);
    }
}

/// Opens a stream of events on a connection that had requests before, hears some, and goes.
pub(crate) fn listen_to_events(run: &Run) {
    let mut next = Instant::now();
    while !run.is_over() {
        let mut peer = Peer::connect(&run.broker);
        for number in 0..3 {
            let answer = peer.asks(&post(&format!("events%2F{number}"), TEXT, "hello"));
            assert_eq!(answer.status, 202, "{answer:?}");
        }
        let mut events = Events::of(peer, "/t/soak%2F%23", "");
        // The last of all may be gone already.
        for _ in 0..3 {
            if run.is_over() {
                return;
            }
            assert!(events.event().contains(r#""#));
        }
        run.pace(&mut next, VISIT * 10);
    }
}
