//! What must be kept when a message does not lie whole in one read: its octets so far, and the frame in progress.

use std::borrow::Cow;
use std::ops::Range;

use crate::dialect::Dialect;
use crate::error::Error;
use crate::frame::{Decoded, Header, MAX_HEADER, Opcode, decode_header};
use crate::inflate::Inflaters;
use crate::input::Input;
use crate::limits::Limits;
use crate::permessage::{Inflated, PerMessage};
use crate::time::{Millis, Timing};

/// What it takes to read on: how frames look here, what they may ask for, and how to inflate messages.
#[derive(Debug)]
pub(crate) struct Reader<'c, 'p> {
    pub(crate) dialect: &'static Dialect,
    /// Whether the frames that come are masked.
    pub(crate) masked: bool,
    pub(crate) limits: Limits,
    /// Text that is not UTF-8 is not refused.
    pub(crate) any_text: bool,
    /// Messages are delivered in parts, as they come.
    pub(crate) in_parts: bool,
    /// If permessage-deflate was negotiated.
    pub(crate) messages: Option<&'c mut PerMessage>,
    pub(crate) inflaters: &'c mut Inflaters<'p>,
}

/// A message, and a frame, in the making. A connection has one only from the first octet that it must keep to the
/// end of the message.
///
/// Invariant: `checked <= kept <= buffer.len() <= kept + MAX_CONTROL`, and `kept <= limits.max_message` until the message is
/// complete.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// The message so far, unmasked and inflated; behind it the payload so far of a control frame that came in between.
    buffer: Vec<u8>,
    /// How much of `buffer` is message.
    kept: usize,
    /// How much of `buffer` is known to be UTF-8, if the message is text.
    checked: usize,
    /// Whether the message is Text or Binary; none before its first frame has begun and after it was delivered.
    message: Option<Opcode>,
    /// Whether it is compressed.
    compressed: bool,
    /// Frames of the message that have begun, and their octets of payload, as their headers announce them.
    fragments: u32,
    announced: u64,
    progress: Progress,
    /// The control frame behind the message was delivered and is to be forgotten.
    control_delivered: bool,
    /// How many octets at the start of `buffer` were delivered as a part of the message and are to be forgotten.
    part: usize,
    /// Since when octets are counted that come and are not the end, and how many have come since.
    since: Option<Millis>,
    came: usize,
}

/// The most octets that a part of a message is inflated to.
const PART: usize = 64 * 1024;

/// Where the payload of a complete frame is, or a part of a message.
pub(crate) enum Payload<'b> {
    /// In the input, unmasked.
    Input(&'b mut [u8]),
    /// In the assembly: a part at the start, else at the end.
    Assembly,
    /// In what a stream was inflated to, unmasked.
    Chunk(Range<usize>),
}

/// How far the frame in progress has come.
#[derive(Debug, Default)]
enum Progress {
    #[default]
    BetweenFrames,
    Header(Stash),
    Payload {
        header: Header,
        /// Octets still to be used up.
        missing: usize,
        /// More may be inflated from what was used up.
        filled: bool,
    },
}

/// The part of a header that has come.
#[derive(Debug, Default)]
struct Stash {
    octets: [u8; MAX_HEADER],
    len: usize,
}

impl Stash {
    /// Takes octets until there are `needs`, and tells whether they were there.
    fn fill(&mut self, needs: usize, input: &mut Input<'_>) -> bool {
        let taken = input.take(needs - self.len);
        self.octets[self.len..self.len + taken.len()].copy_from_slice(taken);
        self.len += taken.len();
        self.len == needs
    }
}

/// Checks what a header says against the message it falls into.
///
/// # Errors
/// A fragment where none may be, or a message beyond the limits: as soon as the header announces it.
#[inline]
//= RFC 6455#section-10.4
//# Implementations that have implementation- and/or platform-specific limitations regarding the frame size or total
//# message size after reassembly from multiple frames MUST protect themselves against exceeding those limits.
pub(crate) fn admit(header: &Header, assembly: Option<&Assembly>, limits: Limits) -> Result<(), Error> {
    if header.opcode.is_control() {
        return Ok(());
    }
    let begun = assembly.filter(|assembly| assembly.message.is_some());
    //= RFC 6455#section-5.4
    //# The fragments of one message MUST NOT be interleaved between the fragments of another message unless an extension
    //# has been negotiated that can interpret the interleaving.
    match (header.opcode == Opcode::Continuation, begun.is_some()) {
        //= RFC 6455#section-5.4
        //# the type for all fragments in a message MUST be either text, binary, or one of the reserved opcodes.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
        //# the type for all fragments in a message MUST be either text or binary, or one of the reserved opcodes.
        (true, false) => return Err(Error::NothingToContinue),
        (false, true) => return Err(Error::UnfinishedMessage),
        //= RFC 6455#section-5.4
        //# Clients and servers MUST support receiving both fragmented and unfragmented messages.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
        //# Clients and servers MUST support receiving both fragmented and unfragmented messages.
        _ => {}
    }
    let (announced, fragments) = begun.map_or((0, 0), |assembly| (assembly.announced, assembly.fragments));
    let limit = limits.max_message;
    let compressed = header.compressed || begun.is_some_and(|assembly| assembly.compressed);
    let most = if compressed {
        most_compressed(limit)
    } else {
        u64::from(limit)
    };
    if header.payload > most - announced {
        return Err(Error::MessageTooBig { limit });
    }
    let limit = limits.max_fragments;
    if fragments >= limit {
        return Err(Error::TooManyFragments { limit });
    }
    Ok(())
}

/// The most octets that a message of `limit` octets may be compressed to. The worst compressors add an eighth to what
/// cannot be compressed, and five octets wherever they flush: twice the size is a message that is not worth reading on.
fn most_compressed(limit: u32) -> u64 {
    2 * u64::from(limit) + 1024
}

impl Assembly {
    /// Whether the next octets belong to a frame that has begun.
    pub(crate) fn is_amid_frame(&self) -> bool {
        !matches!(self.progress, Progress::BetweenFrames)
    }

    /// Whether nothing is left to be kept.
    pub(crate) fn is_done(&self) -> bool {
        self.message.is_none() && !self.is_amid_frame()
    }

    /// Forgets what was delivered, and tells whether nothing is left to be kept.
    pub(crate) fn forget_delivered(&mut self) -> bool {
        if self.control_delivered {
            self.control_delivered = false;
            self.buffer.truncate(self.kept);
        }
        self.buffer.drain(..self.part);
        self.kept -= self.part;
        self.part = 0;
        self.is_done()
    }

    /// Whether something may be left to be delivered of octets that are used up.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self.progress, Progress::Payload { filled: true, .. })
    }

    /// Since when the present piece of what is not complete has been coming.
    pub(crate) fn coming_since(&self) -> Option<Millis> {
        self.since.filter(|_| !self.is_done())
    }

    /// `octets` came at `now`, and what they are part of is not complete.
    pub(crate) fn note_incomplete(&mut self, octets: usize, now: Millis) {
        self.came += octets;
        if self.came >= Timing::MESSAGE_PIECE {
            (self.since, self.came) = (Some(now), 0);
        }
        self.since.get_or_insert(now);
    }

    /// Octets of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.buffer.capacity()
    }

    /// Forgets everything, but keeps the buffer if its capacity is at most `kept`.
    pub(crate) fn clear(&mut self, kept: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        if buffer.capacity() > kept {
            buffer = Vec::new();
        }
        *self = Self {
            buffer,
            ..Self::default()
        };
    }

    /// Leaves the empty buffer no more capacity than a message of `limit` octets can use.
    pub(crate) fn limit_capacity(&mut self, limit: u32) {
        self.buffer.shrink_to(limit as usize + 1);
    }

    /// Gives back the memory that a message in parts does not need between two reads.
    pub(crate) fn trim(&mut self) {
        self.buffer.shrink_to(2 * crate::frame::MAX_CONTROL);
    }

    /// Keeps the octets of an unfinished header.
    pub(crate) fn begin_header(&mut self, input: &mut Input<'_>) {
        let mut stash = Stash::default();
        stash.fill(MAX_HEADER, input);
        self.progress = Progress::Header(stash);
    }

    /// Begins a frame whose header was admitted.
    pub(crate) fn begin(&mut self, header: Header) {
        if !header.opcode.is_control() {
            self.fragments += 1;
            self.announced += header.payload;
            if header.opcode != Opcode::Continuation {
                //= RFC 6455#section-6.2
                //# the endpoint MUST note the /type/ of the data as defined by the opcode (frame-opcode) from Section
                //# 5.2.
                self.message = Some(header.opcode);
                self.compressed = header.compressed;
            }
        }
        self.progress = Progress::Payload {
            header,
            missing: header.payload as usize,
            filled: false,
        };
    }

    /// Goes on with the frame in progress. Gives its header when it is complete: then its payload is the end of the
    /// message, or what [`Assembly::deliver_control`] gives. Of a message that is delivered in parts it gives what
    /// [`Assembly::resume_part`] does. None if there is nothing to deliver yet.
    ///
    /// # Errors
    /// The header is refused, or text is not UTF-8, or compressed data cannot be inflated.
    pub(crate) fn resume<'b>(
        &mut self,
        input: &mut Input<'b>,
        mut reader: Reader<'_, '_>,
    ) -> Result<Option<(Header, Payload<'b>)>, Error> {
        if let Progress::Header(stash) = &mut self.progress {
            let header = loop {
                let octets = &stash.octets[..stash.len];
                match decode_header(reader.dialect, reader.masked, reader.messages.is_some(), octets)? {
                    Decoded::Header(header) => break header,
                    Decoded::Needs(needs) => {
                        if !stash.fill(needs, input) {
                            return Ok(None);
                        }
                    }
                }
            };
            admit(&header, Some(self), reader.limits)?;
            self.begin(header);
        }
        let Progress::Payload { header, missing, .. } = &mut self.progress else {
            return Ok(None);
        };
        let header = *header;
        if reader.in_parts && !header.opcode.is_control() {
            let missing = *missing;
            return self.resume_part(header, missing, input, reader);
        }
        let chunk = input.take(*missing);
        let position = header.payload as usize - *missing;
        *missing -= chunk.len();
        let complete = *missing == 0;
        //= RFC 6455#section-6.2
        //# A server MUST remove masking for data frames received from a client as described in Section 5.3.
        if reader.masked {
            tidecast_simd::unmask_from(chunk, header.key, position);
        }
        self.append(chunk, &header, position, &mut reader)?;
        if complete {
            self.progress = Progress::BetweenFrames;
        }
        if !header.opcode.is_control() {
            self.kept = self.buffer.len();
            // The last octets of a message are checked with the whole, where it is delivered.
            if !(complete && header.fin) {
                self.check_text(&reader)?;
            }
        }
        self.invariants();
        Ok(complete.then_some((header, Payload::Assembly)))
    }

    /// Goes on with a data frame of which `missing` octets are not used up. Gives what came of it as a part of the
    /// message, and for its header a continuation, which is final if the message ends with it.
    ///
    /// A part is left where it lies in the input. Not so what is compressed, or stands behind a character that began in
    /// the part before: that goes through the buffer.
    fn resume_part<'b>(
        &mut self,
        header: Header,
        missing: usize,
        input: &mut Input<'b>,
        mut reader: Reader<'_, '_>,
    ) -> Result<Option<(Header, Payload<'b>)>, Error> {
        let continuation = |fin| Header {
            fin,
            opcode: Opcode::Continuation,
            ..header
        };
        let text = self.message == Some(Opcode::Text);
        let position = header.payload as usize - missing;
        let came = missing.min(input.rest().len());
        let chunk = &mut input.rest_mut()[..came];
        // What is not used up now comes again, and as it came.
        let masked = reader.masked;
        let toggle_mask = |chunk: &mut [u8], from: usize| {
            if masked {
                tidecast_simd::unmask_from(&mut chunk[from..], header.key, position + from);
            }
        };
        toggle_mask(chunk, 0);

        if !self.compressed && self.kept == 0 && !(text && reader.any_text) {
            let ends = header.fin && came == missing;
            // A character that the message breaks off in is an error, which is found where it is delivered.
            let len = came - if text && !ends { unfinished(chunk) } else { 0 };
            if len > 0 || ends {
                toggle_mask(chunk, len);
                self.use_up(header, missing - len, false);
                return Ok(Some((continuation(ends), Payload::Input(input.take(len)))));
            }
        }

        let Inflated { consumed, filled } = self.append(chunk, &header, position, &mut reader)?;
        toggle_mask(chunk, consumed);
        input.take(consumed);
        self.use_up(header, missing - consumed, filled);
        let ends = header.fin && !self.is_amid_frame();
        self.part = self.buffer.len();
        if text {
            self.part -= if ends { 0 } else { unfinished(&self.buffer) };
            if reader.any_text {
                self.part = replace_invalid(&mut self.buffer, self.part);
            }
        }
        self.kept = self.buffer.len();
        Ok((self.part > 0 || ends).then_some((continuation(ends), Payload::Assembly)))
    }

    /// `missing` octets are left of the frame in progress.
    fn use_up(&mut self, header: Header, missing: usize, filled: bool) {
        self.progress = if missing > 0 || filled {
            Progress::Payload {
                header,
                missing,
                filled,
            }
        } else {
            Progress::BetweenFrames
        };
    }

    /// Adds a fragment that lay whole in the input, unmasked.
    ///
    /// # Errors
    /// The text is not UTF-8, or compressed data cannot be inflated.
    pub(crate) fn add_fragment(
        &mut self,
        header: Header,
        payload: &[u8],
        mut reader: Reader<'_, '_>,
    ) -> Result<(), Error> {
        self.begin(header);
        self.append(payload, &header, 0, &mut reader)?;
        self.progress = Progress::BetweenFrames;
        self.kept = self.buffer.len();
        if !header.fin {
            self.check_text(&reader)?;
        }
        self.invariants();
        Ok(())
    }

    /// Adds a whole message that is compressed, and unmasked.
    ///
    /// # Errors
    /// It cannot be inflated, or the text is not UTF-8.
    pub(crate) fn add_message(
        &mut self,
        kind: Opcode,
        payload: &[u8],
        mut reader: Reader<'_, '_>,
    ) -> Result<(), Error> {
        self.message = Some(kind);
        self.compressed = true;
        self.inflate(payload, true, &mut reader)?;
        self.kept = self.buffer.len();
        self.invariants();
        Ok(())
    }

    /// Ends the message and gives its kind and octets. With that this assembly is done: the next
    /// [`Assembly::forget_delivered`] tells so.
    pub(crate) fn deliver_message(&mut self) -> (Opcode, &[u8]) {
        //= RFC 6455#section-6.2
        //# Subsequent data frames MUST be interpreted as belonging to a new WebSocket message.
        let kind = self.message.take();
        (
            kind.expect("a data frame that is complete has begun a message"),
            &self.buffer,
        )
    }

    /// Gives the kind of the message and its part that [`Assembly::resume`] found last, if it is here. With `last`, the
    /// message ends.
    pub(crate) fn deliver_part(&mut self, last: bool) -> (Opcode, &[u8]) {
        let kind = if last { self.message.take() } else { self.message };
        (
            kind.expect("a part is one of a message that has begun"),
            &self.buffer[..self.part],
        )
    }

    /// Puts U+FFFD in the place of what is not UTF-8 in a text that is complete.
    pub(crate) fn replace_invalid_text(&mut self) {
        if self.message == Some(Opcode::Text) {
            self.kept = replace_invalid(&mut self.buffer, self.kept);
        }
    }

    /// Ends the control frame just completed, which is forgotten by the next [`Assembly::forget_delivered`].
    //= RFC 6455#section-5.4
    //# An endpoint MUST be capable of handling control frames in the middle of a fragmented message.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.4
    //# An endpoint MUST be capable of handling control frames in the middle of a fragmented message.
    //= draft-ietf-hybi-thewebsocketprotocol-06#section-4.4
    //# an endpoint MUST be capable of handling control frames in the middle of a fragmented message.
    pub(crate) fn deliver_control(&mut self) -> &[u8] {
        self.control_delivered = true;
        &self.buffer[self.kept..]
    }

    /// Appends `chunk`, which stands at `position` in its frame's payload, or what it inflates to: all of it, unless
    /// the message is delivered in parts.
    ///
    /// Memory follows the octets that came, not the length that was announced: the buffer doubles, but takes no more
    /// than a last frame can fill.
    fn append(
        &mut self,
        chunk: &[u8],
        header: &Header,
        position: usize,
        reader: &mut Reader<'_, '_>,
    ) -> Result<Inflated, Error> {
        if self.compressed && !header.opcode.is_control() {
            let last = header.fin && (position + chunk.len()) as u64 == header.payload;
            return self.inflate(chunk, last, reader);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        if room < chunk.len() {
            let doubled = chunk.len().max(self.buffer.capacity());
            self.buffer.reserve_exact(if header.fin {
                doubled.min(header.payload as usize - position)
            } else {
                doubled
            });
        }
        //= RFC 6455#section-5.4
        //# Message fragments MUST be delivered to the recipient in the order sent by the sender.
        //= RFC 7692#section-6.2
        //# An endpoint MUST use the following algorithm to receive a message in the form of an uncompressed message.
        self.buffer.extend_from_slice(chunk);
        Ok(Inflated {
            consumed: chunk.len(),
            filled: false,
        })
    }

    /// Appends what `chunk` inflates to. With `last`, the message ends.
    //= RFC 7692#section-6.2
    //# An endpoint MUST use the following algorithm to receive a message in the form of a compressed message.
    fn inflate(&mut self, chunk: &[u8], last: bool, reader: &mut Reader<'_, '_>) -> Result<Inflated, Error> {
        let messages = reader.messages.as_mut();
        let messages = messages.expect("a header of a compressed message is refused without permessage-deflate");
        let room = if reader.in_parts { PART } else { usize::MAX };
        let inflated = messages.inflate(chunk, last, &mut self.buffer, room, reader.limits, reader.inflaters);
        if inflated.is_err() {
            // Of two errors the first one counts, however the message is cut.
            self.kept = self.buffer.len();
            self.check_text(reader)?;
        }
        inflated
    }

    /// Fails at the first octet that cannot be UTF-8; a character may still be incomplete.
    ///
    //= RFC 6455#section-8.1
    //# When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in fact, a valid
    //# UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_.
    fn check_text(&mut self, reader: &Reader<'_, '_>) -> Result<(), Error> {
        if self.message != Some(Opcode::Text) || reader.any_text {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.buffer[self.checked..]) {
            Ok(_) => self.checked = self.buffer.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Error::InvalidText),
        }
        Ok(())
    }

    fn invariants(&self) {
        debug_assert!(self.checked <= self.kept && self.kept <= self.buffer.len());
        debug_assert!(self.buffer.len() <= self.kept + crate::frame::MAX_CONTROL);
    }
}

/// How many octets at the end of `octets` are a character that is not complete.
fn unfinished(octets: &[u8]) -> usize {
    let last = &octets[octets.len().saturating_sub(3)..];
    let start = last.iter().rposition(|octet| octet & 0xc0 != 0x80);
    let character = start.map_or(&[][..], |start| &last[start..]);
    match str::from_utf8(character) {
        Err(error) if error.error_len().is_none() => character.len(),
        _ => 0,
    }
}

/// Puts U+FFFD in the place of what is not UTF-8 in the first `len` octets of `buffer`, and gives how many they are then.
///
//= draft-ietf-hybi-thewebsocketprotocol-07#section-6.1
//# When a client is to interpret a byte stream as UTF-8 but finds that the byte stream is not in fact a valid UTF-8
//# stream, then any bytes or sequences of bytes that are not valid UTF-8 sequences MUST be interpreted as a U+FFFD
//# REPLACEMENT CHARACTER.
fn replace_invalid(buffer: &mut Vec<u8>, len: usize) -> usize {
    let Cow::Owned(text) = String::from_utf8_lossy(&buffer[..len]) else {
        return len;
    };
    buffer.splice(..len, text.bytes());
    text.len()
}
