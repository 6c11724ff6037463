//! What becomes of those who are connected when the file says something else: each has what it would be given if it came
//! now, and whoever would not be let in any more is closed.

#[path = "auth/mod.rs"]
mod credentials;
mod support;

use std::process::Stdio;
use std::time::Instant;

use credentials::*;
use support::*;
use tidecast_client::{Client, Error, Options};

/// The file says this from now on, and the broker has read it.
fn reload(broker: &Broker, directory: &Directory, text: &str) {
    let before = broker.lines("configuration reloaded").len();
    directory.file("tidecast.toml", text);
    broker.signal("HUP");
    eventually("the file is read", || {
        (broker.lines("configuration reloaded").len() > before).then_some(())
    });
}

/// The code and the words with which a client is closed, whatever it is told before.
fn last_words(client: &mut Client) -> (u16, String) {
    loop {
        match client.receive(Some(Instant::now() + DEADLINE)) {
            Ok(Some(_)) => {}
            Err(Error::Closed { code, reason }) => return (code.unwrap_or(1005), reason),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn whoever_has_a_token_that_was_handed_out_has_what_the_file_says_of_it() {
    let directory = Directory::new("handed-out");
    let [(stays, stays_hash), (changes, changes_hash), (goes, goes_hash)] = [(); 3].map(|()| handed_out());
    let table = |hash: &str, name: &str, patterns: &str| {
        format!("[[tokens]]\n{hash}\nidentity = \"{name}\"\npublish = [{patterns}]\nsubscribe = [{patterns}]\n")
    };
    let stays_table = table(&stays_hash, "stays", "\"#\"");
    let changes_table = table(&changes_hash, "changes", "\"a\", \"b\"");
    let file = directory.file(
        "tidecast.toml",
        &[&stays_table, &changes_table, &table(&goes_hash, "goes", "\"#\"")]
            .map(String::as_str)
            .concat(),
    );
    let broker = Broker::start(&["--config", &file]);
    let mut stays = json_with(&broker, &stays);
    let mut changed = json_with(&broker, &changes);
    for filter in ["a", "b"] {
        let answer = ask(&mut changed, &format!(r#"["sub","{filter}",{{"ref":1}}]"#));
        assert_eq!(answer, r#"["ok",1,{}]"#);
    }
    let mut changed_raw = connect(&broker, "/t/b?mode=sub", &changes).unwrap();
    let mut gone = json_with(&broker, &goes);
    let mut gone_raw = connect(&broker, "/t/a", &goes).unwrap();

    reload(
        &broker,
        &directory,
        &(stays_table + &table(&changes_hash, "changes", "\"a\"")),
    );
    let bye = text(&mut gone);
    assert!(
        bye.starts_with(r#"["bye",4100,"the token has been withdrawn","#),
        "{bye}"
    );
    let withdrawn = (4100, "the token has been withdrawn".to_owned());
    assert_eq!(last_words(&mut gone), withdrawn);
    assert_eq!(last_words(&mut gone_raw), withdrawn);
    let ended = text(&mut changed);
    assert!(ended.contains(r#"the subscription to \"b\" has ended"#), "{ended}");
    assert!(ask(&mut changed, r#"["pub","b",1,{"ref":2}]"#).contains("forbidden"));
    assert_eq!(last_words(&mut changed_raw).0, 4101);
    assert_eq!(ask(&mut stays, r#"["sub","+",{"ref":1}]"#), r#"["ok",1,{}]"#);
    assert_eq!(ask(&mut changed, r#"["pub","a",1]"#), r#"["msg","a",1]"#);
    assert_eq!(text(&mut stays), r#"["msg","a",1]"#);
    assert_eq!(broker.stop().get("withdrawn"), 2);
}

#[test]
fn whoever_has_a_signed_token_stays_as_long_as_it_would_be_taken() {
    let directory = Directory::new("signed");
    let [first, second] = ["0123456789abcdef0123456789abcdef", "another secret of thirty-two bytes"]
        .map(|secret| (secret, directory.file(&secret[..7], secret)));
    let make = |(_, path): &(&str, String), more: &[&str]| {
        let mut command = tidecast(&[
            "token",
            "make",
            "--secret-file",
            path,
            "--subscribe",
            "#",
            "--publish",
            "#",
        ]);
        command.args(more);
        let output = run(command, None);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let settings = |(_, path): &(&str, String), more: &str| format!("[auth]\njwt_secret_file = {path:?}\n{more}");
    let ours = "jwt_audience = [\"x\", \"y\"]\n";
    let file = directory.file("tidecast.toml", &settings(&first, ours));
    let broker = Broker::start(&["--config", &file]);
    let [mut for_x, mut for_y] = ["x", "y"].map(|aud| json_with(&broker, &make(&first, &["--aud", aud])));
    // Who has changed its credentials is judged by the last ones.
    let mut moved = json_with(&broker, &make(&first, &["--aud", "x"]));
    let token = make(&first, &["--aud", "y"]);
    assert_eq!(
        ask(&mut moved, &format!(r#"["auth",{token:?},{{"ref":1}}]"#)),
        r#"["ok",1,{}]"#
    );

    reload(
        &broker,
        &directory,
        &settings(&first, "jwt_audience = [\"y\", \"z\"]\n"),
    );
    let (code, reason) = last_words(&mut for_x);
    assert_eq!(
        (code, &*reason),
        (4100, "the audience of the token is not expected here any more")
    );
    for client in [&mut for_y, &mut moved] {
        assert_eq!(ask(client, r#"["ping"]"#), r#"["pong"]"#);
    }
    reload(&broker, &directory, &settings(&second, ours));
    for client in [&mut for_y, &mut moved] {
        let (code, reason) = last_words(client);
        assert_eq!(
            (code, &*reason),
            (4100, "the key that signed the token is not trusted any more")
        );
    }
    let mut newcomer = json_with(&broker, &make(&second, &["--aud", "x"]));
    assert_eq!(ask(&mut newcomer, r#"["ping"]"#), r#"["pong"]"#);
}

#[test]
fn whoever_came_without_credentials_has_what_its_listener_gives() {
    let directory = Directory::new("anonymous");
    let secret = directory.file("secret", SECRET);
    let file = |subscribe: &str, open: bool, other_open: bool| {
        format!(
            "[auth]\njwt_secret_file = {secret:?}\nanonymous_subscribe = [{subscribe}]\nanonymous_publish = []\n\
             [[listeners]]\naddress = \"127.0.0.1:0\"\nallow_anonymous = {open}\n\
             [[listeners]]\naddress = \"127.0.0.1:0\"\nallow_anonymous = {other_open}\n"
        )
    };
    let path = directory.file("tidecast.toml", &file("\"a\", \"b\"", true, true));
    let mut command = tidecast(&["serve", "--workers", "2", "--config", &path]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let broker = Broker::of(command);
    let other = eventually("both listen", || broker.lines("listening on http://").get(1).cloned());
    let other = other
        .split(['/', ','])
        .find(|part| part.starts_with("127.0.0.1:"))
        .unwrap()
        .to_owned();
    let mut one = json_client(&broker);
    let mut two = Client::connect(&format!("ws://{other}/ws"), &Options::default()).unwrap();
    text(&mut two);
    let with_token = token(&directory, &["--sub", "ann", "--subscribe", "#"]);
    let mut known = json_with(&broker, &with_token);
    for client in [&mut one, &mut two, &mut known] {
        assert_eq!(ask(client, r#"["sub","b",{"ref":1}]"#), r#"["ok",1,{}]"#);
    }
    // They may do less: on both listeners, and nobody else.
    reload(&broker, &directory, &file("\"a\"", true, true));
    for client in [&mut one, &mut two] {
        let ended = text(client);
        assert!(ended.contains(r#"the subscription to \"b\" has ended"#), "{ended}");
        assert_eq!(ask(client, r#"["sub","a",{"ref":2}]"#), r#"["ok",2,{}]"#);
    }
    // One listener is for those with credentials now.
    reload(&broker, &directory, &file("\"a\"", false, true));
    assert_eq!(
        last_words(&mut one),
        (4100, "credentials are needed here now".to_owned())
    );
    for client in [&mut two, &mut known] {
        assert_eq!(ask(client, r#"["ping"]"#), r#"["pong"]"#);
    }
    // Who still has a moment to send some may go on without, if that is enough now.
    let mut newcomer = json_client(&broker);
    assert!(ask(&mut newcomer, r#"["sub","a"]"#).contains("unauthorized"));
    reload(&broker, &directory, &file("\"a\"", true, true));
    assert_eq!(ask(&mut newcomer, r#"["sub","a",{"ref":1}]"#), r#"["ok",1,{}]"#);
}

#[test]
fn reloads_that_follow_each_other_are_all_taken_over_while_many_subscriptions_are_looked_at() {
    let directory = Directory::new("many");
    let rules = |last: &str| {
        let others: String = (0..50)
            .map(|number| format!("[[topics]]\npattern = \"other/{number}\"\n"))
            .collect();
        format!("{others}[[topics]]\npattern = \"{last}/#\"\nsubscribe = \"nobody\"\n")
    };
    let path = directory.file("tidecast.toml", &rules("none"));
    let broker = Broker::start(&["--config", &path, "--workers", "1"]);
    let mut clients: Vec<Client> = (0..40).map(|_| json_client(&broker)).collect();
    let topics = ["even", "odd", "third"];
    for (number, client) in clients.iter_mut().enumerate() {
        for at in 0..900 {
            let topic = topics[at % 3];
            client
                .queue_text(&format!(r#"["sub","{topic}/{number}/{at}"]"#))
                .unwrap();
        }
        client.flush().unwrap();
        assert_eq!(ask(client, r#"["ping"]"#), r#"["pong"]"#);
    }
    // The second comes while the first, which looks at two million rules, is under way.
    reload(&broker, &directory, &rules("even"));
    reload(&broker, &directory, &rules("odd"));
    for client in &mut clients {
        for topic in ["even", "odd"] {
            for _ in 0..300 {
                let ended = text(client);
                assert!(ended.contains(&format!(r#"the subscription to \"{topic}/"#)), "{ended}");
            }
        }
        assert_eq!(ask(client, r#"["ping"]"#), r#"["pong"]"#);
    }
}

#[test]
fn a_body_that_comes_after_its_token_has_gone_is_not_published() {
    let directory = Directory::new("late-body");
    let [(stays, stays_hash), (goes, goes_hash)] = [(); 2].map(|()| handed_out());
    let table = |hash: &str| format!("[[tokens]]\n{hash}\npublish = [\"#\"]\n");
    let file = directory.file("tidecast.toml", &(table(&stays_hash) + &table(&goes_hash)));
    let broker = Broker::start(&["--config", &file, "--workers", "1"]);
    let begin = |token: &str| {
        let mut peer = Peer::connect(&broker);
        let headers = format!("Authorization: Bearer {token}\r\nExpect: 100-continue\r\nContent-Length: 1\r\n");
        peer.say(format!("POST /t/a HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes());
        let status = peer.head()[9..12].to_owned();
        (peer, status)
    };
    let [(mut good, _), (mut late, status)] = [&stays, &goes].map(|token| begin(token));
    assert_eq!(status, "100");
    reload(&broker, &directory, &table(&stays_hash));
    eventually("the worker goes by it", || (begin(&goes).1 == "401").then_some(()));
    late.say(b"x");
    assert!(late.head().starts_with("HTTP/1.1 401 "));
    good.say(b"x");
    assert!(good.head().starts_with("HTTP/1.1 202 "));
    assert_eq!(broker.stop().get("published"), 1);
}
