//! A start that works says what to try; one that does not says what to change.

mod support;

use std::process::{Command, Stdio};

use support::*;

#[test]
fn a_start_prints_what_listens_where_and_a_line_to_try() {
    let broker = Broker::start(&["--workers", "3"]);
    assert!(broker.line("tidecast ").contains("3 workers"));
    let address = broker.address;
    assert!(broker.line("listening on").contains(&format!("ws://{address}/ws")));
    let line = broker.line("try: ");
    // The line is taken by its word.
    let command = line.split("run: ").nth(1).expect("a command to run");
    let mut subscriber = client(&broker.ws("/t/demo%2Fhello?mode=sub"));
    let mut shell = Command::new("sh");
    let path = std::path::Path::new(env!("CARGO_BIN_EXE_tidecast")).parent().unwrap();
    shell
        .args(["-c", command])
        .env("PATH", format!("{}:{}", path.display(), std::env::var("PATH").unwrap()));
    let output = run(shell, None);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(text(&mut subscriber), "\"hi\"");
}

#[test]
fn several_addresses_are_served_alike() {
    let broker = Broker::start(&["--listen", "127.0.0.2:0"]);
    let second = broker.line("listening on http://127.0.0.2:");
    let second = second.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let mut subscribers: Vec<_> = (0..8).map(|_| client(&format!("ws://{second}/t/a?mode=sub"))).collect();
    client(&broker.ws("/t/a")).send_text("hello").unwrap();
    for subscriber in &mut subscribers {
        assert_eq!(text(subscriber), "hello");
    }
}

#[test]
fn a_start_that_cannot_work_says_what_to_change() {
    let broker = Broker::start(&[]);
    let taken = broker.address.to_string();
    let table: [(&[&str], i32, &str); 8] = [
        (&["--listen", &taken], 1, "in use"),
        (
            &["--listen", "192.0.2.1:80", "--allow-anonymous"],
            1,
            "not an address of this machine",
        ),
        (&["--listen", "localhost"], 2, "--listen"),
        (&["--workers", "0"], 2, "--workers"),
        (&["--workers", "1000", "--listen", "127.0.0.1:0"], 2, "1 to 256"),
        (&["--max-message", "lots"], 2, "1MiB"),
        (&["--max-head", "10", "--listen", "127.0.0.1:0"], 2, "--max-head 10"),
        (
            &["--max-connections-per-worker", "2000000000", "--listen", "127.0.0.1:0"],
            2,
            "descriptor limit",
        ),
    ];
    for (arguments, code, words) in table {
        let mut command = tidecast(&["serve"]);
        command.args(arguments);
        let output = run(command, None);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", said(&output));
    }
    // The one that was there first is not harmed.
    client(&broker.ws("/t/a")).send_text("x").unwrap();
}

#[test]
fn versions_that_are_not_accepted_are_refused_with_those_that_are() {
    let broker = Broker::start(&["--versions", "13,7"]);
    for (version, status) in [(13, "101 "), (8, "426 "), (7, "101 "), (6, "426 ")] {
        let mut peer = Peer::connect(&broker);
        peer.say(upgrade("/t/a", &format!("Sec-WebSocket-Version: {version}\r\n")).as_bytes());
        let head = peer.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{version}: {head}");
        assert_eq!(
            head.contains("Sec-WebSocket-Version: 13, 7\r\n"),
            status == "426 ",
            "{head}"
        );
    }
}

/// A broker under each of the filters that forbid io_uring.
fn serve_without_io_uring(arguments: &[&str]) -> [Command; 2] {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--workers", "2"];
    let mut commands = [without_io_uring(&serve), without_entering_io_uring(&serve)];
    for command in &mut commands {
        command.args(arguments);
    }
    commands
}

/// What tells how to allow it.
const REMEDY: [&str; 4] = [
    "io_uring is not available",
    "seccomp",
    "io_uring_setup",
    "--security-opt",
];

#[test]
fn where_io_uring_is_forbidden_epoll_serves_and_the_warning_tells_how_to_allow_it() {
    for mut command in serve_without_io_uring(&[]) {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let broker = Broker::of(command);
        assert!(broker.line("tidecast ").ends_with("with epoll"));
        let warning = broker.error("with epoll");
        for words in REMEDY.iter().chain(&["--driver epoll"]) {
            assert!(warning.contains(words), "{words:?} is missing in: {warning}");
        }
        let mut subscribers: Vec<_> = (0..8).map(|_| client(&broker.ws("/t/a?mode=sub"))).collect();
        client(&broker.ws("/t/a")).send_text("hello").unwrap();
        for subscriber in &mut subscribers {
            assert_eq!(text(subscriber), "hello");
        }
        // Whoever knows it is not told again.
        broker.signal("HUP");
        broker.error("configuration reloaded");
        assert_eq!(broker.errors("epoll").len(), 1);
        assert_eq!(broker.stop().get("published"), 1);
    }
}

#[test]
fn without_io_uring_a_broker_that_is_to_use_it_does_not_start_and_tells_how_to_allow_it() {
    for command in serve_without_io_uring(&["--driver", "io_uring"]) {
        let output = run(command, None);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        for words in REMEDY {
            assert!(error.contains(words), "{words:?} is missing in: {error}");
        }
    }
}

#[test]
fn a_driver_that_was_asked_for_is_no_reason_for_a_warning() {
    for (driver, is_epoll) in [("io_uring", false), ("epoll", true)] {
        let broker = Broker::start(&["--driver", driver]);
        assert_eq!(broker.line("tidecast ").ends_with("with epoll"), is_epoll);
        client(&broker.ws("/t/a")).send_text("x").unwrap();
        for level in ["WARN", "ERROR"] {
            assert_eq!(broker.errors(level), [""; 0]);
        }
    }
}

#[test]
fn a_signal_that_comes_while_the_configuration_is_read_is_heeded_afterwards() {
    let file = std::env::temp_dir().join(format!("tidecast-start-{}.toml", std::process::id()));
    let made = Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    let mut command = tidecast(&["serve", "--listen", "127.0.0.1:0", "--workers", "1"]);
    command.args(["--config", file.to_str().unwrap()]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut broker = command
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    drop(command);
    let pid = broker.id().to_string();
    // It cannot go on before somebody has written what it reads.
    eventually("it is ready for the signal", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        (u64::from_str_radix(caught.trim(), 16).unwrap() & 1 == 1).then_some(())
    });
    let signal = |name: &str| {
        let status = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success());
    };
    signal("HUP");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader)).map(Result::unwrap);
    for (text, said) in [
        ("", "listening on "),
        ("[log]\nlog_level = \"info\"\n", "configuration reloaded"),
    ] {
        std::fs::write(&file, text).unwrap();
        lines.find(|line| line.contains(said)).expect("it says so");
    }
    signal("TERM");
    assert!(eventually("it ends", || broker.try_wait().unwrap()).success());
    std::fs::remove_file(&file).unwrap();
}
