//! The client against scripted servers.

mod peer;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use peer::{DEADLINE, Seen, read_head, serve, serve_compressed, serve_tunnel, serve_websocket, url};
use tidecast_client::{Client, Compression, Error, Message, Options, Proxy, Version};
use tidecast_websocket::{Opcode, code, encode_frame};

fn connect(address: SocketAddr) -> Client {
    Client::connect(&url(address), &Options::default()).unwrap()
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + DEADLINE)
}

#[test]
fn messages_of_every_kind_and_size_come_back_from_an_echo_in_every_version() {
    for version in Version::ALL {
        let (address, server) = serve_websocket(b"", |mut peer, _| {
            peer.run(|peer, seen| match seen {
                Seen::Text(text) => peer.send(Opcode::Text, text.as_bytes()),
                Seen::Binary(bytes) => peer.send(Opcode::Binary, bytes),
                _ => {}
            })
        });
        let options = Options {
            version,
            ..Options::default()
        };
        let mut client = Client::connect(&url(address), &options).unwrap();
        for size in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
            let text = "x".repeat(size);
            client.send_text(&text).unwrap();
            assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text(text)));
            let bytes: Vec<u8> = (0..size).map(|i| i as u8).collect();
            client.send_binary(&bytes).unwrap();
            assert_eq!(client.receive(soon()).unwrap(), Some(Message::Binary(bytes)));
        }
        client.close(code::NORMAL, "enough").unwrap();
        let seen = server.join().unwrap();
        assert_eq!(
            seen[seen.len() - 2..],
            [Seen::Close(Some(1000), "enough".into()), Seen::End]
        );
    }
}

#[test]
fn queued_messages_go_out_by_one_flush_and_by_waiting_for_an_answer() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        peer.run(|peer, seen| {
            if *seen == Seen::Text("last".into()) {
                peer.send(Opcode::Text, b"got it");
            }
        })
    });
    let mut client = connect(address);
    for text in ["first", "second", "last"] {
        client.queue_text(text).unwrap();
    }
    assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text("got it".into())));
    client.close(code::NORMAL, "").unwrap();
    let texts = ["first", "second", "last"].map(|text| Seen::Text(text.into()));
    assert_eq!(server.join().unwrap()[..3], texts);
}

#[test]
fn a_ping_is_answered_while_waiting_for_a_message() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        peer.send(Opcode::Ping, b"still there?");
        peer.run(|peer, seen| {
            if let Seen::Pong(body) = seen {
                assert_eq!(body, b"still there?");
                peer.send(Opcode::Text, b"good");
            }
        })
    });
    let mut client = connect(address);
    assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text("good".into())));
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_ping_before_a_message_is_answered_before_the_message_is_handled() {
    let (address, server) = serve_websocket(b"\x89\x04ping\x81\x02hi", |mut peer, _| peer.run_until_pong());
    let mut client = connect(address);
    assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text("hi".into())));
    // Whatever the program does now: the client is not called again.
    assert_eq!(server.join().unwrap(), b"ping");
}

#[test]
fn after_a_write_that_failed_nothing_is_sent_any_more() {
    let (address, server) = serve_websocket(b"\x81\x02hi", |peer, _| peer);
    let options = Options {
        timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let mut client = Client::connect(&url(address), &options).unwrap();
    let peer = server.join().unwrap();
    // More than the kernel keeps for a server that does not read.
    let error = client.send_binary(&vec![0; 64 << 20]).unwrap_err();
    let words = "the server did not take what was sent within 100ms";
    assert_eq!(error.to_string(), words);
    // What would follow lies amid the frame that was torn.
    let error = client.send_text("again").unwrap_err();
    assert_eq!(error.to_string(), format!("the connection was lost: {words}"));
    // What had come is given all the same.
    assert_eq!(client.receive_buffered().unwrap(), Some(Message::Text("hi".into())));
    assert!(matches!(client.receive(soon()), Err(Error::Lost(_))));
    drop(peer);
}

#[test]
fn a_deadline_without_a_message_gives_none_and_the_connection_goes_on() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        peer.run(|peer, seen| {
            if matches!(seen, Seen::Text(_)) {
                peer.send(Opcode::Text, b"now");
            }
        })
    });
    let mut client = connect(address);
    assert_eq!(client.receive(Some(Instant::now())).unwrap(), None);
    client.send_text("go on").unwrap();
    assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text("now".into())));
    drop(client);
    server.join().unwrap();
}

#[test]
fn what_comes_together_with_the_response_is_not_lost() {
    let (address, server) = serve_websocket(b"\x81\x05hello\x81\x05wor", |mut peer, _| {
        peer.stream.write_all(b"ld").unwrap();
        peer.run(|_, _| {})
    });
    let mut client = connect(address);
    assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text("hello".into())));
    assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text("world".into())));
    assert_eq!(client.receive_buffered().unwrap(), None);
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_close_by_the_server_is_reported_with_its_reason_after_all_that_came_before_it() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        peer.send(Opcode::Text, b"before");
        peer.close(4000, "slow consumer");
        peer.run(|_, _| {})
    });
    let mut client = connect(address);
    assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text("before".into())));
    for _ in 0..2 {
        let error = client.receive(soon()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server closed the connection with 4000: slow consumer"
        );
        assert!(!error.is_connect());
    }
    assert!(matches!(
        client.send_text("after"),
        Err(Error::Closed { code: Some(4000), .. })
    ));
    assert_eq!(
        server.join().unwrap(),
        [Seen::Close(Some(4000), String::new()), Seen::End]
    );
}

#[test]
fn what_follows_the_servers_close_is_dropped() {
    let (address, server) = serve_websocket(b"\x88\x00\x81\x05after", |mut peer, _| peer.run(|_, _| {}));
    let client = connect(address);
    client.close(code::NORMAL, "").unwrap();
    assert_eq!(server.join().unwrap().last(), Some(&Seen::End));
}

#[test]
fn an_end_without_a_close_is_a_lost_connection() {
    let (address, server) = serve_websocket(b"", |peer, _| drop(peer));
    let mut client = connect(address);
    assert!(matches!(client.receive(soon()), Err(Error::Lost(_))));
    server.join().unwrap();
}

#[test]
fn a_server_that_masks_is_told_so_and_given_up() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        let mut out = Vec::new();
        encode_frame(Version::V13, Opcode::Text, b"hi", Some([1, 2, 3, 4]), &mut out);
        peer.stream.write_all(&out).unwrap();
        peer.run(|_, _| {})
    });
    let mut client = connect(address);
    let error = client.receive(soon()).unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
    let seen = server.join().unwrap();
    assert!(matches!(seen[..], [Seen::Close(Some(1002), _), Seen::End]), "{seen:?}");
}

#[test]
fn a_close_that_is_not_answered_times_out() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        let mut rest = Vec::new();
        peer.stream.read_to_end(&mut rest).unwrap();
    });
    let options = Options {
        timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let client = Client::connect(&url(address), &options).unwrap();
    let error = client.close(code::NORMAL, "").unwrap_err();
    assert!(
        error.to_string().contains("did not answer the closing handshake"),
        "{error}"
    );
    server.join().unwrap();
}

#[test]
fn the_request_carries_what_the_options_ask_for_and_the_protocol_chosen_is_known() {
    let (address, server) = serve_websocket(b"", |_, head| head);
    let options = Options {
        protocols: vec!["a".into(), "tidecast.json.v1".into()],
        origin: Some("https://example.com".into()),
        headers: vec![("Authorization".into(), "Bearer x".into())],
        ..Options::default()
    };
    let client = Client::connect(&url(address), &options).unwrap();
    assert_eq!(client.protocol(), Some("tidecast.json.v1"));
    let head = server.join().unwrap();
    for line in [
        "GET /ws HTTP/1.1\r\n",
        "\r\nOrigin: https://example.com\r\n",
        "\r\nAuthorization: Bearer x\r\n",
        "\r\nSec-WebSocket-Protocol: a, tidecast.json.v1\r\n",
    ] {
        assert!(head.contains(line), "{line:?} is missing in {head}");
    }
    let options = Options {
        headers: vec![("A".into(), "b\r\nC: d".into())],
        ..Options::default()
    };
    // Judged before anything is connected to: the port is taken by nobody.
    let error = Client::connect("ws://127.0.0.1:9/ws", &options).unwrap_err();
    assert!(matches!(error, Error::Request(_)), "{error}");
}

#[test]
fn messages_are_compressed_both_ways_in_every_version_that_can_when_both_ends_want_it() {
    for version in Version::ALL {
        let (address, server) = serve_compressed(version);
        let options = Options {
            version,
            compression: Some(Compression::default()),
            ..Options::default()
        };
        let mut client = Client::connect(&url(address), &options).unwrap();
        assert!(client.is_compressed());
        for _ in 0..2 {
            let text = "the tide rises, the tide falls, ".repeat(1000);
            client.send_text(&text).unwrap();
            assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text(text)));
        }
        client.close(code::NORMAL, "").unwrap();
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_declines_compression_is_spoken_to_without() {
    let (address, server) = serve_websocket(b"", |mut peer, head| {
        assert!(
            head.contains("permessage-deflate; client_no_context_takeover"),
            "{head}"
        );
        peer.run(|_, _| {})
    });
    let options = Options {
        compression: Some(Compression::default()),
        ..Options::default()
    };
    let mut client = Client::connect(&url(address), &options).unwrap();
    assert!(!client.is_compressed());
    client.send_text("plain").unwrap();
    client.close(code::NORMAL, "").unwrap();
    assert_eq!(server.join().unwrap()[0], Seen::Text("plain".into()));
}

#[test]
fn a_websocket_is_opened_through_a_proxy() {
    let (address, server) = serve_tunnel();
    let options = Options {
        proxy: Some(Proxy {
            host: address.ip().to_string(),
            port: address.port(),
            authorization: None,
        }),
        ..Options::default()
    };
    // The name is the proxy's to look up.
    let mut client = Client::connect("ws://no-such-host.invalid/ws", &options).unwrap();
    assert_eq!(client.receive(soon()).unwrap(), Some(Message::Text("hi".into())));
    assert!(
        server
            .join()
            .unwrap()
            .starts_with("CONNECT no-such-host.invalid:80 HTTP/1.1\r\n")
    );
}

#[test]
fn a_silent_server_is_pinged_and_given_up_if_it_stays_silent() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        let mut all = Vec::new();
        peer.stream.read_to_end(&mut all).unwrap();
        all
    });
    let options = Options {
        keep_alive: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let mut client = Client::connect(&url(address), &options).unwrap();
    let error = client.receive(None).unwrap_err();
    assert_eq!(error.to_string(), "the server did not answer a ping within 50ms");
    drop(client);
    assert_eq!(
        server.join().unwrap()[..2],
        [0x89, 0x84],
        "a masked Ping with four octets"
    );
}

#[test]
fn a_refusal_is_reported_with_status_and_body_even_when_the_body_comes_late() {
    let (address, server) = serve(|mut stream| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n")
            .unwrap();
        stream.write_all(b"no such ").unwrap();
        stream.write_all(b"path").unwrap();
    });
    let error = Client::connect(&url(address), &Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("ws://{address}/ws answered 404, not 101, to the WebSocket handshake: no such path")
    );
    assert!(error.is_connect());
    server.join().unwrap();
}

#[test]
fn an_answer_that_is_no_websocket_is_reported() {
    for answer in [&b"SSH-2.0-x\r\n"[..], b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b""] {
        let (address, server) = peer::answer(answer);
        let error = Client::connect(&url(address), &Options::default()).unwrap_err();
        assert!(matches!(error, Error::Handshake { .. }), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let (address, server) = serve(|mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    let options = Options {
        timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let error = Client::connect(&url(address), &options).unwrap_err();
    assert!(matches!(error, Error::HandshakeTimeout { .. }), "{error}");
    server.join().unwrap();
}

#[test]
fn what_cannot_be_connected_to_is_refused_with_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = |url: &str| Client::connect(url, &Options::default()).unwrap_err();
    let error = refused(&url(closed));
    assert!(error.to_string().contains("is the broker running there"), "{error}");
    for (url, words) in [
        ("wss://localhost/ws", "wss:// needs TLS"),
        ("http://localhost/ws", "is not the URL of a WebSocket"),
        (
            "ws://no-such-host.invalid/ws",
            "cannot find an address of no-such-host.invalid",
        ),
    ] {
        let error = refused(url);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.is_connect());
    }
}
