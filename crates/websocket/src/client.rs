//! The opening handshake, the client's side.

use std::fmt::Arguments;

use thiserror::Error;

use crate::accept::{AcceptKey, encode_key};
use crate::dialect::Version;
use crate::extension::{BadAnswer, Extension, Offer, check_answer};
use crate::http::{Headers, MAX_HEADERS, Only, is_token, put_line};
use crate::url::Url;

/// The longest response head a client reads, in octets. Cookies are the longest that come; servers send 8 KiB of
/// them at most.
const MAX_HEAD: usize = 16 * 1024;

/// How much of the body of a refusal is reported, in octets.
const EXCERPT: usize = 512;

/// A request to open a WebSocket: what to ask for, and what answer to accept.
///
/// It has no `Debug`, as its headers may carry credentials.
#[derive(Clone, Copy)]
pub struct ClientHandshake<'a> {
    /// Where to.
    pub url: &'a Url,
    /// The version to speak.
    pub version: Version,
    /// 16 random octets, fresh for every handshake.
    pub key: [u8; 16],
    /// The subprotocols to offer, the preferred one first.
    pub protocols: &'a [&'a str],
    /// The extensions to offer, the preferred one first. Several of permessage-deflate are alternatives.
    pub extensions: &'a [Offer],
    /// Where the page that opens this comes from, for the server to judge.
    pub origin: Option<&'a str>,
    /// More header fields: credentials, cookies.
    pub headers: &'a [(&'a str, &'a str)],
}

/// What the server agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The subprotocol it chose among those offered, if it did.
    pub protocol: Option<String>,
    /// The extension it chose among those offered, if it did: for [`Connection::with_extension`].
    ///
    /// [`Connection::with_extension`]: crate::Connection::with_extension
    pub extension: Option<Extension>,
}

/// Why a WebSocket was not opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientHandshakeError {
    /// Our own request cannot be written: a name or value has characters that no header field may have.
    #[error("the header field {name:?} has characters that are not allowed in one")]
    InvalidHeader {
        /// The name of the field.
        name: String,
    },
    /// Our own request cannot be written: one of the caller's header fields is the handshake's own, or would tell of a
    /// body, which it does not have.
    #[error("the header field {name:?} is not the caller's to set in an opening handshake")]
    ReservedHeader {
        /// The name of the field.
        name: String,
    },
    /// Our own request cannot be written: a subprotocol has no name. Here and below they are counted from 1 and not named,
    /// for they may carry credentials.
    #[error("subprotocol number {number} of those to offer is empty")]
    EmptyProtocol {
        /// Which one.
        number: usize,
    },
    /// Our own request cannot be written: the name of a subprotocol has a character that no token has, such as a
    /// separator, white space or one beyond ASCII.
    #[error(
        "subprotocol number {number} of those to offer has the character {character:?}; letters, digits and \
         !#$%&'*+-.^_`|~ are allowed"
    )]
    ProtocolCharacter {
        /// Which one.
        number: usize,
        /// The first character that is not allowed.
        character: char,
    },
    /// Our own request cannot be written: a subprotocol is offered twice.
    #[error("subprotocol number {number} of those to offer repeats one before it")]
    RepeatedProtocol {
        /// The second of the two.
        number: usize,
    },
    /// The response is not HTTP, or has too many header fields.
    #[error("the server's response is malformed: {0}")]
    Malformed(#[from] httparse::Error),
    /// The response head is too long.
    #[error("the server's response head is longer than {MAX_HEAD} octets")]
    HeadTooLong,
    /// The server refused, and said why.
    #[error("the server answered {status}: {}", body.trim_end())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body, as far as it came together with the head.
        body: String,
    },
    /// `Upgrade` or `Connection` do not say that the protocol was switched.
    #[error("the server's {0} header does not confirm the switch to WebSocket")]
    NotSwitched(&'static str),
    /// `Sec-WebSocket-Accept` does not prove that the server read our key.
    #[error("the server's Sec-WebSocket-Accept does not belong to our key")]
    WrongAccept,
    /// The server chose a subprotocol that was not offered, or more than one.
    #[error("the server chose the subprotocol {0:?}, which was not offered")]
    ProtocolNotOffered(String),
    /// The server uses an extension that was not offered.
    #[error("the server uses the extension {0:?}, which was not offered")]
    ExtensionNotOffered(String),
    /// The server uses an extension in a way that does not fit the offer, or two that exclude each other.
    #[error("the server's answer {0:?} does not fit the extensions that were offered")]
    UnfitExtension(String),
}

/// What a caller cannot add to a request: the fields that it has already, and those of a body.
const RESERVED: [&str; 11] = [
    "Host",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Origin",
    "Origin",
    "Content-Length",
    "Transfer-Encoding",
];

impl ClientHandshake<'_> {
    /// Appends the request to `out`.
    ///
    //= RFC 6455#section-4.1
    //# the client MUST send an opening handshake to the server
    ///
    /// # Errors
    /// A header field or a subprotocol cannot be sent; then nothing is appended.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
    //# the client MUST send a handshake to the server.
    pub fn write_request(&self, out: &mut Vec<u8>) -> Result<(), ClientHandshakeError> {
        self.check_protocols()?;
        self.check_headers()?;
        let mut line = |line: Arguments<'_>| put_line(out, line);
        //= RFC 6455#section-4.1
        //# The method of the request MUST be GET, and the HTTP version MUST be at least 1.1.
        //= RFC 6455#section-4.1
        //# The "Request-URI" part of the request MUST match the /resource name/ defined in Section 3
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# The Method of the request MUST be GET and the HTTP version MUST be at least 1.1.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# The request MUST contain a "Request-URI" as part of the GET method. This MUST match the /resource name/
        //# Section 3.
        line(format_args!("GET {} HTTP/1.1", self.url.resource()));
        //= RFC 6455#section-4.1
        //# The request MUST contain a |Host| header field whose value contains /host/ plus optionally ":" followed by
        //# /port/ (when not using the default port).
        if self.version.dialect().host_has_port {
            line(format_args!("Host: {}", self.url.authority()));
        } else {
            line(format_args!("Host: {}", self.url.bracketed_host()));
        }
        //= RFC 6455#section-4.1
        //# The request MUST contain an |Upgrade| header field whose value MUST include the "websocket" keyword.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# The request MUST contain an "Upgrade" header whose value is equal to "websocket".
        line(format_args!("Upgrade: websocket"));
        //= RFC 6455#section-4.1
        //# The request MUST contain a |Connection| header field whose value MUST include the "Upgrade" token.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# The request MUST contain a "Connection" header whose value MUST include the "Upgrade" token.
        line(format_args!("Connection: Upgrade"));
        //= RFC 6455#section-4.1
        //# The request MUST include a header field with the name |Sec-WebSocket-Key|.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# The request MUST include a header with the name "Sec-WebSocket-Key".
        line(format_args!("Sec-WebSocket-Key: {}", encode_key(self.key)));
        //= RFC 6455#section-4.1
        //# The request MUST include a header field with the name |Sec-WebSocket-Version|.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# The request MUST include a header with the name "Sec-WebSocket-Version". The value of this header MUST be 7.
        line(format_args!("Sec-WebSocket-Version: {}", self.version));
        if let Some(origin) = self.origin {
            let name = self.version.dialect().origin_headers[0];
            line(format_args!("{name}: {origin}"));
        }
        if !self.protocols.is_empty() {
            line(format_args!("Sec-WebSocket-Protocol: {}", self.protocols.join(", ")));
        }
        if !self.extensions.is_empty() {
            let offers: Vec<_> = self.extensions.iter().map(Offer::to_string).collect();
            line(format_args!("Sec-WebSocket-Extensions: {}", offers.join(", ")));
        }
        for (name, value) in self.headers {
            line(format_args!("{name}: {value}"));
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// The drafts would let separators pass; but a comma makes two elements of one, and few servers of any time read the
    /// others.
    ///
    //= RFC 6455#section-4.1
    //# The elements that comprise this value MUST be non-empty strings with characters in the range U+0021 to U+007E not
    //# including separator characters as defined in [RFC2616] and MUST all be unique strings.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
    //# The elements that comprise this value MUST be non-empty strings with characters in the range U+0021 to U+007E and
    //# MUST all be unique strings.
    fn check_protocols(&self) -> Result<(), ClientHandshakeError> {
        for (before, name) in self.protocols.iter().enumerate() {
            let number = before + 1;
            if name.is_empty() {
                return Err(ClientHandshakeError::EmptyProtocol { number });
            }
            let is_allowed = |character| u8::try_from(character).is_ok_and(is_token);
            if let Some(character) = name.chars().find(|&character| !is_allowed(character)) {
                return Err(ClientHandshakeError::ProtocolCharacter { number, character });
            }
            if self.protocols[..before].contains(name) {
                return Err(ClientHandshakeError::RepeatedProtocol { number });
            }
        }
        Ok(())
    }

    //= RFC 6455#section-11.3.1
    //# The |Sec-WebSocket-Key| header field MUST NOT appear more than once in an HTTP request.
    //= RFC 6455#section-11.3.5
    //# the |Sec-WebSocket-Version| header field MUST NOT appear more than once in an HTTP request.
    //= RFC 6455#section-4.1
    //# The handshake MUST be a valid HTTP request as specified by [RFC2616].
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
    //# The handshake MUST be a valid HTTP request as specified by [RFC2616].
    fn check_headers(&self) -> Result<(), ClientHandshakeError> {
        let ours = self.origin.map(|origin| ("Origin", origin));
        for &(name, value) in ours.iter().chain(self.headers) {
            let name_is_fine = !name.is_empty() && name.bytes().all(is_token);
            if !name_is_fine || value.bytes().any(|octet| octet.is_ascii_control()) {
                return Err(ClientHandshakeError::InvalidHeader { name: name.into() });
            }
        }
        let is_reserved = |name: &str| RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name));
        match self.headers.iter().find(|(name, _)| is_reserved(name)) {
            Some((name, _)) => Err(ClientHandshakeError::ReservedHeader { name: (*name).into() }),
            None => Ok(()),
        }
    }

    /// Reads the server's response from the start of `buf`. None while its head is not complete; else what was agreed
    /// on, and the length of the head in octets: what follows is frames.
    ///
    /// # Errors
    /// The server refused, or answered what a client must not accept. The transport is to be closed.
    pub fn check_response(&self, buf: &[u8]) -> Result<Option<(Accepted, usize)>, ClientHandshakeError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(buf)? {
            httparse::Status::Complete(length) if length <= MAX_HEAD => length,
            httparse::Status::Partial if buf.len() < MAX_HEAD => return Ok(None),
            _ => return Err(ClientHandshakeError::HeadTooLong),
        };
        //= RFC 6455#section-4.1
        //# The client MUST validate the server's response as follows
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# The client MUST validate the server's response as follows
        let status = response.code.unwrap_or_default();
        //= draft-ietf-hybi-thewebsocketprotocol-06#section-5.1
        //# If the status code received from the server is not 101, the client MUST fail the WebSocket connection.
        if status != 101 {
            let body = &buf[length..];
            let body = &body[..body.len().min(EXCERPT)];
            return Err(ClientHandshakeError::Refused {
                status,
                body: String::from_utf8_lossy(body).into_owned(),
            });
        }
        let headers = Headers(response.headers);
        //= RFC 6455#section-4.1
        //# If the response lacks an |Upgrade| header field or the |Upgrade| header field contains a value that is not an
        //# ASCII case-insensitive match for the value "websocket", the client MUST _Fail the WebSocket Connection_.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# If the response lacks an Upgrade header or the Upgrade header contains a value that is not an ASCII
        //# case-insensitive match for the value "websocket", the client MUST fail the WebSocket connection.
        match headers.only("Upgrade") {
            Only::One(value) if value.eq_ignore_ascii_case("websocket") => {}
            _ => return Err(ClientHandshakeError::NotSwitched("Upgrade")),
        }
        //= RFC 6455#section-4.1
        //# If the response lacks a |Connection| header field or the |Connection| header field doesn't contain a token
        //# that is an ASCII case-insensitive match for the value "Upgrade", the client MUST _Fail the WebSocket
        //# Connection_.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# If the response lacks a Connection header or the Connection header contains a value that is not an ASCII
        //# case-insensitive match for the value "Upgrade", the client MUST fail the WebSocket connection.
        if !headers.has_token("Connection", "Upgrade") {
            return Err(ClientHandshakeError::NotSwitched("Connection"));
        }
        //= RFC 6455#section-4.1
        //# If the response lacks a |Sec-WebSocket-Accept| header field or the |Sec-WebSocket-Accept| contains a value
        //# other than the base64-encoded SHA-1 of the concatenation of the |Sec-WebSocket-Key| (as a string, not
        //# base64-decoded) with the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" but ignoring any leading and trailing
        //# whitespace, the client MUST _Fail the WebSocket Connection_.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
        //# If the response lacks a Sec-WebSocket-Accept header or the Sec-WebSocket-Accept contains a value other than
        //# the base64-encoded SHA-1 of the concatenation of the Sec-WebSocket-Key (as a string, not base64-decoded)
        //# with the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", the client MUST fail the WebSocket connection.
        let expected = AcceptKey::of(&encode_key(self.key));
        match (headers.only("Sec-WebSocket-Accept"), expected) {
            (Only::One(accept), Some(expected)) if expected == *accept => {}
            _ => return Err(ClientHandshakeError::WrongAccept),
        }
        //= RFC 6455#section-4.1
        //# If the response includes a |Sec-WebSocket-Extensions| header field and this header field indicates the use
        //# of an extension that was not present in the client's handshake (the server has indicated an extension not
        //# requested by the client), the client MUST _Fail the WebSocket Connection_.
        let extension =
            check_answer(self.extensions, headers.all("Sec-WebSocket-Extensions")).map_err(|bad| match bad {
                BadAnswer::NotOffered(item) => ClientHandshakeError::ExtensionNotOffered(item),
                BadAnswer::Unfit(item) => ClientHandshakeError::UnfitExtension(item),
            })?;
        //= RFC 6455#section-4.1
        //# If the response includes a |Sec-WebSocket-Protocol| header field and this header field indicates the use of
        //# a subprotocol that was not present in the client's handshake (the server has indicated a subprotocol not
        //# requested by the client), the client MUST _Fail the WebSocket Connection_.
        let protocol = match headers.only("Sec-WebSocket-Protocol") {
            Only::Missing | Only::One("") => None,
            Only::One(chosen) if self.protocols.contains(&chosen) => Some(chosen.to_owned()),
            Only::One(other) => return Err(ClientHandshakeError::ProtocolNotOffered(other.into())),
            Only::Several => {
                let all: Vec<_> = headers.list("Sec-WebSocket-Protocol").collect();
                return Err(ClientHandshakeError::ProtocolNotOffered(all.join(", ")));
            }
        };
        Ok(Some((Accepted { protocol, extension }, length)))
    }
}
