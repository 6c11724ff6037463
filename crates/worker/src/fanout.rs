//! Where the broker's output goes: into the outbox and the queues, and to other workers' mailboxes.

mod lane;
mod output;

use std::collections::VecDeque;
use std::sync::Arc;

use tidecast_broker::auth::Authenticator;
use tidecast_broker::{BoundsId, OwnedMessage, Slow, WorkerSet};
use tidecast_websocket::{Deflater, Millis};

use crate::asking::Asking;
use crate::backlog::{self, Backlog, Bounds, Lag};
use crate::census::Census;
use crate::gather::Volume;
use crate::identities::IdentityLimits;
use crate::mesh::Mesh;
use crate::meter::{MessageRates, Meter};
use crate::outbox::{Outbox, Range};
use crate::rendition::{Form, RENDITIONS};
use lane::{Lane, Pace, Refused};
pub(crate) use output::chunk;

/// Logs of the outbox: one per rendition, then what is for one connection, then what was gathered from several logs.
const PRIVATE: usize = RENDITIONS;
const GATHERED: usize = PRIVATE + 1;
const LOGS: usize = GATHERED + 1;

/// Additions to queues after which a turn flushes before it goes on: a few milliseconds' worth.
const PUSHES_PER_FLUSH: usize = 1 << 17;
/// Uses of keys after which it does: each takes 10 to 500 microseconds, and whoever is connected waits meanwhile.
const PROOFS_PER_FLUSH: usize = 32;
/// Bytes of logs after which a turn flushes before it goes on: 35,000 replies to small commands are some 30 ms, and
/// more would only take more sends.
const BYTES_PER_FLUSH: usize = 1 << 20;
/// How long nothing new is taken in because there is something to be sent: the many that come back from being blocked
/// at one time may not silence everybody else.
const CATCH_UP: Millis = Millis(20);
const EAGAIN: i32 = 11;

/// Messages of one publisher that did not fit into the mailboxes of some workers, in order. They came in one message of
/// the client's, so they are no more than it may hold.
#[derive(Debug, Default)]
pub(crate) struct Stalled(VecDeque<(Arc<OwnedMessage>, WorkerSet)>);

impl Stalled {
    /// Octets of their payloads.
    pub(crate) fn bytes(&self) -> usize {
        self.0
            .iter()
            .map(|(message, _)| message.as_message().payload.len())
            .sum()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The workers that are waited for.
    pub(crate) fn targets(&self) -> WorkerSet {
        self.0.front().map_or(WorkerSet::EMPTY, |(_, targets)| *targets)
    }
}

/// What a turn has produced so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Produced {
    pushes: usize,
    appended: usize,
}

/// A session that the broker wants closed.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) slot: u32,
    pub(crate) code: u16,
    pub(crate) reason: String,
}

/// The outgoing side of a worker.
#[derive(Debug)]
pub(crate) struct Fanout {
    worker: u16,
    mesh: Arc<Mesh>,
    /// How far behind connections may be: as a rule, then by the rules of topics. Besides, the same by the rules before, for
    /// subscriptions that do not know the present ones yet.
    bounds: [Vec<Bounds>; 2],
    /// What holds as a rule.
    usual: BoundsId,
    outbox: Outbox,
    lanes: Vec<Lane>,
    /// Lanes with something to send, each once.
    listed: Vec<u32>,
    /// Lanes being sent from in this turn.
    sending: Vec<u32>,
    /// Blocked lanes that went beyond a limit.
    overflowing: Vec<(u32, Behind)>,
    /// Bytes that have to be given up: while there are any, no blocked lane may grow.
    excess: usize,
    /// Blocked lanes that did nevertheless.
    growing: Vec<u32>,
    /// What connections may say, if that is limited.
    meter: Option<Box<Meter>>,
    /// Lanes that have to be told of what was dropped before more of what waits is sent.
    pub(crate) lagging: Vec<u32>,
    /// Workers that were given a message in this turn.
    pub(crate) to_wake: WorkerSet,
    /// Set when a message of the command at hand could not be forwarded everywhere.
    pub(crate) stalled: Option<Stalled>,
    /// Sessions that the broker wants closed.
    pub(crate) closing: Vec<Closing>,
    /// Judges tokens.
    authenticator: Arc<Authenticator>,
    /// Questions about commands; none, if nobody is asked.
    pub(crate) asking: Option<Asking>,
    /// Set when what the session of the command at hand may do has changed.
    pub(crate) regranted: bool,
    /// How often something was put to a queue since the last flush.
    pushes: usize,
    /// How often a key was used for somebody since the last flush: in a handshake, or to judge a token.
    proofs: usize,
    /// Messages that slow policies dropped.
    pub(crate) dropped: u64,
    /// Bytes of messages that were compressed, and what they came to.
    pub(crate) deflated_bytes: (u64, u64),
    /// Bytes written to logs since the last flush.
    appended: usize,
    /// When [`Fanout::has_room`] said so last.
    had_room: Millis,
    deflater: Deflater,
    /// A message in an encoding.
    scratch: Vec<u8>,
    /// A whole frame, where it has to be deflated.
    frame: Vec<u8>,
    deflated: Vec<u8>,
}

/// Why a connection that does not read is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// More waits for it than may.
    TooFar,
    /// There is no memory for more.
    NoMemory,
}

/// How a send went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that was offered went out; more may be queued.
    Sent,
    /// The last of a sealed lane went out.
    Drained,
    /// What had to go out alone did; what follows waits for [`Fanout::unblock`].
    Greeted,
    /// The socket is full.
    Blocked,
    /// The connection is broken, by this error: a negated errno.
    Broken(i32),
}

impl Fanout {
    pub(crate) fn new(
        worker: u16,
        mesh: Arc<Mesh>,
        bounds: Vec<Bounds>,
        authenticator: Arc<Authenticator>,
        deflater: Deflater,
    ) -> Fanout {
        Fanout {
            worker,
            mesh,
            bounds: [bounds, Vec::new()],
            usual: BoundsId::default(),
            outbox: Outbox::new(LOGS),
            lanes: Vec::new(),
            listed: Vec::new(),
            sending: Vec::new(),
            overflowing: Vec::new(),
            excess: 0,
            growing: Vec::new(),
            meter: None,
            lagging: Vec::new(),
            to_wake: WorkerSet::EMPTY,
            stalled: None,
            closing: Vec::new(),
            authenticator,
            asking: None,
            regranted: false,
            pushes: 0,
            proofs: 0,
            dropped: 0,
            deflated_bytes: (0, 0),
            appended: 0,
            had_room: Millis(0),
            deflater,
            scratch: Vec::new(),
            frame: Vec::new(),
            deflated: Vec::new(),
        }
    }

    /// From now on connections may be behind by so much, as a rule by `usual`, and tokens are judged like this.
    pub(crate) fn configure(&mut self, usual: BoundsId, bounds: Vec<Bounds>, authenticator: Arc<Authenticator>) {
        self.usual = usual;
        self.bounds[usize::from(usual.table)] = bounds;
        self.authenticator = authenticator;
    }

    pub(crate) fn lane(&self, slot: u32) -> &Lane {
        &self.lanes[slot as usize]
    }

    /// Bytes of memory that wait to be sent.
    pub(crate) fn held(&self) -> usize {
        self.outbox.held()
    }

    /// So many bytes have to be given up.
    pub(crate) fn set_excess(&mut self, excess: usize) {
        self.excess = excess;
    }

    /// What connections say is limited to these rates, and what identities may do to those.
    pub(crate) fn set_rates(&mut self, rates: MessageRates, identity: IdentityLimits, census: &Arc<Census>) {
        match &mut self.meter {
            Some(meter) => meter.set_limits(rates, identity),
            None => self.meter = Meter::new(rates, identity, census),
        }
    }

    /// The connection in `slot` is of `identity` from now on, unless that one has as many as it may have.
    pub(crate) fn identify(&mut self, slot: u32, identity: Option<&str>) -> bool {
        let meter = self.meter.as_deref_mut();
        meter.is_none_or(|meter| meter.identify(slot, identity))
    }

    /// It is `now`.
    pub(crate) fn set_now(&mut self, now: Millis) {
        if let Some(meter) = &mut self.meter {
            meter.set_now(now);
        }
    }

    /// Commands refused because connections said more than they may.
    pub(crate) fn rate_limited(&self) -> u64 {
        self.meter.as_deref().map_or(0, |meter| meter.refused)
    }

    /// What there is to be sent.
    pub(crate) fn volume(&self) -> Volume {
        Volume {
            sends: self.listed.len(),
            pushes: self.pushes,
        }
    }

    /// Bytes written to logs since the last flush.
    pub(crate) fn appended(&self) -> usize {
        self.appended
    }

    /// A key is used, which takes as long as hundreds of deliveries.
    pub(crate) fn count_proof(&mut self) {
        self.proofs += 1;
    }

    /// Whether so much was produced since the last flush that it is time for the next.
    pub(crate) fn is_full(&self) -> bool {
        self.pushes >= PUSHES_PER_FLUSH || self.appended >= BYTES_PER_FLUSH || self.proofs >= PROOFS_PER_FLUSH
    }

    /// From here on something may produce as much as all else in a turn.
    pub(crate) fn share(&self) -> Produced {
        Produced {
            pushes: self.pushes,
            appended: self.appended,
        }
    }

    /// Whether that much was produced since [`Fanout::share`], in the same turn.
    pub(crate) fn has_used(&self, share: Produced) -> bool {
        self.pushes - share.pushes >= PUSHES_PER_FLUSH || self.appended - share.appended >= BYTES_PER_FLUSH
    }

    /// Whether more may be produced after a flush, which sends one piece of each queue: what is not sent yet either
    /// waits for its socket, and is watched by the limit for that, or goes first. A turn produces more pieces than one.
    pub(crate) fn has_room(&mut self, now: Millis) -> bool {
        let usual = self.bounds(self.usual);
        let beyond = |slot: &u32| self.lanes[*slot as usize].len() > usual.bytes;
        let room = self.listed.is_empty() || (now - self.had_room >= CATCH_UP && !self.listed.iter().any(beyond));
        if room {
            self.had_room = now;
        }
        room
    }

    /// There are to be places for so many connections without moving any.
    pub(crate) fn reserve(&mut self, places: usize) {
        self.lanes.reserve(places);
    }

    /// A connection took `slot`, and what is sent to it goes through TLS if it is `secure`.
    pub(crate) fn open(&mut self, slot: u32, secure: bool) {
        if self.lanes.len() <= slot as usize {
            self.lanes.resize_with(slot as usize + 1, Lane::default);
        }
        let lane = &mut self.lanes[slot as usize];
        debug_assert!(lane.is_empty(), "a closed lane is empty");
        // Its predecessor may have closed after it was listed, and stands in the list still.
        let pace = if lane.pace == Pace::Listed {
            Pace::Listed
        } else {
            Pace::Idle
        };
        *lane = Lane {
            pace,
            secure,
            ..Lane::default()
        };
        if let Some(meter) = &mut self.meter {
            meter.open(slot);
        }
    }

    /// The connection is not secure after all.
    pub(crate) fn open_in_the_clear(&mut self, slot: u32) {
        self.lanes[slot as usize].secure = false;
    }

    /// So many bytes wait that are encrypted.
    pub(crate) fn set_ciphertext(&mut self, slot: u32, bytes: usize) {
        self.lanes[slot as usize].ciphertext = bytes as u32;
        self.list(slot);
    }

    /// Nothing can be encrypted any more: what waits to be is dropped, and nothing more may be queued.
    pub(crate) fn spoil(&mut self, slot: u32) {
        let lane = &mut self.lanes[slot as usize];
        lane.clear(&mut self.outbox);
        lane.alone = 0;
        lane.sealed = true;
    }

    /// The connection is gone: nothing is sent any more.
    pub(crate) fn close(&mut self, slot: u32) {
        self.spoil(slot);
        let lane = &mut self.lanes[slot as usize];
        lane.secure = false;
        lane.ciphertext = 0;
        if let Some(meter) = &mut self.meter {
            meter.close(slot);
        }
    }

    /// Nothing may be queued from now on; what is queued is still sent.
    pub(crate) fn seal(&mut self, slot: u32) {
        self.lanes[slot as usize].sealed = true;
    }

    /// More may be queued, after all of it was sent.
    pub(crate) fn unseal(&mut self, slot: u32) {
        let lane = &mut self.lanes[slot as usize];
        debug_assert!(lane.is_empty(), "it was sent");
        lane.sealed = false;
    }

    /// The socket may be written to again.
    pub(crate) fn unblock(&mut self, slot: u32) {
        let lane = &mut self.lanes[slot as usize];
        if lane.pace == Pace::Blocked {
            lane.pace = Pace::Idle;
            self.list(slot);
        }
    }

    fn list(&mut self, slot: u32) {
        let lane = &mut self.lanes[slot as usize];
        if lane.pace == Pace::Idle && !lane.is_empty() {
            lane.pace = Pace::Listed;
            self.listed.push(slot);
        }
    }

    /// From now on what the broker sends to `slot` is of this form.
    pub(crate) fn set_form(&mut self, slot: u32, form: Form) {
        self.lanes[slot as usize].form = form;
    }

    /// Queues an HTTP response, behind others if there are any. With `alone`, what follows it is not sent before [`Fanout::unblock`].
    pub(crate) fn send_response(&mut self, slot: u32, bytes: &[u8], alone: bool) {
        let range = self.append(PRIVATE, &[bytes]);
        let lane = &mut self.lanes[slot as usize];
        lane.queue.push_opaque(range, &mut self.outbox);
        lane.alone = if alone { bytes.len() as u32 } else { 0 };
        self.list(slot);
    }

    /// Queues whole frames for one connection, in the form that it has.
    pub(crate) fn send_frames(&mut self, slot: u32, bytes: &[u8]) {
        let range = self.append(PRIVATE, &[bytes]);
        self.push(slot, range, Slow::Close, self.usual);
    }

    /// What was dropped from `slot` and not told yet.
    pub(crate) fn take_lags(&mut self, slot: u32) -> Vec<Lag> {
        let backlog = &mut self.lanes[slot as usize].backlog;
        backlog.as_deref_mut().map_or_else(Vec::new, Backlog::take_lags)
    }

    /// Does what `say` does with this, and puts what it says to `slot` before all that waits there.
    pub(crate) fn say_first(&mut self, slot: u32, say: impl FnOnce(&mut Fanout)) {
        let backlog = self.lanes[slot as usize].backlog.take();
        say(self);
        self.lanes[slot as usize].backlog = backlog;
    }

    fn append(&mut self, log: usize, parts: &[&[u8]]) -> Range {
        let range = self.outbox.append(log, parts);
        self.appended += range.len();
        range
    }

    #[inline]
    fn push(&mut self, slot: u32, range: Range, slow: Slow, bounds: BoundsId) {
        let lane = &mut self.lanes[slot as usize];
        self.pushes += 1;
        if lane.sealed {
            return;
        }
        if lane.backlog.is_some() || (slow != Slow::Close && lane.pace == Pace::Blocked) {
            return self.hold_back(slot, range, slow, bounds);
        }
        lane.queue.push(range, &mut self.outbox);
        match lane.pace {
            Pace::Listed => {}
            Pace::Idle => {
                lane.pace = Pace::Listed;
                self.listed.push(slot);
            }
            Pace::Blocked => {
                // One message is always queued, however large.
                let most = self.bounds(bounds).bytes.max(range.len());
                let lane = &self.lanes[slot as usize];
                if lane.ciphertext as usize + lane.queue.weight() > most {
                    self.overflow(slot, Behind::TooFar);
                } else if self.excess > 0 {
                    self.note_growing(slot);
                }
            }
        }
    }

    fn bounds(&self, id: BoundsId) -> Bounds {
        self.bounds[usize::from(id.table)][usize::from(id.number)]
    }

    fn overflow(&mut self, slot: u32, behind: Behind) {
        let lane = &mut self.lanes[slot as usize];
        if !lane.overflowing {
            lane.overflowing = true;
            self.overflowing.push((slot, behind));
        }
    }

    fn note_growing(&mut self, slot: u32) {
        let lane = &mut self.lanes[slot as usize];
        if !lane.growing {
            lane.growing = true;
            self.growing.push(slot);
        }
    }

    /// Chooses those to be given up for what is too much: of those that grew, the ones first by which the most is won. What
    /// several refer to is won only with the last of them.
    pub(crate) fn choose_overflowing(&mut self) {
        // Those that are beyond their own limits go anyway.
        for (slot, _) in &self.overflowing {
            let lane = &self.lanes[*slot as usize];
            self.excess = self.excess.saturating_sub(lane.held_alone(&self.outbox));
        }
        let mut growing = std::mem::take(&mut self.growing);
        growing.sort_by_cached_key(|slot| std::cmp::Reverse(self.lanes[*slot as usize].held_alone(&self.outbox)));
        for slot in growing.drain(..) {
            let lane = &mut self.lanes[slot as usize];
            // It may be the next one in its slot.
            let grew = std::mem::take(&mut lane.growing);
            if grew && !lane.sealed && !lane.overflowing && self.excess > 0 {
                self.excess = self.excess.saturating_sub(lane.held_alone(&self.outbox));
                self.cut(slot);
                self.overflow(slot, Behind::NoMemory);
            }
        }
        self.growing = growing;
    }

    /// Adds to what waits behind the queue, where messages can be dropped.
    #[cold]
    fn hold_back(&mut self, slot: u32, range: Range, slow: Slow, bounds: BoundsId) {
        let bounds = self.bounds(bounds);
        let lane = &mut self.lanes[slot as usize];
        let queued = lane.queued();
        let backlog = lane.backlog.get_or_insert_default();
        let (bounds, behind) = if self.excess > 0 {
            // Something has to go for everything that comes.
            let within = Bounds {
                bytes: bounds.bytes.min(queued + backlog.len()),
                ..bounds
            };
            (within, Behind::NoMemory)
        } else {
            (bounds, Behind::TooFar)
        };
        match backlog.push(range, slow, queued, bounds, &mut self.outbox) {
            backlog::Kept::Within(dropped) => self.dropped += dropped,
            backlog::Kept::Beyond if behind == Behind::NoMemory => self.note_growing(slot),
            backlog::Kept::Beyond => self.overflow(slot, behind),
        }
        // While what waits is sent, more comes behind it.
        self.list(slot);
    }

    /// Whether there are connections that read too slowly, or grew when there was no memory for it.
    pub(crate) fn is_overflowing(&self) -> bool {
        !self.overflowing.is_empty() || !self.growing.is_empty()
    }

    /// The next of them. What it has not begun to be sent is dropped.
    pub(crate) fn cut_overflowing(&mut self) -> Option<(u32, Behind)> {
        while let Some((slot, behind)) = self.overflowing.pop() {
            let lane = &mut self.lanes[slot as usize];
            // Not noted any more: the connection that was noted is gone, and this is another one.
            if lane.overflowing && !lane.sealed {
                self.cut(slot);
                return Some((slot, behind));
            }
        }
        None
    }

    /// Drops what `slot` has not begun to be sent.
    fn cut(&mut self, slot: u32) {
        let lane = &mut self.lanes[slot as usize];
        lane.queue.cut(&mut self.outbox);
        lane.clear_backlog(&mut self.outbox);
    }

    /// Begins a flush: what is to be sent, one piece per connection.
    pub(crate) fn begin_flush(&mut self) {
        debug_assert!(self.sending.is_empty(), "one flush at a time");
        std::mem::swap(&mut self.listed, &mut self.sending);
        for slot in &self.sending {
            let lane = &mut self.lanes[*slot as usize];
            if lane.queue.is_empty()
                && let Some(backlog) = &mut lane.backlog
            {
                if backlog.has_lags() {
                    self.lagging.push(*slot);
                } else {
                    backlog.refill(&mut lane.queue, &mut self.outbox);
                }
                if backlog.is_finished() {
                    lane.backlog = None;
                }
            }
            lane.queue.gather(&mut self.outbox, GATHERED);
        }
        self.pushes = 0;
        self.proofs = 0;
        self.appended = 0;
    }

    /// Connections of the present flush.
    pub(crate) fn sending(&self) -> &[u32] {
        &self.sending
    }

    /// What the present flush sends to `slot`, if that is not secure.
    pub(crate) fn piece(&self, slot: u32) -> &[u8] {
        let lane = &self.lanes[slot as usize];
        let bytes = self.outbox.bytes(lane.queue.front());
        if lane.alone > 0 {
            &bytes[..lane.alone as usize]
        } else {
            bytes
        }
    }

    /// What the present flush sends to `slot`, which is secure: `encrypt` is given it, at most so many bytes, and whether that
    /// is all there is, and tells how many bytes are to be sent for it and for what was encrypted before.
    pub(crate) fn encrypt(&mut self, slot: u32, most: usize, encrypt: impl FnOnce(&[u8], bool) -> usize) {
        let lane = &mut self.lanes[slot as usize];
        let front = self.outbox.bytes(lane.queue.front());
        let most = if lane.alone > 0 { lane.alone as usize } else { most };
        let count = front.len().min(most);
        let is_all = count == front.len() && lane.queue.len() == count && lane.backlog.is_none();
        let is_part = count < front.len();
        lane.ciphertext = encrypt(&front[..count], is_all) as u32;
        if count == 0 {
            return;
        }
        if is_part {
            lane.queue.sent_part(count, lane.framing(), &mut self.outbox);
        } else {
            lane.queue.sent_front(&mut self.outbox);
        }
    }

    /// How many connections the present flush sends to.
    pub(crate) fn piece_count(&self) -> usize {
        self.sending.len()
    }

    /// The send from `slot` gave `result`, a count or a negated errno, instead of going out whole.
    pub(crate) fn refuse(&mut self, slot: u32, result: i32) {
        self.lanes[slot as usize].refused = Refused(result);
    }

    /// Ends a flush: `each` is told how it went for every connection, how many bytes went out, and how many messages were
    /// delivered since the last flush.
    pub(crate) fn end_flush(&mut self, mut each: impl FnMut(u32, Outcome, usize, u32)) {
        let mut sending = std::mem::take(&mut self.sending);
        for slot in sending.drain(..) {
            let lane = &mut self.lanes[slot as usize];
            if lane.pace == Pace::Listed {
                lane.pace = Pace::Idle;
            }
            let (outcome, count) = match lane.refused.take() {
                refused if lane.secure => lane.sent_ciphertext(refused),
                None if lane.alone > 0 => {
                    let count = std::mem::take(&mut lane.alone) as usize;
                    if count < lane.queue.front().len() {
                        lane.queue.sent_part(count, lane.framing(), &mut self.outbox);
                    } else {
                        lane.queue.sent_front(&mut self.outbox);
                    }
                    (Outcome::Greeted, count)
                }
                None => {
                    let count = lane.queue.front().len();
                    if count > 0 {
                        lane.queue.sent_front(&mut self.outbox);
                    }
                    (Outcome::Sent, count)
                }
                // Not even a greeting fits into a fresh socket: nobody is there.
                Some(result) if lane.alone > 0 => (Outcome::Broken(result), 0),
                Some(result) if result >= 0 => {
                    lane.queue.sent_part(result as usize, lane.framing(), &mut self.outbox);
                    (Outcome::Blocked, result as usize)
                }
                Some(error) if error == -EAGAIN => (Outcome::Blocked, 0),
                Some(error) => (Outcome::Broken(error), 0),
            };
            match outcome {
                Outcome::Blocked | Outcome::Greeted => lane.pace = Pace::Blocked,
                _ => self.list(slot),
            }
            let lane = &mut self.lanes[slot as usize];
            let delivered = std::mem::take(&mut lane.delivered);
            let drained = outcome == Outcome::Sent && lane.sealed && lane.is_empty();
            each(slot, if drained { Outcome::Drained } else { outcome }, count, delivered);
        }
        self.sending = sending;
    }

    /// Gives memory back: segments that nobody refers to, and, when logs hold more than `limit` bytes, old segments
    /// from which connections that are behind are copied out. The copies may take `room` bytes: a connection for which none is
    /// left is cut.
    pub(crate) fn reclaim(&mut self, limit: usize, mut room: usize) {
        self.outbox.reclaim();
        while self.outbox.log_bytes() > limit {
            let Some(oldest) = self.outbox.oldest_sealed() else {
                return;
            };
            for slot in 0..self.lanes.len() as u32 {
                let lane = &mut self.lanes[slot as usize];
                if lane.is_empty() {
                    continue;
                }
                let needed = lane.bytes_in(oldest);
                if needed > room {
                    self.overflow(slot, Behind::NoMemory);
                    self.cut(slot);
                } else {
                    room -= needed;
                }
                let lane = &mut self.lanes[slot as usize];
                lane.queue.detach(oldest, &mut self.outbox);
                if let Some(backlog) = &mut lane.backlog {
                    backlog.detach(oldest, &mut self.outbox);
                }
            }
            self.outbox.reclaim();
        }
    }

    /// Whether the command at hand has left something to be done about its connection, or about others.
    #[inline]
    pub(crate) fn left_something(&self) -> bool {
        self.regranted || self.stalled.is_some() || !self.closing.is_empty()
    }

    /// Tries again to forward `stalled`; gives false if it still does not fit everywhere.
    pub(crate) fn forward_stalled(&mut self, stalled: &mut Stalled) -> bool {
        while let Some((message, targets)) = stalled.0.front_mut() {
            for target in targets.iter() {
                if self.send_to(target, Arc::clone(message)) {
                    targets.remove(target);
                }
            }
            if !targets.is_empty() {
                return false;
            }
            stalled.0.pop_front();
        }
        true
    }

    fn send_to(&mut self, target: u16, message: Arc<OwnedMessage>) -> bool {
        let sent = self.mesh.send(self.worker.into(), target.into(), message).is_ok();
        // Also when it is full: its worker may be about to sleep on a full mailbox for all we know.
        self.to_wake.insert(target);
        sent
    }
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
