//! deflate-stream: everything after the handshake is one deflated stream in each direction, below the framing.
//!
//! ```text
//!   received:  octets --> inflate, a chunk at a time --> frames
//! ```
//!
//! The ends of messages are not marked: senders flush as they like, and a frame may end in the middle of an octet. So
//! all that comes goes into one inflater, and all that comes out are frames. No more than one chunk is inflated ahead
//! of the frames that were read: what limits frames and messages limits what is inflated.

use crate::error::Error;
use crate::inflate::{Added, Inflater, Inflaters};
use crate::input::Input;
use crate::limits::Limits;
use crate::permessage::RATIO_FREE;

/// The most octets that are inflated at a time. Large enough that the inflater's cost per call does not show.
const CHUNK: usize = 16 * 1024;

/// The receiving side of deflate-stream.
///
/// Invariant: `read <= chunk.len() <= CHUNK`.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// From the first octet that came.
    inflater: Option<Box<Inflater>>,
    /// What was inflated last; without memory where all of it was read.
    chunk: Vec<u8>,
    /// How much of it was read.
    read: usize,
    /// The chunk was filled: more may come out of what was fed already.
    filled: bool,
    /// Behind the chunk is what cannot be inflated.
    broken: bool,
    /// Octets before inflating, and after it.
    received: u64,
    inflated: u64,
}

impl Stream {
    /// What is inflated and not read yet.
    pub(crate) fn unread(&mut self) -> Input<'_> {
        Input::new(&mut self.chunk[self.read..])
    }

    /// `count` octets more were read. Gives the position behind them in [`Stream::chunk`].
    pub(crate) fn advance(&mut self, count: usize) -> usize {
        self.read += count;
        debug_assert!(self.read <= self.chunk.len() && self.chunk.len() <= self.chunk.capacity());
        self.read
    }

    /// What was inflated last.
    pub(crate) fn chunk(&self) -> &[u8] {
        &self.chunk
    }

    /// Octets of memory that it holds, its inflater aside.
    pub(crate) fn memory(&self) -> usize {
        self.chunk.capacity()
    }

    /// Forgets what is only needed to receive.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }

    /// Inflates the next chunk, once all of the last one was read, and tells whether there is one. If not, then all
    /// of `input` is used up.
    ///
    /// # Errors
    /// The octets are not deflated data, or they inflate to too much; or there is no memory for an inflater.
    pub(crate) fn inflate(
        &mut self,
        input: &mut Input<'_>,
        limits: Limits,
        inflaters: &mut Inflaters<'_>,
    ) -> Result<bool, Error> {
        debug_assert_eq!(self.read, self.chunk.len());
        self.chunk.clear();
        self.read = 0;
        if self.broken {
            return Err(Error::InvalidDeflate);
        }
        if input.is_empty() && !self.filled {
            inflaters.put_chunk(std::mem::take(&mut self.chunk));
            return Ok(false);
        }
        let inflater = match &mut self.inflater {
            Some(inflater) => inflater,
            empty => empty.insert(inflaters.take()?),
        };
        if self.chunk.capacity() < CHUNK {
            self.chunk = inflaters.take_chunk(CHUNK);
        }
        let consumed = inflater
            .inflate(input.rest(), Added::Nothing, &mut self.chunk)
            .or_else(|error| {
                // The frames before it are heard first: what is heard does not depend on how the stream is cut.
                self.broken = true;
                if self.chunk.is_empty() {
                    Err(error)
                } else {
                    Ok(input.rest().len())
                }
            })?;
        input.take(consumed);
        self.filled = self.chunk.len() == self.chunk.capacity();
        self.received += consumed as u64;
        self.inflated += self.chunk.len() as u64;
        if self.inflated > u64::from(limits.max_inflate_ratio) * self.received + RATIO_FREE {
            return Err(Error::InflateRatio {
                limit: limits.max_inflate_ratio,
            });
        }
        if self.chunk.is_empty() {
            inflaters.put_chunk(std::mem::take(&mut self.chunk));
        }
        Ok(!self.chunk.is_empty())
    }
}
