//! What goes wrong around a broker, and inside it: it goes on, or it ends and says why.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::*;

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_client_that_is_stopped_holds_nobody_up_and_is_given_up() {
    let broker = Broker::start(&["--max-pending", "256K"]);
    let mut stopped = tidecast(&["sub", "--url", &broker.ws("/ws"), "a"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut other = json_client(&broker);
    ask(&mut other, r#"["sub","a",{"ref":1}]"#);
    let mut publisher = json_client(&broker);
    // Both are there when the broker has three who were greeted, one of them not by this test.
    let probe = |publisher: &mut tidecast_client::Client| ask(publisher, r#"["pub","a",0,{"ref":2}]"#);
    probe(&mut publisher);
    assert_eq!(text(&mut other), r#"["msg","a",0]"#);
    eventually("it has opened its connection", || {
        let tasks = fs::read_to_string(format!("/proc/{}/net/tcp", stopped.id())).unwrap();
        let port = format!(":{:04X} ", broker.address.port());
        // Established, to the broker: those of this test are two.
        let count = tasks
            .lines()
            .filter(|line| line.contains(&port) && line.contains(" 01 "))
            .count();
        (count >= 6).then_some(())
    });
    kill("STOP", stopped.id());
    let payload = "x".repeat(60_000);
    for number in 1..=400 {
        publisher
            .send_text(&format!(r#"["pub","a","{payload}{number}"]"#))
            .unwrap();
        assert!(text(&mut other).ends_with(&format!("{number}\"]")), "message {number}");
    }
    kill("KILL", stopped.id());
    stopped.wait().unwrap();
    drop((other, publisher));
    let totals = broker.stop();
    assert_eq!(totals.get("slow_consumers"), 1);
}

#[test]
fn a_client_that_is_killed_in_the_middle_of_a_frame_leaves_nothing_behind() {
    let broker = Broker::start(&[]);
    let mut subscriber = client(&broker.ws("/t/a?mode=sub"));
    let script = "import socket, sys, time\n\
                  s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
                  s.sendall(b'GET /t/a HTTP/1.1\\r\\nHost: h\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'\n\
                  b'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n')\n\
                  s.recv(4096)\n\
                  s.sendall(b'\\x81\\xfe\\xff\\xff' + bytes(4) + b'x' * 40000)\n\
                  print('half', flush=True)\n\
                  time.sleep(600)";
    for _ in 0..4 {
        let mut child = Command::new("python3")
            .args(["-c", script, &broker.address.port().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("piped");
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "half\n");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    client(&broker.ws("/t/a?mode=pub")).send_text("whole").unwrap();
    assert_eq!(text(&mut subscriber), "whole", "and nothing of the halves");
    drop(subscriber);
    let totals = broker.stop();
    assert!(
        totals.get("gone") + totals.get("broken") >= 4,
        "no Close came from them"
    );
    assert_eq!(totals.get("incomplete"), 0);
}

/// `tidecast serve` with a queue of so many connections.
fn with_queue(length: &str, arguments: &[&str]) -> Broker {
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/activate.py"))
        .args([length, "127.0.0.1:0", env!("CARGO_BIN_EXE_tidecast"), "serve"])
        .args(["--admin", "none", "--listen", "{0}", "--workers", "1"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Broker::of(command)
}

#[test]
fn those_for_whom_the_queue_of_the_listener_had_no_room_are_served_when_there_is() {
    for driver in ["io_uring", "epoll"] {
        let broker = with_queue("4", &["--driver", driver]);
        kill("STOP", broker.pid());
        thread::scope(|scope| {
            let clients: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        let mut stream = TcpStream::connect_timeout(&broker.address, DEADLINE).unwrap();
                        stream.set_read_timeout(Some(DEADLINE)).unwrap();
                        stream
                            .write_all(upgrade("/t/a", "Sec-WebSocket-Version: 13\r\n").as_bytes())
                            .unwrap();
                        let mut start = [0; 12];
                        stream.read_exact(&mut start).unwrap();
                        assert_eq!(&start, b"HTTP/1.1 101");
                    })
                })
                .collect();
            // It is full when it holds one more than it was made for.
            eventually("the queue is full", || {
                let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
                let port = format!("0100007F:{:04X} 00000000:0000 0A ", broker.address.port());
                let line = sockets.lines().find(|line| line.contains(&port))?;
                line.contains(":00000005 ").then_some(())
            });
            kill("CONT", broker.pid());
            for client in clients {
                client.join().unwrap();
            }
        });
        broker.stop();
    }
}

#[test]
fn a_broker_without_descriptors_goes_on_and_accepts_again_when_there_are_some() {
    for driver in ["epoll", "io_uring"] {
        let broker = Broker::start(&["--driver", driver, "--workers", "1"]);
        let pid = broker.pid();
        let mut before = client(&broker.ws("/t/a"));
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let limit = |soft: &str| {
            let status = Command::new("prlimit")
                .args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")])
                .status()
                .unwrap();
            assert!(status.success());
        };
        let usual = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let usual = usual
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .unwrap();
        let usual = usual.split_whitespace().next().unwrap().to_owned();
        limit(&open.to_string());
        let mut late: Vec<_> = (0..4)
            .map(|_| {
                let mut peer = Peer::connect(&broker);
                peer.say(upgrade("/t/a", "Sec-WebSocket-Version: 13\r\n").as_bytes());
                peer
            })
            .collect();
        if driver == "epoll" {
            // Connections are descriptors there, and only there.
            broker.error("cannot be accepted");
        }
        before.send_text("still here").unwrap();
        assert_eq!(text(&mut before), "still here");
        limit(&usual);
        for peer in &mut late {
            let head = peer.head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{driver}: {head}");
        }
        drop(late);
        broker.stop();
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_broker_whose_worker_fails_ends_with_a_message_and_is_never_half_alive() {
    for driver in ["io_uring", "epoll"] {
        let mut broker = Broker::start(&["--driver", driver, "--drain-timeout", "1s"]);
        let mut clients: Vec<_> = (0..8).map(|_| json_client(&broker)).collect();
        let mut command = Command::new("python3");
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/worker.py"))
            .args(["fail", &broker.pid().to_string(), "worker-1"]);
        // It waits for events as soon as something has happened.
        let poke = thread::spawn({
            let url = broker.ws("/t/a");
            move || {
                for _ in 0..64 {
                    // Those that come too late are not served.
                    if tidecast_client::Client::connect(&url, &tidecast_client::Options::default()).is_err() {
                        break;
                    }
                }
            }
        });
        let output = run(command, None);
        assert!(output.status.success(), "{}", said(&output));
        poke.join().unwrap();
        assert_eq!(broker.wait().code(), Some(1), "with {driver}");
        let error = broker.error("worker 1 failed: ");
        assert!(
            error.contains("Bad file descriptor") && error.contains("the broker stops"),
            "{error}"
        );
        // Whoever was with the other worker has been told, and nobody is left waiting.
        for client in &mut clients {
            let until = std::time::Instant::now() + Duration::from_secs(20);
            while client.receive(Some(until)).is_ok_and(|message| message.is_some()) {}
        }
        let refused = TcpStream::connect_timeout(&broker.address, Duration::from_secs(1));
        assert!(refused.is_err(), "nobody listens any more");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_broker_whose_worker_fails_ends_although_nobody_reads_why() {
    let (_unread, writer) = std::io::pipe().unwrap();
    let mut command = tidecast(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "1",
        "--log-rate",
        "100000",
    ]);
    command
        .args(["--drain-timeout", "1s"])
        .stdout(Stdio::piped())
        .stderr(writer);
    let mut broker = command.spawn().unwrap();
    drop(command);
    let mut lines = BufReader::new(broker.stdout.take().expect("piped"))
        .lines()
        .map(Result::unwrap);
    let line = lines
        .find(|line| line.contains("ws://"))
        .expect("it says where it listens");
    let address = line.split("ws://").nth(1).unwrap().split('/').next().unwrap();
    // Some 170 bytes for each that ends: more than a pipe has room for.
    for _ in 0..600 {
        drop(client(&format!("ws://{address}/t/a")));
    }
    let mut failing = Command::new("python3");
    failing
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/worker.py"))
        .args(["fail", &broker.id().to_string(), "worker-0"]);
    let poke = thread::spawn({
        let address = address.to_owned();
        // It waits for events as soon as something has happened.
        move || (0..64).all(|_| TcpStream::connect(&address).is_ok())
    });
    let output = run(failing, None);
    assert!(output.status.success(), "{}", said(&output));
    poke.join().unwrap();
    let status = eventually("the broker ends", || broker.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
}
