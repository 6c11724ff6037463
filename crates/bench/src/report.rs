//! What a run measured: as numbers, as JSON and as text.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use crate::check::Faults;
use crate::plan::{Compression, Extent, Load, Protocol};

/// Above this share of a core a thread of the generator may have been what limited the run.
const SATURATED: f64 = 0.95;

/// A finished run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was run.
    pub setup: Setup,
    /// The length of the measured span.
    pub seconds: f64,
    /// Messages published in the span.
    pub published: u64,
    /// Messages received by subscribers in the span: ideally `published` times the subscribers.
    pub deliveries: u64,
    /// `published` per second.
    pub published_per_second: f64,
    /// `deliveries` per second.
    pub deliveries_per_second: f64,
    /// Payloads delivered, in megabytes (10^6) per second.
    pub payload_megabytes_per_second: f64,
    /// WebSocket frames delivered, headers included (what TCP carried), in megabytes per second.
    pub wire_megabytes_per_second: f64,
    /// What went wrong with deliveries, in the whole run, warm-up included.
    pub faults: Faults,
    /// What else went wrong: connections lost, refused or closed by the server. One line each.
    pub errors: Vec<String>,
    /// Messages on the topic that are not of this run.
    pub foreign: u64,
    /// From the intended time of sending to the arrival at a subscriber, over all deliveries of messages that were to be
    /// sent in the span.
    #[serde(rename = "latency_microseconds")]
    pub latency: Latency,
    /// The generator itself.
    pub generator: Generator,
    /// The broker's process, if it was named.
    pub server: Option<Server>,
}

/// The part of the plan that numbers mean nothing without.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    /// Where the broker is.
    pub url: String,
    /// How clients speak.
    pub protocol: Protocol,
    /// The WebSocket version, by its number.
    pub version: u8,
    /// What subscribers' messages were compressed with.
    pub compression: Compression,
    /// Connections that received.
    pub subscribers: u32,
    /// Connections that sent.
    pub publishers: u32,
    /// Bytes of a payload.
    pub size: usize,
    /// When publishers sent.
    pub load: Load,
    /// How long.
    #[serde(serialize_with = "in_seconds")]
    pub extent: Extent,
    /// Threads of the generator.
    pub threads: u32,
}

/// An extent whose times are numbers of seconds.
fn in_seconds<S: Serializer>(extent: &Extent, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Written {
        Time { warmup_seconds: f64, measured_seconds: f64 },
        Count { messages_per_publisher: u64 },
    }
    let written = match *extent {
        Extent::Time { warmup, measured } => Written::Time {
            warmup_seconds: warmup.as_secs_f64(),
            measured_seconds: measured.as_secs_f64(),
        },
        Extent::Count(messages_per_publisher) => Written::Count { messages_per_publisher },
    };
    written.serialize(to)
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the deliveries came within this time.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// All of them.
    pub max: f64,
    /// How many deliveries these are about.
    pub samples: u64,
}

impl Latency {
    /// Of a histogram in nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
            samples: histogram.len(),
        }
    }
}

/// What the generator used in the span.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// Processor seconds of all threads.
    pub cpu_seconds: f64,
    /// The share of the span in which its busiest thread was running, 0 to 1.
    pub busiest_thread: f64,
    /// That thread was busy nearly all the time, so the run may have measured the generator, not the broker.
    pub saturated: bool,
}

impl Generator {
    /// Of the processor time of each thread.
    pub(crate) fn of(threads: &[Duration], span: Duration) -> Generator {
        let busiest = threads.iter().max().copied().unwrap_or_default();
        let busiest_thread = ratio(busiest.as_secs_f64(), span.as_secs_f64());
        Generator {
            cpu_seconds: threads.iter().sum::<Duration>().as_secs_f64(),
            busiest_thread,
            saturated: busiest_thread > SATURATED,
        }
    }
}

/// What the broker's process used in the span.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// Processor seconds, user and system, in steps of 10 ms.
    pub cpu_seconds: f64,
    /// Cores used on average.
    pub cores: f64,
    /// Processor seconds for a million deliveries.
    pub cpu_seconds_per_million_deliveries: f64,
    /// Memory in RAM at the end of the span, in bytes.
    pub resident_bytes: u64,
}

impl Server {
    pub(crate) fn of(cpu: Duration, resident_bytes: u64, span: Duration, deliveries: u64) -> Server {
        let cpu_seconds = cpu.as_secs_f64();
        Server {
            cpu_seconds,
            cores: ratio(cpu_seconds, span.as_secs_f64()),
            cpu_seconds_per_million_deliveries: ratio(cpu_seconds, deliveries as f64 / 1e6),
            resident_bytes,
        }
    }
}

/// `part / whole`, and 0 of nothing: JSON has no infinity.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Report {
    /// Whether every delivery came, once and in order, and every connection held.
    pub fn is_good(&self) -> bool {
        self.faults.is_clean() && self.errors.is_empty()
    }

    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and lists of them are always JSON")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setup = &self.setup;
        writeln!(
            f,
            "{} to {}, {} B, {}, protocol {}, version {}{}, {}",
            count(setup.publishers, "publisher"),
            count(setup.subscribers, "subscriber"),
            grouped(setup.size as u64),
            match setup.load {
                Load::Window(window) => format!("{window} in flight each"),
                Load::Rate(rate) => format!("{rate} messages/s"),
            },
            setup.protocol,
            setup.version,
            match setup.compression {
                Compression::None => String::new(),
                compression => format!(", {compression}"),
            },
            count(setup.threads, "thread"),
        )?;
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
        writeln!(
            f,
            "published    {:>13}/s   {}",
            grouped(self.published_per_second as u64),
            grouped(self.published)
        )?;
        let Latency {
            p50,
            p90,
            p99,
            p999,
            max,
            ..
        } = self.latency;
        writeln!(
            f,
            "latency      p50 {} · p90 {} · p99 {} · p99.9 {} · max {}",
            time(p50),
            time(p90),
            time(p99),
            time(p999),
            time(max)
        )?;
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
        writeln!(f)?;
        writeln!(
            f,
            "generator    {:.2} CPU s, busiest thread {:.0} %{}",
            self.generator.cpu_seconds,
            self.generator.busiest_thread * 100.0,
            if self.generator.saturated {
                ": generator saturated, use more --threads or cores"
            } else {
                ""
            }
        )?;
        if let Some(server) = &self.server {
            writeln!(
                f,
                "server       {:.2} CPU s, {:.2} cores, {:.3} CPU s per million deliveries, {:.1} MiB resident",
                server.cpu_seconds,
                server.cores,
                server.cpu_seconds_per_million_deliveries,
                server.resident_bytes as f64 / f64::from(1 << 20)
            )?;
        }
        for error in &self.errors {
            writeln!(f, "error        {error}")?;
        }
        Ok(())
    }
}

fn count(number: u32, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(u64::from(number)))
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
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
fn time(microseconds: f64) -> String {
    match microseconds {
        us if us < 1e3 => format!("{us:.1} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            setup: Setup {
                url: "ws://127.0.0.1:8080".into(),
                protocol: Protocol::Raw,
                version: 13,
                compression: Compression::None,
                subscribers: 1000,
                publishers: 1,
                size: 128,
                load: Load::Window(32),
                extent: Extent::Count(2_000),
                threads: 1,
            },
            seconds: 0.5,
            published: 2_000,
            deliveries: 2_000_000,
            published_per_second: 4_000.0,
            deliveries_per_second: 4_000_000.0,
            payload_megabytes_per_second: 512.0,
            wire_megabytes_per_second: 528.0,
            faults: Faults::default(),
            errors: Vec::new(),
            foreign: 0,
            latency: Latency {
                p50: 812.25,
                p90: 1_204.0,
                p99: 2_000.0,
                p999: 2_500.0,
                max: 1_300_000.0,
                samples: 2_000_000,
            },
            generator: Generator::of(&[Duration::from_millis(200)], Duration::from_millis(500)),
            server: Some(Server::of(
                Duration::from_millis(400),
                12 << 20,
                Duration::from_millis(500),
                2_000_000,
            )),
        }
    }

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
             generator    0.20 CPU s, busiest thread 40 %\n\
             server       0.40 CPU s, 0.80 cores, 0.200 CPU s per million deliveries, 12.0 MiB resident\n"
        );
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
        assert!(!Generator::of(&[second.mul_f64(0.94), second / 10], second).saturated);
        let busy = Generator::of(&[second / 10, second.mul_f64(0.96)], second);
        assert!(busy.saturated);
        let report = Report {
            generator: busy,
            ..report()
        };
        assert!(report.to_string().contains("generator saturated"), "{report}");
    }

    #[test]
    fn the_json_is_one_line_with_the_same_numbers() {
        let json = report().to_json();
        assert!(!json.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["deliveries_per_second"], 4e6);
        assert_eq!(value["faults"]["lost"], 0);
        assert_eq!(value["latency_microseconds"]["p50"], 812.25);
        assert_eq!(value["setup"]["extent"]["messages_per_publisher"], 2_000);
        assert_eq!(value["setup"]["load"]["window"], 32);
        assert_eq!(value["server"]["cpu_seconds_per_million_deliveries"], 0.2);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }
}
