//! Kinds of values: how each is written in a flag, in the environment and in TOML, and what it means.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

/// What stands for a secret where settings are shown.
const MASK: &str = "\"********\"";

/// A value as somebody wrote it.
#[derive(Clone, Debug)]
pub enum Written<'a> {
    /// On the command line or in the environment: once, or several times.
    Texts(&'a [&'a str]),
    /// In a file.
    Toml(&'a DeValue<'a>),
}

/// How a setting may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    One,
    /// Values, as an array, or with commas between them, or by giving the flag again.
    List,
    /// On or off; as a flag, without a value.
    Switch,
}

/// A kind of value.
pub trait Kind {
    /// What it is in the program.
    type Value: Clone + PartialEq;
    /// What has a range: the value, or each of several.
    type Item;

    /// What stands for it in the help.
    const NAME: &'static str;
    /// How it may be given.
    const SHAPE: Shape = Shape::One;
    /// Every value there can be, with what it means, where these are few.
    const CHOICES: &'static [(&'static str, &'static str)] = &[];

    /// The value of one text.
    fn from_text(text: &str) -> Result<Self::Value, String>;

    /// The value of whatever was written.
    fn read(written: &Written<'_>) -> Result<Self::Value, String> {
        match written {
            Written::Texts([text]) => Self::from_text(text),
            Written::Texts(texts) => Err(format!("give it once: it is there {} times", texts.len())),
            Written::Toml(value) => scalar(value).and_then(|text| Self::from_text(&text)),
        }
    }

    /// The value in TOML; none for one that is left open.
    fn write(value: &Self::Value) -> Option<String>;

    /// Calls `each` with what a range is about.
    fn items(value: &Self::Value, each: &mut dyn FnMut(&Self::Item));

    /// One of those in words.
    fn write_item(item: &Self::Item) -> String;
}

/// The text of a TOML value that is neither array nor table.
fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err("that number is too large".to_owned()),
        },
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(on) => Ok(on.to_string()),
        DeValue::Datetime(time) => Ok(time.to_string()),
        DeValue::Array(_) => Err("give one value, not an array".to_owned()),
        DeValue::Table(_) => Err("give one value, not a table".to_owned()),
    }
}

/// A TOML string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04x}", control as u32)),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The names of choices, as they are listed in an error.
fn names(choices: &[(&str, &str)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

// What most kinds have in common: one value, which is what has a range.
macro_rules! itself {
    () => {
        type Item = Self::Value;

        fn items(value: &Self::Value, each: &mut dyn FnMut(&Self::Item)) {
            each(value);
        }

        fn write_item(item: &Self::Item) -> String {
            Self::write(item).unwrap_or_default()
        }
    };
}

/// Reads bytes: `65536`, `64K`, `64KiB`, `1M`, `1MiB`, `1G`, `1GiB`. The units are powers of 1024.
///
/// # Errors
/// What to give instead.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let usage = || "give bytes as a whole number, with K, M or G for powers of 1024: 65536, 64K, 1MiB".to_owned();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(usage()),
    };
    let number: usize = number.parse().map_err(|_| usage())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is more bytes than this machine can address".to_owned())
}

/// Reads a span of time: `10` or `10s` are seconds, `500ms` milliseconds, `2m` minutes, `1h` hours, `1d` days; decimals
/// are allowed.
///
/// # Errors
/// What to give instead.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let usage = || "give a time as seconds, or with a unit: 10, 10s, 500ms, 2m, 1h, 1d".to_owned();
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let (number, seconds) = units
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))
        .unwrap_or((text, 1.0));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(usage());
    }
    let number: f64 = number.parse().map_err(|_| usage())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "that is too long".to_owned())
}

/// Bytes, see [`parse_bytes`].
pub struct Bytes;

impl Kind for Bytes {
    type Value = usize;
    const NAME: &'static str = "BYTES";
    itself!();

    fn from_text(text: &str) -> Result<usize, String> {
        parse_bytes(text)
    }

    fn write(value: &usize) -> Option<String> {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let fitting = units
            .iter()
            .find(|(shift, _)| *value >= 1 << shift && value.is_multiple_of(1 << shift));
        Some(match fitting {
            Some((shift, unit)) => format!("\"{}{unit}\"", value >> shift),
            None => value.to_string(),
        })
    }
}

/// A span of time, see [`parse_time`].
pub struct Time;

impl Kind for Time {
    type Value = Duration;
    const NAME: &'static str = "TIME";
    itself!();

    fn from_text(text: &str) -> Result<Duration, String> {
        parse_time(text)
    }

    fn write(value: &Duration) -> Option<String> {
        let milliseconds = value.as_millis();
        let units = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1000, "s"),
            (1, "ms"),
        ];
        let fitting = units
            .iter()
            .find(|(unit, _)| milliseconds >= *unit && milliseconds.is_multiple_of(*unit));
        Some(match fitting {
            Some((unit, name)) => format!("\"{}{name}\"", milliseconds / unit),
            None => "0".to_owned(),
        })
    }
}

/// A whole number.
pub struct Number<T>(PhantomData<T>);

impl<T: FromStr + Display + Clone + PartialEq> Kind for Number<T> {
    type Value = T;
    const NAME: &'static str = "N";
    itself!();

    fn from_text(text: &str) -> Result<T, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.ok_or_else(|| {
            if digits {
                "that number is too large".to_owned()
            } else {
                "give a whole number".to_owned()
            }
        })
    }

    fn write(value: &T) -> Option<String> {
        Some(value.to_string())
    }
}

/// On or off.
pub struct Switch;

impl Kind for Switch {
    type Value = bool;
    const NAME: &'static str = "true|false";
    const SHAPE: Shape = Shape::Switch;
    itself!();

    fn from_text(text: &str) -> Result<bool, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("give true or false".to_owned()),
        }
    }

    fn read(written: &Written<'_>) -> Result<bool, String> {
        match written {
            Written::Toml(DeValue::Boolean(on)) => Ok(*on),
            Written::Texts([text]) => Self::from_text(text),
            _ => Err("give true or false, without quotes".to_owned()),
        }
    }

    fn write(value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// Any text.
pub struct Text;

impl Kind for Text {
    type Value = String;
    const NAME: &'static str = "TEXT";
    itself!();

    fn from_text(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn write(value: &String) -> Option<String> {
        Some(quoted(value))
    }
}

/// Text that is never shown.
pub struct Secret;

impl Kind for Secret {
    type Value = String;
    const NAME: &'static str = "SECRET";
    itself!();

    fn from_text(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn write(_: &String) -> Option<String> {
        Some(MASK.to_owned())
    }
}

/// The path of a file.
pub struct File;

impl Kind for File {
    type Value = PathBuf;
    const NAME: &'static str = "FILE";
    itself!();

    fn from_text(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("give the path of a file".to_owned());
        }
        Ok(text.into())
    }

    fn write(value: &PathBuf) -> Option<String> {
        Some(quoted(&value.to_string_lossy()))
    }
}

/// A type whose values are written as it displays and parses them.
pub struct Parsed<T>(PhantomData<T>);

/// What [`Parsed`] needs to know of a type.
pub trait Parse: FromStr<Err: Display> + Display + Clone + PartialEq {
    /// What stands for it in the help.
    const NAME: &'static str;
}

impl<T: Parse> Kind for Parsed<T> {
    type Value = T;
    const NAME: &'static str = T::NAME;
    itself!();

    fn from_text(text: &str) -> Result<T, String> {
        text.parse().map_err(|error: T::Err| error.to_string())
    }

    fn write(value: &T) -> Option<String> {
        Some(quoted(&value.to_string()))
    }
}

/// One of few.
pub struct Choice<T>(PhantomData<T>);

/// What [`Choice`] needs to know of a type.
pub trait Choose: Copy + PartialEq + 'static {
    /// What stands for it in the help.
    const NAME: &'static str;
    /// Names and what they mean, in the order of [`Choose::VALUES`].
    const CHOICES: &'static [(&'static str, &'static str)];
    /// The values.
    const VALUES: &'static [Self];
}

impl<T: Choose> Kind for Choice<T> {
    type Value = T;
    const NAME: &'static str = T::NAME;
    const CHOICES: &'static [(&'static str, &'static str)] = T::CHOICES;
    itself!();

    fn from_text(text: &str) -> Result<T, String> {
        let found = T::CHOICES.iter().position(|(name, _)| *name == text);
        let found = found.ok_or_else(|| format!("give one of {}", names(T::CHOICES)))?;
        Ok(T::VALUES[found])
    }

    fn write(value: &T) -> Option<String> {
        let index = T::VALUES.iter().position(|other| other == value)?;
        Some(quoted(T::CHOICES[index].0))
    }
}

/// Several.
pub struct List<K>(PhantomData<K>);

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;
    type Item = K::Item;
    const NAME: &'static str = K::NAME;
    const SHAPE: Shape = Shape::List;
    const CHOICES: &'static [(&'static str, &'static str)] = K::CHOICES;

    fn from_text(text: &str) -> Result<Vec<K::Value>, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(K::from_text).collect()
    }

    fn read(written: &Written<'_>) -> Result<Vec<K::Value>, String> {
        match written {
            Written::Texts(texts) => {
                let lists: Result<Vec<_>, _> = texts.iter().map(|text| Self::from_text(text)).collect();
                Ok(lists?.into_iter().flatten().collect())
            }
            Written::Toml(DeValue::Array(items)) => items
                .iter()
                .map(|item| K::read(&Written::Toml(item.get_ref())))
                .collect(),
            // One that stands for itself.
            Written::Toml(_) => Ok(vec![K::read(written)?]),
        }
    }

    fn write(value: &Vec<K::Value>) -> Option<String> {
        let items: Vec<_> = value.iter().filter_map(K::write).collect();
        Some(format!("[{}]", items.join(", ")))
    }

    fn items(value: &Vec<K::Value>, each: &mut dyn FnMut(&K::Item)) {
        value.iter().for_each(|item| K::items(item, each));
    }

    fn write_item(item: &K::Item) -> String {
        K::write_item(item)
    }
}

/// Something that can be left open.
pub struct Maybe<K>(PhantomData<K>);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;
    type Item = K::Item;
    const NAME: &'static str = K::NAME;
    const SHAPE: Shape = K::SHAPE;
    const CHOICES: &'static [(&'static str, &'static str)] = K::CHOICES;

    fn from_text(text: &str) -> Result<Option<K::Value>, String> {
        K::from_text(text).map(Some)
    }

    fn read(written: &Written<'_>) -> Result<Option<K::Value>, String> {
        K::read(written).map(Some)
    }

    fn write(value: &Option<K::Value>) -> Option<String> {
        value.as_ref().and_then(K::write)
    }

    fn items(value: &Option<K::Value>, each: &mut dyn FnMut(&K::Item)) {
        if let Some(value) = value {
            K::items(value, each);
        }
    }

    fn write_item(item: &K::Item) -> String {
        K::write_item(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_with_units_of_1024() {
        for (text, bytes, written) in [
            ("0", 0, "0"),
            ("65536", 65_536, "\"64KiB\""),
            ("12b", 12, "12"),
            ("64K", 65_536, "\"64KiB\""),
            ("64k", 65_536, "\"64KiB\""),
            ("1KiB", 1024, "\"1KiB\""),
            ("1025", 1025, "1025"),
            ("1M", 1 << 20, "\"1MiB\""),
            ("1MiB", 1 << 20, "\"1MiB\""),
            ("2G", 2 << 30, "\"2GiB\""),
        ] {
            assert_eq!(Bytes::from_text(text), Ok(bytes), "{text}");
            assert_eq!(Bytes::write(&bytes).unwrap(), written);
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
            assert!(Bytes::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_seconds_unless_they_say_otherwise() {
        for (text, milliseconds, written) in [
            ("10", 10_000, "\"10s\""),
            ("10s", 10_000, "\"10s\""),
            ("500ms", 500, "\"500ms\""),
            ("0.5", 500, "\"500ms\""),
            ("1.5s", 1_500, "\"1500ms\""),
            ("2m", 120_000, "\"2m\""),
            ("1h", 3_600_000, "\"1h\""),
            ("1.5d", 129_600_000, "\"36h\""),
            ("0", 0, "0"),
        ] {
            assert_eq!(Time::from_text(text), Ok(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(Time::write(&Duration::from_millis(milliseconds)).unwrap(), written);
        }
        for text in [
            "",
            "s",
            "ms",
            "-1",
            "1w",
            "1e3",
            "inf",
            "nan",
            "1..2",
            "1 s",
            "99999999999999999999999",
        ] {
            assert!(Time::from_text(text).is_err(), "{text}");
        }
    }

    fn from_toml<K: Kind>(text: &str) -> Result<K::Value, String> {
        let value = DeValue::parse(text).unwrap();
        K::read(&Written::Toml(value.get_ref()))
    }

    #[test]
    fn a_value_is_the_same_in_a_file_and_on_the_command_line() {
        assert_eq!(from_toml::<Bytes>("65_536"), Ok(65_536));
        assert_eq!(from_toml::<Bytes>("0x10"), Ok(16));
        assert_eq!(from_toml::<Bytes>("\"64K\""), Ok(65_536));
        assert_eq!(from_toml::<Time>("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(from_toml::<Switch>("true"), Ok(true));
        assert_eq!(from_toml::<List<Number<u8>>>("[13, 8]"), Ok(vec![13, 8]));
        assert_eq!(from_toml::<List<Number<u8>>>("13"), Ok(vec![13]));
        assert_eq!(
            <List<Number<u8>>>::read(&Written::Texts(&["13,8", "7"])),
            Ok(vec![13, 8, 7])
        );
        assert_eq!(<Maybe<Text>>::read(&Written::Texts(&["a"])), Ok(Some("a".to_owned())));
    }

    #[test]
    fn what_is_of_another_kind_is_refused_with_what_to_give() {
        for (result, word) in [
            (from_toml::<Bytes>("[1]").err(), "not an array"),
            (from_toml::<Bytes>("{a = 1}").err(), "not a table"),
            (from_toml::<Bytes>("true").err(), "whole number"),
            (from_toml::<Switch>("\"true\"").err(), "without quotes"),
            (from_toml::<Switch>("1").err(), "true or false"),
            (from_toml::<Number<u8>>("300").err(), "too large"),
            (from_toml::<Number<u8>>("-1").err(), "whole number"),
            (from_toml::<List<Number<u8>>>("[1, \"x\"]").err(), "whole number"),
            (Bytes::read(&Written::Texts(&["1", "2"])).err(), "2 times"),
        ] {
            let error = result.expect(word);
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn a_secret_is_read_and_never_shown() {
        assert_eq!(Secret::from_text("hunter2"), Ok("hunter2".to_owned()));
        assert!(!Secret::write(&"hunter2".to_owned()).unwrap().contains("hunter2"));
    }

    #[test]
    fn text_is_quoted_so_that_toml_reads_the_same() {
        for text in ["", "plain", "a \"quoted\" \\ one", "line\nbreak\u{7f}", "ä€"] {
            assert_eq!(from_toml::<Text>(&quoted(text)), Ok(text.to_owned()));
        }
    }
}
