//! TLS in front of a broker that has none: a server of this process that forwards octets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

/// A server with a certificate of its own for `localhost` and `127.0.0.1`, or for another name.
pub(crate) struct TlsFront {
    address: SocketAddr,
    /// The certificate, which is its own authority.
    pub(crate) certificate: PathBuf,
}

impl TlsFront {
    /// Starts one before `broker`; its threads end with their connections.
    pub(crate) fn start(broker: SocketAddr, names: &[&str]) -> TlsFront {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::new(names.clone()).unwrap();
        wanted.distinguished_name.push(DnType::CommonName, &names[0]);
        let certificate = wanted.self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = super::file(&format!("bench-tls-{}.pem", address.port()), &certificate.pem());
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, session) = (client.unwrap(), ServerConnection::new(Arc::clone(&config)).unwrap());
                std::thread::spawn(move || forward(client, TcpStream::connect(broker).unwrap(), session));
            }
        });
        TlsFront { address, certificate }
    }

    pub(crate) fn url(&self) -> String {
        format!("wss://{}", self.address)
    }
}

/// Writes what the session has to say. The lock is held meanwhile, so that records keep their order.
fn flush(session: &mut ServerConnection, mut client: &TcpStream) {
    while session.wants_write() {
        if session.write_tls(&mut client).is_err() {
            return;
        }
    }
}

/// Forwards until both sides have ended.
fn forward(client: TcpStream, broker: TcpStream, session: ServerConnection) {
    client.set_nodelay(true).unwrap();
    broker.set_nodelay(true).unwrap();
    let session = Arc::new(Mutex::new(session));
    let answers = {
        let (session, client) = (Arc::clone(&session), client.try_clone().unwrap());
        let mut broker = broker.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = broker.read(&mut buffer) {
                let mut session = session.lock().unwrap();
                session.writer().write_all(&buffer[..count]).unwrap();
                flush(&mut session, &client);
            }
            let mut session = session.lock().unwrap();
            session.send_close_notify();
            flush(&mut session, &client);
            let _ = client.shutdown(Shutdown::Write);
        })
    };
    requests(&client, &broker, &session);
    // Whichever side has ended, the other one is to know.
    let _ = broker.shutdown(Shutdown::Write);
    answers.join().unwrap();
}

/// Forwards what the client says, until it ends or what it says is no TLS.
fn requests(mut client: &TcpStream, mut broker: &TcpStream, session: &Mutex<ServerConnection>) {
    let (mut buffer, mut octets) = (vec![0; 1 << 16], Vec::new());
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let mut records = &buffer[..count];
        let mut session = session.lock().unwrap();
        while !records.is_empty() {
            if !matches!(session.read_tls(&mut records), Ok(1..)) {
                return;
            }
            let processed = session.process_new_packets();
            // It stops where nothing is left for now.
            let _ = session.reader().read_to_end(&mut octets);
            flush(&mut session, client);
            if processed.is_err() {
                return;
            }
        }
        drop(session);
        if broker.write_all(&octets).is_err() {
            return;
        }
        octets.clear();
    }
}
