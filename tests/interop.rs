//! Clients that nobody here wrote. `tests/setup.sh` installs them. Servers that nobody here wrote meet our client in
//! `crates/client/tests/interop.rs`.

#[path = "tls/mod.rs"]
mod secure;
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use secure::*;
use support::*;

fn interop(program: &str, arguments: &[&str]) {
    interop_with(program, arguments, None);
}

/// With an authority to believe, in the variable of this name.
fn interop_with(program: &str, arguments: &[&str], authority: Option<(&str, &str)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let program = if program.contains('/') {
        folder.join(program)
    } else {
        program.into()
    };
    let mut command = Command::new(&program);
    command.args(arguments).current_dir(&folder).envs(authority);
    let output = run(command, None);
    assert!(
        output.status.success(),
        "{program:?} {arguments:?} (installed by tests/setup.sh): {}",
        said(&output)
    );
}

#[test]
fn npm_ws_speaks_raw_and_json() {
    let broker = Broker::start(&[]);
    interop("node", &["ws_client.mjs", &broker.ws("")]);
}

#[test]
fn python_websockets_speaks_raw_and_json() {
    let broker = Broker::start(&[]);
    interop(".venv/bin/python", &["websockets_client.py", &broker.ws("")]);
}

#[test]
fn in_chromium_one_tab_publishes_and_another_shows_it() {
    let broker = Broker::start(&[]);
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&screenshots).unwrap();
    let url = format!("http://{}", broker.address);
    interop("node", &["chromium_page.mjs", &url, screenshots.to_str().unwrap()]);
}

#[test]
fn in_chromium_an_operator_sees_and_does_all_that_there_is() {
    let (token, hash) = token_and_hash();
    let broker = Broker::start(&["--admin", "127.0.0.1:0", "--admin-tokens", &hash]);
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    std::fs::create_dir_all(&screenshots).unwrap();
    let (admin, url) = (format!("http://{}", broker.admin()), broker.ws(""));
    interop(
        "node",
        &["console_page.mjs", &admin, &url, &token, screenshots.to_str().unwrap()],
    );
}

#[test]
fn python_posts_and_listens_to_events() {
    let broker = Broker::start(&[]);
    interop(
        ".venv/bin/python",
        &["http_client.py", &format!("http://{}", broker.address)],
    );
    let totals = broker.stop();
    assert_eq!((totals.get("posts"), totals.get("accepted")), (51, 4));
}

#[test]
fn python_posts_and_listens_to_events_over_tls() {
    let tls = TlsBroker::start("python-http", &[]);
    let authority = tls.papers.path("ca.pem");
    let url = format!("https://{}", tls.address);
    interop_with(
        ".venv/bin/python",
        &["http_client.py", &url],
        Some(("SSL_CERT_FILE", &authority)),
    );
}

#[test]
fn in_chromium_pages_that_may_post_and_listen_to_events() {
    let broker = Broker::start(&["--origins", "http://listed.example:*"]);
    interop("node", &["http_page.mjs", &format!("http://{}", broker.address)]);
    assert_eq!(broker.stop().get("origins_refused"), 3);
}

#[test]
fn curl_posts_and_listens_as_the_reference_shows() {
    let broker = Broker::start(&[]);
    let url = format!("http://{}/t/news%2Fsport", broker.address);
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(arguments)
            .arg(&url);
        command
    };
    let mut listener = curl(&["--no-buffer", "-H", "Accept: text/event-stream"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(listener.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("retry: "));
    let posted = run(
        curl(&["-H", "Content-Type: application/json", "-d", r#"{"goal":"1:0"}"#]),
        None,
    );
    assert_eq!(String::from_utf8(posted.stdout).unwrap(), r#"{"topic":"news/sport"}"#);
    assert_eq!(lines.nth(1).as_deref(), Some(r#"data: {"goal":"1:0"}"#));
    // More than it sends without having been told to go on.
    let large = "x".repeat(1 << 20);
    let expecting = [
        "-H",
        "Expect: 100-continue",
        "-H",
        "Content-Type: text/plain",
        "--data-binary",
        "@-",
    ];
    let posted = run(curl(&expecting), Some(large.as_bytes()));
    assert_eq!(String::from_utf8(posted.stdout).unwrap(), r#"{"topic":"news/sport"}"#);
    assert_eq!(lines.nth(1).map(|line| line.len()), Some("data: ".len() + large.len()));
    let refused = run(curl(&expecting), Some(format!("{large}x").as_bytes()));
    assert!(String::from_utf8(refused.stdout).unwrap().contains("too_large"));
    listener.kill().unwrap();
    listener.wait().unwrap();
    broker.stop();
}

#[test]
fn npm_ws_speaks_raw_and_json_over_tls() {
    let tls = TlsBroker::start("npm-ws", &[]);
    let authority = tls.papers.path("ca.pem");
    let url = format!("wss://{}", tls.address);
    interop_with(
        "node",
        &["ws_client.mjs", &url],
        Some(("NODE_EXTRA_CA_CERTS", &authority)),
    );
}

#[test]
fn python_websockets_speaks_raw_and_json_over_tls() {
    let tls = TlsBroker::start("python-websockets", &[]);
    let authority = tls.papers.path("ca.pem");
    let url = format!("wss://{}", tls.address);
    let arguments = ["websockets_client.py", &url];
    interop_with(".venv/bin/python", &arguments, Some(("SSL_CERT_FILE", &authority)));
}

#[test]
fn in_chromium_the_page_works_over_tls() {
    let tls = TlsBroker::start("chromium", &[]);
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("secure-page");
    std::fs::create_dir_all(&screenshots).unwrap();
    let url = format!("https://localhost:{}", tls.address.port());
    let screenshots = screenshots.to_str().unwrap();
    let option = tls.papers.chromium_option();
    interop("node", &["chromium_page.mjs", &url, screenshots, option]);
}

/// A broker that takes tokens, one that it takes, and one that somebody else made.
fn tokens(name: &str) -> (Broker, String, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tokens-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    let make = |file: &str, secret: &str| {
        let path = folder.join(file);
        std::fs::write(&path, secret).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let arguments = [
            "token",
            "make",
            "--secret-file",
            &path,
            "--sub",
            "alice",
            "--subscribe",
            "news/#",
        ];
        let output = run(tidecast(&arguments), None);
        assert!(output.status.success(), "{}", said(&output));
        (path, String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let (_, bad) = make("other", "abcdefghijklmnopqrstuvwxyz012345");
    let (secret, good) = make("secret", "0123456789abcdef0123456789abcdef");
    (Broker::start(&["--jwt-secret-file", &secret]), good, bad)
}

#[test]
fn npm_ws_is_let_in_by_its_token() {
    let (broker, good, bad) = tokens("ws");
    interop("node", &["auth_client.mjs", &broker.ws(""), &good, &bad]);
}

#[test]
fn in_chromium_a_page_is_let_in_by_its_token() {
    let (broker, good, bad) = tokens("chromium");
    let url = format!("http://{}", broker.address);
    interop("node", &["auth_page.mjs", &url, &good, &bad]);
}
