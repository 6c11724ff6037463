//! Messages for the same sessions, published one after the other, that are handed to each of them in one step.
//!
//! A busy topic's messages come many at a time. Its subscribers are gone through once for all of them and not once for
//! each: that is what fan-out costs beside the sends themselves.

use tidecast_wire::SlowPolicy;

use crate::broker::{Output, RENDITIONS};
use crate::delivery::Delivery;
use crate::index::{Entry, Index};
use crate::session::SessionId;
use crate::slow::Slow;

/// No message of this rendition is wanted.
const UNWANTED: u8 = u8::MAX;

/// Messages for the sessions of one list, encoded and not delivered yet.
///
/// Invariants: while there are messages, nothing has changed in the list; `whole` has one element for each of `renditions`,
/// which are those of the list's sessions, and `parts` and `keys` as many for each message.
#[derive(Debug)]
pub(crate) struct Run<E> {
    list: u32,
    except: Option<SessionId>,
    /// The place of each rendition in `renditions`.
    places: [u8; RENDITIONS],
    renditions: Vec<u8>,
    /// All messages together, in each rendition.
    whole: Vec<E>,
    /// Every message in each rendition.
    parts: Vec<E>,
    /// What stands for topic and key of every message, if some session wants only the latest of each.
    keys: Vec<u64>,
    wants_keys: bool,
    messages: usize,
}

impl<E> Default for Run<E> {
    fn default() -> Run<E> {
        Run {
            list: u32::MAX,
            except: None,
            places: [UNWANTED; RENDITIONS],
            renditions: Vec::new(),
            whole: Vec::new(),
            parts: Vec::new(),
            keys: Vec::new(),
            wants_keys: false,
            messages: 0,
        }
    }
}

impl<E: Copy> Run<E> {
    /// Whether nothing waits to be delivered.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The list whose sessions get what waits.
    pub(crate) fn list(&self) -> Option<u32> {
        (!self.is_empty()).then_some(self.list)
    }

    /// Adds a message for all sessions of `list` but `except`, encoding it once per rendition. What waits for other
    /// sessions, or cannot be joined with it, is delivered first. Gives the number of deliveries made.
    pub(crate) fn add<O: Output<Encoded = E>>(
        &mut self,
        delivery: &Delivery<'_>,
        list: u32,
        except: Option<SessionId>,
        index: &Index,
        out: &mut O,
    ) -> u64 {
        let mut delivered = 0;
        if self.is_empty() || (self.list, self.except) != (list, except) {
            delivered += self.deliver(index, out);
            self.begin(list, except, index.entries(list));
        }
        if self.renditions.is_empty() {
            return delivered;
        }
        let before = self.parts.len();
        for &rendition in &self.renditions {
            self.parts
                .push(out.encode(rendition, delivery.message, delivery.kept, delivery.compress));
        }
        if !self.is_empty() && !self.join::<O>(before) {
            // Delivered without the newest, which begins anew.
            let newest: Vec<E> = self.parts.drain(before..).collect();
            delivered += self.deliver(index, out);
            self.parts.extend(newest);
        }
        if self.is_empty() {
            self.whole.extend_from_slice(&self.parts);
        }
        if self.wants_keys {
            self.keys.push(delivery.key());
        }
        self.messages += 1;
        delivered
    }

    /// Starts with no messages for the sessions of a list.
    fn begin(&mut self, list: u32, except: Option<SessionId>, entries: &[Entry]) {
        (self.list, self.except) = (list, except);
        self.places = [UNWANTED; RENDITIONS];
        self.renditions.clear();
        self.wants_keys = false;
        for entry in entries {
            let place = &mut self.places[usize::from(entry.rendition)];
            if *place == UNWANTED && Some(entry.session) != except {
                *place = self.renditions.len() as u8;
                self.renditions.push(entry.rendition);
            }
            self.wants_keys |= entry.slow == SlowPolicy::Latest;
        }
    }

    /// Joins the last message, whose parts begin at `at`, with those before it, unless it lies elsewhere in some rendition.
    fn join<O: Output<Encoded = E>>(&mut self, at: usize) -> bool {
        let pairs = || self.whole.iter().zip(&self.parts[at..]);
        if !pairs().all(|(whole, part)| O::join(*whole, *part).is_some()) {
            return false;
        }
        for (whole, part) in self.whole.iter_mut().zip(&self.parts[at..]) {
            *whole = O::join(*whole, *part).unwrap_or(*whole);
        }
        true
    }

    /// Delivers what waits, and gives the number of deliveries: messages times sessions.
    pub(crate) fn deliver<O: Output<Encoded = E>>(&mut self, index: &Index, out: &mut O) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut sessions = 0;
        let count = self.renditions.len();
        for entry in index.entries(self.list) {
            if Some(entry.session) == self.except {
                continue;
            }
            let place = usize::from(self.places[usize::from(entry.rendition)]);
            let parts = self.parts.iter().skip(place).step_by(count).enumerate();
            let parts = parts.map(|(number, part)| (*part, Slow::new(entry.slow, self.list, || self.keys[number])));
            out.deliver(
                entry.session,
                self.whole[place],
                self.messages as u32,
                parts,
                entry.bounds,
            );
            sessions += 1;
        }
        let delivered = sessions * self.messages as u64;
        self.whole.clear();
        self.parts.clear();
        self.keys.clear();
        self.messages = 0;
        delivered
    }
}
