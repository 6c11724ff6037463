//! Conditions under which a run fails although everything came: `p99>5ms`.

use std::fmt;
use std::str::FromStr;

use crate::load::parse_time;
use crate::report::{Latency, Report};
use crate::text::time;

/// A condition under which a run fails, such as `p99>5ms` or `rate<100000`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    text: String,
    metric: Metric,
    above: bool,
    /// Microseconds, or what else the metric is in.
    limit: f64,
}

/// A number of a report.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    /// Of what the scenario is about, of deliveries, or of the opening.
    Latency(Of, Quantile),
    Rate(Of),
    CpuPerMillion,
    Resident,
    ResidentPerConnection,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    Subject,
    Deliveries,
    Opening,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantile {
    P50,
    P90,
    P99,
    P999,
    Max,
}

const USAGE: &str = "write a condition as METRIC>LIMIT or METRIC<LIMIT; the metrics are p50, p90, p99, p99.9 and max (limits \
                     like 5ms or 250us) and rate (a second), of the scenario's own subject or, as deliveries.p99 or \
                     opening.rate, of deliveries or the opening of connections; and of the server cpu (seconds per \
                     million), resident and resident-per-connection (bytes)";

impl Metric {
    fn parse(text: &str) -> Option<Metric> {
        let (of, name) = match text.split_once('.') {
            Some(("deliveries", name)) => (Of::Deliveries, name),
            Some(("opening", name)) => (Of::Opening, name),
            _ => (Of::Subject, text),
        };
        let quantile = match name {
            "rate" => return Some(Metric::Rate(of)),
            "p50" => Quantile::P50,
            "p90" => Quantile::P90,
            "p99" => Quantile::P99,
            "p99.9" | "p999" => Quantile::P999,
            "max" => Quantile::Max,
            "cpu" if of == Of::Subject => return Some(Metric::CpuPerMillion),
            "resident" if of == Of::Subject => return Some(Metric::Resident),
            "resident-per-connection" if of == Of::Subject => return Some(Metric::ResidentPerConnection),
            _ => return None,
        };
        Some(Metric::Latency(of, quantile))
    }

    /// Its value; none if the run did not measure it.
    fn value(self, report: &Report) -> Option<f64> {
        match self {
            Metric::Latency(of, quantile) => {
                let latency = match (of, &report.operations) {
                    (Of::Subject, Some(operations)) => &operations.latency,
                    (Of::Subject, None) | (Of::Deliveries, _) => &report.latency,
                    (Of::Opening, _) => &report.opening.as_ref()?.latency,
                };
                (latency.samples > 0).then(|| quantile.value(latency))
            }
            Metric::Rate(Of::Subject) => Some(match &report.operations {
                Some(operations) => operations.per_second,
                None => report.deliveries_per_second,
            }),
            Metric::Rate(Of::Deliveries) => Some(report.deliveries_per_second),
            Metric::Rate(Of::Opening) => Some(report.opening.as_ref()?.per_second),
            Metric::CpuPerMillion => Some(report.server.as_ref()?.cpu_seconds_per_million_deliveries),
            Metric::Resident => Some(report.server.as_ref()?.resident_bytes as f64),
            Metric::ResidentPerConnection => report.server.as_ref()?.resident_bytes_per_connection,
        }
    }
}

impl Quantile {
    /// In microseconds.
    fn value(self, latency: &Latency) -> f64 {
        match self {
            Quantile::P50 => latency.p50,
            Quantile::P90 => latency.p90,
            Quantile::P99 => latency.p99,
            Quantile::P999 => latency.p999,
            Quantile::Max => latency.max,
        }
    }
}

impl Gate {
    /// Why the run that `report` is of fails, if it does. What was not measured fails too: a gate that is never asked would
    /// always be open.
    pub fn fails(&self, report: &Report) -> Option<String> {
        let Some(value) = self.metric.value(report) else {
            return Some(format!("{} cannot be judged: the run did not measure it", self.text));
        };
        let fails = if self.above {
            value > self.limit
        } else {
            value < self.limit
        };
        let shown = match self.metric {
            Metric::Latency(..) => time(value),
            _ => format!("{value:.3}"),
        };
        fails.then(|| format!("{} holds: it is {shown}", self.text))
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Gate, String> {
        let parse = || {
            let at = text.find(['>', '<'])?;
            let (name, limit) = (text[..at].trim(), text[at + 1..].trim());
            let metric = Metric::parse(name)?;
            let limit = match metric {
                Metric::Latency(..) => parse_time(limit)?.as_secs_f64() * 1e6,
                _ => limit.parse().ok().filter(|limit: &f64| limit.is_finite())?,
            };
            Some(Gate {
                text: text.to_owned(),
                metric,
                above: text.as_bytes()[at] == b'>',
                limit,
            })
        };
        parse().ok_or_else(|| USAGE.to_owned())
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use crate::report::{OperationsReport, Server};

    fn fails(gate: &str, report: &Report) -> bool {
        gate.parse::<Gate>().unwrap().fails(report).is_some()
    }

    #[test]
    fn a_condition_that_holds_fails_the_run_and_says_by_how_much() {
        // p99 is 2,000 µs, four million deliveries a second.
        let report = report();
        assert!(fails("p99>1.9ms", &report) && !fails("p99>2ms", &report));
        assert!(!fails("p99.9 > 2s", &report) && fails("max>1s", &report));
        assert!(fails("rate<5000000", &report) && !fails("rate<4000000", &report));
        assert!(fails("cpu>0.19", &report) && fails("resident>1000000", &report));
        let gate: Gate = "p99>1ms".parse().unwrap();
        assert_eq!(gate.fails(&report).unwrap(), "p99>1ms holds: it is 2.00 ms");
        assert_eq!(gate.to_string(), "p99>1ms");
    }

    #[test]
    fn the_subject_of_a_run_of_commands_is_its_commands() {
        let mut report = report();
        report.operations = Some(OperationsReport {
            kind: "commands",
            count: 1,
            per_second: 10.0,
            failed: 0,
            unanswered: 0,
            latency: Latency {
                p99: 7.0,
                samples: 1,
                ..Latency::default()
            },
        });
        assert!(fails("p99>6us", &report) && !fails("p99>8us", &report));
        assert!(fails("deliveries.p99>1ms", &report));
        assert!(fails("rate<11", &report) && !fails("deliveries.rate<11", &report));
    }

    #[test]
    fn what_was_not_measured_fails() {
        let report = Report {
            server: None::<Server>,
            ..report()
        };
        assert!(fails("cpu>1", &report) && fails("opening.p50>1s", &report));
        assert!(fails("resident-per-connection>1", &report));
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_one_is() {
        for text in [
            "",
            "p99",
            "p98>1ms",
            "p99>fast",
            "p99=1ms",
            "rate<1ms",
            "opening.cpu>1",
            "rate>inf",
        ] {
            let error = text.parse::<Gate>().unwrap_err();
            assert!(error.contains("METRIC>LIMIT"), "{text}");
        }
    }
}
