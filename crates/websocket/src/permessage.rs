//! permessage-deflate (RFC 7692): messages deflated one by one, above the framing.
//!
//! ```text
//!   sent:      payload --> deflate, sync flush --> without 00 00 ff ff --> frames, RSV1 on the first
//!   received:  frames --> inflate as they come, at the end 00 00 ff ff --> payload
//! ```

use std::fmt;

use flate2::{Compress, Compression};

use crate::deflate::deflate_into;
use crate::error::Error;
use crate::extension::{Accept, Parameter};
use crate::inflate::{Added, Inflater, Inflaters};
use crate::limits::Limits;

/// The parameters agreed on. Displayed as the header has them, each behind a semicolon.
///
/// The default is what an answer without parameters means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params {
    /// No message from the server refers to an earlier one.
    pub server_no_context_takeover: bool,
    /// No message from the client refers to an earlier one.
    pub client_no_context_takeover: bool,
    /// How far back the server's messages may refer: the logarithm of octets, 8 to 15. None means 15.
    pub server_max_window_bits: Option<u8>,
    /// The same for the client's messages.
    pub client_max_window_bits: Option<u8>,
}

/// permessage-deflate as a client offers it. Displayed as the header has it, each parameter behind a semicolon.
///
/// The default is an offer without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerMessageOffer {
    /// The server must not refer to earlier messages.
    pub server_no_context_takeover: bool,
    /// The client will not refer to earlier messages.
    pub client_no_context_takeover: bool,
    /// The largest window the server may use, in bits: 8 to 15.
    pub server_max_window_bits: Option<u8>,
    /// What the server may say about the client's window.
    pub client_max_window_bits: ClientWindow,
}

/// Whether a client that offers permessage-deflate lets the server limit its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientWindow {
    /// The server must not.
    #[default]
    Fixed,
    /// The server may.
    Limitable,
    /// The server may, and without that the client will use no more than so many bits: 8 to 15.
    AtMost(u8),
}

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The window where nothing is said, in bits.
const MAX_WINDOW_BITS: u8 = 15;

//= RFC 7692#section-7.1.2.1
//# This parameter has a decimal integer value without leading zeroes between 8 to 15, inclusive, indicating the base-2
//# logarithm of the LZ77 sliding window size, and MUST conform to the ABNF below.
//= RFC 7692#section-7.1.2.2
//# If a value is specified for this parameter, the value MUST conform to the ABNF below.
fn window_bits(value: &str) -> Option<u8> {
    match *value.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + (digit - b'0')),
        _ => None,
    }
}

impl PerMessageOffer {
    /// None if the offer must be declined.
    ///
    //= RFC 7692#section-7
    //# A server MUST decline an extension negotiation offer for this extension if any of the following conditions are met
    pub(crate) fn parse(parameters: &[Parameter<'_>]) -> Option<Self> {
        let mut offer = Self::default();
        for (name, value) in parameters {
            let fresh = match (*name, value.as_deref()) {
                (SERVER_NO_CONTEXT_TAKEOVER, None) => !std::mem::replace(&mut offer.server_no_context_takeover, true),
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => !std::mem::replace(&mut offer.client_no_context_takeover, true),
                (SERVER_MAX_WINDOW_BITS, Some(bits)) => {
                    offer.server_max_window_bits.replace(window_bits(bits)?).is_none()
                }
                (CLIENT_MAX_WINDOW_BITS, bits) => {
                    let window = match bits {
                        None => ClientWindow::Limitable,
                        Some(bits) => ClientWindow::AtMost(window_bits(bits)?),
                    };
                    std::mem::replace(&mut offer.client_max_window_bits, window) == ClientWindow::Fixed
                }
                //= RFC 6455#section-9.1
                //# The parameters supplied with any given extension MUST be defined for that extension.
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(offer)
    }

    /// The server's answer.
    //= RFC 7692#section-5
    //# The element MUST represent a PMCE that is fully supported by the server.
    //= RFC 6455#section-9
    //# those parameters MUST be chosen in accordance with the specification of the extension to which the parameters
    //# apply.
    pub(crate) fn accept(&self, policy: &Accept) -> Params {
        //= RFC 7692#section-7.1.2.2
        //# The "client_max_window_bits" extension parameter in an extension negotiation response has a decimal integer
        //# value without leading zeroes between 8 to 15 inclusive indicating the base-2 logarithm of the LZ77 sliding
        //# window size and MUST conform to the ABNF below.
        let most = policy.max_client_window_bits.clamp(8, MAX_WINDOW_BITS);
        Params {
            server_no_context_takeover: self.server_no_context_takeover || !policy.server_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover || !policy.client_context_takeover,
            //= RFC 7692#section-7.1.2.1
            //# The "server_max_window_bits" extension parameter in an extension negotiation response has a decimal
            //# integer value without leading zeroes between 8 to 15, inclusive, indicating the base-2 logarithm of the
            //# LZ77 sliding window size, and MUST conform to the ABNF below.
            server_max_window_bits: self.server_max_window_bits,
            //= RFC 7692#section-7.1.2.2
            //# If a received extension negotiation offer doesn't have the "client_max_window_bits" extension parameter,
            //# the corresponding extension negotiation response to the offer MUST NOT include the
            //# "client_max_window_bits" extension parameter.
            client_max_window_bits: match self.client_max_window_bits {
                ClientWindow::Fixed => None,
                ClientWindow::Limitable => Some(most),
                ClientWindow::AtMost(bits) => Some(most.min(bits)),
            },
        }
    }

    /// Whether a server that was offered this may answer `params`.
    pub(crate) fn allows(&self, params: &Params) -> bool {
        let at_most = |answered: Option<u8>, offered: u8| answered.is_some_and(|bits| bits <= offered);
        (params.server_no_context_takeover || !self.server_no_context_takeover)
            && self
                .server_max_window_bits
                .is_none_or(|bits| at_most(params.server_max_window_bits, bits))
            && match self.client_max_window_bits {
                ClientWindow::Fixed => params.client_max_window_bits.is_none(),
                ClientWindow::Limitable => true,
                ClientWindow::AtMost(most) => params.client_max_window_bits.is_none_or(|bits| bits <= most),
            }
    }
}

impl Params {
    /// The window that the server's messages may use, in bits: what the bytes sent to this client must have been
    /// deflated with, or less.
    #[must_use]
    pub fn server_window_bits(&self) -> u8 {
        self.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS)
    }

    /// The window that the client's messages may use, in bits.
    #[must_use]
    pub fn client_window_bits(&self) -> u8 {
        self.client_max_window_bits.unwrap_or(MAX_WINDOW_BITS)
    }

    /// A server's answer; none if it is not valid. It differs from an offer in that the client's window has a size.
    pub(crate) fn parse(parameters: &[Parameter<'_>]) -> Option<Self> {
        let answer = PerMessageOffer::parse(parameters)?;
        Some(Self {
            server_no_context_takeover: answer.server_no_context_takeover,
            //= RFC 7692#section-7.1.1.2
            //# A client MUST support the "client_no_context_takeover" extension parameter in an extension negotiation
            //# response.
            client_no_context_takeover: answer.client_no_context_takeover,
            server_max_window_bits: answer.server_max_window_bits,
            client_max_window_bits: match answer.client_max_window_bits {
                ClientWindow::Fixed => None,
                ClientWindow::Limitable => return None,
                ClientWindow::AtMost(bits) => Some(bits),
            },
        })
    }
}

/// Writes the parameters that are there.
fn display(
    f: &mut fmt::Formatter<'_>,
    no_takeover: [(bool, &str); 2],
    window_bits: [(Option<u8>, &str); 2],
) -> fmt::Result {
    for (said, name) in no_takeover {
        if said {
            write!(f, "; {name}")?;
        }
    }
    for (bits, name) in window_bits {
        if let Some(bits) = bits {
            write!(f, "; {name}={bits}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(
            f,
            [
                (self.server_no_context_takeover, SERVER_NO_CONTEXT_TAKEOVER),
                (self.client_no_context_takeover, CLIENT_NO_CONTEXT_TAKEOVER),
            ],
            [
                (self.server_max_window_bits, SERVER_MAX_WINDOW_BITS),
                (self.client_max_window_bits, CLIENT_MAX_WINDOW_BITS),
            ],
        )
    }
}

impl fmt::Display for PerMessageOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client_bits = match self.client_max_window_bits {
            ClientWindow::AtMost(bits) => Some(bits),
            ClientWindow::Fixed | ClientWindow::Limitable => None,
        };
        display(
            f,
            [
                (self.server_no_context_takeover, SERVER_NO_CONTEXT_TAKEOVER),
                (self.client_no_context_takeover, CLIENT_NO_CONTEXT_TAKEOVER),
            ],
            [
                //= RFC 7692#section-5
                //# In a PMCE negotiation offer, the client MUST inform the server of its LZ77 window size so that the
                //# server uses an LZ77 window size that is not greater than the LZ77 window size of the client.
                (self.server_max_window_bits, SERVER_MAX_WINDOW_BITS),
                (client_bits, CLIENT_MAX_WINDOW_BITS),
            ],
        )?;
        if self.client_max_window_bits == ClientWindow::Limitable {
            write!(f, "; {CLIENT_MAX_WINDOW_BITS}")?;
        }
        Ok(())
    }
}

/// The end of every sync flush, which is not sent.
///
//= RFC 7692#section-7.2.1
//# Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end.
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// What a message of up to so many octets lacks at its end is put behind a copy of it. Another call of zlib-rs would take
/// longer by far; beside a longer message it does not show.
const SHORT: usize = 256;

/// How many octets a message may inflate to before [`Limits::max_inflate_ratio`] is looked at.
pub(crate) const RATIO_FREE: u64 = 64 * 1024;

/// How far inflating came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inflated {
    /// Octets that were used up.
    pub(crate) consumed: usize,
    /// There was no room for more: some may still come out of what was used up.
    pub(crate) filled: bool,
}

/// One end's state of permessage-deflate.
#[derive(Debug)]
pub(crate) struct PerMessage {
    params: Params,
    /// We are the server.
    server: bool,
    /// From the first octet of a compressed message to its end; to the end of the connection if the peer may refer
    /// to earlier messages.
    inflater: Option<Box<Inflater>>,
    /// Octets of the present message before inflating, and after it.
    received: u64,
    produced: u64,
    /// What we compress with if we refer to earlier messages.
    window: Option<Window>,
}

/// Our own window over what we sent.
#[derive(Debug)]
struct Window {
    compress: Compress,
    min_payload: usize,
}

impl PerMessage {
    //= RFC 7692#section-5
    //# both endpoints MUST use the algorithm described in Section 6 and the message payload transformation (compressing
    //# and decompressing) procedure of the PMCE configured with the "agreed parameters" returned by the server to
    //# exchange messages.
    pub(crate) fn new(params: Params, server: bool) -> Self {
        Self {
            params,
            server,
            inflater: None,
            received: 0,
            produced: 0,
            window: None,
        }
    }

    pub(crate) fn params(&self) -> Params {
        self.params
    }

    /// How far back what we send may refer, in bits.
    //= RFC 7692#section-7.2.1
    //# If the "agreed parameters" contain the "client_max_window_bits" extension parameter with a value of w, the
    //# client MUST NOT use an LZ77 sliding window longer than the w-th power of 2 bytes to compress messages to send.
    //= RFC 7692#section-7.2.1
    //# If the "agreed parameters" contain the "server_max_window_bits" extension parameter with a value of w, the
    //# server MUST NOT use an LZ77 sliding window longer than the w-th power of 2 bytes to compress messages to send.
    //= RFC 7692#section-7.2.2
    //# the client MUST use an LZ77 sliding window of a size that conforms the "agreed parameters" to compress messages
    //# to send.
    pub(crate) fn sending_window_bits(&self) -> u8 {
        if self.server {
            self.params.server_window_bits()
        } else {
            self.params.client_window_bits()
        }
    }

    /// Compresses what is sent from now on with one window over all messages, if that is allowed.
    pub(crate) fn open_window(&mut self, level: u8, min_payload: usize) -> bool {
        //= RFC 7692#section-7.2.1
        //# If the "agreed parameters" contain the "client_no_context_takeover" extension parameter, the client MUST
        //# start compressing each new message with an empty LZ77 sliding window.
        //= RFC 7692#section-7.2.1
        //# If the "agreed parameters" contain the "server_no_context_takeover" extension parameter, the server MUST
        //# start compressing each new message with an empty LZ77 sliding window.
        let forbidden = if self.server {
            self.params.server_no_context_takeover
        } else {
            self.params.client_no_context_takeover
        };
        if !forbidden && self.window.is_none() {
            let bits = self.sending_window_bits();
            let level = Compression::new(u32::from(level.min(9)));
            self.window = Some(Window {
                compress: Compress::new_with_window_bits(level, false, bits.max(crate::deflate::MIN_WINDOW_BITS)),
                min_payload,
            });
        }
        self.window.is_some()
    }

    pub(crate) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Deflates `payload` with the connection's own window; none if there is no window, or it is not worth it.
    pub(crate) fn deflate(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let window = self.window.as_mut()?;
        if payload.is_empty() || payload.len() < window.min_payload {
            return None;
        }
        let mut deflated = Vec::new();
        deflate_into(&mut window.compress, payload, &mut deflated);
        deflated.truncate(deflated.len() - TAIL.len());
        Some(deflated)
    }

    /// Forgets what is only needed to receive.
    pub(crate) fn release(&mut self) {
        self.inflater = None;
    }

    /// Inflates the next octets of a message and appends what comes out to `message`. With `last`, the message ends.
    ///
    /// Stops where `message` holds `room` octets; what was not used up comes again with the next call, even if that is
    /// nothing.
    ///
    /// # Errors
    /// The octets are not deflated data, or they are too much of it; or there is no memory for one inflater more.
    pub(crate) fn inflate(
        &mut self,
        octets: &[u8],
        last: bool,
        message: &mut Vec<u8>,
        room: usize,
        limits: Limits,
        inflaters: &mut Inflaters<'_>,
    ) -> Result<Inflated, Error> {
        // Nothing was compressed, then nothing is to be inflated; some libraries send that for an empty message.
        if self.received == 0 && octets.is_empty() {
            return Ok(Inflated {
                consumed: 0,
                filled: false,
            });
        }
        let added = if self.takeover() { Added::Tail } else { Added::Probe };
        let at_once = last && octets.len() <= SHORT && room == usize::MAX;
        let inflated = if at_once {
            let mut whole = inflaters.take_chunk(octets.len() + TAIL.len());
            whole.extend_from_slice(octets);
            whole.extend_from_slice(added.octets());
            self.inflate_some(&whole, added, message, room, limits, inflaters)?;
            inflaters.put_chunk(whole);
            Inflated {
                consumed: octets.len(),
                filled: false,
            }
        } else {
            self.inflate_some(octets, Added::Nothing, message, room, limits, inflaters)?
        };
        if last && !inflated.filled {
            if !at_once {
                // What four octets can still bring is not held back.
                self.inflate_some(added.octets(), added, message, usize::MAX, limits, inflaters)?;
            }
            self.end_message(inflaters)?;
        }
        Ok(inflated)
    }

    /// Inflates `octets`, of which the last are what was `added` to those that came.
    fn inflate_some(
        &mut self,
        octets: &[u8],
        added: Added,
        message: &mut Vec<u8>,
        room: usize,
        limits: Limits,
        inflaters: &mut Inflaters<'_>,
    ) -> Result<Inflated, Error> {
        let inflater = match &mut self.inflater {
            Some(inflater) => inflater,
            empty => empty.insert(inflaters.take()?),
        };
        let limit = u64::from(limits.max_message);
        let most = u64::from(limits.max_inflate_ratio) * (self.received + octets.len() as u64) + RATIO_FREE;
        let mut rest = octets;
        loop {
            if message.is_empty() || message.len() == message.capacity() {
                // Memory follows what comes out: it doubles, up to one octet beyond the limit, which tells that the
                // message goes on. It begins with more than most messages need: zlib-rs is fast up to 260 octets before
                // the end of its room.
                let more = message.capacity().max(rest.len().saturating_mul(6)).max(1024);
                let useful = (limit + 1 - self.produced).min(room.saturating_sub(message.len()) as u64);
                message.reserve_exact(more.min(useful as usize));
            }
            let before = message.len();
            let consumed = inflater.inflate(rest, added, message)?;
            rest = &rest[consumed..];
            self.received += consumed as u64;
            self.produced += (message.len() - before) as u64;
            if self.produced > limit {
                return Err(Error::MessageTooBig {
                    limit: limits.max_message,
                });
            }
            if self.produced > most {
                return Err(Error::InflateRatio {
                    limit: limits.max_inflate_ratio,
                });
            }
            let filled = message.len() >= room;
            let ended = inflater.has_ended() && (rest.is_empty() || rest.len() == added.octets().len());
            if filled || ended || rest.is_empty() && message.len() < message.capacity() {
                return Ok(Inflated {
                    consumed: octets.len() - rest.len(),
                    filled,
                });
            }
        }
    }

    /// Whether what the peer sends may refer to earlier messages.
    fn takeover(&self) -> bool {
        !if self.server {
            self.params.client_no_context_takeover
        } else {
            self.params.server_no_context_takeover
        }
    }

    /// Ends the message, behind the last of its octets and the four that are added.
    fn end_message(&mut self, inflaters: &mut Inflaters<'_>) -> Result<(), Error> {
        (self.received, self.produced) = (0, 0);
        //= RFC 7692#section-7.2.2
        //# Otherwise, the server MUST decompress each new message using the LZ77 sliding window used to process the
        //# last compressed message.
        //= RFC 7692#section-7.2.2
        //# Otherwise, the client MUST decompress each new message using the LZ77 sliding window used to process the
        //# last compressed message.
        if !self.takeover()
            && let Some(inflater) = self.inflater.take()
        {
            if !inflater.has_ended() {
                return Err(Error::InvalidDeflate);
            }
            inflaters.put(inflater);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extension::{Extension, Offer, check_answer};
    use crate::inflate::InflatePool;
    use crate::{Deflater, Version};

    /// What a server of policy `accept` answers to one offer.
    fn answer(accept: &Accept, offer: &str) -> Option<String> {
        let value = format!("permessage-deflate{offer}");
        let chosen = accept.choose(Version::V13, [&*value].into_iter()).unwrap();
        chosen.map(|extension| extension.to_string().split_off("permessage-deflate".len()))
    }

    //= RFC 7692#section-7
    //= type=test
    //# A server MUST decline an extension negotiation offer for this extension if any of the following conditions are met
    //= RFC 6455#section-9
    //= type=test
    //# those parameters MUST be chosen in accordance with the specification of the extension to which the parameters
    //# apply.
    //= RFC 6455#section-9.1
    //= type=test
    //# The parameters supplied with any given extension MUST be defined for that extension.
    //= RFC 7692#section-7.1.2.2
    //= type=test
    //# If a received extension negotiation offer doesn't have the "client_max_window_bits" extension parameter, the
    //# corresponding extension negotiation response to the offer MUST NOT include the "client_max_window_bits"
    //# extension parameter.
    #[test]
    fn each_offer_is_answered_with_exactly_what_is_agreed_or_not_at_all() {
        let lavish = Accept {
            client_context_takeover: true,
            server_context_takeover: true,
            ..Accept::default()
        };
        let thrifty = Accept {
            max_client_window_bits: 10,
            ..Accept::default()
        };
        // The offer, and the answers of both.
        let agreed = [
            ("", "", "; server_no_context_takeover; client_no_context_takeover"),
            (
                "; server_no_context_takeover",
                "; server_no_context_takeover",
                "; server_no_context_takeover; client_no_context_takeover",
            ),
            (
                "; client_no_context_takeover",
                "; client_no_context_takeover",
                "; server_no_context_takeover; client_no_context_takeover",
            ),
            (
                "; client_max_window_bits",
                "; client_max_window_bits=15",
                "; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=10",
            ),
            (
                "; client_max_window_bits=8",
                "; client_max_window_bits=8",
                "; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=8",
            ),
            (
                "; client_max_window_bits=12; server_max_window_bits=15",
                "; server_max_window_bits=15; client_max_window_bits=12",
                "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; client_max_window_bits=10",
            ),
        ];
        for (offer, to_lavish, to_thrifty) in agreed {
            assert_eq!(answer(&lavish, offer).as_deref(), Some(to_lavish), "{offer}");
            assert_eq!(answer(&thrifty, offer).as_deref(), Some(to_thrifty), "{offer}");
        }
        let declined = [
            "; unknown",
            "; server_no_context_takeover=1",
            "; client_no_context_takeover=true",
            "; server_no_context_takeover; server_no_context_takeover",
            "; client_no_context_takeover; client_no_context_takeover",
            "; client_max_window_bits; client_max_window_bits",
            "; client_max_window_bits; client_max_window_bits=9",
            "; client_max_window_bits=9; client_max_window_bits",
            "; server_max_window_bits=9; server_max_window_bits=9",
            "; server_max_window_bits",
            "; Server_Max_Window_Bits=10",
        ];
        for offer in declined {
            assert_eq!(answer(&lavish, offer), None, "{offer}");
        }
        for name in [SERVER_MAX_WINDOW_BITS, CLIENT_MAX_WINDOW_BITS] {
            for bits in 8..=15 {
                let offer = format!("; {name}={bits}");
                assert_eq!(answer(&lavish, &offer), Some(offer));
            }
            for bits in ["7", "16", "0", "08", "010", "1", "+9", "9a", "a", "100", "255", "264"] {
                assert_eq!(answer(&lavish, &format!("; {name}={bits}")), None, "{bits}");
            }
        }
    }

    //= RFC 6455#section-9.1
    //= type=test
    //# The parameters supplied with any given extension MUST be defined for that extension.
    //= RFC 7692#section-7
    //= type=test
    //# A client MUST _Fail the WebSocket Connection_ if the peer server accepted an extension negotiation offer for
    //# this extension with an extension negotiation response meeting any of the following conditions
    //= RFC 7692#section-7.1.1.2
    //= type=test
    //# A client MUST support the "client_no_context_takeover" extension parameter in an extension negotiation response.
    #[test]
    fn a_client_takes_the_answers_that_its_offer_allows() {
        let plain = PerMessageOffer::default();
        let careful = PerMessageOffer {
            server_no_context_takeover: true,
            server_max_window_bits: Some(10),
            client_max_window_bits: ClientWindow::Limitable,
            ..plain
        };
        let hinting = PerMessageOffer {
            client_no_context_takeover: true,
            client_max_window_bits: ClientWindow::AtMost(12),
            ..plain
        };
        // The answer, and who takes it.
        let cases = [
            ("", [true, false, true]),
            ("; client_no_context_takeover", [true, false, true]),
            ("; server_no_context_takeover", [true, false, true]),
            (
                "; server_no_context_takeover; server_max_window_bits=10",
                [true, true, true],
            ),
            (
                "; server_no_context_takeover; server_max_window_bits=11",
                [true, false, true],
            ),
            ("; server_max_window_bits=9", [true, false, true]),
            ("; client_max_window_bits=12", [false, false, true]),
            ("; client_max_window_bits=13", [false, false, false]),
            ("; client_max_window_bits", [false, false, false]),
            ("; server_max_window_bits", [false, false, false]),
            (
                "; server_no_context_takeover; server_max_window_bits=8; client_max_window_bits=8",
                [false, true, true],
            ),
        ];
        for (answer, taken) in cases {
            for (offer, taken) in [plain, careful, hinting].into_iter().zip(taken) {
                let value = format!("permessage-deflate{answer}");
                let checked = check_answer(&[Offer::PerMessageDeflate(offer)], [&*value].into_iter());
                assert_eq!(checked.is_ok(), taken, "{answer} to {offer}");
                if let Ok(agreed) = checked {
                    assert_eq!(agreed.map(|agreed| agreed.to_string()), Some(value));
                }
            }
        }
    }

    #[test]
    fn what_our_server_answers_our_client_takes_whatever_it_offered() {
        let windows = [ClientWindow::Fixed, ClientWindow::Limitable, ClientWindow::AtMost(9)];
        for client_max_window_bits in windows {
            for server_max_window_bits in [None, Some(8), Some(15)] {
                for flags in 0..32 {
                    let offer = PerMessageOffer {
                        server_no_context_takeover: flags & 1 != 0,
                        client_no_context_takeover: flags & 2 != 0,
                        server_max_window_bits,
                        client_max_window_bits,
                    };
                    let accept = Accept {
                        client_context_takeover: flags & 4 != 0,
                        server_context_takeover: flags & 16 != 0,
                        max_client_window_bits: if flags & 8 != 0 { 8 } else { 15 },
                        ..Accept::default()
                    };
                    let offers = [Offer::PerMessageDeflate(offer)];
                    let chosen = accept.choose(Version::V13, [&*offers[0].to_string()].into_iter());
                    let Ok(Some(chosen @ Extension::PerMessageDeflate(_))) = chosen else {
                        panic!("{offer} was declined");
                    };
                    let taken = check_answer(&offers, [&*chosen.to_string()].into_iter());
                    assert_eq!(taken, Ok(Some(chosen)), "{offer}");
                }
            }
        }
    }

    #[test]
    fn memory_follows_what_comes_out_up_to_the_limit() {
        let mut bomb = Vec::new();
        Deflater::default().message(&vec![0; 64 << 20], 15, &mut bomb);
        let limits = Limits::default();
        let mut pool = InflatePool::new(1, 1);
        let mut messages = PerMessage::new(Params::default(), true);
        let mut message = Vec::new();
        let refused = messages.inflate(
            &bomb,
            true,
            &mut message,
            usize::MAX,
            limits,
            &mut Inflaters(Some(&mut pool)),
        );
        let limit = limits.max_message;
        assert_eq!(refused.unwrap_err(), Error::MessageTooBig { limit });
        assert_eq!(message.capacity(), limit as usize + 1);

        let mut small = Vec::new();
        Deflater::default().message(&[b'x'; 1000], 15, &mut small);
        let (mut messages, mut message) = (PerMessage::new(Params::default(), true), Vec::new());
        let inflated = messages.inflate(&small, true, &mut message, usize::MAX, limits, &mut Inflaters(None));
        assert_eq!((inflated.unwrap().consumed, message.len()), (small.len(), 1000));
        assert!(message.capacity() <= 2048);
    }
}
