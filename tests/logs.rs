//! What the broker tells of what happens.

#[path = "http/mod.rs"]
mod http;
mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::*;

/// A broker whose logs are for programs, and where it and its control plane are.
fn start(arguments: &[&str]) -> (Broker, SocketAddr) {
    let broker = Broker::start(&[&["--admin", "127.0.0.1:0"], arguments].concat());
    let admin = broker.admin();
    (broker, admin)
}

#[test]
fn each_connection_that_ends_leaves_one_line_that_says_why_and_what_was_done() {
    let (broker, _) = start(&["--log-format", "json"]);
    let mut leaves = client(&broker.ws("/t/room"));
    leaves.send_text("a secret").unwrap();
    assert_eq!(text(&mut leaves), "a secret");
    leaves.close(1000, "also a secret").unwrap();
    let mut breaks = Peer::open(&broker, "/t/room", 13);
    breaks.say(&[0x83, 0x80, 0, 0, 0, 0]);
    assert_eq!(breaks.frame().0, 0x88);
    let gone = client(&broker.ws("/ws"));
    drop(gone);
    let line = |cause: &str| {
        let line = broker.error(&format!("\"cause\":\"{cause}\""));
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let left = line("client");
    assert_eq!(
        (&left["message"], &left["level"]),
        (&json!("connection ended"), &json!("INFO"))
    );
    assert_eq!((&left["messages_in"], &left["messages_out"]), (&json!(1), &json!(1)));
    assert!(
        left["bytes_in"].as_u64() > Some(100) && left["seconds"].as_f64() >= Some(0.0),
        "{left}"
    );
    assert!(left["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{left}");
    assert_eq!(line("protocol")["messages_in"], 0);
    line("gone");
    for secret in ["a secret", "also a secret"] {
        assert_eq!(broker.errors(secret), [""; 0]);
    }
    assert_eq!(broker.errors("connection ended").len(), 3);
}

#[test]
fn what_is_told_at_the_start_and_at_the_end_is_json_too_where_that_is_wanted() {
    let mut command = tidecast(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "none",
        "--log-format",
        "json",
    ]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    // It has no other way to say that it is there.
    eventually("it can be told to stop", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?
            .trim()
            .to_owned();
        (u64::from_str_radix(&caught, 16).ok()? >> 14 & 1 == 1).then_some(())
    });
    let killed = std::process::Command::new("kill")
        .args(["-s", "TERM", &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.lines().count() >= 3, "{text}");
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["timestamp"].is_string() && value["message"].is_string(), "{line}");
    }
}

#[test]
fn a_flood_of_one_kind_is_left_out_and_hides_no_other() {
    let (broker, _) = start(&["--log-rate", "5"]);
    for _ in 0..200 {
        drop(client(&broker.ws("/ws")));
    }
    let polite = client(&broker.ws("/ws"));
    polite.close(1000, "").unwrap();
    broker.error("cause=\"client\"");
    let floods = broker.errors("cause=\"gone\"").len();
    assert!((1..150).contains(&floods), "{floods} lines");
    let told = broker.error("lines were left out");
    assert!(told.contains("kind=\"gone\""), "{told}");
}

#[test]
fn what_is_logged_changes_while_the_broker_runs() {
    let (broker, admin) = start(&["--log-level", "warn"]);
    drop(client(&broker.ws("/ws")));
    let level = |level: &str| {
        let headers = [("Content-Type", "application/json")];
        let body = json!({ "level": level }).to_string();
        http::send(admin, "PUT", "/v1/log-level", &headers, Some(&body))
    };
    assert_eq!(http::get(admin, "/v1/log-level"), json!({ "level": "warn" }));
    assert_eq!(level("loud").status, 422);
    assert_eq!(level("debug").status, 200);
    assert_eq!(http::get(admin, "/v1/log-level"), json!({ "level": "debug" }));
    broker.error("the control plane was asked");
    // It takes a moment until workers write ends down.
    eventually("ends are told", || {
        client(&broker.ws("/ws")).close(1000, "").unwrap();
        (!broker.errors("cause=\"client\"").is_empty()).then_some(())
    });
    assert_eq!(broker.errors("cause=\"gone\""), [""; 0]);
    // The file says what it said before.
    broker.signal("HUP");
    eventually("it is as it was configured", || {
        (http::get(admin, "/v1/log-level") == json!({ "level": "warn" })).then_some(())
    });
}

#[test]
fn logs_that_nobody_reads_hold_up_neither_clients_nor_the_control_plane_nor_a_stop() {
    let mut command = tidecast(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--workers", "1", "--log-rate", "100000"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut broker = command
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    drop(command);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader)).map(Result::unwrap);
    let mut address = |before: &str| -> SocketAddr {
        let line = lines
            .find(|line| line.contains(before))
            .expect("it says where it listens");
        let (_, address) = line.split_once(before).expect("it was looked for");
        address.split('/').next().unwrap().parse().unwrap()
    };
    let (clients, admin) = (address("listening on http://"), address("control plane on http://"));
    // Some 170 bytes for each that ends: more than the pipe has room for, and then more than may wait.
    for _ in 0..6000 {
        drop(client(&format!("ws://{clients}/t/a")));
    }
    assert_eq!(http::send(admin, "GET", "/readyz", &[], None).status, 200);
    assert_eq!(http::send(admin, "POST", "/v1/reload", &[], Some("")).status, 200);
    let ended = |broker: &mut std::process::Child| eventually("it ends", || broker.try_wait().unwrap());
    let pid = broker.id().to_string();
    let killed = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(killed.unwrap().success());
    assert!(ended(&mut broker).success());
}
