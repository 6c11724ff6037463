//! `Sec-WebSocket-Extensions`: what is offered, what is accepted, and what that means for the connection.
//!
//! ```text
//!   extensions    = 1#( extension )
//!   extension     = token *( ";" parameter )          deflate-stream
//!   parameter     = token [ "=" token-or-quoted ]     permessage-deflate; client_max_window_bits="15"
//! ```
//!
//! Both extensions here compress, so a connection has one of them or none: the first offer that can be accepted.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use crate::dialect::{Version, Versions};
use crate::http::is_token;
use crate::permessage::{Params, PerMessageOffer};

/// An extension that both ends agreed on. Displayed as the header has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// All that follows the handshake is one deflated stream in each direction, below the framing.
    ///
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-8.2.1
    //# Senders using this extension MUST apply RFC 1951 encodings to all bytes of the data stream following the
    //# handshake including both data and control messages.
    DeflateStream,
    /// The payloads of messages are deflated one by one (RFC 7692).
    PerMessageDeflate(Params),
}

//= RFC 7692#section-5
//# To accept the use of an offered PMCE, a server MUST include the extension name of the PMCE in the
//# "Sec-WebSocket-Extensions" header field of its opening handshake of the WebSocket connection.
impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extension::DeflateStream => f.write_str(DEFLATE_STREAM),
            Extension::PerMessageDeflate(params) => write!(f, "{PERMESSAGE_DEFLATE}{params}"),
        }
    }
}

pub(crate) const DEFLATE_STREAM: &str = "deflate-stream";
pub(crate) const PERMESSAGE_DEFLATE: &str = "permessage-deflate";

/// What a server accepts of what clients offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// The versions whose clients may use deflate-stream.
    ///
    /// libwebsockets of 2011 offers it always, but switches it on only where it asked for a subprotocol and got one.
    /// Without, nothing tells it from clients that do switch it on, and it will not be understood.
    pub deflate_stream: Versions,
    /// The versions whose clients may use permessage-deflate.
    pub permessage_deflate: Versions,
    /// Whether a client may refer to its earlier messages. Then each that compresses holds an inflate window
    /// ([`InflatePool::INFLATER_BYTES`]) for as long as it is connected; else only while a message arrives.
    ///
    /// [`InflatePool::INFLATER_BYTES`]: crate::InflatePool::INFLATER_BYTES
    pub client_context_takeover: bool,
    /// Whether we may refer to our earlier messages ([`Connection::open_window`]). If not, every client is told so, and
    /// need not keep a window for us: what is deflated once for all has no references.
    ///
    /// [`Connection::open_window`]: crate::Connection::open_window
    pub server_context_takeover: bool,
    /// The largest window of a client that lets us choose, in bits: 8 to 15.
    pub max_client_window_bits: u8,
}

impl Accept {
    /// No extension at all.
    pub const NONE: Self = Self {
        deflate_stream: Versions::NONE,
        permessage_deflate: Versions::NONE,
        client_context_takeover: false,
        server_context_takeover: false,
        max_client_window_bits: 15,
    };
}

impl Default for Accept {
    /// deflate-stream for the versions whose specification has it or whose clients offer it (6, 7, 8);
    /// permessage-deflate for RFC 6455 and for version 8, some clients of which offer it; no context takeover in either
    /// direction.
    fn default() -> Self {
        Self {
            deflate_stream: Versions::ALL.without(Version::V13),
            permessage_deflate: Versions::only(Version::V13).with(Version::V8),
            ..Self::NONE
        }
    }
}

impl Accept {
    /// The first of the `values` of the header fields that can be accepted, as it is then to be answered.
    //= RFC 6455#section-4.2.2
    //# If the server supports multiple extensions, then the value MUST be derived from the client's handshake,
    //# specifically by selecting one or more of the values from the |Sec-WebSocket-Extensions| field.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
    //# If the server supports multiple extensions, then the value MUST be derived from the client's handshake,
    //# specifically by selecting one or more of the values from the "Sec-WebSocket-Extensions" field.
    pub(crate) fn choose<'v>(
        &self,
        version: Version,
        values: impl Iterator<Item = &'v str>,
    ) -> Result<Option<Extension>, Malformed> {
        let strict = version.dialect().strict_extensions;
        let mut chosen = None;
        for value in values {
            for item in Items::new(value) {
                match item {
                    //= RFC 7692#section-5
                    //# A server MUST NOT accept a PMCE extension negotiation offer together with another extension if
                    //# the PMCE will conflict with the extension on their use of the RSV1 bit.
                    //= RFC 7692#section-5
                    //# A server MUST NOT accept a PMCE extension negotiation offer together with another extension if
                    //# the PMCE will be applied to the output of the extension and any of the following conditions
                    //# applies to the extension
                    Ok(item) if chosen.is_none() => chosen = self.judge(version, &item),
                    // The rest is read all the same: it may be malformed.
                    Ok(_) => {}
                    Err(malformed) if strict => return Err(malformed),
                    // What was understood before it stands; where it ends, nobody can tell.
                    Err(_) => break,
                }
            }
        }
        Ok(chosen)
    }

    //= RFC 6455#section-9
    //# A server MUST NOT respond with any extension not requested by the client.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-8
    //# A server MUST NOT respond with any extension not requested by the client.
    //= RFC 6455#section-4.2.2
    //# Extensions not listed by the client MUST NOT be listed.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.2.2
    //# Extensions not listed by the client MUST NOT be listed.
    fn judge(&self, version: Version, item: &Item<'_>) -> Option<Extension> {
        match item.name {
            //= draft-ietf-hybi-thewebsocketprotocol-07#section-8.1
            //# The parameters supplied with any given extension MUST be defined for that extension.
            DEFLATE_STREAM if item.parameters.is_empty() && self.deflate_stream.contains(version) => {
                Some(Extension::DeflateStream)
            }
            PERMESSAGE_DEFLATE if self.permessage_deflate.contains(version) => {
                let offer = PerMessageOffer::parse(&item.parameters)?;
                Some(Extension::PerMessageDeflate(offer.accept(self)))
            }
            _ => None,
        }
    }
}

/// An extension as a client offers it. Displayed as the header has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// deflate-stream, which has no parameters.
    DeflateStream,
    /// permessage-deflate, with what the server may and must answer.
    PerMessageDeflate(PerMessageOffer),
}

//= RFC 7692#section-5
//# To offer use of a PMCE, a client MUST include the extension name of the PMCE in the "Sec-WebSocket-Extensions"
//# header field of its opening handshake of the WebSocket connection.
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Offer::DeflateStream => f.write_str(DEFLATE_STREAM),
            Offer::PerMessageDeflate(offer) => write!(f, "{PERMESSAGE_DEFLATE}{offer}"),
        }
    }
}

/// Why a client does not take the server's answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    /// Holds what was answered.
    NotOffered(String),
    /// It was offered, but the answer is malformed, or does not fit the offer.
    Unfit(String),
}

/// What the server agreed to, from the `values` of its header fields.
///
//= RFC 7692#section-7
//# A client MUST _Fail the WebSocket Connection_ if the peer server accepted an extension negotiation offer for this
//# extension with an extension negotiation response meeting any of the following conditions
pub(crate) fn check_answer<'v>(
    offers: &[Offer],
    values: impl Iterator<Item = &'v str>,
) -> Result<Option<Extension>, BadAnswer> {
    let mut agreed = None;
    for value in values {
        for item in Items::new(value) {
            //= RFC 6455#section-4.1
            //# If the server's response does not conform to the requirements for the server's handshake as defined in
            //# this section and in Section 4.2.2, the client MUST _Fail the WebSocket Connection_.
            let item = item.map_err(|Malformed| BadAnswer::Unfit(value.into()))?;
            let mut known = offers.iter().filter(|offer| offer.name() == item.name).peekable();
            //= RFC 7692#section-5
            //# If a server gives an invalid response, such as accepting a PMCE that the client did not offer, the
            //# client MUST _Fail the WebSocket Connection_.
            if known.peek().is_none() {
                return Err(BadAnswer::NotOffered(item.text.into()));
            }
            // The offers of the same name are alternatives; an answer must fit one of them.
            let fits = known.find_map(|offer| offer.check(&item));
            match fits {
                //= RFC 7692#section-5
                //# A client that received a response accepting a PMCE extension negotiation offer together with such an
                //# extension MUST _Fail the WebSocket Connection_.
                //= RFC 7692#section-5
                //# A client that receives a response accepting a PMCE extension negotiation offer together with such an
                //# extension MUST _Fail the WebSocket Connection_.
                Some(extension) if agreed.is_none() => agreed = Some(extension),
                _ => return Err(BadAnswer::Unfit(item.text.into())),
            }
        }
    }
    //= RFC 6455#section-9.1
    //# the client is only offering to use any advertised extensions and MUST NOT use them unless the server indicates
    //# that it wishes to use the extension.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-8.1
    //# the client is only offering to use any advertised extensions, and MUST NOT use them unless the server indicates
    //# that it wishes to use the extension.
    Ok(agreed)
}

impl Offer {
    fn name(&self) -> &'static str {
        match self {
            Offer::DeflateStream => DEFLATE_STREAM,
            Offer::PerMessageDeflate(_) => PERMESSAGE_DEFLATE,
        }
    }

    fn check(&self, answer: &Item<'_>) -> Option<Extension> {
        match self {
            Offer::DeflateStream => answer.parameters.is_empty().then_some(Extension::DeflateStream),
            Offer::PerMessageDeflate(offer) => {
                let params = Params::parse(&answer.parameters)?;
                offer.allows(&params).then_some(Extension::PerMessageDeflate(params))
            }
        }
    }
}

/// A header value breaks the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed extensions")]
pub(crate) struct Malformed;

/// A parameter's name and value. What stands in quotes means the same without.
pub(crate) type Parameter<'v> = (&'v str, Option<Cow<'v, str>>);

/// An extension of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item<'v> {
    pub(crate) name: &'v str,
    pub(crate) parameters: Vec<Parameter<'v>>,
    /// As it was written.
    text: &'v str,
}

/// The extensions in one header value. After a malformed one there is none.
struct Items<'v> {
    rest: &'v str,
}

impl<'v> Items<'v> {
    fn new(value: &'v str) -> Self {
        Self { rest: value }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Whether `octet` is next, after white space; then it is behind us.
    fn eat(&mut self, expected: char) -> bool {
        self.skip_space();
        let eaten = self.rest.strip_prefix(expected);
        self.rest = eaten.unwrap_or(self.rest);
        eaten.is_some()
    }

    fn token(&mut self) -> Result<&'v str, Malformed> {
        self.skip_space();
        let end = self.rest.bytes().position(|octet| !is_token(octet));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    fn value(&mut self) -> Result<Cow<'v, str>, Malformed> {
        if !self.eat('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        let mut octets = self.rest.char_indices();
        loop {
            match octets.next().ok_or(Malformed)? {
                (end, '"') => {
                    self.rest = &self.rest[end + 1..];
                    break;
                }
                (_, '\\') => value.push(octets.next().ok_or(Malformed)?.1),
                (_, octet) => value.push(octet),
            }
        }
        //= RFC 6455#section-4.3
        //# When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to the
        //# 'token' ABNF.
        //= RFC 6455#section-9.1
        //# When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to the
        //# 'token' ABNF.
        if value.is_empty() || !value.bytes().all(is_token) {
            return Err(Malformed);
        }
        Ok(Cow::Owned(value))
    }

    fn item(&mut self) -> Result<Item<'v>, Malformed> {
        self.skip_space();
        let start = self.rest;
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.eat(';') {
            let name = self.token()?;
            let value = if self.eat('=') { Some(self.value()?) } else { None };
            parameters.push((name, value));
        }
        let text = start[..start.len() - self.rest.len()].trim_end();
        if !self.eat(',') && !self.rest.is_empty() {
            return Err(Malformed);
        }
        Ok(Item { name, parameters, text })
    }
}

impl<'v> Iterator for Items<'v> {
    type Item = Result<Item<'v>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        // Empty items are no items. Clients of 2011 that offer nothing send the header with an empty value.
        while self.eat(',') {}
        if self.rest.is_empty() {
            return None;
        }
        let item = self.item();
        if item.is_err() {
            self.rest = "";
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is answered to `values` by a server that accepts what it can.
    fn answer(version: Version, values: &[&str]) -> Result<String, Malformed> {
        let accept = Accept {
            deflate_stream: Versions::ALL,
            client_context_takeover: true,
            server_context_takeover: true,
            ..Accept::default()
        };
        let chosen = accept.choose(version, values.iter().copied())?;
        Ok(chosen.map(|extension| extension.to_string()).unwrap_or_default())
    }

    //= RFC 6455#section-4.2.2
    //= type=test
    //# If the server supports multiple extensions, then the value MUST be derived from the client's handshake,
    //# specifically by selecting one or more of the values from the |Sec-WebSocket-Extensions| field.
    #[test]
    fn the_first_offer_that_can_be_accepted_is() {
        let cases: [(&[&str], &str); 16] = [
            (&[], ""),
            (&[""], ""),
            (&["", " , ,"], ""),
            (&["x-unknown"], ""),
            (&["deflate-stream"], "deflate-stream"),
            (&["x-unknown; a=b; c, deflate-stream"], "deflate-stream"),
            (&["x-unknown", "deflate-stream"], "deflate-stream"),
            (&["x; a=\"\\b,\\c\"; d"], "!"),
            (&["x; a=\"b\\c\"; d, deflate-stream"], "deflate-stream"),
            (&["deflate-stream; a"], ""),
            (&["Deflate-Stream"], ""),
            (&["permessage-deflate"], "permessage-deflate"),
            (&["deflate-stream, permessage-deflate"], "deflate-stream"),
            (&["permessage-deflate,deflate-stream"], "permessage-deflate"),
            (
                &["permessage-deflate; x, permessage-deflate ;\tserver_max_window_bits = \"1\\0\""],
                "permessage-deflate; server_max_window_bits=10",
            ),
            (
                &[
                    "permessage-deflate; server_max_window_bits=7",
                    "permessage-deflate; client_max_window_bits",
                ],
                "permessage-deflate; client_max_window_bits=15",
            ),
        ];
        for (values, expected) in cases {
            let answered = answer(Version::V13, values);
            if expected == "!" {
                assert_eq!(answered, Err(Malformed), "{values:?}");
            } else {
                assert_eq!(answered.as_deref(), Ok(expected), "{values:?}");
            }
        }
    }

    //= RFC 6455#section-9.1
    //= type=test
    //# When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to the
    //# 'token' ABNF.
    //= RFC 6455#section-4.3
    //= type=test
    //# When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to the
    //# 'token' ABNF.
    #[test]
    fn what_is_malformed_is_refused_by_the_rfc_and_passed_over_by_the_drafts() {
        let malformed = [
            ";",
            "=",
            "a b",
            "a;",
            "a;;b",
            "a; =b",
            "a; b=",
            "a; b=\"",
            "a; b=\"c",
            "a; b=\"\"",
            "a; b=\"c\"d",
            "a; b=\"c d\"",
            "a; b=\"\\\"",
            "a; b=c=d",
            "a/b",
            "é",
            "a; b=\"é\"",
        ];
        for value in malformed {
            assert_eq!(answer(Version::V13, &[value]), Err(Malformed), "{value}");
            assert_eq!(answer(Version::V7, &[value]).as_deref(), Ok(""), "{value}");
            let behind = answer(Version::V13, &["permessage-deflate", value]);
            assert_eq!(behind, Err(Malformed), "{value}");
            let before = answer(Version::V7, &[value, "deflate-stream"]);
            assert_eq!(before.as_deref(), Ok("deflate-stream"), "{value}");
        }
    }

    #[test]
    fn versions_are_accepted_as_configured() {
        let offer = "deflate-stream, permessage-deflate";
        let by_default = |version| {
            let chosen = Accept::default().choose(version, [offer].into_iter()).unwrap();
            chosen.map(|extension| extension.to_string())
        };
        for version in [Version::V6, Version::V7, Version::V8] {
            assert_eq!(by_default(version).as_deref(), Some("deflate-stream"));
        }
        let required = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(by_default(Version::V13).as_deref(), Some(required));
        for version in Version::ALL {
            assert_eq!(Accept::NONE.choose(version, [offer].into_iter()), Ok(None));
        }
    }

    //= RFC 6455#section-9.1
    //= type=test
    //# If a value is received by either the client or the server during negotiation that does not conform to the ABNF
    //# below, the recipient of such malformed data MUST immediately _Fail the WebSocket Connection_.
    //= RFC 6455#section-9.1
    //= type=test
    //# the client is only offering to use any advertised extensions and MUST NOT use them unless the server indicates
    //# that it wishes to use the extension.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-8.1
    //= type=test
    //# The parameters supplied with any given extension MUST be defined for that extension.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-8.1
    //= type=test
    //# the client is only offering to use any advertised extensions, and MUST NOT use them unless the server indicates
    //# that it wishes to use the extension.
    #[test]
    fn a_client_takes_only_what_fits_its_offers() {
        let offers = [
            Offer::DeflateStream,
            Offer::PerMessageDeflate(PerMessageOffer::default()),
        ];
        let check = |values: &[&str]| check_answer(&offers, values.iter().copied());
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[""]), Ok(None));
        assert_eq!(check(&["deflate-stream"]), Ok(Some(Extension::DeflateStream)));
        let params = Params::default();
        let plain = Ok(Some(Extension::PerMessageDeflate(params)));
        assert_eq!(check(&["permessage-deflate"]), plain);
        let unfit = [
            "deflate-stream; a",
            "deflate-stream, deflate-stream",
            "deflate-stream, permessage-deflate",
            "permessage-deflate; client_max_window_bits=10",
            "permessage-deflate; x",
        ];
        for value in unfit {
            assert!(matches!(check(&[value]), Err(BadAnswer::Unfit(_))), "{value}");
        }
        let unknown = check(&["x-unknown ; a=1 ,"]);
        assert_eq!(unknown, Err(BadAnswer::NotOffered("x-unknown ; a=1".into())));
        assert_eq!(check(&["a b"]), Err(BadAnswer::Unfit("a b".into())));
    }
}
