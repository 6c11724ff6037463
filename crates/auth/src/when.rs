//! Time as tokens count it.

use std::fmt;

use time::OffsetDateTime;

/// A moment, in seconds since 1970-01-01 00:00:00 UTC.
///
/// Shown as RFC 3339 has it, `2026-01-31T13:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The end of the year 9999, the last that RFC 3339 can write.
    pub(crate) const LAST: UnixSeconds = UnixSeconds(253_402_300_799);

    /// That many seconds later.
    #[must_use]
    pub fn plus(self, seconds: u64) -> UnixSeconds {
        UnixSeconds(self.0.saturating_add(seconds))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = i64::try_from(self.0)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let Some(date) = date else {
            return write!(f, "{} s after 1970", self.0);
        };
        let (year, month, day) = date.to_calendar_date();
        let (hour, minute, second) = date.to_hms();
        write!(
            f,
            "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z",
            u8::from(month)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_as_rfc_3339_has_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (UnixSeconds::LAST.0, "9999-12-31T23:59:59Z"),
            (u64::MAX, "18446744073709551615 s after 1970"),
        ] {
            assert_eq!(UnixSeconds(seconds).to_string(), text);
        }
    }
}
