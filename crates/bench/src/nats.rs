//! The text protocol of NATS, as far as a load needs it: `CONNECT`, `PUB`, `SUB`, `UNSUB`, `PING` and `PONG` out; `INFO`, `MSG`,
//! `+OK`, `-ERR`, `PING` and `PONG` in.
//!
//! Lines end with CR LF; a `MSG` line says how many octets of payload follow it, and CR LF after those. Over WebSocket the
//! server cuts this stream into messages as it likes.

use std::io::Write;

use crate::protocol::Packet;

/// Asks for a [`PONG`], which comes after the effects of everything before.
pub(crate) const PING: &[u8] = b"PING\r\n";
/// Answers one.
pub(crate) const PONG: &[u8] = b"PONG\r\n";

/// The longest line a server may send; its `INFO` has a few hundred octets.
const LONGEST_LINE: usize = 1 << 16;

/// Begins a session. With `confirm` every command is answered `+OK`, this one too.
pub(crate) fn connect(confirm: bool, out: &mut Vec<u8>) {
    // A publisher's own messages come back to it where it subscribes to them: an echo is one.
    let options = format!(
        "{{\"verbose\":{confirm},\"pedantic\":false,\"echo\":true,\"tls_required\":false,\"lang\":\"rust\",\
         \"name\":\"tidecast-bench\",\"version\":\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    write!(out, "CONNECT {options}\r\n").expect("memory takes any write");
}

/// Subscribes; `number` names the subscription.
pub(crate) fn subscribe(subject: &str, number: u64, out: &mut Vec<u8>) {
    write!(out, "SUB {subject} {number}\r\n").expect("memory takes any write");
}

/// Takes the subscription `number` back.
pub(crate) fn unsubscribe(number: u64, out: &mut Vec<u8>) {
    write!(out, "UNSUB {number}\r\n").expect("memory takes any write");
}

/// A publish of `size` octets: what comes before them. [`END`] comes after.
pub(crate) fn publish(subject: &str, size: usize) -> Vec<u8> {
    format!("PUB {subject} {size}\r\n").into_bytes()
}

/// What a line or a payload ends with.
pub(crate) const END: &[u8] = b"\r\n";

/// The first packet of `bytes` and its length, if it is whole.
///
/// # Errors
/// That is not what a NATS server says.
#[inline]
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, String> {
    let Some(end) = bytes.iter().take(LONGEST_LINE).position(|&byte| byte == b'\n') else {
        return if bytes.len() < LONGEST_LINE {
            Ok(None)
        } else {
            Err("the server sent a line without an end".to_owned())
        };
    };
    let (line, after) = (bytes[..end].trim_ascii_end(), end + 1);
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        // `MSG <subject> <sid> [reply-to] <#bytes>`
        let digits = arguments.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        let size: usize = str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("the server sent a MSG without a size: {}", line.escape_ascii()))?;
        let Some(packet) = bytes[after..].get(..size.saturating_add(END.len())) else {
            return Ok(None);
        };
        let (payload, end) = packet.split_at(size);
        if end != END {
            return Err("the server sent a payload that is longer than it says".to_owned());
        }
        return Ok(Some((Packet::Delivery(payload), after + packet.len())));
    }
    Ok(Some((read(line)?, after)))
}

#[cold]
fn read(line: &[u8]) -> Result<Packet<'_>, String> {
    let word = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    match &*word.to_ascii_uppercase() {
        b"+OK" => Ok(Packet::Confirmed(None)),
        b"PONG" => Ok(Packet::Pong),
        b"PING" => Ok(Packet::Ping),
        b"INFO" => Ok(Packet::Other),
        b"-ERR" => Ok(Packet::Refused {
            number: None,
            reason: format!("the broker refused: {}", line[word.len()..].trim_ascii().escape_ascii()),
        }),
        _ => Err(format!("the server sent what cannot be read: {}", line.escape_ascii())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_read_line_by_line_and_payload_by_payload() {
        let mut said: &[u8] = b"INFO {\"server_id\":\"x\"}\r\n+OK\r\nPONG\r\nMSG a.b 1 4\r\n\r\nab\r\nMSG a 1 inbox 0\r\n\r\nPING\r\n-ERR 'No'\r\n";
        let mut heard = Vec::new();
        while let Some((packet, length)) = next(said).unwrap() {
            heard.push(packet);
            said = &said[length..];
        }
        assert!(said.is_empty());
        assert_eq!(
            heard,
            [
                Packet::Other,
                Packet::Confirmed(None),
                Packet::Pong,
                Packet::Delivery(b"\r\nab"),
                Packet::Delivery(b""),
                Packet::Ping,
                Packet::Refused {
                    number: None,
                    reason: "the broker refused: \\'No\\'".to_owned()
                },
            ]
        );
    }

    #[test]
    fn a_packet_is_waited_for_until_its_last_octet_is_there() {
        let packet = b"MSG a.b 12 5\r\nhello\r\n";
        for cut in 0..packet.len() {
            assert_eq!(next(&packet[..cut]), Ok(None), "{cut} octets");
        }
        assert_eq!(next(packet), Ok(Some((Packet::Delivery(b"hello"), packet.len()))));
    }

    #[test]
    fn what_no_server_says_is_an_error() {
        assert!(next(b"HELLO\r\n").is_err());
        assert!(next(b"MSG a 1 many\r\n").is_err());
        assert!(next(b"MSG a 1 1\r\nabc").is_err());
        assert!(next(b"MSG a 1 18446744073709551615\r\nabc").is_ok_and(|packet| packet.is_none()));
        assert!(next(&vec![b'x'; LONGEST_LINE]).is_err());
    }

    #[test]
    fn what_we_say_is_as_the_protocol_has_it() {
        let mut out = Vec::new();
        subscribe("a/b", 3, &mut out);
        unsubscribe(3, &mut out);
        assert_eq!(out, b"SUB a/b 3\r\nUNSUB 3\r\n");
        assert_eq!(publish("a/b", 24), b"PUB a/b 24\r\n");
        let mut out = Vec::new();
        connect(true, &mut out);
        let options = out.strip_prefix(b"CONNECT ").unwrap().strip_suffix(END).unwrap();
        let options: serde_json::Value = serde_json::from_slice(options).unwrap();
        assert_eq!((&options["verbose"], &options["echo"]), (&true.into(), &true.into()));
    }
}
