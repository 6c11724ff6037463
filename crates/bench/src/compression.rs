//! What messages are compressed with.

use std::fmt;
use std::str::FromStr;

use tidecast_websocket::{ClientWindow, Offer, PerMessageOffer};

/// What subscribers offer to have their messages compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Nothing.
    None,
    /// `permessage-deflate` of RFC 7692.
    PermessageDeflate,
    /// `deflate-stream` of the drafts, so with a version below 13.
    DeflateStream,
}

impl Compression {
    /// What is offered in the handshake.
    pub(crate) fn offers(self) -> &'static [Offer] {
        const PER_MESSAGE: &[Offer] = &[Offer::PerMessageDeflate(PerMessageOffer {
            // What the server deflates for one subscriber is then what it may send to all.
            server_no_context_takeover: true,
            client_no_context_takeover: false,
            server_max_window_bits: None,
            client_max_window_bits: ClientWindow::Fixed,
        })];
        match self {
            Compression::None => &[],
            Compression::PermessageDeflate => PER_MESSAGE,
            Compression::DeflateStream => &[Offer::DeflateStream],
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(word: &str) -> Result<Compression, String> {
        match word {
            "none" => Ok(Compression::None),
            "permessage-deflate" => Ok(Compression::PermessageDeflate),
            "deflate-stream" => Ok(Compression::DeflateStream),
            _ => Err("it is `permessage-deflate`, `deflate-stream` or `none`".to_owned()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::PermessageDeflate => "permessage-deflate",
            Compression::DeflateStream => "deflate-stream",
        })
    }
}
