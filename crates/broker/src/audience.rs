//! Who gets a message, and its way to each of them.

use std::hash::{BuildHasher, RandomState};

use tidecast_wire::SlowPolicy;

use crate::broker::{Output, RENDITIONS};
use crate::index::Index;
use crate::message::{Kept, Message};
use crate::session::{Session, SessionId};
use crate::slow::Slow;

/// Who of a worker gets a message.
pub(crate) struct Audience<'a> {
    /// All sessions of these lists.
    pub(crate) lists: &'a [u32],
    /// Besides, members of groups.
    pub(crate) picked: &'a [SessionId],
    /// But not this one, unless it was picked.
    pub(crate) except: Option<SessionId>,
    /// Makes of topic and key what a message replaces.
    pub(crate) keys: &'a RandomState,
}

impl Audience<'_> {
    /// Delivers `message` to everyone once, encoding it once per rendition. Gives the number of deliveries.
    pub(crate) fn deliver<O: Output>(
        &self,
        message: &Message<'_>,
        kept: Option<&Kept>,
        index: &Index,
        sessions: &mut [Session],
        mark: &mut u32,
        out: &mut O,
    ) -> u64 {
        let mut encoded: [Option<O::Encoded>; RENDITIONS] = [None; RENDITIONS];
        let mut delivered = 0;
        let mut key = None;
        let mut send = |session, rendition: u8, slow: SlowPolicy, list: u32| {
            let encoded = encoded[usize::from(rendition)].get_or_insert_with(|| out.encode(rendition, message, kept));
            let slow = match slow {
                SlowPolicy::Close => Slow::Close,
                SlowPolicy::DropNew => Slow::DropNew { list },
                SlowPolicy::DropOld => Slow::DropOld { list },
                SlowPolicy::Latest => {
                    let key = *key.get_or_insert_with(|| self.keys.hash_one((message.topic, message.key)));
                    Slow::Latest { list, key }
                }
            };
            out.deliver(session, *encoded, slow);
            delivered += 1;
        };
        match (self.lists, self.picked) {
            // A session stands in a list once, so one list needs no marks.
            ([list], []) => {
                for entry in index.entries(*list) {
                    if Some(entry.session) != self.except {
                        send(entry.session, entry.rendition, entry.slow, *list);
                    }
                }
            }
            (lists, picked) => {
                *mark = mark.wrapping_add(1);
                if *mark == 0 {
                    sessions.iter_mut().for_each(|session| session.mark = 0);
                    *mark = 1;
                }
                let picked = picked.iter().map(|session| (*session, SlowPolicy::Close, u32::MAX));
                let listed = lists.iter().flat_map(|list| {
                    let entries = index.entries(*list).iter();
                    entries.map(|entry| (entry.session, entry.slow, *list))
                });
                let listed = listed.filter(|(session, ..)| Some(*session) != self.except);
                for (id, slow, list) in picked.chain(listed) {
                    let session = &mut sessions[id.index()];
                    if session.mark != *mark {
                        session.mark = *mark;
                        send(id, session.rendition, slow, list);
                    }
                }
            }
        }
        delivered
    }
}
