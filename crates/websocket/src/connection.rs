//! One end of an open WebSocket: octets in, events out.

use crate::assembly::{Assembly, admit};
use crate::code;
use crate::dialect::{Dialect, Version};
use crate::error::Error;
use crate::frame::{Decoded, Header, MAX_CONTROL, Opcode, decode_header, encode_frame};
use crate::input::Input;
use crate::limits::Limits;
use crate::state::{State, Step};
use crate::time::{Millis, Timing};

/// What the peer said. Borrows from the input where the frame lay whole in it, else from the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A Ping. It is answered by the connection.
    Ping(&'a [u8]),
    /// A Pong, solicited or not. The body of our own Pings is the low 32 bits of the time they were sent at, in
    /// network order.
    Pong(&'a [u8]),
    /// The peer's Close. It is answered by the connection, if it is the first one; no event follows it.
    Close {
        /// Why, if it was said. From versions before 13 this can be any number.
        code: Option<u16>,
        /// Why, in words; often empty.
        reason: &'a str,
    },
}

/// What [`Connection::handle_timeout`] gave up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimedOut {
    /// The peer was silent and did not answer our Ping. It was sent a Close, for what that is worth: drop the
    /// transport, at the latest when [`Connection::poll_timeout`] says so.
    Pong,
    /// The closing handshake, or the end of the transport after it, took too long: drop the transport.
    Close,
}

/// Gives a masking key that the peer's network cannot predict; called once for every frame a client sends.
pub type MaskingKey = fn() -> [u8; 4];

/// One end of an open WebSocket, server or client.
///
/// Methods come in four kinds, in this order: getters, `handle_*` (something happened), commands (we want something),
/// `poll_*` (what is there to do). What has to be sent is appended to the `out` of the call.
///
/// Data frames need not pass through here: a server that sends the same message to many encodes it once with
/// [`encode_frame`] and sends it to every connection whose [`State::may_send`].
#[derive(Debug)]
pub struct Connection {
    /// How to mask what we send; none on a server.
    masking_key: Option<MaskingKey>,
    /// What had to be kept of a message that is not complete, or was delivered last.
    assembly: Option<Box<Assembly>>,
    /// The body of the Pong we owe.
    pong: Option<Box<[u8]>>,
    limits: Limits,
    /// When the last octets came.
    heard_at: Millis,
    /// When we began to wait: for a Pong while open, else for the end of the closing handshake.
    waiting_since: Millis,
    version: Version,
    state: State,
    awaiting_pong: bool,
}

// An idle connection is this and nothing else: a million of them are 64 MB.
const _: () = assert!(size_of::<Connection>() <= 64);

/// Where the payload of a complete frame is.
enum Payload<'b> {
    /// In the input, unmasked.
    Input(&'b mut [u8]),
    /// At the end of the assembly.
    Assembly,
}

impl Connection {
    /// The server's end, just after the opening handshake.
    #[must_use]
    pub fn server(version: Version, limits: Limits, now: Millis) -> Self {
        Self {
            masking_key: None,
            assembly: None,
            pong: None,
            limits,
            heard_at: now,
            waiting_since: now,
            version,
            state: State::Open,
            awaiting_pong: false,
        }
    }

    /// The client's end, just after the opening handshake. `masking_key` is called once for every frame sent.
    #[must_use]
    pub fn client(version: Version, limits: Limits, masking_key: MaskingKey, now: Millis) -> Self {
        Self {
            masking_key: Some(masking_key),
            ..Self::server(version, limits, now)
        }
    }

    /// The version both ends speak.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the connection stands in the closing handshake.
    #[inline]
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// When the peer was last heard.
    #[must_use]
    pub fn heard_at(&self) -> Millis {
        self.heard_at
    }

    /// The transport ended. The connection was closed cleanly if it was [`State::Draining`] before.
    pub fn handle_end(&mut self) {
        self.release();
        self.state = self.state.after(Step::Ended);
    }

    /// The moment of [`Connection::poll_timeout`] may have come: sends a Ping after silence, or gives up. Calling it
    /// early does nothing.
    pub fn handle_timeout(&mut self, now: Millis, timing: &Timing, out: &mut Vec<u8>) -> Option<TimedOut> {
        if now < self.poll_timeout(timing) {
            return None;
        }
        match self.state {
            State::Open if self.awaiting_pong => {
                self.end(code::INTERNAL_ERROR, "no answer to a ping", Step::Failed, now, out);
                Some(TimedOut::Pong)
            }
            State::Open => {
                // Never empty: libwebsockets of 2011 does not answer an empty Ping, or stalls on it.
                let body = (now.0 as u32).to_be_bytes();
                self.encoder().encode(Opcode::Ping, &body, out);
                self.awaiting_pong = true;
                self.waiting_since = now;
                None
            }
            State::CloseSent | State::Draining => {
                self.handle_end();
                Some(TimedOut::Close)
            }
            State::Closed => None,
        }
    }

    /// Sends a message in a single frame, or a Ping or Pong of at most 125 octets. Gives false, and sends nothing,
    /// once a Close was sent. A Close is sent by [`Connection::close`].
    pub fn send(&mut self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) -> bool {
        debug_assert!(!matches!(opcode, Opcode::Close | Opcode::Continuation));
        let open = self.state.may_send();
        if open {
            self.encoder().encode(opcode, payload, out);
        }
        open
    }

    /// Starts the closing handshake, unless a Close was sent already. `code` is one of RFC 6455's or of the
    /// application's; the peer gets what its version has for it. `reason` is cut to the 123 octets a Close can hold.
    ///
    /// The peer's messages are still delivered until its own Close comes: it sent them before it knew.
    pub fn close(&mut self, code: u16, reason: &str, now: Millis, out: &mut Vec<u8>) {
        self.end(code, reason, Step::CloseSent, now, out);
    }

    /// Answers an error of [`Connection::poll`] with the Close it calls for. From now on all input is dropped.
    ///
    //= RFC 6455#section-7.1.7
    //# An endpoint MUST NOT continue to attempt to process data (including a responding Close frame) from the remote
    //# endpoint after being instructed to _Fail the WebSocket Connection_.
    pub fn fail(&mut self, error: &Error, now: Millis, out: &mut Vec<u8>) {
        self.end(error.close_code(), &error.to_string(), Step::Failed, now, out);
    }

    /// Reads on to the next event. None means that all of `input` is used up: what of it does not make an event yet is
    /// kept. One may stop after any event and feed the rest later. Call it until it gives None: only then are Pongs
    /// written, and the memory of a message that came in pieces is released.
    ///
    /// A message that lies whole in `input` is unmasked there and borrowed from it; nothing is copied.
    ///
    /// # Errors
    /// The peer broke the protocol. [`Connection::fail`] tells it so; reading on makes no sense.
    #[inline]
    pub fn poll<'a, 'b: 'a>(
        &'a mut self,
        input: &mut Input<'b>,
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, Error> {
        if let Some(assembly) = &mut self.assembly
            && assembly.forget_delivered()
        {
            self.assembly = None;
        }
        if !input.is_empty() {
            self.heard_at = now;
            self.awaiting_pong = false;
        }
        if !self.state.reads() {
            self.release();
            input.take(usize::MAX);
            return Ok(None);
        }
        loop {
            let Some((header, payload)) = self.next_frame(input)? else {
                if let Some(pong) = self.pong.take() {
                    self.encoder().encode(Opcode::Pong, &pong, out);
                }
                return Ok(None);
            };
            if header.opcode.is_control() {
                let encoder = self.encoder();
                let body: &'a [u8] = match payload {
                    Payload::Input(payload) => payload,
                    Payload::Assembly => self.assembly.get_or_insert_default().deliver_control(),
                };
                return Ok(Some(match header.opcode {
                    Opcode::Close => {
                        let (code, reason) = parse_close(self.version.dialect(), body)?;
                        if self.state.may_send() {
                            if let Some(pong) = self.pong.take() {
                                encoder.encode(Opcode::Pong, &pong, out);
                            }
                            encoder.close(self.version.dialect().close_reply(code), "", out);
                            self.waiting_since = now;
                        }
                        self.state = self.state.after(Step::CloseReceived);
                        Event::Close { code, reason }
                    }
                    Opcode::Ping => {
                        //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.3
                        //# In the case multiple Pings have been received, a Pong MUST be issued only in response to the
                        //# most recent Ping.
                        if self.state.may_send() {
                            self.pong = Some(body.into());
                        }
                        Event::Ping(body)
                    }
                    _ => Event::Pong(body),
                }));
            }
            match payload {
                Payload::Input(payload) if header.fin && header.opcode != Opcode::Continuation => {
                    return message(header.opcode, payload).map(Some);
                }
                Payload::Input(payload) => self.assembly.get_or_insert_default().add_fragment(header, payload)?,
                Payload::Assembly => {}
            }
            if header.fin {
                let (kind, payload) = self.assembly.get_or_insert_default().deliver_message();
                return message(kind, payload).map(Some);
            }
        }
    }

    /// When [`Connection::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self, timing: &Timing) -> Millis {
        match self.state {
            State::Open if self.awaiting_pong => self.waiting_since + timing.pong_timeout,
            State::Open => self.heard_at + timing.ping_interval,
            State::CloseSent | State::Draining => self.waiting_since + timing.close_timeout,
            State::Closed => Millis::NEVER,
        }
    }

    fn encoder(&self) -> Encoder {
        Encoder {
            version: self.version,
            masking_key: self.masking_key,
        }
    }

    /// Sends our Close, unless one was sent, and takes `step`.
    fn end(&mut self, code: u16, reason: &str, step: Step, now: Millis, out: &mut Vec<u8>) {
        if self.state.may_send() {
            let code = self.version.dialect().wire_close_code(code);
            self.encoder().close(code, reason, out);
            self.pong = None;
            self.waiting_since = now;
        }
        self.state = self.state.after(step);
        if !self.state.reads() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.assembly = None;
        self.pong = None;
    }

    /// Whether the frames we receive are masked: those of clients are.
    fn receives_masked(&self) -> bool {
        self.masking_key.is_none()
    }

    /// The next complete frame, unmasked, or none if it is not complete: then its octets are kept.
    #[inline]
    fn next_frame<'b>(&mut self, input: &mut Input<'b>) -> Result<Option<(Header, Payload<'b>)>, Error> {
        if input.is_empty() {
            return Ok(None);
        }
        let (dialect, masked) = (self.version.dialect(), self.receives_masked());
        if let Some(assembly) = &mut self.assembly
            && assembly.is_amid_frame()
        {
            let header = assembly.resume(input, dialect, masked, self.limits)?;
            return Ok(header.map(|header| (header, Payload::Assembly)));
        }
        let header = match decode_header(dialect, masked, input.rest())? {
            Decoded::Header(header) => header,
            Decoded::Needs(_) => {
                self.assembly.get_or_insert_default().begin_header(input);
                return Ok(None);
            }
        };
        admit(&header, self.assembly.as_deref(), self.limits)?;
        input.take(header.len);
        if header.payload > input.rest().len() as u64 {
            let assembly = self.assembly.get_or_insert_default();
            assembly.begin(header);
            assembly.resume(input, dialect, masked, self.limits)?;
            return Ok(None);
        }
        let payload = input.take(header.payload as usize);
        if masked {
            tidecast_simd::unmask(payload, header.key);
        }
        Ok(Some((header, Payload::Input(payload))))
    }
}

/// How this end writes frames.
#[derive(Clone, Copy)]
struct Encoder {
    version: Version,
    masking_key: Option<MaskingKey>,
}

impl Encoder {
    fn encode(self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        let mask = self.masking_key.map(|key| key());
        encode_frame(self.version, opcode, payload, mask, out);
    }

    /// A Close always has a code: clients of 2011 stall on an empty one.
    fn close(self, code: u16, reason: &str, out: &mut Vec<u8>) {
        let mut body = [0; MAX_CONTROL];
        let (head, tail) = body.split_at_mut(2);
        head.copy_from_slice(&code.to_be_bytes());
        let mut len = reason.len().min(tail.len());
        while !reason.is_char_boundary(len) {
            len -= 1;
        }
        tail[..len].copy_from_slice(&reason.as_bytes()[..len]);
        self.encode(Opcode::Close, &body[..2 + len], out);
    }
}

/// The event of a complete message.
///
/// The drafts have a client replace what is not UTF-8 by U+FFFD. Here it is refused in every version, as RFC 6455 has it:
/// a message that arrives changed is worse than one that does not.
#[inline]
fn message(kind: Opcode, payload: &[u8]) -> Result<Event<'_>, Error> {
    if kind == Opcode::Text {
        let text = simdutf8::basic::from_utf8(payload).map_err(|_| Error::InvalidText)?;
        Ok(Event::Text(text))
    } else {
        Ok(Event::Binary(payload))
    }
}

/// The code and the reason in the body of a Close.
fn parse_close<'a>(dialect: &Dialect, body: &'a [u8]) -> Result<(Option<u16>, &'a str), Error> {
    let Some((code, reason)) = body.split_first_chunk() else {
        //= RFC 6455#section-5.5.1
        //# If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer
        return if body.is_empty() {
            Ok((None, ""))
        } else {
            Err(Error::ShortClose)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !dialect.any_close_code && !dialect.has_close_code(code) {
        return Err(Error::InvalidCloseCode(code));
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Error::InvalidReason)?;
    Ok((Some(code), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds one read to a server and listens to the end.
    fn feed(server: &mut Connection, octets: &[u8]) {
        let mut octets = octets.to_vec();
        let mut input = Input::new(&mut octets);
        while let Ok(Some(_)) = server.poll(&mut input, Millis(0), &mut Vec::new()) {}
    }

    #[test]
    fn between_messages_a_connection_holds_no_memory() {
        let mut server = Connection::server(Version::V13, Limits::default(), Millis(0));
        let mut octets = Vec::new();
        encode_frame(Version::V13, Opcode::Binary, &[1; 100_000], Some([0; 4]), &mut octets);
        let message = octets.len();
        encode_frame(Version::V13, Opcode::Ping, b"?", Some([0; 4]), &mut octets);
        for split in [1, 5, 15, message - 1, message + 1, message + 6] {
            feed(&mut server, &octets[..split]);
            assert!(server.assembly.is_some());
            feed(&mut server, &octets[split..]);
            assert!(server.assembly.is_none() && server.pong.is_none(), "{split}");
        }
        feed(&mut server, &octets);
        assert!(server.assembly.is_none() && server.pong.is_none());
    }

    #[test]
    fn an_end_releases_what_was_unfinished() {
        let mut server = Connection::server(Version::V13, Limits::default(), Millis(0));
        feed(&mut server, b"\x81\xfe\x10\x00\0\0\0\0half a mess");
        assert!(server.assembly.is_some());
        server.handle_end();
        assert!(server.assembly.is_none());
    }

    #[test]
    fn a_close_inside_a_message_releases_the_message() {
        let mut server = Connection::server(Version::V13, Limits::default(), Millis(0));
        feed(&mut server, b"\x01\x85\0\0\0\0begun\x88\x82\0\0\0\0\x03\xe8");
        assert_eq!(server.state(), State::Draining);
        assert!(server.assembly.is_none());
    }
}
