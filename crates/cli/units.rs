//! Sizes and durations on the command line.

use std::time::Duration;

/// Bytes: `65536`, `64K`, `64KiB`, `1M`, `1MiB`, `1G`, `1GiB`. The units are powers of 1024.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => {
            return Err("give bytes as a whole number, with K, M or G for powers of 1024: 65536, 64K, 1MiB".to_owned());
        }
    };
    let number: usize = number
        .parse()
        .map_err(|_| "give bytes as a whole number: 65536, 64K, 1MiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is more bytes than this machine can address".to_owned())
}

/// A span of time: `10` or `10s` are seconds, `500ms` milliseconds, `2m` minutes; decimals are allowed.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let usage = || "give a time as seconds, or with a unit: 10, 10s, 500ms, 2m".to_owned();
    let (number, seconds) = match text {
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 0.001),
        _ if text.ends_with('s') => (&text[..text.len() - 1], 1.0),
        _ if text.ends_with('m') => (&text[..text.len() - 1], 60.0),
        _ => (text, 1.0),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(usage());
    }
    let number: f64 = number.parse().map_err(|_| usage())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_with_units_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("12b", 12),
            ("64K", 65_536),
            ("64k", 65_536),
            ("1KiB", 1024),
            ("1M", 1 << 20),
            ("1MiB", 1 << 20),
            ("2G", 2 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "K",
            "-1",
            "+1",
            "1.5M",
            "1 M",
            "1X",
            "1KK",
            "64KB",
            "99999999999G",
            "１",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_unless_they_say_otherwise() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("0.5", 500),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "ms",
            "-1",
            "1h",
            "1e3",
            "inf",
            "nan",
            "1..2",
            "1 s",
            "99999999999999999999999",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
