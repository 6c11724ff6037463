//! How clients speak to a broker: which protocols there are, and what each says on a connection of the load.
//!
//! The table of all of them; what takes more than a line is in [`nats`](crate::nats) and [`mqtt`](crate::mqtt).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use tidecast_websocket::Opcode;
use tidecast_wire::{Code, Command, Payload, Reference, Reply, SlowPolicy, binary, json};

use crate::{mqtt, nats};

/// How clients speak to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The URL names the topic and every frame is a payload, in binary; on the paths of tidecast.
    Raw,
    /// The same on a path of one's own, for any broker whose URLs name the topic.
    Path,
    /// `tidecast.json.v1` on `/ws`.
    Json,
    /// `tidecast.bin.v1` on `/ws`.
    Bin,
    /// The text protocol of NATS.
    Nats,
    /// MQTT 3.1.1 at QoS 0.
    Mqtt,
}

/// What a broker says, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// A message of a topic: what holds the stamp.
    Delivery(&'a [u8]),
    /// The session is open.
    Greeted,
    /// The broker has taken in all that went before our ping.
    Pong,
    /// A command was carried out: the one with this number, or the oldest that waits.
    Confirmed(Option<u64>),
    /// A command was not carried out.
    Refused {
        /// Which one, if the broker says.
        number: Option<u64>,
        /// Why.
        reason: String,
    },
    /// The broker wants to know whether we are there.
    Ping,
    /// So many messages were dropped because this connection was slow.
    Lag(u64),
    /// Nothing that matters here.
    Other,
}

/// What a subscription is about.
pub(crate) struct Subscribe<'a> {
    pub(crate) filter: &'a str,
    /// By which the confirmation is known.
    pub(crate) number: u64,
    pub(crate) slow: Option<SlowPolicy>,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 6] = [
        Protocol::Raw,
        Protocol::Path,
        Protocol::Json,
        Protocol::Bin,
        Protocol::Nats,
        Protocol::Mqtt,
    ];

    /// The name by which it is chosen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Raw => "raw",
            Protocol::Path => "path",
            Protocol::Json => "json",
            Protocol::Bin => "bin",
            Protocol::Nats => "nats",
            Protocol::Mqtt => "mqtt",
        }
    }

    /// Whether one connection has several topics, and commands to choose them.
    pub fn has_commands(self) -> bool {
        !self.is_path()
    }

    /// Whether the URL names the topic and every message is a payload.
    pub(crate) fn is_path(self) -> bool {
        matches!(self, Protocol::Raw | Protocol::Path)
    }

    /// Whether it is one of ours on `/ws`.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Protocol::Json | Protocol::Bin)
    }

    /// How packets lie in messages.
    #[inline]
    pub(crate) fn framing(self) -> Framing {
        match self {
            Protocol::Raw | Protocol::Path | Protocol::Json => Framing::Single,
            Protocol::Bin => Framing::Packed,
            Protocol::Nats => Framing::Stream(nats::next),
            Protocol::Mqtt => Framing::Stream(mqtt::next),
        }
    }

    /// What is offered in the handshake.
    pub(crate) fn subprotocols(self) -> &'static [&'static str] {
        match self {
            Protocol::Raw | Protocol::Path | Protocol::Nats => &[],
            Protocol::Json => &[json::SUBPROTOCOL],
            Protocol::Bin => &[binary::SUBPROTOCOL],
            // MQTT 3.1.1, section 6.0.
            Protocol::Mqtt => &["mqtt"],
        }
    }

    /// The kind of message that what we say goes out in.
    pub(crate) fn opcode(self) -> Opcode {
        match self {
            Protocol::Json => Opcode::Text,
            Protocol::Raw | Protocol::Path | Protocol::Bin | Protocol::Nats | Protocol::Mqtt => Opcode::Binary,
        }
    }

    /// Begins a session: appends what a client says first, and returns how many answers that has.
    ///
    /// With `confirm` the broker is to confirm every command that follows.
    pub(crate) fn greet(self, client: &str, confirm: bool, out: &mut Vec<u8>) -> u32 {
        match self {
            Protocol::Raw | Protocol::Path | Protocol::Json | Protocol::Bin => 0,
            Protocol::Nats => {
                nats::connect(confirm, out);
                u32::from(confirm)
            }
            Protocol::Mqtt => {
                mqtt::connect(client, out);
                1
            }
        }
    }

    /// Appends what a client says after its first subscriptions, which tells when they are in force; returns how many
    /// answers that has.
    pub(crate) fn settle(self, out: &mut Vec<u8>) -> u32 {
        match self {
            Protocol::Nats => {
                out.extend_from_slice(nats::PING);
                1
            }
            Protocol::Raw | Protocol::Path | Protocol::Json | Protocol::Bin | Protocol::Mqtt => 0,
        }
    }

    /// Whether a subscription is confirmed by itself, if the session was not asked to confirm everything.
    pub(crate) fn confirms(self) -> bool {
        matches!(self, Protocol::Json | Protocol::Bin | Protocol::Mqtt)
    }

    /// Appends the command that subscribes.
    pub(crate) fn subscribe(self, subscribe: &Subscribe<'_>, out: &mut Vec<u8>) {
        let Subscribe { filter, number, slow } = *subscribe;
        match self {
            Protocol::Raw | Protocol::Path => {}
            Protocol::Json | Protocol::Bin => self.command(
                &Command::Sub {
                    filter: filter.into(),
                    reference: Some(Reference::number(number)),
                    since: None,
                    slow,
                },
                out,
            ),
            Protocol::Nats => nats::subscribe(filter, number, out),
            Protocol::Mqtt => mqtt::subscribe(filter, number, out),
        }
    }

    /// Appends the command that takes back the subscription to `filter` that had the number `subscribed`.
    pub(crate) fn unsubscribe(self, filter: &str, subscribed: u64, number: u64, out: &mut Vec<u8>) {
        match self {
            Protocol::Raw | Protocol::Path => {}
            Protocol::Json | Protocol::Bin => self.command(
                &Command::Unsub {
                    filter: filter.into(),
                    reference: Some(Reference::number(number)),
                },
                out,
            ),
            Protocol::Nats => nats::unsubscribe(subscribed, out),
            Protocol::Mqtt => mqtt::unsubscribe(filter, number, out),
        }
    }

    /// Appends a command in one of our own encodings.
    pub(crate) fn command(self, command: &Command<'_>, out: &mut Vec<u8>) {
        if self == Protocol::Bin {
            binary::command(out, command);
        } else {
            json::command(out, command);
        }
    }

    /// What keeps a session alive; nothing where WebSocket's own pings, or the broker's, do.
    pub(crate) fn keep_alive(self) -> Option<&'static [u8]> {
        (self == Protocol::Mqtt).then_some(mqtt::PING_REQUEST)
    }

    /// Appends what is answered with [`Packet::Pong`] once all that went before has been taken in; nothing where WebSocket's own
    /// pings are to be used.
    pub(crate) fn ping(self, out: &mut Vec<u8>) {
        match self {
            Protocol::Raw | Protocol::Path => {}
            Protocol::Json | Protocol::Bin => self.command(&Command::Ping, out),
            Protocol::Nats => out.extend_from_slice(nats::PING),
            Protocol::Mqtt => out.extend_from_slice(mqtt::PING_REQUEST),
        }
    }

    /// The answer to [`Packet::Ping`].
    pub(crate) fn pong(self) -> &'static [u8] {
        match self {
            Protocol::Nats => nats::PONG,
            Protocol::Raw | Protocol::Path | Protocol::Json | Protocol::Bin | Protocol::Mqtt => b"",
        }
    }

    /// What a client says before it closes.
    pub(crate) fn farewell(self) -> Option<&'static [u8]> {
        (self == Protocol::Mqtt).then_some(mqtt::DISCONNECT)
    }

    /// What the number of a command is in the broker's confirmation: MQTT has 16 bits for it, and none for 0.
    pub(crate) fn reference(self, number: u64) -> u64 {
        match self {
            Protocol::Mqtt => u64::from(mqtt::packet_identifier(number)),
            Protocol::Raw | Protocol::Path | Protocol::Json | Protocol::Bin | Protocol::Nats => number,
        }
    }

    /// What a whole message means, where it is one packet and no delivery of the run.
    #[cold]
    pub(crate) fn read(self, message: &[u8]) -> Packet<'_> {
        if self.is_path() {
            return Packet::Delivery(message);
        }
        let Ok(text) = str::from_utf8(message) else {
            return Packet::Refused {
                number: None,
                reason: "the broker sent a binary message on a JSON connection".to_owned(),
            };
        };
        match json::parse_reply(text) {
            // In JSON the stamp is looked for in the whole message.
            Ok(Reply::Message { .. }) => Packet::Delivery(message),
            other => of_reply(other),
        }
    }
}

/// Takes the first packet off a stream: the packet and its length, if it is whole. An error says how the broker broke its
/// protocol.
pub(crate) type Next = fn(&[u8]) -> Result<Option<(Packet<'_>, usize)>, String>;

/// How packets lie in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Framing {
    /// A message is one.
    Single,
    /// A message has several, each of them whole.
    Packed,
    /// They follow each other without regard to messages.
    Stream(Next),
}

/// The packets of one message of `tidecast.bin.v1`.
#[inline]
pub(crate) fn unpack(message: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    binary::Packets::new(message).map(|packet| match packet.and_then(|packet| binary::parse_reply(&packet)) {
        Ok(Reply::Message {
            payload: Payload {
                bytes: Cow::Borrowed(bytes),
                ..
            },
            ..
        }) => Packet::Delivery(bytes),
        other => of_reply(other),
    })
}

/// What the broker says beside deliveries.
#[cold]
fn of_reply<'a>(reply: Result<Reply<'_>, tidecast_wire::Error<'_>>) -> Packet<'a> {
    match reply {
        Ok(Reply::Ok { reference, .. }) => Packet::Confirmed(reference.as_json().parse().ok()),
        Ok(Reply::Err { reference, code, text }) => Packet::Refused {
            number: reference.and_then(|reference| reference.as_json().parse().ok()),
            reason: format!("the broker refused: {code}: {text}"),
        },
        Ok(Reply::Lag { dropped, .. }) => Packet::Lag(dropped),
        Ok(Reply::Message { .. } | Reply::Hello { .. } | Reply::Bye { .. }) => Packet::Other,
        Ok(Reply::Pong) => Packet::Pong,
        Err(error) if error.code == Code::UnknownVerb => Packet::Other,
        Err(error) => Packet::Refused {
            number: None,
            reason: format!("the broker sent what cannot be read: {error}"),
        },
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(word: &str) -> Result<Protocol, String> {
        let known = || {
            let names: Vec<_> = Protocol::ALL.iter().map(|protocol| protocol.as_str()).collect();
            format!("it is one of {}", names.join(", "))
        };
        Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.as_str() == word)
            .ok_or_else(known)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_chosen_by_the_name_it_is_shown_by() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        assert_eq!(
            "xml".parse::<Protocol>(),
            Err("it is one of raw, path, json, bin, nats, mqtt".to_owned())
        );
    }

    #[test]
    fn replies_in_json_are_told_apart() {
        let read = |text: &'static str| Protocol::Json.read(text.as_bytes());
        assert_eq!(read(r#"["ok",7,{}]"#), Packet::Confirmed(Some(7)));
        assert_eq!(read(r#"["ok","x",{}]"#), Packet::Confirmed(None));
        assert_eq!(read(r#"["lag","a/#",12]"#), Packet::Lag(12));
        assert_eq!(read(r#"["pong"]"#), Packet::Pong);
        assert_eq!(read(r#"["later",1]"#), Packet::Other, "a newer broker may say more");
        assert!(matches!(read(r#"["msg","a",1]"#), Packet::Delivery(_)));
        let Packet::Refused { number, reason } = read(r#"["err",3,"forbidden","not you"]"#) else {
            panic!("it is a refusal");
        };
        assert_eq!((number, &*reason), (Some(3), "the broker refused: forbidden: not you"));
        assert!(matches!(read("{"), Packet::Refused { number: None, .. }));
        assert!(matches!(
            Protocol::Json.read(b"\xff"),
            Packet::Refused { number: None, .. }
        ));
    }

    #[test]
    fn commands_in_json_are_read_as_what_they_say() {
        let mut out = Vec::new();
        let subscribe = Subscribe {
            filter: "a/b",
            number: 9,
            slow: Some(SlowPolicy::DropOld),
        };
        Protocol::Json.subscribe(&subscribe, &mut out);
        let Command::Sub {
            filter,
            reference,
            slow,
            ..
        } = json::parse(str::from_utf8(&out).unwrap()).unwrap()
        else {
            panic!("it subscribes");
        };
        assert_eq!((&*filter, slow), ("a/b", Some(SlowPolicy::DropOld)));
        assert_eq!(reference.unwrap().as_json(), "9");
        let mut out = Vec::new();
        Protocol::Json.unsubscribe("a/b", 9, 10, &mut out);
        assert_eq!(str::from_utf8(&out).unwrap(), r#"["unsub","a/b",{"ref":10}]"#);
    }

    #[test]
    fn packets_of_one_binary_message_are_told_apart() {
        let mut message = Vec::new();
        binary::hello(&mut message, "s", 1 << 20, 25_000);
        binary::ok(&mut message, &Reference::number(7), None);
        binary::message(&mut message, "a", tidecast_wire::Kind::Binary, b"payload", Some(3));
        binary::lag(&mut message, "a", 12);
        let packets: Vec<_> = unpack(&message).collect();
        assert_eq!(
            packets,
            [
                Packet::Other,
                Packet::Confirmed(Some(7)),
                Packet::Delivery(b"payload"),
                Packet::Lag(12)
            ]
        );
        message.truncate(message.len() - 1);
        let last = unpack(&message).last();
        assert!(matches!(last, Some(Packet::Refused { number: None, .. })), "{last:?}");
    }
}
