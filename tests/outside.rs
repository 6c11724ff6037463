//! Other servers have a say: a hook decides who may do what, and keys are fetched.

#[path = "http/mod.rs"]
mod http;
#[path = "tls/mod.rs"]
mod secure;
mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use secure::Papers;
use serde_json::{Map, Value, json};
use support::*;
use tidecast_auth::SigningKey;
use tidecast_client::{Client, Error, Options};

/// What a service answers to a request with this body, as JSON; nothing ever, if there is none.
type Answer = Box<dyn Fn(&Value) -> Option<Value> + Send + Sync>;

/// A small web service, which notes what it is asked.
#[derive(Clone)]
struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
    answer: Arc<Mutex<Answer>>,
    /// What it speaks TLS with, if it does.
    tls: Option<Arc<ServerConfig>>,
}

impl Service {
    fn start(answer: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Service {
        Service::start_with(None, answer)
    }

    /// One that speaks TLS, with this certificate.
    fn start_secure(papers: &Papers, answer: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Service {
        let chain = CertificateDer::pem_file_iter(papers.path("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(papers.path("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        Service::start_with(Some(Arc::new(config)), answer)
    }

    fn start_with(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Service {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            answer: Arc::new(Mutex::new(Box::new(answer))),
            tls,
        };
        let serving = service.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                thread::spawn(move || match &serving.tls {
                    None => serving.serve(stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                        serving.serve(StreamOwned::new(connection, stream));
                    }
                });
            }
        });
        service
    }

    fn serve(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            self.asked.lock().unwrap().push(body.clone());
            let answer = (self.answer.lock().unwrap())(&body);
            // Held open, without an answer.
            let Some(answer) = answer else { continue };
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
            let answer = head + &answer;
            let client = stream.get_mut();
            if client
                .write_all(answer.as_bytes())
                .and_then(|()| client.flush())
                .is_err()
            {
                return;
            }
        }
    }

    fn url(&self) -> String {
        let s = if self.tls.is_some() { "s" } else { "" };
        format!("http{s}://{}/", self.address)
    }

    fn answers(&self, answer: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn asked(&self, event: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|body| body["event"] == event).cloned().collect()
    }
}

fn yes(_: &Value) -> Option<Value> {
    Some(json!({"allow": true}))
}

/// Says yes but to what begins with `no`.
fn not_no(body: &Value) -> Option<Value> {
    let name = body.get("topic").or(body.get("filter")).and_then(Value::as_str);
    let denied = name.is_some_and(|name| name.starts_with("no"));
    Some(json!({"allow": !denied, "reason": "not that one"}))
}

/// What becomes of a connection that is refused: status and text.
fn refused(broker: &Broker, path: &str) -> (u16, String) {
    let url = broker.ws(path);
    match Client::connect(&url, &Options::default()) {
        Err(Error::Refused { status, excerpt, .. }) => (status, excerpt),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn a_hook_decides_about_every_command_and_their_order_stays() {
    let hook = Service::start(not_no);
    let broker = Broker::start(&["--hook-url", &hook.url()]);
    let mut json = json_client(&broker);
    // All at once: each waits for the one before it.
    for command in [
        r##"["sub","news/#",{"ref":1}]"##,
        r##"["sub","no/#",{"ref":2}]"##,
        r#"["pub","news/1",1,{"ref":3}]"#,
        r#"["pub","no/1",1,{"ref":4}]"#,
        r#"["ping"]"#,
    ] {
        json.send_text(command).unwrap();
    }
    for expected in [
        r#"["ok",1,{}]"#,
        r#"["err",2,"forbidden","not that one"]"#,
        r#"["msg","news/1",1]"#,
        r#"["ok",3,{}]"#,
        r#"["err",4,"forbidden","not that one"]"#,
        r#"["pong"]"#,
    ] {
        assert_eq!(text(&mut json), expected);
    }
    let asked = hook.asked("publish");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0]["topic"], "news/1");
    assert_eq!(hook.asked("subscribe")[1]["filter"], "no/#");
    let session = &hook.asked("connect")[0]["session"];
    assert!(session.is_string() && asked.iter().all(|body| body["session"] == *session));

    // Packets: those before it are done, and those behind it afterwards.
    let mut peer = Peer::connect(&broker);
    peer.say(
        upgrade(
            "/ws",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: tidecast.bin.v1\r\n",
        )
        .as_bytes(),
    );
    assert!(peer.head().contains("tidecast.bin.v1"));
    assert_eq!(peer.frame().1[0], 8, "it is greeted");
    // SUB a with ref 1, SUB no with ref 2, PING.
    let message = b"\x03\x04\x01\x00\x01a\x03\x05\x02\x00\x02no\x0a\x00";
    peer.say(&masked(0x82, message));
    assert_eq!(peer.frame().1, b"\x05\x04\x01\x02{}");
    let (_, rest) = peer.frame();
    assert_eq!((rest[0], rest[2]), (6, 2));
    assert!(rest.ends_with(b"\x0b\x00"));

    let mut raw = client(&broker.ws("/t/yes"));
    raw.send_text("x").unwrap();
    assert_eq!(text(&mut raw), "x");
    let (status, reason) = refused(&broker, "/t/no");
    assert!(
        (status, reason.contains("not that one")) == (403, true),
        "{status} {reason}"
    );
    let totals = broker.stop();
    assert!(totals.get("asked") >= 10 && totals.get("unanswered") == 0);
}

#[test]
fn a_hook_says_who_somebody_is_and_is_told_when_they_have_gone() {
    let hook = Service::start(|_| {
        Some(json!({
            "allow": true, "identity": "ann", "publish": [], "subscribe": ["users/{sub}/#"], "expires_in": 3600
        }))
    });
    let events = "connect,disconnect";
    let broker = Broker::start(&["--hook-url", &hook.url(), "--hook-events", events]);
    let mut json = json_client(&broker);
    assert_eq!(ask(&mut json, r##"["sub","users/ann/#",{"ref":1}]"##), r#"["ok",1,{}]"#);
    let error = ask(&mut json, r#"["sub","users/bob/x",{"ref":2}]"#);
    assert!(error.contains("forbidden") && error.contains("ann"), "{error}");
    assert!(ask(&mut json, r#"["pub","users/ann/x",1,{"ref":3}]"#).contains("forbidden"));
    drop(json);
    let gone = eventually("the hook is told", || hook.asked("disconnect").pop());
    assert_eq!(gone["identity"], "ann");
    assert_eq!(gone["session"], hook.asked("connect")[0]["session"]);

    hook.answers(|_| Some(json!({"allow": false})));
    assert_eq!(refused(&broker, "/ws").0, 403);
    // A browser's page gets to see a close code only.
    let mut page = Peer::connect(&broker);
    let origin = format!("Sec-WebSocket-Version: 13\r\nOrigin: http://{}\r\n", broker.address);
    page.say(
        upgrade("/ws", &origin)
            .replace("localhost", &broker.address.to_string())
            .as_bytes(),
    );
    assert!(page.head().starts_with("HTTP/1.1 101 "));
    let (first, payload) = page.frame();
    assert_eq!((first, &payload[..2]), (0x88, &4101u16.to_be_bytes()[..]));
}

#[test]
fn requests_wait_for_the_hook_and_are_answered_in_their_order() {
    let hook = Service::start(not_no);
    let events = "connect,subscribe,publish,disconnect";
    let broker = Broker::start(&["--hook-url", &hook.url(), "--hook-events", events]);
    let mut subscriber = client(&broker.ws("/t/yes?mode=sub"));
    let posts: Vec<String> = (0..20)
        .map(|number| {
            let topic = if number % 3 == 0 { "no" } else { "yes" };
            let body = number.to_string();
            http::post(topic, http::TEXT, &body)
        })
        .collect();
    let mut peer = Peer::connect(&broker);
    peer.say(posts.concat().as_bytes());
    let mut refused = 0;
    for number in 0..20 {
        let answer = peer.answer();
        if number % 3 != 0 {
            assert_eq!(answer.status, 202, "{number}: {answer:?}");
            assert_eq!(text(&mut subscriber), number.to_string());
            continue;
        }
        assert_eq!(
            (answer.status, answer.code()),
            (403, "forbidden"),
            "{number}: {answer:?}"
        );
        assert!(answer.body.contains("not that one"), "{answer:?}");
        refused += 1;
        // Refused before its body was looked at, it ends the connection; the rest comes by another one.
        assert_eq!(peer.rest(), b"");
        peer = Peer::connect(&broker);
        peer.say(posts[number + 1..].concat().as_bytes());
    }
    assert_eq!(refused, 7);
    let stream = "Accept: text/event-stream\r\n";
    let answer = http::asked(&broker, &http::request("GET /t/no", stream, ""));
    assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{answer:?}");
    let mut events = http::Events::open(&broker, "/t/yes", "");
    // Permission to publish is asked for when all of it has come.
    hook.answers(|body| Some(json!({"allow": body["event"] != "publish", "reason": "too late"})));
    let mut peer = Peer::connect(&broker);
    for word in ["one", "two"] {
        let answer = peer.asks(&http::post("yes", http::TEXT, word));
        assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{answer:?}");
    }
    hook.answers(yes);
    assert_eq!(peer.asks(&http::post("yes", http::TEXT, "three")).status, 202);
    assert_eq!(events.event(), "data: three");
    drop((events, subscriber));
    eventually("the hook is told who has gone", || {
        (hook.asked("disconnect").len() == 2).then_some(())
    });
    broker.stop();
}

#[test]
fn a_request_that_waits_for_the_hook_when_the_broker_stops_is_answered_the_second_on_its_connection_too() {
    let hook = Service::start(|_| None);
    let mut broker = Broker::start(&["--hook-url", &hook.url(), "--hook-events", "connect"]);
    let mut first = Peer::connect(&broker);
    first.say(http::post("a", http::TEXT, "1").as_bytes());
    let mut second = Peer::connect(&broker);
    assert_eq!(second.asks(&http::request("GET /", "", "")).status, 200);
    second.say(http::post("a", http::TEXT, "2").as_bytes());
    eventually("the hook is asked about both", || {
        (hook.asked("connect").len() == 2).then_some(())
    });
    broker.signal("TERM");
    for peer in [&mut first, &mut second] {
        let answer = peer.answer();
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(peer.rest(), b"");
    }
    drop((first, second));
    assert!(broker.wait().success());
}

#[test]
fn the_hook_is_told_of_everybody_who_has_gone_with_the_broker() {
    let hook = Service::start(|_| {
        thread::sleep(std::time::Duration::from_millis(50));
        Some(json!({"allow": true}))
    });
    let events = "connect,disconnect";
    let mut broker = Broker::start(&[
        "--hook-url",
        &hook.url(),
        "--hook-events",
        events,
        "--drain-timeout",
        "300ms",
    ]);
    // They do not answer the close, so that only the end of the broker is theirs.
    let deaf: Vec<_> = (0..16).map(|_| Peer::open(&broker, "/t/a", 13)).collect();
    broker.signal("TERM");
    assert!(broker.wait().success());
    assert_eq!(hook.asked("disconnect").len(), deaf.len());
    broker.line("stopped: ");
    assert_eq!(broker.errors("cause=\"stop\"").len(), deaf.len());
}

#[test]
fn what_the_hook_lets_be_kept_is_asked_once() {
    let hook = Service::start(|_| Some(json!({"allow": true, "cache": 3600})));
    let broker = Broker::start(&["--workers", "1", "--hook-url", &hook.url()]);
    let mut json = json_client(&broker);
    for number in 1..=50 {
        let answer = ask(&mut json, &format!(r#"["pub","a",{number},{{"ref":{number}}}]"#));
        assert_eq!(answer, format!(r#"["ok",{number},{{}}]"#));
    }
    assert_eq!(hook.asked("publish").len(), 1);
    let mut other = json_client(&broker);
    ask(&mut other, r#"["pub","a",1,{"ref":1}]"#);
    assert_eq!(
        hook.asked("publish").len(),
        2,
        "without an identity each connection is somebody else"
    );
}

#[test]
fn what_the_hook_said_of_one_client_of_a_proxy_is_not_kept_for_another() {
    let hook = Service::start(|body| Some(json!({"allow": body["address"] != "192.0.2.66", "cache": 3600})));
    let events = "connect,publish";
    let proxies = ["--allow-anonymous", "--trusted-proxies", "127.0.0.1"];
    let broker = Broker::start(&[&["--hook-url", &hook.url(), "--hook-events", events], &proxies[..]].concat());
    let mut proxy = Peer::connect(&broker);
    let mut post = |client: &str| proxy.asks(&http::post("a", &format!("X-Forwarded-For: {client}\r\n"), "x"));
    assert_eq!(post("192.0.2.1").status, 202);
    assert_eq!(post("192.0.2.1").status, 202);
    assert_eq!(hook.asked("publish").len(), 1);
    let refused = post("192.0.2.66");
    assert_eq!((refused.status, refused.code()), (403, "forbidden"), "{refused:?}");
}

#[test]
fn a_body_is_asked_about_for_its_own_connection_whoever_else_was_asked_about_since_its_head() {
    // Whoever comes first may publish to a topic, and nobody else.
    let seen = Mutex::new(std::collections::HashSet::new());
    let first = move |body: &Value| seen.lock().unwrap().insert(body["topic"].clone());
    let hook = Service::start(move |body| Some(json!({"allow": first(body), "cache": 3600})));
    let arguments = ["--workers", "1", "--hook-url", &hook.url(), "--hook-events", "publish"];
    let broker = Broker::start(&arguments);
    let mut other = Peer::connect(&broker);
    for round in 0..10 {
        for status in [202, 403] {
            // Gone at the end, so that the next one has the same slot.
            let mut peer = Peer::connect(&broker);
            let post = http::post(&format!("a{round}"), "Expect: 100-continue\r\n", "x");
            let (head, body) = post.split_at(post.len() - 1);
            peer.say(head.as_bytes());
            assert!(peer.head().starts_with("HTTP/1.1 100 "));
            other.asks(&http::post(&format!("b{round}{status}"), "", "x"));
            peer.say(body.as_bytes());
            assert_eq!(peer.answer().status, status, "round {round}");
        }
    }
}

#[test]
fn without_an_answer_nothing_is_permitted_unless_settings_say_otherwise() {
    let silent = Service::start(|body| if body["event"] == "connect" { yes(body) } else { None });
    let common = ["--hook-timeout", "100ms", "--hook-url", &silent.url()];
    let broker = Broker::start(&common);
    let mut json = json_client(&broker);
    let error = ask(&mut json, r#"["sub","a",{"ref":1}]"#);
    assert!(
        error.contains("forbidden") && error.contains("try again later"),
        "{error}"
    );
    assert!(broker.line("does not answer as it should").contains("no answer within"));
    // It is heard again as soon as it answers.
    silent.answers(yes);
    assert_eq!(ask(&mut json, r#"["sub","a",{"ref":2}]"#), r#"["ok",2,{}]"#);
    broker.line("answers again");
    assert!(broker.stop().get("asked") >= 3);

    silent.answers(|_| None);
    let broker = Broker::start(&[&common[..], &["--hook-on-failure", "allow"]].concat());
    let mut json = json_client(&broker);
    assert_eq!(ask(&mut json, r#"["sub","a",{"ref":1}]"#), r#"["ok",1,{}]"#);

    // Nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = Broker::start(&["--hook-url", &format!("http://{address}")]);
    assert_eq!(refused(&broker, "/ws").0, 403);
    assert!(broker.line("does not answer as it should").contains("refused"));
}

#[test]
fn clients_that_leave_while_they_are_asked_about_harm_nobody() {
    let hook = Service::start(|_| None);
    let broker = Broker::start(&["--hook-url", &hook.url(), "--hook-timeout", "60s"]);
    for round in 0..20 {
        let mut peer = Peer::connect(&broker);
        peer.say(upgrade("/ws", "Sec-WebSocket-Version: 13\r\n").as_bytes());
        eventually("it is asked about", || {
            (hook.asked("connect").len() > round).then_some(())
        });
    }
    hook.answers(yes);
    let mut json = json_client(&broker);
    hook.answers(|_| None);
    json.send_text(r#"["sub","a",{"ref":1}]"#).unwrap();
    eventually("it is asked about", || hook.asked("subscribe").pop());
    drop(json);
    hook.answers(yes);
    assert_eq!(ask(&mut json_client(&broker), r#"["ping"]"#), r#"["pong"]"#);
    // A stop does not wait for answers.
    assert!(broker.stop().get("asked") > 20);
}

/// The file says this from now on, and the broker has read it.
fn reload(broker: &Broker, file: &str, text: &str) {
    let before = broker.lines("configuration reloaded").len();
    std::fs::write(file, text).unwrap();
    broker.signal("HUP");
    eventually("the file is read", || {
        (broker.lines("configuration reloaded").len() > before).then_some(())
    });
}

#[test]
fn a_hook_with_a_certificate_is_asked_if_the_authority_that_vouches_for_it_is_named() {
    let papers = Papers::make("hook", &[]);
    let hook = Service::start_secure(&papers, yes);
    let url = hook.url();
    let broker = Broker::start(&["--hook-url", &url, "--hook-ca", &papers.path("ca.pem")]);
    let mut json = json_client(&broker);
    assert_eq!(ask(&mut json, r#"["sub","a",{"ref":1}]"#), r#"["ok",1,{}]"#);
    assert_eq!(hook.asked("subscribe").len(), 1);
    // Another authority does not vouch for it.
    let others = Papers::make("hook-others", &[]);
    let broker = Broker::start(&["--hook-url", &url, "--hook-ca", &others.path("ca.pem")]);
    assert_eq!(refused(&broker, "/ws").0, 403);
    let line = broker.line("does not answer as it should");
    assert!(line.contains("certificate"), "{line}");
    assert_eq!(hook.asked("connect").len(), 1, "it was not asked again");
    for (arguments, words) in [
        (
            ["--hook-url", "http://127.0.0.1:1/", "--hook-ca", &papers.path("ca.pem")],
            "has no certificate",
        ),
        (["--hook-url", &url, "--hook-ca", "/nowhere"], "cannot read /nowhere"),
        (["--hook-url", &url, "--hook-ca", &papers.path("key.pem")], "key.pem"),
    ] {
        let output = run(
            tidecast(&[&["serve", "--listen", "127.0.0.1:0"], &arguments[..]].concat()),
            None,
        );
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(
            said(&output).contains("hook_ca") || said(&output).contains("hook-ca"),
            "{}",
            said(&output)
        );
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
}

#[test]
fn another_hook_is_asked_after_a_reload_and_what_one_gave_goes_when_there_is_none() {
    let rights = |_: &Value| Some(json!({"allow": true, "identity": "ann", "subscribe": ["#"], "cache": 3600}));
    let (first, second) = (Service::start(rights), Service::start(not_no));
    let directory = Papers::make("another-hook", &[]);
    let settings = |service: &Service, more: &str| format!("[hook]\nhook_url = \"{}\"\n{more}", service.url());
    let file = directory.write("tidecast.toml", &settings(&first, ""));
    let broker = Broker::start(&["--config", &file, "--workers", "1"]);
    let mut given = json_client(&broker);
    assert_eq!(ask(&mut given, r#"["sub","no/1",{"ref":1}]"#), r#"["ok",1,{}]"#);

    reload(
        &broker,
        &file,
        &settings(&second, "hook_on_failure = \"allow\"\nhook_timeout = \"2s\"\n"),
    );
    assert_eq!(ask(&mut given, r#"["sub","yes",{"ref":2}]"#), r#"["ok",2,{}]"#);
    // What the first let be kept is not what the second says.
    let answer = ask(&mut given, r#"["unsub","no/1",{"ref":3}]"#);
    assert_eq!(answer, r#"["ok",3,{}]"#);
    assert!(ask(&mut given, r#"["sub","no/1",{"ref":4}]"#).contains("not that one"));
    assert_eq!(
        (first.asked("subscribe").len(), second.asked("subscribe").len()),
        (1, 2)
    );
    let mut own = json_client(&broker);
    second.answers(|_| None);
    assert_eq!(
        ask(&mut own, r#"["sub","no/2",{"ref":1}]"#),
        r#"["ok",1,{}]"#,
        "nobody has answered"
    );

    reload(&broker, &file, "");
    let bye = text(&mut given);
    assert!(
        bye.starts_with(r#"["bye",4100,"whoever said what this connection may do"#),
        "{bye}"
    );
    let asked = second.asked("subscribe").len();
    assert_eq!(ask(&mut own, r#"["sub","no/3",{"ref":2}]"#), r#"["ok",2,{}]"#);
    assert_eq!(second.asked("subscribe").len(), asked, "nobody is asked");

    second.answers(not_no);
    reload(&broker, &file, &settings(&second, ""));
    assert!(ask(&mut own, r#"["sub","no/4",{"ref":3}]"#).contains("not that one"));
    assert_eq!(
        second.asked("subscribe").last().unwrap()["address"],
        "127.0.0.1",
        "it was there before"
    );
    // One that cannot be asked changes nothing.
    std::fs::write(&file, settings(&second, "hook_ca = \"/nowhere\"\n")).unwrap();
    broker.signal("HUP");
    broker.error("hook_ca");
    assert!(ask(&mut own, r#"["sub","no/5",{"ref":4}]"#).contains("not that one"));
}

#[test]
fn whoever_is_waited_about_is_closed_at_once_if_its_token_is_withdrawn() {
    let hook = Service::start(|body| if body["event"] == "subscribe" { None } else { yes(body) });
    let (token, hash) = handed_out();
    let settings = format!("[hook]\nhook_url = \"{}\"\nhook_timeout = \"60s\"\n", hook.url());
    let directory = Papers::make("waiting", &[]);
    let file = directory.write(
        "tidecast.toml",
        &format!("{settings}[[tokens]]\n{hash}\npublish = [\"#\"]\nsubscribe = [\"#\"]\n"),
    );
    let broker = Broker::start(&["--config", &file]);
    let options = Options {
        headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
        ..Options::default()
    };
    let mut waits = Client::connect(&broker.ws("/ws"), &options).unwrap();
    assert!(text(&mut waits).contains("hello"));
    for command in [r#"["sub","a",{"ref":1}]"#, r#"["pub","b",1,{"ref":2}]"#] {
        waits.send_text(command).unwrap();
    }
    eventually("it is asked about", || hook.asked("subscribe").pop());
    reload(&broker, &file, &settings);
    let bye = text(&mut waits);
    assert!(
        bye.starts_with(r#"["bye",4100,"the token has been withdrawn","#),
        "{bye}"
    );
    assert!(hook.asked("publish").is_empty(), "what it said behind that is not done");
    assert_eq!(ask(&mut json_client(&broker), r#"["ping"]"#), r#"["pong"]"#);
}

#[test]
fn keys_are_fetched_from_who_has_a_certificate_that_the_system_believes() {
    let papers = Papers::make("key-set", &[]);
    let (one, signs) = key("one");
    let issuer = Service::start_secure(&papers, move |_| Some(json!({"keys": [one]})));
    let start = |authority: &str| {
        let mut command = tidecast(&["serve", "--listen", "127.0.0.1:0", "--workers", "1"]);
        command
            .args(["--jwt-key-set-url", &issuer.url()])
            .env("SSL_CERT_FILE", authority);
        Broker::of({
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        })
    };
    assert!(comes_in(&start(&papers.path("ca.pem")), &token("one", &signs)));
    let others = Papers::make("key-set-others", &[]);
    let broker = start(&others.path("ca.pem"));
    assert!(!comes_in(&broker, &token("one", &signs)));
    assert!(broker.line("the key set cannot be had").contains("certificate"));
}

/// A key, as JSON Web Key and to sign with.
fn key(kid: &str) -> (Value, SigningKey) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let point = pair.public_key_raw();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": text(&point[1..33]), "y": text(&point[33..])});
    (jwk, SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap())
}

fn token(kid: &str, key: &SigningKey) -> String {
    let claims: HashMap<&str, Value> = [
        ("sub", json!("ann")),
        ("exp", json!(4_000_000_000u64)),
        ("subscribe", json!("#")),
    ]
    .into();
    let claims: Map<String, Value> = claims
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    key.sign(Some(kid), &claims).unwrap()
}

fn comes_in(broker: &Broker, token: &str) -> bool {
    let mut peer = Peer::connect(broker);
    let headers = format!("Sec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n");
    peer.say(upgrade("/t/a?mode=sub", &headers).as_bytes());
    let head = peer.head();
    assert!(
        head.starts_with("HTTP/1.1 101 ") || head.starts_with("HTTP/1.1 401 "),
        "{head}"
    );
    head.starts_with("HTTP/1.1 101 ")
}

#[test]
fn keys_are_fetched_and_fetched_again_when_a_token_names_a_new_one() {
    let ((one, one_signs), (two, two_signs)) = (key("one"), key("two"));
    let (first, second) = (json!({"keys": [one]}), json!({"keys": [two]}));
    let both = json!({"keys": [one, two]});
    let issuer = Service::start(move |_| Some(first.clone()));
    let broker = Broker::start(&["--jwt-key-set-url", &issuer.url(), "--jwt-key-set-min-interval", "1s"]);
    // The first keys are there before anybody can come.
    assert!(comes_in(&broker, &token("one", &one_signs)));
    assert!(!comes_in(&broker, &token("two", &two_signs)));
    assert!(!comes_in(&broker, &token("one", &two_signs)), "a name is no signature");
    issuer.answers(move |_| Some(both.clone()));
    eventually("the new key is known", || {
        comes_in(&broker, &token("two", &two_signs)).then_some(())
    });
    // Whatever the issuer does now, the keys stay.
    issuer.answers(|_| Some(json!({"keys": []})));
    assert!(!comes_in(&broker, &token("three", &two_signs)));
    broker.line("the key set cannot be had");
    assert!(comes_in(&broker, &token("one", &one_signs)) && comes_in(&broker, &token("two", &two_signs)));
    // Also when the configuration is read again.
    broker.signal("HUP");
    broker.line("configuration reloaded");
    assert!(comes_in(&broker, &token("two", &two_signs)));
    // A key that its issuer does not stand by any more ends the sessions of those who came with it, and no others.
    let [mut old, mut new] = [token("one", &one_signs), token("two", &two_signs)].map(|token| {
        let options = Options {
            headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
            ..Options::default()
        };
        let mut client = Client::connect(&broker.ws("/ws"), &options).unwrap();
        assert!(text(&mut client).contains("hello"));
        client
    });
    issuer.answers(move |_| Some(second.clone()));
    eventually("the old key is gone", || {
        comes_in(&broker, &token("three", &two_signs));
        (!comes_in(&broker, &token("one", &one_signs))).then_some(())
    });
    let bye = text(&mut old);
    assert!(
        bye.starts_with(r#"["bye",4100,"the key that signed the token"#),
        "{bye}"
    );
    assert_eq!(ask(&mut new, r#"["ping"]"#), r#"["pong"]"#);
}

#[test]
fn tokens_are_made_and_judged_on_the_command_line() {
    let directory = std::env::temp_dir().join(format!("tidecast-{}-token", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    std::fs::write(path("key.pem"), pair.serialize_pem()).unwrap();
    std::fs::write(path("public.pem"), pair.public_key_pem()).unwrap();
    let output = |arguments: &[&str], input: Option<&[u8]>| run(tidecast(&[&["token"], arguments].concat()), input);
    let made = output(
        &[
            "make",
            "--sub",
            "ann",
            "--subscribe",
            "users/{sub}/#",
            "--key",
            &path("key.pem"),
        ],
        None,
    );
    assert!(made.status.success(), "{}", said(&made));
    let good = output(&["inspect", "-", "--key", &path("public.pem")], Some(&made.stdout));
    assert!(good.status.success(), "{}", said(&good));
    let text = String::from_utf8_lossy(&good.stdout);
    for words in ["EdDSA", "\"ann\"", "in 60 minutes", "accepted", "users/ann/#"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let wrong = output(
        &["inspect", "-", "--key", &path("public.pem"), "--aud", "other"],
        Some(&made.stdout),
    );
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("refused: the token is for the audience []"));
    let private = output(&["inspect", "-", "--key", &path("key.pem")], Some(&made.stdout));
    assert!(
        String::from_utf8_lossy(&private.stderr).contains("openssl pkey -pubout"),
        "{}",
        said(&private)
    );

    // A broker takes what was made, by a secret of the environment and by hash.
    let secret = "a secret of thirty-two bytes and more";
    let mut make = tidecast(&["token", "make", "--publish", "a", "--expires-in", "1d"]);
    make.env("TIDECAST_JWT_SECRET", secret);
    let made = run(make, None);
    let random = output(&["random"], None);
    let random = String::from_utf8(random.stdout).unwrap();
    let (handed_out, hash) = random.trim().split_once('\n').unwrap();
    let file = format!("[auth]\njwt_secret = \"{secret}\"\n[[tokens]]\n{hash}\nsubscribe = [\"#\"]\n");
    std::fs::write(path("broker.toml"), file).unwrap();
    let broker = Broker::start(&["--config", &path("broker.toml")]);
    assert!(comes_in(&broker, handed_out) && !comes_in(&broker, "tidecast_guessed"));
    let mut command: Command = tidecast(&["token", "inspect", "-"]);
    command.env("TIDECAST_JWT_SECRET", secret);
    assert!(run(command, Some(&made.stdout)).status.success());
    std::fs::remove_dir_all(&directory).unwrap();
}
