//! `tidecast bench`: measures a broker.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tidecast_bench::{Bar, Compression, Error, Extent, Load, Plan, Protocol, Version, run};

use crate::exit::{self, Failure};
use crate::units::{duration, size};

/// Measure a broker
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    Fanout(FanoutArgs),
}

/// Publish to one topic with many subscribers, check every delivery, and print rates and latencies
///
/// A delivery that is lost, duplicated or out of order, and a connection that breaks, make the exit code 5.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidecast bench fanout --subscribers 1000 --window 32
  tidecast bench fanout --rate 1000 --duration 30 --server-pid $(pgrep -x tidecast) --json
  tidecast bench fanout --url ws://other:9000 --path /topics/%s

Exit codes: 0 good · 1 failed · 2 wrong usage · 3 cannot connect · 5 deliveries or connections lost")]
struct FanoutArgs {
    /// The broker
    #[arg(
        long,
        value_name = "URL",
        default_value = "ws://127.0.0.1:8080",
        env = "TIDECAST_URL"
    )]
    url: String,
    /// The path of the raw protocol for other brokers, with %s where the topic goes
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The topic
    #[arg(long, default_value = "bench")]
    topic: String,
    /// raw: the URL names the topic, binary payloads; json: tidecast.json.v1
    #[arg(long, value_name = "raw|json", default_value = "raw")]
    protocol: Protocol,
    /// The version of WebSocket to speak: 13, 8, 7 or 6
    #[arg(long, value_name = "N", default_value = "13", value_parser = version)]
    version: Version,
    /// What subscribers offer to have their messages compressed with: permessage-deflate, deflate-stream or none
    #[arg(long, value_name = "EXTENSION", default_value = "none")]
    compression: Compression,
    /// Connections that receive
    #[arg(long, value_name = "N", default_value_t = 1000)]
    subscribers: u32,
    /// Connections that send
    #[arg(long, value_name = "N", default_value = "1")]
    publishers: NonZeroU32,
    /// Bytes of a payload; at least 24 with raw and 50 with json, for what the generator measures with
    #[arg(long, value_name = "BYTES", default_value = "128", value_parser = size)]
    size: usize,
    /// Messages in flight per publisher: the next goes out when one has reached every subscriber
    #[arg(long, value_name = "N", default_value_t = 32)]
    window: u32,
    /// Messages a second by all publishers together, whether the broker keeps up or not
    #[arg(long, value_name = "N", conflicts_with = "window")]
    rate: Option<f64>,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long to run before
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// Send and measure so many messages per publisher instead
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warmup"])]
    count: Option<u64>,
    /// Threads of the generator
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroU32,
    /// Cores to bind the threads to: 1 or 1,3
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    core: Vec<usize>,
    /// The broker's process on this machine, to measure its CPU time and memory
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Whether to show progress on stderr; auto does if that is a terminal
    #[arg(long, value_enum, default_value_t = ShowProgress::Auto)]
    progress: ShowProgress,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShowProgress {
    Auto,
    Never,
}

fn version(text: &str) -> Result<Version, String> {
    let known = || {
        let numbers: Vec<_> = Version::ALL.iter().rev().map(Version::to_string).collect();
        format!("it is one of {}", numbers.join(", "))
    };
    text.parse().ok().and_then(Version::from_number).ok_or_else(known)
}

impl BenchArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.scenario {
            Scenario::Fanout(args) => args.run(),
        }
    }
}

impl FanoutArgs {
    fn run(self) -> Result<(), Failure> {
        let bar = match self.progress {
            ShowProgress::Auto => Bar::auto(),
            ShowProgress::Never => Bar::hidden(),
        };
        let outcome = run(&self.plan(), |progress| bar.show(progress));
        bar.clear();
        let report = outcome.map_err(failure)?;
        if self.json {
            println!("{}", report.to_json());
        } else {
            print!("{report}");
        }
        if report.is_good() {
            Ok(())
        } else {
            Err(Failure {
                code: exit::FAULTS,
                error: anyhow::anyhow!(
                    "the broker did not deliver every message to every subscriber, once and in order"
                ),
            })
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            url: self.url.clone(),
            path: self.path.clone(),
            topic: self.topic.clone(),
            protocol: self.protocol,
            version: self.version,
            compression: self.compression,
            subscribers: self.subscribers,
            publishers: self.publishers,
            size: self.size,
            load: self.rate.map_or(Load::Window(self.window), Load::Rate),
            extent: self.count.map_or(
                Extent::Time {
                    warmup: self.warmup,
                    measured: self.duration,
                },
                Extent::Count,
            ),
            threads: self.threads,
            cores: self.core.clone(),
            server_pid: self.server_pid,
            ..Plan::default()
        }
    }
}

fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::Plan(_) => exit::USAGE,
        error if error.is_connect() => exit::NOT_CONNECTED,
        _ => exit::FAILED,
    };
    // The messages name their causes already: no chain.
    Failure {
        code,
        error: anyhow::anyhow!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: FanoutArgs,
    }

    fn plan(line: &[&str]) -> Result<Plan, clap::Error> {
        let line = ["fanout", "--url", "ws://127.0.0.1:8080"]
            .into_iter()
            .chain(line.iter().copied());
        Line::try_parse_from(line).map(|line| line.args.plan())
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_generator() {
        assert_eq!(format!("{:?}", plan(&[]).unwrap()), format!("{:?}", Plan::default()));
    }

    #[test]
    fn load_and_extent_follow_the_flags() {
        assert_eq!(plan(&["--rate", "2.5"]).unwrap().load, Load::Rate(2.5));
        assert_eq!(plan(&["--count", "7"]).unwrap().extent, Extent::Count(7));
        let plan = plan(&["--version", "7", "--core", "1,3", "--size", "1K", "--protocol", "json"]).unwrap();
        assert_eq!(
            (plan.version, plan.size, plan.protocol),
            (Version::V7, 1024, Protocol::Json)
        );
        assert_eq!(plan.cores, [1, 3]);
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for line in [
            &["--rate", "1", "--window", "2"][..],
            &["--count", "1", "--duration", "2"],
            &["--version", "9"],
            &["--publishers", "0"],
            &["--protocol", "xml"],
        ] {
            assert!(plan(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_plan_that_cannot_be_run_is_a_usage_error_and_nobody_there_is_not() {
        let code = |plan: &Plan| failure(run(plan, |_| {}).unwrap_err()).code;
        assert_eq!(code(&plan(&["--size", "1"]).unwrap()), exit::USAGE);
        let nobody = Plan {
            url: "ws://127.0.0.1:9".to_owned(),
            ..plan(&["--subscribers", "1"]).unwrap()
        };
        assert_eq!(code(&nobody), exit::NOT_CONNECTED);
    }
}
