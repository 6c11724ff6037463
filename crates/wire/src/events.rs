//! The encoding of server-sent events, as browsers' `EventSource` reads it ([HTML, section 9.2]): lines of `field: value`, an
//! empty line after each event.
//!
//! [HTML, section 9.2]: https://html.spec.whatwg.org/multipage/server-sent-events.html

use base64::Engine;

use crate::command::Kind;
use crate::json::{self, BASE64};

/// The media type of a stream of events.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// What is said so that nobody on the way takes the stream for dead: a comment, which clients pass over.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// Appends a delivery: the payload as it is, in as many `data` lines as it has lines. One of kind `binary` is an event
/// `binary`, in base64.
///
/// A line of a text may end with LF, CR or both; a client puts LF in the place of each.
pub fn message(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    // Most have one line.
    out.reserve(payload.len() + payload.len() / 3 + 32);
    if kind == Kind::Binary {
        out.extend_from_slice(b"event: binary\ndata: ");
        let start = out.len();
        let room = base64::encoded_len(payload.len(), true).expect("a payload in memory has an encoding that can be");
        out.resize(start + room, 0);
        let written = BASE64
            .encode_slice(payload, &mut out[start..])
            .expect("the room was measured for it");
        out.truncate(start + written);
        out.extend_from_slice(b"\n\n");
        return;
    }
    let mut rest = payload;
    loop {
        out.extend_from_slice(b"data: ");
        let Some(end) = rest.iter().position(|octet| matches!(octet, b'\n' | b'\r')) else {
            break;
        };
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        let is_both = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(is_both)..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\n\n");
}

/// Appends how many milliseconds a client is to wait before it comes back, should the stream end.
pub fn retry(out: &mut Vec<u8>, retry_ms: u64) {
    out.extend_from_slice(format!("retry: {retry_ms}\n\n").as_bytes());
}

/// Appends the announcement of the end, an event `bye`: the close code that a WebSocket would be closed with, the reason, and how
/// many milliseconds to wait before coming back.
pub fn bye(out: &mut Vec<u8>, code: u16, text: &str, retry_ms: u64) {
    out.extend_from_slice(format!("retry: {retry_ms}\nevent: bye\ndata: ").as_bytes());
    json::bye_object(out, code, text, retry_ms);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// What a client makes of one event that has data.
    fn heard(event: &str) -> String {
        let lines = event
            .strip_suffix("\n\n")
            .expect("an event ends with an empty line")
            .lines();
        let data: Vec<&str> = lines.map(|line| line.strip_prefix("data: ").expect(line)).collect();
        data.join("\n")
    }

    #[test]
    fn a_payload_is_heard_line_by_line_as_it_was_published() {
        for payload in [
            "",
            "a",
            " a ",
            "a\n",
            "\na\n\nb",
            "{\n  \"a\": 1\n}",
            ": no comment",
            "data: x",
        ] {
            let event = written(|out| message(out, Kind::Text, payload.as_bytes()));
            assert_eq!(heard(&event), payload, "{event:?}");
        }
        let windows = written(|out| message(out, Kind::Text, b"a\r\nb\rc\n\rd"));
        assert_eq!(heard(&windows), "a\nb\nc\n\nd");
        assert_eq!(
            written(|out| message(out, Kind::Json, b"[1,\n2]")),
            "data: [1,\ndata: 2]\n\n"
        );
    }

    #[test]
    fn bytes_are_events_of_their_own_name() {
        for (payload, text) in [(&b""[..], ""), (b"\x00\x01", "AAE="), (b"a\nb", "YQpi")] {
            assert_eq!(
                written(|out| message(out, Kind::Binary, payload)),
                format!("event: binary\ndata: {text}\n\n")
            );
        }
    }

    #[test]
    fn the_end_is_announced_with_when_to_come_back() {
        assert_eq!(written(|out| retry(out, 1730)), "retry: 1730\n\n");
        assert_eq!(
            written(|out| bye(out, 4001, "draining", 1730)),
            "retry: 1730\nevent: bye\ndata: {\"code\":4001,\"text\":\"draining\",\"retry_ms\":1730}\n\n"
        );
    }
}
