//! The broker's own WebSocket close codes.
//!
//! The codes of the WebSocket standards keep their meaning. These are from the range for private use and say one thing
//! more: whether coming back helps.
//!
//! - `4000..=4099`: come back, with back-off;
//! - `4100..=4199`: do not come back with the same request.

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $reason:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: u16 = $code;)+

        /// The words that go with one of our close codes; `None` for a code that is not ours.
        #[must_use]
        pub fn reason(code: u16) -> Option<&'static str> {
            match code {
                $($name => Some($reason),)+
                _ => None,
            }
        }

        #[cfg(test)]
        const ALL: &[(u16, &str)] = &[$(($name, $reason)),+];
    };
}

close_codes! {
    /// The client reads more slowly than its subscriptions deliver, past the limit of its queue.
    SLOW_CONSUMER = 4000, "slow consumer";
    /// This broker is about to stop; another one, or this one restarted, takes over.
    DRAINING = 4001, "draining";
    /// The client sent more than its rate allows.
    RATE_LIMITED = 4002, "rate limited";
    /// The broker is short of memory, descriptors or time.
    OVERLOADED = 4003, "overloaded";
    /// The credentials are missing or wrong.
    UNAUTHORIZED = 4100, "unauthorized";
    /// The credentials are good and do not permit this.
    FORBIDDEN = 4101, "forbidden";
    /// What the client sent on a raw connection is not what that connection carries, e.g. bad JSON with `kind=json`.
    BAD_REQUEST = 4102, "bad request";
    /// The token was good and its time is over; come back with a new one.
    TOKEN_EXPIRED = 4103, "token expired";
}

/// The words that go with `code`, which is one of ours.
///
/// # Panics
/// It is not.
#[must_use]
pub fn own_reason(code: u16) -> &'static str {
    reason(code).expect("one of our codes")
}

/// Whether a client closed with `code` should come back by itself, with back-off and unchanged.
///
/// True for our codes 4000 to 4099 and for the standard's codes that say nothing against it: 1001 (going away),
/// 1006 (lost without a Close frame), 1011 (internal error), 1012 (restart), 1013 (try again later).
#[must_use]
pub fn may_come_back(code: u16) -> bool {
    matches!(code, 4000..=4099 | 1001 | 1006 | 1011..=1013)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_a_documented_range_and_has_a_reason_that_fits_a_close_frame() {
        for &(code, words) in ALL {
            assert!((4000..=4199).contains(&code), "{code}");
            assert_eq!(reason(code), Some(words));
            // A control frame holds 125 bytes, two of them the code.
            assert!(words.len() <= 123, "{code}");
            assert_eq!(may_come_back(code), code < 4100, "{code}");
        }
    }

    #[test]
    fn a_code_of_the_standard_is_not_ours() {
        assert_eq!(reason(1000), None);
        assert!(!may_come_back(1000));
        assert!(!may_come_back(1002));
        assert!(may_come_back(1006));
    }
}
