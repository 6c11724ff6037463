//! What a run is about: the scenarios, and the connections that each takes.

use std::ops::Range;

use tidecast_wire::SlowPolicy;

use crate::ledger::MAX_IN_FLIGHT;
use crate::load::Load;
use crate::plan::PlanError;
use crate::protocol::Protocol;

/// What a run is about.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Scenario {
    /// Few publishers, one topic, many subscribers.
    Fanout {
        /// Connections that send.
        publishers: u32,
        /// Connections that receive.
        subscribers: u32,
    },
    /// Many publishers, one topic, few subscribers.
    Fanin {
        /// Connections that send.
        publishers: u32,
        /// Connections that receive.
        subscribers: u32,
    },
    /// Many topics, each with connections of its own.
    ManyTopics {
        /// How many topics.
        topics: u32,
        /// Connections that send, to each.
        publishers: u32,
        /// Connections that receive, from each.
        subscribers: u32,
        /// Topic `n` (from 1) gets a share of the rate that goes with `1 / n^zipf`, instead of the same as all others.
        #[serde(skip_serializing_if = "Option::is_none")]
        zipf: Option<f64>,
    },
    /// Connections that send to themselves, each by a topic of its own.
    Echo {
        /// How many.
        connections: u32,
    },
    /// A fan-out to subscribers of which some stop reading; the others are measured.
    Slow {
        /// Connections that send.
        publishers: u32,
        /// Connections that receive.
        subscribers: u32,
        /// How many of them read nothing while the run lasts.
        slow: u32,
        /// What the slow ones ask the broker to do with them, in our own encodings.
        #[serde(serialize_with = "write_policy", skip_serializing_if = "Option::is_none")]
        policy: Option<SlowPolicy>,
    },
    /// Publishers, and nobody who receives what they send: how fast a broker takes messages in.
    Ingest {
        /// Connections that send.
        publishers: u32,
    },
    /// Connections that subscribe and unsubscribe at the load of the plan, each command confirmed.
    Churn {
        /// How many.
        connections: u32,
        /// How many filters each has: it subscribes to all of them, takes all of that back, and begins again.
        filters: u32,
        /// A fan-out that goes on meanwhile.
        #[serde(skip_serializing_if = "Option::is_none")]
        beside: Option<Beside>,
    },
    /// Connections that are opened and closed again, at the load of the plan.
    Connect,
    /// Connections that are opened and then do nothing.
    Idle {
        /// How many.
        connections: u32,
        /// Topics that each subscribes to.
        subscriptions: u32,
    },
}

/// The fan-out beside something else.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Beside {
    /// Connections that send.
    pub publishers: u32,
    /// Connections that receive.
    pub subscribers: u32,
    /// When publishers send.
    pub load: Load,
}

fn write_policy<S: serde::Serializer>(policy: &Option<SlowPolicy>, to: S) -> Result<S::Ok, S::Error> {
    match policy {
        Some(policy) => to.serialize_str(policy.as_str()),
        None => to.serialize_none(),
    }
}

impl Scenario {
    /// The name by which it is chosen.
    pub fn as_str(&self) -> &'static str {
        match self {
            Scenario::Fanout { .. } => "fanout",
            Scenario::Fanin { .. } => "fanin",
            Scenario::ManyTopics { .. } => "many-topics",
            Scenario::Echo { .. } => "echo",
            Scenario::Slow { .. } => "slow",
            Scenario::Ingest { .. } => "ingest",
            Scenario::Churn { .. } => "churn",
            Scenario::Connect => "connect",
            Scenario::Idle { .. } => "idle",
        }
    }

    /// Whether it can be run with `protocol` and `load`.
    pub(crate) fn check(&self, protocol: Protocol, load: &Load) -> Result<(), PlanError> {
        let some = |number: u32, what| {
            if number == 0 {
                Err(PlanError::None(what))
            } else {
                Ok(())
            }
        };
        let commands = |what| {
            if protocol.has_commands() {
                Ok(())
            } else {
                Err(PlanError::NoCommands { protocol, what })
            }
        };
        match *self {
            Scenario::Fanout {
                publishers,
                subscribers,
            }
            | Scenario::Fanin {
                publishers,
                subscribers,
            } => {
                some(publishers, "publisher")?;
                some(subscribers, "subscriber")
            }
            Scenario::ManyTopics {
                topics,
                publishers,
                subscribers,
                zipf,
            } => {
                some(topics, "topic")?;
                some(publishers, "publisher")?;
                some(subscribers, "subscriber")?;
                match zipf {
                    Some(exponent) if !exponent.is_finite() || exponent < 0.0 || matches!(load, Load::Window(_)) => {
                        Err(PlanError::Zipf)
                    }
                    _ => Ok(()),
                }
            }
            Scenario::Echo { connections } => some(connections, "connection"),
            Scenario::Slow {
                publishers,
                subscribers,
                slow,
                policy,
            } => {
                some(publishers, "publisher")?;
                some(slow, "slow subscriber")?;
                some(subscribers.saturating_sub(slow), "subscriber that is not slow")?;
                if policy.is_some() && !protocol.is_ours() {
                    return Err(PlanError::Policy(protocol));
                }
                Ok(())
            }
            Scenario::Churn {
                connections,
                filters,
                ref beside,
            } => {
                some(connections, "connection")?;
                some(filters, "filter")?;
                commands("subscribe and unsubscribe with")?;
                let Some(beside) = beside else { return Ok(()) };
                some(beside.publishers, "publisher")?;
                some(beside.subscribers, "subscriber")?;
                if matches!(beside.load, Load::Steps(_)) {
                    return Err(PlanError::StepsBeside);
                }
                beside.load.check()
            }
            Scenario::Ingest { publishers } => some(publishers, "publisher"),
            Scenario::Connect => Ok(()),
            Scenario::Idle {
                connections,
                subscriptions,
            } => {
                some(connections, "connection")?;
                if subscriptions > 0 {
                    commands("subscribe to several topics with")?;
                }
                Ok(())
            }
        }
    }

    /// The connections it takes. `load` is the plan's.
    pub(crate) fn layout(&self, load: &Load) -> Layout {
        let nobody = Layout {
            topics: 1,
            publishers_each: 0,
            subscribers_each: 0,
            joined: false,
            probing: false,
            stalled: 0,
            churners: 0,
            idle: 0,
            load: load.clone(),
            zipf: None,
        };
        match *self {
            Scenario::Fanout {
                publishers,
                subscribers,
            }
            | Scenario::Fanin {
                publishers,
                subscribers,
            } => Layout {
                publishers_each: publishers,
                subscribers_each: subscribers,
                ..nobody
            },
            Scenario::ManyTopics {
                topics,
                publishers,
                subscribers,
                zipf,
            } => Layout {
                topics,
                publishers_each: publishers,
                subscribers_each: subscribers,
                zipf,
                ..nobody
            },
            Scenario::Echo { connections } => Layout {
                topics: connections,
                publishers_each: 1,
                subscribers_each: 1,
                joined: true,
                ..nobody
            },
            Scenario::Slow {
                publishers,
                subscribers,
                slow,
                ..
            } => Layout {
                publishers_each: publishers,
                subscribers_each: subscribers - slow,
                stalled: slow,
                ..nobody
            },
            Scenario::Churn {
                connections,
                ref beside,
                ..
            } => {
                let churners = Layout {
                    churners: connections,
                    ..nobody
                };
                match beside {
                    None => churners,
                    Some(beside) => Layout {
                        publishers_each: beside.publishers,
                        subscribers_each: beside.subscribers,
                        load: beside.load.clone(),
                        ..churners
                    },
                }
            }
            Scenario::Ingest { publishers } => Layout {
                publishers_each: publishers,
                probing: true,
                ..nobody
            },
            Scenario::Connect => nobody,
            Scenario::Idle { connections, .. } => Layout {
                idle: connections,
                ..nobody
            },
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Subscriber,
    Publisher,
    /// Publisher and subscriber of its own topic.
    Echo,
    /// A subscriber that reads nothing while the run lasts.
    Stalled,
    Churner,
    Idle,
    /// Opened to be closed.
    Passing,
}

impl Role {
    /// What a person calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Subscriber => "subscriber",
            Role::Publisher => "publisher",
            Role::Echo => "echoing connection",
            Role::Stalled => "slow subscriber",
            Role::Churner => "subscribing connection",
            Role::Idle => "idle connection",
            Role::Passing => "connection",
        }
    }

    /// Whether its deliveries are checked and timed.
    pub(crate) fn is_measured(self) -> bool {
        matches!(self, Role::Subscriber | Role::Echo)
    }

    /// Whether it subscribes to its topic.
    pub(crate) fn subscribes(self) -> bool {
        matches!(self, Role::Subscriber | Role::Echo | Role::Stalled)
    }
}

/// Who is there in a run: topics with their publishers and subscribers, and connections that do something else.
///
/// Publisher `p` and subscriber `s` of the run belong to topics `p / publishers_each` and `s / subscribers_each`.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) topics: u32,
    pub(crate) publishers_each: u32,
    /// Measured ones.
    pub(crate) subscribers_each: u32,
    /// Publisher and subscriber of a topic are one connection.
    pub(crate) joined: bool,
    /// Publishers find out by pings what was taken in, for there is nobody who receives it.
    pub(crate) probing: bool,
    pub(crate) stalled: u32,
    pub(crate) churners: u32,
    pub(crate) idle: u32,
    /// The load of all publishers together.
    pub(crate) load: Load,
    zipf: Option<f64>,
}

/// How often one of several does something that all do in turn: its event `n` is the turn `n * stride + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    pub(crate) stride: f64,
    pub(crate) offset: f64,
}

impl Pace {
    /// Of number `number` among `total` that take turns.
    pub(crate) fn even(number: usize, total: usize) -> Pace {
        Pace {
            stride: total as f64,
            offset: number as f64,
        }
    }
}

impl Layout {
    pub(crate) fn publishers(&self) -> usize {
        (self.topics * self.publishers_each) as usize
    }

    pub(crate) fn subscribers(&self) -> usize {
        (self.topics * self.subscribers_each) as usize
    }

    /// The topic of a publisher, by its number in the run.
    pub(crate) fn topic_of_publisher(&self, publisher: usize) -> u32 {
        publisher as u32 / self.publishers_each.max(1)
    }

    /// The topic of a measured subscriber, by its number in the run.
    pub(crate) fn topic_of_subscriber(&self, subscriber: usize) -> u32 {
        subscriber as u32 / self.subscribers_each.max(1)
    }

    /// The most messages of one publisher that can be outstanding.
    pub(crate) fn in_flight(&self) -> u64 {
        /// Counters of a thread's ledger in an open loop: 16 MiB of them.
        const COUNTERS: u64 = 1 << 22;
        match self.load {
            Load::Window(window) => u64::from(window),
            Load::Rate(_) | Load::Steps(_) => {
                let fair = COUNTERS / (self.publishers() as u64).max(1);
                (fair.max(64).next_power_of_two()).min(MAX_IN_FLIGHT)
            }
        }
    }

    /// How often each publisher sends.
    pub(crate) fn paces(&self) -> Vec<Pace> {
        let total = self.publishers();
        let Some(exponent) = self.zipf else {
            return (0..total).map(|publisher| Pace::even(publisher, total)).collect();
        };
        let weight = |topic: u32| f64::from(topic + 1).powf(-exponent);
        let sum: f64 = (0..self.topics).map(weight).sum::<f64>() * f64::from(self.publishers_each);
        let pace = |publisher: usize| {
            let stride = sum / weight(self.topic_of_publisher(publisher));
            // The golden ratio spreads first messages so that no two publishers send at the same time for long.
            Pace {
                stride,
                offset: stride * (publisher as f64 * 0.618_033_988_749_895).fract(),
            }
        };
        (0..total).map(pace).collect()
    }

    /// The numbers of the connections of a thread, of each kind.
    pub(crate) fn share(&self, thread: u32, threads: u32) -> Share {
        let of = |total: usize| {
            let bound = |thread: u32| total * thread as usize / threads as usize;
            bound(thread)..bound(thread + 1)
        };
        Share {
            subscribers: of(self.subscribers()),
            publishers: of(self.publishers()),
            stalled: of(self.stalled as usize),
            churners: of(self.churners as usize),
            idle: of(self.idle as usize),
            joined: self.joined,
        }
    }

    /// By topic, how many measured subscribers a thread has.
    pub(crate) fn subscribers_by_topic(&self, share: &Share) -> Vec<u32> {
        let mut counts = vec![0; self.topics as usize];
        for subscriber in share.subscribers.clone() {
            counts[self.topic_of_subscriber(subscriber) as usize] += 1;
        }
        counts
    }

    /// By publisher, the thread it belongs to.
    pub(crate) fn owners(&self, threads: u32) -> Vec<usize> {
        (0..threads)
            .flat_map(|thread| self.share(thread, threads).publishers.map(move |_| thread as usize))
            .collect()
    }
}

/// The connections of one thread, by their numbers in the run.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) subscribers: Range<usize>,
    pub(crate) publishers: Range<usize>,
    pub(crate) stalled: Range<usize>,
    pub(crate) churners: Range<usize>,
    pub(crate) idle: Range<usize>,
    joined: bool,
}

impl Share {
    /// Every connection with its role and its number in the run, in the order they are opened: who receives comes first.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (Role, usize)> {
        let of = |role, numbers: &Range<usize>| numbers.clone().map(move |number| (role, number));
        let (subscriber, publishers) = if self.joined {
            (Role::Echo, 0..0)
        } else {
            (Role::Subscriber, self.publishers.clone())
        };
        of(subscriber, &self.subscribers)
            .chain(of(Role::Stalled, &self.stalled))
            .chain(of(Role::Publisher, &publishers))
            .chain(of(Role::Churner, &self.churners))
            .chain(of(Role::Idle, &self.idle))
    }

    pub(crate) fn len(&self) -> usize {
        self.connections().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(zipf: Option<f64>) -> Layout {
        Scenario::ManyTopics {
            topics: 3,
            publishers: 2,
            subscribers: 4,
            zipf,
        }
        .layout(&Load::Rate(10.0))
    }

    #[test]
    fn connections_are_spread_evenly_and_none_is_left_out() {
        for threads in 1..6 {
            for total in 1..20 {
                let layout = Scenario::Fanout {
                    publishers: total,
                    subscribers: 2 * total,
                }
                .layout(&Load::Window(1));
                let shares: Vec<_> = (0..threads).map(|thread| layout.share(thread, threads)).collect();
                let publishers: Vec<_> = shares.iter().flat_map(|share| share.publishers.clone()).collect();
                assert_eq!(publishers, (0..total as usize).collect::<Vec<_>>());
                assert_eq!(layout.owners(threads).len(), total as usize);
                let lengths = shares.iter().map(|share| share.subscribers.len());
                assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
                assert_eq!(shares.iter().map(Share::len).sum::<usize>(), 3 * total as usize);
            }
        }
    }

    #[test]
    fn an_echo_is_one_connection_for_both_roles() {
        let layout = Scenario::Echo { connections: 5 }.layout(&Load::Window(1));
        let share = layout.share(1, 2);
        let connections: Vec<_> = share.connections().collect();
        assert_eq!(connections, [(Role::Echo, 2), (Role::Echo, 3), (Role::Echo, 4)]);
        assert_eq!((layout.publishers(), layout.subscribers()), (5, 5));
    }

    #[test]
    fn every_topic_has_its_own_publishers_and_subscribers() {
        let layout = topics(None);
        assert_eq!((layout.publishers(), layout.subscribers()), (6, 12));
        assert_eq!((layout.topic_of_publisher(3), layout.topic_of_subscriber(3)), (1, 0));
        assert_eq!(layout.subscribers_by_topic(&layout.share(0, 2)), [4, 2, 0]);
        assert_eq!(layout.subscribers_by_topic(&layout.share(1, 2)), [0, 2, 4]);
    }

    #[test]
    fn rates_of_topics_add_up_to_the_whole_and_go_down_by_the_law_of_zipf() {
        for (zipf, ratio) in [(None, 1.0), (Some(0.0), 1.0), (Some(1.0), 3.0)] {
            let paces = topics(zipf).paces();
            let rates: Vec<f64> = paces.iter().map(|pace| 1.0 / pace.stride).collect();
            assert!((rates.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!((rates[0] / rates[5] - ratio).abs() < 1e-9, "{zipf:?}: {rates:?}");
            assert!(paces.iter().all(|pace| (0.0..pace.stride).contains(&pace.offset)));
        }
    }

    #[test]
    fn ledgers_of_many_publishers_are_bounded() {
        let with = |publishers| {
            let fanin = Scenario::Fanin {
                publishers,
                subscribers: 1,
            };
            fanin.layout(&Load::Rate(1.0)).in_flight()
        };
        assert_eq!(
            (with(1), with(64), with(1024), with(1_000_000)),
            (65_536, 65_536, 4_096, 64)
        );
    }

    #[test]
    fn scenarios_that_cannot_be_run_are_refused() {
        let window = Load::Window(1);
        let zipf = |zipf| Scenario::ManyTopics {
            topics: 1,
            publishers: 1,
            subscribers: 1,
            zipf,
        };
        assert_eq!(zipf(Some(1.0)).check(Protocol::Raw, &window), Err(PlanError::Zipf));
        assert_eq!(zipf(Some(1.0)).check(Protocol::Raw, &Load::Rate(1.0)), Ok(()));
        assert_eq!(zipf(None).check(Protocol::Raw, &window), Ok(()));
        let churn = Scenario::Churn {
            connections: 1,
            filters: 1,
            beside: None,
        };
        let refused = churn.check(Protocol::Path, &window).unwrap_err();
        assert!(refused.to_string().contains("json, bin, nats or mqtt"), "{refused}");
        assert_eq!(churn.check(Protocol::Mqtt, &window), Ok(()));
        let slow = |subscribers, policy| Scenario::Slow {
            publishers: 1,
            subscribers,
            slow: 2,
            policy,
        };
        assert_eq!(
            slow(2, None).check(Protocol::Raw, &window),
            Err(PlanError::None("subscriber that is not slow"))
        );
        assert_eq!(
            slow(3, Some(SlowPolicy::Close)).check(Protocol::Raw, &window),
            Err(PlanError::Policy(Protocol::Raw))
        );
        let idle = Scenario::Idle {
            connections: 0,
            subscriptions: 0,
        };
        assert_eq!(idle.check(Protocol::Raw, &window), Err(PlanError::None("connection")));
    }
}
