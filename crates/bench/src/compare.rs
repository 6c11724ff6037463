//! Two reports side by side.

use std::fmt::Write;

use serde_json::Value;

use crate::text::{grouped, time};

/// How a number is written.
#[derive(Clone, Copy)]
enum Unit {
    Count,
    Microseconds,
    Seconds,
    Bytes,
}

/// The rows of the table: what it is called, where it stands in the JSON, its unit.
const ROWS: [(&str, &str, Unit); 19] = [
    ("deliveries/s", "/deliveries_per_second", Unit::Count),
    ("published/s", "/published_per_second", Unit::Count),
    ("delivery p50", "/latency_microseconds/p50", Unit::Microseconds),
    ("delivery p90", "/latency_microseconds/p90", Unit::Microseconds),
    ("delivery p99", "/latency_microseconds/p99", Unit::Microseconds),
    ("delivery p99.9", "/latency_microseconds/p999", Unit::Microseconds),
    ("delivery max", "/latency_microseconds/max", Unit::Microseconds),
    ("operations/s", "/operations/per_second", Unit::Count),
    (
        "operation p50",
        "/operations/latency_microseconds/p50",
        Unit::Microseconds,
    ),
    (
        "operation p99",
        "/operations/latency_microseconds/p99",
        Unit::Microseconds,
    ),
    (
        "operation p99.9",
        "/operations/latency_microseconds/p999",
        Unit::Microseconds,
    ),
    (
        "operation max",
        "/operations/latency_microseconds/max",
        Unit::Microseconds,
    ),
    ("opened/s", "/opening/per_second", Unit::Count),
    ("opening p99", "/opening/latency_microseconds/p99", Unit::Microseconds),
    (
        "server CPU s/million",
        "/server/cpu_seconds_per_million_deliveries",
        Unit::Seconds,
    ),
    ("server CPU s", "/server/cpu_seconds", Unit::Seconds),
    ("server resident", "/server/resident_bytes", Unit::Bytes),
    (
        "resident/connection",
        "/server/resident_bytes_per_connection",
        Unit::Bytes,
    ),
    ("generator CPU s", "/generator/cpu_seconds", Unit::Seconds),
];

/// Numbers of a step that are compared.
const STEP_ROWS: [(&str, &str, Unit); 4] = [
    ("deliveries/s", "/deliveries_per_second", Unit::Count),
    ("delivery p99", "/latency_microseconds/p99", Unit::Microseconds),
    ("operations/s", "/operations/per_second", Unit::Count),
    (
        "operation p99",
        "/operations/latency_microseconds/p99",
        Unit::Microseconds,
    ),
];

/// Two reports that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A text is no JSON.
    #[error("{name} is no report: {source}")]
    Json {
        /// What the text is called.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A text is JSON, but no report.
    #[error("{0} is no report of bench: it has no setup")]
    NoReport(String),
}

/// A table of what two reports measured, each a name and its JSON, with the second as a multiple of the first; and before it
/// what makes the comparison doubtful: setups that differ, saturated generators, faults.
///
/// # Errors
/// One of them is no report.
pub fn compare(a: (&str, &str), b: (&str, &str)) -> Result<String, CompareError> {
    let read = |(name, text): (&str, &str)| {
        let value: Value = serde_json::from_str(text).map_err(|source| CompareError::Json {
            name: name.to_owned(),
            source,
        })?;
        match value.get("setup") {
            Some(Value::Object(_)) => Ok(value),
            _ => Err(CompareError::NoReport(name.to_owned())),
        }
    };
    let (first, second) = (read(a)?, read(b)?);
    let mut text = String::new();
    write_setups(&mut text, &first["setup"], &second["setup"]);
    for (name, report) in [(a.0, &first), (b.0, &second)] {
        write_doubts(&mut text, name, report);
    }
    writeln!(text, "{:<22} {:>15} {:>15} {:>9}", "", "A", "B", "B/A").expect(MEMORY);
    write_rows(&mut text, &ROWS, &first, &second);
    let steps = |report: &Value| report["steps"].as_array().cloned().unwrap_or_default();
    for (first, second) in steps(&first).iter().zip(&steps(&second)) {
        writeln!(text, "step {} to {}", first["from"], first["to"]).expect(MEMORY);
        write_rows(&mut text, &STEP_ROWS, first, second);
    }
    Ok(text)
}

const MEMORY: &str = "memory takes any write";

fn write_setups(text: &mut String, a: &Value, b: &Value) {
    let empty = serde_json::Map::new();
    let (a, b) = (a.as_object().unwrap_or(&empty), b.as_object().unwrap_or(&empty));
    for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
        let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        // Where the broker was is bound to differ.
        if name != "url" && a.get(name) != b.get(name) {
            writeln!(
                text,
                "differs: {name} {} and {}",
                shown(a.get(name)),
                shown(b.get(name))
            )
            .expect(MEMORY);
        }
    }
}

fn write_doubts(text: &mut String, name: &str, report: &Value) {
    if report["generator"]["saturated"] == true {
        writeln!(text, "doubtful: the generator of {name} was saturated").expect(MEMORY);
    }
    let faults = report["faults"].as_object();
    let any = faults.is_some_and(|faults| faults.values().any(|count| count.as_u64() != Some(0)));
    let errors = report["errors"].as_array().is_some_and(|errors| !errors.is_empty());
    if any || errors {
        writeln!(text, "doubtful: {name} has faults or errors").expect(MEMORY);
    }
}

fn write_rows(text: &mut String, rows: &[(&str, &str, Unit)], a: &Value, b: &Value) {
    for (name, pointer, unit) in rows {
        let number = |report: &Value| report.pointer(pointer).and_then(Value::as_f64);
        let (Some(a), Some(b)) = (number(a), number(b)) else {
            continue;
        };
        if a == 0.0 && b == 0.0 {
            continue;
        }
        let ratio = if a > 0.0 {
            format!("{:.3}", b / a)
        } else {
            "-".to_owned()
        };
        writeln!(text, "{name:<22} {:>15} {:>15} {ratio:>9}", unit.show(a), unit.show(b)).expect(MEMORY);
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Count => grouped(value as u64),
            Unit::Microseconds => time(value),
            Unit::Seconds => format!("{value:.3}"),
            Unit::Bytes => format!("{} B", grouped(value as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use crate::report::tests::report;

    fn row(table: &str, name: &str) -> Vec<String> {
        let line = table
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{table}"));
        line[name.len()..].split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_second_report_is_shown_as_a_multiple_of_the_first() {
        let mut faster = report();
        faster.deliveries_per_second *= 1.25;
        faster.latency.p99 /= 2.0;
        let table = compare(("a", &report().to_json()), ("b", &faster.to_json())).unwrap();
        assert_eq!(row(&table, "deliveries/s"), ["4,000,000", "5,000,000", "1.250"]);
        assert_eq!(row(&table, "delivery p99 "), ["2.00", "ms", "1.00", "ms", "0.500"]);
        assert!(!table.contains("differs") && !table.contains("doubtful"), "{table}");
        assert!(
            !table.contains("opened/s"),
            "what was not measured is left out: {table}"
        );
    }

    #[test]
    fn what_makes_a_comparison_doubtful_is_said() {
        let mut other = report();
        other.setup.size = 1024;
        other.generator.saturated = true;
        other.faults.lost = 1;
        let table = compare(("x.json", &report().to_json()), ("y.json", &other.to_json())).unwrap();
        assert!(table.contains("differs: size 128 and 1024"), "{table}");
        assert!(
            table.contains("doubtful: the generator of y.json was saturated"),
            "{table}"
        );
        assert!(table.contains("doubtful: y.json has faults"), "{table}");
        assert!(!table.contains("x.json"), "{table}");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let good = Report::to_json(&report());
        assert!(matches!(
            compare(("a", "{"), ("b", &good)),
            Err(CompareError::Json { .. })
        ));
        let error = compare(("a", &good), ("b", "{}")).unwrap_err();
        assert_eq!(error.to_string(), "b is no report of bench: it has no setup");
    }
}
