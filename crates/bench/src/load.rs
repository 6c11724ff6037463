//! When things happen: a window, a rate, or a rate that changes.

use std::fmt;
use std::time::Duration;

use crate::clock::{Span, nanoseconds};
use crate::ledger::MAX_IN_FLIGHT;
use crate::plan::PlanError;

/// When publishers send, or whatever else the load consists of happens.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// Closed loop: so many in flight per connection, the next one when one is complete.
    Window(u32),
    /// Open loop: so many a second by all connections together, whether the broker keeps up or not.
    Rate(f64),
    /// Open loop at rates that change, one after the other.
    Steps(Vec<Segment>),
}

/// A part of [`Load::Steps`]: from one rate to another in a straight line, or one rate all the time.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Segment {
    /// A second, at its beginning.
    pub from: f64,
    /// A second, at its end.
    pub to: f64,
    /// How long it takes.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub length: Duration,
}

fn seconds<S: serde::Serializer>(length: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(length.as_secs_f64())
}

/// Rows of the table of steps that one segment with a changing rate gets.
const RAMP_ROWS: u32 = 10;
/// The most rows a table of steps has: each keeps latencies of its own, some 300 KB.
const MAX_STEPS: usize = 200;

impl Segment {
    /// So many happen until `elapsed` seconds of it.
    fn count(&self, elapsed: f64) -> f64 {
        let slope = (self.to - self.from) / self.length.as_secs_f64();
        self.from * elapsed + slope * elapsed * elapsed / 2.0
    }

    /// After how many seconds `count` have happened.
    fn time(&self, count: f64) -> f64 {
        let slope = (self.to - self.from) / self.length.as_secs_f64();
        // The solution of the quadratic that does not divide by the slope, which may be nothing.
        2.0 * count / (self.from + (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt())
    }
}

impl Load {
    /// Reads a load from a rate as it is written: `500`, `2.5k`, `1M`; steps `1k,2k,4k`, a ramp `1k..50k`, each with its
    /// length behind a slash (`1k/5s,1k..50k/10s`) or `length`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_rate(text: &str, length: Duration) -> Result<Load, String> {
        let usage = || {
            format!(
                "{text:?} is no rate: write one as 500 or 2.5k, steps as 1k,2k,4k, a ramp as 1k..50k, and how long each \
                 takes as 1k..50k/10s"
            )
        };
        let segment = |text: &str| -> Option<Segment> {
            let (rates, length) = match text.split_once('/') {
                Some((rates, length)) => (rates, parse_time(length)?),
                None => (text, length),
            };
            let (from, to) = match rates.split_once("..") {
                Some((from, to)) => (parse_number(from)?, parse_number(to)?),
                None => (parse_number(rates)?, parse_number(rates)?),
            };
            Some(Segment { from, to, length })
        };
        if let Some(rate) = parse_number(text) {
            return Ok(Load::Rate(rate));
        }
        let segments: Option<Vec<_>> = text.split(',').map(|part| segment(part.trim())).collect();
        segments.map(Load::Steps).ok_or_else(usage)
    }

    /// How long steps take together; nothing says how long other loads last.
    pub fn length(&self) -> Option<Duration> {
        match self {
            Load::Window(_) | Load::Rate(_) => None,
            Load::Steps(segments) => Some(segments.iter().map(|segment| segment.length).sum()),
        }
    }

    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let positive = |rate: f64| rate.is_finite() && rate > 0.0;
        match self {
            Load::Window(window) if *window == 0 || u64::from(*window) > MAX_IN_FLIGHT => {
                Err(PlanError::Window(*window))
            }
            Load::Rate(rate) if !positive(*rate) => Err(PlanError::Rate(rate.to_string())),
            Load::Steps(segments) => {
                let good =
                    |segment: &Segment| positive(segment.from) && positive(segment.to) && !segment.length.is_zero();
                if segments.is_empty() || !segments.iter().all(good) || self.rows().len() > MAX_STEPS {
                    return Err(PlanError::Steps(MAX_STEPS));
                }
                Ok(())
            }
            Load::Window(_) | Load::Rate(_) => Ok(()),
        }
    }

    /// The rows of the table of steps, if the load has some.
    pub(crate) fn rows(&self) -> Vec<Segment> {
        let Load::Steps(segments) = self else {
            return Vec::new();
        };
        let rows = |segment: &Segment| {
            let parts = if segment.from == segment.to { 1 } else { RAMP_ROWS };
            let Segment { from, to, length } = *segment;
            let at = move |part: u32| from + (to - from) * f64::from(part) / f64::from(parts);
            (0..parts).map(move |part| Segment {
                from: at(part),
                to: at(part + 1),
                length: length / parts,
            })
        };
        segments.iter().flat_map(rows).collect()
    }

    /// When event number `turn` (which need not be whole) of all connections together is due, in nanoseconds after the
    /// beginning; none for a window.
    #[inline]
    pub(crate) fn due(&self, turn: f64) -> Option<u64> {
        match self {
            Load::Window(_) => None,
            Load::Rate(rate) => Some((turn * 1e9 / rate) as u64),
            Load::Steps(segments) => Some(due_in(segments, turn)),
        }
    }

    /// The same load with a warm-up at its first rate before it.
    pub(crate) fn after(&self, warmup: Duration) -> Load {
        match self {
            Load::Steps(segments) if !warmup.is_zero() => {
                let first = segments.first().map_or(1.0, |segment| segment.from);
                let warmup = Segment {
                    from: first,
                    to: first,
                    length: warmup,
                };
                Load::Steps(std::iter::once(warmup).chain(segments.iter().copied()).collect())
            }
            _ => self.clone(),
        }
    }
}

fn due_in(segments: &[Segment], mut turn: f64) -> u64 {
    let mut start = 0;
    for (number, segment) in segments.iter().enumerate() {
        let count = segment.count(segment.length.as_secs_f64());
        // What is beyond the last one goes on at its rate; the run has ended by then.
        if turn < count || number + 1 == segments.len() {
            let within = if turn < count {
                segment.time(turn)
            } else {
                segment.length.as_secs_f64() + (turn - count) / segment.to
            };
            return start + (within * 1e9) as u64;
        }
        turn -= count;
        start += nanoseconds(segment.length);
    }
    start
}

/// The spans of the rows that follow each other from `start` on.
pub(crate) fn spans(rows: &[Segment], start: u64) -> Vec<Span> {
    let mut at = start;
    let span = |row: &Segment| {
        let begin = at;
        at += nanoseconds(row.length);
        begin..at
    };
    rows.iter().map(span).collect()
}

/// `500`, `2.5k`, `1M`.
fn parse_number(text: &str) -> Option<f64> {
    let (digits, unit) = match text.trim().as_bytes() {
        [digits @ .., b'k' | b'K'] => (digits, 1e3),
        [digits @ .., b'm' | b'M'] => (digits, 1e6),
        digits => (digits, 1.0),
    };
    let plain = digits.iter().all(|&byte| byte.is_ascii_digit() || byte == b'.');
    let digits = str::from_utf8(digits)
        .ok()
        .filter(|digits| plain && !digits.is_empty())?;
    Some(digits.parse::<f64>().ok()? * unit)
}

/// `10`, `10s`, `500ms`, `2m`.
pub(crate) fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (digits, unit) = if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1e-3)
    } else if let Some(digits) = text.strip_suffix("us").or_else(|| text.strip_suffix("µs")) {
        (digits, 1e-6)
    } else if let Some(digits) = text.strip_suffix('s') {
        (digits, 1.0)
    } else if let Some(digits) = text.strip_suffix('m') {
        (digits, 60.0)
    } else {
        (text, 1.0)
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = Some(digits).filter(|_| plain)?.parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok()
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Window(window) => write!(f, "{window} in flight each"),
            Load::Rate(rate) => write!(f, "{rate}/s"),
            Load::Steps(segments) => {
                for (number, segment) in segments.iter().enumerate() {
                    let comma = if number > 0 { ", " } else { "" };
                    write!(f, "{comma}{segment}/s for {:?}", segment.length)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}", self.from)
        } else {
            write!(f, "{}..{}", self.from, self.to)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn steps(text: &str) -> Vec<Segment> {
        match Load::parse_rate(text, TEN) {
            Ok(Load::Steps(segments)) => segments,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_rate_is_a_number_steps_or_ramps() {
        assert_eq!(Load::parse_rate("2.5k", TEN), Ok(Load::Rate(2_500.0)));
        assert_eq!(Load::parse_rate("1M", TEN), Ok(Load::Rate(1e6)));
        let segment = |from, to, seconds| Segment {
            from,
            to,
            length: Duration::from_secs(seconds),
        };
        assert_eq!(
            steps("1k, 2k/5s,4k..50k/2m"),
            [segment(1e3, 1e3, 10), segment(2e3, 2e3, 5), segment(4e3, 5e4, 120)]
        );
        assert_eq!(Load::Steps(steps("1k,2k/5s")).length(), Some(Duration::from_secs(15)));
        for text in ["", "k", "1..", "-1", "1k/", "1k/x", "1e3", "1k,,2k", "nan"] {
            let error = Load::parse_rate(text, TEN).unwrap_err();
            assert!(error.contains("1k..50k/10s"), "{text}: {error}");
        }
    }

    #[test]
    fn times_have_units_down_to_microseconds() {
        for (text, microseconds) in [
            ("10", 10_000_000),
            ("1.5s", 1_500_000),
            ("500ms", 500_000),
            ("250us", 250),
            ("2m", 120_000_000),
        ] {
            assert_eq!(parse_time(text), Some(Duration::from_micros(microseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1h", "1e3", "99999999999999999999999"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn on_a_ramp_as_much_happens_as_the_area_under_it() {
        let ramp = Load::Steps(steps("100..300/10s"));
        assert_eq!(ramp.due(0.0), Some(0));
        // 2,000 in all; half the time is over when 750 have happened, for the rate was 100 to 200 till then.
        assert_eq!(ramp.due(750.0), Some(5_000_000_000));
        let last = ramp.due(1_999.999_999).unwrap();
        assert!((9_999_999_000..=10_000_000_000).contains(&last), "{last}");
        let falling = Load::Steps(steps("300..100/10s"));
        assert_eq!(falling.due(1_250.0), Some(5_000_000_000));
    }

    #[test]
    fn steps_follow_each_other_without_a_gap_and_never_run_backwards() {
        let load = Load::Steps(steps("1k/1s,2k/1s,4k..1k/2s,50/1s"));
        assert_eq!(load.due(1_000.0), Some(1_000_000_000));
        assert_eq!(load.due(3_000.0), Some(2_000_000_000));
        assert_eq!(load.due(8_000.0), Some(4_000_000_000));
        let times: Vec<u64> = (0..8_100).map(|turn| load.due(f64::from(turn)).unwrap()).collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn a_ramp_has_ten_rows_and_a_step_one() {
        let rows = Load::Steps(steps("1k,1k..2k")).rows();
        assert_eq!(rows.len(), 11);
        assert_eq!((rows[1].from, rows[1].to, rows[10].to), (1e3, 1.1e3, 2e3));
        let spans = spans(&rows, 7);
        assert_eq!(spans[0], 7..10_000_000_007);
        assert_eq!(spans[1], 10_000_000_007..11_000_000_007);
        assert!(Load::Rate(1.0).rows().is_empty());
    }

    #[test]
    fn a_warm_up_runs_at_the_first_rate() {
        let load = Load::Steps(steps("100/1s,200/1s")).after(Duration::from_secs(2));
        assert_eq!(load.due(300.0), Some(3_000_000_000));
        assert_eq!(Load::Rate(5.0).after(TEN), Load::Rate(5.0));
    }

    #[test]
    fn loads_that_cannot_be_are_refused() {
        assert_eq!(Load::Window(0).check(), Err(PlanError::Window(0)));
        assert_eq!(Load::Window(65_537).check(), Err(PlanError::Window(65_537)));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Load::Rate(rate).check(), Err(PlanError::Rate(_))), "{rate}");
        }
        for text in ["0..5", "1k/0s,2k"] {
            assert!(Load::Steps(steps(text)).check().is_err(), "{text}");
        }
        assert_eq!(Load::Steps(steps("1,2..3")).check(), Ok(()));
    }
}
