//! The real binary as a child process, and a peer that says exactly the bytes it is told to.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidecast_client::{Client, Message, Options};

/// What anything may take before a test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The binary under test, with arguments.
pub fn tidecast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidecast"));
    // Settings of whoever runs the tests are not part of them, but for what they are run with both ways.
    let is_setting = |name: &str| name.starts_with("TIDECAST_") && name != "TIDECAST_DRIVER";
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    // The usual address of the control plane can be that of one broker only.
    command.env("TIDECAST_ADMIN", "none");
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The same under a filter of system calls that forbids io_uring.
pub fn without_io_uring(arguments: &[&str]) -> Command {
    filtered(&[], arguments)
}

/// The same under one that lets rings be set up, and forbids to use them.
pub fn without_entering_io_uring(arguments: &[&str]) -> Command {
    filtered(&["--enter"], arguments)
}

fn filtered(filter: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/support/without_io_uring.py"
        ))
        .args(filter)
        .arg(env!("CARGO_BIN_EXE_tidecast"))
        .args(arguments)
        .env("TIDECAST_ADMIN", "none")
        .env_remove("TIDECAST_DRIVER")
        .stdin(Stdio::null());
    command
}

/// Polls until `value` gives something.
pub fn eventually<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Lines that a child has written so far.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    /// Reads a stream into all of these.
    fn read(stream: impl Read + Send + 'static, into: &[&Lines]) {
        let into: Vec<Lines> = into.iter().map(|&lines| lines.clone()).collect();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                for lines in &into {
                    lines.0.0.lock().unwrap().push(line.clone());
                    lines.0.1.notify_all();
                }
            }
        });
    }

    fn find<T>(&self, what: &str, mut found: impl FnMut(&str) -> Option<T>) -> T {
        let lines = self.0.0.lock().unwrap();
        let mut result = None;
        let (lines, _) = self
            .0
            .1
            .wait_timeout_while(lines, DEADLINE, |lines| {
                result = lines.iter().find_map(|line| found(line));
                result.is_none()
            })
            .unwrap();
        result.unwrap_or_else(|| panic!("no line {what} in {DEADLINE:?}, only: {lines:#?}"))
    }
}

/// A running broker with two workers or as many as its arguments say. Killed, by its pid, when dropped.
pub struct Broker {
    child: Child,
    out: Lines,
    err: Lines,
    pub address: SocketAddr,
}

impl Broker {
    /// Starts one on a port of the kernel's choice.
    pub fn start(arguments: &[&str]) -> Broker {
        Broker::start_on("127.0.0.1:0", arguments)
    }

    /// Starts one on a port.
    pub fn start_on(address: &str, arguments: &[&str]) -> Broker {
        let mut command = tidecast(&["serve", "--listen", address]);
        // More workers than cores share them, so two are possible everywhere.
        if !arguments.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        Broker::of(command)
    }

    /// The one that `command`, whose output is piped, starts.
    pub fn of(mut command: Command) -> Broker {
        let mut child = command.spawn().expect("the binary runs");
        let (out, err) = (Lines::default(), Lines::default());
        Lines::read(child.stdout.take().expect("piped"), &[&out]);
        // Whether something is said here or there is for those who look: most tests do not care.
        Lines::read(child.stderr.take().expect("piped"), &[&out, &err]);
        let address = out.find("that says what listens", |line| {
            let (_, address) = line.split_once("listening on http://")?;
            address.split_once('/')?.0.parse().ok()
        });
        Broker {
            child,
            out,
            err,
            address,
        }
    }

    /// Where the control plane is.
    pub fn admin(&self) -> SocketAddr {
        self.out.find("that says where the control plane is", |line| {
            let (_, address) = line.split_once("control plane on http://")?;
            address.split_once('/')?.0.parse().ok()
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    pub fn line(&self, what: &str) -> String {
        self.out.find(what, |line| line.contains(what).then(|| line.to_owned()))
    }

    /// A line of its standard error.
    pub fn error(&self, what: &str) -> String {
        self.err.find(what, |line| line.contains(what).then(|| line.to_owned()))
    }

    /// The lines so far that contain `what`.
    pub fn lines(&self, what: &str) -> Vec<String> {
        let lines = self.out.0.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(what)).cloned().collect()
    }

    /// The lines of its standard error so far that contain `what`.
    pub fn errors(&self, what: &str) -> Vec<String> {
        let lines = self.err.0.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(what)).cloned().collect()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the broker ends", || self.child.try_wait().unwrap())
    }

    /// Stops it by SIGTERM and gives what it counted.
    pub fn stop(mut self) -> Totals {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}: {:#?}", self.err.0.0.lock().unwrap());
        let totals = Totals(self.line("stopped: "));
        if totals.get("connections") == 0 {
            let causes = tidecast_worker::Totals::SERIES.iter();
            let causes = causes.filter(|series| series.family.name == "sessions_closed");
            let closed: u64 = causes.map(|series| totals.get(series.name)).sum();
            assert_eq!(
                closed,
                totals.get("opened") + totals.get("events_opened"),
                "every WebSocket and every stream of events ends for one cause: {}",
                totals.0
            );
        }
        totals
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Ended already, or not to be waited for: either way nothing of it stays.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last line of a broker.
pub struct Totals(String);

impl Totals {
    pub fn get(&self, name: &str) -> u64 {
        let is_known = tidecast_worker::Totals::SERIES.iter().any(|series| series.name == name);
        assert!(is_known, "nothing is counted as {name}");
        let words = self.0.trim_start_matches("stopped: ");
        let value = words
            .split(", ")
            .find_map(|word| word.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

/// A token to hand out, and the line that stands for it in a file, as the binary makes them.
pub fn handed_out() -> (String, String) {
    let printed = String::from_utf8(run(tidecast(&["token", "random"]), None).stdout).unwrap();
    let (token, line) = printed.trim().split_once('\n').expect("two lines");
    (token.to_owned(), line.to_owned())
}

/// A token to hand out, and its hash.
pub fn token_and_hash() -> (String, String) {
    let (token, line) = handed_out();
    let hash = line.trim_start_matches("hash = ").trim_matches('"');
    (token, hash.to_owned())
}

/// Runs a command to its end, within the deadline.
pub fn run(mut command: Command, input: Option<&[u8]>) -> Output {
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let Some(input) = input {
        // A command that ends without reading is judged by its exit code.
        let _ = child.stdin.take().expect("piped").write_all(input);
    }
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let errors = thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let deadline = Instant::now() + 4 * DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{command:?} did not end within {:?}", 4 * DEADLINE);
        }
        thread::park_timeout(Duration::from_millis(5));
    };
    Output {
        status,
        stdout: reader.join().unwrap(),
        stderr: errors.join().unwrap(),
    }
}

/// What an output said, for messages of failing tests.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A client of our library.
pub fn client(url: &str) -> Client {
    Client::connect(url, &Options::default()).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// The next text message.
pub fn text(client: &mut Client) -> String {
    match client.receive(Some(Instant::now() + DEADLINE)) {
        Ok(Some(Message::Text(text))) => text,
        other => panic!("expected a text message, got {other:?}"),
    }
}

/// A JSON connection that has been greeted.
pub fn json_client(broker: &Broker) -> Client {
    let mut json = client(&broker.ws("/ws"));
    let hello = text(&mut json);
    assert!(hello.starts_with(r#"["hello",{"session":"#), "{hello}");
    json
}

/// Says `command` and gives the answer.
pub fn ask(client: &mut Client, command: &str) -> String {
    client.send_text(command).unwrap();
    text(client)
}

/// A TCP connection that says bytes and reads bytes.
pub struct Peer(pub TcpStream);

impl Peer {
    pub fn connect(broker: &Broker) -> Peer {
        Peer::to(broker.address)
    }

    /// A connection to wherever.
    pub fn to(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer(stream)
    }

    /// Opens a WebSocket on `path` with the version's own handshake.
    pub fn open(broker: &Broker, path: &str, version: u8) -> Peer {
        let mut peer = Peer::connect(broker);
        peer.say(upgrade(path, &format!("Sec-WebSocket-Version: {version}\r\n")).as_bytes());
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        peer
    }

    pub fn say(&mut self, bytes: &[u8]) {
        // The broker may answer and close before it has read everything.
        if let Err(error) = self.0.write_all(bytes) {
            assert!(
                matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                "{error}"
            );
        }
    }

    /// Reads a response head, and not a byte more.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        String::from_utf8(head).unwrap()
    }

    pub fn hears(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.0
            .read_exact(&mut bytes)
            .unwrap_or_else(|error| panic!("{error}, expected {expected:02x?}"));
        assert_eq!(bytes, expected, "{bytes:02x?} is not {expected:02x?}");
    }

    /// Reads one unmasked frame: first byte and payload.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut read = |count: usize| {
            let mut bytes = vec![0; count];
            self.0.read_exact(&mut bytes).unwrap();
            bytes
        };
        let header = read(2);
        let len = match header[1] {
            126 => u16::from_be_bytes(read(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(read(8).try_into().unwrap()) as usize,
            short => usize::from(short),
        };
        (header[0], read(len))
    }

    /// Reads until the broker closes, which it does in order: a reset fails the test.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0
            .read_to_end(&mut bytes)
            .unwrap_or_else(|error| panic!("{error} after {} bytes", bytes.len()));
        bytes
    }
}

/// A handshake with everything but what `headers` has to add.
pub fn upgrade(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A masked frame; the key is as good as any.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Bytes from their hexadecimal digits, white space ignored.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
