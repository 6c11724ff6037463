//! The sessions of a worker, and the arena in which they seal what one send takes.

use std::ops::Range;

use super::record::{LARGEST, OVERHEAD};
use super::session::Session;
use super::terms::TlsTerms;
use crate::fanout::Fanout;

/// Bytes of the arena, after which a flush sends what it has before it goes on: they stay in the processor's cache.
const ARENA: usize = 512 * 1024;
/// The most that is sealed for one connection at a time: a socket that takes none of it leaves it to the connection.
const MOST_SEALED: usize = 4 * LARGEST;
/// Nothing is sealed behind more than this that waits already.
const MOST_WAITING: usize = LARGEST;
/// What a connection takes of the arena, at the most; but what rustls says in a handshake can be more.
const MOST_AT_ONCE: usize = MOST_WAITING + MOST_SEALED + 8 * OVERHEAD;
/// What a send is said to have failed with if there is nothing to be sent any more.
const EPIPE: i32 = 32;

/// Bytes that are sealed and sent, and then written over.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    used: usize,
}

impl Arena {
    /// At least `len` bytes, to be written to from the first on; see [`Arena::advance`].
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.used < len {
            self.bytes.resize((self.used + len).max(ARENA), 0);
        }
        &mut self.bytes[self.used..]
    }

    /// So many bytes were written.
    pub(super) fn advance(&mut self, len: usize) {
        self.used += len;
    }

    #[cfg(test)]
    pub(super) fn written(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
            self.advance(bytes.len());
        }
    }
}

/// A slot of the ring's file table.
#[derive(Debug, Default)]
struct Entry {
    session: Option<Box<Session>>,
    /// What is being sent: its place in the arena.
    piece: Range<u32>,
    /// Octets of it that a socket did not take, and that wait.
    unsent: u32,
}

impl Entry {
    /// Nothing waits any more: how much did?
    fn take_unsent(&mut self) -> usize {
        std::mem::take(&mut self.unsent) as usize
    }
}

/// All sessions of a worker, by slot. It has no memory while there are none.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    entries: Vec<Entry>,
    sessions: usize,
    arena: Arena,
    /// Octets that sockets did not take, of all sessions.
    unsent: usize,
    /// Slots of sessions whose keys are about to be spent.
    ending: Vec<u32>,
}

impl Stage {
    /// A connection to a secure listener took `slot`.
    pub(crate) fn open(&mut self, slot: u32, terms: &TlsTerms) {
        if self.entries.len() <= slot as usize {
            self.entries.resize_with(slot as usize + 1, Entry::default);
        }
        self.sessions += 1;
        self.entries[slot as usize].session = Some(Box::new(Session::new(terms)));
    }

    /// The connection in `slot` is gone, or is not secure after all.
    pub(crate) fn close(&mut self, slot: u32) {
        if let Some(entry) = self.entries.get_mut(slot as usize)
            && entry.session.take().is_some()
        {
            self.sessions -= 1;
            self.unsent -= entry.take_unsent();
        }
    }

    /// Octets that wait for sockets.
    pub(crate) fn held(&self) -> usize {
        self.unsent
    }

    /// The next session whose keys are about to be spent, by slot; each is given once.
    pub(crate) fn take_ending(&mut self) -> Option<u32> {
        self.ending.pop()
    }

    pub(crate) fn session(&self, slot: u32) -> Option<&Session> {
        self.entries.get(slot as usize)?.session.as_deref()
    }

    pub(crate) fn session_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.entries.get_mut(slot as usize)?.session.as_deref_mut()
    }

    /// Seals what secure connections have to send in the present flush, from number `first` of it on, until the arena is
    /// full; the number of the first that has to wait until [`Stage::piece`] was sent for those before it.
    pub(crate) fn seal(&mut self, fanout: &mut Fanout, first: usize) -> usize {
        let count = fanout.sending().len();
        if self.sessions == 0 {
            return count;
        }
        self.arena.used = 0;
        for index in first..count {
            let slot = fanout.sending()[index];
            let Some(entry) = self.entries.get_mut(slot as usize) else {
                continue;
            };
            entry.piece = 0..0;
            let Some(session) = entry.session.as_mut().filter(|_| fanout.lane(slot).is_secure()) else {
                continue;
            };
            let arena = &mut self.arena;
            if arena.used > 0 && arena.used + MOST_AT_ONCE.max(session.waiting().len()) > ARENA {
                return index;
            }
            let start = arena.used;
            let most = if session.waiting().len() > MOST_WAITING {
                0
            } else {
                MOST_SEALED
            };
            let mut sealed = Ok(());
            fanout.encrypt(slot, most, |content, is_all| {
                sealed = session.seal(content, is_all, arena);
                arena.used - start
            });
            entry.piece = start as u32..arena.used as u32;
            if let Err(fault) = sealed {
                session.give_up(&fault);
                entry.piece = 0..0;
                fanout.refuse(slot, -EPIPE);
            }
            if session.begins_to_end() {
                self.ending.push(slot);
            }
            self.unsent -= entry.take_unsent();
        }
        count
    }

    /// What is sent to `slot`, if it is a secure connection.
    pub(crate) fn piece(&self, slot: u32) -> Option<&[u8]> {
        let entry = self.entries.get(slot as usize)?;
        entry.session.as_ref()?;
        Some(&self.arena.bytes[entry.piece.start as usize..entry.piece.end as usize])
    }

    /// The send from `slot` gave `result`, a count or a negated errno, instead of going out whole.
    pub(crate) fn refuse(&mut self, slot: u32, result: i32) {
        if let Some(entry) = self.entries.get_mut(slot as usize)
            && let Some(session) = &mut entry.session
        {
            let sent = usize::try_from(result).unwrap_or(0);
            let unsent = &self.arena.bytes[entry.piece.start as usize + sent..entry.piece.end as usize];
            session.put_back(unsent);
            entry.unsent = unsent.len() as u32;
            self.unsent += unsent.len();
        }
    }
}
