//! Settings come from a file, the environment and flags, and a running broker takes changes over.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::*;
use tidecast_client::Message;

/// A file that is gone at the end of the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = std::env::temp_dir().join(format!("tidecast-{}-{name}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn write(&self, text: &str) {
        // As editors do: whoever reads meanwhile sees the old one or the new one.
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// How a message of so many bytes fares: published and received, or closed with a code.
fn fate(broker: &Broker, bytes: usize) -> Result<(), u16> {
    let mut client = client(&broker.ws("/t/size"));
    client.send_text(&"x".repeat(bytes)).unwrap();
    match client.receive(Some(std::time::Instant::now() + DEADLINE)) {
        Ok(Some(Message::Text(_))) => Ok(()),
        Err(tidecast_client::Error::Closed { code, .. }) => Err(code.unwrap_or(1005)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_that_is_deployed_is_the_one_that_is_printed_and_it_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/tidecast.example.toml");
    let output = run(tidecast(&["config", "example"]), None);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let deployed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        printed == deployed,
        "it is out of date: target/debug/tidecast config example > deploy/tidecast.example.toml"
    );
    let output = run(tidecast(&["config", "check", path.to_str().unwrap()]), None);
    assert!(output.status.success(), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("good"));
}

#[test]
fn the_configuration_that_the_readme_gives_to_operators_is_good() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = readme
        .split("```toml\n")
        .nth(1)
        .expect("there is one")
        .split("```")
        .next()
        .unwrap();
    let lines = block.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 15, "{lines} lines");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    let folder = folder.to_str().unwrap();
    let output = run(tidecast(&["dev-cert", "--force", "--out", folder]), None);
    assert!(output.status.success(), "{}", said(&output));
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(format!("{folder}/issuer.pem"), key.public_key_pem()).unwrap();
    let file = File::new("readme", &block.replace("/etc/tidecast", folder));
    let output = run(tidecast(&["config", "check", file.path()]), None);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_bad_file_is_refused_at_the_start_with_every_place_that_is_wrong() {
    let file = File::new("bad", "[limits]\nmax_mesage = 1\nmax_topic = 0\n");
    for mut command in [
        tidecast(&["config", "check", file.path()]),
        tidecast(&["serve", "--config", file.path()]),
    ] {
        command.env("TIDECAST_SLOW", "never");
        let output = run(command, None);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let error = String::from_utf8_lossy(&output.stderr);
        for words in [
            "toml:2:1: limits.max_mesage: ",
            "nearest is max_message",
            "toml:3:13: limits.max_topic: 0 is out of",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}

#[test]
fn what_would_be_run_is_shown_with_where_it_was_written() {
    let file = File::new("show", "[limits]\nmax_message = \"2M\"\nmax_topic = 100\n");
    let mut command = tidecast(&["config", "show", "--config", file.path(), "--max-levels", "5"]);
    command.env("TIDECAST_MAX_TOPIC", "90");
    let output = run(command, None);
    let shown = String::from_utf8_lossy(&output.stdout);
    for (setting, place) in [
        ("max_message = \"2MiB\"", "toml:2:15"),
        ("max_topic = 90", "TIDECAST_MAX_TOPIC"),
        ("max_levels = 5", "--max-levels 5"),
        ("slow = \"close\"", "default"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(setting));
        let line = line.unwrap_or_else(|| panic!("{setting} is not in {}", said(&output)));
        assert!(line.contains(place), "{line}");
    }
}

#[test]
fn a_hangup_changes_what_can_change_and_says_what_cannot() {
    let file = File::new("reload", "[limits]\nmax_message = 1000\n");
    let broker = Broker::start(&["--config", file.path()]);
    assert_eq!(fate(&broker, 1000), Ok(()));
    assert_eq!(fate(&broker, 1001), Err(1009));

    file.write("[limits]\nmax_message = 2000\n[server]\nmailbox_messages = 5\n");
    broker.signal("HUP");
    let line = broker.line("configuration reloaded");
    assert!(line.contains("mailbox_messages") && line.contains("anew"), "{line}");
    eventually("the new limit holds", || fate(&broker, 1500).ok());
    assert_eq!(fate(&broker, 2001), Err(1009));

    file.write("[limits]\nmax_message = 3000\nmax_topic = \"long\"\n");
    broker.signal("HUP");
    let error = broker.error("nothing is changed");
    assert!(error.contains("SIGHUP"), "{error}");
    broker.error("toml:3:13: limits.max_topic: give a whole number");
    assert_eq!(
        fate(&broker, 2001),
        Err(1009),
        "also what was good in it is not taken over"
    );
}

#[test]
fn reloads_under_load_lose_no_message() {
    let file = File::new("load", "[limits]\nmax_pending = \"4M\"\n");
    let broker = Broker::start(&["--config", file.path()]);
    let mut subscriber = client(&broker.ws("/t/count?mode=sub"));
    let mut publisher = client(&broker.ws("/t/count?mode=pub"));
    const MESSAGES: usize = 4000;
    for number in 0..MESSAGES {
        if number % 200 == 0 {
            file.write(&format!("[limits]\nmax_pending = \"{}M\"\n", 4 + number / 200));
            broker.signal("HUP");
        }
        publisher.send_text(&number.to_string()).unwrap();
        assert_eq!(text(&mut subscriber), number.to_string());
    }
    broker.line("SIGHUP: configuration reloaded");
    assert_eq!(broker.stop().get("delivered"), MESSAGES as u64);
}

#[test]
fn pages_of_other_sites_are_refused_until_they_are_allowed() {
    let file = File::new("origins", "");
    let broker = Broker::start(&["--config", file.path()]);
    let status = |origin: &str| {
        let mut peer = Peer::connect(&broker);
        let headers = format!("Sec-WebSocket-Version: 13\r\nOrigin: {origin}\r\n");
        peer.say(upgrade("/ws", &headers).as_bytes());
        peer.head().split(' ').nth(1).unwrap().to_owned()
    };
    //= RFC 6455#section-4.2.2
    //= type=test
    //# If the server does not wish to accept this connection, it MUST return an appropriate HTTP error code (e.g., 403
    //# Forbidden) and abort the WebSocket handshake described in this section.
    assert_eq!(status("https://app.example.com"), "403");
    assert_eq!(status("null"), "403");
    assert_eq!(status("http://localhost:3000"), "101");
    file.write("[server]\norigins = [\"https://*.example.com\"]\n");
    broker.signal("HUP");
    eventually("the new list holds", || {
        (status("https://app.example.com") == "101").then_some(())
    });
    assert_eq!(status("http://localhost:3000"), "403");
    assert!(broker.stop().get("origins_refused") >= 3);
}
