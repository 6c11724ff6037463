//! A client of TLS 1.2 whose keys come to their end is told to come again, in the words of all that it speaks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, ServerName};

use rustls::{
    CipherSuiteCommon, ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedCipherSuite,
    Tls12CipherSuite, version,
};
use tidecast_broker::auth::{Authenticator, Grant, Settings};
use tidecast_broker::{Rules, Shared, SlowPolicy, TopicLimits};
use tidecast_driver::{Kind, listen};
use tidecast_websocket::{Timing, Versions};
use tidecast_worker::{
    Admission, Budget, Carriers, Census, Config, Counters, Drain, IdentityLimits, ListenerConfig, MailboxLimits, Mesh,
    MessageRates, Order, Parts, TlsTerms, Worker,
};

/// Records that keys are good for here, instead of 2^24.
const RECORDS: u64 = 400;
const DEADLINE: Duration = Duration::from_secs(30);

/// The cipher suites of TLS 1.2, with keys that are soon used up.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let weaken = |suite: SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls12(suite) => {
            let common = CipherSuiteCommon {
                confidentiality_limit: RECORDS,
                ..suite.common
            };
            // A suite lives as long as the process.
            let suite: &'static Tls12CipherSuite = Box::leak(Box::new(Tls12CipherSuite { common, ..*suite }));
            SupportedCipherSuite::Tls12(suite)
        }
        other => other,
    };
    provider.cipher_suites = provider.cipher_suites.into_iter().map(weaken).collect();
    provider
}

fn config(terms: TlsTerms) -> Config {
    let listener = ListenerConfig {
        origins: Arc::new([]),
        anonymous: Some(Arc::new(Grant::everything())),
        proxy: false,
        tls: Some(terms),
    };
    let unlimited = MessageRates {
        messages: None,
        bytes: None,
    };
    Config {
        listeners: vec![listener],
        admission: Admission::OPEN,
        rates: unlimited,
        identity: IdentityLimits::NONE,
        max_age: None,
        unacknowledged_timeout: None,
        max_message: 1 << 20,
        max_pending: 1 << 20,
        max_pending_messages: 1000,
        slow: SlowPolicy::Close,
        max_connections: 8,
        max_subscriptions: 8,
        max_all_subscriptions: 8,
        rules: Arc::new(Rules::default()),
        authenticator: Arc::new(Authenticator::new(&Settings::default()).unwrap()),
        carriers: Carriers::default(),
        hook: None,
        auth_timeout: DEADLINE,
        topics: TopicLimits::default(),
        max_head: 16 << 10,
        handshake_timeout: DEADLINE,
        versions: Versions::ALL,
        compression: None,
        timing: Timing::default(),
        flush_delay: Duration::ZERO,
        driver: Kind::best().unwrap().0,
        core: None,
        page: "",
    }
}

/// Reads one frame of the server's: its first octet and its payload.
fn frame(from: &mut impl Read) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    from.read_exact(&mut header).unwrap();
    let mut len = [0; 2];
    let len = match header[1] {
        126 => {
            from.read_exact(&mut len).unwrap();
            u16::from_be_bytes(len).into()
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; len];
    from.read_exact(&mut payload).unwrap();
    (header[0], payload)
}

#[test]
fn a_client_whose_keys_come_to_their_end_hears_bye_a_close_and_the_end_of_tls() {
    let key = KeyPair::generate().unwrap();
    let wanted = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = wanted.self_signed(&key).unwrap().der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let listener = listen("127.0.0.1:0".parse().unwrap(), 16, 1).unwrap().remove(0);
    let address = listener.address();
    let limits = MailboxLimits {
        messages: 1,
        bytes: 1,
        answers: 1,
    };
    let mesh = Arc::new(Mesh::new(1, limits));
    let counters = Arc::new(Counters::default());
    let parts = Parts {
        number: 0,
        listeners: vec![(0, listener)],
        mesh: Arc::clone(&mesh),
        shared: Arc::new(Shared::new()),
        census: Arc::new(Census::new(8)),
        budget: Arc::new(Budget::new(usize::MAX)),
        counters: Arc::clone(&counters),
        journal: Arc::default(),
    };
    let config = config(TlsTerms::new(server, None));
    let worker = thread::spawn(move || Worker::new(config, parts).unwrap().run().unwrap());

    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(client), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut peer = StreamOwned::new(connection, socket);
    peer.write_all(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(frame(&mut peer).1.starts_with(b"[\"hello\""));
    // With a key of zeros what is masked is what it was. Each is answered in a record of its own.
    let ping = [&[0x81, 0x88, 0, 0, 0, 0][..], b"[\"ping\"]"].concat();
    let mut answered = 0;
    let bye = loop {
        peer.write_all(&ping).unwrap();
        let (_, said) = frame(&mut peer);
        if said != b"[\"pong\"]" {
            break String::from_utf8(said).unwrap();
        }
        answered += 1;
        assert!(answered < RECORDS, "more than the keys are good for");
    };
    assert!(bye.starts_with("[\"bye\",1001,\"connect again"), "{bye}");
    assert!((RECORDS * 3 / 4..RECORDS).contains(&answered), "{answered}");
    let (first, close) = frame(&mut peer);
    assert_eq!((first, &close[..2]), (0x88, &1001_u16.to_be_bytes()[..]));
    peer.write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]).unwrap();
    // An end that TLS has not announced would be an error.
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    drop(peer);
    mesh.order(0, Order::Drain(Drain::default()));
    worker.join().unwrap();
    assert_eq!((counters.aged.get(), counters.tls_failed.get()), (1, 0));
}
