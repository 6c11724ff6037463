//! The outbox: what is to be sent, written once, however many connections it goes to.
//!
//! ```text
//!  log of a rendition   │ frame │ frame │ frame │ frame │        one append per message
//!                        ▲───────────────────────▲
//!  queue of connection 1 └─── one merged range ──┘               12 bytes, no copy
//!                                ▲───────▲   ▲───────▲
//!  queue of connection 2         └───────┘   └───────┘           a range where it was not subscribed in between
//! ```
//!
//! A log is a chain of segments; bytes in a segment never move and never change while a [`Queue`] refers to them. A
//! segment counts the ranges that refer to it (its pins) and is used again when the last one goes. In the steady state
//! everything appended in a turn is sent in that turn, so one segment per log is written over and over and stays in the
//! processor's cache.
//!
//! Every range holds whole frames, so a queue can be cut at a frame's end (see [`Queue::cut`]).

use std::collections::VecDeque;

/// Bytes of a log's segment. Large enough that a busy turn's output is one contiguous range per connection.
const SEGMENT: usize = 256 * 1024;
/// From here on a message has a segment of its own, so that it does not tear the log.
const LARGE: usize = SEGMENT / 4;
/// Ranges smaller than this are gathered into one send; from here on a send of their own costs less than the copy.
const GATHER_RANGE: usize = 16 * 1024;
/// The most bytes gathered into one send.
const GATHER_TOTAL: usize = LARGE - 1;
/// Bytes of memory for each range in a list: 12 in a queue and 40 in a backlog, where lists are less than half full at times.
pub(crate) const LISTED: usize = 32;
/// Empty segments kept for reuse.
const SPARE: usize = 16;

/// Contiguous bytes of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    segment: u32,
    start: u32,
    end: u32,
}

impl Range {
    /// No bytes of no segment.
    pub(crate) const EMPTY: Range = Range {
        segment: u32::MAX,
        start: 0,
        end: 0,
    };

    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn is_in(self, segment: SegmentId) -> bool {
        self.segment == segment.0
    }

    /// This and `later` as one, if that begins where this ends.
    #[inline]
    pub(crate) fn joined(self, later: Range) -> Option<Range> {
        let adjoins = self.segment == later.segment && self.end == later.start;
        adjoins.then_some(Range { end: later.end, ..self })
    }

    /// Parts of these lengths, one after the other.
    pub(crate) fn split(self, lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = Range> {
        lengths.scan(self.start, move |start, len| {
            let end = *start + len as u32;
            Some(Range {
                segment: self.segment,
                start: std::mem::replace(start, end),
                end,
            })
        })
    }
}

#[derive(Debug, Default)]
struct Segment {
    /// Never grows beyond the capacity it was made with, so that its bytes stay where they are.
    bytes: Vec<u8>,
    /// Ranges in queues that refer to this segment.
    pins: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Unused; its number is in `free`.
    #[default]
    Free,
    /// The end of a log: grows.
    Open,
    /// Part of a log that is full.
    Sealed,
    /// One large message, or bytes copied out for one connection: not part of a log.
    Own,
}

/// All logs of a worker.
///
/// Invariant: `pins` of a segment is the number of ranges in queues that name it, and a segment without pins is free,
/// open, or was appended to in this turn.
#[derive(Debug)]
pub(crate) struct Outbox {
    segments: Vec<Segment>,
    /// Numbers of free entries in `segments`.
    free: Vec<u32>,
    /// Buffers of freed segments, all of capacity `SEGMENT`.
    spare: Vec<Vec<u8>>,
    /// The open segment of each log.
    logs: Vec<Option<u32>>,
    /// Sealed segments, oldest first; freed ones are removed when they come to the front.
    sealed: VecDeque<u32>,
    /// Own segments that were made in this turn and may have found no taker.
    fresh: Vec<u32>,
    /// Bytes of memory held by open and sealed segments.
    log_bytes: usize,
    /// The same of own ones.
    own_bytes: usize,
    /// Ranges in queues and backlogs.
    pins: usize,
}

impl Outbox {
    /// An outbox of `logs` logs.
    pub(crate) fn new(logs: usize) -> Outbox {
        Outbox {
            segments: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            logs: vec![None; logs],
            sealed: VecDeque::new(),
            fresh: Vec::new(),
            log_bytes: 0,
            own_bytes: 0,
            pins: 0,
        }
    }

    /// The bytes of `range`.
    pub(crate) fn bytes(&self, range: Range) -> &[u8] {
        if range.is_empty() {
            return &[];
        }
        &self.segments[range.segment as usize].bytes[range.start as usize..range.end as usize]
    }

    /// Bytes of memory in logs: what they hold at the least, whatever the queues say.
    pub(crate) fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// Bytes of memory that wait to be sent, lists of them included. What the end of each log takes is always there and does not
    /// count.
    pub(crate) fn held(&self) -> usize {
        self.own_bytes + self.sealed.len() * SEGMENT + self.pins * LISTED
    }

    /// Appends whole frames, given in parts, to `log`. The range is not pinned until a queue takes it.
    pub(crate) fn append(&mut self, log: usize, parts: &[&[u8]]) -> Range {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let segment = if len >= LARGE {
            let own = self.create(Kind::Own, Vec::with_capacity(len));
            self.fresh.push(own);
            own
        } else {
            self.room(log, len)
        };
        let bytes = &mut self.segments[segment as usize].bytes;
        let start = bytes.len();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Range {
            segment,
            start: start as u32,
            end: bytes.len() as u32,
        }
    }

    /// The open segment of `log` with room for `len` bytes, a new one if need be.
    fn room(&mut self, log: usize, len: usize) -> u32 {
        if let Some(open) = self.logs[log] {
            let segment = &mut self.segments[open as usize];
            if segment.bytes.capacity() - segment.bytes.len() >= len {
                return open;
            }
            segment.kind = Kind::Sealed;
            self.sealed.push_back(open);
        }
        let buffer = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(SEGMENT));
        self.log_bytes += buffer.capacity();
        let segment = self.create(Kind::Open, buffer);
        self.logs[log] = Some(segment);
        segment
    }

    fn create(&mut self, kind: Kind, bytes: Vec<u8>) -> u32 {
        if kind == Kind::Own {
            self.own_bytes += bytes.capacity();
        }
        let segment = Segment { bytes, pins: 0, kind };
        match self.free.pop() {
            Some(number) => {
                self.segments[number as usize] = segment;
                number
            }
            None => {
                self.segments.push(segment);
                (self.segments.len() - 1) as u32
            }
        }
    }

    fn release(&mut self, number: u32) {
        let segment = std::mem::take(&mut self.segments[number as usize]);
        debug_assert_eq!(segment.pins, 0, "a pinned segment is in use");
        if segment.kind == Kind::Own {
            self.own_bytes -= segment.bytes.capacity();
        } else {
            self.log_bytes -= segment.bytes.capacity();
            if self.spare.len() < SPARE {
                let mut bytes = segment.bytes;
                bytes.clear();
                self.spare.push(bytes);
            }
        }
        self.free.push(number);
    }

    #[inline]
    fn pin(&mut self, number: u32) {
        self.pins += 1;
        self.segments[number as usize].pins += 1;
    }

    fn unpin(&mut self, number: u32) {
        self.pins -= 1;
        let segment = &mut self.segments[number as usize];
        segment.pins -= 1;
        // Sealed segments are freed by `reclaim`, in the order of their age; an open one is its log's end.
        if segment.pins == 0 && segment.kind == Kind::Own {
            self.release(number);
        }
    }

    /// Keeps the bytes of `range` where they are until [`Outbox::unpin_range`].
    pub(crate) fn pin_range(&mut self, range: Range) {
        if !range.is_empty() {
            self.pin(range.segment);
        }
    }

    pub(crate) fn unpin_range(&mut self, range: Range) {
        if !range.is_empty() {
            self.unpin(range.segment);
        }
    }

    /// Ends a turn: takes back all segments that no queue refers to.
    pub(crate) fn reclaim(&mut self) {
        for open in self.logs.iter().flatten() {
            let segment = &mut self.segments[*open as usize];
            if segment.pins == 0 {
                segment.bytes.clear();
            }
        }
        for number in std::mem::take(&mut self.fresh) {
            let segment = &self.segments[number as usize];
            if segment.kind == Kind::Own && segment.pins == 0 {
                self.release(number);
            }
        }
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.retain(|&number| {
            let pinned = self.segments[number as usize].pins > 0;
            if !pinned {
                self.release(number);
            }
            pinned
        });
        self.sealed = sealed;
    }

    /// Bytes of memory that are given back when these ranges, of one connection, are: of a segment that others refer to too
    /// there are none. The end of a log does not count.
    pub(crate) fn held_alone(&self, ranges: impl Iterator<Item = Range>) -> usize {
        let mut segments: Vec<u32> = ranges.map(|range| range.segment).collect();
        segments.sort_unstable();
        let of_segment = |same: &[u32]| {
            let Segment { bytes, pins, kind } = &self.segments[same[0] as usize];
            let alone = match kind {
                Kind::Own | Kind::Sealed if *pins as usize == same.len() => bytes.capacity(),
                Kind::Own | Kind::Sealed | Kind::Open | Kind::Free => 0,
            };
            alone + same.len() * LISTED
        };
        segments.chunk_by(u32::eq).map(of_segment).sum()
    }

    /// The oldest sealed segment that is still referred to.
    pub(crate) fn oldest_sealed(&self) -> Option<SegmentId> {
        self.sealed.front().copied().map(SegmentId)
    }

    /// Copies `ranges` into one new own segment.
    pub(crate) fn copy<'a>(&mut self, ranges: impl Iterator<Item = &'a Range> + Clone) -> Range {
        let mut bytes = Vec::with_capacity(ranges.clone().map(|range| range.len()).sum());
        for range in ranges {
            bytes.extend_from_slice(self.bytes(*range));
        }
        let end = bytes.len() as u32;
        Range {
            segment: self.create(Kind::Own, bytes),
            start: 0,
            end,
        }
    }
}

/// Names a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentId(u32);

/// How what a connection is sent is divided into what has to be sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Into frames of WebSocket.
    Frames,
    /// Into chunks of HTTP.
    Chunks,
    /// Not at all.
    None,
}

impl Framing {
    /// The length of what `bytes` begin with.
    fn first_len(self, bytes: &[u8]) -> usize {
        match self {
            Framing::Frames => frame_len(bytes),
            Framing::Chunks => chunk_len(bytes),
            Framing::None => bytes.len(),
        }
    }
}

/// What one connection has yet to be sent: ranges in order.
///
/// Invariants: `bytes` is the sum of all ranges; `first` is empty only if all is; `partial` bytes at the front complete
/// a frame of which the beginning was sent, or are no frame at all.
#[derive(Debug)]
pub(crate) struct Queue {
    first: Range,
    #[expect(
        clippy::box_collection,
        reason = "8 bytes instead of 32, and most connections never have one"
    )]
    rest: Option<Box<VecDeque<Range>>>,
    bytes: u32,
    partial: u32,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            first: Range::EMPTY,
            rest: None,
            bytes: 0,
            partial: 0,
        }
    }
}

impl Queue {
    /// Bytes queued.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes queued, and those of the list that they are queued in.
    pub(crate) fn weight(&self) -> usize {
        self.len() + self.rest.as_ref().map_or(0, |rest| rest.len() * LISTED)
    }

    /// What goes out next, after [`Queue::gather`].
    pub(crate) fn front(&self) -> Range {
        self.first
    }

    /// Appends `range`, extending the last one if it begins where that one ends.
    #[inline]
    pub(crate) fn push(&mut self, range: Range, outbox: &mut Outbox) {
        self.bytes += range.end - range.start;
        let last = match &mut self.rest {
            Some(rest) => match rest.back_mut() {
                Some(back) => back,
                None => &mut self.first,
            },
            None => &mut self.first,
        };
        if let Some(joined) = last.joined(range) {
            *last = joined;
            return;
        }
        outbox.pin(range.segment);
        if self.first.is_empty() {
            self.first = range;
        } else {
            self.rest.get_or_insert_default().push_back(range);
        }
    }

    /// Appends `range`, which is no frame, where there are none yet: an HTTP response.
    pub(crate) fn push_opaque(&mut self, range: Range, outbox: &mut Outbox) {
        debug_assert_eq!(self.partial, self.bytes, "only frames follow a frame");
        self.push(range, outbox);
        self.partial = self.bytes;
    }

    /// Copies small ranges at the front together, so that they go out in one send.
    pub(crate) fn gather(&mut self, outbox: &mut Outbox, log: usize) {
        let Some(rest) = &mut self.rest else { return };
        if self.first.len() >= GATHER_RANGE {
            return;
        }
        let mut total = self.first.len();
        let count = rest
            .iter()
            .take_while(|range| {
                total += range.len();
                range.len() < GATHER_RANGE && total <= GATHER_TOTAL
            })
            .count();
        if count == 0 {
            return;
        }
        let total = self.first.len() + rest.iter().take(count).map(|range| range.len()).sum::<usize>();
        let segment = outbox.room(log, total);
        let mut bytes = std::mem::take(&mut outbox.segments[segment as usize].bytes);
        let start = bytes.len() as u32;
        for range in std::iter::once(self.first).chain(rest.drain(..count)) {
            // A range of the very segment that is being written to is still read from the bytes taken out.
            if range.segment == segment {
                bytes.extend_from_within(range.start as usize..range.end as usize);
            } else {
                bytes.extend_from_slice(outbox.bytes(range));
            }
            outbox.unpin(range.segment);
        }
        self.first = Range {
            segment,
            start,
            end: bytes.len() as u32,
        };
        outbox.segments[segment as usize].bytes = bytes;
        outbox.pin(segment);
        self.drop_empty_rest();
    }

    fn drop_empty_rest(&mut self) {
        // Kept while small: a connection that needed it is likely to need it again.
        if self
            .rest
            .as_ref()
            .is_some_and(|rest| rest.is_empty() && rest.capacity() > 64)
        {
            self.rest = None;
        }
    }

    fn next(&mut self) {
        self.first = self
            .rest
            .as_mut()
            .and_then(|rest| rest.pop_front())
            .unwrap_or(Range::EMPTY);
        self.drop_empty_rest();
    }

    /// The front has been sent whole.
    pub(crate) fn sent_front(&mut self, outbox: &mut Outbox) {
        self.bytes -= self.first.end - self.first.start;
        self.partial = self.partial.saturating_sub(self.first.end - self.first.start);
        outbox.unpin(self.first.segment);
        self.next();
    }

    /// The first `count` bytes of the front have been sent, fewer than all. Where they are not divided, as deflated frames are
    /// not, what was queued so far has to be sent to its end.
    pub(crate) fn sent_part(&mut self, count: usize, framing: Framing, outbox: &mut Outbox) {
        debug_assert!(count < self.first.len(), "a whole send is not reported");
        // Where in the stream of frames does the socket stand now?
        let bytes = outbox.bytes(self.first);
        let mut boundary = self.partial as usize;
        while boundary < count {
            boundary += framing.first_len(&bytes[boundary..]);
        }
        self.partial = (boundary - count) as u32;
        self.first.start += count as u32;
        self.bytes -= count as u32;
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, outbox: &mut Outbox) {
        while !self.first.is_empty() {
            self.sent_front(outbox);
        }
        self.partial = 0;
        self.rest = None;
    }

    /// Drops everything except the rest of a frame of which the beginning was sent, so that another frame may follow.
    pub(crate) fn cut(&mut self, outbox: &mut Outbox) {
        let keep = self.partial;
        if keep == 0 {
            return self.clear(outbox);
        }
        // A frame lies in one range, but HTTP responses before it can lie in several.
        let mut left = keep.saturating_sub(self.first.end - self.first.start);
        self.first.end = self.first.end.min(self.first.start + keep);
        if let Some(rest) = &mut self.rest {
            rest.retain_mut(|range| {
                let kept = left.min(range.end - range.start);
                left -= kept;
                range.end = range.start + kept;
                if kept == 0 {
                    outbox.unpin(range.segment);
                }
                kept > 0
            });
            self.drop_empty_rest();
        }
        self.bytes = keep;
    }

    /// Bytes that lie in the sealed segment `victim`.
    pub(crate) fn bytes_in(&self, victim: SegmentId) -> usize {
        let rest = self.rest.iter().flat_map(|rest| rest.iter());
        let ranges = std::iter::once(&self.first).chain(rest);
        ranges
            .filter(|range| range.is_in(victim))
            .map(|range| range.len())
            .sum()
    }

    /// Copies out what lies in the sealed segment `victim`, so that this connection no longer pins it.
    pub(crate) fn detach(&mut self, victim: SegmentId, outbox: &mut Outbox) {
        if self.first.is_empty() {
            return;
        }
        let rest = self.rest.take().map(|rest| *rest).unwrap_or_default();
        let mut ranges: VecDeque<Range> = std::iter::once(self.first).chain(rest).collect();
        let mut index = 0;
        while index < ranges.len() {
            // Neighbours in the same segment are copied together: what was sparse there becomes dense here.
            let run = ranges
                .iter()
                .skip(index)
                .take_while(|range| range.segment == victim.0)
                .count();
            if run == 0 {
                index += 1;
                continue;
            }
            let copied = outbox.copy(ranges.range(index..index + run));
            outbox.pin(copied.segment);
            for range in ranges.range(index..index + run) {
                outbox.unpin(range.segment);
            }
            ranges.drain(index + 1..index + run);
            ranges[index] = copied;
            index += 1;
        }
        self.first = ranges.pop_front().expect("it was not empty");
        if !ranges.is_empty() {
            self.rest = Some(Box::new(ranges));
        }
    }

    /// What is queued, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> {
        let first = (!self.first.is_empty()).then_some(self.first);
        first
            .into_iter()
            .chain(self.rest.iter().flat_map(|rest| rest.iter().copied()))
    }
}

/// The length of the unmasked frame, header included, that `bytes` begins with.
fn frame_len(bytes: &[u8]) -> usize {
    match bytes[1] & 0x7f {
        126 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => 10 + u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")) as usize,
        short => 2 + usize::from(short),
    }
}

/// The length of the chunk, with its size and the ends of both lines, that `bytes` begins with.
fn chunk_len(bytes: &[u8]) -> usize {
    let digits = bytes.iter().take_while(|octet| octet.is_ascii_hexdigit()).count();
    let add = |size, digit: &u8| size * 16 + char::from(*digit).to_digit(16).unwrap_or_default() as usize;
    digits + 2 + bytes[..digits].iter().fold(0, add) + 2
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
