//! Who is let in, and what they may do, on every way in.

#[path = "auth/mod.rs"]
mod credentials;
mod support;

use std::time::Instant;

use credentials::*;
use support::*;
use tidecast_client::{Client, Error, Message, Options};

#[test]
fn an_open_broker_on_an_address_for_all_does_not_start_by_mistake() {
    let output = run(tidecast(&["serve", "--listen", "0.0.0.0:0"]), None);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("--listen 0.0.0.0:0: other machines can reach") && error.contains("--allow-anonymous"),
        "{error}"
    );
    let broker = Broker::start(&["--listen", "0.0.0.0:0", "--allow-anonymous"]);
    broker.line("listening on http://0.0.0.0:");
}

#[test]
fn what_a_token_permits_is_done_and_nothing_else_on_any_way_in() {
    let directory = Directory::new("rights");
    let broker = broker(&directory, "");
    let alice = token(
        &directory,
        &["--sub", "alice", "--publish", "up/{sub}", "--subscribe", "down/#"],
    );
    let admin = token(&directory, &["--sub", "admin", "--publish", "#", "--subscribe", "#"]);

    let mut all = json_with(&broker, &admin);
    assert_eq!(ask(&mut all, r##"["sub","#",{"ref":1}]"##), r#"["ok",1,{}]"#);
    let mut json = json_with(&broker, &alice);
    assert_eq!(ask(&mut json, r##"["sub","down/#",{"ref":1}]"##), r#"["ok",1,{}]"#);
    for command in [
        r##"["sub","#"]"##,
        r#"["sub","+/alice"]"#,
        r#"["sub","up/alice"]"#,
        r##"["sub","$share/g/#"]"##,
        r#"["pub","up/bob",1]"#,
        r#"["pub","down/1",1]"#,
    ] {
        let answer = ask(&mut json, command);
        assert!(
            answer.starts_with(r#"["err",null,"forbidden","\"alice\" may not "#),
            "{command}: {answer}"
        );
    }

    // The same in packets: SUB # with ref 1, PUB down/1 with ref 2.
    let options = Options {
        protocols: vec!["tidecast.bin.v1".to_owned()],
        ..bearer(&alice)
    };
    let mut packets = Client::connect(&broker.ws("/ws"), &options).unwrap();
    let hears = |client: &mut Client| match client.receive(Some(Instant::now() + DEADLINE)) {
        Ok(Some(Message::Binary(bytes))) => bytes,
        other => panic!("{other:?}"),
    };
    hears(&mut packets);
    for packet in [&b"\x03\x04\x01\x00\x01#"[..], b"\x02\x0b\x02\x00\x06down/1\x007"] {
        packets.send_binary(packet).unwrap();
        let answer = hears(&mut packets);
        assert!(
            answer[0] == 6 && String::from_utf8_lossy(&answer).contains("forbidden"),
            "{answer:?}"
        );
    }

    for (path, status) in [
        ("/t/down%2F1", None),
        ("/t/up%2Falice?mode=pub", None),
        ("/t/up%2Falice", Some(403)),
        ("/t/up%2Fbob?mode=pub", Some(403)),
        ("/t/%23", Some(403)),
        ("/t/down%2F1?mode=pub", Some(403)),
    ] {
        match (connect(&broker, path, &alice), status) {
            (Ok(_), None) => {}
            (Err(Error::Refused { status, .. }), Some(expected)) if status == expected => {}
            (result, _) => panic!("{path}: {:?}", result.err()),
        }
    }
    // It may receive here, and what it sends closes it.
    let mut raw = connect(&broker, "/t/down%2F1", &alice).unwrap();
    raw.send_text("1").unwrap();
    assert_eq!(closed(&mut raw), 4101);

    connect(&broker, "/t/up%2Falice?mode=pub", &alice)
        .unwrap()
        .send_text("2")
        .unwrap();
    assert_eq!(
        text(&mut all),
        r#"["msg","up/alice","2"]"#,
        "of all that was published only this was permitted"
    );
}

#[test]
fn bad_tokens_are_refused_and_a_page_learns_why_by_the_close_code() {
    let directory = Directory::new("bad");
    let broker = broker(&directory, "");
    let good = token(&directory, &["--sub", "a", "--subscribe", "#"]);
    let (head, _) = good.rsplit_once('.').unwrap();
    let other = directory.file("other", "another secret, which is as long as need be");
    let forged = run(
        tidecast(&["token", "make", "--secret-file", &other, "--subscribe", "#"]),
        None,
    );
    let forged = String::from_utf8(forged.stdout).unwrap().trim().to_owned();
    let tokens = [
        forged,
        format!("{head}."),
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{}.", head.split_once('.').unwrap().1),
        "garbage".to_owned(),
        token(&directory, &["--sub", "a", "--aud", "elsewhere"]),
    ];
    for bad in &tokens {
        match connect(&broker, "/ws", bad) {
            Err(Error::Unauthorized { .. }) => {}
            other => panic!("{bad}: {:?}", other.err()),
        }
        // A page offers it as a subprotocol, and is told in the only way that reaches it.
        let options = Options {
            protocols: vec![format!("bearer.{bad}"), "tidecast.json.v1".to_owned()],
            origin: Some("http://localhost:3000".to_owned()),
            ..Options::default()
        };
        let mut page = Client::connect(&broker.ws("/ws"), &options).unwrap();
        assert_eq!(closed(&mut page), 4100, "{bad}");
    }
    assert_eq!(broker.stop().get("denied"), 2 * tokens.len() as u64);
}

#[test]
fn a_session_ends_with_its_token_unless_a_new_one_came() {
    let directory = Directory::new("expiry");
    let broker = broker(&directory, "");
    let brief = token(&directory, &["--sub", "a", "--subscribe", "#", "--expires-in", "2s"]);
    let lasting = token(&directory, &["--sub", "a", "--subscribe", "#", "--publish", "#"]);
    let mut ends = json_with(&broker, &brief);
    let mut raw = connect(&broker, "/t/a?mode=sub", &brief).unwrap();
    let mut renewed = json_with(&broker, &brief);
    assert_eq!(ask(&mut renewed, r#"["sub","a",{"ref":1}]"#), r#"["ok",1,{}]"#);
    let answer = ask(&mut renewed, &format!(r#"["auth",{lasting:?},{{"ref":2}}]"#));
    assert_eq!(answer, r#"["ok",2,{}]"#);
    let bye = text(&mut ends);
    assert!(bye.starts_with(r#"["bye",4103,"token expired""#), "{bye}");
    assert_eq!(closed(&mut ends), 4103);
    assert_eq!(closed(&mut raw), 4103);
    assert_eq!(ask(&mut renewed, r#"["pub","a",1]"#), r#"["msg","a",1]"#);
    match connect(&broker, "/ws", &brief) {
        Err(Error::Unauthorized { .. }) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn whoever_comes_without_credentials_has_a_moment_to_send_them() {
    let directory = Directory::new("later");
    let broker = broker(&directory, "auth_timeout = 1\n");
    let mut late = json_client(&broker);
    let mut good = json_client(&broker);
    let refused = ask(&mut good, r#"["sub","a"]"#);
    assert!(refused.starts_with(r#"["err",null,"unauthorized""#), "{refused}");
    let token = token(&directory, &["--sub", "a", "--subscribe", "#"]);
    assert_eq!(
        ask(&mut good, &format!(r#"["auth",{token:?},{{"ref":1}}]"#)),
        r#"["ok",1,{}]"#
    );
    assert_eq!(closed(&mut late), 4100);
    assert_eq!(ask(&mut good, r#"["sub","a",{"ref":2}]"#), r#"["ok",2,{}]"#);
    match Client::connect(&broker.ws("/t/a"), &Options::default()) {
        Err(Error::Unauthorized { .. }) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn tokens_and_rules_are_taken_over_while_clients_stay() {
    let directory = Directory::new("reload");
    let (secret, hash) = handed_out();
    assert!(hash.starts_with("hash = \"sha256:"), "it is to be pasted: {hash}");
    let broker = broker(&directory, "");
    let admin = token(&directory, &["--sub", "admin", "--publish", "#", "--subscribe", "#"]);
    let mut stays = json_with(&broker, &admin);
    assert_eq!(ask(&mut stays, r#"["sub","news/1",{"ref":1}]"#), r#"["ok",1,{}]"#);
    assert_eq!(ask(&mut stays, r#"["sub","staff/1",{"ref":2}]"#), r#"["ok",2,{}]"#);
    assert!(connect(&broker, "/ws", &secret).is_err());

    let path = directory.0.join("secret");
    let more = format!(
        "[auth]\njwt_secret_file = {path:?}\n[[tokens]]\n{hash}\nidentity = \"device\"\nsubscribe = [\"news/#\"]\n\
         [[topics]]\npattern = \"staff/#\"\npublish = \"nobody\"\nsubscribe = \"nobody\"\n"
    );
    directory.file("tidecast.toml", &more);
    broker.signal("HUP");
    let ended = text(&mut stays);
    assert!(
        ended.contains(r#"the subscription to \"staff/1\" has ended"#),
        "{ended}"
    );
    let mut device = json_with(&broker, &secret);
    assert_eq!(ask(&mut device, r#"["sub","news/1",{"ref":1}]"#), r#"["ok",1,{}]"#);
    stays.send_text(r#"["pub","news/1",7]"#).unwrap();
    for subscriber in [&mut stays, &mut device] {
        assert_eq!(text(subscriber), r#"["msg","news/1",7]"#);
    }

    // What is bad is told by its place, and changes nothing.
    directory.file("tidecast.toml", &more.replace("staff/#", "staff/#/x"));
    broker.signal("HUP");
    let error = broker.error("topics.pattern");
    assert!(
        error.contains("tidecast.toml:8:11: topics.pattern: \"staff/#/x\" is no pattern"),
        "{error}"
    );
    assert!(ask(&mut stays, r#"["sub","staff/1"]"#).contains("forbidden"));
}

#[test]
fn topics_for_anyone_are_open_to_those_without_credentials_and_to_no_others() {
    let directory = Directory::new("anyone");
    let broker = broker(
        &directory,
        "auth_timeout = 1\n[[topics]]\npattern = \"public/#\"\nsubscribe = \"anyone\"\n",
    );
    let mut json = json_client(&broker);
    assert_eq!(ask(&mut json, r##"["sub","public/#",{"ref":1}]"##), r#"["ok",1,{}]"#);
    assert!(ask(&mut json, r#"["pub","public/1",1]"#).contains("unauthorized"));
    let mut raw = client(&broker.ws("/t/public%2F1"));
    assert!(Client::connect(&broker.ws("/t/private"), &Options::default()).is_err());
    let editor = token(
        &directory,
        &["--sub", "editor", "--publish", "public/#", "--expires-in", "3s"],
    );
    let mut editor = json_with(&broker, &editor);
    assert!(ask(&mut editor, r#"["pub","public/1",1,{"ref":2}]"#).contains("ok"));
    // It stays when whoever had to show something has gone.
    assert_eq!(closed(&mut editor), 4103);
    for subscriber in [&mut json, &mut raw] {
        assert!(text(subscriber).contains('1'));
    }
    assert_eq!(ask(&mut json, r#"["ping"]"#), r#"["pong"]"#);
}

#[test]
fn a_rule_says_how_slow_subscribers_of_its_topics_are_treated() {
    let directory = Directory::new("slow");
    let file = directory.file(
        "tidecast.toml",
        "[[topics]]\npattern = \"prices/#\"\nslow = \"drop-old\"\nmax_pending = \"64K\"\nmax_payload = \"8K\"\n",
    );
    let broker = Broker::start(&["--config", &file]);
    let mut slow = json_client(&broker);
    assert_eq!(ask(&mut slow, r##"["sub","prices/#",{"ref":1}]"##), r#"["ok",1,{}]"#);
    let mut publisher = json_client(&broker);
    let large = "x".repeat(9000);
    let refused = ask(&mut publisher, &format!(r#"["pub","prices/1",{large:?}]"#));
    assert!(refused.contains("too_large") && refused.contains("8192"), "{refused}");
    // More than any socket holds, so that some of it has to be dropped.
    let payload = "x".repeat(8000);
    for number in 0..2000 {
        publisher
            .send_text(&format!(r#"["pub","prices/1",["{number}",{payload:?}]]"#))
            .unwrap();
    }
    assert_eq!(ask(&mut publisher, r#"["pub","other",1,{"ref":1}]"#), r#"["ok",1,{}]"#);
    let mut lags = 0;
    loop {
        let said = text(&mut slow);
        lags += usize::from(said.starts_with(r##"["lag","prices/#","##));
        if said.starts_with(r#"["msg","prices/1",["1999""#) {
            break;
        }
    }
    assert!(lags >= 1, "it was told what it missed");
    assert!(broker.stop().get("dropped") > 100);
}

#[test]
fn what_is_sent_behind_a_refused_handshake_is_not_heard_and_harms_nobody() {
    let directory = Directory::new("behind");
    let broker = broker(&directory, "");
    let mut peer = Peer::connect(&broker);
    let headers = "Sec-WebSocket-Version: 13\r\nOrigin: http://localhost\r\nAuthorization: Bearer wrong\r\n";
    let mut said = upgrade("/ws", headers).into_bytes();
    said.extend(masked(0x81, br#"["ping"]"#));
    said.extend(masked(0x82, b"\x0a\x00"));
    peer.say(&said);
    assert!(peer.head().starts_with("HTTP/1.1 101 "));
    let (first, payload) = peer.frame();
    assert_eq!((first, &payload[..2]), (0x88, &4100_u16.to_be_bytes()[..]));
    let good = token(&directory, &["--sub", "a", "--subscribe", "#"]);
    json_with(&broker, &good);
}

#[test]
fn whoever_guesses_tokens_is_closed() {
    let directory = Directory::new("guesses");
    let broker = broker(&directory, "");
    let mut json = json_client(&broker);
    for guess in 0..3 {
        let answer = ask(&mut json, &format!(r#"["auth","guess {guess}"]"#));
        assert!(answer.starts_with(r#"["err",null,"unauthorized""#), "{answer}");
    }
    assert_eq!(closed(&mut json), 4100);
}

#[test]
fn nothing_that_an_expired_session_says_counts() {
    let directory = Directory::new("over");
    let broker = broker(&directory, "");
    let all = token(&directory, &["--sub", "all", "--subscribe", "#", "--publish", "#"]);
    let mut watcher = json_with(&broker, &all);
    assert_eq!(ask(&mut watcher, r##"["sub","#",{"ref":1}]"##), r#"["ok",1,{}]"#);
    let brief = token(&directory, &["--sub", "a", "--publish", "#", "--expires-in", "1s"]);
    let mut peer = Peer::connect(&broker);
    let headers = format!("Sec-WebSocket-Version: 13\r\nAuthorization: Bearer {brief}\r\n");
    peer.say(upgrade("/t/a?mode=pub", &headers).as_bytes());
    assert!(peer.head().starts_with("HTTP/1.1 101 "));
    peer.say(&masked(0x81, b"before"));
    assert_eq!(text(&mut watcher), r#"["msg","a","before"]"#);
    let (first, payload) = peer.frame();
    assert_eq!((first, &payload[..2]), (0x88, &4103_u16.to_be_bytes()[..]));
    peer.say(&masked(0x81, b"after"));
    assert_eq!(
        ask(&mut watcher, r#"["pub","b",1]"#),
        r#"["msg","b",1]"#,
        "and nothing before it"
    );
}

#[test]
fn rules_that_go_while_somebody_does_not_read_take_nobody_with_them() {
    let directory = Directory::new("fewer");
    let rule = |topic: &str| format!("[[topics]]\npattern = \"{topic}\"\nslow = \"drop-old\"\nmax_pending = \"64K\"\n");
    let all = [rule("a/#"), rule("b/#"), rule("prices/#")].concat();
    let file = directory.file("tidecast.toml", &all);
    let broker = Broker::start(&["--config", &file, "--workers", "1"]);
    let mut slow = json_client(&broker);
    assert_eq!(ask(&mut slow, r##"["sub","prices/#",{"ref":1}]"##), r#"["ok",1,{}]"#);
    let mut publisher = json_client(&broker);
    let payload = "x".repeat(8000);
    for round in 0..40 {
        for _ in 0..100 {
            publisher
                .queue_text(&format!(r#"["pub","prices/1",{payload:?}]"#))
                .unwrap();
        }
        publisher.flush().unwrap();
        directory.file("tidecast.toml", if round % 2 == 0 { "" } else { &all });
        broker.signal("HUP");
    }
    assert_eq!(ask(&mut publisher, r#"["ping"]"#), r#"["pong"]"#);
}

#[test]
fn a_reload_leaves_each_listener_its_own_settings() {
    let directory = Directory::new("doors");
    let secret = directory.file("secret", SECRET);
    let auth = format!("[auth]\njwt_secret_file = {secret:?}\nallow_anonymous = true\n");
    let closed = "[[listeners]]\naddress = \"127.0.0.1:0\"\nallow_anonymous = false\n";
    let file = directory.file("tidecast.toml", &format!("{auth}{closed}"));
    let mut command = tidecast(&["serve", "--workers", "1", "--config", &file]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let broker = Broker::of(command);
    let status = || {
        let mut peer = Peer::connect(&broker);
        peer.say(upgrade("/t/a", "Sec-WebSocket-Version: 13\r\n").as_bytes());
        peer.head().split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status(), "401");
    directory.file(
        "tidecast.toml",
        &format!("[server]\nlisten = [\"127.0.0.1:1\"]\n{auth}{closed}"),
    );
    broker.signal("HUP");
    let line = broker.line("configuration reloaded");
    assert!(line.contains("listen") && line.contains("anew"), "{line}");
    assert_eq!(
        status(),
        "401",
        "the new line does not push the settings of the others aside"
    );
}
