//! What a client owes to the connection below: fresh keys, and its end.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tidecast_client::{Client, Error, Message, Options, Proxy};
use tidecast_websocket::http::Request;
use tidecast_websocket::{Upgrade, Version, Versions};

use crate::support::{DEADLINE, eventually, hex};

/// A server that hands each of `count` connections to `script` as soon as its handshake is done. What `visit` gives is
/// dropped only after that, so that it is not the end of a `Client` that ends its connection.
fn serve<T: Send, R>(count: usize, script: impl Fn(Server) -> T + Sync, visit: impl FnOnce(&str) -> R) -> Vec<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let accepted = (0..count).map(|_| script(Server::accept(&listener)));
            accepted.collect()
        });
        let _kept = visit(&url);
        server.join().unwrap()
    })
}

/// The server's end of a connection.
struct Server {
    stream: TcpStream,
    /// What `Sec-WebSocket-Key` said.
    key: String,
}

impl Server {
    fn accept(listener: &TcpListener) -> Server {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).unwrap();
            head.extend(octet);
        }
        let (request, _) = Request::parse(&head, 4096).unwrap().unwrap();
        let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
        let mut response = Vec::new();
        upgrade.write_response(None, &mut response);
        stream.write_all(&response).unwrap();
        let key = request.header("Sec-WebSocket-Key").unwrap().to_owned();
        Server { stream, key }
    }

    /// Reads a short masked frame: its first octet, its key, and its payload without it.
    fn frame(&mut self) -> (u8, [u8; 4], Vec<u8>) {
        let mut header = [0; 6];
        self.stream.read_exact(&mut header).unwrap();
        let [first, second, key @ ..] = header;
        assert!(second & 0x80 != 0 && second < 0x80 | 126, "a short masked frame");
        let mut payload = vec![0; usize::from(second & 0x7f)];
        self.stream.read_exact(&mut payload).unwrap();
        payload
            .iter_mut()
            .zip(key.iter().cycle())
            .for_each(|(octet, key)| *octet ^= key);
        (first, key, payload)
    }

    /// What the client says until it closes its side, by a reset or in order.
    fn rest(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        match self.stream.read_to_end(&mut octets) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        octets
    }
}

fn options(version: Version) -> Options {
    Options {
        version,
        ..Options::default()
    }
}

//= RFC 6455#section-4.1
//= type=test
//# it MUST open a connection, send an opening handshake, and read the server's handshake in response.
//= RFC 6455#section-4.1
//= type=test
//# the client MUST send an opening handshake to the server
//= RFC 6455#section-4.1
//= type=test
//# The value of this header field MUST be a nonce consisting of a randomly selected 16-byte value that has been
//# base64-encoded (see Section 4 of [RFC4648]).
//= RFC 6455#section-4.1
//= type=test
//# The nonce MUST be selected randomly for each connection.
//= RFC 6455#section-5.3
//= type=test
//# the client MUST pick a fresh masking key from the set of allowed 32-bit values.
//= RFC 6455#section-6.1
//= type=test
//# The frame(s) that have been formed MUST be transmitted over the underlying network connection.
//= RFC 6455#section-10.3
//= type=test
//# Clients MUST choose a new masking key for each frame
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The value of this header MUST be a nonce consisting of a randomly selected 16-byte value that has been
//# base64-encoded [RFC3548].
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# The nonce MUST be selected randomly for each connection.
#[test]
fn every_handshake_and_every_frame_has_a_key_of_its_own() {
    const CONNECTIONS: usize = 20;
    const FRAMES: usize = 20;
    for version in [Version::V7, Version::V8, Version::V13] {
        let script = |mut server: Server| {
            let nonce = BASE64_STANDARD.decode(&server.key).unwrap();
            assert_eq!(nonce.len(), 16);
            let keys: Vec<_> = (0..FRAMES)
                .map(|_| {
                    let (first, key, payload) = server.frame();
                    assert_eq!((first, &*payload), (0x81, &b"the same"[..]));
                    key
                })
                .collect();
            (nonce, keys)
        };
        let seen = serve(CONNECTIONS, script, |url| {
            for _ in 0..CONNECTIONS {
                let mut client = Client::connect(url, &options(version)).unwrap();
                for _ in 0..FRAMES {
                    client.send_text("the same").unwrap();
                }
            }
        });
        let (nonces, keys): (HashSet<_>, Vec<_>) = seen.into_iter().unzip();
        assert_eq!(nonces.len(), CONNECTIONS);
        let keys: HashSet<_> = keys.into_iter().flatten().collect();
        // Of 400 values out of 2^32 two are the same with probability 0.00002; two pairs do not happen.
        assert!(keys.len() + 1 >= CONNECTIONS * FRAMES);
    }
}

//= RFC 6455#section-4.1
//= type=test
//# If any of the components are invalid, the client MUST _Fail the WebSocket Connection_ and abort these steps.
//= RFC 6455#section-4.1
//= type=test
//# then the client MUST _Fail the WebSocket Connection_ and abort the connection attempt.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-3.3
//= type=test
//# A client MUST NOT attempt to make a connection to an invalid WebSocket URI.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-3.3
//= type=test
//# MUST NOT attempt to connect with such an unparsed URI
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# If any of the requirements are not met, the client MUST fail the WebSocket connection and abort these steps.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# then the user agent MUST fail the WebSocket connection and abort the connection attempt.
#[test]
fn a_connection_that_cannot_be_opened_is_an_error_and_bad_urls_connect_to_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    for url in [
        format!("ws://{address}/a#b"),
        format!("ws://{address}/\u{fc}"),
        format!("ws://{address}/a b"),
        format!("http://{address}/"),
        // It was given no TLS.
        format!("wss://{address}/"),
    ] {
        let error = Client::connect(&url, &Options::default()).unwrap_err();
        assert!(error.is_connect(), "{url}: {error}");
        let nobody = listener.accept().unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::WouldBlock, "{url}");
    }
    drop(listener);
    let error = Client::connect(&format!("ws://{address}/"), &Options::default()).unwrap_err();
    assert!(error.is_connect(), "{error}");
}

//= RFC 6455#section-4.1
//= type=test
//# the client MUST wait until that connection has been established or for that connection to have failed.
//= RFC 6455#section-4.1
//= type=test
//# There MUST be no more than one connection in a CONNECTING state.
//= RFC 6455#section-4.1
//= type=test
//# the client MUST serialize them so that there is no more than one connection at a time running through the following
//# steps.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# the user agent MUST wait until that connection has been established or for that connection to have failed.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# There MUST be no more than one connection in a CONNECTING state.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# the user agent MUST serialize them so that there is no more than one connection at a time running through the
//# following steps.
#[test]
fn connections_to_one_address_are_opened_one_after_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let in_a_hurry = Options {
        timeout: Duration::from_millis(200),
        ..Options::default()
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| Client::connect(&url, &Options::default()));
        let (stream, _) = listener.accept().unwrap();
        // While the first waits for its answer, the second does not even connect.
        let error = Client::connect(&url, &in_a_hurry).unwrap_err();
        assert!(error.is_connect(), "{error}");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        listener.set_nonblocking(false).unwrap();
        // Once the first has failed, it is the next one's turn.
        let second = scope.spawn(|| Client::connect(&url, &Options::default()));
        drop(stream);
        assert!(first.join().unwrap().is_err());
        let _server = Server::accept(&listener);
        assert!(second.join().unwrap().is_ok());
    });
}

//= RFC 6455#section-4.1
//= type=test
//# then the client MUST assume for the purposes of this step that each host name refers to a distinct remote host
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# then the user agent MUST assume for the purposes of this step that each host name refers to a distinct remote host
#[test]
fn behind_a_proxy_hosts_are_told_apart_by_their_names() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let address = proxy.local_addr().unwrap();
    let through = |timeout| Options {
        timeout,
        proxy: Some(Proxy {
            host: address.ip().to_string(),
            port: address.port(),
            authorization: None,
        }),
        ..Options::default()
    };
    let asked = || {
        let (stream, _) = eventually("a connection", || proxy.accept().ok());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut line = String::new();
        let mut stream = BufReader::new(stream);
        stream.read_line(&mut line).unwrap();
        (line, stream)
    };
    thread::scope(|scope| {
        let one = scope.spawn(|| Client::connect("ws://one.test/ws", &through(DEADLINE)));
        let (line, pending) = asked();
        assert_eq!(line, "CONNECT one.test:80 HTTP/1.1\r\n");
        // While it waits for its answer, another host is asked for, and the same one is not.
        let other = scope.spawn(|| Client::connect("ws://other.test/ws", &through(DEADLINE)));
        let (line, pending_too) = asked();
        assert_eq!(line, "CONNECT other.test:80 HTTP/1.1\r\n");
        let error = Client::connect("ws://one.test/ws", &through(Duration::from_millis(200))).unwrap_err();
        assert!(error.is_connect(), "{error}");
        assert_eq!(proxy.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop((pending, pending_too));
        assert!(one.join().unwrap().is_err() && other.join().unwrap().is_err());
    });
}

//= RFC 6455#section-7.1.7
//= type=test
//# To do so, the client MUST _Close the WebSocket Connection_
//= RFC 6455#section-7.2.1
//= type=test
//# To do so, the client MUST _Fail the WebSocket Connection_ as defined in Section 7.1.7.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-7.1.4
//= type=test
//# To do so, the user agent MUST _Close the WebSocket Connection_
//= draft-ietf-hybi-thewebsocketprotocol-07#section-7.2.1
//= type=test
//# To do so, the user agent MUST _Close the WebSocket connection_ as previously defined
#[test]
fn an_answer_that_is_not_the_right_one_ends_the_connection() {
    let answers = [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ];
    let versions = [Version::V6, Version::V7, Version::V8, Version::V13];
    for (answer, version) in answers
        .into_iter()
        .flat_map(|answer| versions.map(|version| (answer, version)))
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            let mut request = Vec::new();
            stream.read_to_end(&mut request).map(|_| request)
        });
        let error = Client::connect(&url, &options(version)).unwrap_err();
        assert!(matches!(error, Error::Handshake { .. }), "{error}");
        let request = server.join().unwrap().unwrap();
        assert!(request.ends_with(b"\r\n\r\n"), "no frame follows the request");
    }
}

//= RFC 6455#section-5.1
//= type=test
//# A client MUST close a connection if it detects a masked frame.
//= RFC 6455#section-5.2
//= type=test
//# If a nonzero value is received and none of the negotiated extensions defines the meaning of such a nonzero value,
//# the receiving endpoint MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-5.2
//= type=test
//# If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_.
//= RFC 6455#section-5.5.1
//= type=test
//# After both sending and receiving a Close message, an endpoint considers the WebSocket connection closed and MUST
//# close the underlying TCP connection.
//= RFC 6455#section-7.1.7
//= type=test
//# To do so, the client MUST _Close the WebSocket Connection_
//= draft-ietf-hybi-thewebsocketprotocol-07#section-7.1.4
//= type=test
//# To do so, the user agent MUST _Close the WebSocket Connection_
#[test]
fn after_both_closes_or_a_frame_that_fails_it_the_client_ends_the_connection() {
    for version in [Version::V7, Version::V8, Version::V13] {
        for (said, code) in [
            // A Close, which is answered.
            ("880203e8", 1000_u16),
            // A masked frame, a reserved bit and a reserved opcode.
            ("818537fa213d7f9f4d5158", 1002),
            ("c100", 1002),
            ("8300", 1002),
        ] {
            let script = |mut server: Server| {
                server.stream.write_all(&hex(said)).unwrap();
                let (first, _, payload) = server.frame();
                assert_eq!((first, &payload[..2]), (0x88, &code.to_be_bytes()[..]), "{said}");
                // The server's own end, that the client may wait for.
                server.stream.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(server.rest(), b"", "{said}");
            };
            serve(1, script, |url| {
                let mut client = Client::connect(url, &options(version)).unwrap();
                let error = client.receive(Some(Instant::now() + DEADLINE)).unwrap_err();
                match code {
                    1000 => assert!(matches!(error, Error::Closed { .. }), "{error}"),
                    _ => assert!(matches!(error, Error::Protocol(_)), "{error}"),
                }
                client
            });
        }
    }
}

//= RFC 6455#section-7.2.1
//= type=test
//# If at any point the underlying transport layer connection is unexpectedly lost, the client MUST _Fail the WebSocket
//# Connection_.
#[test]
fn a_connection_that_is_lost_is_an_error_behind_the_messages_that_came() {
    let script = |mut server: Server| server.stream.write_all(b"\x81\x02Hi\x81\x05Hel").unwrap();
    serve(1, script, |url| {
        let mut client = Client::connect(url, &Options::default()).unwrap();
        let soon = Some(Instant::now() + DEADLINE);
        assert_eq!(client.receive(soon).unwrap(), Some(Message::Text("Hi".into())));
        let error = client.receive(soon).unwrap_err();
        assert!(matches!(error, Error::Lost(_)), "{error}");
    });
}
