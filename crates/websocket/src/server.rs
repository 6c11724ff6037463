//! The opening handshake, the server's side.

use std::fmt;

use thiserror::Error;

use crate::accept::AcceptKey;
use crate::dialect::{Version, Versions};
use crate::extension::{Accept, Extension};
use crate::http::{Headers, Only, Request, Response};

/// A client's valid request to switch to WebSocket, not answered yet. Borrows from the request.
///
/// Extensions that the client offers are declined by not mentioning them: see [`Upgrade::negotiate`].
///
/// It has no `Debug` of its headers, as they may carry credentials.
pub struct Upgrade<'b, 'r> {
    version: Version,
    accept: AcceptKey,
    headers: Headers<'b, 'r>,
}

/// Why a request cannot become a WebSocket. Each has the status to answer with instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UpgradeError {
    /// Only GET may be upgraded.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// HTTP/1.0 knows no upgrade.
    #[error("a WebSocket needs HTTP/1.1")]
    HttpVersion,
    /// No `Upgrade: websocket`: plain HTTP on a WebSocket's path.
    #[error("this is a WebSocket endpoint: the Upgrade header must name websocket")]
    NotWebSocket {
        /// What the server speaks.
        accepted: Versions,
    },
    /// No `Connection: Upgrade`.
    #[error("the Connection header must name Upgrade")]
    Connection,
    /// `Host` must be there once.
    #[error("there must be exactly one Host header")]
    Host,
    /// The version is missing, unknown or not accepted here.
    #[error("the Sec-WebSocket-Version header must be one of {accepted}")]
    Version {
        /// What the server speaks.
        accepted: Versions,
    },
    /// More than one version.
    #[error("there must be exactly one Sec-WebSocket-Version header")]
    SeveralVersions,
    /// `Sec-WebSocket-Key` must be there once and be 16 octets in base64.
    #[error("there must be exactly one Sec-WebSocket-Key header, of 16 octets in base64")]
    Key,
    /// `Sec-WebSocket-Extensions` breaks its grammar.
    #[error("the Sec-WebSocket-Extensions header is malformed")]
    Extensions,
}

impl UpgradeError {
    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            UpgradeError::Method => 405,
            UpgradeError::HttpVersion => 505,
            UpgradeError::NotWebSocket { .. } | UpgradeError::Version { .. } => 426,
            UpgradeError::Connection
            | UpgradeError::Host
            | UpgradeError::SeveralVersions
            | UpgradeError::Key
            | UpgradeError::Extensions => 400,
        }
    }

    /// Appends the response: what was wrong in a line of plain text, and in headers what would be right. The
    /// connection is to be closed after it.
    ///
    //= RFC 6455#section-7.2.2
    //# To do so, the server MUST simply _Close the WebSocket Connection_ (Section 7.1.1).
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-7.2.2
    //# To do so, the server MUST simply _close the WebSocket connection_ (Section 7.1.1).
    pub fn write_response(&self, out: &mut Vec<u8>) {
        let response = Response::new(out, self.status());
        let response = match self {
            UpgradeError::Method => response.header("Allow", "GET").header("Connection", "close"),
            //= RFC 6455#section-4.4
            //# If the server doesn't support the requested version, it MUST respond with a |Sec-WebSocket-Version|
            //# header field (or multiple |Sec-WebSocket-Version| header fields) containing all versions it is willing
            //# to use.
            UpgradeError::NotWebSocket { accepted } | UpgradeError::Version { accepted } => response
                .header("Upgrade", "websocket")
                .header("Connection", "Upgrade, close")
                .header("Sec-WebSocket-Version", accepted),
            _ => response.header("Connection", "close"),
        };
        response.text(self);
    }
}

impl fmt::Debug for Upgrade<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl<'b, 'r> Upgrade<'b, 'r> {
    /// Checks that `request` asks well to become a WebSocket of one of the `accepted` versions.
    ///
    //= RFC 6455#section-4.2.1
    //# the server MUST stop processing the client's handshake and return an HTTP response with an appropriate error code
    //# (such as 400 Bad Request).
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.1
    //# If the server, while reading the handshake, finds that the client did not send a handshake that matches the
    //# description below, the server MUST abort the WebSocket connection.
    ///
    /// # Errors
    /// It does not; [`UpgradeError::write_response`] answers it.
    pub fn from_request(request: &'r Request<'b>, accepted: Versions) -> Result<Self, UpgradeError> {
        if request.method() != "GET" {
            return Err(UpgradeError::Method);
        }
        if request.minor_version() < 1 {
            return Err(UpgradeError::HttpVersion);
        }
        let headers = request.fields();
        if !headers.has_token("Upgrade", "websocket") {
            return Err(UpgradeError::NotWebSocket { accepted });
        }
        if !headers.has_token("Connection", "Upgrade") {
            return Err(UpgradeError::Connection);
        }
        let Only::One(_) = headers.only("Host") else {
            return Err(UpgradeError::Host);
        };
        //= RFC 6455#section-4.2.2
        //# If this version does not match a version understood by the server, the server MUST abort the WebSocket
        //# handshake described in this section and instead send an appropriate HTTP error code (such as 426 Upgrade
        //# Required) and a |Sec-WebSocket-Version| header field indicating the version(s) the server is capable of
        //# understanding.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
        //# If this version does not match a version understood by the server, the server MUST abort the WebSocket
        //# connection.
        //= RFC 6455#section-11.3.5
        //# the |Sec-WebSocket-Version| header field MUST NOT appear more than once in an HTTP request.
        let version = match headers.only("Sec-WebSocket-Version") {
            Only::One(number) => number
                .parse()
                .ok()
                .and_then(Version::from_number)
                // Neither a sign nor a leading zero.
                .filter(|&version| version.to_string() == number && accepted.contains(version))
                .ok_or(UpgradeError::Version { accepted })?,
            Only::Missing => return Err(UpgradeError::Version { accepted }),
            Only::Several => return Err(UpgradeError::SeveralVersions),
        };
        //= RFC 6455#section-11.3.1
        //# The |Sec-WebSocket-Key| header field MUST NOT appear more than once in an HTTP request.
        let Only::One(key) = headers.only("Sec-WebSocket-Key") else {
            return Err(UpgradeError::Key);
        };
        let accept = AcceptKey::of(key).ok_or(UpgradeError::Key)?;
        Ok(Self {
            version,
            accept,
            headers,
        })
    }

    /// The version the client asked for.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The subprotocols the client offers, the preferred one first. None of them is empty.
    pub fn protocols(&self) -> impl Iterator<Item = &'b str> {
        self.headers.list("Sec-WebSocket-Protocol")
    }

    /// The extension to use, of those that the client offers and `accept` allows: the first that can be accepted. It
    /// is for [`Upgrade::write_response_with`] and [`Connection::with_extension`].
    ///
    /// # Errors
    /// The list of offers is malformed, which the drafts do not mind.
    ///
    /// [`Connection::with_extension`]: crate::Connection::with_extension
    pub fn negotiate(&self, accept: &Accept) -> Result<Option<Extension>, UpgradeError> {
        //= RFC 6455#section-5.8
        //# The endpoints of a connection MUST negotiate the use of any extensions during the opening handshake.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.8
        //# The endpoints of a connection MUST negotiate the use of any extensions during the handshake.
        let offers = self.headers.all("Sec-WebSocket-Extensions");
        accept
            .choose(self.version, offers)
            .map_err(|_| UpgradeError::Extensions)
    }

    /// Where the page that opens this comes from; browsers always tell, others may.
    #[must_use]
    pub fn origin(&self) -> Option<&'b str> {
        let names = self.version.dialect().origin_headers;
        names.iter().find_map(|name| self.headers.all(name).next())
    }

    /// Appends the 101 response, without an extension. `protocol` is the subprotocol chosen, one of
    /// [`Upgrade::protocols`]. What follows it is frames: see [`Version::frames_may_follow_101`] before sending any
    /// together with it.
    pub fn write_response(&self, protocol: Option<&str>, out: &mut Vec<u8>) {
        self.write_response_with(protocol, None, out);
    }

    /// Appends the 101 response, with the extension that [`Upgrade::negotiate`] gave.
    ///
    //= RFC 6455#section-4.2.2
    //# the server MUST complete the following steps to accept the connection and send the server's opening handshake.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
    //# the server MUST complete the following steps to accept the connection and send the server's opening handshake.
    pub fn write_response_with(&self, protocol: Option<&str>, extension: Option<Extension>, out: &mut Vec<u8>) {
        //= RFC 6455#section-4.2.2
        //# The value chosen MUST be derived from the client's handshake, specifically by selecting one of the values
        //# from the |Sec-WebSocket-Protocol| field that the server is willing to use for this connection (if any).
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
        //# If the server supports multiple subprotocols, then the value MUST be derived from the client's handshake,
        //# specifically by selecting one of the values from the "Sec-WebSocket-Protocol" field.
        debug_assert!(protocol.is_none_or(|chosen| self.protocols().any(|offer| offer == chosen)));
        //= RFC 6455#section-4.2.2
        //# If the server chooses to accept the incoming connection, it MUST reply with a valid HTTP response indicating
        //# the following.
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
        //# If the server chooses to accept the incoming connection, it MUST reply with a valid HTTP response indicating
        //# the following.
        // Clients of 2011 compare names by case, and want "Upgrade" to be all there is in Connection.
        let mut response = Response::new(out, 101)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            //= RFC 6455#section-11.3.3
            //# The |Sec-WebSocket-Accept| header MUST NOT appear more than once in an HTTP response.
            .header("Sec-WebSocket-Accept", self.accept);
        //= RFC 6455#section-4.2.2
        //# if the server does not wish to agree to one of the suggested subprotocols, it MUST NOT send back a
        //# |Sec-WebSocket-Protocol| header field in its response
        //= RFC 6455#section-11.3.4
        //# the |Sec-WebSocket-Protocol| header field MUST NOT appear more than once in an HTTP response.
        if let Some(protocol) = protocol {
            response = response.header("Sec-WebSocket-Protocol", protocol);
        }
        // Never an empty one: clients of 2011 fail on that.
        //= RFC 6455#section-11.3.2
        //# the |Sec-WebSocket-Extensions| header field MUST NOT appear more than once in an HTTP response.
        //= RFC 7692#section-5
        //# A server declining all offered PMCEs MUST NOT include any element with PMCE names.
        if let Some(extension) = extension {
            response = response.header("Sec-WebSocket-Extensions", extension);
        }
        response.end();
    }
}
