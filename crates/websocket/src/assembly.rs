//! What must be kept when a message does not lie whole in one read: its octets so far, and the frame in progress.

use std::borrow::Cow;

use crate::dialect::Dialect;
use crate::error::Error;
use crate::frame::{Decoded, Header, MAX_HEADER, Opcode, decode_header};
use crate::inflate::Inflaters;
use crate::input::Input;
use crate::limits::Limits;
use crate::permessage::PerMessage;

/// What it takes to read on: how frames look here, what they may ask for, and how to inflate messages.
#[derive(Debug)]
pub(crate) struct Reader<'c, 'p> {
    pub(crate) dialect: &'static Dialect,
    /// Whether the frames that come are masked.
    pub(crate) masked: bool,
    pub(crate) limits: Limits,
    /// Text that is not UTF-8 is not refused.
    pub(crate) any_text: bool,
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
}

/// How far the frame in progress has come.
#[derive(Debug, Default)]
enum Progress {
    #[default]
    BetweenFrames,
    Header(Stash),
    Payload {
        header: Header,
        /// Octets still to come.
        missing: usize,
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
    //# The fragments of one message MUST NOT be interleaved between the fragments of another message
    match (header.opcode == Opcode::Continuation, begun.is_some()) {
        //= RFC 6455#section-5.4
        //# the type for all fragments in a message MUST be either text, binary, or one of the reserved opcodes.
        (true, false) => return Err(Error::NothingToContinue),
        (false, true) => return Err(Error::UnfinishedMessage),
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

    /// Forgets what was delivered, and tells whether nothing is left to be kept.
    pub(crate) fn forget_delivered(&mut self) -> bool {
        if self.control_delivered {
            self.control_delivered = false;
            self.buffer.truncate(self.kept);
        }
        self.message.is_none() && !self.is_amid_frame()
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
                self.message = Some(header.opcode);
                self.compressed = header.compressed;
            }
        }
        self.progress = Progress::Payload {
            header,
            missing: header.payload as usize,
        };
    }

    /// Goes on with the frame in progress. Gives its header when it is complete: then its payload is the end of the
    /// message, or what [`Assembly::deliver_control`] gives.
    ///
    /// # Errors
    /// The header is refused, or text is not UTF-8, or compressed data cannot be inflated.
    pub(crate) fn resume(
        &mut self,
        input: &mut Input<'_>,
        mut reader: Reader<'_, '_>,
    ) -> Result<Option<Header>, Error> {
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
        let Progress::Payload { header, missing } = &mut self.progress else {
            return Ok(None);
        };
        let header = *header;
        let chunk = input.take(*missing);
        let position = header.payload as usize - *missing;
        *missing -= chunk.len();
        let complete = *missing == 0;
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
        Ok(complete.then_some(header))
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

    /// Ends the message and gives its kind and octets. With that this assembly is done: the next
    /// [`Assembly::forget_delivered`] tells so.
    pub(crate) fn deliver_message(&mut self) -> (Opcode, &[u8]) {
        let kind = self.message.take();
        (
            kind.expect("a data frame that is complete has begun a message"),
            &self.buffer,
        )
    }

    /// Puts U+FFFD in the place of what is not UTF-8 in a text that is complete.
    ///
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-6.1
    //# When a client is to interpret a byte stream as UTF-8 but finds that the byte stream is not in fact a valid UTF-8
    //# stream, then any bytes or sequences of bytes that are not valid UTF-8 sequences MUST be interpreted as a U+FFFD
    //# REPLACEMENT CHARACTER.
    pub(crate) fn replace_invalid_text(&mut self) {
        if self.message == Some(Opcode::Text)
            && let Cow::Owned(text) = String::from_utf8_lossy(&self.buffer)
        {
            self.buffer = text.into_bytes();
            self.kept = self.buffer.len();
        }
    }

    /// Ends the control frame just completed, which is forgotten by the next [`Assembly::forget_delivered`].
    pub(crate) fn deliver_control(&mut self) -> &[u8] {
        self.control_delivered = true;
        &self.buffer[self.kept..]
    }

    /// Appends `chunk`, which stands at `position` in its frame's payload, or what it inflates to.
    ///
    /// Memory follows the octets that came, not the length that was announced: the buffer doubles, but takes no more
    /// than a last frame can fill.
    fn append(
        &mut self,
        chunk: &[u8],
        header: &Header,
        position: usize,
        reader: &mut Reader<'_, '_>,
    ) -> Result<(), Error> {
        if let (true, false, Some(messages)) = (self.compressed, header.opcode.is_control(), &mut reader.messages) {
            let last = header.fin && (position + chunk.len()) as u64 == header.payload;
            let inflated = messages.inflate(chunk, last, &mut self.buffer, reader.limits, reader.inflaters);
            if inflated.is_err() {
                // Of two errors the first one counts, however the message is cut.
                self.kept = self.buffer.len();
                self.check_text(reader)?;
            }
            return inflated;
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
        self.buffer.extend_from_slice(chunk);
        Ok(())
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
