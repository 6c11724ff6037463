//! Requests of the control plane to other servers: few, small, and each with limits.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::TrustAnchor;
use rustls::{ClientConfig, RootCertStore};

/// How long a connection that nobody uses is kept, and how many of them.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 16;

/// An address of a web server: `http://` or `https://`, a host, perhaps a port and a path. It has no credentials in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Uri);

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is none.
    #[error("give an address such as https://host/path")]
    Form,
    /// It has a user and a password.
    #[error("an address is logged and cannot hold credentials: leave out what stands before the @")]
    Credentials,
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Form)?;
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().filter(|authority| web && !authority.host().is_empty());
        if authority.ok_or(UrlError::Form)?.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        Ok(Url(uri))
    }
}

impl Url {
    /// Whether what is sent there can be read and changed on the way.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How long an exchange may take, and how many bytes its answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) bytes: usize,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// How long it can be kept, if it says so.
    pub(crate) fresh: Option<Duration>,
    pub(crate) body: Bytes,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("there was no answer within {0:?}")]
    Time(Duration),
    #[error("the answer has more than {0} bytes")]
    Size(usize),
    #[error("{0}")]
    Failed(String),
}

/// Why no request can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// There is nothing to check servers' certificates with.
    #[error(
        "this system has no root certificates to check https:// servers with: install ca-certificates, or name a file \
         of them in SSL_CERT_FILE"
    )]
    NoRoots,
    /// The TLS library refuses its settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Makes requests. Redirects are not followed: an address means what it says.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Http {
    /// For this address. If it is `https://`, the server is one for which these authorities vouch, or, if there are none
    /// given, those of the system.
    pub(crate) fn new(url: &Url, authorities: Option<Vec<TrustAnchor<'static>>>) -> Result<Http, HttpSetupError> {
        let mut roots = RootCertStore::from_iter(authorities.unwrap_or_default());
        if roots.is_empty() && !url.is_plain() {
            // Single certificates of the system that cannot be read are not worth failing for.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(HttpSetupError::NoRoots);
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Ok(Http { client })
    }

    /// Fetches a document.
    pub(crate) async fn get(
        &self,
        url: &Url,
        authorization: Option<&HeaderValue>,
        limits: Limits,
    ) -> Result<Answer, HttpError> {
        let mut request = request(Method::GET, url, Bytes::new());
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.exchange(request, limits).await
    }

    /// Sends a document of JSON.
    pub(crate) async fn post(
        &self,
        url: &Url,
        authorization: Option<&HeaderValue>,
        json: Vec<u8>,
        limits: Limits,
    ) -> Result<Answer, HttpError> {
        let mut request = request(Method::POST, url, json.into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        self.exchange(request, limits).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, limits: Limits) -> Result<Answer, HttpError> {
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| failed(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, limits.bytes).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpError::Size(limits.bytes)
                } else {
                    failed(&*error)
                }
            })?;
            Ok(Answer {
                status: head.status,
                fresh: fresh(&head.headers),
                body: body.to_bytes(),
            })
        };
        let timed = tokio::time::timeout(limits.time, exchange).await;
        timed.unwrap_or(Err(HttpError::Time(limits.time)))
    }
}

fn request(method: Method, url: &Url, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = url.0.clone();
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let agent = concat!("tidecast/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    request
}

/// An error with its causes, which say more than it does itself.
fn failed(error: &(dyn std::error::Error + 'static)) -> HttpError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    HttpError::Failed(text)
}

/// How long an answer can be kept by what its head says (RFC 9111, section 5.2.2).
fn fresh(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).into_iter();
    let mut fresh = None;
    for directive in values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return Some(Duration::ZERO);
        }
        let seconds = directive
            .strip_prefix("max-age=")
            .map(|seconds| seconds.trim_matches('"').parse());
        if let Some(Ok(seconds)) = seconds {
            fresh = Some(Duration::from_secs(seconds));
        }
    }
    fresh
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    pub(crate) const LIMITS: Limits = Limits {
        time: Duration::from_secs(10),
        bytes: 1000,
    };

    /// A server that gives one prepared answer after the other, each on a connection of its own, and tells what it was
    /// asked. An answer that is empty is never given.
    pub(crate) struct Server {
        pub(crate) address: SocketAddr,
        pub(crate) requests: Receiver<(String, String)>,
    }

    impl Server {
        pub(crate) fn start<A: Into<String>>(answers: impl IntoIterator<Item = A>) -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let mut answers: VecDeque<String> = answers.into_iter().map(Into::into).collect();
            let (sender, requests) = channel();
            thread::spawn(move || {
                let mut silent = Vec::new();
                while let Some(answer) = answers.pop_front() {
                    let Ok((mut stream, _)) = listener.accept() else { return };
                    if sender.send(read(&stream)).is_err() {
                        return;
                    }
                    if answer.is_empty() {
                        silent.push(stream);
                    } else {
                        stream.write_all(answer.as_bytes()).expect("an answer");
                    }
                }
                // Those without an answer wait as long as the test runs.
                while listener.accept().is_ok() {}
            });
            Server { address, requests }
        }

        pub(crate) fn url(&self) -> Url {
            format!("http://{}/path", self.address).parse().expect("an address")
        }
    }

    fn read(stream: &TcpStream) -> (String, String) {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).expect("a request") == 0 {
                break;
            }
        }
        let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok();
        let mut body = vec![0; head.lines().find_map(length).unwrap_or(0)];
        stream.read_exact(&mut body).expect("a body");
        (head, String::from_utf8(body).expect("text"))
    }

    /// An answer with this body.
    pub(crate) fn ok(headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
    }

    fn get(server: &Server, limits: Limits) -> Result<Answer, HttpError> {
        let url = server.url();
        let http = Http::new(&url, None).expect("a client");
        runtime().block_on(http.get(&url, None, limits))
    }

    pub(crate) fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    }

    #[test]
    fn a_document_is_fetched_with_what_may_be_kept_of_it() {
        let server = Server::start([ok("Cache-Control: public, max-age=60\r\n", "{}")]);
        let answer = get(&server, LIMITS).expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"{}"[..]));
        assert_eq!(answer.fresh, Some(Duration::from_secs(60)));
        let (head, _) = server.requests.recv().expect("a request");
        assert!(
            head.starts_with("GET /path HTTP/1.1\r\n") && head.contains("tidecast/"),
            "{head}"
        );
    }

    #[test]
    fn what_answers_too_late_or_too_much_is_left() {
        let time = Duration::from_millis(50);
        let late = get(&Server::start([""]), Limits { time, ..LIMITS });
        assert_eq!(late, Err(HttpError::Time(time)));
        let large = get(&Server::start([ok("", &"x".repeat(1001))]), LIMITS);
        assert_eq!(large, Err(HttpError::Size(1000)));
        assert!(get(&Server::start([ok("", &"x".repeat(1000))]), LIMITS).is_ok());
        let broken = get(&Server::start(["nonsense\r\n\r\n"]), LIMITS);
        assert!(matches!(broken, Err(HttpError::Failed(_))), "{broken:?}");
        let moved = "HTTP/1.1 302 Found\r\nLocation: /other\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let moved = get(&Server::start([moved]), LIMITS).expect("an answer");
        assert_eq!(moved.status, StatusCode::FOUND, "redirects are not followed");
    }

    #[test]
    fn who_cannot_be_reached_is_named_with_the_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let url: Url = format!("http://{address}/").parse().expect("an address");
        drop(listener);
        let http = Http::new(&url, None).expect("a client");
        let error = runtime()
            .block_on(http.get(&url, None, LIMITS))
            .expect_err("nobody listens");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[test]
    fn an_address_is_one_of_a_web_server_without_credentials() {
        for text in [
            "https://id.example.org/jwks.json",
            "http://127.0.0.1:9000",
            "https://[::1]/x?y",
        ] {
            assert_eq!(text.parse::<Url>().expect(text).is_plain(), text.starts_with("http:"));
        }
        for text in [
            "",
            "id.example.org",
            "/jwks.json",
            "ftp://x/",
            "https://",
            "https:///x",
            "https://a b/",
        ] {
            assert_eq!(text.parse::<Url>(), Err(UrlError::Form), "{text}");
        }
        assert_eq!("https://u:p@host/".parse::<Url>(), Err(UrlError::Credentials));
    }

    #[test]
    fn freshness_is_read_as_caches_do() {
        for (values, fresh_for) in [
            (vec![], None),
            (vec!["max-age=5"], Some(5)),
            (vec!["private", "Max-Age=\"7\""], Some(7)),
            (vec!["max-age=5, no-store"], Some(0)),
            (vec!["no-cache", "max-age=5"], Some(0)),
            (vec!["max-age=x"], None),
            (vec!["max-age=-1"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            assert_eq!(fresh(&headers), fresh_for.map(Duration::from_secs), "{values:?}");
        }
    }
}
