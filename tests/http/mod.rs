//! HTTP spoken to the broker's own port, octet by octet: requests on a connection that stays, and streams of events; and to its
//! control plane, one request on each connection.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::io::Read;
use std::net::SocketAddr;

use serde_json::Value;

use super::support::*;

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> &str {
        let code = self.body.strip_prefix(r#"{"error":{"code":""#);
        code.and_then(|rest| rest.split('"').next())
            .unwrap_or_else(|| panic!("no refusal: {self:?}"))
    }
}

/// A request with a body, whose length is said unless it is empty.
pub(crate) fn request(line: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}")
}

pub(crate) fn post(topic: &str, headers: &str, body: &str) -> String {
    request(&format!("POST /t/{topic}"), headers, body)
}

pub(crate) const TEXT: &str = "Content-Type: text/plain\r\n";

/// Sends a request on a connection of its own, with headers besides Host, and a body.
pub(crate) fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Peer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut peer = Peer::to(address);
    peer.say(format!("{request}\r\n{}", body.unwrap_or_default()).as_bytes());
    peer
}

/// The same, and what it is answered with.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Answer {
    open(address, method, path, headers, body).answer()
}

/// Asks for something in JSON.
pub(crate) fn get(address: SocketAddr, path: &str) -> Value {
    let answer = send(address, "GET", path, &[], None);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

/// Sends JSON.
pub(crate) fn send_json(address: SocketAddr, path: &str, body: &str) -> Answer {
    send(
        address,
        "POST",
        path,
        &[("Content-Type", "application/json")],
        Some(body),
    )
}

/// What a request on a connection of its own is answered with.
pub(crate) fn asked(broker: &Broker, request: &str) -> Answer {
    let mut peer = Peer::connect(broker);
    peer.say(request.as_bytes());
    peer.answer()
}

impl Peer {
    /// Reads the head of a response, and not a byte more.
    pub(crate) fn answer_head(&mut self) -> Answer {
        let head = self.head();
        Answer {
            status: head[9..12].parse().unwrap(),
            head,
            body: String::new(),
        }
    }

    /// Reads a response whose length is said, and not a byte more.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.answer_head();
        let length = answer
            .header("Content-Length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// Says a request and reads its answer.
    pub(crate) fn asks(&mut self, request: &str) -> Answer {
        self.say(request.as_bytes());
        self.answer()
    }
}

/// A stream of events that has begun.
pub(crate) struct Events {
    peer: Peer,
    pub(crate) head: String,
    /// Of the chunk at hand.
    rest: String,
}

impl Events {
    pub(crate) fn open(broker: &Broker, path: &str, headers: &str) -> Events {
        Events::of(Peer::connect(broker), path, headers)
    }

    pub(crate) fn of(mut peer: Peer, path: &str, headers: &str) -> Events {
        let headers = format!("Accept: text/event-stream\r\n{headers}");
        peer.say(request(&format!("GET {path}"), &headers, "").as_bytes());
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: text/event-stream\r\n"), "{head}");
        let mut events = Events {
            peer,
            head,
            rest: String::new(),
        };
        let retry = events.next().unwrap();
        assert!(retry.starts_with("retry: "), "{retry}");
        events
    }

    /// The connection that it has.
    pub(crate) fn into_peer(self) -> Peer {
        self.peer
    }

    /// The next event or comment, as it is written; nothing at the end.
    pub(crate) fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.rest = rest;
                return Some(event);
            }
            let mut size = String::new();
            while !size.ends_with("\r\n") {
                let mut byte = [0];
                self.peer.0.read_exact(&mut byte).unwrap();
                size.push(byte[0].into());
            }
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.peer.0.read_exact(&mut chunk).unwrap();
            assert!(chunk.ends_with(b"\r\n"));
            if size == 0 {
                assert_eq!(self.rest, "", "the last event is whole");
                return None;
            }
            self.rest += std::str::from_utf8(&chunk[..size]).unwrap();
        }
    }

    /// The next event that is no comment.
    pub(crate) fn event(&mut self) -> String {
        loop {
            let event = self.next().expect("the stream goes on");
            if event != ":" {
                return event;
            }
        }
    }

    /// Reads to the end, after which the broker closes: events, without comments.
    pub(crate) fn rest(mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.next())
            .filter(|event| event != ":")
            .collect();
        assert_eq!(self.peer.rest(), b"", "nothing follows the last chunk");
        events
    }
}
