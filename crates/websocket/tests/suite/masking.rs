//! Who masks, and with which key.

use tidecast_websocket::{Connection, Limits, Opcode, Timing, Version, code};

use crate::support::{NOW, RFC_FRAMES, Segmentation, client, listen, masked, plain};

/// All that a connection sends of its own accord: messages, a Ping after silence, a Pong, and the Close.
fn everything(connection: &mut Connection, ping: &[u8]) -> Vec<u8> {
    let timing = Timing::default();
    let mut out = Vec::new();
    for length in [0, 1, 125, 126, 65_536] {
        assert!(connection.send(Opcode::Text, &vec![b'x'; length], &mut out));
        assert!(connection.send(Opcode::Binary, &vec![b'x'; length], &mut out));
    }
    connection.handle_timeout(NOW + timing.ping_interval, &timing, &mut out);
    out.extend(listen(connection, ping, Segmentation::Whole).out);
    connection.close(code::NORMAL, "enough", NOW, &mut out);
    out
}

/// The mask bit and the key of every frame.
fn masks(mut octets: &[u8]) -> Vec<Option<[u8; 4]>> {
    let mut masks = Vec::new();
    while let [_, second, rest @ ..] = octets {
        let (length, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk().expect("two octets of length");
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().expect("eight octets of length");
                (u64::from_be_bytes(*length) as usize, rest)
            }
            short => (usize::from(short), rest),
        };
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            let (key, rest) = rest.split_first_chunk().expect("four octets of key");
            (Some(*key), rest)
        };
        masks.push(mask);
        octets = &rest[length..];
    }
    assert!(octets.is_empty(), "half a header");
    masks
}

//= RFC 6455#section-5.1
//= type=test
//# a client MUST mask all frames that it sends to the server
//= RFC 6455#section-5.1
//= type=test
//# A server MUST NOT mask any frames that it sends to the client.
//= RFC 6455#section-5.3
//= type=test
//# the client MUST pick a fresh masking key from the set of allowed 32-bit values.
//= RFC 6455#section-6.1
//= type=test
//# If the data is being sent by the client, the frame(s) MUST be masked as defined in Section 5.3.
//= RFC 6455#section-10.3
//= type=test
//# Clients MUST choose a new masking key for each frame
//= draft-ietf-hybi-thewebsocketprotocol-07#section-4.3
//= type=test
//# The client MUST mask all frames sent to the server.
#[test]
fn a_client_masks_every_frame_with_the_next_key_and_a_server_none() {
    for version in RFC_FRAMES {
        // Keys cannot be a closure's state: a thread of its own counts from zero.
        std::thread_local!(static KEYS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
        KEYS.set(0);
        let next = || {
            KEYS.set(KEYS.get() + 1);
            KEYS.get().to_be_bytes()
        };
        let mut speaker = Connection::client(version, Limits::default(), next, NOW);
        let octets = everything(&mut speaker, &plain(version, Opcode::Ping, true, b"?"));
        let keys: Vec<_> = (1..=13_u32).map(|key| Some(key.to_be_bytes())).collect();
        assert_eq!(masks(&octets), keys, "{version}");

        let mut speaker = Connection::server(version, Limits::default(), NOW);
        let octets = everything(&mut speaker, &masked(version, Opcode::Ping, true, b"?"));
        assert_eq!(masks(&octets), [None; 13], "{version}");
    }
}

//= draft-ietf-hybi-thewebsocketprotocol-06#section-4.2
//= type=test
//# The client MUST mask all frames sent to the server.
#[test]
fn a_client_of_draft_06_puts_the_next_key_before_every_frame() {
    std::thread_local!(static KEYS: std::cell::Cell<u8> = const { std::cell::Cell::new(0) });
    let next = || {
        KEYS.set(KEYS.get() + 1);
        [KEYS.get(); 4]
    };
    let mut speaker = Connection::client(Version::V6, Limits::default(), next, NOW);
    let mut out = Vec::new();
    for _ in 0..3 {
        assert!(speaker.send(Opcode::Text, b"Hi", &mut out));
    }
    let frames = (1..=3).flat_map(|key| {
        [
            [key; 4].to_vec(),
            [0x84, 2, b'H', b'i'].map(|octet| octet ^ key).to_vec(),
        ]
    });
    assert_eq!(out, frames.flatten().collect::<Vec<_>>());
    let heard = listen(&mut client(Version::V6), &[0x84, 2, b'H', b'i'], Segmentation::Whole);
    assert_eq!(heard.said.len(), 1, "a server's frame has no key");
}
