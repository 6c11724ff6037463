//! A broker is replaced by a new process, and nobody who connects notices.

#[path = "http/mod.rs"]
mod http;
mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use http::{get, send, send_json};
use support::*;
use tidecast_client::{Client, Error, Options};

/// A broker, and those that have followed it. All are killed, by their pids, when dropped.
struct Line {
    first: Broker,
    pids: Vec<u32>,
}

impl Line {
    fn start(arguments: &[&str]) -> Line {
        let first = Broker::start(arguments);
        let pids = vec![first.pid()];
        Line { first, pids }
    }

    fn pid(&self) -> u32 {
        self.pids[self.pids.len() - 1]
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// The process that is the next to have taken over, as the last one said.
    fn next(&mut self) -> u32 {
        let pid = eventually("another process takes over", || {
            let lines = self.first.lines(" has taken over; saying goodbye here");
            let line = lines.get(self.pids.len() - 1)?;
            let (_, rest) = line.split_once("process ")?;
            rest.split(' ').next()?.parse().ok()
        });
        self.pids.push(pid);
        pid
    }

    /// Replaces the broker by a new process.
    fn upgrade(&mut self) -> u32 {
        self.signal("USR2");
        self.next()
    }

    /// Stops the last one.
    fn stop(mut self) {
        self.signal("TERM");
        let count = self.pids.len();
        eventually("all have ended in order", || {
            (self.first.lines("stopped: ").len() == count).then_some(())
        });
        assert!(self.first.wait().success());
        self.pids.clear();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The first one is killed by whoever has started it.
        for pid in self.pids.iter().skip(1) {
            let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
        }
    }
}

/// Connects in a loop from several threads while `during` goes on; gives how often. Every handshake is finished.
fn connecting(address: SocketAddr, during: impl FnOnce()) -> u64 {
    const THREADS: usize = 4;
    let over = AtomicBool::new(false);
    let connected = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match Client::connect(&format!("ws://{address}/t/a"), &Options::default()) {
                        Ok(client) => drop(client),
                        Err(error) => {
                            over.store(true, Ordering::Relaxed);
                            panic!("after {}: {error}", connected.load(Ordering::Relaxed));
                        }
                    }
                    connected.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    connected.into_inner()
}

#[test]
fn nobody_is_refused_or_reset_while_a_broker_is_replaced_twenty_times() {
    for driver in ["io_uring", "epoll"] {
        let mut line = Line::start(&["--driver", driver]);
        let address = line.first.address;
        let connected = connecting(address, || {
            for _ in 0..20 {
                line.upgrade();
            }
        });
        assert!(connected > 100, "{connected} with {driver}");
        line.stop();
    }
}

#[test]
fn a_client_that_comes_alone_while_a_broker_is_replaced_is_not_left_in_a_queue() {
    for driver in ["io_uring", "epoll"] {
        let mut line = Line::start(&["--driver", driver, "--workers", "1"]);
        let url = line.first.ws("/t/a");
        for _ in 0..10 {
            line.signal("USR2");
            // Nobody comes after it who would wake anybody.
            let mut last = client(&url);
            line.next();
            drop(client(&url));
            last.send_text("x").ok();
        }
        line.stop();
    }
}

#[test]
fn clients_of_the_old_process_are_told_to_come_again_and_find_the_new_one() {
    let mut line = Line::start(&["--drain-spread", "0"]);
    let mut subscriber = json_client(&line.first);
    ask(&mut subscriber, r#"["sub","a",{"ref":1}]"#);
    let pid = line.upgrade();
    assert_ne!(pid, line.first.pid());
    let bye = text(&mut subscriber);
    assert!(
        bye.starts_with(r#"["bye",1001,"connect again: the broker is being replaced","#),
        "{bye}"
    );
    let closed = subscriber.receive(Some(std::time::Instant::now() + DEADLINE));
    assert!(
        matches!(closed, Err(Error::Closed { code: Some(1001), .. })),
        "{closed:?}"
    );
    let mut again = json_client(&line.first);
    assert!(ask(&mut again, r#"["sub","a",{"ref":1}]"#).starts_with(r#"["ok",1"#));
    line.stop();
}

#[test]
fn a_client_in_the_middle_of_its_handshake_finishes_it_with_the_old_process() {
    let mut line = Line::start(&[]);
    let mut half = Peer::connect(&line.first);
    let request = upgrade("/t/a", "Sec-WebSocket-Version: 13\r\n");
    let (first, second) = request.split_at(20);
    half.say(first.as_bytes());
    // It is known to the broker once a later request has been answered.
    let mut page = Peer::connect(&line.first);
    page.say(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    page.rest();
    line.upgrade();
    half.say(second.as_bytes());
    let head = half.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // It is told at once that it is late.
    assert_eq!(half.frame().0, 0x88);
    drop(half);
    line.stop();
}

#[test]
fn a_request_that_is_answered_by_the_old_process_is_told_that_its_connection_ends() {
    let mut line = Line::start(&[]);
    let requests = ["GET /", "OPTIONS /t/a", "POST /t/a"].map(|line| http::request(line, http::TEXT, ""));
    let mut halves: Vec<_> = requests
        .iter()
        .map(|request| {
            let mut peer = Peer::connect(&line.first);
            let (first, second) = request.split_at(20);
            peer.say(first.as_bytes());
            (peer, second)
        })
        .collect();
    // They are known to the broker once a later request has been answered.
    http::asked(&line.first, &http::request("GET /", "", ""));
    line.upgrade();
    for (peer, second) in &mut halves {
        let answer = peer.asks(second);
        assert_eq!(answer.header("Connection"), Some("close"), "{answer:?}");
        assert_eq!(peer.rest(), b"");
    }
    drop(halves);
    line.stop();
}

#[test]
fn where_the_new_process_does_not_come_up_the_old_one_goes_on_and_says_why() {
    let directory = std::env::temp_dir().join(format!("tidecast-upgrade-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("tidecast.toml");
    fs::write(&file, "[limits]\nmax_subscriptions = 1\n").unwrap();
    let mut line = Line::start(&["--config", file.to_str().unwrap(), "--admin", "127.0.0.1:0"]);
    let admin = line.first.admin();
    let mut client = json_client(&line.first);
    fs::write(&file, "[limits]\nmax_subscription = 2\n").unwrap();
    let answer = send_json(admin, "/v1/upgrade", "");
    assert_eq!(answer.status, 422, "{}", answer.body);
    let text = answer.json()["error"]["text"].as_str().unwrap().to_owned();
    for words in ["this one goes on", "max_subscriptions", ":2:"] {
        assert!(text.contains(words), "{words:?} is missing in: {text}");
    }
    assert!(ask(&mut client, r#"["sub","a",{"ref":1}]"#).starts_with(r#"["ok",1"#));
    fs::write(&file, "[limits]\nmax_subscriptions = 2\n").unwrap();
    let answer = send_json(admin, "/v1/upgrade", "");
    assert_eq!(answer.status, 202, "{}", answer.body);
    let pid = line.next();
    assert_eq!(
        answer.json()["text"],
        format!("process {pid} has taken over"),
        "{}",
        answer.body
    );
    // The control plane has gone over too, and with it the new configuration.
    eventually("the new process answers", || {
        let metrics = send(admin, "GET", "/readyz", &[], None);
        (metrics.body == "ready\n").then_some(())
    });
    drop(client);
    let mut client = json_client(&line.first);
    for topic in ["a", "b"] {
        assert!(ask(&mut client, &format!(r#"["sub","{topic}",{{"ref":1}}]"#)).starts_with(r#"["ok",1"#));
    }
    assert_eq!(get(admin, "/v1/stats")["totals"]["connections"], 1);
    line.stop();
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn an_operator_is_told_what_came_of_it_with_a_control_plane_or_without() {
    let mut line = Line::start(&[]);
    for _ in 0..2 {
        let output = run(tidecast(&["upgrade", "--pid", &line.pid().to_string()]), None);
        assert!(output.status.success(), "{}", said(&output));
        let pid = line.next();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("process {pid} has taken over\n")
        );
    }
    line.stop();
    let mut line = Line::start(&["--admin", "127.0.0.1:0"]);
    let admin = format!("http://{}", line.first.admin());
    let output = run(tidecast(&["upgrade", "--admin", &admin]), None);
    assert!(output.status.success(), "{}", said(&output));
    line.next();
    line.stop();
    let nobody = run(tidecast(&["upgrade", "--pid", &std::process::id().to_string()]), None);
    assert_eq!(nobody.status.code(), Some(3), "{}", said(&nobody));
    assert!(said(&nobody).contains("it is no broker"), "{}", said(&nobody));
}

#[test]
fn an_operator_is_told_why_there_is_no_new_process() {
    let directory = std::env::temp_dir().join(format!("tidecast-upgrade-refused-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("tidecast");
    fs::copy(env!("CARGO_BIN_EXE_tidecast"), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "none", "--workers", "1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let broker = Broker::of(command);
    let upgrade = || run(tidecast(&["upgrade", "--pid", &broker.pid().to_string()]), None);
    let is_refused = |words: &str| {
        let output = upgrade();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains(words),
            "{words:?} is missing in: {}",
            said(&output)
        );
        client(&broker.ws("/t/a")).send_text("it goes on").unwrap();
    };
    // What runs keeps running when its file is replaced, which is how new versions come.
    fs::rename(&program, directory.join("old")).unwrap();
    is_refused("cannot be started: No such file");
    fs::copy("/bin/false", &program).unwrap();
    is_refused("ended (exit status: 1) before it was ready");
    fs::remove_dir_all(&directory).unwrap();
    broker.stop();
}

#[test]
fn a_new_process_may_have_other_workers_and_another_driver() {
    let directory = std::env::temp_dir().join(format!("tidecast-upgrade-workers-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("tidecast.toml");
    let write = |workers: u32, driver: &str| {
        let text = format!("[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = {workers}\ndriver = \"{driver}\"\n");
        fs::write(&file, text).unwrap();
    };
    write(3, "io_uring");
    let mut command = tidecast(&["serve", "--admin", "none", "--config", file.to_str().unwrap()]);
    command
        .env_remove("TIDECAST_DRIVER")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let first = Broker::of(command);
    let pids = vec![first.pid()];
    let mut line = Line { first, pids };
    for (workers, driver) in [(1, "epoll"), (2, "io_uring"), (4, "epoll"), (1, "io_uring")] {
        write(workers, driver);
        connecting(line.first.address, || {
            line.upgrade();
        });
        // Every socket has somebody who accepts from it.
        let clients: Vec<_> = (0..32).map(|_| client(&line.first.ws("/t/a"))).collect();
        drop(clients);
    }
    line.stop();
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_stop_while_a_new_process_comes_up_stops_both() {
    let line = Line::start(&["--upgrade-timeout", "10s"]);
    line.signal("USR2");
    line.signal("TERM");
    let mut line = line;
    assert!(line.first.wait().success());
    eventually("nobody listens any more", || {
        std::net::TcpStream::connect_timeout(&line.first.address, Duration::from_secs(1))
            .err()
            .map(drop)
    });
    line.pids.clear();
}

#[test]
fn a_new_process_that_waits_for_something_else_does_not_outlive_the_stop_of_the_old_one() {
    let keys = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", keys.local_addr().unwrap());
    let arguments = [
        "--jwt-key-set-url",
        &url,
        "--jwt-audience",
        "a",
        "--jwt-key-set-timeout",
        "60s",
    ];
    // The first one is refused its keys at once, and serves.
    let refusing = thread::spawn(move || {
        drop(keys.accept().unwrap());
        keys
    });
    let mut first = Broker::start(&arguments);
    let keys = refusing.join().unwrap();
    first.signal("USR2");
    let mut waiting = keys.accept().unwrap().0;
    first.signal("TERM");
    assert!(first.wait().success());
    let mut rest = Vec::new();
    waiting.set_read_timeout(Some(DEADLINE)).unwrap();
    // However it ends, and whatever it has asked.
    let _ = std::io::Read::read_to_end(&mut waiting, &mut rest);
    let listens = std::net::TcpStream::connect_timeout(&first.address, Duration::from_secs(1));
    assert!(listens.is_err(), "nobody listens any more");
}

#[test]
fn a_broker_with_which_its_container_would_end_is_not_replaced() {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_tidecast"))
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--workers",
            "1",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let broker = Broker::of(command);
    let answer = send_json(broker.admin(), "/v1/upgrade", "");
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("this is process 1"), "{}", answer.body);
    client(&broker.ws("/t/a")).send_text("it goes on").unwrap();
}

#[test]
fn whoever_takes_the_name_of_a_broker_is_not_believed() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    let name = SocketAddr::from_abstract_name(format!("tidecast-{}", other.id())).unwrap();
    let listener = UnixListener::bind_addr(&name).unwrap();
    let liar = thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"yes: process 1 has taken over\n");
    });
    let output = run(tidecast(&["upgrade", "--pid", &other.id().to_string()]), None);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("who answers in its name is process "),
        "{}",
        said(&output)
    );
    liar.join().unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
}
