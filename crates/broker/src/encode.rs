//! A message as each kind of client gets it.

use tidecast_wire::{Kind, binary, events, json};

use crate::message::Message;

/// How a client is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// The payload alone; the connection's address names the topic.
    Raw,
    /// `tidecast.json.v1`.
    Json,
    /// `tidecast.bin.v1`.
    Binary,
    /// Server-sent events, each the payload alone as [`Encoding::Raw`] has it.
    Events,
}

impl Encoding {
    /// Every encoding, in the order of [`Encoding::index`].
    pub const ALL: [Encoding; 4] = [Encoding::Raw, Encoding::Json, Encoding::Binary, Encoding::Events];

    /// A small number for tables.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// The bytes that a client of `encoding` gets for `message`, and whether they are text.
///
/// They are written to `scratch` unless they stand in the message already.
pub fn encode<'a>(message: &Message<'a>, encoding: Encoding, scratch: &'a mut Vec<u8>) -> (&'a [u8], bool) {
    match encoding {
        Encoding::Raw => (message.payload, message.kind != Kind::Binary),
        Encoding::Json => {
            scratch.clear();
            json::message(scratch, message.topic, message.kind, message.payload, None);
            (scratch, true)
        }
        Encoding::Binary => {
            scratch.clear();
            binary::message(scratch, message.topic, message.kind, message.payload, None);
            (scratch, false)
        }
        Encoding::Events => {
            scratch.clear();
            events::message(scratch, message.kind, message.payload);
            (scratch, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_and_events_are_the_payload_itself_and_the_others_name_the_topic() {
        type Row = (Kind, &'static [u8], bool, &'static str, &'static [u8], &'static str);
        let table: [Row; 3] = [
            (
                Kind::Json,
                b"{\"a\": 1}",
                true,
                r#"["msg","t",{"a": 1}]"#,
                b"\x01\x0c\x01t\x00\x00{\"a\": 1}",
                "data: {\"a\": 1}\n\n",
            ),
            (
                Kind::Text,
                b"say \"hi\"",
                true,
                r#"["msg","t","say \"hi\""]"#,
                b"\x01\x0c\x01t\x00\x01say \"hi\"",
                "data: say \"hi\"\n\n",
            ),
            (
                Kind::Binary,
                b"\x00\x01",
                false,
                r#"["msg","t","AAE=",null,"base64"]"#,
                b"\x01\x06\x01t\x00\x02\x00\x01",
                "event: binary\ndata: AAE=\n\n",
            ),
        ];
        for (kind, payload, text, in_json, in_packets, in_events) in table {
            let message = Message {
                topic: "t",
                payload,
                kind,
                key: None,
            };
            let mut scratch = b"left over".to_vec();
            assert_eq!(encode(&message, Encoding::Raw, &mut scratch), (payload, text));
            assert_eq!(
                encode(&message, Encoding::Json, &mut scratch),
                (in_json.as_bytes(), true)
            );
            assert_eq!(encode(&message, Encoding::Binary, &mut scratch), (in_packets, false));
            assert_eq!(
                encode(&message, Encoding::Events, &mut scratch),
                (in_events.as_bytes(), true)
            );
        }
    }
}
