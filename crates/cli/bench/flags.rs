//! The settings of the scenarios, as flags.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidecast_bench::{
    Beside, Compression, Extent, Gate, Load, Plan, Protocol, Scenario, SlowPolicy, Tls, TlsVersion, Token, Trust,
    Version,
};
use tidecast_server::config::{parse_bytes, parse_time};

use super::ShowProgress;
use crate::broker::TokenFile;

/// What is the same for all scenarios.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The broker; wss:// for TLS
    #[arg(
        long,
        value_name = "URL",
        default_value = "ws://127.0.0.1:8080",
        env = "TIDECAST_URL"
    )]
    url: String,
    /// The authorities whose certificates are believed, in PEM; those of the system if not given
    #[arg(long, value_name = "FILE.pem", conflicts_with = "tls_insecure")]
    tls_ca: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long)]
    tls_insecure: bool,
    /// The only version of TLS to speak: 1.2 or 1.3; the newest that the broker has if not given
    #[arg(long, value_name = "VERSION", value_parser = tls_version)]
    tls_version: Option<TlsVersion>,
    /// Resume TLS sessions of earlier connections, instead of a full handshake for each
    #[arg(long)]
    tls_resume: bool,
    #[command(flatten)]
    token: TokenFile,
    /// The request path, with %s where the topic goes if the URL names it; the usual one of the protocol if not given
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The topic; where there are several, what they begin with
    #[arg(long, default_value = "bench")]
    topic: String,
    /// raw: /t/TOPIC, every frame a payload; path: the same on --path; json and bin: tidecast.json.v1 and tidecast.bin.v1;
    /// nats; mqtt: 3.1.1 at QoS 0 [default: raw; churn: json]
    #[arg(long, value_name = "raw|path|json|bin|nats|mqtt")]
    protocol: Option<Protocol>,
    /// The version of WebSocket to speak: 13, 8, 7 or 6
    #[arg(long, value_name = "N", default_value = "13", value_parser = version)]
    version: Version,
    /// What those who receive offer to have their messages compressed with: permessage-deflate, deflate-stream or none
    #[arg(long, value_name = "EXTENSION", default_value = "none")]
    compression: Compression,
    /// Connections opened a second before the run; as many as the broker takes if not given
    #[arg(long, value_name = "N")]
    open_rate: Option<f64>,
    /// Addresses of this machine to connect from, in turn: 127.0.0.1,127.0.0.2
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    local_address: Vec<IpAddr>,
    /// Threads of the generator
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroU32,
    /// Cores to bind the threads to: 1 or 1,3
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    core: Vec<usize>,
    /// The broker's process on this machine, to measure its CPU time and memory; if it has several, a list of them or the flag
    /// several times: they are added up
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    server_pid: Vec<u32>,
    #[command(flatten)]
    output: Output,
}

/// What becomes of the report.
#[derive(Debug, Args)]
pub(super) struct Output {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE.html")]
    pub(super) report: Option<PathBuf>,
    /// End with exit code 6 if this holds, such as 'p99>5ms' or 'rate<100000'; can be given several times
    #[arg(long, value_name = "CONDITION")]
    pub(super) fail_if: Vec<Gate>,
    /// What to show on stderr meanwhile: with auto a bar and a line for each second if that is a terminal, with lines those in any
    /// case
    #[arg(long, value_enum, default_value_t = ShowProgress::Auto)]
    pub(super) progress: ShowProgress,
}

/// When it happens, and how long it is measured.
#[derive(Debug, Args)]
struct Timing {
    /// How many in flight per connection: the next goes out when one is complete
    /// [default: 32; many-topics, echo: 1; ingest: 4096; churn: 16; connect: 64 in each thread]
    #[arg(long, value_name = "N")]
    window: Option<u32>,
    /// How many a second by all together, whether the broker keeps up or not: 500, 2.5k; in steps, 1k,2k,4k; or rising,
    /// 1k..50k/10s
    #[arg(long, value_name = "RATE", conflicts_with = "window")]
    rate: Option<String>,
    /// How long to measure; with steps, each that does not say how long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    duration: Duration,
    /// How long to run before
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    warmup: Duration,
    /// Send and measure so many per publisher instead (churn: per connection; connect: per thread)
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warmup"])]
    count: Option<u64>,
}

#[derive(Debug, Args)]
struct Payload {
    /// Bytes of a payload; at least 16, with json 24, for what the generator measures with
    #[arg(long, value_name = "BYTES", default_value = "128", value_parser = parse_bytes)]
    size: usize,
}

/// What is the same for all scenarios that publish.
#[derive(Debug, Args)]
struct Sending {
    #[command(flatten)]
    payload: Payload,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    common: Common,
}

/// Publish to one topic with many subscribers, check every delivery, and print rates and latencies
///
/// A delivery that is lost, duplicated or out of order, and a connection that breaks, make the exit code 5.
#[derive(Debug, Args)]
pub(super) struct FanoutArgs {
    /// Connections that receive
    #[arg(long, value_name = "N", default_value_t = 1000)]
    subscribers: u32,
    /// Connections that send
    #[arg(long, value_name = "N", default_value_t = 1)]
    publishers: u32,
    #[command(flatten)]
    sending: Sending,
}

/// Publish to one topic by many, with few subscribers
#[derive(Debug, Args)]
pub(super) struct FaninArgs {
    /// Connections that send
    #[arg(long, value_name = "N", default_value_t = 1000)]
    publishers: u32,
    /// Connections that receive
    #[arg(long, value_name = "N", default_value_t = 1)]
    subscribers: u32,
    #[command(flatten)]
    sending: Sending,
}

/// Publish to many topics, each with publishers and subscribers of its own
#[derive(Debug, Args)]
pub(super) struct ManyTopicsArgs {
    /// Topics
    #[arg(long, value_name = "N", default_value_t = 500)]
    topics: u32,
    /// Connections that send to each
    #[arg(long, value_name = "N", default_value_t = 1)]
    publishers: u32,
    /// Connections that receive from each
    #[arg(long, value_name = "N", default_value_t = 2)]
    subscribers: u32,
    /// Share the rate by the law of Zipf: topic n gets a part that goes with 1/n^EXPONENT
    #[arg(long, value_name = "EXPONENT")]
    zipf: Option<f64>,
    #[command(flatten)]
    sending: Sending,
}

/// Send to oneself and measure round trips, by a topic of its own for each connection, or on --path of an echo server
#[derive(Debug, Args)]
pub(super) struct EchoArgs {
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 100)]
    connections: u32,
    #[command(flatten)]
    sending: Sending,
}

/// Publish to subscribers of which some stop reading: the others are measured, and what the broker did to the slow is told
#[derive(Debug, Args)]
pub(super) struct SlowArgs {
    /// Connections that receive
    #[arg(long, value_name = "N", default_value_t = 1000)]
    subscribers: u32,
    /// How many of them read nothing while the run lasts, or what share: 100 or 10%
    #[arg(long, value_name = "N", default_value = "10%")]
    slow: String,
    /// What the slow ones ask the broker to do, with json or bin: close, drop-new, drop-old or latest
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    policy: Option<SlowPolicy>,
    /// Connections that send
    #[arg(long, value_name = "N", default_value_t = 1)]
    publishers: u32,
    #[command(flatten)]
    sending: Sending,
}

/// Publish to a topic that nobody subscribes to: how fast the broker takes messages in
///
/// What it has taken in is known by pings: one goes out behind every half of the window, and its pong says that all before it
/// was processed. They are those of the protocol, or, with raw and path, WebSocket's own, of which servers bear so few that a
/// connection sends at most 800 a second: it cannot do more than 400 times its window in a second.
#[derive(Debug, Args)]
pub(super) struct IngestArgs {
    /// Connections that send
    #[arg(long, value_name = "N", default_value_t = 10)]
    publishers: u32,
    #[command(flatten)]
    sending: Sending,
}

/// Subscribe and unsubscribe, each command confirmed, on its own or beside a fan-out
#[derive(Debug, Args)]
pub(super) struct ChurnArgs {
    /// Connections that subscribe and unsubscribe
    #[arg(long, value_name = "N", default_value_t = 100)]
    connections: u32,
    /// Filters of each: it subscribes to all of them, takes all of that back, and begins again
    #[arg(long, value_name = "N", default_value_t = 10)]
    filters: u32,
    /// Connections that receive what is published meanwhile; 0 for no fan-out
    #[arg(long, value_name = "N", default_value_t = 0)]
    fanout_subscribers: u32,
    /// Connections that publish meanwhile
    #[arg(long, value_name = "N", default_value_t = 1)]
    fanout_publishers: u32,
    /// Messages in flight of each of those
    #[arg(long, value_name = "N", default_value_t = 1)]
    fanout_window: u32,
    /// Messages a second of all of those together
    #[arg(long, value_name = "RATE", conflicts_with = "fanout_window")]
    fanout_rate: Option<String>,
    #[command(flatten)]
    sending: Sending,
}

/// Open connections and close them again
#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    common: Common,
}

/// Open connections and hold them: how fast they open, and what each costs the broker
///
/// What memory each costs is told with --server-pid, by how much the broker's grew; one that was just started has none left
/// from before.
#[derive(Debug, Args)]
pub(super) struct IdleArgs {
    /// Connections; more than the limit of open files take several threads
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: u32,
    /// Topics that each subscribes to
    #[arg(long, value_name = "N", default_value_t = 0)]
    subscriptions: u32,
    /// How long to hold them
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    duration: Duration,
    #[command(flatten)]
    common: Common,
}

/// Run the scenario that a file describes
///
/// The file is TOML: `scenario = "fanout"`, and settings by the names they have as flags.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The file
    pub(super) file: PathBuf,
    /// Flags of the scenario that replace what the file says
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    pub(super) flags: Vec<String>,
}

type Planned<'a> = Result<(Plan, &'a Output), String>;

impl Common {
    fn plan(&self, scenario: Scenario, protocol: Protocol) -> Result<Plan, String> {
        let token = self.token.read().map_err(|failure| failure.error.to_string())?;
        Ok(Plan {
            token: token.map(Token),
            scenario,
            url: self.url.clone(),
            tls: Tls {
                trust: match &self.tls_ca {
                    _ if self.tls_insecure => Trust::Anybody,
                    Some(path) => Trust::Authorities(path.clone()),
                    None => Trust::System,
                },
                version: self.tls_version,
                resume: self.tls_resume,
            },
            path: self.path.clone(),
            topic: self.topic.clone(),
            protocol: self.protocol.unwrap_or(protocol),
            version: self.version,
            compression: self.compression,
            open_rate: self.open_rate,
            local_addresses: self.local_address.clone(),
            threads: self.threads,
            cores: self.core.clone(),
            server_pids: self.server_pid.clone(),
            ..Plan::default()
        })
    }
}

impl Timing {
    fn apply(&self, window: u32, plan: &mut Plan) -> Result<(), String> {
        plan.load = match &self.rate {
            Some(rate) => Load::parse_rate(rate, self.duration)?,
            None => Load::Window(self.window.unwrap_or(window)),
        };
        plan.extent = match self.count {
            Some(count) => Extent::Count(count),
            None => Extent::Time {
                warmup: self.warmup,
                measured: plan.load.length().unwrap_or(self.duration),
            },
        };
        Ok(())
    }
}

impl Sending {
    /// The plan of a scenario, with what protocol and window are if none is given.
    fn plan(&self, scenario: Scenario, protocol: Protocol, window: u32) -> Planned<'_> {
        let mut plan = self.common.plan(scenario, protocol)?;
        plan.size = self.payload.size;
        self.timing.apply(window, &mut plan)?;
        Ok((plan, &self.common.output))
    }
}

impl FanoutArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let scenario = Scenario::Fanout {
            publishers: self.publishers,
            subscribers: self.subscribers,
        };
        self.sending.plan(scenario, Protocol::Raw, 32)
    }
}

impl FaninArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let scenario = Scenario::Fanin {
            publishers: self.publishers,
            subscribers: self.subscribers,
        };
        self.sending.plan(scenario, Protocol::Raw, 32)
    }
}

impl ManyTopicsArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let scenario = Scenario::ManyTopics {
            topics: self.topics,
            publishers: self.publishers,
            subscribers: self.subscribers,
            zipf: self.zipf,
        };
        self.sending.plan(scenario, Protocol::Raw, 1)
    }
}

impl EchoArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let scenario = Scenario::Echo {
            connections: self.connections,
        };
        self.sending.plan(scenario, Protocol::Raw, 1)
    }
}

impl SlowArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let scenario = Scenario::Slow {
            publishers: self.publishers,
            subscribers: self.subscribers,
            slow: part(&self.slow, self.subscribers)?,
            policy: self.policy,
        };
        self.sending.plan(scenario, Protocol::Raw, 32)
    }
}

impl IngestArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let scenario = Scenario::Ingest {
            publishers: self.publishers,
        };
        self.sending.plan(scenario, Protocol::Raw, 4096)
    }
}

impl ChurnArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let load = match &self.fanout_rate {
            Some(rate) => Load::parse_rate(rate, self.sending.timing.duration)?,
            None => Load::Window(self.fanout_window),
        };
        if matches!(load, Load::Steps(_)) {
            return Err("--fanout-rate is one rate: the steps are those of --rate".to_owned());
        }
        let beside = (self.fanout_subscribers > 0).then_some(Beside {
            publishers: self.fanout_publishers,
            subscribers: self.fanout_subscribers,
            load,
        });
        let scenario = Scenario::Churn {
            connections: self.connections,
            filters: self.filters,
            beside,
        };
        self.sending.plan(scenario, Protocol::Json, 16)
    }
}

impl ConnectArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let mut plan = self.common.plan(Scenario::Connect, Protocol::Raw)?;
        self.timing.apply(64, &mut plan)?;
        Ok((plan, &self.common.output))
    }
}

impl IdleArgs {
    pub(super) fn plan(&self) -> Planned<'_> {
        let scenario = Scenario::Idle {
            connections: self.connections,
            subscriptions: self.subscriptions,
        };
        let mut plan = self.common.plan(scenario, Protocol::Raw)?;
        plan.extent = Extent::Time {
            warmup: Duration::ZERO,
            measured: self.duration,
        };
        Ok((plan, &self.common.output))
    }
}

/// `100` or `10%` of `whole`.
fn part(text: &str, whole: u32) -> Result<u32, String> {
    let usage = || format!("{text:?} is no part of the subscribers: write 100 or 10%");
    let part = match text.strip_suffix('%') {
        Some(percent) => {
            let percent: u32 = percent.parse().map_err(|_| usage())?;
            (u64::from(whole) * u64::from(percent) / 100) as u32
        }
        None => text.parse().map_err(|_| usage())?,
    };
    if part > whole { Err(usage()) } else { Ok(part) }
}

fn policy(word: &str) -> Result<SlowPolicy, String> {
    SlowPolicy::parse(word).ok_or_else(|| "it is close, drop-new, drop-old or latest".to_owned())
}

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "1.2" => Ok(TlsVersion::V12),
        "1.3" => Ok(TlsVersion::V13),
        _ => Err("it is 1.2 or 1.3".to_owned()),
    }
}

fn version(text: &str) -> Result<Version, String> {
    let known = || {
        let numbers: Vec<_> = Version::ALL.iter().rev().map(Version::to_string).collect();
        format!("it is one of {}", numbers.join(", "))
    };
    text.parse().ok().and_then(Version::from_number).ok_or_else(known)
}
