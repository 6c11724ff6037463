//! A message on its way to those sessions of this worker that get it.

use std::hash::{BuildHasher, RandomState};

use tidecast_wire::SlowPolicy;

use crate::broker::{Output, RENDITIONS};
use crate::index::Index;
use crate::message::{Kept, Message};
use crate::rules::BoundsId;
use crate::run::Run;
use crate::session::{Session, SessionId};
use crate::slow::Slow;

/// A message and who gets it.
pub(crate) struct Delivery<'a> {
    pub(crate) message: &'a Message<'a>,
    /// Where other workers find what was costly.
    pub(crate) kept: Option<&'a Kept>,
    /// All sessions of these lists.
    pub(crate) lists: &'a [u32],
    /// Besides, members of groups.
    pub(crate) picked: &'a [SessionId],
    /// How far behind those may be.
    pub(crate) usual: BoundsId,
    /// But not this one, unless it was picked.
    pub(crate) except: Option<SessionId>,
    /// Makes of topic and key what a message replaces.
    pub(crate) keys: &'a RandomState,
    /// Whether it is compressed for those who asked for that.
    pub(crate) compress: bool,
}

impl Delivery<'_> {
    /// Whether this worker has anybody for it.
    pub(crate) fn reaches_anybody(&self) -> bool {
        !self.lists.is_empty() || !self.picked.is_empty()
    }

    /// Delivers the message, or keeps it in `run` to be delivered with those that follow. Gives the number of deliveries
    /// made, of other messages too.
    pub(crate) fn deliver<O: Output>(
        &self,
        run: &mut Run<O::Encoded>,
        index: &Index,
        sessions: &mut [Session],
        mark: &mut u32,
        out: &mut O,
    ) -> u64 {
        match (self.lists, self.picked) {
            ([], []) => 0,
            // A session stands in a list once, so one list needs no marks.
            ([list], []) => {
                // Whoever does not subscribe need not be left out: publishers that differ in that only are as one.
                let is_member = |id: &SessionId| index.membership(&sessions[id.index()], *list).is_some();
                let except = self.except.filter(is_member);
                run.add(self, *list, except, index, out)
            }
            _ => run.deliver(index, out) + self.deliver_marked(index, sessions, mark, out),
        }
    }

    /// Delivers to everyone once, encoding once per rendition.
    fn deliver_marked<O: Output>(&self, index: &Index, sessions: &mut [Session], mark: &mut u32, out: &mut O) -> u64 {
        let mut encoded: [Option<O::Encoded>; RENDITIONS] = [None; RENDITIONS];
        let mut delivered = 0;
        let mut key = None;
        *mark = mark.wrapping_add(1);
        if *mark == 0 {
            sessions.iter_mut().for_each(|session| session.mark = 0);
            *mark = 1;
        }
        let picked = self
            .picked
            .iter()
            .map(|session| (*session, (SlowPolicy::Close, self.usual), u32::MAX));
        let listed = self.lists.iter().flat_map(|list| {
            let entries = index.entries(*list).iter();
            entries.map(|entry| (entry.session, (entry.slow, entry.bounds), *list))
        });
        let listed = listed.filter(|(session, ..)| Some(*session) != self.except);
        for (id, (policy, bounds), list) in picked.chain(listed) {
            let session = &mut sessions[id.index()];
            if session.mark == *mark {
                continue;
            }
            session.mark = *mark;
            let encoded = *encoded[usize::from(session.rendition)]
                .get_or_insert_with(|| out.encode(session.rendition, self.message, self.kept, self.compress));
            let slow = Slow::new(policy, list, || *key.get_or_insert_with(|| self.key()));
            out.deliver(id, encoded, 1, std::iter::once((encoded, slow)), bounds);
            delivered += 1;
        }
        delivered
    }

    /// What stands for topic and key.
    pub(crate) fn key(&self) -> u64 {
        self.keys.hash_one((self.message.topic, self.message.key))
    }
}
