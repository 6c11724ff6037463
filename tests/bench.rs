//! The load generator against brokers: this one, and two that nobody here wrote.
//!
//! `nats-server` and `mosquitto` are Debian's packages of these names. Where they are missing their tests fail, unless
//! `TEST_WITHOUT_PEERS` is set, which says that they may be left out.

mod support;
#[path = "bench/tls.rs"]
mod tls;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use support::*;
use tls::TlsFront;

/// Runs `tidecast bench` with `line`, words apart, against `url`.
fn bench(url: &str, line: &str) -> Output {
    let mut command = tidecast(&["bench"]);
    command.args(line.split_whitespace());
    command.args(["--url", url, "--progress", "never"]);
    run(command, None)
}

/// The report of a run that has to be a good one.
fn report(url: &str, line: &str) -> Value {
    let output = bench(url, &format!("{line} --json"));
    assert!(output.status.success(), "{line}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}: {}", said(&output)))
}

fn number(report: &Value, pointer: &str) -> u64 {
    let value = report.pointer(pointer).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{pointer} is a number in {report:#}"))
}

/// Everything is delivered, and as much as the scenario says.
fn deliveries(url: &str, line: &str, expected: u64) {
    let report = report(url, line);
    assert_eq!(number(&report, "/deliveries"), expected, "{line}: {report:#}");
    assert_eq!(
        number(&report, "/latency_microseconds/samples"),
        expected,
        "{line}: {report:#}"
    );
    for fault in ["lost", "duplicated", "reordered", "corrupt"] {
        assert_eq!(number(&report, &format!("/faults/{fault}")), 0, "{line}: {report:#}");
    }
}

/// The scenarios that publish, in a protocol.
fn publishing_scenarios(url: &str, flags: &str) {
    for (scenario, expected) in [
        ("fanout --subscribers 20 --publishers 2 --count 100 --window 8", 4_000),
        ("fanout --subscribers 20 --size 20000 --count 20 --rate 500", 400),
        ("fanin --publishers 20 --subscribers 2 --count 50 --window 4", 2_000),
        (
            "many-topics --topics 10 --publishers 2 --subscribers 3 --count 20 --threads 2",
            1_200,
        ),
        ("echo --connections 10 --count 50", 500),
    ] {
        deliveries(url, &format!("{scenario} {flags}"), expected);
    }
}

#[test]
fn a_generator_without_io_uring_measures_with_epoll_and_says_so() {
    let broker = Broker::start(&[]);
    let url = broker.ws("");
    let bench = |format: &[&str]| {
        let line = "bench fanout --subscribers 20 --count 50 --window 4 --progress never --url";
        let mut command = without_io_uring(&line.split(' ').collect::<Vec<_>>());
        command.arg(&url).args(format);
        run(command, None)
    };
    let output = bench(&["--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&report, "/deliveries"), 1000, "{report:#}");
    let why = report.pointer("/machine/without_io_uring").and_then(Value::as_str);
    assert!(why.is_some_and(|why| why.contains("seccomp")), "{report:#}");
    let output = bench(&[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("with epoll") && text.contains("seccomp"),
        "{}",
        said(&output)
    );
}

#[test]
fn every_scenario_that_publishes_is_delivered_in_every_protocol_of_ours() {
    let broker = Broker::start(&[]);
    for protocol in ["raw", "json", "bin", "path --path /t/%s"] {
        publishing_scenarios(&broker.ws(""), &format!("--protocol {protocol}"));
    }
}

#[test]
fn every_version_and_compression_goes_with_every_scenario() {
    let broker = Broker::start(&[]);
    for flags in [
        "--version 13 --compression permessage-deflate",
        "--version 8",
        "--version 7 --compression deflate-stream --protocol json",
        "--version 6 --compression deflate-stream",
    ] {
        publishing_scenarios(&broker.ws(""), flags);
        let churn = if flags.contains("json") { "" } else { "--protocol bin" };
        let report = report(
            &broker.ws(""),
            &format!("churn --connections 4 --count 40 {flags} {churn}"),
        );
        assert_eq!(number(&report, "/operations/count"), 160, "{report:#}");
    }
}

#[test]
fn the_smallest_payloads_are_checked_like_all_others() {
    let broker = Broker::start(&[]);
    for (protocol, size) in [("raw", 16), ("bin", 16), ("json", 24)] {
        let line =
            |size| format!("fanout --protocol {protocol} --subscribers 5 --publishers 3 --count 100 --size {size}");
        deliveries(&broker.ws(""), &line(size), 1_500);
        let refused = bench(&broker.ws(""), &line(size - 1));
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    }
}

#[test]
fn topics_share_a_rate_by_the_law_of_zipf() {
    let broker = Broker::start(&[]);
    let line = "many-topics --topics 4 --zipf 1 --rate 1k --duration 300ms --warmup 100ms";
    let report = report(&broker.ws(""), line);
    // A message more or less for each publisher, whose turns do not begin with the span.
    let published = number(&report, "/published");
    assert!((296..=304).contains(&published), "{report:#}");
}

#[test]
fn every_command_of_a_churn_is_confirmed_beside_a_fan_out_that_loses_nothing() {
    let broker = Broker::start(&[]);
    for protocol in ["json", "bin"] {
        let line = format!(
            "churn --protocol {protocol} --connections 10 --filters 7 --count 500 --window 50 --threads 2 \
             --fanout-subscribers 10 --fanout-rate 500"
        );
        let report = report(&broker.ws(""), &line);
        assert_eq!(number(&report, "/operations/count"), 5_000, "{report:#}");
        assert_eq!(number(&report, "/operations/latency_microseconds/samples"), 5_000);
        assert_eq!(number(&report, "/operations/failed"), 0);
        assert_eq!(number(&report, "/deliveries"), 10 * number(&report, "/published"));
    }
}

/// Everything that is published to nobody is known to be taken in.
fn ingests(url: &str, flags: &str) {
    for load in [
        "--window 1 --count 50",
        "--window 1000 --count 5000",
        "--rate 20k --count 500",
    ] {
        let line = format!("ingest --publishers 3 --threads 2 --size 24 {load} {flags}");
        let report = report(url, &line);
        let each: u64 = load.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert_eq!(number(&report, "/published"), 3 * each, "{line}: {report:#}");
        assert_eq!(number(&report, "/operations/count"), 3 * each, "{line}: {report:#}");
        assert_eq!(number(&report, "/operations/unanswered"), 0, "{line}: {report:#}");
        assert!(
            number(&report, "/operations/latency_microseconds/samples") > 0,
            "{line}"
        );
    }
}

#[test]
fn what_nobody_receives_is_known_to_be_taken_in_by_pings() {
    let broker = Broker::start(&[]);
    for flags in [
        "--protocol raw",
        "--protocol json",
        "--protocol bin",
        "--protocol path --path /t/%s --version 7",
    ] {
        ingests(&broker.ws(""), flags);
    }
    let line = format!(
        "ingest --protocol bin --rate 1k,2k --duration 200ms --warmup 50ms --server-pid {}",
        broker.pid()
    );
    let steps = report(&broker.ws(""), &line);
    let counts: Vec<_> = (0..2)
        .map(|step| number(&steps, &format!("/steps/{step}/operations/count")))
        .collect();
    assert!(counts[1] > counts[0], "{steps:#}");
    assert_eq!(steps["operations"]["kind"], "messages");
    assert!(steps["server"]["cpu_seconds_per_million_deliveries"].is_f64());
}

#[test]
fn connections_that_come_and_go_are_all_opened_and_closed() {
    let broker = Broker::start(&[]);
    for flags in [
        "--protocol raw --window 8",
        "--protocol json --rate 2k",
        "--protocol bin --threads 2",
    ] {
        let report = report(&broker.ws(""), &format!("connect --count 400 {flags}"));
        let threads = number(&report, "/setup/threads");
        assert_eq!(
            number(&report, "/operations/count"),
            400 * threads,
            "{flags}: {report:#}"
        );
        assert_eq!(number(&report, "/operations/failed"), 0, "{flags}");
    }

    let totals = broker.stop();
    assert_eq!((totals.get("opened"), totals.get("connections")), (1_600, 0));
}

#[test]
fn more_connections_come_and_go_than_there_are_slots() {
    let broker = Broker::start(&[]);
    // The limit of open files is that of the slots too.
    let mut command = Command::new("sh");
    let bench = format!(
        "ulimit -n 64; exec {} bench connect --count 2000 --window 500 --url {} --progress never --json",
        env!("CARGO_BIN_EXE_tidecast"),
        broker.ws("")
    );
    command.args(["-c", &bench]);
    let output = run(command, None);
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&report, "/operations/count"), 2_000, "{report:#}");
    assert_eq!(broker.stop().get("connections"), 0);
}

#[test]
fn idle_connections_are_held_and_their_memory_is_told() {
    let broker = Broker::start(&[]);
    let pid = broker.pid();
    for flags in ["", "--protocol json --subscriptions 5 --threads 2 --open-rate 2000"] {
        let line = format!("idle --connections 500 --duration 200ms --server-pid {pid} {flags}");
        let report = report(&broker.ws(""), &line);
        assert_eq!(number(&report, "/opening/connections"), 500, "{flags}");
        assert!(report["server"]["resident_bytes_per_connection"].is_f64(), "{report:#}");
    }
}

#[test]
fn processes_of_a_server_are_measured_together() {
    let (broker, other) = (Broker::start(&[]), Broker::start(&[]));
    let resident = |pids: &str| {
        let line = format!("fanout --subscribers 5 --count 50 --server-pid {pids}");
        number(&report(&broker.ws(""), &line), "/server/resident_bytes")
    };
    let (one, two) = (broker.pid(), other.pid());
    let alone = resident(&one.to_string());
    let both = resident(&format!("{one},{two}"));
    // The other one has started, so that it has some memory.
    assert!(both > alone + (1 << 20), "{both} and {alone}");
    let gone = bench(
        &broker.ws(""),
        &format!("fanout --count 1 --server-pid {one} --server-pid 0"),
    );
    assert_eq!(gone.status.code(), Some(1), "{}", said(&gone));
    assert!(said(&gone).contains("cannot measure the process 0"), "{}", said(&gone));
}

#[test]
fn who_reads_nothing_is_closed_or_told_what_was_dropped_and_all_others_get_everything() {
    let broker = Broker::start(&["--max-pending", "64K"]);
    let line = "slow --subscribers 10 --slow 20% --size 16K --count 2000 --window 16";
    let closed = report(&broker.ws(""), line);
    assert_eq!(number(&closed, "/deliveries"), 8 * 2_000);
    assert_eq!(number(&closed, "/slow/still_open"), 0, "{closed:#}");
    let how: Vec<_> = closed["slow"]["closed"].as_object().unwrap().iter().collect();
    assert!(how.len() == 1 && how[0].0.starts_with("4000"), "{closed:#}");
    let dropped = report(&broker.ws(""), &format!("{line} --protocol json --policy drop-new"));
    assert_eq!(number(&dropped, "/deliveries"), 8 * 2_000);
    assert_eq!(number(&dropped, "/slow/still_open"), 2, "{dropped:#}");
    let kept = number(&dropped, "/slow/deliveries");
    let lagged = number(&dropped, "/slow/lagged_messages");
    assert!(lagged > 0 && number(&dropped, "/slow/lag_notices") > 0, "{dropped:#}");
    assert_eq!(
        kept + lagged,
        2 * 2_000,
        "each message was delivered or told to be dropped: {dropped:#}"
    );
}

#[test]
fn steps_and_ramps_have_a_row_each() {
    let broker = Broker::start(&[]);
    let report = report(
        &broker.ws(""),
        "fanout --subscribers 3 --rate 200/200ms,400..800/500ms --warmup 50ms",
    );
    let rows = report["steps"].as_array().unwrap();
    assert_eq!(rows.len(), 11, "{report:#}");
    let published: Vec<u64> = rows.iter().map(|row| row["published"].as_u64().unwrap()).collect();
    assert_eq!(published[0], 40);
    assert_eq!(published.iter().sum::<u64>(), number(&report, "/published"));
    assert!(number(&report, "/published").abs_diff(340) <= 1, "{report:#}");
}

#[test]
fn a_gate_ends_a_good_run_with_a_code_of_its_own() {
    let broker = Broker::start(&[]);
    let run = |gates: &str| bench(&broker.ws(""), &format!("echo --connections 2 --count 20 {gates}"));
    let open = run("--fail-if p99>60s --fail-if rate<1");
    assert!(open.status.success(), "{}", said(&open));
    let closed = run("--fail-if p99>60s --fail-if rate<1000000000000");
    assert_eq!(closed.status.code(), Some(6), "{}", said(&closed));
    assert!(String::from_utf8_lossy(&closed.stderr).contains("rate<1000000000000 holds"));
}

#[test]
fn every_second_is_told_in_a_line_while_the_run_goes_on() {
    let broker = Broker::start(&[]);
    for scenario in [
        "fanout --subscribers 5",
        "ingest --publishers 2",
        "churn --connections 2",
        "connect",
    ] {
        let mut command = tidecast(&["bench"]);
        command.args(scenario.split(' '));
        let pid = broker.pid().to_string();
        command.args([
            "--rate",
            "500",
            "--duration",
            "2s",
            "--warmup",
            "500ms",
            "--progress",
            "lines",
        ]);
        command.args(["--url", &broker.ws(""), "--server-pid", &pid]);
        let output = run(command, None);
        assert!(output.status.success(), "{}", said(&output));
        let told = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = told.lines().filter(|line| line.contains(" MB/s")).collect();
        assert!((1..=3).contains(&lines.len()), "{scenario}: {told}");
        for line in lines {
            assert!(
                line.contains("p50 ") && !line.contains(" - ") && line.contains("server CPU"),
                "{line}"
            );
        }
    }
}

#[test]
fn a_page_is_written_with_plots_and_the_command() {
    let broker = Broker::start(&[]);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-report.html");
    let line = format!(
        "fanout --subscribers 5 --rate 100 --duration 2s --warmup 200ms --server-pid {} --report {}",
        broker.pid(),
        path.display()
    );
    let output = bench(&broker.ws(""), &line);
    assert!(output.status.success(), "{}", said(&output));
    let page = fs::read_to_string(&path).unwrap();
    for words in [
        "Done per second",
        "Cores used by the broker",
        "Latency of deliveries",
        "--rate 100",
        "kernel",
    ] {
        assert!(page.contains(words), "{words} is missing in {page}");
    }
}

/// A file with `text`, of a name that no other test has.
fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_file_says_what_to_run_and_two_reports_are_compared() {
    let broker = Broker::start(&[]);
    let scenario = file(
        "bench-scenario.toml",
        &format!(
            "scenario = \"fanout\"\nurl = {:?}\nsubscribers = 5\ncount = 50\njson = true\nprogress = \"never\"\n",
            broker.ws("")
        ),
    );
    let reports = ["64", "256"].map(|size| {
        let mut command = tidecast(&["bench", "run"]);
        command.arg(&scenario).args(["--size", size]);
        let output = run(command, None);
        assert!(output.status.success(), "{}", said(&output));
        file(&format!("bench-{size}.json"), str::from_utf8(&output.stdout).unwrap())
    });
    let mut command = tidecast(&["bench", "compare"]);
    command.args(&reports);
    let output = run(command, None);
    assert!(output.status.success(), "{}", said(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("differs: size 64 and 256"), "{table}");
    assert!(table.contains("deliveries/s"), "{table}");
}

#[test]
fn a_file_with_a_key_that_is_none_is_refused_with_line_and_nearest_name() {
    let scenario = file("bench-bad.toml", "scenario = \"fanout\"\n\nsubscriber = 5\n");
    let mut command = tidecast(&["bench", "run"]);
    command.arg(&scenario);
    let output = run(command, None);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("line 3") && message.contains("\"subscribers\""),
        "{message}"
    );
}

/// Names under which a [`TlsFront`] can be reached.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

#[test]
fn every_scenario_runs_over_tls() {
    let broker = Broker::start(&[]);
    let front = TlsFront::start(broker.address, &NAMES);
    let trusting = format!("--tls-ca {}", front.certificate.display());
    publishing_scenarios(&front.url(), &trusting);
    publishing_scenarios(
        &front.url(),
        &format!("{trusting} --protocol json --compression permessage-deflate --tls-version 1.2"),
    );
    ingests(&front.url(), &trusting);
    let churn = report(
        &front.url(),
        &format!("churn --connections 4 --count 100 --fanout-subscribers 3 {trusting}"),
    );
    assert_eq!(number(&churn, "/operations/count"), 400, "{churn:#}");
    let idle = report(
        &front.url(),
        &format!("idle --connections 50 --duration 100ms {trusting}"),
    );
    assert_eq!(number(&idle, "/tls/full"), 50, "{idle:#}");
    let slow = report(
        &front.url(),
        &format!("slow --subscribers 5 --slow 1 --count 50 --window 4 {trusting}"),
    );
    assert_eq!(number(&slow, "/slow/deliveries"), 50, "{slow:#}");
}

#[test]
fn handshakes_are_full_unless_sessions_may_be_resumed() {
    let broker = Broker::start(&[]);
    let front = TlsFront::start(broker.address, &NAMES);
    for (version, name) in [("1.2", "1.2 TLS_"), ("1.3", "1.3 TLS13_"), ("", "1.3 TLS13_")] {
        let flag = if version.is_empty() { "" } else { "--tls-version" };
        let line = format!(
            "connect --count 60 --window 4 --tls-ca {} {flag} {version}",
            front.certificate.display()
        );
        let full = report(&front.url(), &line);
        assert_eq!(number(&full, "/operations/count"), 60, "{full:#}");
        assert_eq!(
            (number(&full, "/tls/full"), number(&full, "/tls/resumed")),
            (60, 0),
            "{full:#}"
        );
        let suites: Vec<_> = full["tls"]["suites"].as_object().unwrap().keys().collect();
        assert!(suites.len() == 1 && suites[0].starts_with(name), "{suites:?}");
        let resumed = report(&front.url(), &format!("{line} --tls-resume"));
        let counts = (number(&resumed, "/tls/full"), number(&resumed, "/tls/resumed"));
        assert_eq!(counts.0 + counts.1, 60, "{resumed:#}");
        // The first ones of the window have nothing to resume.
        assert!(counts.1 >= 40, "{resumed:#}");
    }
}

#[test]
fn what_stands_in_the_way_of_tls_is_told_with_what_to_do() {
    let broker = Broker::start(&[]);
    let front = TlsFront::start(broker.address, &NAMES);
    let other = TlsFront::start(broker.address, &["broker.example"]);
    let namesake = TlsFront::start(broker.address, &NAMES);
    let plain = format!("wss://{}", broker.address);
    let nobody = file("bench-tls-nobody.pem", "no certificate\n");
    let trusting = |front: &TlsFront| format!("--tls-ca {}", front.certificate.display());
    let line = "fanout --subscribers 2 --count 10";
    for (url, flags, code, words) in [
        (
            front.url(),
            trusting(&namesake),
            3,
            "authority that is not trusted here: name that with --tls-ca",
        ),
        (
            front.url(),
            trusting(&other),
            3,
            "authority that is not trusted here: name that with --tls-ca",
        ),
        (
            other.url(),
            trusting(&other),
            3,
            "the certificate is not one for 127.0.0.1",
        ),
        (plain.clone(), "--tls-insecure".to_owned(), 3, "speak TLS on that port"),
        (
            front.url(),
            "--tls-ca /nowhere.pem".to_owned(),
            2,
            "cannot read certificates from /nowhere.pem",
        ),
        (
            front.url(),
            format!("--tls-ca {}", nobody.display()),
            2,
            "has no certificate in PEM",
        ),
        (broker.ws(""), "--tls-insecure".to_owned(), 2, "give a wss:// URL"),
    ] {
        let output = bench(&url, &format!("{line} {flags}"));
        assert_eq!(output.status.code(), Some(code), "{url} {flags}: {}", said(&output));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(words), "{words:?} is not in {message}");
    }
    deliveries(&other.url(), &format!("{line} --tls-insecure"), 20);
}

/// A broker of another make; killed, by its pid, when dropped.
struct Other {
    child: Child,
    url: String,
}

impl Drop for Other {
    fn drop(&mut self) {
        // Ended already, or not to be waited for: either way nothing of it stays.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where Debian has a server; none if it is missing and may be.
fn installed(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        // Debian keeps servers where only root's PATH leads.
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("TEST_WITHOUT_PEERS").is_some(),
            "{name} is missing: install it (apt-get install {name}), or set TEST_WITHOUT_PEERS=1 to leave it out"
        );
        eprintln!("{name} is missing, and left out as TEST_WITHOUT_PEERS allows");
    }
    found
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts a server whose configuration, given two ports, makes it listen for WebSockets on the first; again with others if
/// somebody else takes one of them first.
fn start(program: &Path, name: &str, flag: &str, configuration: impl Fn(u16, u16) -> String) -> Other {
    for _ in 0..5 {
        let port = free_port();
        let path = file(&format!("{name}-{port}.conf"), &configuration(port, free_port()));
        let mut child = Command::new(program)
            .arg(flag)
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listens = eventually("the other broker listens or ends", || {
            let ended = child.try_wait().unwrap().is_some();
            let connected = TcpStream::connect(address).is_ok();
            (ended || connected).then_some(connected && !ended)
        });
        let other = Other {
            child,
            url: format!("ws://{address}"),
        };
        if listens {
            return other;
        }
    }
    panic!("{name} ends at once, on any port");
}

/// Everything but topics with wildcards, which the generator does not use.
fn all_scenarios(url: &str, protocol: &str) {
    publishing_scenarios(url, &format!("--protocol {protocol}"));
    let churn = report(
        url,
        &format!("churn --protocol {protocol} --connections 5 --filters 3 --count 200 --fanout-subscribers 3"),
    );
    assert_eq!(number(&churn, "/operations/count"), 1_000, "{churn:#}");
    ingests(url, &format!("--protocol {protocol}"));
    let connect = report(url, &format!("connect --protocol {protocol} --count 50 --window 4"));
    assert_eq!(number(&connect, "/operations/count"), 50, "{connect:#}");
    deliveries(
        url,
        &format!("fanout --protocol {protocol} --size 16 --subscribers 5 --count 100"),
        500,
    );
    let idle = report(
        url,
        &format!("idle --protocol {protocol} --connections 50 --subscriptions 3 --duration 100ms"),
    );
    assert_eq!(number(&idle, "/opening/connections"), 50, "{idle:#}");
    let slow = report(
        url,
        &format!("slow --protocol {protocol} --subscribers 5 --slow 1 --count 50 --window 4"),
    );
    assert_eq!(number(&slow, "/deliveries"), 200, "{slow:#}");
    assert_eq!(number(&slow, "/slow/deliveries"), 50, "{slow:#}");
}

#[test]
fn nats_server_is_measured_with_every_scenario() {
    let Some(program) = installed("nats-server") else {
        return;
    };
    let nats = start(&program, "nats", "-c", |port, other| {
        format!(
            "host: 127.0.0.1\nport: {other}\n\
             websocket {{ host: 127.0.0.1, port: {port}, no_tls: true, compression: true }}\n"
        )
    });
    all_scenarios(&nats.url, "nats");
    deliveries(
        &nats.url,
        "fanout --protocol nats --compression permessage-deflate --subscribers 10 --count 100",
        1_000,
    );
}

#[test]
fn mosquitto_is_measured_with_every_scenario() {
    let Some(program) = installed("mosquitto") else { return };
    let mosquitto = start(&program, "mosquitto", "-c", |port, other| {
        // Version 2.0.11 does not start with WebSocket listeners alone.
        format!(
            "listener {other} 127.0.0.1\nlistener {port} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n\
             max_queued_messages 0\n"
        )
    });
    all_scenarios(&mosquitto.url, "mqtt");
}
