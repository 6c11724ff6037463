//! A published message, borrowed while it is handled and owned while it crosses to other workers.

use tidecast_wire::Kind;

/// A published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The topic, valid by the broker's limits.
    pub topic: &'a str,
    /// The payload, exactly as it was published.
    pub payload: &'a [u8],
    /// What the payload is. [`Kind::Json`] and [`Kind::Text`] payloads are UTF-8, the former one JSON value.
    pub kind: Kind,
}

impl Message<'_> {
    /// The message, independent of the buffer it was received in.
    pub fn to_owned(&self) -> OwnedMessage {
        let mut bytes = Vec::with_capacity(self.topic.len() + self.payload.len());
        bytes.extend_from_slice(self.topic.as_bytes());
        bytes.extend_from_slice(self.payload);
        OwnedMessage {
            bytes: bytes.into_boxed_slice(),
            topic_len: self.topic.len(),
            kind: self.kind,
        }
    }
}

/// A [`Message`] that owns its bytes: one allocation for topic and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedMessage {
    bytes: Box<[u8]>,
    topic_len: usize,
    kind: Kind,
}

impl OwnedMessage {
    /// Looks at the message.
    pub fn as_message(&self) -> Message<'_> {
        let (topic, payload) = self.bytes.split_at(self.topic_len);
        Message {
            topic: std::str::from_utf8(topic).expect("made from a str"),
            payload,
            kind: self.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_message_is_the_same_message() {
        let message = Message {
            topic: "a/ä",
            payload: b"\xff\x00",
            kind: Kind::Binary,
        };
        assert_eq!(message.to_owned().as_message(), message);
    }
}
