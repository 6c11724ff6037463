//! What waits for one connection.

use tidecast_websocket::Version;

use super::{EAGAIN, Outcome};
use crate::backlog::Backlog;
use crate::outbox::{Framing, Outbox, Queue, SegmentId};
use crate::rendition::Form;

/// What may be done with a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pace {
    /// Empty, or its connection is closed.
    #[default]
    Idle,
    /// Stands in the list of those to be sent this turn.
    Listed,
    /// The socket is full, or must not be written to yet.
    Blocked,
}

/// The result of a send, a count or a negated errno, if it did not go out whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(pub(super) i32);

impl Refused {
    /// It went out whole: no send has so many bytes.
    const NOT: Refused = Refused(i32::MAX);

    pub(super) fn take(&mut self) -> Option<i32> {
        let result = std::mem::replace(self, Refused::NOT).0;
        (result != Refused::NOT.0).then_some(result)
    }
}

/// What is to be sent to one connection.
///
/// Kept apart from the connection's other state, so that a fan-out touches nothing else.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(super) queue: Queue,
    /// What waits behind the queue since the socket is full, if any of it may be dropped.
    pub(super) backlog: Option<Box<Backlog>>,
    /// The result of a send that did not go out whole, between the turn that reported it and its handling.
    pub(super) refused: Refused,
    /// Messages that were delivered since the last flush.
    pub(super) delivered: u32,
    pub(super) pace: Pace,
    /// A Close was queued, after which nothing may follow; or nobody is there.
    pub(super) sealed: bool,
    /// Noted as being behind by more than the limit.
    pub(super) overflowing: bool,
    /// Noted as having grown while there was no memory for it.
    pub(super) growing: bool,
    /// What is queued is encrypted before it is sent.
    pub(super) secure: bool,
    /// Bytes that are encrypted and not sent; they are kept by the connection's TLS, and go first.
    pub(super) ciphertext: u32,
    /// Bytes at the front that go out by themselves, what follows them only after [`Fanout::unblock`].
    pub(super) alone: u32,
    pub(super) form: Form,
}

// One line of the processor's cache: that is all a fan-out touches of a connection.
const _: () = assert!(size_of::<Lane>() <= 64);

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            queue: Queue::default(),
            backlog: None,
            refused: Refused::NOT,
            delivered: 0,
            pace: Pace::Idle,
            sealed: false,
            overflowing: false,
            growing: false,
            secure: false,
            ciphertext: 0,
            alone: 0,
            form: Form::Plain(Version::V13),
        }
    }
}

impl Lane {
    pub(crate) fn is_empty(&self) -> bool {
        self.ciphertext == 0 && self.has_no_plaintext()
    }

    pub(crate) fn has_no_plaintext(&self) -> bool {
        self.queue.is_empty() && self.backlog.as_deref().is_none_or(Backlog::is_finished)
    }

    /// Whether its socket is full, or must not be written to yet.
    pub(crate) fn is_blocked(&self) -> bool {
        self.pace == Pace::Blocked
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.queued() + self.backlog.as_deref().map_or(0, Backlog::len)
    }

    /// Bytes that wait and cannot be dropped any more.
    pub(super) fn queued(&self) -> usize {
        self.ciphertext as usize + self.queue.len()
    }

    /// Bytes that wait in the segment `victim`.
    pub(super) fn bytes_in(&self, victim: SegmentId) -> usize {
        self.queue.bytes_in(victim) + self.backlog.as_deref().map_or(0, |backlog| backlog.bytes_in(victim))
    }

    /// Bytes of memory that are given back if this is closed.
    pub(super) fn held_alone(&self, outbox: &Outbox) -> usize {
        let backlog = self.backlog.as_deref().into_iter().flat_map(Backlog::ranges);
        outbox.held_alone(self.queue.ranges().chain(backlog))
    }

    pub(super) fn clear(&mut self, outbox: &mut Outbox) {
        self.queue.clear(outbox);
        self.clear_backlog(outbox);
    }

    pub(super) fn clear_backlog(&mut self, outbox: &mut Outbox) {
        if let Some(mut backlog) = self.backlog.take() {
            backlog.clear(outbox);
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Whether what is queued is encrypted before it is sent.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// How the send of what is encrypted went, and how many bytes went out.
    pub(super) fn sent_ciphertext(&mut self, refused: Option<i32>) -> (Outcome, usize) {
        let is_greeting = std::mem::take(&mut self.alone) > 0;
        match refused {
            None => {
                let count = std::mem::take(&mut self.ciphertext) as usize;
                (if is_greeting { Outcome::Greeted } else { Outcome::Sent }, count)
            }
            Some(count) if count >= 0 && !is_greeting => {
                self.ciphertext -= count as u32;
                (Outcome::Blocked, count as usize)
            }
            Some(error) if error == -EAGAIN && !is_greeting => (Outcome::Blocked, 0),
            // As of greetings in the clear.
            Some(result) => (Outcome::Broken(result), 0),
        }
    }

    /// Whether what is queued after the response head is events.
    pub(crate) fn is_events(&self) -> bool {
        self.form == Form::Chunks
    }

    /// How what is queued after the handshake is divided.
    pub(super) fn framing(&self) -> Framing {
        match self.form {
            Form::Plain(_) | Form::PerMessage(_) => Framing::Frames,
            Form::Chunks => Framing::Chunks,
            Form::Stream(_) => Framing::None,
        }
    }
}
