//! The opening handshake of a server: a browser's request in, the 101 response out. Ours and tungstenite's.
//!
//! fastwebsockets leaves HTTP to hyper and its runtime, so there is no like to compare.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::time::Duration;

use criterion::Criterion;
use tidecast_websocket::http::Request;
use tidecast_websocket::{Accept, Connection, Limits, Millis, Upgrade, Versions};
use tungstenite::protocol::WebSocketConfig;

/// What Chrome sends, and the limit on it that the broker has.
const REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\n\
    Host: broker.example.com\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: https://app.example.com\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
const MAX_HEAD: usize = 16 << 10;

/// The answer to the key of [`REQUEST`], of RFC 6455 section 1.3.
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A peer that sends [`REQUEST`] and waits.
struct Browser<'r> {
    request: &'r [u8],
    response: &'r mut Vec<u8>,
}

impl Read for Browser<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.request.read(target)
    }
}

impl Write for Browser<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.response.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tidecast(request: &[u8], accept: &Accept, response: &mut Vec<u8>) -> Connection {
    let (request, _) = Request::parse(request, MAX_HEAD)
        .expect("well-formed")
        .expect("complete");
    let upgrade = Upgrade::from_request(&request, Versions::ALL).expect("a WebSocket's");
    let extension = upgrade.negotiate(accept).expect("well-formed offers");
    upgrade.write_response_with(None, extension, response);
    Connection::server(upgrade.version(), Limits::default(), Millis(0)).with_extension(extension)
}

fn tungstenite(request: &[u8], response: &mut Vec<u8>) {
    // It allocates its buffers with the connection: none here, so that the handshake alone is timed.
    let config = WebSocketConfig::default().read_buffer_size(0).write_buffer_size(0);
    let socket = tungstenite::accept_with_config(Browser { request, response }, Some(config)).expect("a WebSocket's");
    black_box(&socket);
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    let mut group = criterion.benchmark_group("handshake");
    let mut response = Vec::new();
    for (name, accept) in [
        ("tidecast", Accept::NONE),
        ("tidecast, permessage-deflate", Accept::default()),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                response.clear();
                black_box(tidecast(black_box(REQUEST), &accept, &mut response));
            });
        });
        assert!(response.windows(ACCEPT.len()).any(|window| window == ACCEPT));
    }
    group.bench_function("tungstenite", |bencher| {
        bencher.iter(|| {
            response.clear();
            tungstenite(black_box(REQUEST), &mut response);
        });
    });
    assert!(response.windows(ACCEPT.len()).any(|window| window == ACCEPT));
    drop(group);
    criterion.final_summary();
}
