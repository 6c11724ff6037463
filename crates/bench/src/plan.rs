//! What to run: as asked for, then checked.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tidecast_websocket::{ClientWindow, Offer, PerMessageOffer, Url, Version};

use crate::ledger::MAX_IN_FLIGHT;

/// How clients speak to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The URL names the topic and every frame is a payload, in binary.
    Raw,
    /// `tidecast.json.v1` on `/ws`.
    Json,
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(word: &str) -> Result<Protocol, String> {
        match word {
            "raw" => Ok(Protocol::Raw),
            "json" => Ok(Protocol::Json),
            _ => Err("it is `raw` or `json`".to_owned()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Raw => "raw",
            Protocol::Json => "json",
        })
    }
}

/// What subscribers offer to have their messages compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Nothing.
    None,
    /// `permessage-deflate` of RFC 7692.
    PermessageDeflate,
    /// `deflate-stream` of the drafts, so with a version below 13.
    DeflateStream,
}

impl Compression {
    /// What is offered in the handshake.
    pub(crate) fn offers(self) -> &'static [Offer] {
        const PER_MESSAGE: &[Offer] = &[Offer::PerMessageDeflate(PerMessageOffer {
            // What the server deflates for one subscriber is then what it may send to all.
            server_no_context_takeover: true,
            client_no_context_takeover: false,
            server_max_window_bits: None,
            client_max_window_bits: ClientWindow::Fixed,
        })];
        match self {
            Compression::None => &[],
            Compression::PermessageDeflate => PER_MESSAGE,
            Compression::DeflateStream => &[Offer::DeflateStream],
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(word: &str) -> Result<Compression, String> {
        match word {
            "none" => Ok(Compression::None),
            "permessage-deflate" => Ok(Compression::PermessageDeflate),
            "deflate-stream" => Ok(Compression::DeflateStream),
            _ => Err("it is `permessage-deflate`, `deflate-stream` or `none`".to_owned()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::PermessageDeflate => "permessage-deflate",
            Compression::DeflateStream => "deflate-stream",
        })
    }
}

/// When publishers send.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// Closed loop: so many messages in flight per publisher, the next one when one has reached every subscriber.
    Window(u32),
    /// Open loop: so many messages a second by all publishers together, whether the broker keeps up or not.
    Rate(f64),
}

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
    /// So many messages per publisher, all of them measured.
    Count(u64),
}

/// A fan-out run: publishers send to one topic, every subscriber receives all of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the broker is: `ws://host:port`.
    pub url: String,
    /// The request path with `%s` where the topic goes, for other brokers; the paths of tidecast if not given.
    pub path: Option<String>,
    /// The topic.
    pub topic: String,
    /// How clients speak.
    pub protocol: Protocol,
    /// The WebSocket version they speak.
    pub version: Version,
    /// What subscribers offer to have their messages compressed with; a broker that declines it fails the run.
    pub compression: Compression,
    /// Connections that receive.
    pub subscribers: u32,
    /// Connections that send.
    pub publishers: NonZeroU32,
    /// Bytes of a payload, see [`Protocol::smallest_payload`].
    pub size: usize,
    /// When publishers send.
    pub load: Load,
    /// How long.
    pub extent: Extent,
    /// Threads of the generator, among which connections are spread.
    pub threads: NonZeroU32,
    /// Cores to pin them to, in turn; none leaves it to the kernel.
    pub cores: Vec<usize>,
    /// The broker's process, if its processor time and memory shall be measured. It has to be on this machine.
    pub server_pid: Option<u32>,
    /// How long without a single delivery until what is outstanding counts as lost.
    pub stall: Duration,
    /// How long one connection may take to open.
    pub open_timeout: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            url: "ws://127.0.0.1:8080".to_owned(),
            path: None,
            topic: "bench".to_owned(),
            protocol: Protocol::Raw,
            version: Version::V13,
            compression: Compression::None,
            subscribers: 1000,
            publishers: NonZeroU32::MIN,
            size: 128,
            load: Load::Window(32),
            extent: Extent::Time {
                warmup: Duration::from_secs(1),
                measured: Duration::from_secs(10),
            },
            threads: NonZeroU32::MIN,
            cores: Vec::new(),
            server_pid: None,
            stall: Duration::from_secs(5),
            open_timeout: Duration::from_secs(10),
        }
    }
}

/// A plan that cannot be run. The message says what to change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The URL is none, or not one of a WebSocket without TLS.
    #[error("{url:?} cannot be used: {reason}")]
    Url {
        /// As given.
        url: String,
        /// Why not.
        reason: String,
    },
    /// There is no place for the topic in the path.
    #[error("the path {0:?} has to begin with `/` and to hold `%s`, which stands for the topic")]
    Path(String),
    /// The other protocol brings its own path.
    #[error("a path of your own goes with the protocol raw alone: json is always spoken on /ws")]
    PathWithJson,
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
    /// Nobody to receive.
    #[error("at least one subscriber is needed")]
    NoSubscribers,
    /// A window of no or of too many messages.
    #[error("the window has to be 1 to {MAX_IN_FLIGHT} messages, not {0}")]
    Window(u32),
    /// A rate that is none.
    #[error("the rate has to be a positive number of messages a second, not {0}")]
    Rate(String),
    /// A run without an end or without a message.
    #[error("the run has to measure something: give a duration above zero or a count of at least one")]
    Empty,
}

/// Letters, digits and what a path segment may hold as it is, and `/`, which separates the levels of a topic.
const TOPIC: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Subscriber,
    Publisher,
}

impl Plan {
    /// Whether it can be run.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        if let Some(path) = &self.path {
            if self.protocol == Protocol::Json {
                return Err(PlanError::PathWithJson);
            }
            if !path.starts_with('/') || !path.contains("%s") {
                return Err(PlanError::Path(path.clone()));
            }
        }
        self.target(Role::Subscriber)?;
        let smallest = self.protocol.smallest_payload();
        if self.size < smallest {
            return Err(PlanError::Size {
                size: self.size,
                protocol: self.protocol,
                smallest,
            });
        }
        if self.subscribers == 0 {
            return Err(PlanError::NoSubscribers);
        }
        match self.load {
            Load::Window(window) if window == 0 || u64::from(window) > MAX_IN_FLIGHT => {
                return Err(PlanError::Window(window));
            }
            Load::Rate(rate) if !rate.is_finite() || rate <= 0.0 => return Err(PlanError::Rate(rate.to_string())),
            Load::Window(_) | Load::Rate(_) => {}
        }
        match self.extent {
            Extent::Time { measured, .. } if measured.is_zero() => Err(PlanError::Empty),
            Extent::Count(0) => Err(PlanError::Empty),
            Extent::Time { .. } | Extent::Count(_) => Ok(()),
        }
    }

    /// What connections of a role ask for.
    pub(crate) fn target(&self, role: Role) -> Result<Url, PlanError> {
        let refused = |reason: String| PlanError::Url {
            url: self.url.clone(),
            reason,
        };
        let topic = utf8_percent_encode(&self.topic, TOPIC).to_string();
        let path = match (&self.path, self.protocol, role) {
            (Some(path), _, _) => path.replace("%s", &topic),
            (None, Protocol::Json, _) => "/ws".to_owned(),
            (None, Protocol::Raw, Role::Subscriber) => format!("/t/{topic}?mode=sub"),
            (None, Protocol::Raw, Role::Publisher) => format!("/t/{topic}?mode=pub"),
        };
        if self.url.contains(['?', '#']) {
            return Err(refused("give scheme, host and port alone".to_owned()));
        }
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| refused(error.to_string()))?;
        if url.is_secure() {
            return Err(refused(
                "the generator has no TLS: give a ws:// URL, behind the TLS proxy if there is one".to_owned(),
            ));
        }
        Ok(url)
    }

    /// The most messages of one publisher that can be outstanding.
    pub(crate) fn in_flight(&self) -> u64 {
        match self.load {
            Load::Window(window) => u64::from(window),
            Load::Rate(_) => MAX_IN_FLIGHT,
        }
    }

    /// How many of `total` connections belong to `thread`, and the number of the first: spread evenly.
    pub(crate) fn share(&self, total: u32, thread: u32) -> std::ops::Range<u32> {
        let threads = u64::from(self.threads.get());
        let bound = |thread: u32| (u64::from(total) * u64::from(thread) / threads) as u32;
        bound(thread)..bound(thread + 1)
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
        let plan = Plan::default;
        let table = [
            (
                Plan {
                    url: "http://h".into(),
                    ..plan()
                },
                "\"http://h\" cannot be used",
            ),
            (
                Plan {
                    url: "wss://h".into(),
                    ..plan()
                },
                "TLS",
            ),
            (
                Plan {
                    url: "ws://h/?x".into(),
                    ..plan()
                },
                "host and port alone",
            ),
            (
                Plan {
                    path: Some("/sub".into()),
                    ..plan()
                },
                "%s",
            ),
            (
                Plan {
                    path: Some("t/%s".into()),
                    ..plan()
                },
                "begin with `/`",
            ),
            (
                Plan {
                    path: Some("/%s".into()),
                    protocol: Protocol::Json,
                    ..plan()
                },
                "protocol raw alone",
            ),
            (Plan { size: 23, ..plan() }, "first 24 bytes hold"),
            (
                Plan {
                    size: 49,
                    protocol: Protocol::Json,
                    ..plan()
                },
                "first 50 bytes hold",
            ),
            (
                Plan {
                    subscribers: 0,
                    ..plan()
                },
                "one subscriber",
            ),
            (
                Plan {
                    load: Load::Window(0),
                    ..plan()
                },
                "1 to 65536",
            ),
            (
                Plan {
                    load: Load::Window(65_537),
                    ..plan()
                },
                "not 65537",
            ),
            (
                Plan {
                    load: Load::Rate(0.0),
                    ..plan()
                },
                "positive",
            ),
            (
                Plan {
                    load: Load::Rate(f64::NAN),
                    ..plan()
                },
                "positive",
            ),
            (
                Plan {
                    extent: Extent::Count(0),
                    ..plan()
                },
                "measure something",
            ),
        ];
        for (plan, words) in table {
            let error = plan.check().expect_err(words).to_string();
            assert!(error.contains(words), "{words:?} is missing in: {error}");
        }
    }

    #[test]
    fn the_url_of_a_raw_connection_names_topic_and_mode() {
        let plan = Plan {
            url: "ws://[::1]:9/".into(),
            topic: "a/b c+".into(),
            ..Plan::default()
        };
        let resource = |plan: &Plan, role| plan.target(role).unwrap().resource().to_owned();
        assert_eq!(resource(&plan, Role::Subscriber), "/t/a/b%20c%2B?mode=sub");
        assert_eq!(resource(&plan, Role::Publisher), "/t/a/b%20c%2B?mode=pub");
        let foreign = Plan {
            path: Some("/x/%s?y".into()),
            ..plan.clone()
        };
        assert_eq!(resource(&foreign, Role::Publisher), "/x/a/b%20c%2B?y");
        let json = Plan {
            protocol: Protocol::Json,
            ..plan
        };
        assert_eq!(resource(&json, Role::Subscriber), "/ws");
    }

    #[test]
    fn connections_are_spread_evenly_and_none_is_left_out() {
        for threads in 1..6 {
            let plan = Plan {
                threads: NonZeroU32::new(threads).unwrap(),
                ..Plan::default()
            };
            for total in 0..20 {
                let shares: Vec<_> = (0..threads).map(|thread| plan.share(total, thread)).collect();
                assert_eq!(
                    shares.iter().cloned().flatten().collect::<Vec<_>>(),
                    (0..total).collect::<Vec<_>>()
                );
                let lengths = shares.iter().map(ExactSizeIterator::len);
                assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
            }
        }
    }
}
