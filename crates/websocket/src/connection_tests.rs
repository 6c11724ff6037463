use super::*;
use crate::frame::encode_frame;

/// Feeds one read to a server and listens to the end.
fn feed(server: &mut Connection, octets: &[u8]) {
    let mut octets = octets.to_vec();
    let mut input = Input::new(&mut octets);
    while let Ok(Some(_)) = server.poll(&mut input, Millis(0), &mut Vec::new()) {}
}

#[test]
fn between_messages_a_connection_holds_no_memory() {
    let mut server = Connection::server(Version::V13, Limits::default(), Millis(0));
    let mut octets = Vec::new();
    encode_frame(Version::V13, Opcode::Binary, &[1; 100_000], Some([0; 4]), &mut octets);
    let message = octets.len();
    encode_frame(Version::V13, Opcode::Ping, b"?", Some([0; 4]), &mut octets);
    for split in [1, 5, 15, message - 1, message + 1, message + 6] {
        feed(&mut server, &octets[..split]);
        assert!(server.assembly.is_some());
        feed(&mut server, &octets[split..]);
        assert!(server.assembly.is_none() && server.pong.is_none(), "{split}");
    }
    feed(&mut server, &octets);
    assert!(server.assembly.is_none() && server.pong.is_none());
}

#[test]
fn an_end_releases_what_was_unfinished() {
    let mut server = Connection::server(Version::V13, Limits::default(), Millis(0));
    feed(&mut server, b"\x81\xfe\x10\x00\0\0\0\0half a mess");
    assert!(server.assembly.is_some());
    server.handle_end();
    assert!(server.assembly.is_none());
}

#[test]
fn a_close_inside_a_message_releases_the_message() {
    let mut server = Connection::server(Version::V13, Limits::default(), Millis(0));
    feed(&mut server, b"\x01\x85\0\0\0\0begun\x88\x82\0\0\0\0\x03\xe8");
    assert_eq!(server.state(), State::Draining);
    assert!(server.assembly.is_none());
}
