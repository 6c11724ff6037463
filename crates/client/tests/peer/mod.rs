//! The server's end of one connection, by a script.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use tidecast_websocket::http::Request;
use tidecast_websocket::{
    Accept, Connection, Deflater, Event, Input, Limits, Millis, Opcode, Upgrade, Version, Versions,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The server's end of one connection, driven step by step.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) connection: Connection,
}

/// What a peer saw.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    End,
}

impl Peer {
    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut out = Vec::new();
        self.connection.send(opcode, payload, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let mut out = Vec::new();
        self.connection.close(code, reason, Millis(0), &mut out);
        self.stream.write_all(&out).unwrap();
    }

    /// The body of the Pong that the client says first.
    pub(crate) fn run_until_pong(&mut self) -> Vec<u8> {
        self.next(|event| match event {
            Event::Pong(body) => Some(body.to_vec()),
            _ => None,
        })
    }

    /// Waits for a Ping, which the connection answers.
    pub(crate) fn answer_ping(&mut self) {
        self.next(|event| matches!(event, Event::Ping(_)).then_some(()));
    }

    /// The next that the client says has to be of the kind that is `wanted`, and comes alone.
    fn next<T>(&mut self, wanted: impl Fn(&Event<'_>) -> Option<T>) -> T {
        let (mut buffer, mut out) = ([0; 256], Vec::new());
        let mut found = None;
        while found.is_none() {
            let count = self.stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "the client ended it");
            let mut input = Input::new(&mut buffer[..count]);
            while let Some(event) = self.connection.poll(&mut input, Millis(0), &mut out).unwrap() {
                let is_first = found.is_none();
                found = wanted(&event);
                assert!(is_first && found.is_some(), "{event:?}");
            }
        }
        self.stream.write_all(&out).unwrap();
        found.expect("just looked at")
    }

    /// Everything the client says until the end of the stream; `react` may answer.
    pub(crate) fn run(&mut self, mut react: impl FnMut(&mut Self, &Seen)) -> Vec<Seen> {
        let (mut all, mut buffer, mut out) = (Vec::new(), vec![0; 1 << 16], Vec::new());
        loop {
            let count = self.stream.read(&mut buffer).unwrap();
            if count == 0 {
                all.push(Seen::End);
                return all;
            }
            let mut input = Input::new(&mut buffer[..count]);
            let mut seen = Vec::new();
            while let Some(event) = self.connection.poll(&mut input, Millis(0), &mut out).unwrap() {
                seen.push(match event {
                    Event::Text(text) => Seen::Text(text.to_owned()),
                    Event::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                    Event::Ping(_) => continue,
                    Event::TextPart { .. } | Event::BinaryPart { .. } => unreachable!("parts are not asked for"),
                    Event::Pong(body) => Seen::Pong(body.to_vec()),
                    Event::Close { code, reason } => Seen::Close(code, reason.to_owned()),
                });
            }
            self.stream.write_all(&out).unwrap();
            out.clear();
            for event in seen {
                react(self, &event);
                let closed = matches!(event, Seen::Close(..));
                all.push(event);
                if closed {
                    self.stream.shutdown(std::net::Shutdown::Write).unwrap();
                }
            }
        }
    }
}

/// Accepts one TCP connection and hands it to `script`.
pub(crate) fn serve<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        script(stream)
    });
    (address, thread)
}

/// Accepts one WebSocket, sends `glued` together with the 101, and hands it and the request's head to `script`.
pub(crate) fn serve_websocket<T: Send + 'static>(
    glued: &'static [u8],
    script: impl FnOnce(Peer, String) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    serve(move |mut stream| {
        let head = read_head(&mut stream);
        let (request, _) = Request::parse(head.as_bytes(), 4096).unwrap().unwrap();
        let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
        let mut response = Vec::new();
        upgrade.write_response(upgrade.protocols().last(), &mut response);
        response.extend_from_slice(glued);
        stream.write_all(&response).unwrap();
        let connection = Connection::server(upgrade.version(), Limits::default(), Millis(0));
        script(Peer { stream, connection }, head.clone())
    })
}

pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("ws://{address}/ws")
}

/// Accepts one WebSocket that is compressed, and echoes its texts, which have to shrink to a tenth.
pub(crate) fn serve_compressed(version: Version) -> (SocketAddr, JoinHandle<()>) {
    serve(move |mut stream| {
        let head = read_head(&mut stream);
        let (request, _) = Request::parse(head.as_bytes(), 4096).unwrap().unwrap();
        let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
        let extension = upgrade.negotiate(&Accept::default()).unwrap();
        let mut response = Vec::new();
        upgrade.write_response_with(None, extension, &mut response);
        stream.write_all(&response).unwrap();
        let connection = Connection::server(version, Limits::default(), Millis(0)).with_extension(extension);
        let (mut peer, mut deflater) = (Peer { stream, connection }, Deflater::new(6, 0));
        peer.run(|peer, seen| {
            if let Seen::Text(text) = seen {
                let mut out = Vec::new();
                peer.connection
                    .send_deflated(Opcode::Text, text.as_bytes(), &mut deflater, &mut out);
                assert!(out.len() < text.len() / 10, "{} octets", out.len());
                peer.stream.write_all(&out).unwrap();
            }
        });
    })
}

/// A proxy that opens one tunnel and is itself what lies behind it: a server that greets with `hi`. Gives the request for
/// the tunnel.
pub(crate) fn serve_tunnel() -> (SocketAddr, JoinHandle<String>) {
    serve(|mut stream| {
        let connect = read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let head = read_head(&mut stream);
        let (request, _) = Request::parse(head.as_bytes(), 4096).unwrap().unwrap();
        let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
        let mut response = Vec::new();
        upgrade.write_response(None, &mut response);
        response.extend_from_slice(b"\x81\x02hi");
        stream.write_all(&response).unwrap();
        connect
    })
}

/// Reads one request and gives `answer` to it.
pub(crate) fn answer(answer: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    serve(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(answer).unwrap();
    })
}
