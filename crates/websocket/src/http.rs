//! The HTTP/1.1 that comes before a WebSocket, or instead of one: a request in, a response out.

mod body;

use std::borrow::Cow;
use std::fmt::{self, Arguments, Display};
use std::io::Write;

use thiserror::Error;

pub use body::{Body, BodyError, BodyLength, MAX_OVERHEAD};

/// The most header fields a request may have.
pub const MAX_HEADERS: usize = 64;

/// Why a request head cannot be answered as asked. Each has the status to answer with instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HttpError {
    /// Not HTTP.
    #[error("malformed request: {0}")]
    Malformed(httparse::Error),
    /// More than [`MAX_HEADERS`] header fields.
    #[error("more than {MAX_HEADERS} header fields")]
    TooManyHeaders,
    /// The head is longer than the limit, in octets.
    #[error("the request head is longer than {limit} octets")]
    HeadTooLong {
        /// The longest head accepted, in octets.
        limit: usize,
    },
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("only HTTP/1.1 is spoken here")]
    Version,
    /// A line of the head ends with LF alone, which not everybody takes for its end.
    #[error("malformed request: every line of the head has to end with CR LF")]
    LineEnd,
    /// There is a body, and it is not clear how long it is.
    #[error(
        "the length of the body has to be said once: by Content-Length, in digits, or by Transfer-Encoding: chunked"
    )]
    BodyLength,
    /// The body is encoded in a way that is not understood.
    #[error("of all transfer codings only chunked is understood")]
    Coding,
    /// An expectation other than `100-continue`.
    #[error("the only expectation that can be met is 100-continue")]
    Expectation,
    /// `Host` must be there once.
    #[error("there must be exactly one Host header")]
    Host,
}

impl HttpError {
    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            HttpError::Malformed(_) | HttpError::LineEnd | HttpError::BodyLength | HttpError::Host => 400,
            HttpError::Expectation => 417,
            HttpError::Coding => 501,
            HttpError::TooManyHeaders | HttpError::HeadTooLong { .. } => 431,
            HttpError::Version => 505,
        }
    }

    /// Appends the response: a line of plain text that says what was wrong, after which the connection is closed.
    pub fn write_response(&self, out: &mut Vec<u8>) {
        Response::new(out, self.status())
            .header("Connection", "close")
            .text(self);
    }
}

impl From<httparse::Error> for HttpError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => HttpError::TooManyHeaders,
            httparse::Error::Version => HttpError::Version,
            other => HttpError::Malformed(other),
        }
    }
}

/// Header fields, borrowed from what was received. Names are compared without regard to case, and what nobody asks for
/// does not matter.
///
//= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.1
//# Unknown headers MUST be ignored.
#[derive(Clone, Copy)]
pub(crate) struct Headers<'b, 'h>(pub(crate) &'h [httparse::Header<'b>]);

impl<'b> Headers<'b, '_> {
    /// The values of all fields of that name, in order, without the white space around them. One that is not UTF-8
    /// reads as empty, but is there: a field that must not be repeated cannot be repeated so.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'b str> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| trim(std::str::from_utf8(field.value).unwrap_or_default()))
    }

    /// The items of the comma-separated lists in all fields of that name; empty ones are passed over.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &'b str> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(trim)
            .filter(|item| !item.is_empty())
    }

    /// Whether one of those items is `token`, without regard to case.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|item| item.eq_ignore_ascii_case(token))
    }

    /// The value of the only field of that name.
    pub(crate) fn only(&self, name: &str) -> Only<'b> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (None, _) => Only::Missing,
            (Some(value), None) => Only::One(value),
            (Some(_), Some(_)) => Only::Several,
        }
    }
}

/// A field that must be there once.
pub(crate) enum Only<'b> {
    Missing,
    One(&'b str),
    Several,
}

/// The head of a request, borrowed from what was received.
pub struct Request<'b> {
    method: &'b str,
    target: &'b str,
    minor_version: u8,
    fields: [httparse::Header<'b>; MAX_HEADERS],
    field_count: usize,
}

impl<'b> Request<'b> {
    /// Reads a request head from the start of `buf`. None while it is not complete; else the request, and the length
    /// of the head in octets: what follows is its body, or already frames.
    ///
    /// # Errors
    /// The head is malformed, or longer than `max_head` octets.
    pub fn parse(buf: &'b [u8], max_head: usize) -> Result<Option<(Self, usize)>, HttpError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut fields);
        let too_long = HttpError::HeadTooLong { limit: max_head };
        let length = match head.parse(buf)? {
            httparse::Status::Complete(length) if length > max_head => return Err(too_long),
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial if buf.len() >= max_head => return Err(too_long),
            httparse::Status::Partial => return Ok(None),
        };
        let ends_alone = |at: usize| buf[at] == b'\n' && (at == 0 || buf[at - 1] != b'\r');
        if (0..length).any(ends_alone) {
            return Err(HttpError::LineEnd);
        }
        let (method, target) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
        let minor_version = head.version.unwrap_or_default();
        let field_count = head.headers.len();
        let request = Self {
            method,
            target,
            minor_version,
            fields,
            field_count,
        };
        Ok(Some((request, length)))
    }

    /// The method, as sent: methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &'b str {
        self.method
    }

    /// The request target, as sent.
    #[must_use]
    pub fn target(&self) -> &'b str {
        self.target
    }

    /// The minor version of HTTP: 0 or 1.
    #[must_use]
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    /// The path of the target, still percent-encoded (see [`percent_decode`]). It is `/` where the target is a URI
    /// without one.
    #[must_use]
    pub fn path(&self) -> &'b str {
        self.path_and_query().0
    }

    /// The `name=value` pairs of the target's query, still percent-encoded (see [`percent_decode`]); without `=` the
    /// value is empty.
    pub fn query(&self) -> impl Iterator<Item = (&'b str, &'b str)> {
        self.path_and_query()
            .1
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// All header fields in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields().0.iter().map(|field| (field.name, field.value))
    }

    /// The value of the first header field of that name, without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b str> {
        self.fields().all(name).next()
    }

    /// Whether the client asks to switch to WebSocket. Whether it asks well, [`Upgrade::from_request`] tells.
    ///
    /// [`Upgrade::from_request`]: crate::Upgrade::from_request
    #[must_use]
    pub fn wants_websocket(&self) -> bool {
        self.fields().has_token("Upgrade", "websocket")
    }

    /// Whether the client may send another request after this one, and wants to be able to: HTTP/1.0 is not kept open.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.minor_version > 0 && !self.fields().has_token("Connection", "close")
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    ///
    /// # Errors
    /// It expects something else.
    pub fn expects_continue(&self) -> Result<bool, HttpError> {
        match self.fields().only("Expect") {
            Only::Missing => Ok(false),
            Only::One(expected) if expected.eq_ignore_ascii_case("100-continue") => Ok(self.minor_version > 0),
            Only::One(_) | Only::Several => Err(HttpError::Expectation),
        }
    }

    /// Checks that an HTTP/1.1 request says once which host it is for.
    ///
    /// # Errors
    /// It does not.
    pub fn check_host(&self) -> Result<(), HttpError> {
        match self.fields().only("Host") {
            Only::One(_) => Ok(()),
            Only::Missing if self.minor_version == 0 => Ok(()),
            Only::Missing | Only::Several => Err(HttpError::Host),
        }
    }

    /// Whether `Accept` names this media type; `*/*` does not.
    #[must_use]
    pub fn accepts(&self, media_type: &str) -> bool {
        let is_it = |item: &str| essence(item).eq_ignore_ascii_case(media_type);
        self.fields().list("Accept").any(is_it)
    }

    /// The media type of the body, without parameters.
    #[must_use]
    pub fn media_type(&self) -> Option<&'b str> {
        self.header("Content-Type").map(essence)
    }

    pub(crate) fn fields(&self) -> Headers<'b, '_> {
        Headers(&self.fields[..self.field_count])
    }

    /// The target's path and query. Proxies may ask with a whole URI, which every server must accept.
    fn path_and_query(&self) -> (&'b str, &'b str) {
        let target = match self.target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                let authority = rest.find(['/', '?']).unwrap_or(rest.len());
                &rest[authority..]
            }
            _ => self.target,
        };
        let target = target.split_once('#').map_or(target, |(target, _)| target);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (if path.is_empty() { "/" } else { path }, query)
    }
}

/// Without query and header values: those may carry credentials, which are never logged.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// Without the white space around it that HTTP knows. What Unicode takes for some, others on the way take for part of the value.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    trim(media_type.split(';').next().unwrap_or_default())
}

/// Undoes percent-encoding. None where a `%` is not followed by two hexadecimal digits, or the result is not UTF-8.
#[must_use]
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        decoded.push(if octet == b'%' {
            let mut digit = || char::from(octets.next()?).to_digit(16);
            (digit()? << 4 | digit()?) as u8
        } else {
            octet
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The reason phrase of a status.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        // Peers of 2011 need some phrase.
        _ => "Unknown",
    }
}

/// Whether a token, such as the name of a header field, may have this octet.
pub(crate) fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// Appends one line of a head.
pub(crate) fn put_line(out: &mut Vec<u8>, line: Arguments<'_>) {
    out.write_fmt(line).expect("writing to memory cannot fail");
    out.extend_from_slice(b"\r\n");
}

/// A response, written as it is described:
///
/// ```
/// use tidecast_websocket::http::Response;
///
/// let mut out = Vec::new();
/// Response::new(&mut out, 404).header("Connection", "close").text("no such page");
/// ```
#[must_use = "a response ends with its body, or with `end`"]
#[derive(Debug)]
pub struct Response<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Response<'o> {
    /// Writes the status line to `out`.
    pub fn new(out: &'o mut Vec<u8>, status: u16) -> Self {
        put_line(out, format_args!("HTTP/1.1 {status} {}", reason_phrase(status)));
        Self { out }
    }

    /// Writes a header field. Neither name nor value may have a line break. Write names in canonical case: clients of
    /// 2011 know no other.
    pub fn header(self, name: &str, value: impl Display) -> Self {
        put_line(self.out, format_args!("{name}: {value}"));
        self
    }

    /// Ends a response that has no body, or whose body follows without a length.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the response with a body and its length.
    pub fn body(self, content_type: &str, body: &[u8]) {
        let response = self
            .header("Content-Type", content_type)
            .header("Content-Length", body.len());
        response.out.extend_from_slice(b"\r\n");
        response.out.extend_from_slice(body);
    }

    /// Ends the response with a line of plain text.
    pub fn text(self, text: impl Display) {
        self.body("text/plain; charset=utf-8", format!("{text}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Request<'_> {
        let (request, length) = Request::parse(head.as_bytes(), 8192).unwrap().unwrap();
        assert_eq!(length, head.len());
        request
    }

    fn target(target: &str) -> (String, Vec<(String, String)>) {
        let head = format!("GET {target} HTTP/1.1\r\n\r\n");
        let request = parse(&head);
        let query = request.query();
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
        (request.path().to_owned(), query.collect())
    }

    #[test]
    fn a_head_is_read_only_when_it_is_complete_and_tells_where_it_ends() {
        let bytes = b"GET /t/a%2Fb?since=all&echo=0 HTTP/1.1\r\nHost: x\r\naccept: text/plain\r\n\r\n\x81\x80";
        for cut in 0..bytes.len() - 2 {
            assert!(Request::parse(&bytes[..cut], 8192).unwrap().is_none());
        }
        let (request, length) = Request::parse(bytes, 8192).unwrap().unwrap();
        assert_eq!(length, bytes.len() - 2);
        assert_eq!(request.method(), "GET");
        assert_eq!(request.minor_version(), 1);
        assert_eq!(request.path(), "/t/a%2Fb");
        assert_eq!(request.header("ACCEPT"), Some("text/plain"));
        assert_eq!(request.headers().count(), 2);
        assert!(!request.wants_websocket());
    }

    #[test]
    fn path_and_query_are_found_in_every_form_of_target() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|&(n, v)| (n.into(), v.into())).collect()
        };
        assert_eq!(target("/"), ("/".into(), vec![]));
        assert_eq!(
            target("/a?b=1&&c&d=e=f"),
            ("/a".into(), pairs(&[("b", "1"), ("c", ""), ("d", "e=f")]))
        );
        assert_eq!(target("http://host:80/a?b=/"), ("/a".into(), pairs(&[("b", "/")])));
        assert_eq!(target("http://host?b"), ("/".into(), pairs(&[("b", "")])));
        assert_eq!(target("/a?u=http://x/y"), ("/a".into(), pairs(&[("u", "http://x/y")])));
    }

    #[test]
    fn percent_encoding_is_undone_or_refused_but_never_guessed() {
        assert_eq!(percent_decode("plain+text").unwrap(), "plain+text");
        assert_eq!(percent_decode("%2B%23%e2%82%ac/").unwrap(), "+#€/");
        for bad in ["%", "%2", "%2g", "%g2", "%ff", "a%€"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_request_is_about_to_do_is_told_by_its_fields() {
        let request = parse(
            "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Type: Text/Plain; charset=utf-8\r\n\
             Accept: text/html, text/event-stream;q=0.9\r\nConnection: keep-alive\r\n\r\n",
        );
        assert_eq!(request.expects_continue(), Ok(true));
        assert_eq!(request.media_type(), Some("Text/Plain"));
        assert!(request.accepts("text/event-stream") && !request.accepts("text/plain"));
        assert!(request.keeps_alive() && request.check_host().is_ok());
        let other = parse("POST / HTTP/1.1\r\nExpect: x\r\nConnection: Upgrade, Close\r\n\r\n");
        assert_eq!(other.expects_continue(), Err(HttpError::Expectation));
        assert_eq!((other.media_type(), other.keeps_alive()), (None, false));
        assert_eq!(other.check_host(), Err(HttpError::Host));
        let old = parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!((old.keeps_alive(), old.expects_continue()), (false, Ok(false)));
        assert_eq!(old.check_host(), Ok(()));
    }

    #[test]
    fn each_bad_head_has_its_status() {
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        let cases = [
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
            ("GET /\r\n\r\n".to_owned(), 400),
            ("\x16\x03\x01\x02".to_owned(), 400),
            ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nfolded: a\r\n b\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nspace : a\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\nHost: h\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: h\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: h\r\n\n".to_owned(), 400),
            ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 400),
            (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
            (format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(9000)), 431),
            (format!("GET / HTTP/1.1\r\na: {}", "b".repeat(9000)), 431),
        ];
        for (head, status) in cases {
            let error = Request::parse(head.as_bytes(), 8192).unwrap_err();
            assert_eq!(error.status(), status, "{error}");
            let mut out = Vec::new();
            error.write_response(&mut out);
            assert!(out.starts_with(format!("HTTP/1.1 {status} ").as_bytes()));
        }
    }

    #[test]
    fn a_response_is_written_as_described() {
        let mut out = Vec::new();
        Response::new(&mut out, 405).header("Allow", "GET").text("only GET");
        let expected = "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\r\nonly GET\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
