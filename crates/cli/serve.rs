//! `tidecast serve`: runs the broker.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tidecast_server::{Config, SlowPolicy, Strategy};

use crate::exit::Failure;
use crate::units::{duration, size};

/// Run the broker
///
/// It stops in order at SIGINT or SIGTERM: clients are told `bye` and when to come back, and closed with
/// 1001.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidecast serve
  tidecast serve --listen 0.0.0.0:8080 --listen '[::]:8080'
  tidecast serve --workers 4 --max-message 64K --max-pending 16M
  TIDECAST_LISTEN=0.0.0.0:80 tidecast serve")]
pub(crate) struct ServeArgs {
    /// Listen on this address; give it again for more
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        env = "TIDECAST_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<SocketAddr>,
    /// Worker threads [default: one for each core the process may use]
    #[arg(long, value_name = "N", env = "TIDECAST_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// The largest message accepted from a client
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = size, env = "TIDECAST_MAX_MESSAGE")]
    max_message: usize,
    /// Bytes that may wait for a slow subscriber before it is closed with 4000
    #[arg(long, value_name = "BYTES", default_value = "4MiB", value_parser = size, env = "TIDECAST_MAX_PENDING")]
    max_pending: usize,
    /// Messages that may wait for it, if its slow policy drops messages
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        env = "TIDECAST_MAX_PENDING_MESSAGES"
    )]
    max_pending_messages: usize,
    /// What is done when a subscriber reads too slowly and did not say what it wants
    #[arg(long, value_name = "POLICY", default_value = "close", env = "TIDECAST_SLOW")]
    slow: Slow,
    /// Connections of one worker [default: what the descriptor limit allows]
    #[arg(long, value_name = "N", env = "TIDECAST_MAX_CONNECTIONS")]
    max_connections: Option<u32>,
    /// Subscriptions of one connection
    #[arg(long, value_name = "N", default_value_t = 1000, env = "TIDECAST_MAX_SUBSCRIPTIONS")]
    max_subscriptions: u32,
    /// The longest topic or filter
    #[arg(long, value_name = "BYTES", default_value_t = 255, env = "TIDECAST_MAX_TOPIC")]
    max_topic: u16,
    /// The most levels of a topic or filter
    #[arg(long, value_name = "N", default_value_t = 16, env = "TIDECAST_MAX_LEVELS")]
    max_levels: u8,
    /// Which member of a shared subscription ($share/GROUP/FILTER) gets a message
    #[arg(
        long,
        value_name = "STRATEGY",
        default_value = "round-robin",
        env = "TIDECAST_SHARE_STRATEGY"
    )]
    share_strategy: ShareStrategy,
    /// Messages that may wait for a worker that is behind, before publishers on other workers are slowed down
    #[arg(long, value_name = "N", default_value_t = 4096, env = "TIDECAST_MAILBOX_MESSAGES")]
    mailbox_messages: usize,
    /// The same in bytes of payload; one message is always taken
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = size, env = "TIDECAST_MAILBOX_BYTES")]
    mailbox_bytes: usize,
    /// The versions of WebSocket that are accepted
    #[arg(
        long,
        value_name = "N,…",
        default_value = "13,8,7,6",
        value_delimiter = ',',
        env = "TIDECAST_VERSIONS"
    )]
    versions: Vec<u8>,
    /// Compression of messages for clients that offer it, once for all of them: 1 (fast) to 9 (small), 0 for none
    #[arg(long, value_name = "LEVEL", default_value_t = 4, env = "TIDECAST_COMPRESSION")]
    compression: u8,
    /// Messages of fewer bytes are not compressed
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = size, env = "TIDECAST_COMPRESS_MIN")]
    compress_min: usize,
    /// Let clients compress with references to their earlier messages; each that does takes 48 KiB of --inflate-memory for
    /// as long as it is connected
    #[arg(long, env = "TIDECAST_CLIENT_CONTEXT_TAKEOVER")]
    client_context_takeover: bool,
    /// Memory of a worker for inflating what clients compress; one that finds none left is closed
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = size, env = "TIDECAST_INFLATE_MEMORY")]
    inflate_memory: usize,
    /// After messages went out to connections, how long the next ones wait for more to go out with them: less work for the
    /// system when many follow each other, and as much more latency; one that comes alone never waits
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration, env = "TIDECAST_FLUSH_DELAY")]
    flush_delay: Duration,
    /// The longest HTTP request head
    #[arg(long, value_name = "BYTES", default_value = "16KiB", value_parser = size, env = "TIDECAST_MAX_HEAD")]
    max_head: usize,
    /// How long a request head may take to arrive
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, env = "TIDECAST_HANDSHAKE_TIMEOUT")]
    handshake_timeout: Duration,
    /// Silence of a client after which it is pinged; 0 never pings
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = duration, env = "TIDECAST_PING_INTERVAL")]
    ping_interval: Duration,
    /// How long after a ping a client has to be heard
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, env = "TIDECAST_PONG_TIMEOUT")]
    pong_timeout: Duration,
    /// How long the closing handshake of a connection may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, env = "TIDECAST_CLOSE_TIMEOUT")]
    close_timeout: Duration,
    /// How long a client may stay without sending a message, whatever it receives, before it is closed with 1001; 0 is
    /// for ever
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration, env = "TIDECAST_IDLE_TIMEOUT")]
    idle_timeout: Duration,
    /// How long a stop waits for closing handshakes
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, env = "TIDECAST_DRAIN_TIMEOUT")]
    drain_timeout: Duration,
    /// Do not bind each worker to a core of its own
    #[arg(long, env = "TIDECAST_NO_PIN")]
    no_pin: bool,
}

/// Names of the policies.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Slow {
    /// It is closed with 4000
    Close,
    /// Messages that do not fit are dropped
    DropNew,
    /// The oldest messages that wait are dropped
    DropOld,
    /// Of messages with the same topic and key only the latest waits; besides, the oldest are dropped
    Latest,
}

impl From<Slow> for SlowPolicy {
    fn from(slow: Slow) -> Self {
        match slow {
            Slow::Close => SlowPolicy::Close,
            Slow::DropNew => SlowPolicy::DropNew,
            Slow::DropOld => SlowPolicy::DropOld,
            Slow::Latest => SlowPolicy::Latest,
        }
    }
}

/// Names of the strategies.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShareStrategy {
    /// One member after the other
    RoundRobin,
    /// Any member, all equally likely
    Random,
    /// For a topic always the same member, as long as it is there
    Sticky,
}

impl From<ShareStrategy> for Strategy {
    fn from(strategy: ShareStrategy) -> Self {
        match strategy {
            ShareStrategy::RoundRobin => Strategy::RoundRobin,
            ShareStrategy::Random => Strategy::Random,
            ShareStrategy::Sticky => Strategy::Sticky,
        }
    }
}

impl ServeArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        tidecast_server::run(self.config()).map_err(|error| Failure::from(anyhow::Error::new(error)))
    }

    fn config(self) -> Config {
        Config {
            listen: self.listen,
            workers: self.workers,
            max_message: self.max_message,
            max_pending: self.max_pending,
            max_pending_messages: self.max_pending_messages,
            slow: self.slow.into(),
            max_connections: self.max_connections,
            max_subscriptions: self.max_subscriptions,
            max_topic: self.max_topic,
            max_levels: self.max_levels,
            share_strategy: self.share_strategy.into(),
            mailbox_messages: self.mailbox_messages,
            mailbox_bytes: self.mailbox_bytes,
            versions: self.versions,
            compression: self.compression,
            compress_min: self.compress_min,
            client_context_takeover: self.client_context_takeover,
            inflate_memory: self.inflate_memory,
            flush_delay: self.flush_delay,
            max_head: self.max_head,
            handshake_timeout: self.handshake_timeout,
            ping_interval: self.ping_interval,
            pong_timeout: self.pong_timeout,
            close_timeout: self.close_timeout,
            idle_timeout: self.idle_timeout,
            drain_timeout: self.drain_timeout,
            pin: !self.no_pin,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn config(line: &[&str]) -> Config {
        let line = ["serve"].into_iter().chain(line.iter().copied());
        Line::try_parse_from(line)
            .unwrap_or_else(|error| panic!("{error}"))
            .args
            .config()
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_server() {
        assert_eq!(format!("{:?}", config(&[])), format!("{:?}", Config::default()));
    }

    #[test]
    fn every_flag_reaches_its_setting() {
        let config = config(&[
            "--listen",
            "0.0.0.0:1",
            "--listen",
            "[::1]:2,127.0.0.1:3",
            "--workers",
            "3",
            "--max-message",
            "64K",
            "--max-pending",
            "1M",
            "--max-pending-messages",
            "55",
            "--slow",
            "drop-old",
            "--max-connections",
            "7",
            "--max-subscriptions",
            "8",
            "--max-topic",
            "100",
            "--max-levels",
            "5",
            "--share-strategy",
            "sticky",
            "--mailbox-messages",
            "10",
            "--mailbox-bytes",
            "11K",
            "--versions",
            "13,7",
            "--compression",
            "9",
            "--compress-min",
            "12",
            "--client-context-takeover",
            "--inflate-memory",
            "13M",
            "--flush-delay",
            "2ms",
            "--max-head",
            "9KiB",
            "--handshake-timeout",
            "1",
            "--ping-interval",
            "0",
            "--pong-timeout",
            "2s",
            "--close-timeout",
            "300ms",
            "--idle-timeout",
            "2s",
            "--drain-timeout",
            "4",
            "--no-pin",
        ]);
        let expected = Config {
            listen: ["0.0.0.0:1", "[::1]:2", "127.0.0.1:3"]
                .map(|address| address.parse().unwrap())
                .to_vec(),
            workers: NonZeroUsize::new(3),
            max_message: 64 << 10,
            max_pending: 1 << 20,
            max_pending_messages: 55,
            slow: SlowPolicy::DropOld,
            max_connections: Some(7),
            max_subscriptions: 8,
            max_topic: 100,
            max_levels: 5,
            share_strategy: Strategy::Sticky,
            mailbox_messages: 10,
            mailbox_bytes: 11 << 10,
            versions: vec![13, 7],
            compression: 9,
            compress_min: 12,
            client_context_takeover: true,
            inflate_memory: 13 << 20,
            flush_delay: Duration::from_millis(2),
            max_head: 9 << 10,
            handshake_timeout: Duration::from_secs(1),
            ping_interval: Duration::ZERO,
            pong_timeout: Duration::from_secs(2),
            close_timeout: Duration::from_millis(300),
            idle_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(4),
            pin: false,
        };
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
    }

    #[test]
    fn what_is_no_number_of_workers_is_a_usage_error() {
        for line in [
            ["serve", "--workers", "0"],
            ["serve", "--max-message", "1X"],
            ["serve", "--listen", "8080"],
        ] {
            assert!(Line::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
