//! What to run: as asked for, then checked.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;
use tidecast_client::Tls;
use tidecast_websocket::{Url, Version};

use crate::compression::Compression;
use crate::ledger::MAX_IN_FLIGHT;
use crate::load::Load;
use crate::payload::Stamp;
use crate::protocol::Protocol;
use crate::scenario::{Layout, Role, Scenario};

/// How long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Extent {
    /// Measures for `measured`, after `warmup` that is not measured.
    Time {
        /// Not measured, at the start.
        warmup: Duration,
        /// Measured, after it.
        measured: Duration,
    },
    /// So many messages per publisher, commands per connection, or connections per thread; all of them measured.
    Count(u64),
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is about.
    pub scenario: Scenario,
    /// Where the broker is: `ws://host:port`, or `wss:` for TLS.
    pub url: String,
    /// How TLS is spoken, if it is.
    pub tls: Tls,
    /// What the broker knows us by, if it wants to.
    pub token: Option<Token>,
    /// The request path: with `%s` where the topic goes, if the URL names it. The paths that are usual for the protocol if
    /// not given.
    pub path: Option<String>,
    /// The topic; where there are several, their common beginning.
    pub topic: String,
    /// How clients speak.
    pub protocol: Protocol,
    /// The WebSocket version they speak.
    pub version: Version,
    /// What those who receive offer to have their messages compressed with; a broker that declines it fails the run.
    pub compression: Compression,
    /// Bytes of a payload, see [`Protocol::smallest_payload`].
    pub size: usize,
    /// When publishers send, when commands are said, or when connections are opened: what the scenario is about.
    pub load: Load,
    /// How long.
    pub extent: Extent,
    /// Connections opened a second at the beginning, by all threads together; as many as the server takes if not given.
    pub open_rate: Option<f64>,
    /// Threads of the generator, among which connections are spread.
    pub threads: NonZeroU32,
    /// Cores to pin them to, in turn; none leaves it to the kernel.
    pub cores: Vec<usize>,
    /// Addresses of this machine to connect from, in turn. If none are given the kernel chooses, save that more connections
    /// to a loopback address than one address has ports for come from several.
    pub local_addresses: Vec<IpAddr>,
    /// The broker's processes, if their processor time and memory shall be measured, all of them together. They have to be on
    /// this machine. Memory that several of them share counts in each.
    pub server_pids: Vec<u32>,
    /// How long without anything happening until what is outstanding counts as lost.
    pub stall: Duration,
    /// How long one connection may take to open.
    pub open_timeout: Duration,
}

/// A token, sent with every handshake (`Authorization: Bearer`) and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            scenario: Scenario::Fanout {
                publishers: 1,
                subscribers: 1000,
            },
            url: "ws://127.0.0.1:8080".to_owned(),
            tls: Tls::default(),
            token: None,
            path: None,
            topic: "bench".to_owned(),
            protocol: Protocol::Raw,
            version: Version::V13,
            compression: Compression::None,
            size: 128,
            load: Load::Window(32),
            extent: Extent::Time {
                warmup: Duration::from_secs(1),
                measured: Duration::from_secs(10),
            },
            open_rate: None,
            threads: NonZeroU32::MIN,
            cores: Vec::new(),
            local_addresses: Vec::new(),
            server_pids: Vec::new(),
            stall: Duration::from_secs(5),
            open_timeout: Duration::from_secs(10),
        }
    }
}

/// A plan that cannot be run. The message says what to change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The URL is none of a WebSocket.
    #[error("{url:?} cannot be used: {reason}")]
    Url {
        /// As given.
        url: String,
        /// Why not.
        reason: String,
    },
    /// Settings without a use.
    #[error("{0:?} has no TLS: give a wss:// URL, or no settings for it")]
    NoTls(String),
    /// The path is none, or has no place for the topic.
    #[error("the path {0:?} has to begin with `/` and to hold `%s`, which stands for the topic")]
    Path(String),
    /// The path is none.
    #[error("the path {0:?} has to begin with `/`")]
    PathStart(String),
    /// The protocol brings its own path.
    #[error("{0} is always spoken on /ws: a path of your own goes with the other protocols")]
    PathWithOurs(Protocol),
    /// The protocol cannot say the topic.
    #[error("{0:?} cannot be a topic of nats: it has white space or begins or ends with a dot")]
    Topic(String),
    /// A topic that no protocol can say.
    #[error("a topic has 1 to 65,000 bytes, not {0}")]
    TopicLength(usize),
    /// A payload without room for what the generator measures with.
    #[error(
        "a payload of {size} bytes is too small: with the protocol {protocol} the first {smallest} bytes hold the \
         publisher, the sequence number and the time of sending"
    )]
    Size {
        /// As given.
        size: usize,
        /// The protocol.
        protocol: Protocol,
        /// What is needed.
        smallest: usize,
    },
    /// Nobody there.
    #[error("at least one {0} is needed")]
    None(&'static str),
    /// More than a thread or a run can have.
    #[error("{0} connections are more than a run can have")]
    TooMany(u64),
    /// More than messages can tell apart.
    #[error("{0} publishers are more than a run can have, which is {max}", max = Stamp::PUBLISHERS)]
    TooManyPublishers(usize),
    /// A protocol without commands.
    #[error("with the protocol {protocol} there is nothing to {what}: use json, bin, nats or mqtt")]
    NoCommands {
        /// The protocol.
        protocol: Protocol,
        /// What commands are needed for.
        what: &'static str,
    },
    /// A policy that cannot be said.
    #[error("the protocol {0} has no word for the policy of a slow subscriber: use json or bin")]
    Policy(Protocol),
    /// Shares of a rate that is none.
    #[error("topics that differ by the law of Zipf share a rate: give one, and an exponent of at least 0")]
    Zipf,
    /// A window of no or of too many messages.
    #[error("the window has to be 1 to {MAX_IN_FLIGHT}, not {0}")]
    Window(u32),
    /// A rate that is none.
    #[error("the rate has to be a positive number a second, not {0}")]
    Rate(String),
    /// Steps that are none.
    #[error("the rates of steps have to be positive, their times above zero, and the rows of their table at most {0}")]
    Steps(usize),
    /// Steps where there can be none.
    #[error("the fan-out beside has one rate or one window, not steps")]
    StepsBeside,
    /// Steps take the time they take.
    #[error("steps are measured for as long as they last together: no count and no other time goes with them")]
    StepsExtent,
    /// A run without an end or without a message.
    #[error("the run has to measure something: give a duration above zero or a count of at least one")]
    Empty,
    /// Idle connections send nothing that could be counted.
    #[error("idle connections are held for a time: there is nothing to count")]
    IdleCount,
}

/// Letters, digits and what a path segment may hold as it is, and `/`, which separates the levels of a topic.
const TOPIC: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl Plan {
    /// Whether it can be run.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_path()?;
        self.check_topic()?;
        let url = self.target(Role::Subscriber, 0)?;
        if !url.is_secure() && self.tls != Tls::default() {
            return Err(PlanError::NoTls(self.url.clone()));
        }
        let smallest = self.protocol.smallest_payload();
        if self.size < smallest {
            return Err(PlanError::Size {
                size: self.size,
                protocol: self.protocol,
                smallest,
            });
        }
        self.load.check()?;
        self.scenario.check(self.protocol, &self.load)?;
        self.check_number()?;
        if let Some(rate) = self.open_rate {
            Load::Rate(rate).check()?;
        }
        match self.extent {
            Extent::Time { measured, .. } if measured.is_zero() => Err(PlanError::Empty),
            Extent::Count(0) => Err(PlanError::Empty),
            Extent::Count(_) if matches!(self.scenario, Scenario::Idle { .. }) => Err(PlanError::IdleCount),
            Extent::Time { measured, .. } if self.load.length().is_some_and(|length| length != measured) => {
                Err(PlanError::StepsExtent)
            }
            Extent::Count(_) if self.load.length().is_some() => Err(PlanError::StepsExtent),
            Extent::Time { .. } | Extent::Count(_) => Ok(()),
        }
    }

    fn check_path(&self) -> Result<(), PlanError> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.protocol.is_ours() {
            return Err(PlanError::PathWithOurs(self.protocol));
        }
        if !path.starts_with('/') {
            return Err(PlanError::PathStart(path.clone()));
        }
        // Who sends to itself, or to nobody, need not name the topic.
        let names_topic = self.protocol.is_path()
            && !matches!(
                self.scenario,
                Scenario::Echo { .. } | Scenario::Ingest { .. } | Scenario::Connect | Scenario::Idle { .. }
            );
        if names_topic && !path.contains("%s") {
            return Err(PlanError::Path(path.clone()));
        }
        Ok(())
    }

    fn check_topic(&self) -> Result<(), PlanError> {
        let topic = &self.topic;
        if topic.is_empty() || topic.len() > 65_000 {
            return Err(PlanError::TopicLength(topic.len()));
        }
        let spoils = |c: char| c.is_whitespace() || c.is_control();
        if self.protocol == Protocol::Nats && (topic.contains(spoils) || topic.starts_with('.') || topic.ends_with('.'))
        {
            return Err(PlanError::Topic(topic.clone()));
        }
        Ok(())
    }

    /// Publishers and subscribers are numbered with 32 bits.
    fn check_number(&self) -> Result<(), PlanError> {
        let number = match self.scenario {
            Scenario::ManyTopics {
                topics,
                publishers,
                subscribers,
                ..
            } => (u64::from(topics)).saturating_mul(u64::from(publishers) + u64::from(subscribers)),
            Scenario::Fanout {
                publishers,
                subscribers,
            }
            | Scenario::Fanin {
                publishers,
                subscribers,
            }
            | Scenario::Slow {
                publishers,
                subscribers,
                ..
            } => u64::from(publishers) + u64::from(subscribers),
            Scenario::Churn {
                connections,
                ref beside,
                ..
            } => {
                let beside = beside
                    .as_ref()
                    .map_or(0, |beside| u64::from(beside.publishers) + u64::from(beside.subscribers));
                u64::from(connections) + beside
            }
            Scenario::Echo { connections } | Scenario::Idle { connections, .. } => connections.into(),
            Scenario::Ingest { publishers } => publishers.into(),
            Scenario::Connect => 0,
        };
        if number > u64::from(u32::MAX) {
            return Err(PlanError::TooMany(number));
        }
        let publishers = self.layout().publishers();
        if publishers > Stamp::PUBLISHERS as usize {
            return Err(PlanError::TooManyPublishers(publishers));
        }
        Ok(())
    }

    /// The connections it takes.
    pub(crate) fn layout(&self) -> Layout {
        self.scenario.layout(&self.load.after(self.warmup()))
    }

    /// What is not measured at the start.
    pub(crate) fn warmup(&self) -> Duration {
        match self.extent {
            Extent::Time { warmup, .. } => warmup,
            Extent::Count(_) => Duration::ZERO,
        }
    }

    /// The name of a topic.
    pub(crate) fn topic_name(&self, topic: u32) -> String {
        match self.scenario {
            Scenario::ManyTopics { .. } | Scenario::Echo { .. } => format!("{}/{topic}", self.topic),
            _ => self.topic.clone(),
        }
    }

    /// What connections of a role ask for.
    pub(crate) fn target(&self, role: Role, topic: u32) -> Result<Url, PlanError> {
        let refused = |reason: String| PlanError::Url {
            url: self.url.clone(),
            reason,
        };
        let name = || utf8_percent_encode(&self.topic_name(topic), TOPIC).to_string();
        let path = match (&self.path, self.protocol) {
            (Some(path), Protocol::Raw | Protocol::Path) => path.replace("%s", &name()),
            (Some(path), _) => path.clone(),
            (None, Protocol::Json | Protocol::Bin) => "/ws".to_owned(),
            (None, Protocol::Nats | Protocol::Mqtt) => "/".to_owned(),
            (None, Protocol::Path) => format!("/{}", name()),
            (None, Protocol::Raw) => {
                let mode = match role {
                    Role::Publisher => "?mode=pub",
                    Role::Echo => "",
                    Role::Subscriber | Role::Stalled | Role::Churner | Role::Idle | Role::Passing => "?mode=sub",
                };
                format!("/t/{}{mode}", name())
            }
        };
        if self.url.contains(['?', '#']) {
            return Err(refused("give scheme, host and port alone".to_owned()));
        }
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| refused(error.to_string()))?;
        if url.is_secure() && ServerName::try_from(url.host()).is_err() {
            return Err(refused("its host is no name that a certificate could have".to_owned()));
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plan_can_be_run() {
        assert_eq!(Plan::default().check(), Ok(()));
    }

    #[test]
    fn every_plan_that_cannot_be_run_is_refused_with_the_reason() {
        let change = |change: &dyn Fn(&mut Plan)| {
            let mut plan = Plan::default();
            change(&mut plan);
            plan
        };
        let idle = Scenario::Idle {
            connections: 1,
            subscriptions: 0,
        };
        let table: [(Plan, &str); 20] = [
            (
                change(&|plan| plan.url = "http://h".into()),
                "\"http://h\" cannot be used",
            ),
            (
                change(&|plan| plan.tls.resume = true),
                "\"ws://127.0.0.1:8080\" has no TLS",
            ),
            (
                change(&|plan| plan.url = "wss://-/".into()),
                "no name that a certificate could have",
            ),
            (change(&|plan| plan.url = "ws://h/?x".into()), "host and port alone"),
            (change(&|plan| plan.path = Some("/sub".into())), "%s"),
            (change(&|plan| plan.path = Some("t/%s".into())), "begin with `/`"),
            (
                change(&|plan| (plan.path, plan.protocol) = (Some("/%s".into()), Protocol::Json)),
                "always spoken on /ws",
            ),
            (change(&|plan| plan.size = 15), "first 16 bytes hold"),
            (
                change(&|plan| (plan.size, plan.protocol) = (23, Protocol::Json)),
                "first 24 bytes hold",
            ),
            (
                change(&|plan| {
                    plan.scenario = Scenario::Echo {
                        connections: Stamp::PUBLISHERS + 1,
                    };
                }),
                "16777217 publishers are more than a run can have, which is 16777216",
            ),
            (
                change(&|plan| {
                    plan.scenario = Scenario::Fanout {
                        publishers: 1,
                        subscribers: 0,
                    };
                }),
                "one subscriber",
            ),
            (change(&|plan| plan.load = Load::Window(0)), "1 to 65536"),
            (change(&|plan| plan.load = Load::Rate(0.0)), "positive number"),
            (change(&|plan| plan.open_rate = Some(-1.0)), "positive number"),
            (change(&|plan| plan.extent = Extent::Count(0)), "count of at least one"),
            (
                change(&|plan| {
                    plan.extent = Extent::Time {
                        warmup: Duration::ZERO,
                        measured: Duration::ZERO,
                    };
                }),
                "duration above zero",
            ),
            (
                change(&|plan| plan.load = Load::parse_rate("1,2", Duration::from_secs(1)).unwrap()),
                "as long as they last",
            ),
            (
                change(&|plan| (plan.topic, plan.protocol) = ("a b".into(), Protocol::Nats)),
                "topic of nats",
            ),
            (change(&|plan| plan.topic = String::new()), "1 to 65,000 bytes"),
            (
                change(&|plan| (plan.scenario, plan.extent) = (idle.clone(), Extent::Count(1))),
                "nothing to count",
            ),
        ];
        for (plan, words) in table {
            let message = plan.check().unwrap_err().to_string();
            assert!(message.contains(words), "{message:?} has no {words:?}");
        }
    }

    #[test]
    fn the_url_of_a_connection_is_what_its_protocol_and_role_ask_for() {
        let plan = Plan {
            url: "ws://[::1]:9/".into(),
            topic: "a/b c+".into(),
            ..Plan::default()
        };
        let resource = |plan: &Plan, role| plan.target(role, 7).unwrap().resource().to_owned();
        assert_eq!(resource(&plan, Role::Subscriber), "/t/a/b%20c%2B?mode=sub");
        assert_eq!(resource(&plan, Role::Publisher), "/t/a/b%20c%2B?mode=pub");
        let many = Plan {
            scenario: Scenario::Echo { connections: 9 },
            ..plan.clone()
        };
        assert_eq!(resource(&many, Role::Echo), "/t/a/b%20c%2B/7");
        let foreign = Plan {
            path: Some("/x/%s?y".into()),
            ..plan.clone()
        };
        assert_eq!(resource(&foreign, Role::Publisher), "/x/a/b%20c%2B?y");
        for (protocol, path) in [
            (Protocol::Path, "/a/b%20c%2B"),
            (Protocol::Json, "/ws"),
            (Protocol::Bin, "/ws"),
            (Protocol::Nats, "/"),
            (Protocol::Mqtt, "/"),
        ] {
            let plan = Plan {
                protocol,
                ..plan.clone()
            };
            assert_eq!(resource(&plan, Role::Subscriber), path, "{protocol}");
        }
        let mqtt = Plan {
            protocol: Protocol::Mqtt,
            path: Some("/mqtt".into()),
            ..plan
        };
        assert_eq!(mqtt.check(), Ok(()));
        assert_eq!(resource(&mqtt, Role::Subscriber), "/mqtt");
    }

    #[test]
    fn an_echo_server_needs_no_topic_in_its_path() {
        let plan = Plan {
            path: Some("/echo".into()),
            ..Plan::default()
        };
        assert!(plan.check().is_err());
        let echo = Plan {
            scenario: Scenario::Echo { connections: 1 },
            ..plan
        };
        assert_eq!(echo.check(), Ok(()));
    }
}
