//! One connection that subscribes and unsubscribes.

use std::collections::VecDeque;
use std::time::Duration;

use tidecast_websocket::{Connection, Opcode, Version, encode_frame};

use crate::plan::{Extent, Plan};
use crate::protocol::{Protocol, Subscribe};
use crate::scenario::Pace;
use crate::schedule::Schedule;
use crate::timeline::Timeline;

/// Commands that may be outstanding on one connection, whatever is due: within the identifiers of MQTT.
const MAX_OUTSTANDING: usize = 4096;

/// Bytes of commands that go into one send.
const BATCH: usize = 1 << 16;

/// The state of one connection. It subscribes to all its filters, takes all of that back, and begins again; commands are
/// pipelined, and each waits for its confirmation.
#[derive(Debug)]
pub(crate) struct Churner {
    /// The slot of its connection.
    pub(crate) slot: u32,
    protocol: Protocol,
    version: Version,
    opcode: Opcode,
    filters: Vec<String>,
    schedule: Schedule,
    /// The number of the next command.
    next: u64,
    limit: u64,
    end: u64,
    /// Commands without an answer: what is in the answer, and the intended time.
    outstanding: VecDeque<(u64, u64)>,
    finished: bool,
    command: Vec<u8>,
    random: fastrand::Rng,
}

impl Churner {
    /// Number `number` of the run, one of those that `pace` takes turns with; says nothing before [`Churner::begin`].
    pub(crate) fn new(plan: &Plan, pace: Pace, filters: u32, number: usize, slot: u32) -> Churner {
        Churner {
            slot,
            protocol: plan.protocol,
            version: plan.version,
            opcode: plan.protocol.opcode(),
            filters: (0..filters)
                .map(|filter| format!("{}/churn/{number}/{filter}", plan.topic))
                .collect(),
            schedule: Schedule::new(plan.load.after(plan.warmup()), u64::MAX, pace),
            next: 0,
            limit: match plan.extent {
                Extent::Time { .. } => u64::MAX,
                Extent::Count(count) => count,
            },
            end: u64::MAX,
            outstanding: VecDeque::new(),
            finished: false,
            command: Vec::new(),
            random: fastrand::Rng::new(),
        }
    }

    /// Commands begin when `timeline` does, and none is said after it.
    pub(crate) fn begin(&mut self, timeline: &Timeline) {
        self.schedule.begin(timeline.start);
        self.end = timeline.span().end;
    }

    /// It says no more.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether it says no more, and has an answer to everything.
    pub(crate) fn is_done(&self) -> bool {
        self.finished && self.outstanding.is_empty()
    }

    /// Commands without an answer.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Appends the frames of all commands that are to be said at `now`; through `stream` if the connection is one.
    pub(crate) fn speak(&mut self, now: u64, mut stream: Option<&mut Connection>, out: &mut Vec<u8>) {
        while !self.finished && out.len() < BATCH && self.outstanding.len() < MAX_OUTSTANDING {
            if self.next == self.limit {
                self.finished = true;
                return;
            }
            let Some(intended) = self.schedule.due(self.next, self.outstanding.len() as u64, now) else {
                // Nothing is due; the end of the run is noticed all the same.
                self.finished = now >= self.end;
                return;
            };
            if intended >= self.end {
                self.finished = true;
                return;
            }
            let reference = self.say();
            match &mut stream {
                Some(connection) => {
                    connection.send(self.opcode, &self.command, out);
                }
                None => {
                    let key = self.random.u32(..).to_ne_bytes();
                    encode_frame(self.version, self.opcode, &self.command, Some(key), out);
                }
            }
            self.outstanding.push_back((reference, intended));
            self.next += 1;
        }
    }

    /// Writes the next command, and returns what its answer will hold.
    fn say(&mut self) -> u64 {
        self.command.clear();
        let count = self.filters.len() as u64;
        let (round, filter) = (self.next / count, &self.filters[(self.next % count) as usize]);
        // Numbers begin at 1: 0 means none in some protocols.
        let number = self.next + 1;
        if round.is_multiple_of(2) {
            let subscribe = Subscribe {
                filter,
                number,
                slow: None,
            };
            self.protocol.subscribe(&subscribe, &mut self.command);
        } else {
            self.protocol
                .unsubscribe(filter, number - count, number, &mut self.command);
        }
        self.protocol.reference(number)
    }

    /// How long after `now` the next command is due; none if that does not depend on time.
    pub(crate) fn wait(&self, now: u64) -> Option<Duration> {
        if self.finished || self.outstanding.len() >= MAX_OUTSTANDING {
            return None;
        }
        self.schedule.wait(self.next, now)
    }

    /// The broker answered the command with `reference`, or the oldest one. Returns when that was to be said; none if there is
    /// no such command.
    pub(crate) fn answered(&mut self, reference: Option<u64>) -> Option<u64> {
        let Some(reference) = reference else {
            return self.outstanding.pop_front().map(|(_, intended)| intended);
        };
        if self.outstanding.front().is_some_and(|&(front, _)| front == reference) {
            return self.outstanding.pop_front().map(|(_, intended)| intended);
        }
        let at = self.outstanding.iter().position(|&(waiting, _)| waiting == reference)?;
        self.outstanding.remove(at).map(|(_, intended)| intended)
    }
}

#[cfg(test)]
mod tests {
    use tidecast_websocket::{Event, Input, Limits, Millis};

    use super::*;
    use crate::clock::Clock;
    use crate::load::Load;

    fn churner(protocol: Protocol, load: Load, extent: Extent) -> (Churner, u64) {
        let plan = Plan {
            protocol,
            load,
            extent,
            ..Plan::default()
        };
        let mut churner = Churner::new(&plan, Pace::even(0, 1), 2, 7, 0);
        let timeline = Timeline::begin(Clock::start(), Duration::from_secs(1), extent, &plan.load);
        churner.begin(&timeline);
        (churner, timeline.start)
    }

    /// What it says at `now`.
    fn said(churner: &mut Churner, now: u64) -> Vec<String> {
        let mut out = Vec::new();
        churner.speak(now, None, &mut out);
        let mut server = Connection::server(Version::V13, Limits::default(), Millis(0));
        let (mut input, mut answers, mut texts) = (Input::new(&mut out), Vec::new(), Vec::new());
        while let Some(event) = server.poll(&mut input, Millis(0), &mut answers).unwrap() {
            texts.push(match event {
                Event::Text(text) => text.to_owned(),
                Event::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                other => panic!("{other:?}"),
            });
        }
        texts
    }

    #[test]
    fn all_filters_are_subscribed_to_then_unsubscribed_from_then_again() {
        let (mut json, start) = churner(Protocol::Json, Load::Window(5), Extent::Count(5));
        assert_eq!(said(&mut json, start - 1), [""; 0]);
        assert_eq!(
            said(&mut json, start),
            [
                r#"["sub","bench/churn/7/0",{"ref":1}]"#,
                r#"["sub","bench/churn/7/1",{"ref":2}]"#,
                r#"["unsub","bench/churn/7/0",{"ref":3}]"#,
                r#"["unsub","bench/churn/7/1",{"ref":4}]"#,
                r#"["sub","bench/churn/7/0",{"ref":5}]"#,
            ]
        );
        let (mut nats, start) = churner(Protocol::Nats, Load::Window(4), Extent::Count(4));
        assert_eq!(
            said(&mut nats, start),
            [
                "SUB bench/churn/7/0 1\r\n",
                "SUB bench/churn/7/1 2\r\n",
                "UNSUB 1\r\n",
                "UNSUB 2\r\n"
            ]
        );
    }

    #[test]
    fn a_window_is_refilled_by_answers_in_any_order_and_the_end_waits_for_all_of_them() {
        let (mut churner, start) = churner(Protocol::Json, Load::Window(2), Extent::Count(3));
        assert_eq!(said(&mut churner, start).len(), 2);
        assert_eq!(said(&mut churner, start + 1).len(), 0);
        assert_eq!(churner.answered(Some(2)), Some(start));
        assert_eq!(churner.answered(Some(2)), None, "it has its answer");
        assert_eq!(said(&mut churner, start + 5).len(), 1);
        assert_eq!(churner.answered(None), Some(start), "the oldest one");
        assert_eq!(said(&mut churner, start + 6).len(), 0);
        assert!(!churner.is_done());
        assert_eq!(churner.answered(Some(3)), Some(start + 5));
        assert!(churner.is_done());
    }

    #[test]
    fn an_open_loop_says_all_that_was_due_before_the_end_however_late() {
        let extent = Extent::Time {
            warmup: Duration::ZERO,
            measured: Duration::from_secs(1),
        };
        let (mut churner, start) = churner(Protocol::Json, Load::Rate(1_000.0), extent);
        assert_eq!(said(&mut churner, start + 9_500_000).len(), 10);
        assert_eq!(churner.wait(start + 9_500_000), Some(Duration::from_micros(500)));
        assert_eq!(churner.answered(Some(10)), Some(start + 9_000_000));
        assert_eq!(said(&mut churner, start + 2_000_000_000).len(), 990);
        assert!(!churner.is_done());
        assert_eq!(churner.outstanding(), 999);
    }

    #[test]
    fn packet_identifiers_are_never_outstanding_twice() {
        let (mut churner, start) = churner(Protocol::Mqtt, Load::Rate(1e9), Extent::Count(200_000));
        let mut seen = 0;
        while seen < 200_000 {
            let mut out = Vec::new();
            churner.speak(start + 1_000_000_000, None, &mut out);
            let mut references: Vec<_> = churner.outstanding.iter().map(|&(reference, _)| reference).collect();
            seen += references.len();
            references.sort_unstable();
            references.dedup();
            assert_eq!(references.len(), churner.outstanding());
            assert!(!references.is_empty() && !references.contains(&0));
            while churner.answered(None).is_some() {}
        }
    }
}
