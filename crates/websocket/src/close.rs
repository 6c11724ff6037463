//! The body of a Close.

use crate::dialect::Dialect;
use crate::error::Error;

/// The code and the reason in the body of a Close.
pub(crate) fn parse_close<'a>(dialect: &Dialect, body: &'a [u8]) -> Result<(Option<u16>, &'a str), Error> {
    let Some((code, reason)) = body.split_first_chunk() else {
        //= RFC 6455#section-5.5.1
        //# If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer
        //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.1
        //# the first two bytes of the body MUST be a 2-byte integer (in network byte order)
        return if body.is_empty() {
            Ok((None, ""))
        } else {
            Err(Error::ShortClose)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !dialect.any_close_code && !dialect.has_close_code(code) {
        return Err(Error::InvalidCloseCode(code));
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Error::InvalidReason)?;
    Ok((Some(code), reason))
}
