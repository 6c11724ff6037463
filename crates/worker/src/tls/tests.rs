//! A client of rustls' on the other side of a session, in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::ClientConnection;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, RootCertStore, ServerConfig, SupportedCipherSuite, version,
};

use super::record::LARGEST;
use super::session::{Fault, Received, Session};
use super::stage::Arena;
use super::{TlsTerms, speaks_http};

/// Lengths around those of records.
const LENGTHS: [usize; 8] = [1, 2, 100, LARGEST - 1, LARGEST, LARGEST + 1, 2 * LARGEST, 100_000];

/// An authority, and what it has signed.
struct Paper {
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Paper {
    fn new() -> Paper {
        let mut wanted = CertificateParams::default();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(wanted, KeyPair::generate().unwrap()).unwrap();
        Paper { authority }
    }

    fn sign(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let wanted = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = wanted.signed_by(&key, &self.authority).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        roots
    }

    /// A server that asks for certificates, but takes clients without one too.
    fn terms(&self, provider: CryptoProvider) -> TlsTerms {
        let provider = Arc::new(provider);
        let (chain, key) = self.sign("localhost");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        let identify = |shown: &CertificateDer<'_>| Some(format!("{} bytes", shown.len()));
        TlsTerms::new(config, Some(Arc::new(identify)))
    }

    fn client(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }
}

fn server() -> (Paper, TlsTerms) {
    let paper = Paper::new();
    let terms = paper.terms(aws_lc_rs::default_provider());
    (paper, terms)
}

const ONLY_12: &[&rustls::SupportedProtocolVersion] = &[&version::TLS12];
const ONLY_13: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13];

/// A client and a session.
struct Pair {
    client: ClientConnection,
    session: Session,
    /// What the session was told.
    heard: Vec<u8>,
    events: Vec<Received>,
}

impl Pair {
    fn new(terms: &TlsTerms, config: ClientConfig) -> Pair {
        Pair::of(terms, &Arc::new(config))
    }

    fn of(terms: &TlsTerms, config: &Arc<ClientConfig>) -> Pair {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
        client.set_buffer_limit(None);
        Pair {
            client,
            session: Session::new(terms),
            heard: Vec::new(),
            events: Vec::new(),
        }
    }

    /// One that has shaken hands.
    fn open(terms: &TlsTerms, config: ClientConfig) -> Pair {
        let mut pair = Pair::new(terms, config);
        pair.shake();
        pair
    }

    fn shake(&mut self) {
        for _ in 0..5 {
            self.client_says(usize::MAX).unwrap();
            self.session_says(&[], false).unwrap();
        }
        assert!(self.session.is_open() && !self.client.is_handshaking());
        let is_shaken = |event: &Received| matches!(event, Received::Shaken { .. });
        assert_eq!(self.events.iter().filter(|event| is_shaken(event)).count(), 1);
    }

    /// What the client has to say, in the clear or not.
    fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut records).unwrap();
        }
        records
    }

    /// The session hears what the client has to say, so many bytes at a time.
    fn client_says(&mut self, at_a_time: usize) -> Result<(), Fault> {
        let mut records = self.records();
        let at_a_time = at_a_time.min(records.len()).max(1);
        records
            .chunks_mut(at_a_time)
            .try_for_each(|bytes| self.session_hears(bytes))
    }

    fn session_hears(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        let mut records = self.session.records(bytes);
        while let Some(record) = records.next()? {
            let received = self.session.receive(record)?;
            if let Received::Data(range) = &received {
                self.heard.extend_from_slice(&record[range.clone()]);
            }
            self.events.push(received);
        }
        self.session.keep(records.into_rest());
        Ok(())
    }

    /// The client hears what the session has to say, `content` included; what the content was.
    fn session_says(&mut self, content: &[u8], is_all: bool) -> Result<Vec<u8>, Error> {
        let mut arena = Arena::default();
        self.session.seal(content, is_all, &mut arena).expect("keys are fresh");
        self.client_hears(arena.written())
    }

    fn client_hears(&mut self, mut records: &[u8]) -> Result<Vec<u8>, Error> {
        let mut octets = Vec::new();
        while !records.is_empty() && self.client.read_tls(&mut records).unwrap() > 0 {
            self.client.process_new_packets()?;
            // It stops where nothing is left for now.
            let _ = self.client.reader().read_to_end(&mut octets);
        }
        Ok(octets)
    }

    fn client_writes(&mut self, content: &[u8]) {
        self.client.writer().write_all(content).unwrap();
    }

    /// Octets in both directions.
    fn talk(&mut self, len: usize) {
        let content: Vec<u8> = (0..len).map(|index| index as u8).collect();
        self.client_writes(&content);
        self.heard.clear();
        self.client_says(usize::MAX).unwrap();
        assert!(self.heard == content, "{len} bytes to the server");
        assert!(
            self.session_says(&content, false).unwrap() == content,
            "{len} bytes to the client"
        );
    }
}

#[test]
fn every_cipher_suite_carries_any_length_both_ways() {
    let paper = Paper::new();
    let mut seen = Vec::new();
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        // The certificate's key is ECDSA.
        if format!("{:?}", suite.suite()).contains("RSA_WITH") && !format!("{:?}", suite.suite()).contains("ECDSA") {
            continue;
        }
        let provider = CryptoProvider {
            cipher_suites: vec![*suite],
            ..aws_lc_rs::default_provider()
        };
        let terms = paper.terms(CryptoProvider {
            cipher_suites: aws_lc_rs::ALL_CIPHER_SUITES.to_vec(),
            ..aws_lc_rs::default_provider()
        });
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(if matches!(suite, SupportedCipherSuite::Tls13(_)) {
                ONLY_13
            } else {
                ONLY_12
            })
            .unwrap()
            .with_root_certificates(paper.roots())
            .with_no_client_auth();
        let mut pair = Pair::open(&terms, config);
        assert_eq!(pair.client.negotiated_cipher_suite().unwrap().suite(), suite.suite());
        for len in LENGTHS {
            pair.talk(len);
        }
        seen.push(suite.suite());
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn the_servers_order_of_suites_holds_unless_the_client_prefers_chacha() {
    let paper = Paper::new();
    let ours = [
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let terms = paper.terms(CryptoProvider {
        cipher_suites: ours.to_vec(),
        ..aws_lc_rs::default_provider()
    });
    let [aes_128, aes_256, chacha] = ours;
    for (theirs, agreed) in [
        (vec![aes_256, aes_128, chacha], aes_128),
        (vec![aes_256, chacha], aes_256),
        (vec![chacha, aes_256, aes_128], chacha),
    ] {
        let provider = CryptoProvider {
            cipher_suites: theirs,
            ..aws_lc_rs::default_provider()
        };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(ONLY_13)
            .unwrap()
            .with_root_certificates(paper.roots())
            .with_no_client_auth();
        let pair = Pair::open(&terms, config);
        assert_eq!(pair.client.negotiated_cipher_suite(), Some(agreed));
    }
}

#[test]
fn records_may_come_in_any_pieces() {
    let (paper, terms) = server();
    for versions in [ONLY_12, ONLY_13] {
        for at_a_time in [1, 2, 3, 4, 5, 6, 7, 100, 1000, 16_000, 20_000] {
            let mut pair = Pair::new(&terms, paper.client(versions));
            for _ in 0..5 {
                pair.client_says(at_a_time).unwrap();
                pair.session_says(&[], false).unwrap();
            }
            let content = vec![7; 40_000];
            pair.client_writes(&content);
            pair.client_says(at_a_time).unwrap();
            assert!(pair.heard == content, "{at_a_time} at a time");
            assert_eq!(
                pair.session.partial_capacity(),
                0,
                "nothing is kept of what is done with"
            );
        }
    }
}

#[test]
fn what_follows_the_handshake_in_one_piece_is_not_lost() {
    let (paper, terms) = server();
    for versions in [ONLY_12, ONLY_13] {
        let mut pair = Pair::new(&terms, paper.client(versions));
        // The client writes before it may: that goes out with its last handshake message.
        pair.client_writes(b"GET / HTTP/1.1\r\n\r\n");
        pair.shake();
        assert_eq!(pair.heard, b"GET / HTTP/1.1\r\n\r\n");
    }
}

#[test]
fn a_socket_may_take_any_part_of_what_is_sealed() {
    let (paper, terms) = server();
    let mut pair = Pair::open(&terms, paper.client(ONLY_13));
    let mut expected = Vec::new();
    let mut octets = Vec::new();
    for round in 0..200_usize {
        let content = vec![round as u8; round * 97 % 40_000];
        let mut arena = Arena::default();
        pair.session.seal(&content, false, &mut arena).unwrap();
        expected.extend(content);
        let sent = arena.written().len() * (round % 4) / 3;
        let (sent, unsent) = arena.written().split_at(sent.min(arena.written().len()));
        octets.extend(pair.client_hears(sent).unwrap());
        if !unsent.is_empty() {
            pair.session.put_back(unsent);
        }
        assert_eq!(pair.session.waiting().len(), unsent.len());
    }
    octets.extend(pair.session_says(&[], false).unwrap());
    assert!(octets == expected);
    assert!(pair.session.waiting().is_empty());
}

#[test]
fn a_client_may_change_its_keys_and_ask_for_ours() {
    let (paper, terms) = server();
    let mut pair = Pair::open(&terms, paper.client(ONLY_13));
    for round in 1..20 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.talk(round * 1000);
    }
}

#[test]
fn a_client_that_changes_its_keys_without_end_is_told_off() {
    let (paper, terms) = server();
    let mut pair = Pair::open(&terms, paper.client(ONLY_13));
    let fault = (0..100).find_map(|_| {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client_says(usize::MAX).err()
    });
    assert!(matches!(
        fault,
        Some(Fault::Broken(AlertDescription::UnexpectedMessage))
    ));
    assert_eq!(
        pair.session_says(b"nothing of this", true),
        Err(Error::AlertReceived(AlertDescription::UnexpectedMessage))
    );
}

#[test]
fn keys_are_changed_before_they_are_spent_and_without_new_ones_it_ends() {
    let (paper, terms) = server();
    let mut pair = Pair::open(&terms, paper.client(ONLY_13));
    pair.session.limit_keys(10);
    for _ in 0..100 {
        pair.talk(3 * LARGEST);
    }
    let mut pair = Pair::open(&terms, paper.client(ONLY_12));
    pair.session.limit_keys(10);
    let sealed = (0..20).take_while(|_| {
        let mut arena = Arena::default();
        let sealed = pair.session.seal(b"x", false, &mut arena);
        assert!(matches!(sealed, Ok(()) | Err(Fault::Exhausted)), "{sealed:?}");
        sealed.is_ok()
    });
    assert!((5..10).contains(&sealed.count()));
}

#[test]
fn a_session_whose_keys_come_to_their_end_tells_so_once_while_much_can_still_be_said() {
    let (paper, terms) = server();
    let mut pair = Pair::open(&terms, paper.client(ONLY_12));
    pair.session.limit_keys(800);
    let told: Vec<usize> = (0..750)
        .filter(|_| {
            pair.talk(1);
            pair.session.begins_to_end()
        })
        .collect();
    // The handshake has taken one or two.
    assert!(matches!(told[..], [690..700]), "{told:?}");
    assert!(pair.session.say_goodbye(true));
    assert!(!pair.session.waiting().is_empty(), "the close_notify");
    // New keys make an end of that.
    let mut pair = Pair::open(&terms, paper.client(ONLY_13));
    pair.session.limit_keys(80);
    for _ in 0..200 {
        pair.talk(1);
        assert!(!pair.session.begins_to_end());
    }
}

#[test]
fn both_sides_say_that_they_say_no_more() {
    let (paper, terms) = server();
    for versions in [ONLY_12, ONLY_13] {
        let mut pair = Pair::open(&terms, paper.client(versions));
        pair.client_writes(b"last");
        pair.client.send_close_notify();
        pair.client_says(usize::MAX).unwrap();
        assert_eq!(pair.heard, b"last");
        assert_eq!(pair.events.last(), Some(&Received::Closed));
        // What is queued still goes, and the end after it.
        assert!(pair.session.say_goodbye(false));
        assert_eq!(pair.session_says(b"some", false).unwrap(), b"some");
        assert!(!pair.client.process_new_packets().unwrap().peer_has_closed());
        assert_eq!(pair.session_says(b"more", true).unwrap(), b"more");
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        assert!(!pair.session.say_goodbye(true), "once");
    }
}

#[test]
fn a_record_that_was_tampered_with_ends_it_with_an_alert() {
    let (paper, terms) = server();
    for versions in [ONLY_12, ONLY_13] {
        let mut pair = Pair::open(&terms, paper.client(versions));
        pair.client_writes(b"hello");
        let mut records = pair.records();
        *records.last_mut().unwrap() ^= 1;
        let fault = pair.session_hears(&mut records).unwrap_err();
        assert!(
            matches!(fault, Fault::Broken(AlertDescription::BadRecordMac)),
            "{fault:?}"
        );
        assert!(pair.session.is_over());
        let heard = pair.session_says(b"not to be heard", true);
        assert_eq!(heard, Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
    }
}

#[test]
fn a_record_too_large_is_refused_by_its_header() {
    let (paper, terms) = server();
    let mut pair = Pair::open(&terms, paper.client(ONLY_13));
    let mut records = pair.session.records(&mut []);
    assert!(records.next().unwrap().is_none());
    let mut header = [23, 3, 3, 0xff, 0xff];
    let mut records = pair.session.records(&mut header);
    let fault = records.next().unwrap_err();
    assert!(matches!(fault, Fault::Broken(AlertDescription::RecordOverflow)));
    pair.session.give_up(&fault);
    let heard = pair.session_says(&[], true);
    assert_eq!(heard, Err(Error::AlertReceived(AlertDescription::RecordOverflow)));
}

#[test]
fn a_client_that_offers_only_other_protocols_is_refused_and_one_that_offers_none_is_not() {
    let (paper, terms) = server();
    for (offered, accepted) in [
        (&[][..], true),
        (&["http/1.1"], true),
        (&["h2", "http/1.1"], true),
        (&["h2"], false),
    ] {
        let mut config = paper.client(&[&version::TLS12, &version::TLS13]);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut pair = Pair::new(&terms, config);
        if accepted {
            pair.shake();
            continue;
        }
        assert!(matches!(pair.client_says(usize::MAX), Err(Fault::Refused)));
        let heard = pair.session_says(&[], false);
        let alert = AlertDescription::NoApplicationProtocol;
        assert_eq!(heard, Err(Error::AlertReceived(alert)));
    }
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    let (paper, terms) = server();
    for versions in [ONLY_12, ONLY_13] {
        let config = Arc::new(paper.client(versions));
        for (resumed, kind) in [(false, HandshakeKind::Full), (true, HandshakeKind::Resumed)] {
            let mut pair = Pair::of(&terms, &config);
            pair.shake();
            assert!(pair.events.contains(&Received::Shaken { resumed }));
            assert_eq!(pair.client.handshake_kind(), Some(kind));
            pair.talk(1000);
        }
    }
}

#[test]
fn a_client_is_known_by_its_certificate_also_when_it_resumes() {
    let (paper, terms) = server();
    for versions in [ONLY_12, ONLY_13] {
        let (chain, key) = paper.sign("somebody");
        let expected = format!("{} bytes", chain[0].len());
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(paper.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        for _ in 0..2 {
            let mut pair = Pair::of(&terms, &config);
            pair.shake();
            assert_eq!(pair.session.identity(), Some(&*expected));
        }
    }
    assert_eq!(Pair::open(&terms, paper.client(ONLY_13)).session.identity(), None);
}

#[test]
fn no_octets_whatever_bring_a_session_out_of_order() {
    let (paper, terms) = server();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..2000 {
        let mut pair = match round % 3 {
            0 => Pair::new(&terms, paper.client(ONLY_13)),
            1 => Pair::open(&terms, paper.client(ONLY_12)),
            _ => Pair::open(&terms, paper.client(ONLY_13)),
        };
        let mut bytes = match round % 2 {
            0 => pair.records(),
            _ => {
                pair.client_writes(b"something");
                pair.records()
            }
        };
        for _ in 0..random.usize(1..8) {
            let noise = random.u8(..);
            let at = random.usize(..=bytes.len());
            match bytes.get_mut(at) {
                Some(byte) => *byte = noise,
                None => bytes.extend([random.u8(20..25), 3, 3, 0, noise & 7]),
            }
        }
        let at_a_time = random.usize(1..=bytes.len());
        let outcome = bytes
            .chunks_mut(at_a_time)
            .try_for_each(|bytes| pair.session_hears(bytes));
        if let Err(fault) = outcome {
            pair.session.give_up(&fault);
            assert!(pair.session.is_over());
        }
        let mut arena = Arena::default();
        pair.session.seal(&[], true, &mut arena).unwrap();
    }
}

#[test]
fn http_is_told_from_tls_by_its_first_octet() {
    assert!(speaks_http(b"GET / HTTP/1.1"));
    assert!(speaks_http(b"G"));
    let (paper, terms) = server();
    let mut pair = Pair::new(&terms, paper.client(ONLY_13));
    assert!(!speaks_http(&pair.records()));
    assert!(!speaks_http(b""));
}
