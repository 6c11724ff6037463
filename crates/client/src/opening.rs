//! Opening a WebSocket without I/O: the tunnel through a proxy, if there is one, then the handshake.
//!
//! ```text
//!   Tunnel --200--> Handshake --101--> Agreed
//!     |                 |
//!     +-- other --------+-- other ---> Refusal: its body is worth showing --> Error
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tidecast_websocket::{
    Accepted, ClientHandshake, ClientHandshakeError, ClientWindow, Offer, PerMessageOffer, Url, Version,
};

use crate::error::Error;
use crate::options::{Compression, Options, Proxy};
use crate::random::handshake_key;
use crate::turn::Peer;

/// How long the body of a refusal is waited for: it is worth showing, not worth hanging for.
pub(crate) const REFUSAL: Duration = Duration::from_secs(1);

/// The longest answer of a proxy that is read, in bytes.
const MAX_TUNNEL_HEAD: usize = 16 * 1024;

/// What a successful opening leaves.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) accepted: Accepted,
    /// What came together with the response: the first frames.
    pub(crate) received: Vec<u8>,
}

/// Where to connect to, as a name and a port.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// An opening under way.
pub(crate) struct Opening {
    url: Url,
    key: [u8; 16],
    version: Version,
    protocols: Vec<String>,
    offers: Vec<Offer>,
    origin: Option<String>,
    headers: Vec<(String, String)>,
    timeout: Duration,
    /// The proxy, as long as it has not answered.
    tunnel: Option<Proxy>,
    #[cfg(feature = "tls")]
    wants_tls: bool,
    received: Vec<u8>,
    /// What is to be sent.
    out: Vec<u8>,
    /// How much of the body of a refusal was seen.
    refusal: Option<usize>,
}

impl Opening {
    /// Judges `url`, and prepares the first request.
    pub(crate) fn new(url: &str, options: &Options) -> Result<Opening, Error> {
        let url = Url::parse(url).map_err(|error| Error::Url {
            url: url.to_owned(),
            reason: error.to_string(),
        })?;
        #[cfg(feature = "tls")]
        let has_tls = options.tls.is_some();
        #[cfg(not(feature = "tls"))]
        let has_tls = false;
        if url.is_secure() && !has_tls {
            return Err(Error::Tls {
                host: url.host().to_owned(),
            });
        }
        let mut opening = Opening {
            #[cfg(feature = "tls")]
            wants_tls: url.is_secure(),
            url,
            key: handshake_key()?,
            version: options.version,
            protocols: options.protocols.clone(),
            offers: options
                .compression
                .map(|with| offer(options.version, with))
                .into_iter()
                .collect(),
            origin: options.origin.clone(),
            headers: options.headers.clone(),
            timeout: options.timeout,
            tunnel: options.proxy.clone(),
            received: Vec::new(),
            out: Vec::new(),
            refusal: None,
        };
        // Written in any case, so that what cannot be sent is known before anything is.
        opening.write_request()?;
        if let Some(proxy) = &options.proxy {
            opening.out.clear();
            opening.write_connect(proxy)?;
        }
        Ok(opening)
    }

    /// What to connect to: the proxy, if there is one.
    pub(crate) fn target(&self) -> Target {
        match &self.tunnel {
            Some(proxy) => Target {
                host: proxy.host.clone(),
                port: proxy.port,
            },
            None => Target {
                host: self.url.host().to_owned(),
                port: self.url.port(),
            },
        }
    }

    /// Whose other handshakes have to be waited for before connecting to `address`.
    pub(crate) fn peer(&self, address: SocketAddr, options: &Options) -> Option<Peer> {
        let peer = match &self.tunnel {
            Some(_) => Peer::Name(self.url.host().to_owned(), self.url.port()),
            None => Peer::Address(address),
        };
        (!options.concurrent_handshakes).then_some(peer)
    }

    /// Whether TLS comes next, once: with the host of the URL, through the tunnel if there is one.
    #[cfg(feature = "tls")]
    pub(crate) fn poll_tls(&mut self) -> bool {
        self.tunnel.is_none() && std::mem::take(&mut self.wants_tls)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// What is to be sent now, once.
    pub(crate) fn poll_send(&mut self) -> Option<Vec<u8>> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out))
    }

    /// Whether it is refused already, and only the body of the refusal is waited for: at most for [`REFUSAL`].
    pub(crate) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// More of the answer. None while it is not complete.
    pub(crate) fn handle_received(&mut self, bytes: &[u8]) -> Result<Option<Agreed>, Error> {
        self.received.extend_from_slice(bytes);
        if let Some(proxy) = self.tunnel.take() {
            match self.check_tunnel(&proxy)? {
                Some(head) => {
                    self.received.drain(..head);
                    self.write_request()?;
                }
                None => self.tunnel = Some(proxy),
            }
            return Ok(None);
        }
        let checked = self.with_handshake(|handshake| handshake.check_response(&self.received));
        match checked {
            Ok(None) => Ok(None),
            Ok(Some((accepted, head))) => {
                let received = self.received.split_off(head);
                Ok(Some(Agreed { accepted, received }))
            }
            Err(ClientHandshakeError::Refused { status, body }) => {
                // What is shown is bounded, so once more bytes change nothing it is complete.
                let complete = self.refusal == Some(body.len()) && !body.is_empty();
                self.refusal = Some(body.len());
                if complete || !self.body_says_more(status) {
                    return Err(self.refused(status, body));
                }
                Ok(None)
            }
            Err(error) => Err(self.unfit(error.to_string())),
        }
    }

    /// No more comes: the stream ended.
    pub(crate) fn handle_end(&self) -> Error {
        if let Some(error) = self.refusal_so_far() {
            return error;
        }
        match &self.tunnel {
            Some(proxy) => proxy_error(
                proxy,
                None,
                "it closed the connection instead of answering CONNECT".to_owned(),
            ),
            None => self.unfit("it closed the connection before the handshake was complete".to_owned()),
        }
    }

    /// Reading or writing failed, or took too long.
    pub(crate) fn handle_failure(&self, error: &io::Error) -> Error {
        if let Some(error) = self.refusal_so_far() {
            return error;
        }
        let late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        match &self.tunnel {
            Some(proxy) if late => proxy_error(proxy, None, format!("it did not answer within {:?}", self.timeout)),
            Some(proxy) => proxy_error(proxy, None, error.to_string()),
            None if late => Error::HandshakeTimeout {
                url: self.url.to_string(),
                timeout: self.timeout,
            },
            None => self.unfit(error.to_string()),
        }
    }

    fn with_handshake<T>(&self, run: impl FnOnce(ClientHandshake<'_>) -> T) -> T {
        let protocols: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        run(ClientHandshake {
            url: &self.url,
            version: self.version,
            key: self.key,
            protocols: &protocols,
            extensions: &self.offers,
            origin: self.origin.as_deref(),
            headers: &headers,
        })
    }

    fn write_request(&mut self) -> Result<(), Error> {
        let mut out = Vec::new();
        self.with_handshake(|handshake| handshake.write_request(&mut out))
            .map_err(|error| Error::Request(error.to_string()))?;
        self.out = out;
        Ok(())
    }

    //= RFC 6455#section-4.1
    //# If the client is configured to use a proxy when using the WebSocket Protocol to connect to host /host/ and
    //# port /port/, then the client SHOULD connect to that proxy and ask it to open a TCP connection to the host given
    //# by /host/ and the port given by /port/.
    fn write_connect(&mut self, proxy: &Proxy) -> Result<(), Error> {
        let host = self.url.host();
        let authority = if host.contains(':') {
            format!("[{host}]:{}", self.url.port())
        } else {
            format!("{host}:{}", self.url.port())
        };
        let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(value) = &proxy.authorization {
            if value.bytes().any(|octet| octet.is_ascii_control()) {
                return Err(Error::Request(
                    "the credentials for the proxy have characters that are not allowed in a header field".to_owned(),
                ));
            }
            head.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.out = head.into_bytes();
        Ok(())
    }

    /// The length of the proxy's answer, once it is complete and says that the tunnel stands.
    fn check_tunnel(&self, proxy: &Proxy) -> Result<Option<usize>, Error> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&self.received) {
            Ok(httparse::Status::Complete(length)) => match response.code {
                Some(200..=299) => Ok(Some(length)),
                Some(407) => Err(proxy_error(
                    proxy,
                    response.code,
                    "it answered 407 to CONNECT: it wants other credentials in Proxy::authorization".to_owned(),
                )),
                status => Err(proxy_error(
                    proxy,
                    status,
                    format!("it answered {} to CONNECT", status.unwrap_or_default()),
                )),
            },
            Ok(httparse::Status::Partial) if self.received.len() < MAX_TUNNEL_HEAD => Ok(None),
            Ok(httparse::Status::Partial) => Err(proxy_error(proxy, None, "its answer is too long".to_owned())),
            Err(error) => Err(proxy_error(proxy, None, format!("its answer is not HTTP: {error}"))),
        }
    }

    /// Whether the body of a refusal says more than its head.
    fn body_says_more(&self, status: u16) -> bool {
        !(300..400).contains(&status)
    }

    fn refusal_so_far(&self) -> Option<Error> {
        self.refusal?;
        match self.with_handshake(|handshake| handshake.check_response(&self.received)) {
            Err(ClientHandshakeError::Refused { status, body }) => Some(self.refused(status, body)),
            _ => None,
        }
    }

    //= RFC 6455#section-4.1
    //# If the status code received from the server is not 101, the client handles the response per HTTP [RFC2616]
    //# procedures. In particular, the client might perform authentication if it receives a 401 status code; the server might redirect
    //# the client using a 3xx status code (but clients are not required to follow them)
    fn refused(&self, status: u16, excerpt: String) -> Error {
        let url = self.url.to_string();
        match status {
            300..=399 => Error::Redirected {
                url,
                status,
                location: field(&self.received, "Location"),
            },
            401 => Error::Unauthorized {
                url,
                excerpt,
                challenge: field(&self.received, "WWW-Authenticate"),
            },
            _ => Error::Refused { url, status, excerpt },
        }
    }

    fn unfit(&self, reason: String) -> Error {
        Error::Handshake {
            url: self.url.to_string(),
            reason,
        }
    }
}

/// What to offer to be compressed. Where we refer to no earlier message of ours we say so, which saves the server a window.
fn offer(version: Version, compression: Compression) -> Offer {
    match version {
        Version::V6 | Version::V7 => Offer::DeflateStream,
        Version::V8 | Version::V13 => Offer::PerMessageDeflate(PerMessageOffer {
            client_no_context_takeover: !compression.context_takeover,
            client_max_window_bits: ClientWindow::Limitable,
            ..PerMessageOffer::default()
        }),
    }
}

fn proxy_error(proxy: &Proxy, status: Option<u16>, reason: String) -> Error {
    Error::Proxy {
        proxy: format!("{}:{}", proxy.host, proxy.port),
        status,
        reason,
    }
}

/// The value of a field of the response head that `bytes` begin with.
fn field(bytes: &[u8], name: &str) -> Option<String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(bytes).ok()?;
    let field = response
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name))?;
    Some(String::from_utf8_lossy(field.value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(options: &Options) -> Opening {
        Opening::new("ws://broker.example:8080/ws", options).unwrap()
    }

    fn sent(opening: &mut Opening) -> String {
        String::from_utf8(opening.poll_send().unwrap()).unwrap()
    }

    fn proxied(authorization: Option<&str>) -> Options {
        Options {
            proxy: Some(Proxy {
                host: "proxy".into(),
                port: 3128,
                authorization: authorization.map(str::to_owned),
            }),
            ..Options::default()
        }
    }

    #[test]
    fn a_tunnel_is_asked_for_first_and_the_handshake_follows_when_it_stands() {
        //= RFC 6455#section-4.1
        //= type=test
        //# the client SHOULD connect to that proxy and ask it to open a TCP connection to the host given by /host/ and
        //# the port given by /port/
        let mut opening = opening(&proxied(Some("Basic x")));
        assert_eq!(opening.target().host, "proxy");
        assert_eq!(
            sent(&mut opening),
            "CONNECT broker.example:8080 HTTP/1.1\r\nHost: broker.example:8080\r\nProxy-Authorization: Basic x\r\n\r\n"
        );
        for byte in b"HTTP/1.1 200 Connection established\r\n\r\n" {
            assert!(opening.poll_send().is_none());
            assert!(opening.handle_received(&[*byte]).unwrap().is_none());
        }
        assert!(sent(&mut opening).starts_with("GET /ws HTTP/1.1\r\nHost: broker.example:8080\r\n"));
        assert!(opening.poll_send().is_none());
    }

    #[test]
    fn the_tunnel_to_an_ipv6_address_has_it_in_brackets() {
        let mut opening = Opening::new("ws://[::1]:9/", &proxied(None)).unwrap();
        assert!(sent(&mut opening).starts_with("CONNECT [::1]:9 HTTP/1.1\r\n"));
    }

    #[test]
    fn a_proxy_that_refuses_is_named_with_what_it_said() {
        for (answer, words) in [
            (
                &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
                "proxy:3128 does not let us through: it answered 407",
            ),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "it answered 502 to CONNECT"),
            (b"SSH-2.0-x\r\n", "its answer is not HTTP"),
        ] {
            let error = opening(&proxied(None)).handle_received(answer).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let mut opening = opening(&proxied(None));
        let endless = [&b"HTTP/1.1 200 OK\r\nA: "[..], &[b'x'; MAX_TUNNEL_HEAD]].concat();
        let error = opening.handle_received(&endless).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }

    #[test]
    fn forged_proxy_credentials_are_not_sent() {
        let error = Opening::new("ws://h/", &proxied(Some("x\r\nA: b"))).err().unwrap();
        assert!(matches!(error, Error::Request(_)), "{error}");
    }

    #[test]
    fn a_redirect_is_reported_and_not_followed() {
        //= RFC 6455#section-4.1
        //= type=test
        //# the server might redirect the client using a 3xx status code (but clients are not required to follow them)
        let mut opening = opening(&Options::default());
        let answer = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: ws://other/ws\r\n\r\n";
        let error = opening.handle_received(answer).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ws://broker.example:8080/ws answered 307 and points to \"ws://other/ws\"; redirects are not followed: \
             connect there if you trust it"
        );
    }

    #[test]
    fn a_refusal_for_want_of_credentials_tells_which_are_wanted() {
        let mut opening = opening(&Options::default());
        let answer = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"b\"\r\n\r\n";
        assert!(opening.handle_received(answer).unwrap().is_none());
        assert!(opening.handle_received(b"the token expired\n").unwrap().is_none());
        let error = opening.handle_end();
        assert!(
            matches!(&error, Error::Unauthorized { challenge: Some(c), .. } if c == "Bearer realm=\"b\""),
            "{error}"
        );
        let said = error.to_string();
        assert!(
            said.contains("Authorization") && said.contains("the token expired"),
            "{said}"
        );
    }

    #[test]
    fn a_refusal_waits_for_its_body_and_shows_what_came_of_it() {
        let mut opening = opening(&Options::default());
        assert!(opening.handle_received(b"HTTP/1.1 503 No\r\n\r\n").unwrap().is_none());
        assert!(opening.is_refused());
        assert!(opening.handle_received(b"come ").unwrap().is_none());
        assert!(opening.handle_received(b"back").unwrap().is_none());
        assert!(opening.handle_end().to_string().ends_with("handshake: come back"));
        let late = opening.handle_failure(&io::ErrorKind::TimedOut.into());
        assert!(late.to_string().ends_with("handshake: come back"));
    }
}
