// A broker small enough to be a test's: it greets, confirms, delivers what is published to whoever published it and is
// subscribed to that topic or to a filter that ends with a wildcard, and does as it is told by certain topics.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidecast_client::wire::{Code, Command, json};
use tidecast_websocket::http::Request;
use tidecast_websocket::{Connection, Event as Heard, Input, Limits, Millis, Opcode, Upgrade, Versions};

/// Its threads end with the connections.
pub(crate) struct Double {
    url: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Double {
    /// Publishing here has the stream end without a Close.
    pub(crate) const DROP: &'static str = "double/drop";
    /// Publishing here has it say `bye` with the code that is the payload and close with it.
    pub(crate) const BYE: &'static str = "double/bye";
    /// This is refused in any command, and as a filter from the second connection on only.
    pub(crate) const FORBIDDEN: &'static str = "double/forbidden";
    /// How long its `bye` asks to be left alone, in milliseconds.
    pub(crate) const RETRY_MS: u64 = 30;
    /// The largest message it says it takes.
    pub(crate) const MAX_MESSAGE: u64 = 4096;

    pub(crate) fn start() -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let remember = Arc::clone(&said);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let said = Arc::clone(&remember);
                // The client may be gone at any time, which is for its test to judge.
                std::thread::spawn(move || serve(stream.unwrap(), number, &said));
            }
        });
        Double { url, said }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Every message so far, in the order they came.
    #[allow(dead_code, reason = "the doc tests do not look")]
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, number: usize, said: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let (request, _) = Request::parse(&head, 4096).unwrap().unwrap();
    let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
    let mut out = Vec::new();
    upgrade.write_response(upgrade.protocols().next(), &mut out);
    let mut connection = Connection::server(upgrade.version(), Limits::default(), Millis(0));
    let mut hello = Vec::new();
    json::hello(&mut hello, &format!("s{number}"), Double::MAX_MESSAGE, 25_000);
    connection.send(Opcode::Text, &hello, &mut out);
    let (mut filters, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        stream.write_all(&out)?;
        out.clear();
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let (mut texts, mut closed) = (Vec::new(), false);
        let mut input = Input::new(&mut buffer[..count]);
        while let Some(event) = connection.poll(&mut input, Millis(0), &mut out).unwrap() {
            match event {
                Heard::Text(text) => texts.push(text.to_owned()),
                Heard::Close { .. } => closed = true,
                _ => {}
            }
        }
        for text in texts {
            said.lock().unwrap().push(text.clone());
            let command = json::parse(&text).unwrap();
            match &command {
                Command::Pub { topic, .. } if topic == Double::DROP => return stream.shutdown(Shutdown::Both),
                Command::Pub { topic, payload, .. } if topic == Double::BYE => {
                    let code = str::from_utf8(&payload.bytes).unwrap().parse().unwrap();
                    let mut bye = Vec::new();
                    json::bye(&mut bye, code, "as you say", Double::RETRY_MS);
                    connection.send(Opcode::Text, &bye, &mut out);
                    connection.close(code, "as you say", Millis(0), &mut out);
                }
                command => {
                    for answer in answer(command, number, &mut filters) {
                        connection.send(Opcode::Text, &answer, &mut out);
                    }
                }
            }
        }
        if closed {
            stream.write_all(&out)?;
            out.clear();
            stream.shutdown(Shutdown::Write)?;
        }
    }
}

fn answer(command: &Command<'_>, number: usize, filters: &mut Vec<String>) -> Vec<Vec<u8>> {
    let (mut delivery, mut reply) = (Vec::new(), Vec::new());
    let refused = match command {
        Command::Sub { filter, .. } => {
            filters.push(filter.to_string());
            number > 0 && filter == Double::FORBIDDEN
        }
        Command::Unsub { filter, .. } => {
            filters.retain(|held| held != filter);
            false
        }
        Command::Pub { topic, payload, .. } => {
            let matches = |filter: &String| match filter.strip_suffix(['+', '#']) {
                Some(start) => topic.starts_with(start),
                None => filter == topic,
            };
            if filters.iter().any(matches) {
                json::message(&mut delivery, topic, payload.kind, &payload.bytes, None);
            }
            topic == Double::FORBIDDEN
        }
        Command::Auth { .. } | Command::Ping => false,
    };
    match command.reference() {
        reference if refused => json::err(&mut reply, reference, Code::Forbidden, "not you"),
        Some(reference) => json::ok(&mut reply, reference, None),
        None => {}
    }
    [delivery, reply].into_iter().filter(|text| !text.is_empty()).collect()
}
