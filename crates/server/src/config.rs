//! Settings, as written and as resolved.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use tidecast_broker::{SlowPolicy, Strategy, TopicLimits, WorkerSet};
use tidecast_websocket::{Millis, Timing, Version, Versions};
use tidecast_worker::{Compression, MailboxLimits};

/// The largest message that can be allowed. As a JSON string it is up to six times as long, if all of it has to be
/// escaped, and that fits with [`MOST_PENDING`] into the 32 bits in which queues count.
const MOST_MESSAGE: usize = 1 << 28;
/// The most that can be allowed to wait for a subscriber.
const MOST_PENDING: usize = 1 << 30;
const _: () = assert!(MOST_PENDING + 7 * MOST_MESSAGE < u32::MAX as usize);
/// The most messages a mailbox can hold: its 16 MiB of slots are allocated at the start.
const MOST_MAIL: usize = 1 << 20;
/// The longest that output may be held back.
const MOST_DELAY: Duration = Duration::from_millis(20);
/// The smallest request head limit: less does not hold a browser's handshake.
const LEAST_HEAD: usize = 1024;
/// Connections of one worker when the descriptor limit would allow more; each costs 8 bytes of kernel memory unused.
const DEFAULT_CONNECTIONS: u64 = 1 << 17;

/// Settings of the broker as they are written.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on. Port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Worker threads; as many as cores, if there is none.
    pub workers: Option<NonZeroUsize>,
    /// The largest message accepted from a client, in bytes.
    pub max_message: usize,
    /// Bytes that may wait for a subscriber that does not read, before it is closed with 4000 or messages are dropped.
    pub max_pending: usize,
    /// Messages that may wait for it, where messages are dropped.
    pub max_pending_messages: usize,
    /// What is done with messages for a subscription that is behind and did not say.
    pub slow: SlowPolicy,
    /// Connections of one worker; what the descriptor limit allows, if there is none.
    pub max_connections: Option<u32>,
    /// Subscriptions of one connection.
    pub max_subscriptions: u32,
    /// The longest topic or filter, in bytes.
    pub max_topic: u16,
    /// The most levels of a topic or filter.
    pub max_levels: u8,
    /// Which member of a shared subscription (`$share/<group>/<filter>`) gets a message.
    pub share_strategy: Strategy,
    /// Messages that may wait for a worker that is behind, before publishers on other workers are slowed down.
    pub mailbox_messages: usize,
    /// The same in bytes of payload.
    pub mailbox_bytes: usize,
    /// The versions of WebSocket that are accepted, by their numbers: 13, 8, 7, 6.
    pub versions: Vec<u8>,
    /// Compression of messages: 1 (fast) to 9 (small), 0 for none.
    pub compression: u8,
    /// Messages of fewer bytes are not compressed.
    pub compress_min: usize,
    /// Whether clients may compress with references to their earlier messages, for an inflater each as long as they are
    /// connected.
    pub client_context_takeover: bool,
    /// The memory that a worker may use to inflate what clients compress, in bytes.
    pub inflate_memory: usize,
    /// How long after a send to its connections a worker waits for more to go out with the next one; zero never waits.
    pub flush_delay: Duration,
    /// The longest HTTP request head, in bytes.
    pub max_head: usize,
    /// How long a request head may take to arrive.
    pub handshake_timeout: Duration,
    /// Silence of a client after which it is pinged; zero never pings.
    pub ping_interval: Duration,
    /// How long after a ping a client has to be heard.
    pub pong_timeout: Duration,
    /// How long the closing handshake of a connection may take.
    pub close_timeout: Duration,
    /// How long a client may stay without sending a message; zero is for ever.
    pub idle_timeout: Duration,
    /// How long a stop waits for closing handshakes.
    pub drain_timeout: Duration,
    /// Bind each worker to a core of its own.
    pub pin: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            workers: None,
            max_message: 1 << 20,
            max_pending: 4 << 20,
            max_pending_messages: 10_000,
            slow: SlowPolicy::Close,
            max_connections: None,
            max_subscriptions: 1000,
            max_topic: 255,
            max_levels: 16,
            share_strategy: Strategy::RoundRobin,
            mailbox_messages: 4096,
            mailbox_bytes: 64 << 20,
            versions: vec![13, 8, 7, 6],
            // 1 KiB of JSON takes level 1 six microseconds and becomes 358 bytes; 2 to 9 take 13 and make it 273, which
            // pays from a few subscribers on. Level 1 does not fit its codes to the data.
            compression: 4,
            // Around 100 bytes a text begins to shrink by more than a deflated block costs.
            compress_min: 100,
            client_context_takeover: false,
            inflate_memory: 64 << 20,
            flush_delay: Duration::ZERO,
            max_head: 16 << 10,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            idle_timeout: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            pin: true,
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing to listen on.
    #[error("no address to listen on: give at least one --listen")]
    NoAddress,
    /// An address twice.
    #[error("--listen {0} is given twice")]
    AddressTwice(SocketAddr),
    /// Too many workers.
    #[error("--workers {0}: there can be at most {most}", most = WorkerSet::MAX)]
    Workers(usize),
    /// A message limit out of range.
    #[error("--max-message {0}: give 1 to {MOST_MESSAGE} bytes")]
    MaxMessage(usize),
    /// A limit for slow subscribers out of range.
    #[error("--max-pending {0}: give 1 to {MOST_PENDING} bytes")]
    MaxPending(usize),
    /// A version that is not spoken.
    #[error("--versions {0}: give some of {all}", all = Versions::ALL)]
    Version(u8),
    /// No version at all.
    #[error("--versions names none: give some of {all}", all = Versions::ALL)]
    NoVersion,
    /// A level that does not exist.
    #[error("--compression {0}: give 1 (fast) to 9 (small), or 0 for none")]
    Compression(u8),
    /// A mailbox limit out of range.
    #[error("--mailbox-messages {0}: at most {MOST_MAIL} can wait")]
    MailboxMessages(usize),
    /// A flush delay out of range.
    #[error("--flush-delay {0:?}: at most {MOST_DELAY:?}, by which every message may come later")]
    FlushDelay(Duration),
    /// A head limit out of range.
    #[error("--max-head {0}: give at least {LEAST_HEAD} bytes, which a browser's handshake can need")]
    MaxHead(usize),
    /// More connections than descriptors.
    #[error(
        "--max-connections {asked}: a ring's file table may not be larger than the descriptor limit, which is {limit} \
         (raise it with `ulimit -n` or LimitNOFILE= in a systemd unit)"
    )]
    MaxConnections {
        /// What was asked for.
        asked: u32,
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// Zero where it makes no sense.
    #[error("{0} has to be more than zero")]
    Zero(&'static str),
}

/// Settings with everything decided.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) share_strategy: Strategy,
    /// The core of each worker.
    pub(crate) cores: Vec<Option<usize>>,
    pub(crate) drain_timeout: Duration,
    pub(crate) mailbox: MailboxLimits,
    pub(crate) worker: tidecast_worker::Config,
}

impl Config {
    /// Decides what is left open, for a process that may run on `cores` and open `descriptors`.
    ///
    /// # Errors
    /// A setting is out of range; the error names it and its range.
    pub(crate) fn resolve(
        &self,
        cores: &[usize],
        descriptors: u64,
        page: &'static str,
    ) -> Result<Resolved, ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        for (i, address) in self.listen.iter().enumerate() {
            if address.port() != 0 && self.listen[..i].contains(address) {
                return Err(ConfigError::AddressTwice(*address));
            }
        }
        let workers = self
            .workers
            .map_or(cores.len().clamp(1, WorkerSet::MAX), NonZeroUsize::get);
        if workers > WorkerSet::MAX {
            return Err(ConfigError::Workers(workers));
        }
        if !(1..=MOST_MESSAGE).contains(&self.max_message) {
            return Err(ConfigError::MaxMessage(self.max_message));
        }
        if !(1..=MOST_PENDING).contains(&self.max_pending) {
            return Err(ConfigError::MaxPending(self.max_pending));
        }
        if self.versions.is_empty() {
            return Err(ConfigError::NoVersion);
        }
        let versions = self.versions.iter().try_fold(Versions::NONE, |versions, number| {
            let version = Version::from_number(*number).ok_or(ConfigError::Version(*number))?;
            Ok(versions.with(version))
        })?;
        if self.compression > 9 {
            return Err(ConfigError::Compression(self.compression));
        }
        if self.mailbox_messages > MOST_MAIL {
            return Err(ConfigError::MailboxMessages(self.mailbox_messages));
        }
        if self.flush_delay > MOST_DELAY {
            return Err(ConfigError::FlushDelay(self.flush_delay));
        }
        if self.max_head < LEAST_HEAD {
            return Err(ConfigError::MaxHead(self.max_head));
        }
        for (name, zero) in [
            ("--max-connections", self.max_connections == Some(0)),
            ("--max-topic", self.max_topic == 0),
            ("--max-levels", self.max_levels == 0),
            ("--mailbox-messages", self.mailbox_messages == 0),
            ("--handshake-timeout", self.handshake_timeout.is_zero()),
            ("--pong-timeout", self.pong_timeout.is_zero()),
            ("--close-timeout", self.close_timeout.is_zero()),
        ] {
            if zero {
                return Err(ConfigError::Zero(name));
            }
        }
        let max_connections = match self.max_connections {
            Some(asked) if u64::from(asked) > descriptors => {
                return Err(ConfigError::MaxConnections {
                    asked,
                    limit: descriptors,
                });
            }
            Some(asked) => asked,
            None => descriptors.min(DEFAULT_CONNECTIONS) as u32,
        };
        // More workers than cores share them in turn; one worker alone is pinned too, if there is only one core for it.
        let core = |worker: usize| (self.pin && !cores.is_empty()).then(|| cores[worker % cores.len()]);
        Ok(Resolved {
            listen: self.listen.clone(),
            share_strategy: self.share_strategy,
            cores: (0..workers).map(core).collect(),
            drain_timeout: self.drain_timeout,
            mailbox: MailboxLimits {
                messages: self.mailbox_messages,
                bytes: self.mailbox_bytes,
            },
            worker: tidecast_worker::Config {
                max_message: self.max_message as u32,
                max_pending: self.max_pending,
                max_pending_messages: self.max_pending_messages,
                slow: self.slow,
                max_connections,
                max_subscriptions: self.max_subscriptions,
                topics: TopicLimits {
                    max_bytes: self.max_topic,
                    max_levels: self.max_levels,
                },
                max_head: self.max_head,
                handshake_timeout: self.handshake_timeout,
                versions,
                compression: (self.compression > 0).then_some(Compression {
                    level: self.compression,
                    min_message: self.compress_min,
                    client_context_takeover: self.client_context_takeover,
                    inflate_memory: self.inflate_memory,
                }),
                timing: Timing {
                    ping_interval: if self.ping_interval.is_zero() {
                        Millis::NEVER
                    } else {
                        self.ping_interval.into()
                    },
                    pong_timeout: self.pong_timeout.into(),
                    close_timeout: self.close_timeout.into(),
                    idle_timeout: if self.idle_timeout.is_zero() {
                        Millis::NEVER
                    } else {
                        self.idle_timeout.into()
                    },
                },
                flush_delay: self.flush_delay,
                core: None,
                page,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(change: impl FnOnce(&mut Config)) -> Result<Resolved, ConfigError> {
        let mut config = Config::default();
        change(&mut config);
        config.resolve(&[2, 5], 20_000, "")
    }

    #[test]
    fn what_is_left_open_follows_the_machine() {
        let resolved = resolve(|_| {}).unwrap();
        assert_eq!(resolved.cores, [Some(2), Some(5)]);
        assert_eq!(resolved.worker.max_connections, 20_000);
        let resolved = resolve(|config| {
            config.workers = NonZeroUsize::new(3);
            config.ping_interval = Duration::ZERO;
        })
        .unwrap();
        assert_eq!(resolved.cores, [Some(2), Some(5), Some(2)]);
        assert_eq!(resolved.worker.timing.ping_interval, Millis::NEVER);
        assert_eq!(resolve(|config| config.pin = false).unwrap().cores, [None, None]);
    }

    #[test]
    fn every_setting_out_of_range_is_refused_by_its_name() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        type Change = fn(&mut Config);
        let table: [(Change, &str); 13] = [
            (|config| config.mailbox_messages = 0, "--mailbox-messages"),
            (|config| config.compression = 10, "--compression 10"),
            (|config| config.versions = vec![13, 5], "13, 8, 7, 6"),
            (|config| config.versions.clear(), "--versions names none"),
            (|config| config.listen.clear(), "--listen"),
            (|config| config.workers = NonZeroUsize::new(257), "at most 256"),
            (|config| config.max_message = 0, "--max-message 0"),
            (|config| config.max_message = (1 << 28) + 1, "--max-message"),
            (|config| config.max_pending = 0, "--max-pending 0"),
            (|config| config.max_head = 100, "--max-head 100"),
            (|config| config.max_connections = Some(30_000), "20000"),
            (|config| config.close_timeout = Duration::ZERO, "--close-timeout"),
            (|config| config.flush_delay = Duration::from_secs(1), "--flush-delay 1s"),
        ];
        for (change, word) in table {
            let error = resolve(change).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
        let twice = resolve(|config| config.listen = vec![address, address]).unwrap_err();
        assert_eq!(twice, ConfigError::AddressTwice(address));
    }
}
