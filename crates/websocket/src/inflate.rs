//! Inflating, and the memory that it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::{Decompress, FlushDecompress, Status};

use crate::assembly::Assembly;
use crate::error::Error;
use crate::permessage::TAIL;

/// Inflaters shared by the connections of one thread: see [`Connection::poll_pooled`].
///
/// An inflater is the largest thing a connection can hold. It takes one at the first compressed octets, and gives it
/// back where the next message needs nothing of it; so of many connections only few have one at any moment.
///
/// Beside them the pool has what every connection needs only from one call to the next: a buffer for streams, and one for
/// messages that came whole, of at most 256 KiB, which goes from message to message.
///
/// Invariant: `dropped <= lent <= dropped + max_in_use`, and `pooled <= max_pooled`.
///
/// [`Connection::poll_pooled`]: crate::Connection::poll_pooled
#[derive(Debug)]
pub struct InflatePool {
    #[expect(
        clippy::vec_box,
        reason = "they go to connections, which are small, and come back, without a move"
    )]
    idle: Vec<Box<Inflater>>,
    /// How many were lent and did not come back.
    lent: usize,
    /// How many of these are gone, whoever dropped them.
    dropped: Arc<AtomicUsize>,
    max_in_use: usize,
    max_pooled: usize,
    /// The buffer that streams are inflated into, while none of them needs it.
    chunk: Vec<u8>,
    /// What whole messages are inflated into, while none of them needs it.
    assembly: Option<Box<Assembly>>,
}

/// The largest buffer of a message that is kept for the next one. A larger message takes so long to inflate that an
/// allocation does not show.
const KEPT: usize = 256 * 1024;

impl InflatePool {
    /// The memory of one inflater, in octets: its window of 32 KiB, its tables, and what goes with them.
    pub const INFLATER_BYTES: usize = 48 * 1024;

    /// A pool that lends at most `max_in_use` inflaters at a time, and keeps at most `max_pooled` of those that came
    /// back. None is allocated yet.
    #[must_use]
    pub fn new(max_in_use: usize, max_pooled: usize) -> Self {
        Self {
            idle: Vec::new(),
            lent: 0,
            dropped: Arc::default(),
            max_in_use,
            max_pooled,
            chunk: Vec::new(),
            assembly: None,
        }
    }

    /// How many inflaters connections hold.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.lent - self.dropped.load(Ordering::Relaxed)
    }

    /// How many inflaters wait to be used again.
    #[must_use]
    pub fn pooled(&self) -> usize {
        self.idle.len()
    }

    /// The memory of all inflaters, in octets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.in_use() + self.pooled()) * Self::INFLATER_BYTES
    }

    fn take(&mut self) -> Option<Box<Inflater>> {
        if self.in_use() >= self.max_in_use {
            return None;
        }
        let mut inflater = self
            .idle
            .pop()
            .unwrap_or_else(|| Box::new(Inflater::new(Some(&self.dropped))));
        self.lent += 1;
        inflater.lent = true;
        Some(inflater)
    }

    fn put(&mut self, mut inflater: Box<Inflater>) {
        // One of another pool, or of none, is not counted here.
        let dropped = inflater.dropped.as_ref();
        if dropped.is_none_or(|dropped| !Arc::ptr_eq(dropped, &self.dropped)) {
            return;
        }
        inflater.lent = false;
        self.lent -= 1;
        if self.idle.len() < self.max_pooled {
            inflater.reset();
            self.idle.push(inflater);
        }
    }
}

/// Where a connection gets its inflaters: from a pool, or each for itself.
#[derive(Debug)]
pub(crate) struct Inflaters<'p>(pub(crate) Option<&'p mut InflatePool>);

impl Inflaters<'_> {
    /// # Errors
    /// The pool has lent as many as it may.
    pub(crate) fn take(&mut self) -> Result<Box<Inflater>, Error> {
        match &mut self.0 {
            Some(pool) => pool.take().ok_or(Error::NoInflater),
            None => Ok(Box::new(Inflater::new(None))),
        }
    }

    pub(crate) fn put(&mut self, inflater: Box<Inflater>) {
        if let Some(pool) = &mut self.0 {
            pool.put(inflater);
        }
    }

    /// An empty buffer of at least `capacity`.
    pub(crate) fn take_chunk(&mut self, capacity: usize) -> Vec<u8> {
        let mut chunk = self
            .0
            .as_mut()
            .map_or(Vec::new(), |pool| std::mem::take(&mut pool.chunk));
        chunk.clear();
        chunk.reserve_exact(capacity);
        chunk
    }

    pub(crate) fn put_chunk(&mut self, chunk: Vec<u8>) {
        if let Some(pool) = &mut self.0 {
            pool.chunk = chunk;
        }
    }

    /// An assembly of nothing, for a message that has come whole, of at most `limit` octets. Its buffer may be large
    /// already: it is not for what a connection holds until more comes.
    pub(crate) fn take_assembly(&mut self, limit: u32) -> Box<Assembly> {
        let mut assembly = self
            .0
            .as_mut()
            .and_then(|pool| pool.assembly.take())
            .unwrap_or_default();
        assembly.limit_capacity(limit);
        assembly
    }

    pub(crate) fn put_assembly(&mut self, mut assembly: Box<Assembly>) {
        if let Some(pool) = &mut self.0 {
            assembly.clear(KEPT);
            pool.assembly = Some(assembly);
        }
    }
}

/// What is added behind the octets that came of a message, which is sent without the end of its last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// Nothing: the message goes on.
    Nothing,
    /// What was taken away, [`TAIL`]. Behind a message that breaks off inside a block it may complete that.
    Tail,
    /// What no stored block has for its length and the complement of that. Refused for just that, at its last octet,
    /// it stands where the tail would: no block was broken off. A stream cannot go on behind it.
    Probe,
}

impl Added {
    //= RFC 7692#section-7.2.2
    //# Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message.
    pub(crate) fn octets(self) -> &'static [u8] {
        match self {
            Self::Nothing => &[],
            Self::Tail => &TAIL,
            Self::Probe => &[0; TAIL.len()],
        }
    }
}

/// How zlib refuses [`Added::Probe`].
const BAD_LENGTHS: &str = "invalid stored block lengths";

/// One deflated stream, or several: behind a final block a new stream begins, which refers to nothing before it.
#[derive(Debug)]
pub(crate) struct Inflater {
    inner: Decompress,
    /// The last block was a final one, and nothing came after it.
    ended: bool,
    /// Whether a pool counts it as in use.
    lent: bool,
    /// Where that pool learns that it does not come back.
    dropped: Option<Arc<AtomicUsize>>,
}

impl Drop for Inflater {
    fn drop(&mut self) {
        if let (true, Some(dropped)) = (self.lent, &self.dropped) {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Inflater {
    /// One for a raw stream, with the window that every stream can be read with.
    //= RFC 7692#section-7.2.2
    //# Otherwise, the client MUST use a 32,768-byte LZ77 sliding window to decompress received messages.
    //= RFC 7692#section-7.2.2
    //# Otherwise, the server MUST use a 32,768-byte LZ77 sliding window to decompress received messages.
    fn new(dropped: Option<&Arc<AtomicUsize>>) -> Self {
        Self {
            inner: Decompress::new(false),
            ended: false,
            lent: false,
            dropped: dropped.cloned(),
        }
    }

    /// Begins a new stream.
    fn reset(&mut self) {
        self.inner.reset(false);
        self.ended = false;
    }

    /// Whether the last block was a final one, and nothing came after it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Inflates some of `octets` into what capacity `out` has left, and gives how many were used up. If all are, and
    /// capacity is left over, then nothing more comes out of them.
    ///
    /// The last of them are what was `added`. They are left where a final block ended just before them; a probe that is
    /// refused as it should be ends the stream as well.
    ///
    /// # Errors
    /// They are not deflated data, or break off where a probe stands. What came before is in `out`.
    pub(crate) fn inflate(&mut self, octets: &[u8], added: Added, out: &mut Vec<u8>) -> Result<usize, Error> {
        let added_len = added.octets().len();
        let mut consumed = 0;
        loop {
            if self.ended {
                if octets.len() - consumed == added_len {
                    return Ok(consumed);
                }
                self.reset();
            }
            let (before, produced) = (self.inner.total_in(), out.len());
            let rest = &octets[consumed..];
            let result = self.inner.decompress_vec(rest, out, FlushDecompress::None);
            let taken = (self.inner.total_in() - before) as usize;
            consumed += taken;
            let missing = octets.len() - consumed;
            self.ended = match result {
                Ok(Status::StreamEnd) if added == Added::Probe && missing < added_len => {
                    return Err(Error::InvalidDeflate);
                }
                Ok(status) => status == Status::StreamEnd,
                Err(error) if added == Added::Probe && missing == 0 && error.message() == Some(BAD_LENGTHS) => true,
                Err(_) => return Err(Error::InvalidDeflate),
            };
            let full = out.len() == out.capacity();
            let stuck = taken == 0 && out.len() == produced && !self.ended;
            if full || stuck || consumed == octets.len() {
                // Only a lack of room or of input can hold it up, and both were there.
                return if stuck && !full && consumed < octets.len() {
                    Err(Error::InvalidDeflate)
                } else {
                    Ok(consumed)
                };
            }
        }
    }
}
