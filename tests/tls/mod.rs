//! A broker with a certificate, and a peer that speaks TLS to it and says exactly the bytes it is told to.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version};

use super::support::*;

/// A directory with what `tidecast dev-cert` makes.
pub(crate) struct Papers {
    folder: PathBuf,
    /// What was said about it.
    said: String,
}

impl Papers {
    /// For the names that are always there, and for `hosts`.
    pub(crate) fn make(name: &str, hosts: &[&str]) -> Papers {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{name}"));
        let mut command = tidecast(&["dev-cert", "--force", "--out", folder.to_str().unwrap()]);
        hosts.iter().for_each(|host| {
            command.args(["--host", host]);
        });
        let output = run(command, None);
        assert!(output.status.success(), "{}", said(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        Papers { folder, said }
    }

    /// The option by which Chromium believes the certificate, as `dev-cert` has said it.
    pub(crate) fn chromium_option(&self) -> &str {
        let option = |word: &&str| word.starts_with("--ignore-certificate-errors-spki-list=");
        self.said.split_whitespace().find(option).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.folder.join(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap())
            .unwrap();
        roots
    }
}

/// A broker that listens with and without TLS.
pub(crate) struct TlsBroker {
    pub(crate) broker: Broker,
    pub(crate) address: SocketAddr,
    pub(crate) papers: Papers,
}

impl TlsBroker {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> TlsBroker {
        TlsBroker::with(Papers::make(name, &[]), arguments)
    }

    pub(crate) fn with(papers: Papers, arguments: &[&str]) -> TlsBroker {
        let (certificate, key) = (papers.path("cert.pem"), papers.path("key.pem"));
        let tls = [
            "--listen",
            "wss://127.0.0.1:0",
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
        ];
        TlsBroker::of(Broker::start(&[&tls, arguments].concat()), papers)
    }

    /// One that was started with settings of its own.
    pub(crate) fn of(broker: Broker, papers: Papers) -> TlsBroker {
        let line = broker.line("listening on https://");
        let address = line.split("https://").nth(1).unwrap().split('/').next().unwrap();
        TlsBroker {
            address: address.parse().unwrap(),
            broker,
            papers,
        }
    }

    /// A client that believes the authority, and speaks any version.
    pub(crate) fn config(&self) -> ClientConfig {
        self.config_of(&[&version::TLS12, &version::TLS13])
    }

    /// The same, of other authorities.
    pub(crate) fn config_trusting(&self, roots: RootCertStore) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    pub(crate) fn config_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.papers.roots())
            .with_no_client_auth()
    }

    pub(crate) fn connect(&self) -> TlsPeer {
        TlsPeer::connect(self.address, Arc::new(self.config()))
    }

    /// A WebSocket on `path`.
    pub(crate) fn open(&self, path: &str) -> TlsPeer {
        let mut peer = self.connect();
        peer.upgrade(path);
        peer
    }
}

/// A TLS connection that says bytes and reads bytes.
pub(crate) struct TlsPeer(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl TlsPeer {
    pub(crate) fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> TlsPeer {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::from(address.ip());
        TlsPeer(StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream))
    }

    pub(crate) fn upgrade(&mut self, path: &str) {
        self.say(upgrade(path, "Sec-WebSocket-Version: 13\r\n").as_bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    /// Reads a response head, and not a byte more.
    pub(crate) fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.read(1)[0]);
        }
        String::from_utf8(head).unwrap()
    }

    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0
            .read_exact(&mut bytes)
            .unwrap_or_else(|error| panic!("{error}, expected {count} bytes"));
        bytes
    }

    /// Reads one unmasked frame: first byte and payload.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        let header = self.read(2);
        let len = match header[1] {
            126 => u16::from_be_bytes(self.read(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.read(8).try_into().unwrap()) as usize,
            short => usize::from(short),
        };
        (header[0], self.read(len))
    }

    /// Reads until the broker has said that it says no more: an end without that fails the test.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0
            .read_to_end(&mut bytes)
            .unwrap_or_else(|error| panic!("{error} after {} bytes", bytes.len()));
        bytes
    }

    /// Why nothing can be read: the handshake failed.
    pub(crate) fn refusal(&mut self) -> String {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => error.to_string(),
            other => panic!("{other:?} is no refusal"),
        }
    }
}
