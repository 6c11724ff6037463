//! Protocols whose packets know nothing of the messages they come in, against a server that cuts them wherever it likes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidecast_bench::{Extent, Load, Plan, Protocol, Scenario, run};
use tidecast_websocket::http::Request;
use tidecast_websocket::{Connection, Event, Input, Limits, Millis, Opcode, Upgrade, Version, Versions, encode_frame};

type Subscribers = Arc<Mutex<Vec<TcpStream>>>;

/// A server of NATS for one subject, whose messages have one, two, … up to `most` octets, then one again.
fn nats(most: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let subscribers = Subscribers::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let subscribers = Arc::clone(&subscribers);
            std::thread::spawn(move || serve(stream.unwrap(), most, &subscribers));
        }
    });
    url
}

/// `bytes` as frames, cut as the server does.
fn cut(bytes: &[u8], most: usize) -> Vec<u8> {
    let (mut frames, mut rest, mut size) = (Vec::new(), bytes, 1);
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(size.min(rest.len()));
        encode_frame(Version::V13, Opcode::Binary, head, None, &mut frames);
        (rest, size) = (tail, size % most + 1);
    }
    frames
}

fn serve(mut stream: TcpStream, most: usize, subscribers: &Subscribers) {
    let (mut buffer, mut received) = (vec![0; 1 << 16], Vec::new());
    let head = loop {
        let count = stream.read(&mut buffer).unwrap();
        received.extend_from_slice(&buffer[..count]);
        if let Some((request, head)) = Request::parse(&received, 4096).unwrap() {
            let mut response = Vec::new();
            Upgrade::from_request(&request, Versions::ALL)
                .unwrap()
                .write_response(None, &mut response);
            stream.write_all(&response).unwrap();
            break head;
        }
    };
    stream
        .write_all(&cut(b"INFO {\"server_id\":\"double\"}\r\n", most))
        .unwrap();
    let mut connection = Connection::server(Version::V13, Limits::default(), Millis(0));
    let (mut frames, mut said) = (received[head..].to_vec(), Vec::new());
    loop {
        let (mut out, mut closed) = (Vec::new(), false);
        let mut input = Input::new(&mut frames);
        while let Some(event) = connection.poll(&mut input, Millis(0), &mut out).unwrap() {
            match event {
                Event::Binary(bytes) => said.extend_from_slice(bytes),
                Event::Close { .. } => closed = true,
                _ => {}
            }
        }
        while let Some(end) = said.windows(2).position(|pair| pair == b"\r\n") {
            let line = String::from_utf8(said[..end].to_vec()).unwrap();
            let words: Vec<_> = line.split(' ').collect();
            let mut taken = end + 2;
            match words[0] {
                "SUB" => subscribers.lock().unwrap().push(stream.try_clone().unwrap()),
                "PING" => out.extend(cut(b"PONG\r\n", most)),
                "PUB" => {
                    let size: usize = words[2].parse().unwrap();
                    let Some(payload) = said[taken..].get(..size + 2) else {
                        break;
                    };
                    let mut message = format!("MSG {} 1 {size}\r\n", words[1]).into_bytes();
                    message.extend_from_slice(payload);
                    taken += size + 2;
                    // A ping between messages is to be answered, and is no delivery.
                    message.extend_from_slice(b"PING\r\n");
                    for subscriber in &mut *subscribers.lock().unwrap() {
                        subscriber.write_all(&cut(&message, most)).unwrap();
                    }
                }
                "CONNECT" | "PONG" => {}
                other => panic!("{other:?} is not expected"),
            }
            said.drain(..taken);
        }
        if closed {
            subscribers
                .lock()
                .unwrap()
                .retain(|other| other.peer_addr().ok() != stream.peer_addr().ok());
        }
        // Whoever has closed may be gone.
        let _ = stream.write_all(&out);
        if closed {
            let _ = stream.shutdown(Shutdown::Write);
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => frames = buffer[..count].to_vec(),
        }
    }
}

#[test]
fn packets_are_read_wherever_messages_cut_them() {
    for most in [1, 2, 7, 40, 1000] {
        let plan = Plan {
            url: nats(most),
            protocol: Protocol::Nats,
            scenario: Scenario::Fanout {
                publishers: 1,
                subscribers: 3,
            },
            size: 100,
            load: Load::Window(4),
            extent: Extent::Count(50),
            stall: Duration::from_secs(5),
            ..Plan::default()
        };
        let report = run(&plan, |_| {}).unwrap_or_else(|error| panic!("{most}: {error}"));
        assert!(report.is_good(), "{most}: {report}");
        assert_eq!((report.deliveries, report.foreign), (150, 0), "{most}");
    }
}
