//! A stand-in for the broker, for tests of the subcommands: it greets, remembers what it is told, and answers as the test
//! says.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidecast_client::wire::json;
use tidecast_websocket::http::Request;
use tidecast_websocket::{Connection, Event, Input, Limits, Millis, Opcode, Upgrade, Versions};

pub(crate) struct Double {
    url: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Double {
    /// What `answer` gives to have the connection closed with 4001.
    pub(crate) const CLOSE: &'static str = "close";
    /// The largest message it says it takes.
    const MAX_MESSAGE: u64 = 65_536;

    /// Starts one whose threads end with the connections. `answer` gets each message, and the list its answers go to.
    pub(crate) fn start(answer: impl Fn(&str, &mut Vec<String>) + Send + Sync + 'static) -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (answer, remember) = (Arc::new(answer), Arc::clone(&said));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, remember) = (Arc::clone(&answer), Arc::clone(&remember));
                std::thread::spawn(move || serve(stream.unwrap(), &*answer, &remember));
            }
        });
        Double { url, said }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Every message so far, in the order they came.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// The `ref` of a command.
    pub(crate) fn reference(text: &str) -> String {
        let command = json::parse(text).unwrap();
        command.reference().expect("a ref").as_json().to_owned()
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&str, &mut Vec<String>), said: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut buffer, mut received) = (vec![0; 1 << 16], Vec::new());
    let mut out = Vec::new();
    let (mut connection, mut rest) = loop {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the client went away during the handshake");
        received.extend_from_slice(&buffer[..count]);
        if let Some((request, head)) = Request::parse(&received, 4096).unwrap() {
            let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
            upgrade.write_response(upgrade.protocols().next(), &mut out);
            break (
                Connection::server(upgrade.version(), Limits::default(), Millis(0)),
                received[head..].to_vec(),
            );
        }
    };
    let mut answers = Vec::new();
    json::hello(&mut answers, "s", Double::MAX_MESSAGE, 25_000);
    connection.send(Opcode::Text, &answers, &mut out);
    loop {
        let mut texts = Vec::new();
        let mut input = Input::new(&mut rest);
        let mut closed = false;
        while let Some(event) = connection.poll(&mut input, Millis(0), &mut out).unwrap() {
            match event {
                Event::Text(text) => texts.push(text.to_owned()),
                Event::Close { .. } => closed = true,
                _ => {}
            }
        }
        for text in texts {
            let mut answers = Vec::new();
            answer(&text, &mut answers);
            said.lock().unwrap().push(text);
            for answer in answers {
                if answer == Double::CLOSE {
                    connection.close(4001, "draining", Millis(0), &mut out);
                } else {
                    connection.send(Opcode::Text, answer.as_bytes(), &mut out);
                }
            }
        }
        // The client may be gone already, which is for its test to judge.
        if stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
        if closed {
            let _ = stream.shutdown(Shutdown::Write);
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => rest = buffer[..count].to_vec(),
        }
    }
}
