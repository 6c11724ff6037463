//! The asynchronous client against scripted servers: what `tests/client.rs` claims of the blocking one, and what only tasks
//! can do.
#![cfg(feature = "tokio")]

mod peer;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use peer::{DEADLINE, Seen, answer, read_head, serve, serve_compressed, serve_tunnel, serve_websocket, url};
use tidecast_client::asynchronous::Client;
use tidecast_client::{Compression, Error, Message, Options, Proxy, Version, code};
use tidecast_websocket::http::Request;
use tidecast_websocket::{Opcode, Upgrade, Versions};

fn soon() -> Option<Instant> {
    Some(Instant::now() + DEADLINE)
}

async fn connect(address: SocketAddr) -> Client {
    Client::connect(&url(address), &Options::default()).await.unwrap()
}

async fn refused(url: &str, options: &Options) -> Error {
    Client::connect(url, options).await.expect_err("it is refused")
}

fn through(proxy: SocketAddr) -> Options {
    Options {
        proxy: Some(Proxy {
            host: proxy.ip().to_string(),
            port: proxy.port(),
            authorization: None,
        }),
        ..Options::default()
    }
}

#[tokio::test]
async fn messages_of_every_kind_and_size_come_back_from_an_echo_in_every_version() {
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
        let mut client = Client::connect(&url(address), &options).await.unwrap();
        for size in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
            let text = "x".repeat(size);
            client.send_text(&text).await.unwrap();
            assert_eq!(client.receive(soon()).await.unwrap(), Some(Message::Text(text)));
            let bytes: Vec<u8> = (0..size).map(|i| i as u8).collect();
            client.send_binary(&bytes).await.unwrap();
            assert_eq!(client.receive(soon()).await.unwrap(), Some(Message::Binary(bytes)));
        }
        client.close(code::NORMAL, "enough").await.unwrap();
        let seen = server.join().unwrap();
        let end = [Seen::Close(Some(1000), "enough".into()), Seen::End];
        assert_eq!(seen[seen.len() - 2..], end);
    }
}

#[tokio::test]
async fn messages_are_compressed_both_ways_in_every_version_that_can_when_both_ends_want_it() {
    for version in Version::ALL {
        let (address, server) = serve_compressed(version);
        let options = Options {
            version,
            compression: Some(Compression::default()),
            ..Options::default()
        };
        let mut client = Client::connect(&url(address), &options).await.unwrap();
        assert!(client.is_compressed());
        for _ in 0..2 {
            let text = "the tide rises, the tide falls, ".repeat(1000);
            client.send_text(&text).await.unwrap();
            assert_eq!(client.receive(soon()).await.unwrap(), Some(Message::Text(text)));
        }
        client.close(code::NORMAL, "").await.unwrap();
        server.join().unwrap();
    }
}

#[tokio::test]
async fn a_websocket_is_opened_through_a_proxy() {
    let (address, server) = serve_tunnel();
    // The name is the proxy's to look up.
    let mut client = Client::connect("ws://no-such-host.invalid/ws", &through(address))
        .await
        .unwrap();
    assert_eq!(client.receive(soon()).await.unwrap(), Some(Message::Text("hi".into())));
    let request = server.join().unwrap();
    assert!(
        request.starts_with("CONNECT no-such-host.invalid:80 HTTP/1.1\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_or_says_nothing_is_named() {
    let (address, server) = answer(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let error = refused("ws://no-such-host.invalid/ws", &through(address)).await;
    let named = format!("the proxy {address} does not let us through: ");
    assert!(error.to_string().starts_with(&named), "{error}");
    assert!(error.to_string().contains("Proxy::authorization"), "{error}");
    server.join().unwrap();

    let (address, server) = serve(|mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    let options = Options {
        timeout: Duration::from_millis(100),
        ..through(address)
    };
    let error = refused("ws://no-such-host.invalid/ws", &options).await;
    let named = format!("the proxy {address} does not let us through: it did not answer within 100ms");
    assert_eq!(error.to_string(), named);
    server.join().unwrap();
}

#[tokio::test]
async fn a_silent_server_is_pinged_and_given_up_if_it_stays_silent() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        let mut all = Vec::new();
        peer.stream.read_to_end(&mut all).unwrap();
        all
    });
    let options = Options {
        keep_alive: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let mut client = Client::connect(&url(address), &options).await.unwrap();
    let error = client.receive(None).await.unwrap_err();
    assert_eq!(error.to_string(), "the server did not answer a ping within 50ms");
    drop(client);
    let said = server.join().unwrap();
    assert_eq!(said[..2], [0x89, 0x84], "a masked Ping with four octets");
    // Behind six octets of header and key: four of the time.
    assert_eq!(said[10], 0x88, "a Close in parting");
}

#[tokio::test]
async fn a_server_that_answers_pings_is_not_given_up() {
    // It speaks only when the client has pinged three times, each time but the first after a Pong.
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        for _ in 0..3 {
            peer.answer_ping();
        }
        peer.send(Opcode::Text, b"still here");
        peer.run(|_, _| {})
    });
    let options = Options {
        keep_alive: Some(Duration::from_millis(300)),
        ..Options::default()
    };
    let mut client = Client::connect(&url(address), &options).await.unwrap();
    let message = client.receive(soon()).await.unwrap();
    assert_eq!(message, Some(Message::Text("still here".into())));
    client.close(code::NORMAL, "").await.unwrap();
    server.join().unwrap();
}

#[tokio::test]
async fn a_ping_before_a_message_is_answered_before_the_message_is_handled() {
    let (address, server) = serve_websocket(b"\x89\x04ping\x81\x02hi", |mut peer, _| peer.run_until_pong());
    let mut client = connect(address).await;
    assert_eq!(client.receive(soon()).await.unwrap(), Some(Message::Text("hi".into())));
    // Whatever the program does now: the client is not called again.
    assert_eq!(server.join().unwrap(), b"ping");
}

#[tokio::test]
async fn after_a_write_that_failed_nothing_is_sent_any_more() {
    let (address, server) = serve_websocket(b"\x81\x02hi", |peer, _| peer);
    let options = Options {
        timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let mut client = Client::connect(&url(address), &options).await.unwrap();
    let peer = server.join().unwrap();
    // More than the kernel keeps for a server that does not read.
    let error = client.send_binary(&vec![0; 64 << 20]).await.unwrap_err();
    let words = "the server did not take what was sent within 100ms";
    assert_eq!(error.to_string(), words);
    // What would follow lies amid the frame that was torn.
    let error = client.send_text("again").await.unwrap_err();
    assert_eq!(error.to_string(), format!("the connection was lost: {words}"));
    // What had come is given all the same.
    let buffered = client.receive_buffered().await.unwrap();
    assert_eq!(buffered, Some(Message::Text("hi".into())));
    assert!(matches!(client.receive(soon()).await, Err(Error::Lost(_))));
    drop(peer);
}

#[tokio::test]
async fn a_close_by_the_server_is_reported_with_its_reason_after_all_that_came_before_it() {
    let (address, server) = serve_websocket(b"", |mut peer, _| {
        peer.send(Opcode::Text, b"before");
        peer.close(4000, "slow consumer");
        peer.run(|_, _| {})
    });
    let mut client = connect(address).await;
    let message = client.receive(soon()).await.unwrap();
    assert_eq!(message, Some(Message::Text("before".into())));
    for _ in 0..2 {
        let error = client.receive(soon()).await.unwrap_err();
        let words = "the server closed the connection with 4000: slow consumer";
        assert_eq!(error.to_string(), words);
    }
    assert_eq!(
        server.join().unwrap(),
        [Seen::Close(Some(4000), String::new()), Seen::End]
    );
}

#[tokio::test]
async fn a_close_that_is_not_answered_times_out() {
    let (address, server) = serve_websocket(b"", |mut peer, _| peer.stream.read_to_end(&mut Vec::new()).unwrap());
    let options = Options {
        timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let client = Client::connect(&url(address), &options).await.unwrap();
    let error = client.close(code::NORMAL, "").await.unwrap_err();
    assert!(
        error.to_string().contains("did not answer the closing handshake"),
        "{error}"
    );
    server.join().unwrap();
}

#[tokio::test]
async fn a_redirect_is_reported_and_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("ws://{}/ws", elsewhere.local_addr().unwrap());
    let head = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\n\r\n");
    let (address, server) = answer(head.leak().as_bytes());
    match refused(&url(address), &Options::default()).await {
        Error::Redirected {
            status, location: told, ..
        } => assert_eq!((status, told), (307, Some(location))),
        other => panic!("{other}"),
    }
    server.join().unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_refusal_for_want_of_credentials_tells_which_are_wanted() {
    let (address, server) = answer(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"b\"\r\n\r\n");
    let error = refused(&url(address), &Options::default()).await;
    assert_eq!(
        error.to_string(),
        format!(
            "ws://{address}/ws answered 401: give credentials that it takes in an Authorization header, as it asks for \
             with \"Bearer realm=\\\"b\\\"\""
        )
    );
    server.join().unwrap();
}

#[tokio::test]
async fn a_refusal_is_reported_with_status_and_body_even_when_the_body_comes_late() {
    let (address, server) = serve(|mut stream| {
        read_head(&mut stream);
        for piece in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n",
            "no such ",
            "path",
        ] {
            stream.write_all(piece.as_bytes()).unwrap();
        }
    });
    let error = refused(&url(address), &Options::default()).await;
    assert_eq!(
        error.to_string(),
        format!("ws://{address}/ws answered 404, not 101, to the WebSocket handshake: no such path")
    );
    server.join().unwrap();
}

#[tokio::test]
async fn an_answer_that_is_no_websocket_is_reported() {
    for said in [&b"SSH-2.0-x\r\n"[..], b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b""] {
        let (address, server) = answer(said);
        let error = refused(&url(address), &Options::default()).await;
        assert!(matches!(error, Error::Handshake { .. }), "{error}");
        server.join().unwrap();
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let (address, server) = serve(|mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    let options = Options {
        timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let error = refused(&url(address), &options).await;
    assert!(matches!(error, Error::HandshakeTimeout { .. }), "{error}");
    server.join().unwrap();
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_refused_with_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, words) in [
        (&*url(closed), "is the broker running there"),
        ("wss://localhost/ws", "wss:// needs TLS"),
        ("http://localhost/ws", "is not the URL of a WebSocket"),
        (
            "ws://no-such-host.invalid/ws",
            "cannot find an address of no-such-host.invalid",
        ),
    ] {
        let error = refused(url, &Options::default()).await;
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.is_connect());
    }
}

/// Answers the requests for `count` WebSockets, from when `ready` of them have come. Gives how many were unanswered at a
/// time, at most.
fn serve_handshakes(listener: TcpListener, count: usize, ready: usize) -> usize {
    let mut connected: Vec<_> = (0..ready).map(|_| listener.accept().unwrap().0).collect();
    let mut most = 0;
    for answered in 0..count {
        if connected.len() == answered {
            connected.push(listener.accept().unwrap().0);
        }
        let head = read_head(&mut connected[answered]);
        listener.set_nonblocking(true).unwrap();
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            connected.push(stream);
        }
        listener.set_nonblocking(false).unwrap();
        most = most.max(connected.len() - answered);
        let (request, _) = Request::parse(head.as_bytes(), 4096).unwrap().unwrap();
        let mut response = Vec::new();
        Upgrade::from_request(&request, Versions::ALL)
            .unwrap()
            .write_response(None, &mut response);
        connected[answered].write_all(&response).unwrap();
    }
    most
}

//= RFC 6455#section-4.1
//= type=test
//# If multiple connections to the same IP address are attempted by the client simultaneously, the client MUST serialize
//# them so that there is no more than one connection at a time running through the following steps.
#[tokio::test]
async fn of_many_handshakes_with_one_address_one_is_under_way_unless_more_are_asked_for() {
    const TASKS: usize = 8;
    for concurrent_handshakes in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = url(listener.local_addr().unwrap());
        let at_once = if concurrent_handshakes { TASKS } else { 1 };
        let server = std::thread::spawn(move || serve_handshakes(listener, TASKS, at_once));
        let options = Options {
            concurrent_handshakes,
            ..Options::default()
        };
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (url, options) = (url.clone(), options.clone());
                tokio::spawn(async move { Client::connect(&url, &options).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(server.join().unwrap(), at_once);
    }
}

#[tokio::test]
async fn a_task_waits_for_the_handshake_of_a_thread_and_takes_its_turn_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = url(listener.local_addr().unwrap());
    let thread = std::thread::spawn({
        let url = url.clone();
        move || tidecast_client::Client::connect(&url, &Options::default()).map(drop)
    });
    let (held, _) = listener.accept().unwrap();
    // The thread has connected and waits for its answer: this one does not even connect.
    let in_a_hurry = Options {
        timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let error = refused(&url, &in_a_hurry).await;
    assert!(
        error.to_string().contains("another handshake of this process"),
        "{error}"
    );
    let waiting = tokio::spawn(async move { Client::connect(&url, &Options::default()).await.map(drop) });
    let server = std::thread::spawn(move || {
        drop(held);
        serve_handshakes(listener, 1, 1)
    });
    waiting.await.unwrap().unwrap();
    assert!(thread.join().unwrap().is_err());
    assert_eq!(server.join().unwrap(), 1);
}

#[tokio::test]
async fn a_handshake_that_is_dropped_gives_its_turn_to_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = url(listener.local_addr().unwrap());
    let attempt = tokio::spawn({
        let url = url.clone();
        async move { Client::connect(&url, &Options::default()).await.map(drop) }
    });
    let server = tokio::task::spawn_blocking(move || {
        let first = listener.accept().unwrap();
        (listener, first)
    });
    let (listener, first) = server.await.unwrap();
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    let server = std::thread::spawn(move || serve_handshakes(listener, 1, 1));
    Client::connect(&url, &Options::default()).await.unwrap();
    assert_eq!(server.join().unwrap(), 1);
    drop(first);
}
