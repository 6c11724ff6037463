//! A client that plays a case and compares.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::cases::{Case, Heard};
use crate::frame::{Frame, Opcode, decode};
use crate::support::{Broker, DEADLINE, upgrade};

/// How the bytes of a case are cut into writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Segmentation {
    Whole,
    /// One write a byte, for cases of at most this many.
    Bytes,
    /// Pieces of random length.
    Random,
}

/// A case of more bytes is not sent one by one.
const BYTEWISE: usize = 2048;

impl Segmentation {
    pub(crate) fn of(case: &Case) -> impl Iterator<Item = Segmentation> {
        let bytes: usize = case.said.iter().map(|frame| frame.payload.len() + 14).sum();
        let all = [Segmentation::Whole, Segmentation::Random, Segmentation::Bytes];
        all.into_iter().take(if bytes <= BYTEWISE { 3 } else { 2 })
    }

    /// The lengths of the pieces, for ever.
    fn pieces(self, seed: u32) -> impl Iterator<Item = usize> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        std::iter::repeat_with(move || match self {
            Segmentation::Whole => usize::MAX,
            Segmentation::Bytes => 1,
            Segmentation::Random => {
                // xorshift: the same pieces in every run of the same case.
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                // Short and long pieces alike.
                1 + (state >> 8) as usize % (1 << (state % 16))
            }
        })
    }
}

/// Plays `case` on a connection of its own.
pub(crate) fn run(
    broker: &Broker,
    case: &Case,
    version: u8,
    segmentation: Segmentation,
    seed: u32,
) -> Result<(), String> {
    let mut stream = TcpStream::connect(broker.address).map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(DEADLINE))
        .map_err(|error| error.to_string())?;
    stream
        .set_write_timeout(Some(DEADLINE))
        .map_err(|error| error.to_string())?;
    let request = upgrade(
        &format!("/t/case%2F{seed}"),
        &format!("Sec-WebSocket-Version: {version}\r\n"),
    );
    stream
        .write_all(request.as_bytes())
        .map_err(|error| error.to_string())?;
    let head = read_head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(format!("no handshake: {head}"));
    }
    // Said from a thread: what comes back may have to be read before everything can be said.
    let bytes: Vec<u8> = case.said.iter().flat_map(|frame| frame.encode(version)).collect();
    let mut writer = stream.try_clone().map_err(|error| error.to_string())?;
    let ends = matches!(case.heard.last(), Some(Heard::Close(_) | Heard::CloseAny));
    thread::scope(|scope| {
        let said = scope.spawn(move || {
            let mut rest = &bytes[..];
            for piece in segmentation.pieces(seed) {
                if rest.is_empty() {
                    return Ok(());
                }
                let (piece, after) = rest.split_at(piece.min(rest.len()));
                match writer.write_all(piece) {
                    Ok(()) => rest = after,
                    // A connection that was failed need not take the rest.
                    Err(error)
                        if ends && matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
                    {
                        return Ok(());
                    }
                    Err(error) => return Err(format!("while speaking: {error}")),
                }
            }
            Ok(())
        });
        let heard = listen(&mut stream, case, version);
        if heard.is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        said.join().expect("it does not panic").and(heard)
    })?;
    if !ends {
        // The connection is as good as before: it closes in order.
        let bye = Frame::new(Opcode::Close, 1000u16.to_be_bytes()).encode(version);
        stream
            .write_all(&bye)
            .map_err(|error| format!("after the case: {error}"))?;
        expect_close(&mut stream, version, Some(1000)).map_err(|error| format!("after the case: {error}"))?;
    }
    Ok(())
}

fn listen(stream: &mut TcpStream, case: &Case, version: u8) -> Result<(), String> {
    for expected in &case.heard {
        match expected {
            Heard::Text(payload) => expect_message(stream, version, Opcode::Text, payload)?,
            Heard::Binary(payload) => expect_message(stream, version, Opcode::Binary, payload)?,
            Heard::Pongs(bodies) => {
                let mut bodies = bodies.iter();
                loop {
                    let (opcode, body) = next(stream, version)?;
                    if opcode != Opcode::Pong || !bodies.any(|expected| *expected == body) {
                        return Err(format!("{opcode:?} {body:02x?} is no pong that was due"));
                    }
                    if bodies.len() == 0 {
                        break;
                    }
                }
            }
            Heard::Close(code) => expect_close(stream, version, Some(*code))?,
            Heard::CloseAny => expect_close(stream, version, None)?,
        }
    }
    Ok(())
}

fn expect_message(stream: &mut TcpStream, version: u8, opcode: Opcode, payload: &[u8]) -> Result<(), String> {
    let (heard, body) = next(stream, version)?;
    if heard != opcode || body != payload {
        let shown = &body[..body.len().min(80)];
        return Err(format!(
            "heard {heard:?} of {} bytes, {shown:02x?}, instead of {opcode:?} of {}",
            body.len(),
            payload.len()
        ));
    }
    Ok(())
}

/// A Close, the end of the stream, and nothing after or in between.
fn expect_close(stream: &mut TcpStream, version: u8, code: Option<u16>) -> Result<(), String> {
    let (opcode, body) = next(stream, version)?;
    if opcode != Opcode::Close || body.len() < 2 {
        return Err(format!("heard {opcode:?} {body:02x?} instead of a Close with a code"));
    }
    let heard = u16::from_be_bytes([body[0], body[1]]);
    if code.is_some_and(|code| code != heard) {
        let reason = String::from_utf8_lossy(&body[2..]).into_owned();
        return Err(format!("closed with {heard} ({reason}) instead of {code:?}"));
    }
    if std::str::from_utf8(&body[2..]).is_err() {
        return Err("the reason is not UTF-8".to_owned());
    }
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .map_err(|error| format!("after the Close: {error}"))?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(format!("{} bytes after the Close", rest.len()))
    }
}

fn next(stream: &mut TcpStream, version: u8) -> Result<(Opcode, Vec<u8>), String> {
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        stream
            .read_exact(&mut bytes)
            .map_err(|error| format!("while listening: {error}"))?;
        Ok::<_, String>(bytes)
    };
    let header = read(2)?;
    let len = match header[1] {
        short @ 0..126 => usize::from(short),
        126 => u16::from_be_bytes(read(2)?.try_into().expect("two bytes")).into(),
        127 => u64::from_be_bytes(read(8)?.try_into().expect("eight bytes")) as usize,
        _ => return Err("the server masked a frame".to_owned()),
    };
    decode(version, header[0], read(len)?)
}

fn read_head(stream: &mut TcpStream) -> Result<String, String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            other => return Err(format!("{other:?} in the response head")),
        }
    }
    String::from_utf8(head).map_err(|error| error.to_string())
}
