//! The control plane of the real binary, as an operator and as Prometheus use it.

#[path = "auth/mod.rs"]
mod auth;
#[path = "http/mod.rs"]
mod http;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use auth::Directory;
use boon::{Compiler, SchemaIndex, Schemas};
use http::{get, open, send, send_json};
use serde_json::{Value, json};
use support::*;
use tidecast_client::Error;

/// A broker with a control plane.
fn start(arguments: &[&str]) -> (Broker, SocketAddr) {
    let broker = Broker::start(&[&["--admin", "127.0.0.1:0"], arguments].concat());
    let admin = broker.admin();
    (broker, admin)
}

/// The values of all metrics, by name and labels.
fn scrape(admin: SocketAddr) -> BTreeMap<String, f64> {
    let answer = send(admin, "GET", "/metrics", &[], None);
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let lines = answer
        .body
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let metrics = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    });
    metrics.collect()
}

/// The sum of a metric over all workers, with these labels besides.
fn sum(metrics: &BTreeMap<String, f64>, name: &str, labels: &str) -> f64 {
    let is_wanted =
        |key: &&String| key.split('{').next() == Some(name) && labels.split(',').all(|label| key.contains(label));
    metrics.keys().filter(is_wanted).map(|key| metrics[key]).sum()
}

/// What the API says of itself, to judge what it answers by.
struct Schema {
    document: Value,
    schemas: Schemas,
    answers: BTreeMap<(String, String, u16), Option<SchemaIndex>>,
}

impl Schema {
    fn of(admin: SocketAddr) -> Schema {
        let document = get(admin, "/v1/openapi.json");
        let mut compiler = Compiler::new();
        compiler.set_default_draft(boon::Draft::V2020_12);
        compiler.add_resource("api.json", document.clone()).unwrap();
        let mut schemas = Schemas::new();
        let mut answers = BTreeMap::new();
        let escape = |text: &str| text.replace('~', "~0").replace('/', "~1");
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    let place = format!("/paths/{}/{method}/responses/{status}/content", escape(path));
                    let schema = answer["content"]
                        .as_object()
                        .and_then(|content| content.keys().next())
                        .map(|kind| {
                            let place = format!("api.json#{place}/{}/schema", escape(kind));
                            compiler
                                .compile(&place, &mut schemas)
                                .unwrap_or_else(|error| panic!("{place}: {error}"))
                        });
                    answers.insert((method.to_uppercase(), path.clone(), status.parse().unwrap()), schema);
                }
            }
        }
        Schema {
            document,
            schemas,
            answers,
        }
    }

    /// Checks an answer, and takes it out of those that have not been seen.
    fn check(&self, seen: &mut Vec<(String, String, u16)>, method: &str, path: &str, status: u16, body: &str) {
        let key = (method.to_owned(), path.to_owned(), status);
        let schema = self
            .answers
            .get(&key)
            .unwrap_or_else(|| panic!("{key:?} is not described: {body}"));
        if let Some(schema) = schema {
            for line in body.lines() {
                let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let valid = self.schemas.validate(&value, *schema);
                valid.unwrap_or_else(|error| panic!("{key:?}: {error:#}\n{value:#}"));
            }
        } else {
            assert_eq!(body, "", "{key:?}");
        }
        seen.push(key);
    }
}

#[test]
fn what_the_api_answers_is_what_it_says_that_it_answers() {
    let (broker, admin) = start(&["--max-message", "1K"]);
    let schema = Schema::of(admin);
    assert_eq!(
        schema.document["openapi"].as_str().unwrap().split('.').next(),
        Some("3")
    );
    let mut subscriber = json_client(&broker);
    ask(&mut subscriber, r##"["sub","a/#",{"ref":1}]"##);
    let mut raw = client(&broker.ws("/t/raw"));
    let found = get(admin, "/v1/connections?search=127.0.0.1");
    let found = found["connections"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["encoding"] == "json")
        .unwrap();
    let name = found["name"].as_str().unwrap();
    let mut seen = Vec::new();
    let mut check = |method: &str, described: &str, path: &str, body: Option<&str>, status: u16| {
        let json = [("Content-Type", "application/json")];
        let headers = if body == Some("text") { &[][..] } else { &json[..] };
        let answer = send(admin, method, path, headers, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        schema.check(&mut seen, method, described, status, &answer.body);
        answer
    };
    check("GET", "/v1/stats", "/v1/stats", None, 200);
    for (body, status) in [
        (r#"{"topic":"a/b","payload":{"x": [1]}}"#, 200),
        (r##"{"topics":["a/1","a/#"],"text":"hi"}"##, 422),
        (
            r#"{"messages":[{"topic":"a/2","base64":"AAE="},{"topic":"a/3","payload":null}]}"#,
            200,
        ),
        (r#"{"topic":"a","payload":1,"text":"x"}"#, 400),
        (r#"{"topic":"a","text":"x","messages":[]}"#, 400),
        (r#"{"text":"x"}"#, 400),
        (r#"{"topic":"a","base64":"?"}"#, 400),
        (r#"{"topic":"a","#, 400),
        ("text", 415),
    ] {
        check("POST", "/v1/publish", "/v1/publish", Some(body), status);
    }
    let large = json!({ "topic": "a", "text": "x".repeat(1025) }).to_string();
    check("POST", "/v1/publish", "/v1/publish", Some(&large), 413);
    check("GET", "/v1/connections", "/v1/connections", None, 200);
    check("GET", "/v1/connections", "/v1/connections?limit=0", None, 400);
    check("GET", "/v1/connections", "/v1/connections?cursor=x", None, 400);
    check("GET", "/v1/connections", "/v1/connections?sort=waiting", None, 200);
    let one = "/v1/connections/{name}";
    check("GET", one, &format!("/v1/connections/{name}"), None, 200);
    for unknown in ["0-0-00000000", "x", "999-0-0", "0-ffffffff-0", "-"] {
        check("GET", one, &format!("/v1/connections/{unknown}"), None, 404);
        check("DELETE", one, &format!("/v1/connections/{unknown}"), None, 404);
    }
    let subscriptions = "/v1/connections/{name}/subscriptions";
    let path = |name: &str, filter: &str| format!("/v1/connections/{name}/subscriptions?filter={filter}");
    check("DELETE", subscriptions, &path(name, "a/%23"), None, 204);
    check("DELETE", subscriptions, &path(name, "a/%23"), None, 404);
    check("DELETE", subscriptions, &path(name, "a/%23/b"), None, 400);
    check("DELETE", subscriptions, &path("0-0-0", "a"), None, 404);
    check("GET", "/v1/topics", "/v1/topics?sort=subscribers", None, 200);
    check("GET", "/v1/topics", "/v1/topics?limit=1001", None, 400);
    check("GET", "/v1/tap", "/v1/tap?filter=a/%23/b", None, 400);
    check("DELETE", one, &format!("/v1/connections/{name}?code=1000"), None, 400);
    check(
        "DELETE",
        one,
        &format!("/v1/connections/{name}?code=4101&reason=go"),
        None,
        204,
    );
    check("GET", "/v1/log-level", "/v1/log-level", None, 200);
    check(
        "PUT",
        "/v1/log-level",
        "/v1/log-level",
        Some(r#"{"level":"warn"}"#),
        200,
    );
    check(
        "PUT",
        "/v1/log-level",
        "/v1/log-level",
        Some(r#"{"level":"loud"}"#),
        422,
    );
    check("PUT", "/v1/log-level", "/v1/log-level", Some("text"), 415);
    check("POST", "/v1/reload", "/v1/reload", None, 200);
    assert!(
        raw.receive(Some(std::time::Instant::now()))
            .is_ok_and(|message| message.is_none())
    );
    check("POST", "/v1/drain", "/v1/drain", None, 202);
    // Those that need a worker that hangs, or a configuration that is bad, are looked at elsewhere, and so is what takes a new process.
    let elsewhere = [503, 422];
    for key in schema
        .answers
        .keys()
        .filter(|key| !elsewhere.contains(&key.2) && key.1 != "/v1/tap" && key.1 != "/v1/upgrade")
    {
        assert!(seen.contains(key), "{key:?} was not seen");
    }
}

#[test]
fn what_is_counted_is_what_happened() {
    let (broker, admin) = start(&[]);
    let mut subscribers = [json_client(&broker), json_client(&broker), json_client(&broker)];
    for subscriber in &mut subscribers {
        ask(subscriber, r#"["sub","news",{"ref":1}]"#);
    }
    let mut publisher = json_client(&broker);
    for number in 0..100 {
        publisher.send_text(&format!(r#"["pub","news",{number}]"#)).unwrap();
    }
    for subscriber in &mut subscribers {
        for number in 0..100 {
            assert_eq!(text(subscriber), format!(r#"["msg","news",{number}]"#));
        }
    }
    let metrics = eventually("everything is counted", || {
        let metrics = scrape(admin);
        (sum(&metrics, "tidecast_messages_delivered_total", "") == 300.0).then_some(metrics)
    });
    for (name, value) in [
        ("tidecast_connections", 4.0),
        ("tidecast_websockets_opened_total", 4.0),
        ("tidecast_subscriptions", 3.0),
        ("tidecast_messages_published_total", 100.0),
        ("tidecast_messages_dropped_total", 0.0),
        ("tidecast_workers", 2.0),
    ] {
        assert_eq!(sum(&metrics, name, ""), value, "{name}");
    }
    // A message is counted once for each worker that has subscribers for it.
    let deliveries = sum(&metrics, "tidecast_delivery_seconds_count", "");
    assert!((100.0..=200.0).contains(&deliveries), "{deliveries}");
    assert_eq!(deliveries, metrics["tidecast_delivery_seconds_bucket{le=\"+Inf\"}"]);
    assert!(sum(&metrics, "tidecast_delivery_seconds_sum", "") > 0.0);
    assert!(sum(&metrics, "tidecast_busy_seconds_total", "") > 0.0);
    assert!(metrics["process_resident_memory_bytes"] > 1e6);
    let left = |metrics: &BTreeMap<String, f64>| sum(metrics, "tidecast_sessions_closed_total", "cause=\"client\"");
    assert_eq!(left(&metrics), 0.0);
    publisher.close(1000, "").unwrap();
    eventually("it has left", || (left(&scrape(admin)) == 1.0).then_some(()));
    let stats = get(admin, "/v1/stats");
    assert_eq!(stats["totals"]["delivered"], 300);
    // Rates are there after two looks, of what happened between them.
    let mut publisher = json_client(&broker);
    let stats = eventually("there are rates", || {
        ask(&mut publisher, r#"["pub","news",0,{"ref":1,"echo":false}]"#);
        let stats = get(admin, "/v1/stats");
        (!stats["delivery_seconds"].is_null() && stats["top_topics"] != json!([])).then_some(stats)
    });
    assert_eq!(stats["top_topics"][0]["topic"], "news");
    assert_eq!(stats["workers"].as_array().unwrap().len(), 2);
}

/// What the format of Prometheus asks for, judged by a parser of theirs.
#[test]
fn prometheus_understands_the_metrics() {
    let python = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/.venv/bin/python"));
    assert!(python.exists(), "tests/setup.sh installs it: {}", python.display());
    let (_broker, admin) = start(&[]);
    let script = "import sys, prometheus_client.parser as p\n\
                  families = list(p.text_string_to_metric_families(sys.stdin.read()))\n\
                  names = [family.name for family in families]\n\
                  assert len(names) == len(set(names)), 'a family comes twice'\n\
                  assert all(family.documentation and family.type != 'unknown' for family in families), families\n\
                  labels = {label for family in families for sample in family.samples for label in sample.labels}\n\
                  print(len(families), sorted(labels))";
    let mut command = Command::new(python);
    command.args(["-c", script]);
    let body = send(admin, "GET", "/metrics", &[], None).body;
    let output = run(command, Some(body.as_bytes()));
    assert!(output.status.success(), "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let (families, labels) = told.trim().split_once(' ').unwrap();
    assert!(families.parse::<usize>().unwrap() > 30, "{told}");
    // None that grows with what clients do.
    assert_eq!(labels, "['cause', 'kind', 'le', 'reason', 'version', 'worker']");
}

#[test]
fn an_operator_publishes_to_clients_of_every_worker() {
    let (broker, admin) = start(&[]);
    let mut subscribers: Vec<_> = (0..6).map(|_| client(&broker.ws("/t/orders/+?mode=sub"))).collect();
    let messages: Vec<Value> = (0..50)
        .map(|number| json!({ "topic": "orders/1", "payload": number }))
        .collect();
    let answer = send_json(admin, "/v1/publish", &json!({ "messages": messages }).to_string());
    assert_eq!((answer.status, answer.json()["published"].as_u64()), (200, Some(50)));
    let answer = send_json(
        admin,
        "/v1/publish",
        r#"{"topic":"orders/1","payload":{"as": "it",  "was":1.0}}"#,
    );
    assert_eq!(answer.status, 200);
    for subscriber in &mut subscribers {
        for number in 0..50 {
            assert_eq!(text(subscriber), number.to_string());
        }
        assert_eq!(text(subscriber), r#"{"as": "it",  "was":1.0}"#);
    }
}

#[test]
fn connections_are_listed_in_pages_searched_and_closed() {
    let (broker, admin) = start(&[]);
    let mut clients: Vec<_> = (0..25).map(|_| json_client(&broker)).collect();
    let mut names = Vec::new();
    let mut path = "/v1/connections?limit=10".to_owned();
    loop {
        let page = get(admin, &path);
        let connections = page["connections"].as_array().unwrap();
        names.extend(
            connections
                .iter()
                .map(|connection| connection["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(connections.len(), 10);
        path = format!("/v1/connections?limit=10&cursor={next}");
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 25);
    let found = get(admin, &format!("/v1/connections?search={}", names[7]));
    assert_eq!(found["connections"].as_array().unwrap().len(), 1);
    assert_eq!(get(admin, "/v1/connections?search=nobody")["connections"], json!([]));
    let path = format!("/v1/connections/{}?code=4242&reason=enough", names[7]);
    assert_eq!(send(admin, "DELETE", &path, &[], None).status, 204);
    let closed = clients.iter_mut().find_map(|client| {
        let mut last = String::new();
        let until = || Some(std::time::Instant::now() + Duration::from_millis(20));
        while let Ok(Some(message)) = client.receive(until()) {
            last = format!("{message:?}");
        }
        let error = client.receive(until()).err()?;
        Some((last, error.to_string()))
    });
    let (last, error) = closed.expect("one of them is closed");
    assert!(
        last.contains("bye") && last.contains("4242") && last.contains("enough"),
        "{last}"
    );
    assert!(error.contains("4242"), "{error}");
    eventually("it is gone", || {
        let found = get(admin, &format!("/v1/connections?search={}", names[7]));
        (found["connections"] == json!([])).then_some(())
    });
    drop(clients);
    assert_eq!(broker.stop().get("kicked"), 1);
}

#[test]
fn a_connection_says_what_it_is_and_subscriptions_end_when_an_operator_says_so() {
    let (broker, admin) = start(&[]);
    let mut json = json_client(&broker);
    ask(&mut json, r#"["sub","a/+",{"ref":1,"slow":"drop-old"}]"#);
    ask(&mut json, r#"["sub","$share/g/jobs",{"ref":2}]"#);
    let name = get(admin, "/v1/connections")["connections"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/connections/{name}");
    let details = get(admin, &path);
    assert_eq!(
        details["subscribed"],
        json!([{"filter": "a/+", "slow": "drop-old"}, {"filter": "$share/g/jobs", "slow": "close"}])
    );
    assert_eq!(
        (&details["encoding"], &details["websocket_version"]),
        (&json!("json"), &json!(13))
    );
    assert_eq!(
        (&details["messages_in"], &details["subscriptions"]),
        (&json!(2), &json!(2))
    );
    let topics = get(admin, "/v1/topics");
    assert_eq!(
        topics["topics"],
        json!([{"filter": "$share/g/jobs", "subscribers": 1}, {"filter": "a/+", "subscribers": 1}])
    );
    assert_eq!(get(admin, "/v1/topics?prefix=a/")["total"], 1);
    let answer = send(
        admin,
        "DELETE",
        &format!("{path}/subscriptions?filter=a/%2B"),
        &[],
        None,
    );
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(
        text(&mut json),
        r#"["err",null,"forbidden","the subscription to \"a/+\" has ended: an operator has ended it"]"#
    );
    assert_eq!(get(admin, "/v1/topics?prefix=a/")["total"], 0);
    // A raw connection has no other.
    let mut raw = client(&broker.ws("/t/raw?mode=sub"));
    let connections = get(admin, "/v1/connections");
    let connections = connections["connections"].as_array().unwrap();
    let name = connections.iter().find(|one| one["encoding"] == "raw").unwrap()["name"]
        .as_str()
        .unwrap();
    let path = format!("/v1/connections/{name}/subscriptions?filter=raw");
    assert_eq!(send(admin, "DELETE", &path, &[], None).status, 204);
    let over = raw.receive(Some(Instant::now() + DEADLINE));
    assert!(matches!(over, Err(Error::Closed { code: Some(4101), .. })), "{over:?}");
    drop((raw, json));
    assert_eq!(broker.stop().get("kicked"), 1);
}

#[test]
fn what_is_published_can_be_looked_at_and_costs_nothing_once_nobody_looks() {
    let (broker, admin) = start(&[]);
    let mut peer = open(admin, "GET", "/v1/tap?filter=a/%23", &[], None);
    let answer = peer.answer_head();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let mut reader = BufReader::new(peer.0);
    let mut publisher = json_client(&broker);
    let mut shown = || {
        eventually("a message is shown", || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            // The lines of chunks, and those that only say that somebody is here.
            let value: Value = serde_json::from_str(line.trim()).ok()?;
            value.get("topic").is_some().then_some(value)
        })
    };
    ask(&mut publisher, r#"["pub","a/b",{"x": 1},{"ref":1}]"#);
    ask(&mut publisher, r#"["pub","b","not shown",{"ref":2}]"#);
    ask(&mut publisher, r#"["pub","a","/wA=",{"kind":"binary","ref":3}]"#);
    let first = shown();
    assert_eq!(
        (&first["topic"], &first["payload"]),
        (&json!("a/b"), &json!({ "x": 1 }))
    );
    assert_eq!((&first["bytes"], &first["truncated"]), (&json!(8), &json!(false)));
    assert_eq!(shown()["base64"], "/wA=");
    let lines = r#"[1, {"topic":"forged"}, 2]"#;
    ask(
        &mut publisher,
        &format!(r#"["pub","a/b",{},{{"ref":5}}]"#, lines.replace(' ', "\r\n")),
    );
    let whole = shown();
    assert_eq!(
        (&whole["topic"], whole["payload"].to_string()),
        (&json!("a/b"), lines.replace(' ', ""))
    );
    let long = "x".repeat(5000);
    ask(
        &mut publisher,
        &format!(r#"["pub","a","{long}",{{"kind":"text","ref":4}}]"#),
    );
    let cut = shown();
    assert_eq!((&cut["bytes"], &cut["truncated"]), (&json!(5000), &json!(true)));
    assert_eq!(cut["text"].as_str().unwrap().len(), 4096);
    drop(reader);
    // As many as may look again, one after the other: none of those that are gone counts.
    for _ in 0..40 {
        eventually("there is room for another", || {
            let mut peer = open(admin, "GET", "/v1/tap?filter=%23", &[], None);
            (peer.answer_head().status == 200).then_some(())
        });
    }
}

#[test]
fn where_tokens_are_configured_one_is_needed_for_everything_but_health() {
    let (token, hash) = token_and_hash();
    let (_broker, admin) = start(&["--admin-tokens", &hash]);
    for path in ["/metrics", "/v1/stats", "/v1/openapi.json", "/v1/connections"] {
        let answer = send(admin, "GET", path, &[], None);
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let guess = send(admin, "GET", path, &[("Authorization", "Bearer guess")], None);
        assert_eq!(guess.status, 401, "{path}");
        let good = send(
            admin,
            "GET",
            path,
            &[("Authorization", &format!("Bearer {token}"))],
            None,
        );
        assert_eq!(good.status, 200, "{path}: {}", good.body);
    }
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(send(admin, "GET", path, &[], None).status, 200, "{path}");
    }
}

#[test]
fn a_control_plane_for_everybody_does_not_start_without_tokens() {
    let output = run(
        tidecast(&["serve", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]),
        None,
    );
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("--admin 0.0.0.0:0: other machines can reach") && error.contains("admin_tokens"),
        "{error}"
    );
    let (broker, admin) = start(&[]);
    let taken = run(
        tidecast(&["serve", "--listen", "127.0.0.1:0", "--admin", &admin.to_string()]),
        None,
    );
    let error = String::from_utf8_lossy(&taken.stderr);
    assert!(error.contains("give another address with --admin, or none"), "{error}");
    broker.stop();
}

#[test]
fn pages_of_other_sites_may_not_use_it() {
    let (_broker, admin) = start(&["--admin-hosts", "ops.example.com"]);
    let own = format!("http://{admin}");
    for (headers, status) in [
        (&[("Origin", &*own)][..], 200),
        (&[("Origin", "http://evil.example")][..], 403),
        (&[("Host", "evil.example")][..], 403),
        (
            &[("Host", "ops.example.com"), ("Origin", "https://ops.example.com")][..],
            200,
        ),
    ] {
        assert_eq!(
            send(admin, "GET", "/v1/stats", headers, None).status,
            status,
            "{headers:?}"
        );
    }
}

#[test]
fn a_reload_by_the_api_says_what_was_done_or_what_is_wrong() {
    let directory = std::env::temp_dir().join(format!("tidecast-admin-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("tidecast.toml");
    fs::write(&file, "[limits]\nmax_subscriptions = 1\n").unwrap();
    let (broker, admin) = start(&["--config", file.to_str().unwrap()]);
    fs::write(&file, "[limits]\nmax_subscriptions = 2\nmax_topic = 100\n").unwrap();
    let answer = send_json(admin, "/v1/reload", "");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json()["text"],
        "configuration reloaded; to change max_topic, start the broker anew"
    );
    let mut client = json_client(&broker);
    for (topic, word) in [("a", "ok"), ("b", "ok"), ("c", "err")] {
        assert!(
            ask(&mut client, &format!(r#"["sub","{topic}",{{"ref":1}}]"#)).contains(word),
            "{topic}"
        );
    }
    fs::write(&file, "[limits]\nmax_subscription = 2\n").unwrap();
    let answer = send_json(admin, "/v1/reload", "");
    assert_eq!(answer.status, 422);
    let text = answer.json()["error"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("max_subscriptions") && text.contains(":2:"), "{text}");
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_drain_by_the_api_is_a_stop() {
    let (mut broker, admin) = start(&[]);
    let mut client = json_client(&broker);
    assert_eq!(send(admin, "GET", "/readyz", &[], None).body, "ready\n");
    assert_eq!(send_json(admin, "/v1/drain", "").status, 202);
    assert!(text(&mut client).starts_with(r#"["bye",1001,"#));
    drop(client);
    assert!(broker.wait().success());
}

#[test]
fn a_health_check_ends_with_what_the_broker_says_of_itself() {
    let (mut broker, admin) = start(&[]);
    let check = || run(tidecast(&["health", "--admin", &admin.to_string()]), None);
    let output = check();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(output.stdout, b"ready\n");
    // A client that does not answer the goodbye keeps the broker draining.
    let silent = Peer::open(&broker, "/t/a", 13);
    assert_eq!(send_json(admin, "/v1/drain", "").status, 202);
    let output = eventually("the broker drains", || {
        let output = check();
        (output.status.code() == Some(1)).then_some(output)
    });
    assert!(said(&output).contains("draining"), "{}", said(&output));
    drop(silent);
    assert!(broker.wait().success());
    assert_eq!(check().status.code(), Some(3));
}

#[test]
fn top_shows_what_a_broker_does_and_says_why_it_cannot() {
    let (token, hash) = token_and_hash();
    let (broker, admin) = start(&["--admin-tokens", &hash]);
    let url = format!("http://{admin}");
    let mut subscriber = client(&broker.ws("/t/busy"));
    let screen = eventually("the topic is among the busiest", || {
        subscriber.send_text("x").unwrap();
        text(&mut subscriber);
        let mut command = tidecast(&["top", "--once", "--admin", &url]);
        command.env("TIDECAST_ADMIN_TOKEN", &token);
        let output = run(command, None);
        assert!(output.status.success(), "{}", said(&output));
        let screen = String::from_utf8(output.stdout).unwrap();
        screen.contains("│busy ").then_some(screen)
    });
    assert!(screen.contains(" ready, up for "), "{screen}");
    let refused = run(tidecast(&["top", "--admin", &url]), None);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && error.contains("a token is needed"),
        "{error}"
    );
    broker.stop();
    let gone = run(tidecast(&["top", "--admin", &url]), None);
    let error = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(
        error.contains("cannot be reached") && error.contains("--admin"),
        "{error}"
    );
}

#[test]
fn whoever_comes_when_all_places_are_taken_is_served_once_one_is_free() {
    let (_broker, admin) = start(&[]);
    let silent: Vec<_> = (0..128).map(|_| std::net::TcpStream::connect(admin).unwrap()).collect();
    let mut late = open(admin, "GET", "/readyz", &[], None);
    drop(silent);
    assert_eq!(late.answer().status, 200);
}

#[test]
fn who_does_not_read_its_answers_gives_its_place_up_to_those_who_wait() {
    let (_broker, admin) = start(&[]);
    let request = format!("GET / HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    let _stuck: Vec<_> = (0..128)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(admin).unwrap();
            stream.set_nonblocking(true).unwrap();
            // More answers than the kernel keeps for it.
            for _ in 0..1000 {
                match stream.write(request.as_bytes()) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    written => written.unwrap(),
                };
            }
            stream
        })
        .collect();
    assert_eq!(open(admin, "GET", "/healthz", &[], None).answer().status, 200);
}

#[test]
fn an_operator_is_heard_however_much_the_workers_are_asked() {
    let directory = Directory::new("busy");
    let (_, line) = handed_out();
    // Where tokens are looked into, some requests are enough for a turn.
    let file = directory.file(
        "tidecast.toml",
        &format!("[[tokens]]\n{line}\nidentity = \"someone\"\n"),
    );
    let (broker, admin) = start(&["--config", &file, "--workers", "1"]);
    let address = broker.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let flood = thread::spawn(move || {
        let requests = "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
        let mut clients: Vec<_> = (0..64)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        for client in &clients {
            client.set_nonblocking(true).unwrap();
        }
        let mut answers = vec![0; 1 << 20];
        while !over.load(Ordering::Relaxed) {
            for client in &mut clients {
                // A full socket is what it is about.
                let _ = client.write(requests.as_bytes());
                let _ = client.read(&mut answers);
            }
        }
    });
    eventually("the worker is busy", || {
        (sum(&scrape(admin), "tidecast_requests_total", "kind=\"page\"") > 10_000.0).then_some(())
    });
    for _ in 0..5 {
        let answer = send(admin, "GET", "/v1/connections?limit=1", &[], None);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(
        send_json(admin, "/v1/publish", r#"{"topic":"a","payload":1}"#).status,
        200
    );
    is_over.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

/// The most memory that a broker has had, in bytes.
fn most_memory(broker: &Broker) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn what_is_published_to_many_topics_is_held_once() {
    let (broker, admin) = start(&[]);
    let mut subscriber = client(&broker.ws("/t/1999?mode=sub"));
    let before = most_memory(&broker);
    let body = |topics: usize, len: usize| {
        let topics: Vec<String> = (0..topics).map(|topic| topic.to_string()).collect();
        json!({ "topics": topics, "text": "x".repeat(len) }).to_string()
    };
    let answer = send_json(admin, "/v1/publish", &body(2000, 200_000));
    assert_eq!((answer.status, &answer.json()["published"]), (200, &json!(2000)));
    assert_eq!(text(&mut subscriber).len(), 200_000);
    let answer = send_json(admin, "/v1/publish", &body(10_001, 1));
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("these are 10001"), "{}", answer.body);
    let held = most_memory(&broker) - before;
    assert!(held < 100 << 20, "{held} bytes, for a payload of 200,000");
}

#[test]
fn how_large_a_published_message_may_be_is_what_the_file_says_now() {
    let directory = Directory::new("largest");
    let limit = |bytes: usize| directory.file("tidecast.toml", &format!("[limits]\nmax_message = {bytes}\n"));
    let (_broker, admin) = start(&["--config", &limit(1000)]);
    let publish = |len: usize| {
        send_json(
            admin,
            "/v1/publish",
            &json!({"topic": "a", "text": "x".repeat(len)}).to_string(),
        )
    };
    assert_eq!((publish(1000).status, publish(1001).status), (200, 413));
    for bytes in [3_000_000, 500] {
        limit(bytes);
        assert_eq!(send(admin, "POST", "/v1/reload", &[], None).status, 200);
        assert_eq!(publish(bytes).status, 200);
        let refused = publish(bytes + 1);
        assert_eq!(refused.status, 413);
        assert!(
            refused.body.contains(&format!("may have {bytes} bytes")),
            "{}",
            refused.body
        );
    }
}
