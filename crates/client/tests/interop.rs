//! Both faces of the client against servers that nobody here wrote. `tests/setup.sh` installs them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "tokio")]
use tidecast_client::asynchronous;
use tidecast_client::{Client, Compression, Error, Message, Options, code};

/// What anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(30);

/// How the servers in `tests/interop` are run.
const SERVERS: [(&str, &str); 2] = [("node", "ws_server.mjs"), (".venv/bin/python", "websockets_server.py")];

/// A server, killed by its pid when dropped.
struct Server {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
    port: String,
}

impl Server {
    fn start((program, script): (&'static str, &'static str)) -> Server {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop");
        let path = if program.contains('/') {
            folder.join(program)
        } else {
            program.into()
        };
        let mut child = Command::new(path)
            .arg(script)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} (installed by tests/setup.sh): {error}"));
        let out = child.stdout.take().expect("piped");
        let (heard, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // The test may be over.
                let _ = heard.send(line);
            }
        });
        let mut server = Server {
            name: script,
            child,
            lines,
            port: String::new(),
        };
        server.port = server.next("listening").remove(0);
        server
    }

    fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    /// What follows `verb` in the next line that begins with it.
    fn next(&self, verb: &str) -> Vec<String> {
        self.next_while(verb, || thread::park_timeout(Duration::from_millis(1)))
    }

    /// The same, doing something again and again until the line is there.
    fn next_while(&self, verb: &str, mut meanwhile: impl FnMut()) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.try_recv() {
                Ok(line) => {
                    let mut words = line.split('\t').map(str::to_owned);
                    if words.next().as_deref() == Some(verb) {
                        return words.collect();
                    }
                }
                Err(TryRecvError::Empty) if Instant::now() < deadline => meanwhile(),
                Err(error) => panic!("{} (installed by tests/setup.sh) said no {verb}: {error}", self.name),
            }
        }
    }

    /// The code and the reason of the Close that it got, and how many bytes it read in all.
    fn closed(&self) -> (u16, String, usize) {
        match &*self.next("close") {
            [code, reason, bytes] => (code.parse().unwrap(), reason.clone(), bytes.parse().unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, or not to be waited for: either way nothing of it stays.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client by either face.
enum Face {
    Blocking(Client),
    #[cfg(feature = "tokio")]
    Asynchronous(tokio::runtime::Runtime, asynchronous::Client),
}

type Connect = fn(&str, &Options) -> Result<Face, Error>;

const FACES: &[Connect] = &[
    |url, options| Client::connect(url, options).map(Face::Blocking),
    #[cfg(feature = "tokio")]
    |url, options| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(asynchronous::Client::connect(url, options))?;
        Ok(Face::Asynchronous(runtime, client))
    },
];

/// Runs `body` on the client, by either face.
macro_rules! on {
    ($face:expr, $client:ident => $method:ident($($argument:expr),*)) => {
        match $face {
            Face::Blocking($client) => $client.$method($($argument),*),
            #[cfg(feature = "tokio")]
            Face::Asynchronous(runtime, $client) => runtime.block_on($client.$method($($argument),*)),
        }
    };
}

impl Face {
    fn send(&mut self, message: &Message) {
        match message {
            Message::Text(text) => on!(self, client => send_text(text)),
            Message::Binary(bytes) => on!(self, client => send_binary(bytes)),
        }
        .unwrap();
    }

    fn say(&mut self, text: &str) {
        self.send(&Message::Text(text.to_owned()));
    }

    fn receive_until(&mut self, deadline: Instant) -> Result<Option<Message>, Error> {
        on!(self, client => receive(Some(deadline)))
    }

    fn receive(&mut self) -> Result<Message, Error> {
        let message = self.receive_until(Instant::now() + DEADLINE)?;
        Ok(message.expect("a message in time"))
    }

    fn close(self, code: u16, reason: &str) {
        on!(self, client => close(code, reason)).unwrap();
    }

    fn is_compressed(&self) -> bool {
        match self {
            Face::Blocking(client) => client.is_compressed(),
            #[cfg(feature = "tokio")]
            Face::Asynchronous(_, client) => client.is_compressed(),
        }
    }

    fn protocol(&self) -> Option<&str> {
        match self {
            Face::Blocking(client) => client.protocol(),
            #[cfg(feature = "tokio")]
            Face::Asynchronous(_, client) => client.protocol(),
        }
    }
}

/// Every server with every face.
fn everyone(mut story: impl FnMut(&Server, Connect)) {
    for server in SERVERS.map(Server::start) {
        for &connect in FACES {
            story(&server, connect);
        }
    }
}

/// A text and a binary message of `size` bytes. Half of them repeats what came at some distance before, so that windows of
/// all sizes have something to find, and something that is too far back.
fn messages(size: usize) -> [Message; 2] {
    let mut state = 0x9e37_79b9_u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(size + 64);
    while bytes.len() < size {
        let length = 1 + random() % 64;
        if random() % 2 == 0 && bytes.len() > 64 {
            // From near to far, up to beyond the largest window.
            let most = (64 << (random() % 11)).min(bytes.len());
            let start = bytes.len() - (64 + random() % (most - 63)).min(bytes.len());
            bytes.extend_from_within(start..start + length);
        } else {
            bytes.extend((0..length).map(|_| random() as u8));
        }
    }
    bytes.truncate(size);
    // One letter per byte, so that the size is that of the bytes too.
    let text = bytes.iter().map(|byte| char::from(b' ' + byte % 64)).collect();
    [Message::Text(text), Message::Binary(bytes)]
}

const SIZES: [usize; 8] = [0, 1, 125, 126, 65_535, 65_536, 300_000, 1 << 20];

fn compressed(context_takeover: bool) -> Options {
    Options {
        compression: Some(Compression {
            min_payload: 0,
            context_takeover,
            ..Compression::default()
        }),
        ..Options::default()
    }
}

#[test]
fn messages_of_every_kind_and_size_come_back_whole_and_from_fragments() {
    everyone(|server, connect| {
        for (path, options) in [
            ("/echo", Options::default()),
            ("/echo?parts=3", Options::default()),
            ("/echo?deflate=on", compressed(false)),
            ("/echo?deflate=on&parts=3", compressed(false)),
        ] {
            let mut client = connect(&server.url(path), &options).unwrap();
            assert_eq!(client.is_compressed(), options.compression.is_some());
            for message in SIZES.into_iter().flat_map(messages) {
                client.send(&message);
                assert!(client.receive().unwrap() == message, "{}, {path}", server.name);
                if path.contains("parts") {
                    assert_eq!(
                        server.next("pong"),
                        ["between"],
                        "the Ping amid the fragments is answered"
                    );
                }
            }
            client.close(code::NORMAL, "");
            let (code, _, _) = server.closed();
            assert_eq!(code, 1000, "{}, {path}", server.name);
        }
    });
}

#[test]
fn compressed_messages_fit_every_window_with_and_without_what_came_before() {
    let answers = [
        "".to_owned(),
        ",server_no_context_takeover".to_owned(),
        ",client_no_context_takeover".to_owned(),
        ",server_no_context_takeover,client_no_context_takeover".to_owned(),
    ];
    let windows = (9..=15).map(|bits| format!(",server_max_window_bits:{bits},client_max_window_bits:{bits}"));
    let answers: Vec<_> = answers.into_iter().chain(windows).collect();
    everyone(|server, connect| {
        for (answer, context_takeover) in answers.iter().flat_map(|answer| [(answer, false), (answer, true)]) {
            let url = server.url(&format!("/echo?deflate=on{answer}"));
            let mut client = connect(&url, &compressed(context_takeover)).unwrap();
            let agreed = &server.next("open")[1];
            for item in answer.split(',').skip(1) {
                assert!(agreed.contains(&item.replace(':', "=")), "{}: {agreed}", server.name);
            }
            let forbidden = !context_takeover || answer.contains("client_no_context_takeover");
            assert_eq!(agreed.contains("client_no_context_takeover"), forbidden, "{agreed}");
            for message in [100, 0, 70_000, 100, 70_000].into_iter().flat_map(messages) {
                client.send(&message);
                assert!(client.receive().unwrap() == message, "{}, {agreed}", server.name);
            }
            client.close(code::NORMAL, "");
            assert_eq!(server.closed().0, 1000, "{}, {agreed}", server.name);
        }
    });
}

#[test]
fn what_repeats_an_earlier_message_is_sent_small_where_that_may_be_referred_to() {
    const MESSAGES: usize = 20;
    everyone(|server, connect| {
        let sent = |answer: &str, context_takeover| {
            let url = server.url(&format!("/echo?deflate=on{answer}"));
            let mut client = connect(&url, &compressed(context_takeover)).unwrap();
            let [_, message] = messages(1000);
            for _ in 0..MESSAGES {
                client.send(&message);
                assert_eq!(client.receive().unwrap(), message);
            }
            client.close(code::NORMAL, "");
            server.closed().2
        };
        let each_for_itself = sent("", false);
        assert!(sent("", true) * 4 < each_for_itself, "{}", server.name);
        // Where the server does not want to keep a window, nothing is referred to.
        let forbidden = sent(",client_no_context_takeover", true);
        assert!(
            forbidden.abs_diff(each_for_itself) < 200,
            "{forbidden} and {each_for_itself}"
        );
    });
}

#[test]
fn pings_are_answered_in_both_directions() {
    everyone(|server, connect| {
        let mut client = connect(&server.url("/ping"), &Options::default()).unwrap();
        for body in ["", "hello", &"x".repeat(125)] {
            client.say(body);
            assert_eq!(client.receive().unwrap(), Message::Text(format!("pong {body}")));
        }
        client.close(code::NORMAL, "");

        let options = Options {
            keep_alive: Some(Duration::from_millis(400)),
            ..Options::default()
        };
        let mut client = connect(&server.url("/echo"), &options).unwrap();
        // The second comes only if the first was answered.
        for _ in 0..2 {
            let body = server.next_while("ping", || {
                let moment = Instant::now() + Duration::from_millis(20);
                assert!(client.receive_until(moment).unwrap().is_none());
            });
            assert_eq!(body[0].len(), 2 * 4, "four bytes in hexadecimal");
        }
        client.say("still there");
        assert_eq!(client.receive().unwrap(), Message::Text("still there".into()));
        client.close(code::NORMAL, "");
    });
}

#[test]
fn the_subprotocol_that_the_server_chooses_is_known() {
    let options = Options {
        protocols: ["a", "b", "tidecast.json.v1"].map(str::to_owned).into(),
        ..Options::default()
    };
    everyone(|server, connect| {
        for (query, chosen) in [
            ("?protocol=b", Some("b")),
            ("?protocol=tidecast.json.v1", Some("tidecast.json.v1")),
            ("", None),
        ] {
            let client = connect(&server.url(&format!("/echo{query}")), &options).unwrap();
            assert_eq!(client.protocol(), chosen, "{}", server.name);
            assert_eq!(server.next("open")[0], chosen.unwrap_or_default(), "{}", server.name);
            client.close(code::NORMAL, "");
        }
    });
}

#[test]
fn the_code_and_the_reason_of_a_close_reach_the_other_end() {
    let longest = "\u{df}".repeat(61);
    let closes = [
        (1000, "done"),
        (1001, ""),
        (1011, "genug f\u{fc}r heute"),
        (3000, "x"),
        (4001, "draining"),
        (4999, &longest),
    ];
    everyone(|server, connect| {
        for (code, reason) in closes {
            let mut client = connect(&server.url("/close"), &Options::default()).unwrap();
            client.say(&format!("{code} {reason}"));
            match client.receive() {
                Err(Error::Closed {
                    code: Some(told),
                    reason: why,
                }) => assert_eq!((told, &*why), (code, reason)),
                other => panic!("{}: {other:?}", server.name),
            }
            assert_eq!(server.closed().0, code, "{}: the answer has the same code", server.name);

            let client = connect(&server.url("/echo"), &Options::default()).unwrap();
            client.close(code, reason);
            let (told, why, _) = server.closed();
            assert_eq!((told, &*why), (code, reason), "{}", server.name);
        }
    });
}

#[test]
fn a_refusal_says_what_the_server_wants() {
    everyone(|server, connect| {
        let refusal = |status: u16| {
            let url = server.url(&format!("/status/{status}"));
            let error = connect(&url, &Options::default()).err().expect("refused");
            assert!(error.is_connect(), "{error}");
            error
        };
        match refusal(401) {
            Error::Unauthorized { challenge, .. } => {
                assert_eq!(
                    challenge.as_deref(),
                    Some("Bearer realm=\"interop\""),
                    "{}",
                    server.name
                );
            }
            other => panic!("{}: {other}", server.name),
        }
        match refusal(302) {
            Error::Redirected {
                status: 302, location, ..
            } => {
                assert_eq!(
                    location.as_deref(),
                    Some("ws://elsewhere.example/ws"),
                    "{}",
                    server.name
                );
            }
            other => panic!("{}: {other}", server.name),
        }
        for refused in [404, 503] {
            match refusal(refused) {
                Error::Refused { status, excerpt, .. } => {
                    assert_eq!(
                        (status, excerpt),
                        (refused, format!("refused with {refused}")),
                        "{}",
                        server.name
                    );
                }
                other => panic!("{}: {other}", server.name),
            }
        }
    });
}
