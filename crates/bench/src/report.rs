//! What a run measured: as numbers and as JSON. As text it is in [`text`](crate::text).

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use crate::check::Faults;
use crate::compression::Compression;
use crate::effort::Effort;
use crate::load::Load;
use crate::machine::Machine;
use crate::plan::Extent;
use crate::protocol::Protocol;
use crate::scenario::Scenario;
use crate::slow::SlowReport;
use crate::tls::TlsReport;

/// A thread of the generator that runs, or waits for a core, for more than this share of the time may have been what limited the
/// run.
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
    /// Payloads delivered, or taken in where nobody receives them, in megabytes (10^6) per second.
    pub payload_megabytes_per_second: f64,
    /// WebSocket frames delivered, headers included (what TCP carried, if there was no TLS), in megabytes per second.
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
    /// What was done one by one, if the scenario is about that: commands, connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<OperationsReport>,
    /// How the connections were opened, before the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
    /// What was agreed on in TLS, if that was spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsReport>,
    /// What became of subscribers that did not read, if the scenario is about them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowReport>,
    /// Step by step, if the load has steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepReport>,
    /// Second by second, warm-up included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ticks: Vec<Tick>,
    /// What it ran on.
    pub machine: Machine,
    /// The generator itself.
    pub generator: Generator,
    /// The broker's processes, all together, if they were named.
    pub server: Option<Server>,
}

/// The part of the plan that numbers mean nothing without.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    /// What the run was about.
    pub scenario: Scenario,
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

/// A second of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tick {
    /// Its end, counted from the beginning of the load.
    pub seconds: f64,
    /// Deliveries and operations in it, a second.
    pub per_second: f64,
    /// Bytes of WebSocket frames that subscribers received in it, or, where there are none, of payloads that were taken in; in
    /// megabytes a second.
    pub megabytes_per_second: f64,
    /// Half of what the scenario is about took no longer, in microseconds, known to 3 %; none if nothing happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_microseconds: Option<f64>,
    /// 99 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_microseconds: Option<f64>,
    /// Cores that the broker's process used in it, if it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cores: Option<f64>,
}

/// What was done one by one.
#[derive(Debug, Clone, Serialize)]
pub struct OperationsReport {
    /// What that was: `commands`, `connections`, or `messages` that were taken in.
    pub kind: &'static str,
    /// Completed in the span.
    pub count: u64,
    /// `count` per second.
    pub per_second: f64,
    /// Refused.
    pub failed: u64,
    /// Never answered.
    pub unanswered: u64,
    /// From the intended time to the confirmation, or until the connection could be used. Of messages only those are timed
    /// that a ping follows: until its pong.
    #[serde(rename = "latency_microseconds")]
    pub latency: Latency,
}

/// How the connections were opened.
#[derive(Debug, Clone, Serialize)]
pub struct Opening {
    /// How many.
    pub connections: u64,
    /// From the first one until all could be used.
    pub seconds: f64,
    /// Connections per second.
    pub per_second: f64,
    /// From the time at which each was to be opened until it could be used, its subscriptions confirmed.
    #[serde(rename = "latency_microseconds")]
    pub latency: Latency,
}

/// One step of a load that has steps.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// The rate at its beginning.
    pub from: f64,
    /// The rate at its end.
    pub to: f64,
    /// Its length.
    pub seconds: f64,
    /// Messages that were to be sent in it.
    pub published: u64,
    /// Deliveries in it.
    pub deliveries: u64,
    /// `deliveries` per second.
    pub deliveries_per_second: f64,
    /// Of the messages that were to be sent in it.
    #[serde(rename = "latency_microseconds")]
    pub latency: Latency,
    /// What was done one by one in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<StepOperations>,
    /// The share of it in which the generator's busiest thread was running, 0 to 1.
    pub busiest_thread: f64,
    /// The generator may have been the limit in it.
    pub saturated: bool,
    /// Processor seconds of the broker's process, if it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_seconds: Option<f64>,
}

/// What was done one by one in a step.
#[derive(Debug, Clone, Serialize)]
pub struct StepOperations {
    /// Completed in it.
    pub count: u64,
    /// `count` per second.
    pub per_second: f64,
    /// Of those that were to begin in it.
    #[serde(rename = "latency_microseconds")]
    pub latency: Latency,
}

/// What the generator used in the span.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// Processor seconds of all threads.
    pub cpu_seconds: f64,
    /// The share of the span in which its busiest thread was running, 0 to 1.
    pub busiest_thread: f64,
    /// The share of the span in which that thread waited for a core that something else had, 0 to 1.
    pub waited_for_core: f64,
    /// That thread was hardly ever idle, so the run may have measured the generator, not the broker.
    pub saturated: bool,
}

impl Generator {
    /// Of what each thread used.
    pub(crate) fn of(threads: &[Effort], span: Duration) -> Generator {
        let busiest = threads
            .iter()
            .max_by_key(|effort| effort.awake())
            .copied()
            .unwrap_or_default();
        let share = |time: Duration| ratio(time.as_secs_f64(), span.as_secs_f64());
        Generator {
            cpu_seconds: threads.iter().map(|effort| effort.cpu.as_secs_f64()).sum(),
            busiest_thread: share(busiest.cpu),
            waited_for_core: share(busiest.waited),
            saturated: share(busiest.awake()) > SATURATED,
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
    /// Processor seconds for a million deliveries; of commands or connections where there are no deliveries.
    pub cpu_seconds_per_million_deliveries: f64,
    /// Memory in RAM at the end of the span, in bytes.
    pub resident_bytes: u64,
    /// By how much that grew since before the first connection, for each connection; where connections are idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes_per_connection: Option<f64>,
}

impl Server {
    pub(crate) fn of(cpu: Duration, resident_bytes: u64, span: Duration, deliveries: u64) -> Server {
        let cpu_seconds = cpu.as_secs_f64();
        Server {
            cpu_seconds,
            cores: ratio(cpu_seconds, span.as_secs_f64()),
            cpu_seconds_per_million_deliveries: ratio(cpu_seconds, deliveries as f64 / 1e6),
            resident_bytes,
            resident_bytes_per_connection: None,
        }
    }
}

/// `part / whole`, and 0 of nothing: JSON has no infinity.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Report {
    /// Whether every delivery came, once and in order, everything else was done, and every connection held.
    pub fn is_good(&self) -> bool {
        let done = |operations: &OperationsReport| operations.failed == 0 && operations.unanswered == 0;
        self.faults.is_clean() && self.errors.is_empty() && self.operations.as_ref().is_none_or(done)
    }

    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and lists of them are always JSON")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a thread used, in milliseconds.
    pub(crate) fn effort(cpu: u64, waited: u64) -> Effort {
        Effort {
            cpu: Duration::from_millis(cpu),
            waited: Duration::from_millis(waited),
        }
    }

    /// A run of which everything is known.
    pub(crate) fn report() -> Report {
        Report {
            setup: Setup {
                scenario: Scenario::Fanout {
                    publishers: 1,
                    subscribers: 1000,
                },
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
            operations: None,
            opening: None,
            tls: None,
            slow: None,
            steps: Vec::new(),
            ticks: Vec::new(),
            machine: Machine::default(),
            generator: Generator::of(&[effort(200, 50)], Duration::from_millis(500)),
            server: Some(Server::of(
                Duration::from_millis(400),
                12 << 20,
                Duration::from_millis(500),
                2_000_000,
            )),
        }
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
        assert_eq!(value["setup"]["scenario"]["name"], "fanout");
        assert_eq!(value["server"]["cpu_seconds_per_million_deliveries"], 0.2);
    }
}
