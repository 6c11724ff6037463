//! One publisher: which messages it sends now.

use std::time::Duration;

use tidecast_websocket::{Connection, Opcode, Version, encode_frame};

use crate::load::Load;
use crate::payload::{Stamp, Template};
use crate::peer::Outlet;
use crate::plan::{Extent, Plan};
use crate::probe::Probe;
use crate::scenario::{Layout, Pace};
use crate::schedule::Schedule;
use crate::timeline::Timeline;

/// Bytes a publisher puts into one send, unless a single message has more: a turn of the loop does bounded work.
const BATCH: usize = 1 << 20;

/// The state of one publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Its number in the run.
    pub(crate) number: usize,
    /// The slot of its connection.
    pub(crate) slot: u32,
    run: u32,
    version: Version,
    opcode: Opcode,
    template: Template,
    schedule: Schedule,
    /// The number of the next message, which is how many were sent.
    next: u64,
    /// When the last one was to be sent.
    last: u64,
    /// How many it sends at most.
    limit: u64,
    /// The most messages that may be outstanding, whatever is due.
    in_flight: u64,
    timeline: Timeline,
    /// Where the last look into the timeline ended.
    hint: usize,
    /// By step, the messages that were to be sent in it.
    published: Vec<u64>,
    finished: bool,
    /// What it asks with; a ping of WebSocket's own if empty.
    ping: Vec<u8>,
    random: fastrand::Rng,
}

impl Publisher {
    /// One that sends nothing before [`Publisher::begin`].
    pub(crate) fn new(plan: &Plan, layout: &Layout, pace: Pace, run: u32, number: usize, slot: u32) -> Publisher {
        let topic = plan.topic_name(layout.topic_of_publisher(number));
        let mut ping = Vec::new();
        plan.protocol.ping(&mut ping);
        Publisher {
            number,
            slot,
            run,
            version: plan.version,
            opcode: plan.protocol.opcode(),
            template: Template::new(plan.protocol, &topic, plan.size),
            schedule: Schedule::new(layout.load.clone(), u64::MAX, pace),
            next: 0,
            last: 0,
            // Beside something that is counted, a fan-out goes on until that has ended.
            limit: match plan.extent {
                Extent::Count(count) if layout.churners == 0 => count,
                Extent::Time { .. } | Extent::Count(_) => u64::MAX,
            },
            in_flight: match layout.load {
                // It has a limit of its own.
                Load::Window(_) => u64::MAX,
                Load::Rate(_) | Load::Steps(_) => layout.in_flight(),
            },
            timeline: Timeline::never(),
            hint: 0,
            published: vec![0],
            finished: false,
            ping,
            // The masking keys of a load generator protect nobody from anything; cheap ones do.
            random: fastrand::Rng::new(),
        }
    }

    /// Publishing begins when `timeline` does, and nothing is sent after it.
    pub(crate) fn begin(&mut self, timeline: Timeline) {
        self.schedule.begin(timeline.start);
        self.published = vec![0; timeline.steps().len()];
        self.timeline = timeline;
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.next
    }

    /// By step, the messages that were to be sent in it.
    pub(crate) fn published(&self) -> &[u64] {
        &self.published
    }

    /// Whether it will send no more.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// It sends no more than a last ping, at `now`.
    pub(crate) fn finish(&mut self, now: u64, probe: Option<&mut Probe>, out: &mut Vec<u8>) {
        self.finished = true;
        self.end_batch(self.next, now, probe, out);
    }

    /// Appends the frames of all messages that are to be sent at `now`, `landed` of the earlier ones having reached every
    /// subscriber; through the stream if the connection is one, and with the pings of the probe if it has one.
    pub(crate) fn publish(&mut self, landed: u64, now: u64, outlet: Outlet<'_>) {
        let Outlet { stream, mut probe, out } = outlet;
        let before = self.next;
        self.write(landed, now, stream, probe.as_deref_mut(), &mut out.bytes);
        self.end_batch(before, now, probe, &mut out.bytes);
    }

    fn write(
        &mut self,
        landed: u64,
        now: u64,
        mut stream: Option<&mut Connection>,
        mut probe: Option<&mut Probe>,
        out: &mut Vec<u8>,
    ) {
        while !self.finished && out.len() < BATCH {
            if self.next == self.limit {
                self.finished = true;
                return;
            }
            let end = self.timeline.span().end;
            let in_flight = self.next - landed.min(self.next);
            if in_flight >= self.in_flight {
                return;
            }
            let Some(intended) = self.schedule.due(self.next, in_flight, now) else {
                // Nothing is due; the end of the run is noticed all the same.
                self.finished = now >= end;
                return;
            };
            // The span counts it where the subscribers will.
            let intended = Stamp::time(intended);
            if intended >= end {
                self.finished = true;
                return;
            }
            let stamp = Stamp {
                run: self.run,
                publisher: self.number as u32,
                sequence: self.next as u32,
                intended,
            };
            let message = self.template.stamped(&stamp);
            match &mut stream {
                Some(connection) => {
                    connection.send(self.opcode, message, out);
                }
                None => {
                    let key = self.random.u32(..).to_ne_bytes();
                    encode_frame(self.version, self.opcode, message, Some(key), out);
                }
            }
            self.next += 1;
            if let Some(step) = self.timeline.step_at(intended, &mut self.hint) {
                self.published[step] += 1;
            }
            self.last = intended;
            if let Some(probe) = &mut probe
                && probe.is_due(self.next, now)
            {
                probe.ask(self.next, self.last, now);
                self.ask(out);
            }
        }
    }

    /// Nothing follows for now; `before` were sent before the batch.
    fn end_batch(&mut self, before: u64, now: u64, probe: Option<&mut Probe>, out: &mut Vec<u8>) {
        if let Some(probe) = probe
            && probe.is_due_at_the_end(self.next, now, self.finished)
        {
            // One that goes out behind its message was to go out when that was; one that had to keep its distance, now.
            let intended = if self.next > before { self.last } else { now };
            probe.ask(self.next, intended, now);
            self.ask(out);
        }
    }

    /// Asks whether the broker has taken in all messages so far. Only who receives nothing asks, and that is never a stream.
    fn ask(&mut self, out: &mut Vec<u8>) {
        let number = self.next.to_le_bytes();
        let (opcode, payload) = if self.ping.is_empty() {
            (Opcode::Ping, &number[..])
        } else {
            (self.opcode, &self.ping[..])
        };
        let key = self.random.u32(..).to_ne_bytes();
        encode_frame(self.version, opcode, payload, Some(key), out);
    }

    /// How long after `now` the next message or ping is due, `landed` of the earlier messages having reached every subscriber;
    /// none if that does not depend on time.
    pub(crate) fn wait(&self, landed: u64, now: u64, probe: Option<&Probe>) -> Option<Duration> {
        let ping = probe.and_then(|probe| probe.wait(self.next, now));
        if self.finished || self.next - landed.min(self.next) >= self.in_flight {
            return ping;
        }
        let message = self.schedule.wait(self.next, now);
        ping.into_iter().chain(message).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ledger::MAX_IN_FLIGHT;
    use crate::peer::Outgoing;

    const FRAME: usize = 2 + 4 + 100;

    /// A publisher, and when it begins.
    fn publisher(load: Load, extent: Extent) -> (Publisher, u64) {
        let plan = Plan {
            load,
            extent,
            size: 100,
            ..Plan::default()
        };
        let layout = plan.layout();
        let mut publisher = Publisher::new(&plan, &layout, Pace::even(0, 1), 1, 0, 0);
        let timeline = Timeline::begin(Clock::start(), Duration::from_secs(1), extent, &plan.load);
        let start = timeline.start;
        publisher.begin(timeline);
        (publisher, start)
    }

    fn frames(publisher: &mut Publisher, landed: u64, now: u64) -> usize {
        let mut out = Outgoing::default();
        publisher.publish(landed, now, outlet(&mut out, None));
        assert_eq!(out.bytes.len() % FRAME, 0);
        out.bytes.len() / FRAME
    }

    fn outlet<'a>(out: &'a mut Outgoing, probe: Option<&'a mut Probe>) -> Outlet<'a> {
        Outlet {
            stream: None,
            probe,
            out,
        }
    }

    /// What goes out, a letter for each: message or ping.
    fn letters(publisher: &mut Publisher, probe: &mut Probe, landed: u64, now: u64) -> String {
        const PING: usize = 2 + 4 + 8;
        let mut out = Outgoing::default();
        publisher.publish(landed, now, outlet(&mut out, Some(probe)));
        let (mut rest, mut letters) = (&out.bytes[..], String::new());
        while let Some(first) = rest.first() {
            let (letter, length) = if *first == 0x89 { ('p', PING) } else { ('m', FRAME) };
            letters.push(letter);
            rest = &rest[length..];
        }
        letters
    }

    #[test]
    fn a_ping_goes_out_behind_half_a_window_and_behind_the_last_message() {
        let (mut publisher, start) = publisher(Load::Window(4), Extent::Count(7));
        let mut probe = Probe::new(4, 0);
        assert_eq!(letters(&mut publisher, &mut probe, 0, start), "mmpmmp");
        probe.answered(0, Some(2), start, &mut Vec::new());
        assert_eq!(letters(&mut publisher, &mut probe, 2, start + 1), "mmp");
        probe.answered(0, Some(4), start, &mut Vec::new());
        assert_eq!(letters(&mut publisher, &mut probe, 4, start + 2), "mp");
        assert!(publisher.is_finished());
    }

    #[test]
    fn a_ping_that_had_to_keep_its_distance_is_timed_from_when_it_went_out() {
        let (mut publisher, start) = publisher(Load::Window(2), Extent::Count(9));
        let mut probe = Probe::new(2, 500);
        assert_eq!(letters(&mut publisher, &mut probe, 0, start), "mpm");
        assert_eq!(
            publisher.wait(0, start + 100, Some(&probe)),
            Some(Duration::from_nanos(400))
        );
        assert_eq!(letters(&mut publisher, &mut probe, 0, start + 500), "p");
        let mut taken = Vec::new();
        probe.answered(0, Some(2), start + 700, &mut taken);
        let timed: Vec<_> = taken.iter().map(|taken| taken.at - taken.intended).collect();
        assert_eq!(timed, [700, 200]);
    }

    #[test]
    fn whoever_is_stopped_asks_for_what_it_has_sent() {
        let (mut publisher, start) = publisher(Load::Rate(1e9), Extent::Count(100));
        let mut probe = Probe::new(1_000, 0);
        assert_eq!(letters(&mut publisher, &mut probe, 0, start), "mp");
        assert_eq!(letters(&mut publisher, &mut probe, 0, start + 2), "mm");
        let mut out = Vec::new();
        publisher.finish(start + 3, Some(&mut probe), &mut out);
        let once = out.len();
        publisher.finish(start + 3, Some(&mut probe), &mut out);
        assert_eq!((once, out.len()), (14, 14));
    }

    #[test]
    fn the_whole_window_goes_out_at_once_and_what_has_landed_is_replaced() {
        let (mut publisher, start) = publisher(Load::Window(8), Extent::Count(20));
        assert_eq!(frames(&mut publisher, 0, start - 1), 0);
        assert_eq!(frames(&mut publisher, 0, start), 8);
        assert_eq!(frames(&mut publisher, 0, start + 1), 0);
        assert_eq!(frames(&mut publisher, 3, start + 2), 3);
        assert_eq!(frames(&mut publisher, 11, start + 3), 8);
        assert!(!publisher.is_finished());
        assert_eq!(frames(&mut publisher, 19, start + 4), 1);
        assert!(publisher.is_finished());
        assert_eq!((publisher.sent(), publisher.published()), (20, &[20][..]));
    }

    #[test]
    fn a_run_by_time_ends_with_its_span_and_counts_what_was_sent_in_it() {
        let time = Extent::Time {
            warmup: Duration::from_micros(1),
            measured: Duration::from_micros(1),
        };
        let (mut publisher, start) = publisher(Load::Window(2), time);
        assert_eq!(frames(&mut publisher, 0, start + 500), 2);
        assert_eq!(frames(&mut publisher, 2, start + 1_500), 2);
        assert_eq!(frames(&mut publisher, 2, start + 1_999), 0, "the window is full");
        assert!(!publisher.is_finished());
        assert_eq!(frames(&mut publisher, 2, start + 2_000), 0);
        assert!(publisher.is_finished(), "also with a full window");
        assert_eq!((publisher.sent(), publisher.published()), (4, &[2][..]));
    }

    #[test]
    fn an_open_loop_sends_all_that_is_overdue_up_to_what_can_be_in_flight() {
        let (mut publisher, start) = publisher(Load::Rate(1e9), Extent::Count(u64::MAX));
        let late = u64::MAX / 2;
        assert_eq!(publisher.wait(0, start, None), Some(Duration::ZERO));
        let mut sent = 0;
        loop {
            match frames(&mut publisher, 0, late) {
                0 => break,
                some => sent += some as u64,
            }
        }
        assert_eq!(sent, MAX_IN_FLIGHT);
        assert_eq!(publisher.wait(0, late, None), None, "time alone does not help");
        assert_eq!(frames(&mut publisher, 5, late), 5);
    }

    #[test]
    fn messages_are_counted_in_the_step_they_were_to_be_sent_in() {
        let load = Load::parse_rate("10,20", Duration::from_secs(1)).unwrap();
        let extent = Extent::Time {
            warmup: Duration::ZERO,
            measured: Duration::from_secs(2),
        };
        let (mut publisher, start) = publisher(load, extent);
        assert_eq!(frames(&mut publisher, 0, start + 10_000_000_000), 30);
        assert!(publisher.is_finished());
        assert_eq!(publisher.published(), [10, 20]);
    }
}
