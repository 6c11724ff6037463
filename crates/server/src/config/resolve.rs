//! Settings with everything decided.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tidecast_broker::auth::{Authenticator, Grant, Ground, Settings};
use tidecast_broker::{Strategy, TopicLimits, WorkerSet};
use tidecast_driver::Kind;
use tidecast_websocket::{Millis, Timing, Version, Versions};
use tidecast_worker::{
    Admission, Carriers, Compression, IdentityLimits, ListenerConfig, MailboxLimits, MessageRates, Rate,
};

use super::listen::{Listen, Origin};
use super::network::Network;
use super::problem::{ConfigError, Problem};
use super::source::Loaded;
use crate::admin::AdminSettings;
use crate::hook::HookSettings;
use crate::jwks::JwksSettings;
use crate::log::LogSettings;
use crate::stop::StopSettings;
use crate::tls::{CertificateFiles, ClientAuth, ClientCertificates, TlsSettings};

/// Connections of one worker when the descriptor limit would allow more; each costs 8 bytes of kernel memory unused.
const DEFAULT_CONNECTIONS: u64 = 1 << 17;

/// Descriptors for all but connections: those of the control plane, which are 128 at most, files, and other servers.
const RESERVED_DESCRIPTORS: u64 = 128 + 64;
/// Those of a worker on epoll, besides its listeners.
const WORKER_DESCRIPTORS: u64 = 2;

/// What the process may use of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The cores it may run on.
    pub cores: Vec<usize>,
    /// Descriptors it may open (`RLIMIT_NOFILE`).
    pub descriptors: u64,
    /// The memory that it may use, in bytes, if that is known.
    pub memory: Option<usize>,
    /// What the system is asked by.
    pub driver: Kind,
}

/// Settings with everything decided.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) listeners: Vec<Listen>,
    /// What those with TLS need, if there are any.
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) share_strategy: Strategy,
    /// The core of each worker.
    pub(crate) cores: Vec<Option<usize>>,
    pub(crate) stop: StopSettings,
    /// How long a process that is to replace this one may take to come up.
    pub(crate) upgrade_timeout: Duration,
    pub(crate) mailbox: MailboxLimits,
    /// What may be held for clients, in bytes.
    pub(crate) memory: usize,
    /// What the worker's authenticator was made of.
    pub(crate) credentials: Settings,
    /// The key set that is fetched.
    pub(crate) key_set: Option<JwksSettings>,
    /// What is told of what happens.
    pub(crate) log: LogSettings,
    /// The control plane, if there is one.
    pub(crate) admin: Option<AdminSettings>,
    /// The service that is asked.
    pub(crate) hook: Option<HookSettings>,
    pub(crate) worker: tidecast_worker::Config,
    /// What is odd about it.
    pub(crate) warnings: Vec<Problem>,
}

/// So many; as many as there are for none.
fn most(number: u32) -> u32 {
    NonZeroU32::new(number).map_or(u32::MAX, NonZeroU32::get)
}

/// So many a second; as many as there are for none.
fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    NonZeroU32::new(per_second).map(|per_second| Rate::new(per_second, burst))
}

fn networks(networks: &[Network]) -> Vec<IpNet> {
    networks.iter().map(|network| network.0).collect()
}

/// An address to listen on, and what holds there.
struct Door {
    listen: Listen,
    origins: Option<Vec<Origin>>,
    proxy: bool,
    allow_anonymous: Option<bool>,
}

impl Door {
    /// Only this machine can reach it, and nobody through a proxy on it.
    fn is_local(&self, config: &super::Config) -> bool {
        let proxied = self.proxy || !config.server.trusted_proxies.is_empty();
        self.listen.address.ip().is_loopback() && !proxied
    }
}

impl Loaded {
    /// Decides what is left open, and checks what concerns several settings.
    ///
    /// # Errors
    /// Everything that does not fit together, or not on `machine`.
    pub(crate) fn resolve(&self, machine: &Machine, page: &'static str) -> Result<Resolved, ConfigError> {
        let mut problems = Vec::new();
        let doors = self.doors(&mut problems);
        let tls = self.tls(&doors, &mut problems);
        let versions = self.versions(&mut problems);
        let topics = TopicLimits {
            max_bytes: self.config.limits.max_topic,
            max_levels: self.config.limits.max_levels,
        };
        let (credentials, authenticator) = self.authenticator(topics, &mut problems);
        let hook = self.hook(&mut problems);
        let workers = self
            .config
            .server
            .workers
            .unwrap_or(machine.cores.len().clamp(1, WorkerSet::MAX));
        let asked = hook.as_ref().map_or(0, |hook| hook.concurrency);
        let room = room(machine, workers, doors.len(), asked);
        let max_connections = self.max_connections(machine, (workers, doors.len()), room, &mut problems);
        let admin = self.admin(&mut problems);
        let anonymous = self.anonymous(topics, &mut problems);
        let rules = self.rules(topics, &mut problems);
        self.check_openness(&doors, &authenticator, &mut problems);
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        let super::Config {
            server,
            limits,
            timeouts,
            websocket,
            auth,
            ..
        } = &self.config;
        // More workers than cores share them in turn; one worker alone is pinned too, if there is only one core for it.
        let cores = &machine.cores;
        let core = |worker: usize| (server.pin && !cores.is_empty()).then(|| cores[worker % cores.len()]);
        let never_if_zero = |time: Duration| if time.is_zero() { Millis::NEVER } else { time.into() };
        let closed = self.has_credentials(&authenticator);
        let is_open = |door: &Door| {
            let open = auth.allow_anonymous || (door.is_local(&self.config) && !closed);
            door.allow_anonymous.unwrap_or(open)
        };
        let origins = |door: &Door| {
            let origins = door.origins.as_ref().unwrap_or(&server.origins).iter().cloned();
            // What only this machine can reach has no name: one that a page brings along was made to lead here.
            let local = door.is_local(&self.config);
            let named = |origin| match origin {
                Origin::Same if local => Origin::SameAddress,
                other => other,
            };
            origins.map(named).collect()
        };
        Ok(Resolved {
            listeners: doors.iter().map(|door| door.listen).collect(),
            tls,
            share_strategy: server.share_strategy,
            cores: (0..workers).map(core).collect(),
            stop: StopSettings {
                spread: timeouts.drain_spread,
                patience: timeouts.drain_timeout,
                return_rate: limits.return_rate,
            },
            upgrade_timeout: timeouts.upgrade_timeout,
            mailbox: MailboxLimits {
                messages: server.mailbox_messages,
                bytes: server.mailbox_bytes,
                // What is asked at a time and what waits may all be of one worker.
                answers: self.config.hook.hook_concurrency + self.config.hook.hook_queue,
            },
            memory: limits
                .memory
                .or(machine.memory.map(|memory| memory / 2))
                .unwrap_or(usize::MAX),
            credentials,
            key_set: self.key_set(),
            log: self.log(),
            admin,
            hook,
            worker: tidecast_worker::Config {
                listeners: doors
                    .iter()
                    .zip(0..)
                    .map(|(door, number)| ListenerConfig {
                        origins: origins(door),
                        anonymous: is_open(door).then(|| {
                            Arc::new(Grant {
                                ground: Ground::Door(number),
                                ..anonymous.clone()
                            })
                        }),
                        proxy: door.proxy,
                        tls: None,
                    })
                    .collect(),
                admission: Admission {
                    connections: limits.max_connections.unwrap_or(u32::MAX),
                    per_address: most(limits.max_connections_per_ip),
                    rate: rate(limits.connection_rate, limits.connection_burst),
                    ipv6_prefix: limits.ipv6_prefix,
                    exempt: networks(&limits.exempt),
                    trusted: networks(&server.trusted_proxies),
                    forwarded: server.forwarded_header,
                },
                rates: MessageRates {
                    messages: rate(limits.message_rate, limits.message_burst),
                    bytes: rate(limits.byte_rate as u32, limits.byte_burst as u32),
                },
                identity: IdentityLimits {
                    connections: most(limits.max_connections_per_identity),
                    rates: MessageRates {
                        messages: rate(limits.identity_message_rate, limits.identity_message_burst),
                        bytes: rate(limits.identity_byte_rate as u32, limits.identity_byte_burst as u32),
                    },
                },
                max_age: (!timeouts.max_age.is_zero()).then_some(timeouts.max_age),
                unacknowledged_timeout: (!timeouts.unacknowledged_timeout.is_zero())
                    .then_some(timeouts.unacknowledged_timeout),
                rules: Arc::new(rules),
                authenticator: Arc::new(authenticator),
                carriers: Carriers {
                    cookie: auth.cookie.as_deref().map(Arc::from),
                    query_parameter: auth.query_parameter.as_deref().map(Arc::from),
                },
                hook: None,
                auth_timeout: auth.auth_timeout,
                max_message: limits.max_message as u32,
                max_pending: limits.max_pending,
                max_pending_messages: limits.max_pending_messages,
                slow: limits.slow,
                max_connections,
                max_subscriptions: limits.max_subscriptions,
                max_all_subscriptions: limits.max_all_subscriptions,
                topics,
                max_head: limits.max_head,
                handshake_timeout: timeouts.handshake_timeout,
                versions,
                compression: (websocket.compression > 0).then_some(Compression {
                    level: websocket.compression,
                    min_message: websocket.compress_min,
                    client_context_takeover: websocket.client_context_takeover,
                    inflate_memory: limits.inflate_memory,
                }),
                timing: Timing {
                    ping_interval: never_if_zero(timeouts.ping_interval),
                    pong_timeout: timeouts.pong_timeout.into(),
                    close_timeout: timeouts.close_timeout.into(),
                    idle_timeout: never_if_zero(timeouts.idle_timeout),
                    message_timeout: never_if_zero(timeouts.message_timeout),
                },
                flush_delay: server.flush_delay,
                driver: machine.driver,
                core: None,
                page,
            },
            warnings: self.warn_of_room(workers, max_connections),
        })
    }

    /// What is told of what happens.
    pub(crate) fn log(&self) -> LogSettings {
        let table = &self.config.log;
        LogSettings {
            level: table.log_level,
            format: table.log_format,
            connections: table.log_connections,
            rate: table.log_rate,
        }
    }

    /// What is listened on: `listen`, unless only tables are given, and the tables.
    fn doors(&self, problems: &mut Vec<Problem>) -> Vec<Door> {
        let config = &self.config;
        let simple = self.listens().then_some(&config.server.listen).into_iter().flatten();
        let simple = simple.map(|listen| Door {
            listen: *listen,
            origins: None,
            proxy: false,
            allow_anonymous: None,
        });
        let tables = config.listeners.iter().filter_map(|table| {
            Some(Door {
                listen: table.address?,
                origins: table.origins.clone(),
                proxy: table.proxy,
                allow_anonymous: table.allow_anonymous,
            })
        });
        let doors: Vec<_> = simple.chain(tables).collect();
        if doors.is_empty() {
            problems.push(self.problem("listen", "there is no address to listen on: give at least one"));
        }
        for (number, door) in doors.iter().enumerate() {
            let address = door.listen.address;
            let is_taken = |other: &Door| other.listen.address == address;
            if address.port() != 0 && doors[..number].iter().any(is_taken) {
                problems.push(self.problem("listen", format!("{address} is given twice")));
            }
            if door.proxy && config.server.trusted_proxies.is_empty() {
                let message =
                    format!("there is none, so nobody could connect to {address}, which is for proxies: name them");
                problems.push(self.problem("trusted_proxies", message));
            }
        }
        doors
    }

    /// What listeners with TLS need, if there are any.
    fn tls(&self, doors: &[Door], problems: &mut Vec<Problem>) -> Option<TlsSettings> {
        let table = &self.config.tls;
        let (chains, keys) = (&table.tls_cert, &table.tls_key);
        if chains.len() != keys.len() {
            let (chains, keys) = (chains.len(), keys.len());
            problems.push(self.problem(
                "tls_key",
                format!(
                    "there are {chains} of tls_cert and {keys} of tls_key: each certificate needs its key, in the same order \
                     (they may be one file)"
                ),
            ));
        }
        if table.tls_client_ca.is_none() && self.place("tls_client_auth").is_some() {
            let message = "clients are not asked for a certificate: name the authority for them in tls_client_ca";
            problems.push(self.problem("tls_client_auth", message));
        }
        if !doors.iter().any(|door| door.listen.tls) {
            if !chains.is_empty() {
                let message = "no listener has use for it: give --listen wss://ADDR";
                problems.push(self.problem("tls_cert", message));
            }
            return None;
        }
        Some(TlsSettings {
            certificates: std::iter::zip(chains, keys)
                .map(|(chain, key)| CertificateFiles {
                    chain: chain.clone(),
                    key: key.clone(),
                })
                .collect(),
            min_version: table.tls_min_version,
            clients: match (table.tls_client_ca.clone(), table.tls_client_auth) {
                (None, _) => ClientCertificates::No,
                (Some(path), ClientAuth::Required) => ClientCertificates::Required(path),
                (Some(path), ClientAuth::Optional) => ClientCertificates::Optional(path),
            },
            identity: table.tls_identity,
        })
    }

    /// Whether anything says who may do what.
    fn has_credentials(&self, authenticator: &Authenticator) -> bool {
        authenticator.takes_tokens() || !self.config.clients.is_empty()
    }

    /// Nobody is to find out later that all the world could publish.
    fn check_openness(&self, doors: &[Door], authenticator: &Authenticator, problems: &mut Vec<Problem>) {
        let is_asked = self.config.hook.hook_url.is_some();
        if self.config.auth.allow_anonymous || self.has_credentials(authenticator) || is_asked {
            return;
        }
        if let Some(door) = doors
            .iter()
            .find(|door| !door.is_local(&self.config) && door.allow_anonymous.is_none())
        {
            let message = format!(
                "other machines can reach {}{}, and nothing says who may do what: give keys or tokens ([auth], [[tokens]]; `tidecast \
                 config example` explains them), or say --allow-anonymous",
                door.listen.address,
                if door.listen.address.ip().is_loopback() {
                    " through a proxy"
                } else {
                    ""
                },
            );
            problems.push(self.problem("listen", message));
        }
    }

    fn versions(&self, problems: &mut Vec<Problem>) -> Versions {
        let all = Versions::ALL;
        let numbers = &self.config.websocket.versions;
        if numbers.is_empty() {
            problems.push(self.problem("versions", format!("there is none: give some of {all}")));
        }
        let add = |versions: Versions, number: &u8| match Version::from_number(*number) {
            Some(version) => versions.with(version),
            None => {
                problems.push(self.problem("versions", format!("{number} is not spoken: give some of {all}")));
                versions
            }
        };
        numbers.iter().fold(Versions::NONE, add)
    }

    /// How many connections a worker can have, of `room`.
    fn max_connections(
        &self,
        machine: &Machine,
        (workers, listeners): (usize, usize),
        room: u64,
        problems: &mut Vec<Problem>,
    ) -> u32 {
        let limit = machine.descriptors;
        let raise = "(raise it with `ulimit -n` or LimitNOFILE= in a systemd unit)";
        let reason = || match machine.driver {
            Kind::IoUring => {
                format!("a ring's file table may not be larger than the descriptor limit, which is {limit} {raise}")
            }
            Kind::Epoll => format!(
                "with epoll each connection takes a descriptor, and the descriptor limit, which is {limit}, leaves {room} for \
                 each of {workers} workers {raise}"
            ),
        };
        match self.config.limits.max_connections_per_worker {
            Some(asked) if u64::from(asked) > room => {
                problems.push(self.problem("max_connections_per_worker", reason()));
                asked
            }
            Some(asked) if (asked as usize) < listeners => {
                let message = format!(
                    "a worker holds a place for each listener, which are {listeners}: give {listeners} at least"
                );
                problems.push(self.problem("max_connections_per_worker", message));
                asked
            }
            Some(asked) => asked,
            None if room == 0 => {
                problems.push(self.problem("workers", reason()));
                0
            }
            None => room.min(DEFAULT_CONNECTIONS) as u32,
        }
    }

    /// Whoever allows more connections in all than there is room for should know it.
    fn warn_of_room(&self, workers: usize, max_connections: u32) -> Vec<Problem> {
        let room = workers as u64 * u64::from(max_connections);
        let asked = self
            .config
            .limits
            .max_connections
            .filter(|asked| u64::from(*asked) > room);
        asked
            .map(|_| {
                let message = format!(
                    "there is room for {room} only, {max_connections} at each of {workers} workers; more wait to be accepted \
                     (max_connections_per_worker, and the descriptor limit behind it, are what to raise)"
                );
                self.problem("max_connections", message)
            })
            .into_iter()
            .collect()
    }
}

/// How many connections each of `workers` can have on `machine`, with so many listeners each and requests to other servers.
fn room(machine: &Machine, workers: usize, listeners: usize, requests: usize) -> u64 {
    match machine.driver {
        // A table of its own each.
        Kind::IoUring => machine.descriptors,
        Kind::Epoll => {
            let workers = workers as u64;
            let each = WORKER_DESCRIPTORS + listeners as u64;
            let taken = RESERVED_DESCRIPTORS + workers * each + requests as u64;
            machine.descriptors.saturating_sub(taken) / workers
        }
    }
}
