//! What fuzz targets call: one function each, any octets in, a panic if a promise is broken.
//!
//! The first octets choose how the rest is cut into reads, so that every run also tests an arbitrary segmentation.

use crate::http::{Body, Request, percent_decode};
use crate::{
    Accept, ClientHandshake, ClientWindow, Connection, Deflater, Error, Event, Extension, InflatePool, Input, Limits,
    Millis, Offer, Opcode, Params, PerMessageOffer, State, Upgrade, Url, Version, Versions, encode_compressed_header,
};

const NOW: Millis = Millis(0);

/// Small enough that short inputs reach them.
const LIMITS: Limits = Limits {
    max_message: 4096,
    max_fragments: 8,
    max_control_per_second: 32,
    // The one limit that depends on how the input is cut; no input reaches it.
    max_inflate_ratio: u16::MAX,
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

/// A server hears the same in any deflated stream, however it is cut.
pub fn deflate_stream(input: &[u8]) {
    stream(input, |version| {
        Connection::server(version, LIMITS, NOW).with_extension(Some(Extension::DeflateStream))
    });
}

/// A server hears the same in any stream with compressed messages, however it is cut.
pub fn permessage_stream(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else {
        return;
    };
    let params = Params {
        client_no_context_takeover: choice & 1 != 0,
        ..Params::default()
    };
    stream(input, |version| {
        Connection::server(version, LIMITS, NOW).with_extension(Some(Extension::PerMessageDeflate(params)))
    });
    // The same in the frame of a compressed message, so that not all depends on guessing a header.
    let &[version, reads, ref rest @ ..] = input else {
        return;
    };
    let payload = &rest[usize::from(reads % 16).min(rest.len())..];
    let header = encode_compressed_header(Version::V13, Opcode::Text, true, payload.len(), Some([0; 4]));
    let framed = [
        &[version | 3, reads],
        &rest[..rest.len() - payload.len()],
        &header,
        payload,
    ]
    .concat();
    stream(&framed, |version| {
        Connection::server(version, LIMITS, NOW).with_extension(Some(Extension::PerMessageDeflate(params)))
    });
}

/// What is deflated for many is heard as it was, with either extension, whoever heard something before.
pub fn deflated(input: &[u8]) {
    let &[level, window_bits, ref payload @ ..] = input else {
        return;
    };
    let payload = &payload[..payload.len().min(LIMITS.max_message as usize)];
    let window_bits = 8 + window_bits % 8;
    let mut deflater = Deflater::new(level, 0);
    let params = Params {
        server_max_window_bits: Some(window_bits),
        ..Params::default()
    };
    for extension in [Extension::DeflateStream, Extension::PerMessageDeflate(params)] {
        let mut server = Connection::server(Version::V13, LIMITS, NOW).with_extension(Some(extension));
        let client = Connection::client(Version::V13, LIMITS, || [0; 4], NOW).with_extension(Some(extension));
        let mut octets = Vec::new();
        for _ in 0..2 {
            assert!(server.send_deflated(Opcode::Binary, payload, &mut deflater, &mut octets));
        }
        let said = format!("Binary({payload:?})");
        assert_eq!(hear(client, &octets, &[level]), (vec![said.clone(), said], None));
    }
}

/// A list of extensions is malformed or answered, with what a client that offered it accepts.
pub fn extensions(input: &[u8]) {
    let Some((&choice, value)) = input.split_first() else {
        return;
    };
    let accept = Accept {
        deflate_stream: Versions::ALL,
        permessage_deflate: Versions::ALL,
        client_context_takeover: choice & 1 != 0,
        server_context_takeover: choice & 2 != 0,
        max_client_window_bits: choice >> 2,
    };
    let Ok(value) = std::str::from_utf8(value) else {
        return;
    };
    let strict = accept.choose(Version::V13, [value].into_iter());
    let lenient = accept.choose(Version::V7, [value].into_iter());
    if let Ok(chosen) = strict {
        assert_eq!(lenient, Ok(chosen), "the versions differ only in what is malformed");
    }
    let Ok(Some(chosen)) = lenient else {
        return;
    };
    // Whoever may be told anything takes the answer.
    let offers = [
        Offer::DeflateStream,
        Offer::PerMessageDeflate(PerMessageOffer {
            client_max_window_bits: ClientWindow::Limitable,
            ..PerMessageOffer::default()
        }),
    ];
    let answer = chosen.to_string();
    let taken = crate::extension::check_answer(&offers, [&*answer].into_iter());
    assert_eq!(taken, Ok(Some(chosen)));
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
            Ok(upgrade) => {
                let extension = upgrade.negotiate(&Accept::default()).unwrap_or_default();
                upgrade.write_response_with(upgrade.protocols().next(), extension, &mut answer);
            }
            Err(error) => error.write_response(&mut answer),
        }
        assert!(answer.starts_with(b"HTTP/1.1 "));
    }
}

/// Requests with their bodies, one after the other, are read as the same however the stream is cut.
pub fn requests(input: &[u8]) {
    let Some((&piece, stream)) = input.split_first() else {
        return;
    };
    let whole = read_requests(stream, stream.len().max(1));
    assert_eq!(read_requests(stream, usize::from(piece % 16) + 1), whole);
    for body in whole.iter().flatten() {
        assert!(body.len() <= LIMITS.max_message as usize);
    }
}

/// The bodies of the requests in a stream that comes in pieces of so many octets; nothing, where one is refused.
fn read_requests(stream: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
    let (mut bodies, mut head) = (Vec::new(), Vec::new());
    let mut coming: Option<(Body, Vec<u8>)> = None;
    let limit = LIMITS.max_message as usize;
    for mut input in stream.chunks(piece) {
        while !input.is_empty() || coming.as_ref().is_some_and(|(body, _)| body.is_done()) {
            if let Some((body, octets)) = &mut coming {
                match body.read(input, octets) {
                    Ok(count) => input = &input[count..],
                    Err(_) => {
                        bodies.push(None);
                        return bodies;
                    }
                }
                if let Some((_, octets)) = coming.take_if(|(body, _)| body.is_done()) {
                    bodies.push(Some(octets));
                }
                continue;
            }
            let before = head.len();
            head.extend_from_slice(input);
            let begun = match Request::parse(&head, 4096) {
                Ok(None) => break,
                Ok(Some((request, length))) => request.body_length().map(|body| (body, length)).ok(),
                Err(_) => None,
            };
            let begun = begun.and_then(|(body, length)| Some((Body::new(body, limit).ok()?, length)));
            let Some((body, length)) = begun else {
                bodies.push(None);
                return bodies;
            };
            input = &input[length - before..];
            coming = Some((body, Vec::new()));
            head.clear();
        }
    }
    bodies
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
        extensions: &[Offer::DeflateStream],
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
    let parts = hear(connection(version).with_parts(), octets, sizes);
    assert_eq!(whole, parts);
}

/// The parts of a message that came so far.
#[derive(Default)]
struct Parts {
    text: String,
    payload: Vec<u8>,
}

impl Parts {
    /// What a whole event is told as; none as long as parts are missing.
    fn join(&mut self, event: Event<'_>) -> Option<String> {
        let (joined, last) = match event {
            Event::TextPart { text, last } => {
                self.text += text;
                (format!("{:?}", Event::Text(&self.text)), last)
            }
            Event::BinaryPart { payload, last } => {
                self.payload.extend(payload);
                (format!("{:?}", Event::Binary(&self.payload)), last)
            }
            whole => return Some(format!("{whole:?}")),
        };
        last.then(|| {
            *self = Self::default();
            joined
        })
    }
}

/// What is heard when `octets` come in reads of `sizes`, over and over; in one read if there are none.
fn hear(mut connection: Connection, octets: &[u8], sizes: &[u8]) -> (Vec<String>, Option<Error>) {
    let mut sizes = sizes.iter().map(|&size| usize::from(size).max(1)).cycle();
    let (mut heard, mut out) = (Vec::new(), Vec::new());
    let mut parts = Parts::default();
    let mut pool = InflatePool::new(1, 1);
    let mut rest = octets;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let (read, after) = rest.split_at(size);
        let mut read = read.to_vec();
        let mut input = Input::new(&mut read);
        loop {
            match connection.poll_pooled(&mut input, NOW, &mut pool, &mut out) {
                Ok(Some(event)) => heard.extend(parts.join(event)),
                Ok(None) => break assert_eq!(input.consumed(), size),
                Err(error) => {
                    connection.fail(&error, NOW, &mut out);
                    assert_eq!(connection.state(), State::Draining);
                    assert_eq!(pool.in_use(), 0);
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

    /// Blocks of deflated data: stored, fixed, final, broken.
    const BLOCKS: &[&[u8]] = &[
        b"\x00\x0b\x00\xf4\xff\x81\x85\0\0\0\0Hello",
        b"\x01\x0b\x00\xf4\xff\x81\x85\0\0\0\0Hello",
        b"\x6a\x6c\x35\xff\xa5\x68\x5b\x3f\xdf\x37\x30\x02\x00\x00\x00\xff\xff",
        b"\x6a\x44\x30\x01\x00\x00\x00\xff\xff",
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\xf2\x00\x11\x00\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00",
        b"\xc1\x87\0\0\0\0",
        b"\x41\x87\0\0\0\0",
        b"\x80\x87\0\0\0\0",
        b"\x00\x00\xff\xff",
        b"\x00\x00\x00\xff\xff",
        b"\x07",
    ];

    const OFFERS: &[&[u8]] = &[
        b"deflate-stream",
        b"permessage-deflate",
        b"x-unknown",
        b"; server_no_context_takeover",
        b"; client_no_context_takeover",
        b"; server_max_window_bits",
        b"; client_max_window_bits",
        b"=10",
        b"= \"1\\5\"",
        b"=\"",
        b", ",
        b";",
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

    const REQUESTS: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /t/a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /t/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /t/a HTTP/1.1\r\nContent-Length: 5000\r\n\r\n",
        b"POST /t/a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /t/a HTTP/1.1\nContent-Length: 5\r\n\r\n",
        b"5\r\nhello\r\n",
        b"0003;x=y\r\nabc\r\n",
        b"0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"fff\r\n",
        b"\r\n",
        b"\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn no_requests_break_a_promise(piece: u8, rest in vec(proptest::sample::select(REQUESTS), 0..12)) {
            super::requests(&[&[piece], &rest.concat()[..]].concat());
        }

        #[test]
        fn no_stream_breaks_a_promise(server in likely(FRAMES), client in likely(FRAMES)) {
            super::server_stream(&server);
            super::client_stream(&client);
        }

        #[test]
        fn no_deflated_stream_breaks_a_promise(stream in likely(BLOCKS), whole in likely(FRAMES), level: u8) {
            super::deflate_stream(&stream);
            super::permessage_stream(&stream);
            super::permessage_stream(&whole);
            super::deflated(&stream);
            // As a client would send it, so that what is inflated is frames.
            let start = stream.len().min(12);
            let mut deflated = stream[..start].to_vec();
            crate::Deflater::new(level, 0).block(&whole, 15, &mut deflated);
            super::deflate_stream(&deflated);
        }

        #[test]
        fn no_list_of_extensions_breaks_a_promise(list in likely(OFFERS)) {
            super::extensions(&list[list.len().min(8)..]);
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
