//! What a peer can do wrong, and the close code that tells it so.

use thiserror::Error;

use crate::code;

/// How the peer broke the protocol. All of these are the peer's doing, but for [`Error::NoInflater`].
///
/// [`Connection`]: crate::Connection
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// A client sent a frame that is not masked.
    #[error("the client's frame is not masked")]
    NotMasked,
    /// A server sent a masked frame.
    #[error("the server's frame is masked")]
    Masked,
    /// A reserved bit is set, and no extension that was negotiated gives it a meaning.
    #[error("a reserved bit is set, but no extension was negotiated")]
    ReservedBits,
    /// The opcode, as on the wire, is reserved.
    #[error("opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    /// A control frame is a fragment.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame has more than 125 octets of payload.
    #[error("a control frame is longer than 125 octets")]
    LongControl,
    /// A length is written longer than need be.
    #[error("a length is not in its shortest form")]
    LongLengthForm,
    /// The most significant bit of a 64-bit length is set.
    #[error("a length has its most significant bit set")]
    LengthSign,
    /// A continuation frame, and no message to continue.
    #[error("a continuation frame continues nothing")]
    NothingToContinue,
    /// A new message begins before the last fragment of the one before.
    #[error("a new message begins inside a fragmented one")]
    UnfinishedMessage,
    /// A Close body of one octet.
    #[error("the body of a Close is a single octet")]
    ShortClose,
    /// A Close with a code that must not be on the wire.
    #[error("close code {0} is not allowed on the wire")]
    InvalidCloseCode(u16),
    /// The reason in a Close is not UTF-8.
    #[error("the reason in a Close is not UTF-8")]
    InvalidReason,
    /// A text message is not UTF-8.
    #[error("a text message is not UTF-8")]
    InvalidText,
    /// A message announces itself larger than the limit, in octets.
    #[error("a message is larger than {limit} octets")]
    MessageTooBig {
        /// The largest message accepted, in octets.
        limit: u32,
    },
    /// A message comes in more fragments than the limit.
    #[error("a message has more than {limit} fragments")]
    TooManyFragments {
        /// The most fragments accepted for one message.
        limit: u32,
    },
    /// More control frames came in a second than the limit.
    #[error("more than {limit} control frames came in a second")]
    TooManyControlFrames {
        /// The most accepted in a second.
        limit: u16,
    },
    /// What should be deflated data is not. It is answered like text that is not UTF-8: the frames are fine, their
    /// payload is not consistent with what was agreed about it.
    #[error("compressed data cannot be inflated")]
    InvalidDeflate,
    /// Compressed data inflates by more than the limit.
    #[error("compressed data inflates to more than {limit} times its size")]
    InflateRatio {
        /// The most times its size that data may inflate to.
        limit: u16,
    },
    /// The peer sent compressed data, and all inflaters of the [`InflatePool`](crate::InflatePool) are in use.
    #[error("no memory is left to inflate compressed data")]
    NoInflater,
}

impl Error {
    /// The close code of RFC 6455 for this error. [`Connection::fail`] sends what the connection's version has for it.
    ///
    /// [`Connection::fail`]: crate::Connection::fail
    #[must_use]
    pub fn close_code(&self) -> u16 {
        match self {
            Error::NotMasked
            | Error::Masked
            | Error::ReservedBits
            | Error::ReservedOpcode(_)
            | Error::FragmentedControl
            | Error::LongControl
            | Error::LongLengthForm
            | Error::LengthSign
            | Error::NothingToContinue
            | Error::UnfinishedMessage
            | Error::ShortClose
            | Error::InvalidCloseCode(_) => code::PROTOCOL_ERROR,
            Error::InvalidReason | Error::InvalidText | Error::InvalidDeflate => code::INVALID_PAYLOAD,
            Error::MessageTooBig { .. } => code::TOO_BIG,
            Error::TooManyFragments { .. } | Error::TooManyControlFrames { .. } | Error::InflateRatio { .. } => {
                code::POLICY
            }
            Error::NoInflater => code::TRY_AGAIN_LATER,
        }
    }
}
