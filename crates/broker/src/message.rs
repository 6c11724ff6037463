//! A published message, borrowed while it is handled and owned while it crosses to other workers.

use std::sync::OnceLock;

use tidecast_router::Group;
use tidecast_wire::Kind;

use crate::broker::RENDITIONS;
use crate::subscriber::Subscriber;

/// A published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The topic, valid by the broker's limits.
    pub topic: &'a str,
    /// The payload, exactly as it was published.
    pub payload: &'a [u8],
    /// What the payload is. [`Kind::Json`] and [`Kind::Text`] payloads are UTF-8, the former one JSON value.
    pub kind: Kind,
    /// What it is the latest state of, beside its topic.
    pub key: Option<&'a str>,
}

impl Message<'_> {
    /// The message, independent of the buffer it was received in.
    pub fn to_owned(&self) -> OwnedMessage {
        let key = self.key.unwrap_or_default();
        let mut bytes = Vec::with_capacity(self.topic.len() + key.len() + self.payload.len());
        bytes.extend_from_slice(self.topic.as_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(self.payload);
        OwnedMessage {
            bytes: bytes.into_boxed_slice(),
            topic_len: self.topic.len(),
            key_len: self.key.map(str::len),
            kind: self.kind,
            kept: Kept::default(),
            to_lists: true,
            picks: Vec::new(),
            published: 0,
        }
    }
}

/// A member of a group on another worker that is to get a message.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    pub(crate) member: Subscriber,
    /// For another choice, should that one have left before the message comes.
    pub(crate) group: Group<Subscriber>,
    /// What sticky groups choose by.
    pub(crate) key: u64,
}

/// What some rendition of a message came to, kept for the other workers because it was costly: a deflated frame.
///
/// Whoever has it first keeps it; nobody waits for anybody.
#[derive(Debug, Default)]
pub struct Kept(OnceLock<Box<[Bytes; RENDITIONS]>>);

/// One rendition, once it is there.
type Bytes = OnceLock<Box<[u8]>>;

impl Kept {
    /// What was kept for `rendition`.
    pub fn get(&self, rendition: u8) -> Option<&[u8]> {
        self.0.get()?[usize::from(rendition)].get().map(|bytes| &**bytes)
    }

    /// Keeps `bytes` for `rendition`, unless somebody was faster.
    pub fn keep(&self, rendition: u8, bytes: &[u8]) {
        // The loser of a race has made the same bytes.
        let _ = self.0.get_or_init(Box::default)[usize::from(rendition)].set(bytes.into());
    }
}

/// A [`Message`] that owns its bytes: one allocation for topic, key and payload.
#[derive(Debug)]
pub struct OwnedMessage {
    bytes: Box<[u8]>,
    topic_len: usize,
    key_len: Option<usize>,
    kind: Kind,
    kept: Kept,
    to_lists: bool,
    picks: Vec<Pick>,
    published: u64,
}

impl OwnedMessage {
    /// The same, published at this time.
    pub(crate) fn published_at(mut self, time: u64) -> Self {
        self.published = time;
        self
    }

    /// When it was published, on the clock of [`Broker::set_now`](crate::Broker::set_now).
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The same for these members of groups, of whatever workers, as well.
    pub(crate) fn with_picks(mut self, picks: Vec<Pick>) -> Self {
        self.picks = picks;
        self
    }

    /// The same for nobody but the members of groups that it names.
    pub(crate) fn for_picks_only(mut self) -> Self {
        self.to_lists = false;
        self
    }

    /// Whether the subscribers of each worker get it, besides the members of groups that it names.
    pub(crate) fn is_for_lists(&self) -> bool {
        self.to_lists
    }

    /// The members of groups that get it.
    pub(crate) fn picks(&self) -> &[Pick] {
        &self.picks
    }

    /// What renditions of it came to.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Looks at the message.
    pub fn as_message(&self) -> Message<'_> {
        let (topic, rest) = self.bytes.split_at(self.topic_len);
        let (key, payload) = rest.split_at(self.key_len.unwrap_or(0));
        let text = |bytes| std::str::from_utf8(bytes).expect("made from a str");
        Message {
            topic: text(topic),
            payload,
            kind: self.kind,
            key: self.key_len.map(|_| text(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_message_is_the_same_message() {
        for key in [None, Some(""), Some("ü")] {
            let message = Message {
                topic: "a/ä",
                payload: b"\xff\x00",
                kind: Kind::Binary,
                key,
            };
            assert_eq!(message.to_owned().as_message(), message);
        }
    }

    #[test]
    fn what_is_kept_first_stays() {
        let kept = Kept::default();
        assert_eq!(kept.get(3), None);
        kept.keep(3, b"first");
        kept.keep(3, b"again");
        assert_eq!((kept.get(3), kept.get(4)), (Some(&b"first"[..]), None));
    }
}
