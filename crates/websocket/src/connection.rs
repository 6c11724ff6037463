//! One end of an open WebSocket: octets in, events out.

mod timeouts;

use crate::assembly::{Assembly, Payload, Reader, admit};
use crate::close::parse_close;
use crate::deflate::Deflater;
use crate::dialect::Version;
use crate::encoder::Encoder;
use crate::error::Error;
use crate::extension::Extension;
use crate::frame::{Decoded, Header, Opcode, decode_header, decode_message};
use crate::inflate::{InflatePool, Inflaters};
use crate::input::Input;
use crate::limits::Limits;
use crate::permessage::PerMessage;
use crate::state::{State, Step};
use crate::stream::Stream;
use crate::time::Millis;

/// What the peer said. Borrows from the input where the frame lay whole in it, else from the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// What came of a text message, behind what came of it before: see [`Connection::with_parts`]. No character is cut.
    TextPart {
        /// The part.
        text: &'a str,
        /// The message ends with it.
        last: bool,
    },
    /// What came of a binary message, behind what came of it before: see [`Connection::with_parts`].
    BinaryPart {
        /// The part.
        payload: &'a [u8],
        /// The message ends with it.
        last: bool,
    },
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

/// Gives a masking key that the peer's network cannot predict; called once for every frame a client sends.
pub type MaskingKey = fn() -> [u8; 4];

/// One end of an open WebSocket, server or client.
///
/// Methods come in four kinds, in this order: getters, `handle_*` (something happened), commands (we want something),
/// `poll_*` (what is there to do). What has to be sent is appended to the `out` of the call.
///
/// Data frames need not pass through here: a server that sends the same message to many encodes it once with
/// [`encode_frame`](crate::encode_frame) and sends it to every connection whose [`State::may_send`]; with an extension,
/// after a [`Deflater`].
#[derive(Debug)]
pub struct Connection {
    /// How to mask what we send; none on a server.
    masking_key: Option<MaskingKey>,
    /// What had to be kept of a message that is not complete, or was delivered last.
    assembly: Option<Box<Assembly>>,
    /// The body of the Pong we owe.
    pong: Option<Box<[u8]>>,
    /// The extension in use.
    codec: Option<Box<Codec>>,
    limits: Limits,
    /// When the last octets came.
    heard_at: Millis,
    /// When we began to wait: for a Pong while open, else for the end of the closing handshake.
    waiting_since: Millis,
    /// The second, modulo 65,536, of the last control frame, and how many came in it.
    control_second: u16,
    controls: u16,
    /// When the last message came, by the clock of [`tick`].
    message_tick: u16,
    version: Version,
    state: State,
    awaiting_pong: bool,
    /// Text that is not UTF-8 is delivered with replacement characters.
    replaces_text: bool,
    /// Messages are delivered in parts, as they come.
    in_parts: bool,
}

// An idle connection is this and nothing else, unless it has an extension: a million of them are 80 MB.
const _: () = assert!(size_of::<Connection>() <= 80);

// It may be served by another thread than the one that opened it.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Connection>();
};

/// The state of an extension.
#[derive(Debug)]
enum Codec {
    Stream(Stream),
    Messages(PerMessage),
}

impl Connection {
    /// The server's end, just after the opening handshake.
    #[must_use]
    pub fn server(version: Version, limits: Limits, now: Millis) -> Self {
        Self {
            masking_key: None,
            assembly: None,
            pong: None,
            codec: None,
            limits,
            heard_at: now,
            waiting_since: now,
            control_second: 0,
            controls: 0,
            message_tick: tick(now),
            version,
            state: State::Open,
            awaiting_pong: false,
            replaces_text: false,
            in_parts: false,
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

    /// The same, with the extension that was agreed on in the handshake.
    #[must_use]
    pub fn with_extension(mut self, extension: Option<Extension>) -> Self {
        let server = self.receives_masked();
        self.codec = extension.map(|extension| {
            Box::new(match extension {
                Extension::DeflateStream => Codec::Stream(Stream::default()),
                Extension::PerMessageDeflate(params) => Codec::Messages(PerMessage::new(params, server)),
            })
        });
        self
    }

    /// From now on text that is not UTF-8 is delivered with U+FFFD in the place of what is wrong, as the drafts have it
    /// for clients, instead of refused, as RFC 6455 has it. Text is copied then.
    #[must_use]
    pub fn with_replaced_text(mut self) -> Self {
        self.replaces_text = true;
        self
    }

    /// From now on a message that does not lie whole in one read, or is fragmented or compressed, is delivered as it
    /// comes: as [`Event::TextPart`] or [`Event::BinaryPart`], with other frames' events in between, up to the part that
    /// is the last. Then no message is kept in memory, however long: `max_message` of the [`Limits`] may be as large as
    /// it can. An error may come behind parts that were delivered.
    ///
    /// A part is what came in one read of one frame, and is borrowed from the input where it can be; of a compressed
    /// message 64 KiB at most. Parts are not the peer's fragments.
    #[must_use]
    pub fn with_parts(mut self) -> Self {
        self.in_parts = true;
        self
    }

    /// The version both ends speak.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The extension in use.
    #[must_use]
    pub fn extension(&self) -> Option<Extension> {
        self.codec.as_deref().map(|codec| match codec {
            Codec::Stream(_) => Extension::DeflateStream,
            Codec::Messages(messages) => Extension::PerMessageDeflate(messages.params()),
        })
    }

    /// Where the connection stands in the closing handshake.
    #[inline]
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the next octets begin a message, and nothing is owed to those before. What such octets mean is known from
    /// an earlier connection that got the same ones, unless an extension refers to earlier messages.
    #[inline]
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.state.reads() && self.pong.is_none() && self.assembly.as_deref().is_none_or(Assembly::is_done)
    }

    /// When the peer was last heard.
    #[must_use]
    pub fn heard_at(&self) -> Millis {
        self.heard_at
    }

    /// Octets of memory that it holds besides itself for what has come in part. Inflaters are counted by their
    /// [`InflatePool`].
    #[inline]
    #[must_use]
    pub fn memory(&self) -> usize {
        let chunk = match self.codec.as_deref() {
            Some(Codec::Stream(stream)) => stream.memory(),
            Some(Codec::Messages(_)) | None => 0,
        };
        self.assembly.as_deref().map_or(0, Assembly::memory) + chunk
    }

    /// The transport ended. The connection was closed cleanly if it was [`State::Draining`] before.
    pub fn handle_end(&mut self) {
        self.release();
        self.state = self.state.after(Step::Ended);
    }

    /// Sends a message in a single frame, or a Ping or Pong of at most 125 octets. Gives false, and sends nothing,
    /// once a Close was sent. A Close is sent by [`Connection::close`].
    ///
    /// The message is compressed only with the connection's own window, if it has one.
    pub fn send(&mut self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) -> bool {
        debug_assert!(!matches!(opcode, Opcode::Close | Opcode::Continuation));
        let open = self.state.may_send();
        if open {
            let encoder = self.encoder();
            let messages = self.messages().filter(|_| !opcode.is_control());
            match messages.and_then(|messages| messages.deflate(payload)) {
                Some(deflated) => encoder.compressed(opcode, &deflated, out),
                None => encoder.encode(opcode, payload, out),
            }
        }
        open
    }

    /// The same, compressed with `deflater` if an extension was negotiated and it makes the message smaller.
    pub fn send_deflated(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        deflater: &mut Deflater,
        out: &mut Vec<u8>,
    ) -> bool {
        if !self.state.may_send() {
            return false;
        }
        let encoder = self.encoder();
        match self.codec.as_deref() {
            Some(Codec::Stream(_)) => {
                let mut frame = Vec::new();
                encoder.clear(opcode, payload, &mut frame);
                deflater.stream(&frame, out);
                return true;
            }
            Some(Codec::Messages(messages)) if !opcode.is_control() && !messages.has_window() => {
                let mut deflated = Vec::new();
                let smaller = deflater.message(payload, messages.sending_window_bits(), &mut deflated);
                if smaller {
                    encoder.compressed(opcode, &deflated, out);
                    return true;
                }
            }
            _ => {}
        }
        self.send(opcode, payload, out)
    }

    /// From now on compresses the messages of [`Connection::send`] that have `min_payload` octets or more, with
    /// references to those before them. `level` is 1 (fast) to 9 (small). That makes small messages smaller, and
    /// takes up to 380 KB for this connection alone.
    ///
    /// Gives false, and changes nothing, unless permessage-deflate was negotiated and allows us context takeover.
    ///
    /// All that such a connection sends must go through it: messages that were deflated for many would stand in the
    /// peer's window, but not in ours.
    pub fn open_window(&mut self, level: u8, min_payload: usize) -> bool {
        self.messages()
            .is_some_and(|messages| messages.open_window(level, min_payload))
    }

    /// Starts the closing handshake, unless a Close was sent already. `code` is one of RFC 6455's or of the
    /// application's; the peer gets what its version has for it. `reason` is cut to the 123 octets a Close can hold.
    ///
    /// The peer's messages are still delivered until its own Close comes: it sent them before it knew.
    pub fn close(&mut self, code: u16, reason: &str, now: Millis, out: &mut Vec<u8>) {
        self.end(code, reason, Step::CloseSent, now, out);
    }

    /// The same, but from now on all input is dropped, and what was kept of it too.
    pub fn abandon(&mut self, code: u16, reason: &str, now: Millis, out: &mut Vec<u8>) {
        self.end(code, reason, Step::Failed, now, out);
    }

    /// Answers an error of [`Connection::poll`] with the Close it calls for. From now on all input is dropped.
    pub fn fail(&mut self, error: &Error, now: Millis, out: &mut Vec<u8>) {
        self.end(error.close_code(), &error.to_string(), Step::Failed, now, out);
    }

    /// The same as [`Connection::poll_pooled`], but what has to be inflated is inflated with memory of this
    /// connection's own, without a bound.
    ///
    /// # Errors
    /// Those of [`Connection::poll_pooled`], but for [`Error::NoInflater`].
    #[inline]
    pub fn poll<'a, 'b: 'a>(
        &'a mut self,
        input: &mut Input<'b>,
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, Error> {
        self.poll_with(input, now, Inflaters(None), out)
    }

    /// Reads on to the next event. None means that all of `input` is used up: what of it does not make an event yet is
    /// kept. One may stop after any event and feed the rest later. Call it until it gives None: only then is the
    /// last Pong written, and the memory of a message that came in pieces is released.
    ///
    /// A message that lies whole in `input` is unmasked there and borrowed from it; nothing is copied. What is
    /// compressed is inflated with memory from `pool`. Use the same pool for all calls.
    ///
    /// # Errors
    /// The peer broke the protocol, or the pool is exhausted. [`Connection::fail`] tells it so; reading on makes no
    /// sense.
    #[inline]
    pub fn poll_pooled<'a, 'b: 'a>(
        &'a mut self,
        input: &mut Input<'b>,
        now: Millis,
        pool: &mut InflatePool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, Error> {
        self.poll_with(input, now, Inflaters(Some(pool)), out)
    }

    /// What is fast enough to be inlined: a message that lies whole in `input`, and the end of `input`.
    #[inline]
    fn poll_with<'a, 'b: 'a>(
        &'a mut self,
        input: &mut Input<'b>,
        now: Millis,
        inflaters: Inflaters<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, Error> {
        let plain = self.assembly.is_none() && self.pong.is_none() && !self.is_stream() && !self.replaces_text;
        if plain && self.state.reads() {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some((kind, payload)) = self.next_message(input) {
                self.hear(now);
                self.message_tick = tick(now);
                return message(kind, payload).map(Some);
            }
        }
        self.poll_frames(input, now, inflaters, out)
    }

    #[inline(never)]
    fn poll_frames<'a, 'b: 'a>(
        &'a mut self,
        input: &mut Input<'b>,
        now: Millis,
        mut inflaters: Inflaters<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, Error> {
        if let Some(done) = self.assembly.take_if(|assembly| assembly.forget_delivered()) {
            inflaters.put_assembly(done);
        }
        if !input.is_empty() {
            self.hear(now);
        }
        if !self.state.reads() {
            self.release();
            input.take(usize::MAX);
            return Ok(None);
        }
        if self.assembly.is_none() && self.pong.is_none() && !self.replaces_text {
            if let Some((kind, range)) = self.next_inflated_message() {
                self.message_tick = tick(now);
                return message(kind, &chunk(&self.codec)[range]).map(Some);
            }
            if let Some((kind, payload)) = self.next_compressed_message(input) {
                self.message_tick = tick(now);
                self.add_message(kind, payload, &mut inflaters)?;
                let (kind, payload) = self.assembly.get_or_insert_default().deliver_message();
                return message(kind, payload).map(Some);
            }
        }
        let came = input.rest().len();
        loop {
            let frame = if self.is_stream() {
                self.next_inflated_frame(input, &mut inflaters)?
            } else {
                self.next_frame(input, &mut inflaters)?
            };
            let Some((header, payload)) = frame else {
                if let Some(pong) = self.pong.take() {
                    self.encoder().encode(Opcode::Pong, &pong, out);
                }
                if let Some(assembly) = &mut self.assembly {
                    assembly.note_incomplete(came, now);
                    if self.in_parts {
                        assembly.trim();
                    }
                }
                return Ok(None);
            };
            // Of pings in a row the latest is answered; what follows them is not answered before it.
            if header.opcode != Opcode::Ping
                && let Some(pong) = self.pong.take()
            {
                //= draft-ietf-hybi-thewebsocketprotocol-06#section-4.5.2
                //# The message bodies of the Ping and Pong MUST be the same.
                //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.2
                //# of the Ping and Pong MUST be the same.
                self.encoder().encode(Opcode::Pong, &pong, out);
            }
            //= RFC 6455#section-6.2
            //# If a control frame (Section 5.5) is received, the frame MUST be handled as defined by Section 5.5.
            if header.opcode.is_control() {
                self.count_control(now)?;
                let encoder = self.encoder();
                let body: &'a [u8] = match payload {
                    Payload::Input(payload) => payload,
                    Payload::Assembly => self.assembly.get_or_insert_default().deliver_control(),
                    Payload::Chunk(range) => &chunk(&self.codec)[range],
                };
                return Ok(Some(match header.opcode {
                    Opcode::Close => {
                        let (code, reason) = parse_close(self.version.dialect(), body)?;
                        //= RFC 6455#section-5.5.1
                        //# If an endpoint receives a Close frame and did not previously send a Close frame, the
                        //# endpoint MUST send a Close frame in response.
                        if self.state.may_send() {
                            //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.1
                            //# the endpoint MUST send a Close message in response.
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
                        //= RFC 6455#section-5.5.2
                        //# Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it
                        //# already received a Close frame.
                        if self.state.may_send() {
                            //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.2
                            //# Upon receipt of a Ping message, an endpoint MUST send a Pong message in response.
                            self.pong = Some(body.into());
                        }
                        Event::Ping(body)
                    }
                    _ => Event::Pong(body),
                }));
            }
            self.message_tick = tick(now);
            if self.in_parts && header.opcode == Opcode::Continuation {
                let last = header.fin;
                let (kind, kept) = self.assembly.get_or_insert_default().deliver_part(last);
                let part = match payload {
                    Payload::Input(part) => part,
                    Payload::Assembly => kept,
                    Payload::Chunk(range) => &chunk(&self.codec)[range],
                };
                return Ok(Some(match message(kind, part)? {
                    Event::Text(text) => Event::TextPart { text, last },
                    _ => Event::BinaryPart { payload: part, last },
                }));
            }
            let whole = self.is_message(&header);
            match payload {
                Payload::Input(payload) if whole => return message(header.opcode, payload).map(Some),
                Payload::Chunk(range) if whole => return message(header.opcode, &chunk(&self.codec)[range]).map(Some),
                Payload::Input(payload) => self.add_fragment(header, payload, &mut inflaters)?,
                Payload::Chunk(range) => {
                    let codec = self.codec.take();
                    let added = self.add_fragment(header, &chunk(&codec)[range], &mut inflaters);
                    self.codec = codec;
                    added?;
                }
                Payload::Assembly => {}
            }
            if header.fin {
                let assembly = self.assembly.get_or_insert_default();
                if self.replaces_text {
                    assembly.replace_invalid_text();
                }
                let (kind, payload) = assembly.deliver_message();
                return message(kind, payload).map(Some);
            }
        }
    }

    fn encoder(&self) -> Encoder {
        Encoder {
            version: self.version,
            masking_key: self.masking_key,
            stream: self.is_stream(),
        }
    }

    #[inline]
    fn is_stream(&self) -> bool {
        matches!(self.codec.as_deref(), Some(Codec::Stream(_)))
    }

    fn messages(&mut self) -> Option<&mut PerMessage> {
        match self.codec.as_deref_mut() {
            Some(Codec::Messages(messages)) => Some(messages),
            _ => None,
        }
    }

    /// The peer said something at `now`.
    #[inline]
    fn hear(&mut self, now: Millis) {
        self.heard_at = now;
        self.awaiting_pong = false;
    }

    /// # Errors
    /// Too many came in this second.
    fn count_control(&mut self, now: Millis) -> Result<(), Error> {
        let second = (now.0 / 1000) as u16;
        if self.control_second != second {
            (self.control_second, self.controls) = (second, 0);
        }
        let limit = self.limits.max_control_per_second;
        if self.controls == limit {
            return Err(Error::TooManyControlFrames { limit });
        }
        self.controls += 1;
        Ok(())
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
        match self.codec.as_deref_mut() {
            Some(Codec::Stream(stream)) => stream.release(),
            Some(Codec::Messages(messages)) => messages.release(),
            None => {}
        }
    }

    /// Whether the frames we receive are masked: those of clients are.
    fn receives_masked(&self) -> bool {
        self.masking_key.is_none()
    }

    /// The next message, unmasked, if it lies whole in `input` in a frame of its own and is not compressed. Nearly all
    /// are like that; the others, and all errors, are left to [`Connection::next_frame`].
    #[inline]
    fn next_message<'b>(&self, input: &mut Input<'b>) -> Option<(Opcode, &'b mut [u8])> {
        let masked = self.receives_masked();
        let header = decode_message(self.version.dialect(), masked, input.rest())?;
        let len = header.payload as usize;
        if header.payload > u64::from(self.limits.max_message) || len > input.rest().len() - header.len {
            return None;
        }
        Some((header.opcode, self.take_frame(&header, input)))
    }

    /// The payload, unmasked, of a frame that lies whole in `input`. Always inlined: a header that goes through memory
    /// takes longer than the rest of it.
    #[inline(always)]
    fn take_frame<'b>(&self, header: &Header, input: &mut Input<'b>) -> &'b mut [u8] {
        input.take(header.len);
        let payload = input.take(header.payload as usize);
        if self.receives_masked() {
            tidecast_simd::unmask(payload, header.key);
        }
        payload
    }

    /// The same in what a stream was inflated to, and where the message lies there.
    #[inline]
    fn next_inflated_message(&mut self) -> Option<(Opcode, std::ops::Range<usize>)> {
        let mut codec = self.codec.take()?;
        let mut found = None;
        if let Codec::Stream(stream) = &mut *codec {
            let mut unread = stream.unread();
            let message = self
                .next_message(&mut unread)
                .map(|(kind, payload)| (kind, payload.len()));
            let count = unread.consumed();
            let end = stream.advance(count);
            found = message.map(|(kind, len)| (kind, end - len..end));
        }
        self.codec = Some(codec);
        found
    }

    /// The same for a message that is compressed: unmasked, and to be inflated.
    #[inline]
    fn next_compressed_message<'b>(&self, input: &mut Input<'b>) -> Option<(Opcode, &'b mut [u8])> {
        if self.in_parts || !matches!(self.codec.as_deref(), Some(Codec::Messages(_))) {
            return None;
        }
        let (dialect, masked) = (self.version.dialect(), self.receives_masked());
        let Ok(Decoded::Header(header)) = decode_header(dialect, masked, true, input.rest()) else {
            return None;
        };
        let whole = header.fin && header.payload <= (input.rest().len() - header.len) as u64;
        if !header.compressed || !whole || admit(&header, None, self.limits).is_err() {
            return None;
        }
        Some((header.opcode, self.take_frame(&header, input)))
    }

    /// Whether the payload of a frame, if it is whole, can be delivered as it is.
    fn is_message(&self, header: &Header) -> bool {
        header.fin && header.opcode != Opcode::Continuation && !header.compressed && !self.replaces_text
    }

    /// The next complete frame, unmasked, or part of a message; or none if all of `input` is used up, and kept.
    fn next_frame<'b>(
        &mut self,
        input: &mut Input<'b>,
        inflaters: &mut Inflaters<'_>,
    ) -> Result<Option<(Header, Payload<'b>)>, Error> {
        while !input.is_empty() || self.assembly.as_deref().is_some_and(Assembly::has_more) {
            let frame = if self.assembly.as_deref().is_some_and(Assembly::is_amid_frame) {
                self.resume_frame(None, input, inflaters)?
            } else {
                self.begin_frame(input, inflaters)?
            };
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// The same for what begins with a header.
    fn begin_frame<'b>(
        &mut self,
        input: &mut Input<'b>,
        inflaters: &mut Inflaters<'_>,
    ) -> Result<Option<(Header, Payload<'b>)>, Error> {
        let (dialect, masked) = (self.version.dialect(), self.receives_masked());
        let compression = matches!(self.codec.as_deref(), Some(Codec::Messages(_)));
        let header = match decode_header(dialect, masked, compression, input.rest())? {
            Decoded::Header(header) => header,
            Decoded::Needs(_) => {
                self.assembly.get_or_insert_default().begin_header(input);
                return Ok(None);
            }
        };
        admit(&header, self.assembly.as_deref(), self.limits)?;
        let partly = self.in_parts && !header.opcode.is_control() && !self.is_message(&header);
        if partly || header.payload > (input.rest().len() - header.len) as u64 {
            input.take(header.len);
            return self.resume_frame(Some(header), input, inflaters);
        }
        Ok(Some((header, Payload::Input(self.take_frame(&header, input)))))
    }

    /// Goes on with the frame in the assembly, after beginning it with `header` if there is one.
    #[inline(never)]
    fn resume_frame<'b>(
        &mut self,
        header: Option<Header>,
        input: &mut Input<'b>,
        inflaters: &mut Inflaters<'_>,
    ) -> Result<Option<(Header, Payload<'b>)>, Error> {
        let (assembly, reader) = self.assembly_and_reader(inflaters);
        if let Some(header) = header {
            assembly.begin(header);
        }
        assembly.resume(input, reader)
    }

    /// Keeps a fragment, or what it inflates to.
    #[inline(never)]
    fn add_fragment(&mut self, header: Header, payload: &[u8], inflaters: &mut Inflaters<'_>) -> Result<(), Error> {
        let (assembly, reader) = self.assembly_and_reader(inflaters);
        assembly.add_fragment(header, payload, reader)
    }

    /// Keeps what a whole message inflates to.
    fn add_message(&mut self, kind: Opcode, payload: &[u8], inflaters: &mut Inflaters<'_>) -> Result<(), Error> {
        self.assembly = Some(inflaters.take_assembly(self.limits.max_message));
        let (assembly, reader) = self.assembly_and_reader(inflaters);
        assembly.add_message(kind, payload, reader)
    }

    /// The same as [`Connection::next_frame`], where `input` is a deflated stream.
    #[inline(never)]
    fn next_inflated_frame<'b>(
        &mut self,
        input: &mut Input<'_>,
        inflaters: &mut Inflaters<'_>,
    ) -> Result<Option<(Header, Payload<'b>)>, Error> {
        // Taken out, so that what it holds can be read as any input is.
        let Some(mut codec) = self.codec.take() else {
            return Ok(None);
        };
        let frame = match &mut *codec {
            Codec::Stream(stream) => self.next_frame_of(stream, input, inflaters),
            Codec::Messages(_) => Ok(None),
        };
        self.codec = Some(codec);
        frame
    }

    fn next_frame_of<'b>(
        &mut self,
        stream: &mut Stream,
        input: &mut Input<'_>,
        inflaters: &mut Inflaters<'_>,
    ) -> Result<Option<(Header, Payload<'b>)>, Error> {
        loop {
            let mut unread = stream.unread();
            let frame = self.next_frame(&mut unread, inflaters)?;
            let count = unread.consumed();
            let frame = frame.map(|(header, payload)| {
                let len = match payload {
                    Payload::Input(payload) => Some(payload.len()),
                    Payload::Assembly | Payload::Chunk(_) => None,
                };
                (header, len)
            });
            let end = stream.advance(count);
            if let Some((header, len)) = frame {
                let payload = len.map_or(Payload::Assembly, |len| Payload::Chunk(end - len..end));
                return Ok(Some((header, payload)));
            }
            if !stream.inflate(input, self.limits, inflaters)? {
                return Ok(None);
            }
        }
    }

    /// The assembly, made if there is none, and what it needs to read on.
    fn assembly_and_reader<'c, 'p>(
        &'c mut self,
        inflaters: &'c mut Inflaters<'p>,
    ) -> (&'c mut Assembly, Reader<'c, 'p>) {
        let masked = self.receives_masked();
        let messages = match self.codec.as_deref_mut() {
            Some(Codec::Messages(messages)) => Some(messages),
            _ => None,
        };
        let reader = Reader {
            dialect: self.version.dialect(),
            masked,
            limits: self.limits,
            any_text: self.replaces_text,
            in_parts: self.in_parts,
            messages,
            inflaters,
        };
        (self.assembly.get_or_insert_default(), reader)
    }
}

/// Bits of a moment that a tick leaves out: it is 1,024 ms.
const TICK: u32 = 10;

/// A moment in 16 bits, which come again after 18 hours.
#[inline]
fn tick(now: Millis) -> u16 {
    (now.0 >> TICK) as u16
}

/// What a stream was inflated to last.
fn chunk(codec: &Option<Box<Codec>>) -> &[u8] {
    match codec.as_deref() {
        Some(Codec::Stream(stream)) => stream.chunk(),
        _ => &[],
    }
}

/// The event of a complete message.
///
/// The drafts have a client replace what is not UTF-8 by U+FFFD. Here it is refused in every version, as RFC 6455 has it,
/// unless [`Connection::with_replaced_text`] asks for the other: a message that arrives changed is worse than one that
/// does not.
#[inline]
fn message(kind: Opcode, payload: &[u8]) -> Result<Event<'_>, Error> {
    if kind == Opcode::Text {
        //= RFC 6455#section-5.6
        //# the whole message MUST contain valid UTF-8.
        let text = simdutf8::basic::from_utf8(payload).map_err(|_| Error::InvalidText)?;
        Ok(Event::Text(text))
    } else {
        Ok(Event::Binary(payload))
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
