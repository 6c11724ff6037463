//! What systemd asks of a service: to say how far it is, to live, and to listen with the sockets that it is given.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use support::*;

/// Where a service says how far it is.
struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
    /// What was said in one message each.
    heard: Vec<String>,
}

impl Listener {
    fn new(name: &str) -> Listener {
        let path = std::env::temp_dir().join(format!("tidecast-notify-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Listener {
            socket,
            path,
            heard: Vec::new(),
        }
    }

    /// The next message but for those that only say that it lives.
    fn next(&mut self) -> Vec<String> {
        loop {
            let message = self.any();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }

    fn any(&mut self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("it says something in time");
        let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
        self.heard.push(message.clone());
        message.lines().map(str::to_owned).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(arguments: &[&str]) -> Command {
    let mut command = tidecast(&["serve", "--listen", "127.0.0.1:0", "--admin", "none", "--workers", "2"]);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn systemd_hears_how_far_the_broker_is_from_its_start_to_its_stop() {
    let mut listener = Listener::new("life");
    let mut command = serve(&[]);
    command.env("NOTIFY_SOCKET", &listener.path);
    let mut broker = Broker::of(command);
    let address = broker.address;
    let ready = [
        "READY=1".to_owned(),
        format!("STATUS=serving with 2 workers on {address}"),
    ];
    assert_eq!(listener.next(), ready);
    broker.signal("HUP");
    let reloading = listener.next();
    assert_eq!(reloading[0], "RELOADING=1");
    let time = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(time.parse::<u64>().unwrap() > 0);
    assert_eq!(listener.next(), ready);
    broker.signal("USR2");
    let line = broker.line("has taken over");
    // The old one may say who follows it, the new one is heard only after that.
    let mut said = [listener.next(), listener.next()];
    said.sort();
    let pid = said[0][0].strip_prefix("MAINPID=").unwrap().to_owned();
    assert!(line.contains(&format!("process {pid} ")), "{line}");
    assert_eq!(said[1], ready);
    assert!(broker.wait().success());
    let status = Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap();
    assert!(status.success());
    assert_eq!(listener.next(), ["STOPPING=1", "STATUS=saying goodbye to clients"]);
}

/// Holds a worker's thread, until it is dropped.
struct Held {
    child: Child,
    _input: ChildStdin,
}

impl Held {
    fn hold(broker: &Broker, thread: &str) -> Held {
        let mut child = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/worker.py"))
            .args(["hold", &broker.pid().to_string(), thread])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
        let input = child.stdin.take().expect("piped");
        Held { child, _input: input }
    }
}

impl Held {
    fn release(mut self) {
        drop(self._input);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn the_watchdog_is_told_that_all_is_well_only_as_long_as_every_worker_turns() {
    let mut listener = Listener::new("watchdog");
    let mut command = serve(&[]);
    command
        .env("NOTIFY_SOCKET", &listener.path)
        .env("WATCHDOG_USEC", "1000000");
    let broker = Broker::of(command);
    listener.next();
    // Workers without anything to do live as well as any.
    for _ in 0..4 {
        assert_eq!(listener.any(), ["WATCHDOG=1"]);
    }
    let held = Held::hold(&broker, "worker-1");
    let error = broker.error("systemd is not told");
    assert!(error.contains("[1]"), "{error}");
    // What it was told before it found out, and nothing since.
    listener.socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    while listener.socket.recv(&mut bytes).is_ok() {}
    eventually("it finds so again", || {
        (broker.errors("systemd is not told").len() >= 3).then_some(())
    });
    assert!(listener.socket.recv(&mut bytes).is_err(), "it is told nothing");
    listener.socket.set_nonblocking(false).unwrap();
    held.release();
    assert_eq!(listener.any(), ["WATCHDOG=1"]);
    broker.stop();
}

/// `tidecast serve`, with sockets that listen on `addresses` already.
fn activated(addresses: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/activate.py"))
        .args([
            "16",
            addresses,
            env!("CARGO_BIN_EXE_tidecast"),
            "serve",
            "--admin",
            "none",
        ])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn all_workers_serve_from_the_sockets_that_systemd_has_opened() {
    for driver in ["io_uring", "epoll"] {
        let arguments = [
            "--listen",
            "{0}",
            "--listen",
            "{1}",
            "--workers",
            "3",
            "--driver",
            driver,
        ];
        let broker = Broker::of(activated("127.0.0.1:0,127.0.0.1:0", &arguments));
        let mut workers = std::collections::HashSet::new();
        let mut clients = Vec::new();
        eventually("every worker has somebody", || {
            let mut json = client(&broker.ws("/ws"));
            let hello = text(&mut json);
            workers.insert(hello.split(['"', '-']).nth(5).unwrap().to_owned());
            clients.push(json);
            (workers.len() == 3).then_some(())
        });
        let second = broker.lines("listening on")[1].clone();
        let second = second.split("http://").nth(1).unwrap().split('/').next().unwrap();
        client(&format!("ws://{second}/t/a")).send_text("x").unwrap();
        drop(clients);
        // That another worker was faster is no error.
        assert_eq!(broker.errors("cannot be accepted"), [""; 0]);
        broker.stop();
    }
}

#[test]
fn sockets_that_do_not_fit_the_configuration_are_refused_with_what_to_do() {
    let table: [(&str, &[&str], &str); 4] = [
        (
            "127.0.0.1:0,127.0.0.1:0",
            &["--listen", "{0}"],
            "where nothing is to listen: add --listen 127.0.0.1:",
        ),
        (
            "127.0.0.1:0",
            &["--listen", "{0}", "--listen", "127.0.0.2:7"],
            "none on 127.0.0.2:7: add ListenStream=127.0.0.2:7",
        ),
        ("127.0.0.1:0", &["--listen", "127.0.0.2:0"], "none on 127.0.0.2:0"),
        (
            "127.0.0.1:0",
            &["--listen", "{0}", "--max-subscription", "1"],
            "--max-subscription",
        ),
    ];
    for (addresses, arguments, words) in table {
        let output = run(activated(addresses, arguments), None);
        assert!(!output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains(words),
            "{words:?} is missing in: {}",
            said(&output)
        );
    }
    // A descriptor that does not listen at all.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=odd exec \"$0\" serve --listen 127.0.0.1:0 --admin none",
        env!("CARGO_BIN_EXE_tidecast"),
    ]);
    let output = run(command, None);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for words in ["descriptor 3 (odd)", "ListenStream="] {
        assert!(
            said(&output).contains(words),
            "{words:?} is missing in: {}",
            said(&output)
        );
    }
}

#[test]
fn sockets_of_systemd_go_on_to_a_new_process() {
    let broker = Broker::of(activated("127.0.0.1:0", &["--listen", "{0}", "--workers", "2"]));
    broker.signal("USR2");
    let line = broker.line(" has taken over; ");
    let pid = line
        .split("process ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    for _ in 0..8 {
        client(&broker.ws("/t/a")).send_text("x").unwrap();
    }
    let status = Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap();
    assert!(status.success());
    eventually("both have ended", || {
        (broker.lines("stopped: ").len() == 2).then_some(())
    });
    let refused = std::net::TcpStream::connect_timeout(&broker.address, Duration::from_secs(1));
    assert!(refused.is_err(), "nobody listens any more");
}
