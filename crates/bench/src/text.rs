//! A report as a person reads it.

use std::fmt;

use crate::check::Faults;
use crate::compression::Compression;
use crate::report::{Generator, Latency, Opening, OperationsReport, Report, Setup, StepReport};
use crate::scenario::Scenario;

/// What stands in the left column takes so many characters.
const LABEL: usize = 13;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.setup)?;
        if let Some(opening) = &self.opening
            && matches!(self.setup.scenario, Scenario::Idle { .. })
        {
            write_opening(f, opening)?;
        }
        if let Some(tls) = &self.tls {
            write!(
                f,
                "tls          {}, {} resumed",
                counted(tls.full, "full handshake"),
                grouped(tls.resumed)
            )?;
            for (suite, count) in &tls.suites {
                write!(f, " · {suite}: {}", grouped(*count))?;
            }
            writeln!(f)?;
        }
        if let Some(operations) = &self.operations {
            write_operations(f, operations, self.seconds)?;
        }
        if matches!(self.setup.scenario, Scenario::Ingest { .. }) {
            self.write_intake(f)?;
        } else if self.setup.publishers > 0 {
            self.write_deliveries(f)?;
        }
        if !self.steps.is_empty() {
            write_steps(f, &self.steps)?;
        }
        if let Some(slow) = &self.slow {
            writeln!(
                f,
                "slow         {}, {} still open · {} messages kept for them · {} lag notices for {} messages",
                counted(slow.connections, "subscriber"),
                grouped(slow.still_open),
                grouped(slow.deliveries),
                grouped(slow.lag_notices),
                grouped(slow.lagged_messages)
            )?;
            for (how, count) in &slow.closed {
                writeln!(f, "{:LABEL$}{} closed with {how}", "", grouped(*count))?;
            }
        }
        self.write_processes(f)?;
        for error in &self.errors {
            writeln!(f, "error        {error}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_deliveries(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "deliveries   {:>13}/s   {} in {:.2} s",
            grouped(self.deliveries_per_second as u64),
            grouped(self.deliveries),
            self.seconds
        )?;
        writeln!(
            f,
            "throughput   {:>10.2} MB/s   payload; {:.2} MB/s as WebSocket frames",
            self.payload_megabytes_per_second, self.wire_megabytes_per_second
        )?;
        self.write_published(f)?;
        writeln!(f, "latency      {}", self.latency)?;
        let Faults {
            lost,
            duplicated,
            reordered,
            corrupt,
        } = self.faults;
        write!(
            f,
            "check        lost {lost} · duplicated {duplicated} · reordered {reordered}"
        )?;
        if corrupt > 0 {
            write!(f, " · corrupt {corrupt}")?;
        }
        if self.foreign > 0 {
            write!(f, " · foreign messages {}", self.foreign)?;
        }
        writeln!(f)
    }

    fn write_intake(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "throughput   {:>10.2} MB/s   payload",
            self.payload_megabytes_per_second
        )?;
        self.write_published(f)
    }

    fn write_published(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "published    {:>13}/s   {}",
            grouped(self.published_per_second as u64),
            grouped(self.published)
        )
    }

    fn write_processes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "generator    {:.2} CPU s, busiest thread {:.0} %, waiting for a core {:.0} %{}",
            self.generator.cpu_seconds,
            self.generator.busiest_thread * 100.0,
            self.generator.waited_for_core * 100.0,
            match &self.generator {
                Generator { saturated: false, .. } => "",
                Generator {
                    waited_for_core,
                    busiest_thread,
                    ..
                } if waited_for_core > busiest_thread => ": generator saturated, other processes have its cores",
                _ => ": generator saturated, use more --threads or cores",
            }
        )?;
        if let Some(why) = &self.machine.without_io_uring {
            writeln!(f, "             with epoll, which takes more of its time: {why}")?;
        }
        let Some(server) = &self.server else { return Ok(()) };
        write!(
            f,
            "server       {:.2} CPU s, {:.2} cores",
            server.cpu_seconds, server.cores
        )?;
        let noun = match &self.operations {
            Some(operations) if self.deliveries == 0 => operations.kind,
            _ => "deliveries",
        };
        if self.deliveries > 0 || self.operations.is_some() {
            write!(
                f,
                ", {:.3} CPU s per million {noun}",
                server.cpu_seconds_per_million_deliveries
            )?;
        }
        let mebibytes = server.resident_bytes as f64 / f64::from(1 << 20);
        write!(f, ", {mebibytes:.1} MiB resident")?;
        match server.resident_bytes_per_connection {
            Some(bytes) => writeln!(f, ", {} B more for each connection", grouped(bytes as u64)),
            None => writeln!(f),
        }
    }
}

fn write_opening(f: &mut fmt::Formatter<'_>, opening: &Opening) -> fmt::Result {
    writeln!(
        f,
        "opened       {:>13}/s   {} in {:.2} s",
        grouped(opening.per_second as u64),
        grouped(opening.connections),
        opening.seconds
    )?;
    writeln!(f, "opening took {}", opening.latency)
}

fn write_operations(f: &mut fmt::Formatter<'_>, operations: &OperationsReport, seconds: f64) -> fmt::Result {
    let OperationsReport {
        kind,
        count,
        per_second,
        failed,
        unanswered,
        latency,
    } = operations;
    writeln!(
        f,
        "{kind:LABEL$}{:>13}/s   {} in {seconds:.2} s",
        grouped(*per_second as u64),
        grouped(*count)
    )?;
    let took = if *kind == "messages" { "pings took" } else { "each took" };
    writeln!(f, "{took:LABEL$}{latency}")?;
    writeln!(f, "{:LABEL$}{failed} · unanswered {unanswered}", "failed")
}

/// A table of what was measured step by step.
fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[StepReport]) -> fmt::Result {
    writeln!(
        f,
        "{:>19} {:>9} {:>15} {:>10} {:>10} {:>10} {:>10} {:>10} {:>5}",
        "rate", "time", "done/s", "p50", "p90", "p99", "p99.9", "max", "busy"
    )?;
    for step in steps {
        let (per_second, latency) = match &step.operations {
            Some(operations) => (operations.per_second, &operations.latency),
            None => (step.deliveries_per_second, &step.latency),
        };
        let rate = if step.from == step.to {
            short(step.from)
        } else {
            format!("{} to {}", short(step.from), short(step.to))
        };
        writeln!(
            f,
            "{rate:>19} {:>7.2} s {:>15} {:>10} {:>10} {:>10} {:>10} {:>10} {:>3.0} %{}",
            step.seconds,
            grouped(per_second as u64),
            time(latency.p50),
            time(latency.p90),
            time(latency.p99),
            time(latency.p999),
            time(latency.max),
            step.busiest_thread * 100.0,
            if step.saturated { " saturated" } else { "" }
        )?;
    }
    Ok(())
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = || match &self.load {
            crate::load::Load::Window(window) => format!("{window} in flight each"),
            crate::load::Load::Rate(rate) => format!("{rate} messages/s"),
            crate::load::Load::Steps(steps) => counted(steps.len() as u64, "step"),
        };
        let fan = |f: &mut fmt::Formatter<'_>| {
            write!(
                f,
                "{} to {}, {} B, {}",
                counted(self.publishers.into(), "publisher"),
                counted(self.subscribers.into(), "subscriber"),
                grouped(self.size as u64),
                load()
            )
        };
        match &self.scenario {
            Scenario::Fanout { .. } | Scenario::Fanin { .. } => fan(f)?,
            Scenario::ManyTopics { topics, zipf, .. } => {
                write!(f, "{}, ", counted((*topics).into(), "topic"))?;
                fan(f)?;
                if let Some(exponent) = zipf {
                    write!(f, ", zipf {exponent}")?;
                }
            }
            Scenario::Echo { connections } => write!(
                f,
                "{} to themselves, {} B, {}",
                counted((*connections).into(), "connection"),
                grouped(self.size as u64),
                load()
            )?,
            Scenario::Slow { slow, policy, .. } => {
                fan(f)?;
                write!(f, ", {} of them slow", grouped((*slow).into()))?;
                if let Some(policy) = policy {
                    write!(f, " ({})", policy.as_str())?;
                }
            }
            Scenario::Ingest { publishers } => write!(
                f,
                "{} to nobody, {} B, {}",
                counted((*publishers).into(), "publisher"),
                grouped(self.size as u64),
                load()
            )?,
            Scenario::Churn {
                connections,
                filters,
                beside,
            } => {
                write!(
                    f,
                    "{} with {} each, {}",
                    counted((*connections).into(), "connection"),
                    counted((*filters).into(), "filter"),
                    load().replace("messages", "commands")
                )?;
                if let Some(beside) = beside {
                    write!(
                        f,
                        ", beside {} to {}, {} B, {}",
                        counted(beside.publishers.into(), "publisher"),
                        counted(beside.subscribers.into(), "subscriber"),
                        grouped(self.size as u64),
                        beside.load
                    )?;
                }
            }
            Scenario::Connect => write!(f, "connections, {}", load().replace("messages", "connections"))?,
            Scenario::Idle {
                connections,
                subscriptions,
            } => write!(
                f,
                "{} with {}",
                counted((*connections).into(), "idle connection"),
                counted((*subscriptions).into(), "subscription")
            )?,
        }
        write!(f, ", protocol {}, version {}", self.protocol, self.version)?;
        if self.compression != Compression::None {
            write!(f, ", {}", self.compression)?;
        }
        write!(f, ", {}", counted(self.threads.into(), "thread"))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency {
            p50,
            p90,
            p99,
            p999,
            max,
            ..
        } = *self;
        write!(
            f,
            "p50 {} · p90 {} · p99 {} · p99.9 {} · max {}",
            time(p50),
            time(p90),
            time(p99),
            time(p999),
            time(max)
        )
    }
}

fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// A rate in the unit that reads best.
fn short(rate: f64) -> String {
    match rate {
        rate if rate < 1e4 => format!("{rate}"),
        rate if rate < 1e6 => format!("{}k", rate / 1e3),
        rate => format!("{}M", rate / 1e6),
    }
}

/// A number with a comma before every three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds in the unit that reads best.
pub(crate) fn time(microseconds: f64) -> String {
    match microseconds {
        us if us < 1e3 => format!("{us:.1} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::tests::{effort, report};

    #[test]
    fn a_good_report_says_every_number_with_its_unit() {
        let report = report();
        assert!(report.is_good());
        assert_eq!(
            report.to_string(),
            "1 publisher to 1,000 subscribers, 128 B, 32 in flight each, protocol raw, version 13, 1 thread\n\
             deliveries       4,000,000/s   2,000,000 in 0.50 s\n\
             throughput       512.00 MB/s   payload; 528.00 MB/s as WebSocket frames\n\
             published            4,000/s   2,000\n\
             latency      p50 812.2 µs · p90 1.20 ms · p99 2.00 ms · p99.9 2.50 ms · max 1.30 s\n\
             check        lost 0 · duplicated 0 · reordered 0\n\
             generator    0.20 CPU s, busiest thread 40 %, waiting for a core 10 %\n\
             server       0.40 CPU s, 0.80 cores, 0.200 CPU s per million deliveries, 12.0 MiB resident\n"
        );
    }

    #[test]
    fn messages_that_nobody_receives_are_told_by_how_they_were_taken_in() {
        let ingest = Report {
            setup: Setup {
                scenario: Scenario::Ingest { publishers: 4 },
                publishers: 4,
                subscribers: 0,
                ..report().setup
            },
            operations: Some(OperationsReport {
                kind: "messages",
                count: 500_000,
                per_second: 1e6,
                failed: 0,
                unanswered: 0,
                latency: report().latency,
            }),
            deliveries: 0,
            payload_megabytes_per_second: 128.0,
            ..report()
        };
        let text = ingest.to_string();
        let expected = "4 publishers to nobody, 128 B, 32 in flight each, protocol raw, version 13, 1 thread\n\
             messages         1,000,000/s   500,000 in 0.50 s\n\
             pings took   p50 812.2 µs · p90 1.20 ms · p99 2.00 ms · p99.9 2.50 ms · max 1.30 s\n\
             failed       0 · unanswered 0\n\
             throughput       128.00 MB/s   payload\n\
             published            4,000/s   2,000\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("0.200 CPU s per million messages"), "{text}");
    }

    #[test]
    fn any_fault_or_error_makes_a_report_bad_and_is_shown() {
        let fault = |faults| Report { faults, ..report() };
        let none = Faults::default();
        for (report, words) in [
            (fault(Faults { lost: 7, ..none }), "lost 7"),
            (fault(Faults { duplicated: 8, ..none }), "duplicated 8"),
            (fault(Faults { reordered: 9, ..none }), "reordered 9"),
            (fault(Faults { corrupt: 3, ..none }), "corrupt 3"),
            (
                Report {
                    errors: vec!["subscriber 3: lost".into()],
                    ..report()
                },
                "error        subscriber 3: lost",
            ),
        ] {
            assert!(!report.is_good(), "{words}");
            assert!(report.to_string().contains(words), "{report}");
        }
    }

    #[test]
    fn a_generator_that_never_rests_is_called_saturated() {
        let second = Duration::from_secs(1);
        assert!(!Generator::of(&[effort(940, 0), effort(100, 0)], second).saturated);
        let starved = Generator::of(&[effort(500, 460), effort(600, 0)], second);
        assert!(starved.saturated, "it waited for a core when it did not run");
        let starved = Generator::of(&[effort(400, 560)], second);
        let report = |generator| Report { generator, ..report() };
        assert!(report(starved).to_string().contains("other processes have its cores"));
        let busy = Generator::of(&[effort(100, 0), effort(960, 0)], second);
        assert!(busy.saturated);
        assert!(report(busy).to_string().contains("use more --threads"));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }
}
