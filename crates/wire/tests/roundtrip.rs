//! What is written is read back as the same, and no input makes either side panic.

use proptest::prelude::*;
use tidecast_wire::{Command, Kind, Payload, Reference, Reply, Since, SlowPolicy, binary, fuzzing, json};

fn reference() -> impl Strategy<Value = Option<Reference<'static>>> {
    prop::option::of(any::<u64>().prop_map(Reference::number))
}

fn since() -> impl Strategy<Value = Since<'static>> {
    prop_oneof![
        Just(Since::All),
        any::<u64>().prop_map(Since::Last),
        (".{1,12}", any::<u64>()).prop_map(|(epoch, offset)| Since::After {
            epoch: epoch.into(),
            offset
        }),
    ]
}

fn payload() -> impl Strategy<Value = Payload<'static>> {
    prop_oneof![
        prop::sample::select(vec!["1", "null", "{\"a\": [1,2.50]}", "\"\\ud800\"", "[]"]).prop_map(|json| Payload {
            kind: Kind::Json,
            bytes: json.as_bytes().into()
        }),
        any::<String>().prop_map(|text| Payload {
            kind: Kind::Text,
            bytes: text.into_bytes().into()
        }),
        any::<Vec<u8>>().prop_map(|bytes| Payload {
            kind: Kind::Binary,
            bytes: bytes.into()
        }),
    ]
}

fn command() -> impl Strategy<Value = Command<'static>> {
    let slow = prop::sample::select(vec![
        SlowPolicy::Close,
        SlowPolicy::DropNew,
        SlowPolicy::DropOld,
        SlowPolicy::Latest,
    ]);
    let word = || prop::option::of(any::<String>().prop_map(Into::into));
    prop_oneof![
        (
            any::<String>(),
            reference(),
            prop::option::of(since()),
            prop::option::of(slow)
        )
            .prop_map(|(filter, reference, since, slow)| Command::Sub {
                filter: filter.into(),
                reference,
                since,
                slow
            }),
        (any::<String>(), reference()).prop_map(|(filter, reference)| Command::Unsub {
            filter: filter.into(),
            reference
        }),
        (
            any::<String>(),
            payload(),
            reference(),
            any::<bool>(),
            any::<bool>(),
            word(),
            word()
        )
            .prop_map(|(topic, payload, reference, retain, echo, key, id)| Command::Pub {
                topic: topic.into(),
                payload,
                reference,
                retain,
                echo,
                key,
                id
            }),
        (any::<String>(), reference()).prop_map(|(token, reference)| Command::Auth {
            token: token.into(),
            reference
        }),
        Just(Command::Ping),
    ]
}

/// Texts that are nearly messages: pieces of the protocol in any order.
fn near_message() -> impl Strategy<Value = String> {
    let pieces = vec![
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"sub\"",
        "\"pub\"",
        "\"unsub\"",
        "\"auth\"",
        "\"ping\"",
        "\"msg\"",
        "\"ok\"",
        "\"err\"",
        "\"hello\"",
        "\"bye\"",
        "\"lag\"",
        "\"t\"",
        "\"\\u0041\"",
        "\"\\ud800\"",
        "\"ref\":1",
        "\"ref\":\"x\"",
        "\"kind\":\"text\"",
        "\"kind\":\"binary\"",
        "\"since\":\"e:1\"",
        "\"since\":{\"last\":1}",
        "\"session\":\"s\"",
        "\"max_message\":1",
        "\"ping_ms\":1",
        "\"offset\":2",
        "\"base64\"",
        "null",
        "true",
        "4001",
        "-1.5e2",
        "é",
        "\\",
        "\"",
        " ",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..16).prop_map(|pieces| pieces.concat())
}

/// The same command as packets tell it: no `ref` is 0, and the policy `close` is the broker's own.
fn as_packet(mut command: Command<'static>) -> Command<'static> {
    match &mut command {
        Command::Sub { reference, slow, .. } => {
            reference.take_if(|reference| reference.as_json() == "0");
            slow.take_if(|slow| *slow == SlowPolicy::Close);
        }
        Command::Unsub { reference, .. } | Command::Pub { reference, .. } | Command::Auth { reference, .. } => {
            reference.take_if(|reference| reference.as_json() == "0");
        }
        Command::Ping => {}
    }
    command
}

proptest! {
    #[test]
    fn commands_survive_as_packets_of_one_message(commands in prop::collection::vec(command(), 0..5)) {
        let commands: Vec<_> = commands.into_iter().map(as_packet).collect();
        let mut out = Vec::new();
        commands.iter().for_each(|command| binary::command(&mut out, command));
        let packets: Vec<_> = binary::Packets::new(&out).map(Result::unwrap).collect();
        let read: Vec<_> = packets.iter().map(|packet| binary::parse(packet).unwrap()).collect();
        prop_assert_eq!(read, commands);
    }

    #[test]
    fn no_bytes_make_packets_panic_and_what_is_read_survives(
        packets in prop::collection::vec((0..16_u8, prop::collection::vec(any::<u8>(), 0..24)), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut message: Vec<u8> = packets
            .into_iter()
            .flat_map(|(number, body)| [vec![number, body.len() as u8], body].concat())
            .collect();
        message.extend(tail);
        fuzzing::packets(&message);
    }

    #[test]
    fn a_command_survives_the_wire(command in command()) {
        let mut out = Vec::new();
        json::command(&mut out, &command);
        prop_assert!(json::is_valid(&out));
        prop_assert_eq!(json::parse(std::str::from_utf8(&out).unwrap()), Ok(command));
    }

    #[test]
    fn a_delivery_survives_the_wire(topic: String, payload in payload(), offset: Option<u64>) {
        let mut out = Vec::new();
        json::message(&mut out, &topic, payload.kind, &payload.bytes, offset);
        let reply = json::parse_reply(std::str::from_utf8(&out).unwrap());
        let Ok(Reply::Message { topic: topic_read, payload: payload_read, offset: offset_read }) = reply else {
            panic!("{reply:?}")
        };
        prop_assert_eq!((topic_read.as_ref(), offset_read), (topic.as_str(), offset));
        prop_assert_eq!(payload_read.text(), payload.text());
        if payload.kind != Kind::Text {
            prop_assert_eq!(payload_read, payload);
        }
    }

    #[test]
    fn no_bytes_make_either_side_panic(bytes: Vec<u8>) {
        fuzzing::command(&bytes);
        fuzzing::reply(&bytes);
    }

    #[test]
    fn no_text_near_the_protocol_makes_either_side_panic(text in near_message()) {
        fuzzing::command(text.as_bytes());
        fuzzing::reply(text.as_bytes());
        let wrapped = format!("[{text}]");
        fuzzing::command(wrapped.as_bytes());
        fuzzing::reply(wrapped.as_bytes());
    }

    #[test]
    fn a_message_cut_anywhere_is_refused_and_never_a_panic(command in command(), cut: prop::sample::Index) {
        let mut out = Vec::new();
        json::command(&mut out, &command);
        let cut = cut.index(out.len());
        fuzzing::command(&out[..cut]);
        if let Ok(text) = std::str::from_utf8(&out[..cut]) {
            prop_assert!(json::parse(text).is_err());
        }
    }
}
