//! `tidecast bench`: measures a broker.

mod file;
mod flags;

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

use tidecast_bench::{Bar, Error, Gate, Plan, Report, compare, run};

use crate::exit::{self, Failure};
use flags::{
    ChurnArgs, ConnectArgs, EchoArgs, FaninArgs, FanoutArgs, IdleArgs, IngestArgs, ManyTopicsArgs, Output, RunArgs,
    SlowArgs,
};

/// A condition of `--fail-if` holds.
const GATE: u8 = 6;

const EXAMPLES: &str = "\
Examples:
  tidecast bench fanout --subscribers 1000 --window 32
  tidecast bench fanout --rate 1k..50k/10s --server-pid $(pgrep -x tidecast) --json
  tidecast bench churn --protocol json --rate 100k --fanout-subscribers 100 --fanout-rate 1k
  tidecast bench ingest --publishers 8 --window 256 --size 16 --server-pid $(pgrep -x tidecast)
  tidecast bench connect --rate 5k --fail-if 'p99>5ms'
  tidecast bench idle --connections 35000 --threads 2 --server-pid $(pgrep -x tidecast)
  tidecast bench many-topics --protocol nats --url ws://127.0.0.1:9222 --topics 500
  tidecast bench fanout --protocol path --path /sub/%s --url wss://127.0.0.1:8443 --tls-ca ca.pem --server-pid $(pgrep -d, nginx)
  tidecast bench run scenario.toml
  tidecast bench compare before.json after.json

Exit codes: 0 good · 1 failed · 2 wrong usage · 3 cannot connect · 5 deliveries or connections lost · 6 a condition of
--fail-if holds";

/// Measure a broker, this one or another
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    #[command(flatten)]
    Scenario(Box<Scenario>),
    Run(RunArgs),
    Compare(CompareArgs),
}

/// What there is to measure, one subcommand each.
#[derive(Debug, Subcommand)]
enum Scenario {
    Fanout(FanoutArgs),
    Fanin(FaninArgs),
    ManyTopics(ManyTopicsArgs),
    Echo(EchoArgs),
    Slow(SlowArgs),
    Ingest(IngestArgs),
    Churn(ChurnArgs),
    Connect(ConnectArgs),
    Idle(IdleArgs),
}

/// Compare two reports that were written with --json
#[derive(Debug, Args)]
struct CompareArgs {
    /// The first report
    a: PathBuf,
    /// The second report, which is shown as a multiple of the first
    b: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShowProgress {
    Auto,
    Lines,
    Never,
}

impl BenchArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.task {
            Task::Scenario(scenario) => scenario.run(),
            Task::Run(args) => file::read(&args)?.run(),
            Task::Compare(args) => args.run(),
        }
    }
}

impl Scenario {
    /// What is to be run, and what becomes of the report.
    fn plan(&self) -> Result<(Plan, &Output), String> {
        match self {
            Scenario::Fanout(args) => args.plan(),
            Scenario::Fanin(args) => args.plan(),
            Scenario::ManyTopics(args) => args.plan(),
            Scenario::Echo(args) => args.plan(),
            Scenario::Slow(args) => args.plan(),
            Scenario::Ingest(args) => args.plan(),
            Scenario::Churn(args) => args.plan(),
            Scenario::Connect(args) => args.plan(),
            Scenario::Idle(args) => args.plan(),
        }
    }

    fn run(&self) -> Result<(), Failure> {
        let (plan, output) = self.plan().map_err(usage)?;
        let bar = match output.progress {
            ShowProgress::Auto => Bar::auto(),
            ShowProgress::Lines => Bar::lines(),
            ShowProgress::Never => Bar::hidden(),
        };
        let outcome = run(&plan, |progress| bar.show(progress));
        bar.clear();
        let report = outcome.map_err(failure)?;
        if output.json {
            println!("{}", report.to_json());
        } else {
            print!("{report}");
        }
        if let Some(path) = &output.report {
            let words: Vec<_> = std::env::args().map(quoted).collect();
            std::fs::write(path, report.to_html(&words.join(" ")))
                .map_err(|error| Failure::new(format_args!("cannot write {}: {error}", path.display())))?;
        }
        judge(&report, &output.fail_if)
    }
}

/// A word of the command line as a shell reads it.
fn quoted(word: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Whether a run that took place was a good one.
fn judge(report: &Report, gates: &[Gate]) -> Result<(), Failure> {
    if !report.is_good() {
        return Err(Failure {
            code: exit::FAULTS,
            error: anyhow::anyhow!(
                "the broker did not do all of it: deliveries were lost, repeated or out of order, or something else failed"
            ),
        });
    }
    let failed: Vec<String> = gates.iter().filter_map(|gate| gate.fails(report)).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure {
            code: GATE,
            error: anyhow::anyhow!("{}", failed.join("; ")),
        })
    }
}

impl CompareArgs {
    fn run(self) -> Result<(), Failure> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .map_err(|error| Failure::new(format_args!("cannot read {}: {error}", path.display())))
        };
        let (a, b) = (read(&self.a)?, read(&self.b)?);
        let name = |path: &PathBuf| path.display().to_string();
        let table = compare((&name(&self.a), &a), (&name(&self.b), &b)).map_err(|error| Failure::new(&error))?;
        print!("{table}");
        Ok(())
    }
}

fn usage(reason: impl std::fmt::Display) -> Failure {
    Failure {
        code: exit::USAGE,
        error: anyhow::anyhow!("{reason}"),
    }
}

fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::Plan(_) | Error::Slots { .. } | Error::Tls(_) => exit::USAGE,
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
    use tidecast_bench::{Beside, Compression, Extent, Load, Protocol, SlowPolicy, Version};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn scenario(line: &[&str]) -> Result<Box<Scenario>, String> {
        let line = ["bench"].into_iter().chain(line.iter().copied());
        // Not what the environment of whoever runs the test says.
        let line = line.chain(["--url", "ws://127.0.0.1:8080"]);
        match Line::try_parse_from(line).map_err(|error| error.to_string())?.args.task {
            Task::Scenario(scenario) => Ok(scenario),
            other => panic!("{other:?}"),
        }
    }

    fn plan(line: &[&str]) -> Result<Plan, String> {
        scenario(line)?.plan().map(|(plan, _)| plan)
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_generator() {
        assert_eq!(
            format!("{:?}", plan(&["fanout"]).unwrap()),
            format!("{:?}", Plan::default())
        );
    }

    #[test]
    fn every_scenario_can_be_run_with_its_defaults() {
        for name in [
            "fanout",
            "fanin",
            "many-topics",
            "echo",
            "slow",
            "ingest",
            "churn",
            "connect",
            "idle",
        ] {
            let plan = plan(&[name]).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(plan.check(), Ok(()), "{name}");
            assert_eq!(plan.scenario.as_str(), name);
        }
    }

    #[test]
    fn load_and_extent_follow_the_flags() {
        assert_eq!(plan(&["fanout", "--rate", "2.5"]).unwrap().load, Load::Rate(2.5));
        assert_eq!(plan(&["fanout", "--count", "7"]).unwrap().extent, Extent::Count(7));
        let plan = plan(&[
            "fanout",
            "--version",
            "7",
            "--core",
            "1,3",
            "--size",
            "1K",
            "--protocol",
            "json",
            "--compression",
            "deflate-stream",
        ])
        .unwrap();
        assert_eq!(
            (plan.version, plan.size, plan.protocol),
            (Version::V7, 1024, Protocol::Json)
        );
        assert_eq!((plan.cores, plan.compression), (vec![1, 3], Compression::DeflateStream));
    }

    #[test]
    fn steps_last_as_long_as_they_say_or_as_the_duration_each() {
        let plan = plan(&["echo", "--rate", "1k,2k..4k/3s", "--duration", "2s"]).unwrap();
        let Extent::Time { measured, .. } = plan.extent else {
            panic!("{:?}", plan.extent);
        };
        assert_eq!(measured.as_secs(), 5);
        assert_eq!(plan.check(), Ok(()));
    }

    #[test]
    fn a_storm_of_commands_beside_a_fan_out_is_one_command() {
        let plan = plan(&[
            "churn",
            "--rate",
            "100k",
            "--connections",
            "200",
            "--fanout-subscribers",
            "100",
            "--fanout-rate",
            "1k",
        ])
        .unwrap();
        assert_eq!(plan.load, Load::Rate(100_000.0));
        assert_eq!(
            plan.scenario,
            tidecast_bench::Scenario::Churn {
                connections: 200,
                filters: 10,
                beside: Some(Beside {
                    publishers: 1,
                    subscribers: 100,
                    load: Load::Rate(1_000.0)
                })
            }
        );
    }

    #[test]
    fn a_share_of_the_subscribers_is_slow() {
        let plan = plan(&[
            "slow",
            "--subscribers",
            "50",
            "--slow",
            "10%",
            "--policy",
            "drop-old",
            "--protocol",
            "json",
        ]);
        assert_eq!(
            plan.unwrap().scenario,
            tidecast_bench::Scenario::Slow {
                publishers: 1,
                subscribers: 50,
                slow: 5,
                policy: Some(SlowPolicy::DropOld)
            }
        );
    }

    #[test]
    fn the_processes_of_a_broker_are_a_list_or_several_flags() {
        for line in [
            &["fanout", "--server-pid", "1,2,3"][..],
            &["fanout", "--server-pid", "1", "--server-pid", "2,3"],
        ] {
            assert_eq!(plan(line).unwrap().server_pids, [1, 2, 3]);
        }
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        for (word, shown) in [
            ("--rate=1k", "--rate=1k"),
            ("p99>5ms", "'p99>5ms'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(word.to_owned()), shown);
        }
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for line in [
            &["fanout", "--rate", "1", "--window", "2"][..],
            &["fanout", "--count", "1", "--duration", "2"],
            &["fanout", "--version", "9"],
            &["fanout", "--publishers", "x"],
            &["fanout", "--protocol", "xml"],
            &["fanout", "--fail-if", "p99"],
            &["fanout", "--local-address", "here"],
            &["idle", "--size", "1"],
            &["idle", "--tls-ca", "x.pem", "--tls-insecure"],
            &["idle", "--tls-version", "1.1"],
            &["slow", "--slow", "110%"],
            &["churn", "--fanout-rate", "1k,2k", "--fanout-subscribers", "1"],
        ] {
            assert!(plan(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_plan_that_cannot_be_run_is_a_usage_error_and_nobody_there_is_not() {
        let code = |plan: &Plan| failure(run(plan, |_| {}).unwrap_err()).code;
        assert_eq!(code(&plan(&["fanout", "--size", "1"]).unwrap()), exit::USAGE);
        let nobody = Plan {
            url: "ws://127.0.0.1:9".to_owned(),
            ..plan(&["fanout", "--subscribers", "1"]).unwrap()
        };
        assert_eq!(code(&nobody), exit::NOT_CONNECTED);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Line::command().debug_assert();
    }
}
