//! What fuzz targets call: one function each, any octets in, a panic if a promise is broken.
//!
//! The first octets choose how the rest is cut into reads, so that every run also tests an arbitrary segmentation.

use crate::http::{Request, percent_decode};
use crate::{ClientHandshake, Connection, Error, Input, Limits, Millis, State, Upgrade, Url, Version, Versions};

const NOW: Millis = Millis(0);

/// Small enough that short inputs reach them.
const LIMITS: Limits = Limits {
    max_message: 4096,
    max_fragments: 8,
    max_control_per_second: 32,
    max_inflate_ratio: 100,
};

/// A server hears the same in any stream, however it is cut.
pub fn server_stream(input: &[u8]) {
    stream(input, |version| Connection::server(version, LIMITS, NOW));
}

/// A client hears the same in any stream, however it is cut.
pub fn client_stream(input: &[u8]) {
    stream(input, |version| {
        Connection::client(version, LIMITS, || [0x37, 0xfa, 0x21, 0x3d], NOW)
    });
}

/// A request head is found where it ends, and every one is answered.
pub fn request(input: &[u8]) {
    let Some((&cut, head)) = input.split_first() else {
        return;
    };
    if let Ok(Some((request, length))) = Request::parse(head, 4096) {
        let cut = usize::from(cut) % length;
        assert!(matches!(Request::parse(&head[..cut], 4096), Ok(None)));
        assert!(request.path() == "/" || request.target().contains(request.path()));
        for part in request.query().flat_map(|(name, value)| [name, value]) {
            assert!(percent_decode(part).is_none_or(|decoded| decoded.len() <= part.len()));
        }
        let mut answer = Vec::new();
        match Upgrade::from_request(&request, Versions::ALL) {
            Ok(upgrade) => upgrade.write_response(upgrade.protocols().next(), &mut answer),
            Err(error) => error.write_response(&mut answer),
        }
        assert!(answer.starts_with(b"HTTP/1.1 "));
    }
}

/// A response head is found where it ends, and only a good one is accepted.
pub fn response(input: &[u8]) {
    let Some((&cut, head)) = input.split_first() else {
        return;
    };
    let url = Url::parse("ws://example.com/chat").expect("a good URL");
    let handshake = ClientHandshake {
        url: &url,
        version: Version::V13,
        key: *b"the sample nonce",
        protocols: &["chat"],
        extensions: &[],
        origin: None,
        headers: &[],
    };
    if let Ok(Some((accepted, length))) = handshake.check_response(head) {
        assert!(accepted.protocol.is_none_or(|chosen| chosen == "chat"));
        let cut = usize::from(cut) % length;
        assert_eq!(handshake.check_response(&head[..cut]), Ok(None));
    }
}

/// Splits `input` into a version, the sizes of reads, and a stream, which must be heard alike whole and cut.
fn stream(input: &[u8], connection: impl Fn(Version) -> Connection) {
    let &[version, reads, ref rest @ ..] = input else {
        return;
    };
    let version = Version::ALL[usize::from(version) % Version::ALL.len()];
    let (sizes, octets) = rest.split_at(rest.len().min(usize::from(reads % 16)));
    let whole = hear(connection(version), octets, &[]);
    let cut = hear(connection(version), octets, sizes);
    assert_eq!(whole, cut);
}

/// What is heard when `octets` come in reads of `sizes`, over and over; in one read if there are none.
fn hear(mut connection: Connection, octets: &[u8], sizes: &[u8]) -> (Vec<String>, Option<Error>) {
    let mut sizes = sizes.iter().map(|&size| usize::from(size).max(1)).cycle();
    let (mut heard, mut out) = (Vec::new(), Vec::new());
    let mut rest = octets;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let (read, after) = rest.split_at(size);
        let mut read = read.to_vec();
        let mut input = Input::new(&mut read);
        loop {
            match connection.poll(&mut input, NOW, &mut out) {
                Ok(Some(event)) => heard.push(format!("{event:?}")),
                Ok(None) => break assert_eq!(input.consumed(), size),
                Err(error) => {
                    connection.fail(&error, NOW, &mut out);
                    assert_eq!(connection.state(), State::Draining);
                    return (heard, Some(error));
                }
            }
        }
        rest = after;
    }
    (heard, None)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Octets that are often the start of something.
    fn likely(pieces: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => proptest::sample::select(pieces).prop_map(<[u8]>::to_vec),
            1 => vec(any::<u8>(), 0..8),
        ];
        (vec(any::<u8>(), 1..20), vec(piece, 0..24)).prop_map(|(start, pieces)| [start, pieces.concat()].concat())
    }

    const FRAMES: &[&[u8]] = &[
        b"\x81\x85\0\0\0\0Hello",
        b"\x81\x05Hello",
        b"\x01\x82\0\0\0\0\xe2\x82",
        b"\x01\x02\xe2\x82",
        b"\x80\x81\0\0\0\0\xac",
        b"\x80\x01\xac",
        b"\x00\x80\0\0\0\0",
        b"\x00\x00",
        b"\x89\x81\0\0\0\0?",
        b"\x89\x01?",
        b"\x82\xfe\0\x80",
        b"\x82\x7e\0\x80",
        b"\x88\x82\0\0\0\0\x03\xe8",
        b"\x88\x02\x03\xe8",
        b"\0\0\0\0\x84\x05Hello",
        b"\0\0\0\0\x04\x02\xe2\x82",
        b"\0\0\0\0\x80\x01\xac",
        b"\x37\xfa\x21\x3d\xb5\xff\x69\x58\x5b\x96\x4e",
    ];

    const LINES: &[&[u8]] = &[
        b"GET /t/a%2Fb?since=all HTTP/1.1\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 404 Not Found\r\n",
        b"Host: example.com\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: Upgrade\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        b"Sec-WebSocket-Version: 13\r\n",
        b"Sec-WebSocket-Version: 7\r\n",
        b"Sec-WebSocket-Protocol: chat\r\n",
        b"Sec-WebSocket-Extensions: deflate-stream\r\n",
        b"\r\n",
        b"%",
        b"/",
        b"?",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn no_stream_breaks_a_promise(server in likely(FRAMES), client in likely(FRAMES)) {
            super::server_stream(&server);
            super::client_stream(&client);
        }

        #[test]
        fn no_head_breaks_a_promise(mut head in likely(LINES)) {
            // The octets before the first line serve as the cut, which takes one.
            head.drain(1..head.len().min(20));
            super::request(&head);
            super::response(&head);
        }
    }
}
