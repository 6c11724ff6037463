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

impl ClientHandshake<'_> {
    /// Appends the request to `out`.
    ///
    //= RFC 6455#section-4.1
    //# the client MUST send an opening handshake to the server
    ///
    /// # Errors
    /// A header field has characters that would end it; then nothing is appended.
    pub fn write_request(&self, out: &mut Vec<u8>) -> Result<(), ClientHandshakeError> {
        let protocols = self.protocols.join(", ");
        let origin = self.origin.unwrap_or_default();
        let ours = [("Sec-WebSocket-Protocol", &*protocols), ("Origin", origin)];
        for &(name, value) in ours.iter().chain(self.headers) {
            let name_is_fine = !name.is_empty() && name.bytes().all(is_token);
            if !name_is_fine || value.bytes().any(|octet| octet.is_ascii_control()) {
                return Err(ClientHandshakeError::InvalidHeader { name: name.into() });
            }
        }
        let mut line = |line: Arguments<'_>| put_line(out, line);
        //= RFC 6455#section-4.1
        //# The method of the request MUST be GET, and the HTTP version MUST be at least 1.1.
        //= RFC 6455#section-4.1
        //# The "Request-URI" part of the request MUST match the /resource name/ defined in Section 3
        line(format_args!("GET {} HTTP/1.1", self.url.resource()));
        //= RFC 6455#section-4.1
        //# The request MUST contain a |Host| header field whose value contains /host/ plus optionally ":" followed by
        //# /port/ (when not using the default port).
        line(format_args!("Host: {}", self.url.authority()));
        //= RFC 6455#section-4.1
        //# The request MUST contain an |Upgrade| header field whose value MUST include the "websocket" keyword.
        line(format_args!("Upgrade: websocket"));
        //= RFC 6455#section-4.1
        //# The request MUST contain a |Connection| header field whose value MUST include the "Upgrade" token.
        line(format_args!("Connection: Upgrade"));
        //= RFC 6455#section-4.1
        //# The request MUST include a header field with the name |Sec-WebSocket-Key|.
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
            line(format_args!("Sec-WebSocket-Protocol: {protocols}"));
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
        let status = response.code.unwrap_or_default();
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
        //# If the response lacks a |Connection| header field or the |Connection| header field doesn't contain a token
        //# that is an ASCII case-insensitive match for the value "Upgrade", the client MUST _Fail the WebSocket
        //# Connection_.
        for (name, token) in [("Upgrade", "websocket"), ("Connection", "Upgrade")] {
            if !headers.has_token(name, token) {
                return Err(ClientHandshakeError::NotSwitched(name));
            }
        }
        //= RFC 6455#section-4.1
        //# If the response lacks a |Sec-WebSocket-Accept| header field or the |Sec-WebSocket-Accept| contains a value
        //# other than the base64-encoded SHA-1 of the concatenation of the |Sec-WebSocket-Key| (as a string, not
        //# base64-decoded) with the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" but ignoring any leading and trailing
        //# whitespace, the client MUST _Fail the WebSocket Connection_.
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
