//! Clients that say more than is good for the broker, and read every answer: nothing they do is an error.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::*;

const FLOODERS: usize = 6;
/// Commands of one flooder: their answers are 11 MB, which may all wait for it if it is not let run for a while.
const COMMANDS: usize = 400_000;
/// What the broker may need at its most, in KiB: 32 MiB for receive buffers, code and what a turn produces, and all
/// answers, once.
const MOST_MEMORY: u64 = 128 << 10;

/// A greeted connection on worker number `worker`, which is told by the session's name.
fn json_peer(broker: &Broker, worker: usize) -> Peer {
    loop {
        let mut peer = Peer::open(broker, "/ws", 13);
        let hello = String::from_utf8(peer.frame().1).unwrap();
        if hello.starts_with(&format!(r#"["hello",{{"session":"{worker}-"#)) {
            return peer;
        }
    }
}

/// The most memory the process has had, in KiB.
fn peak_memory(broker: &Broker) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_of_commands_neither_grows_the_broker_nor_holds_up_what_comes_from_other_workers() {
    let broker = Broker::start(&["--workers", "2", "--max-pending", "16777216"]);
    let mut subscriber = json_peer(&broker, 0);
    subscriber.say(&masked(0x81, br#"["sub","quiet",{"ref":1}]"#));
    assert_eq!(subscriber.frame().1, br#"["ok",1,{}]"#);
    let mut publisher = json_peer(&broker, 1);
    let flooders: Vec<_> = (0..FLOODERS).map(|_| json_peer(&broker, 0)).collect();
    let flooding = AtomicUsize::new(FLOODERS);
    let delivered = thread::scope(|scope| {
        for Peer(mut stream) in flooders {
            let mut writer = stream.try_clone().unwrap();
            scope.spawn(move || {
                let batch = masked(0x81, br#"["x"]"#).repeat(COMMANDS / 20);
                for _ in 0..20 {
                    writer.write_all(&batch).unwrap();
                }
                writer.write_all(&masked(0x88, &1000u16.to_be_bytes())).unwrap();
            });
            let flooding = &flooding;
            scope.spawn(move || {
                let mut bytes = vec![0; 1 << 20];
                let mut tail = Vec::new();
                loop {
                    let count = stream.read(&mut bytes).unwrap();
                    if count == 0 {
                        break;
                    }
                    tail.extend_from_slice(&bytes[..count]);
                    tail.drain(..tail.len().saturating_sub(4));
                }
                assert_eq!(tail, b"\x88\x02\x03\xe8", "everything was answered, and the Close");
                flooding.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut delivered = 0;
        while flooding.load(Ordering::Relaxed) > 0 {
            publisher.say(&masked(0x81, format!(r#"["pub","quiet",{delivered}]"#).as_bytes()));
            assert_eq!(
                subscriber.frame().1,
                format!(r#"["msg","quiet",{delivered}]"#).as_bytes()
            );
            delivered += 1;
        }
        delivered
    });
    assert!(delivered >= 10, "only {delivered} messages came through");
    let memory = peak_memory(&broker);
    assert!(memory < MOST_MEMORY, "{memory} KiB");
    assert_eq!(broker.stop().get("commands_refused"), (FLOODERS * COMMANDS) as u64);
}
