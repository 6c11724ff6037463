//! TLS on a listener: what goes in and out in the clear goes through it unchanged, and who has no business there is told so.

#[path = "tls/mod.rs"]
mod secure;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, HandshakeKind, version};
use secure::*;
use support::*;
use tidecast_client::{Client, Options, Tls, TlsConnector, Trust};

/// TLS handshakes that came to their end.
fn handshakes(totals: &Totals) -> u64 {
    totals.get("tls_full") + totals.get("tls_resumed")
}

//= RFC 6455#section-10.6
//= type=test
//# WebSocket implementations MUST support TLS
//= RFC 6455#section-4.2.2
//= type=test
//# all further communication for the connection (including the server's handshake) MUST run through the encrypted
//# tunnel [RFC5246].
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
//= type=test
//# all further communication for the connection (including the server handshake) MUST run through the encrypted
//# tunnel.
#[test]
fn the_page_and_websockets_are_served_over_tls_beside_plain_ones() {
    let tls = TlsBroker::start("beside", &[]);
    let mut page = tls.connect();
    page.say(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(page.rest()).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("</html>\n"),
        "{answer}"
    );
    let mut secure = tls.open("/t/a");
    let mut plain = client(&tls.broker.ws("/t/a?mode=sub"));
    secure.say(&masked(0x81, b"from tls"));
    assert_eq!(text(&mut plain), "from tls");
    assert_eq!(secure.frame(), (0x81, b"from tls".to_vec()));
    client(&tls.broker.ws("/t/a")).send_text("to tls").unwrap();
    assert_eq!(secure.frame(), (0x81, b"to tls".to_vec()));
    // The closing handshakes of WebSocket and of TLS, one after the other.
    secure.say(&masked(0x88, &1000_u16.to_be_bytes()));
    assert_eq!(secure.frame(), (0x88, 1000_u16.to_be_bytes().to_vec()));
    assert_eq!(secure.rest(), b"");
    let totals = tls.broker.stop();
    assert_eq!(handshakes(&totals), 2);
    assert_eq!(totals.get("tls_failed"), 0);
}

#[test]
fn messages_of_any_size_arrive_whole_in_both_versions() {
    let tls = TlsBroker::start("sizes", &["--max-message", "2M"]);
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let mut peer = TlsPeer::connect(tls.address, Arc::new(tls.config_of(versions)));
        peer.upgrade("/t/sizes");
        for size in [
            0, 1, 125, 126, 16_300, 16_384, 16_385, 65_535, 65_536, 100_000, 1_500_000,
        ] {
            let payload: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            peer.say(&masked(0x82, &payload));
            let (first, heard) = peer.frame();
            assert_eq!(first, 0x82);
            assert!(heard == payload, "{size} bytes in {versions:?}");
        }
    }
}

#[test]
fn a_slow_reader_over_tls_gets_every_octet_in_order() {
    const MESSAGES: usize = 3000;
    let tls = TlsBroker::start("slow", &["--max-pending", "64M", "--compression", "0"]);
    let mut reader = tls.open("/t/slow?mode=sub");
    let address = tls.broker.ws("/t/slow");
    let publisher = thread::spawn(move || {
        let mut publisher = client(&address);
        for number in 0..MESSAGES {
            let size = number * 37 % 20_000;
            publisher.queue_text(&format!("{number} {}", "x".repeat(size))).unwrap();
        }
        publisher.flush().unwrap();
        publisher
    });
    for number in 0..MESSAGES {
        let (_, payload) = reader.frame();
        let expected = format!("{number} {}", "x".repeat(number * 37 % 20_000));
        assert!(payload == expected.as_bytes(), "message {number}");
    }
    drop(publisher.join().unwrap());
}

#[test]
fn a_reader_over_tls_that_is_too_slow_is_closed_with_4000() {
    let tls = TlsBroker::start("too-slow", &["--max-pending", "256K"]);
    let mut reader = tls.open("/t/much?mode=sub");
    let mut publisher = client(&tls.broker.ws("/t/much?mode=pub"));
    let message = "x".repeat(60_000);
    for _ in 0..1000 {
        publisher.send_text(&message).unwrap();
    }
    let last = loop {
        match reader.frame() {
            (0x81, payload) => assert!(payload == message.as_bytes()),
            last => break last,
        }
    };
    assert_eq!(last.0, 0x88);
    assert_eq!(last.1[..2], 4000_u16.to_be_bytes());
    assert_eq!(tls.broker.stop().get("slow_consumers"), 1);
}

#[test]
fn many_clients_over_tls_get_what_is_published_once() {
    let tls = TlsBroker::start("many", &[]);
    let config = Arc::new(tls.config());
    let mut readers: Vec<_> = (0..200)
        .map(|_| {
            let mut peer = TlsPeer::connect(tls.address, Arc::clone(&config));
            peer.upgrade("/t/many?mode=sub");
            peer
        })
        .collect();
    let mut publisher = client(&tls.broker.ws("/t/many?mode=pub"));
    for number in 0..50 {
        publisher.queue_text(&format!("{number} {}", "y".repeat(4000))).unwrap();
    }
    publisher.flush().unwrap();
    for (index, reader) in readers.iter_mut().enumerate() {
        for number in 0..50 {
            let (_, payload) = reader.frame();
            assert!(payload.starts_with(format!("{number} ").as_bytes()), "reader {index}");
        }
    }
    // All after the first had its ticket.
    let totals = tls.broker.stop();
    assert_eq!(handshakes(&totals), 200);
    assert!(totals.get("tls_resumed") >= 150, "{}", totals.get("tls_resumed"));
}

#[test]
fn plain_http_on_a_port_with_tls_and_tls_on_one_without_are_told_so() {
    let tls = TlsBroker::start("mixed-up", &[]);
    let mut plain = Peer(TcpStream::connect(tls.address).unwrap());
    plain.0.set_read_timeout(Some(DEADLINE)).unwrap();
    plain.say(upgrade("/ws", "Sec-WebSocket-Version: 13\r\n").as_bytes());
    let answer = String::from_utf8(plain.rest()).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("use https:// or wss://"),
        "{answer}"
    );
    let mut peer = Peer::connect(&tls.broker);
    peer.say(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    let answer = String::from_utf8(peer.rest()).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("use http:// or ws://"),
        "{answer}"
    );
    // Neither one nor the other: the alert says that it cannot be read, or that it is unexpected.
    let mut garbage = Peer(TcpStream::connect(tls.address).unwrap());
    garbage.0.set_read_timeout(Some(DEADLINE)).unwrap();
    garbage.say(&[0; 64]);
    let alert = garbage.rest();
    assert_eq!(alert[0], 21, "{alert:?}");
    let totals = tls.broker.stop();
    assert_eq!((totals.get("plain_on_tls"), totals.get("tls_on_plain")), (1, 1));
    assert_eq!((totals.get("tls_failed"), handshakes(&totals)), (1, 0));
}

#[test]
fn behind_a_proxy_its_header_comes_in_the_clear_before_tls() {
    let papers = Papers::make("proxied", &[]);
    let settings = format!(
        "[auth]\nallow_anonymous = true\n[server]\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [tls]\ntls_cert = [\"{}\"]\ntls_key = [\"{}\"]\n\
         [[listeners]]\naddress = \"wss://127.0.0.1:0\"\nproxy = true\n",
        papers.path("cert.pem"),
        papers.path("key.pem")
    );
    let settings = papers.write("tidecast.toml", &settings);
    let broker = Broker::start(&["--config", &settings]);
    let tls = TlsBroker::of(broker, papers);
    let config = Arc::new(tls.config());
    let header = b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 443\r\n";
    // By itself, and with the beginning of the handshake in one piece.
    let mut peer = TlsPeer::connect(tls.address, Arc::clone(&config));
    peer.0.sock.write_all(header).unwrap();
    peer.upgrade("/t/a");
    drop(peer);
    let mut peer = TlsPeer::connect(tls.address, Arc::clone(&config));
    let mut first = header.to_vec();
    peer.0.conn.write_tls(&mut first).unwrap();
    peer.0.sock.write_all(&first).unwrap();
    peer.upgrade("/t/a");
    peer.say(&masked(0x81, b"hello"));
    assert_eq!(peer.frame(), (0x81, b"hello".to_vec()));
    drop(peer);
    // Without it, there is nothing to be had.
    let mut peer = TlsPeer::connect(tls.address, config);
    let _ = peer.0.write_all(b"GET / HTTP/1.1\r\n\r\n");
    peer.refusal();
    assert_eq!(handshakes(&tls.broker.stop()), 2);
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let tls = TlsBroker::start("dripping", &["--handshake-timeout", "300ms"]);
    // What a client says first, from one that does not go on.
    let mut hello = Vec::new();
    let name = rustls::pki_types::ServerName::from(tls.address.ip());
    let mut connection = rustls::ClientConnection::new(Arc::new(tls.config()), name).unwrap();
    connection.write_tls(&mut hello).unwrap();
    for said in [0, 1, 5, hello.len() - 1, hello.len()] {
        let mut peer = Peer(TcpStream::connect(tls.address).unwrap());
        peer.0.set_read_timeout(Some(DEADLINE)).unwrap();
        peer.say(&hello[..said]);
        // Nothing in the clear behind records: no HTTP.
        let heard = peer.rest();
        assert!(!heard.windows(4).any(|bytes| bytes == b"HTTP"), "after {said} bytes");
    }
    // The head has what the handshake left of the time.
    let mut peer = tls.connect();
    peer.say(b"GET / HTTP/1.1\r\n");
    let answer = String::from_utf8(peer.rest()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(tls.broker.stop().get("requests_timed_out"), 6);
}

#[test]
fn a_client_that_says_no_more_is_answered_the_same_and_closed() {
    let tls = TlsBroker::start("goodbye", &[]);
    let mut peer = tls.open("/t/a");
    peer.0.conn.send_close_notify();
    peer.0.flush().unwrap();
    assert_eq!(peer.rest(), b"");
    // One that only ends its stream is gone: there is nobody to answer.
    let mut peer = tls.open("/t/a");
    peer.0.sock.shutdown(Shutdown::Write).unwrap();
    assert!(peer.0.read(&mut [0]).is_err());
    assert_eq!(tls.broker.stop().get("tls_failed"), 0);
}

#[test]
fn a_stop_says_goodbye_over_tls_too() {
    let tls = TlsBroker::start("stop", &[]);
    let mut peer = tls.open("/ws");
    assert!(peer.frame().1.starts_with(br#"["hello""#));
    let _shaking = TcpStream::connect(tls.address).unwrap();
    tls.broker.signal("TERM");
    assert!(peer.frame().1.starts_with(br#"["bye",1001"#));
    let (first, close) = peer.frame();
    assert_eq!((first, &close[..2]), (0x88, &1001_u16.to_be_bytes()[..]));
    peer.say(&masked(0x88, &1001_u16.to_be_bytes()));
    assert_eq!(peer.rest(), b"");
    let mut broker = tls.broker;
    assert!(broker.wait().success());
}

#[test]
fn sessions_are_resumed_whichever_worker_is_met() {
    let tls = TlsBroker::start("resumed", &["--workers", "4"]);
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let config = Arc::new(tls.config_of(versions));
        for number in 0..10 {
            let mut peer = TlsPeer::connect(tls.address, Arc::clone(&config));
            peer.upgrade("/t/a");
            // Something is read after the tickets.
            peer.say(&masked(0x81, b"x"));
            peer.frame();
            let kind = peer.0.conn.handshake_kind();
            assert_eq!(
                kind == Some(HandshakeKind::Resumed),
                number > 0,
                "{versions:?}, {number}"
            );
        }
    }
}

/// An authority for clients, and a client with its certificate.
fn client_papers(
    name: &str,
) -> (
    String,
    Vec<rustls::pki_types::CertificateDer<'static>>,
    PrivateKeyDer<'static>,
) {
    let mut wanted = CertificateParams::default();
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(wanted, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name.push(DnType::CommonName, name);
    let certificate = wanted.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (authority.pem(), vec![certificate.der().clone()], key)
}

#[test]
fn clients_without_a_certificate_are_refused_where_one_is_required() {
    for (whether, is_required) in [("required", true), ("optional", false)] {
        let papers = Papers::make(&format!("clients-{whether}"), &[]);
        let (authority, chain, key) = client_papers("sensor 7");
        let authority = papers.write("clients.pem", &authority);
        let arguments = ["--tls-client-ca", &authority, "--tls-client-auth", whether];
        let tls = TlsBroker::with(papers, &arguments);
        let with = |chain, key| {
            let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(tls.papers.roots())
                .with_client_auth_cert(chain, key)
                .unwrap();
            TlsPeer::connect(tls.address, Arc::new(config))
        };
        with(chain, key).upgrade("/t/a");
        let (_, strange, key) = client_papers("stranger");
        let mut stranger = with(strange, key);
        let _ = stranger.0.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let refusal = stranger.refusal();
        assert!(refusal.contains("alert"), "{refusal}");
        if is_required {
            let mut nobody = tls.connect();
            let _ = nobody.0.write_all(b"GET / HTTP/1.1\r\n\r\n");
            let refusal = nobody.refusal();
            assert!(refusal.contains("CertificateRequired"), "{refusal}");
        } else {
            tls.open("/t/a");
        }
        assert_eq!(tls.broker.stop().get("tls_failed"), if is_required { 2 } else { 1 });
    }
}

#[test]
fn whose_certificate_it_is_says_what_a_client_may_do() {
    let papers = Papers::make("identity", &[]);
    let (authority, chain, key) = client_papers("sensor-7");
    let authority = papers.write("clients.pem", &authority);
    let config = papers.write(
        "tidecast.toml",
        "[[clients]]\nname = \"sensor-*\"\npublish = [\"readings/{sub}\"]\nsubscribe = [\"orders/{sub}/#\"]\n",
    );
    let arguments = [
        "--config",
        &config,
        "--tls-client-ca",
        &authority,
        "--tls-client-auth",
        "optional",
    ];
    let tls = TlsBroker::with(papers, &arguments);
    let own = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(tls.papers.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
    let own = Arc::new(own);
    let ask = |config: &Arc<ClientConfig>, path: &str| {
        let mut peer = TlsPeer::connect(tls.address, Arc::clone(config));
        peer.say(upgrade(path, "Sec-WebSocket-Version: 13\r\n").as_bytes());
        peer.head().split(' ').nth(1).unwrap().to_owned()
    };
    // The second of each is a session that is resumed: who it is comes with the ticket.
    for _ in 0..2 {
        assert_eq!(ask(&own, "/t/readings%2Fsensor-7?mode=pub"), "101");
        assert_eq!(ask(&own, "/t/orders%2Fsensor-7%2F%23"), "101");
        assert_eq!(ask(&own, "/t/readings%2Fsensor-8?mode=pub"), "403");
        assert_eq!(ask(&own, "/t/%23"), "403");
    }
    let nobody = Arc::new(tls.config());
    assert_eq!(ask(&nobody, "/t/orders%2Fsensor-7%2F%23"), "401");
}

/// A client of our library that trusts the authority in this file.
#[test]
fn whose_certificate_has_other_rules_or_none_is_told_so_when_the_file_says_that() {
    let papers = Papers::make("withdrawn", &[]);
    let (authority, chain, key) = client_papers("sensor-7");
    let authority = papers.write("clients.pem", &authority);
    let rule = |name: &str, topic: &str| format!("[[clients]]\nname = \"{name}\"\nsubscribe = [\"{topic}\"]\n");
    let config = papers.write("tidecast.toml", &rule("sensor-*", "+/{sub}"));
    let tls = TlsBroker::with(papers, &["--config", &config, "--tls-client-ca", &authority]);
    let own = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(tls.papers.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
    let own = Arc::new(own);
    let [mut both, mut orders] = ["/ws", "/t/orders%2Fsensor-7?mode=sub"].map(|path| {
        let mut peer = TlsPeer::connect(tls.address, Arc::clone(&own));
        peer.upgrade(path);
        peer
    });
    both.frame();
    for topic in ["orders", "alarms"] {
        both.say(&masked(
            0x81,
            format!(r#"["sub","{topic}/sensor-7",{{"ref":1}}]"#).as_bytes(),
        ));
        assert_eq!(both.frame().1, br#"["ok",1,{}]"#);
    }
    tls.papers.write("tidecast.toml", &rule("sensor-*", "orders/{sub}"));
    tls.broker.signal("HUP");
    let told = String::from_utf8(both.frame().1).unwrap();
    assert!(
        told.contains(r#"the subscription to \"alarms/sensor-7\" has ended"#),
        "{told}"
    );
    tls.papers.write("tidecast.toml", &rule("gateway", "#"));
    tls.broker.signal("HUP");
    let bye = String::from_utf8(both.frame().1).unwrap();
    let words = r#"["bye",4100,"no rule is for the certificate of \"sensor-7\"","#;
    assert!(bye.starts_with(words), "{bye}");
    let (first, payload) = orders.frame();
    assert_eq!((first, &payload[..2]), (0x88, &4100u16.to_be_bytes()[..]));
}

fn trusting(authority: &str) -> Options {
    let tls = Tls {
        trust: Trust::Authorities(authority.into()),
        ..Tls::default()
    };
    Options {
        tls: Some(TlsConnector::new(&tls).unwrap()),
        ..Options::default()
    }
}

//= RFC 6455#section-4.1
//= type=test
//# If /secure/ is true, the client MUST perform a TLS handshake over the connection after opening the connection
//# and before sending the handshake data [RFC2818].
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# If /secure/ is true, the user agent MUST perform a TLS handshake over the connection [RFC2818].
//= RFC 6455#section-4.1
//= type=test
//# all further communication on this channel MUST run through the encrypted tunnel [RFC5246].
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# all further communication on this channel MUST run through the encrypted tunnel. [RFC5246]
#[test]
fn our_client_speaks_over_tls_as_it_does_without() {
    let tls = TlsBroker::start("our-client", &[]);
    let url = format!("wss://localhost:{}/t/ours", tls.address.port());
    let mut secure = Client::connect(&url, &trusting(&tls.papers.path("ca.pem"))).unwrap();
    let mut plain = client(&tls.broker.ws("/t/ours?mode=sub"));
    let large = "x".repeat(900_000);
    for message in ["small", &large] {
        secure.send_text(message).unwrap();
        assert_eq!(text(&mut plain), message);
        assert_eq!(text(&mut secure), message);
    }
    secure.close(1000, "").unwrap();
}

//= RFC 6455#section-4.1
//= type=test
//# Clients MUST use the Server Name Indication extension in the TLS handshake [RFC6066].
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# User agents MUST use the Server Name Indication extension in the TLS handshake. [RFC6066]
//= RFC 6455#section-4.1
//= type=test
//# If this fails (e.g., the server's certificate could not be verified), then the client MUST _Fail the WebSocket
//# Connection_ and abort the connection.
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
//= type=test
//# If this fails (e.g. the server's certificate could not be verified), then the user agent MUST fail the WebSocket
//# connection and abort the connection.
#[test]
fn our_client_names_the_host_and_gives_up_where_that_is_not_whom_it_meets() {
    // Of somebody who only listens: the name is in what comes first, and nothing else is.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://localhost:{}/", listener.local_addr().unwrap().port());
    let tls = TlsBroker::start("our-client-gives-up", &[]);
    let options = trusting(&tls.papers.path("ca.pem"));
    let asking = thread::spawn(move || Client::connect(&url, &options));
    let mut first = vec![0; 4096];
    let (mut stream, _) = listener.accept().unwrap();
    let count = stream.read(&mut first).unwrap();
    assert_eq!(first[0], 22, "a handshake record");
    assert!(first[..count].windows(9).any(|bytes| bytes == b"localhost"));
    drop(stream);
    assert!(asking.join().unwrap().unwrap_err().is_connect());
    // Of somebody with another one's papers.
    let other = Papers::make("our-client-other", &[]);
    let url = format!("wss://localhost:{}/t/a", tls.address.port());
    let error = Client::connect(&url, &trusting(&other.path("ca.pem"))).unwrap_err();
    assert!(error.is_connect() && error.to_string().contains("--tls-ca"), "{error}");
    assert_eq!(tls.broker.stop().get("tls_failed"), 1);
}

#[test]
fn pub_and_sub_take_wss_urls() {
    let tls = TlsBroker::start("pub-sub", &[]);
    let url = format!("wss://localhost:{}", tls.address.port());
    let authority = tls.papers.path("ca.pem");
    let subscriber = {
        let (url, authority) = (url.clone(), authority.clone());
        let arguments = ["sub", "--url", &url, "--tls-ca", &authority, "--count", "1", "a/b"];
        let command = tidecast(&arguments);
        thread::spawn(move || run(command, None))
    };
    // Published until somebody has heard it.
    eventually("the subscriber hears it", || {
        let output = run(
            tidecast(&["pub", "--url", &url, "--tls-insecure", "a/b", "hello"]),
            None,
        );
        assert!(output.status.success(), "{}", said(&output));
        subscriber.is_finished().then_some(())
    });
    let output = subscriber.join().unwrap();
    assert_eq!(output.stdout, b"hello\n", "{}", said(&output));
    let output = run(tidecast(&["pub", "--url", &url, "a/b", "hello"]), None);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}

/// What `openssl s_client` says when it asks for the page.
fn openssl(tls: &TlsBroker, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command
        .args([
            "s_client",
            "-connect",
            &tls.address.to_string(),
            "-CAfile",
            &tls.papers.path("ca.pem"),
        ])
        .args(["-verify_return_error", "-ign_eof"])
        .args(arguments);
    let output = run(
        command,
        Some(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    );
    said(&output)
}

#[test]
fn openssl_agrees_on_versions_protocols_and_names() {
    let other = Papers::make("openssl-other", &["other.test", "*.wild.test"]);
    let arguments = [
        "--tls-cert",
        &other.path("cert.pem"),
        "--tls-key",
        &other.path("key.pem"),
    ];
    let tls = TlsBroker::start("openssl", &arguments);
    for (arguments, words) in [
        (&["-tls1_3"][..], "New, TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256"),
        (&["-tls1_2"], "New, TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
            "Cipher is ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        (
            &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
            "Cipher is TLS_CHACHA20_POLY1305_SHA256",
        ),
        (&["-alpn", "h2,http/1.1"], "ALPN protocol: http/1.1"),
        (&["-verify_hostname", "localhost"], "Verification: OK"),
        (&["-verify_ip", "127.0.0.1"], "Verification: OK"),
        (&["-servername", "unknown.test"], "Verification: OK"),
    ] {
        let said = openssl(&tls, arguments);
        assert!(said.contains(words), "{arguments:?}: {words:?} is not in {said}");
        assert!(said.contains("HTTP/1.1 200 OK"), "{arguments:?}: {said}");
        // It was ended as TLS says.
        assert!(!said.contains("unexpected eof"), "{arguments:?}: {said}");
    }
    for (arguments, words) in [
        (
            &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
            "alert handshake failure",
        ),
        (&["-alpn", "h2"], "alert no application protocol"),
        (&["-servername", "other.test"], "verify error"),
        (&["-servername", "x.wild.test"], "verify error"),
    ] {
        let said = openssl(&tls, arguments);
        assert!(said.contains(words), "{arguments:?}: {words:?} is not in {said}");
        assert!(!said.contains("HTTP/1.1 200 OK"), "{arguments:?}: {said}");
    }
    let others = other.path("ca.pem");
    for name in ["other.test", "OTHER.test", "x.wild.test"] {
        let said = openssl(
            &tls,
            &["-servername", name, "-CAfile", &others, "-verify_hostname", name],
        );
        assert!(said.contains("Verification: OK"), "{name}: {said}");
    }
}

#[test]
fn openssl_resumes_its_session() {
    let tls = TlsBroker::start("openssl-resumes", &[]);
    for version in ["-tls1_2", "-tls1_3"] {
        let session = tls.papers.path("session.pem");
        let first = openssl(&tls, &[version, "-sess_out", &session]);
        assert!(first.contains("New, TLSv1"), "{first}");
        let second = openssl(&tls, &[version, "-sess_in", &session]);
        assert!(second.contains("Reused, TLSv1"), "{second}");
    }
    assert_eq!(tls.broker.stop().get("tls_resumed"), 2);
}

#[test]
fn the_oldest_version_is_a_setting() {
    let tls = TlsBroker::start("only-13", &["--tls-min-version", "1.3"]);
    assert!(openssl(&tls, &["-tls1_2"]).contains("alert protocol version"));
    assert!(openssl(&tls, &["-tls1_3"]).contains("HTTP/1.1 200 OK"));
}

#[test]
fn a_start_with_papers_that_are_not_in_order_says_what_to_change() {
    let (papers, other) = (Papers::make("faulty", &[]), Papers::make("faulty-other", &[]));
    let (certificate, key, other_key) = (papers.path("cert.pem"), papers.path("key.pem"), other.path("key.pem"));
    let secure = ["--listen", "wss://127.0.0.1:0"];
    let with = |chain, key| [&secure[..], &["--tls-cert", chain, "--tls-key", key]].concat();
    let table: [(&[&str], &str); 6] = [
        (&secure, "tidecast dev-cert"),
        (&["--tls-cert", &certificate], "1 of tls_cert and 0 of tls_key"),
        (&["--tls-cert", &certificate, "--tls-key", &key], "--listen wss://"),
        (&with(&certificate, &other_key), "does not belong to"),
        (&with(&certificate, "/nowhere"), "cannot read /nowhere"),
        (&["--tls-client-auth", "optional"], "tls_client_ca"),
    ];
    for (arguments, words) in table {
        let mut command = tidecast(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(arguments);
        let output = run(command, None);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(words), "{arguments:?}: {words:?} is not in {error}");
    }
}

#[test]
fn a_reload_takes_new_certificates_and_disturbs_nobody_and_one_that_is_damaged_changes_nothing() {
    let tls = TlsBroker::start("reload", &[]);
    let mut earlier = tls.open("/t/a");
    let old = Arc::new(tls.config());
    let mut reader = tls.open("/t/a?mode=sub");
    let key = std::fs::read_to_string(tls.papers.path("key.pem")).unwrap();
    tls.papers.write("key.pem", "this is no key");
    tls.broker.signal("HUP");
    tls.broker.error("nothing is changed");
    TlsPeer::connect(tls.address, Arc::clone(&old)).upgrade("/t/a");
    tls.papers.write("key.pem", &key);
    let papers = Papers::make("reload", &[]);
    tls.broker.signal("HUP");
    tls.broker.line("configuration reloaded");
    // Whoever is connected goes on.
    earlier.say(&masked(0x81, b"still here"));
    assert_eq!(earlier.frame(), (0x81, b"still here".to_vec()));
    assert_eq!(reader.frame(), (0x81, b"still here".to_vec()));
    // Whoever comes now meets the new one.
    let refusal = {
        let mut peer = TlsPeer::connect(tls.address, Arc::new(tls.config_trusting(papers.roots())));
        peer.upgrade("/t/a");
        let mut config = (*old).clone();
        config.resumption = rustls::client::Resumption::disabled();
        let mut peer = TlsPeer::connect(tls.address, Arc::new(config));
        peer.0.write_all(b"GET").unwrap_err().to_string()
    };
    assert!(refusal.contains("invalid peer certificate"), "{refusal}");
}
