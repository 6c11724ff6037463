//! A whole run: starts the threads, begins when all connections are open, and puts together what they measured.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use tidecast_driver::Kind;

use crate::clock::{Clock, nanoseconds};
use crate::error::Error;
use crate::payload::Stamp;
use crate::plan::{Extent, Plan};
use crate::process::Sample;
use crate::pulse::Watcher;
use crate::report::{Report, Tick};
use crate::scenario::{Layout, Scenario};
use crate::shared::Shared;
use crate::summary::{Usage, summarize};
use crate::thread::{self, Outcome, Ready};
use crate::timeline::{Sampled, Timeline};
use crate::tls::Client;

/// Between the last handshake and the first message. Threads notice the beginning; and servers that answer a handshake before
/// the subscription is in force, which is most of them, have time to make it so.
const PAUSE: Duration = Duration::from_millis(200);

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Connections are being opened.
    Opening {
        /// So far.
        open: u64,
        /// To be opened.
        total: u64,
    },
    /// The load runs.
    Running {
        /// What part of the run is over, 0 to 1.
        done: f64,
        /// Deliveries and whatever else is counted so far.
        count: u64,
        /// Those of the second before.
        per_second: f64,
    },
    /// A second of the run is over.
    Second(Tick),
}

/// Runs `plan` and tells `progress` about it ten times a second, and about each second.
///
/// # Errors
/// The run could not take place. Whatever goes wrong once it has begun is part of the report.
pub fn run(plan: &Plan, mut progress: impl FnMut(Progress)) -> Result<Report, Error> {
    plan.check()?;
    // Whether the processes can be measured is found out before the run, not after it.
    let empty = Sample::of(&plan.server_pids).map_err(|(pid, source)| Error::Server { pid, source })?;
    let key = tidecast_client::handshake_key().map_err(|error| Error::Random(error.to_string()))?;
    let layout = plan.layout();
    let total = layout.share(0, 1).len() as u64;
    let run = u32::from_le_bytes(*key.first_chunk().expect("it has 16 bytes")) % Stamp::RUNS;
    let (driver, missing) = Kind::best()?;
    let shared = Shared::new(plan, &layout, run, driver, Client::new(plan)?);
    let begun = shared.clock.now();
    let (ready, announced) = channel::<Ready>();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads.get())
            .map(|index| {
                let (ready, shared, layout) = (ready.clone(), &shared, &layout);
                scope.spawn(move || {
                    let outcome = thread::run(index, plan, layout, shared, &ready);
                    if outcome.is_err() {
                        // The others cannot do without this one.
                        shared.stop();
                    }
                    outcome
                })
            })
            .collect();
        drop(ready);
        let mut wakers = vec![None; threads.len()];
        while wakers.iter().any(Option::is_none) {
            match announced.recv_timeout(TICK) {
                Ok(Ready { thread, waker }) => wakers[thread] = Some(waker),
                Err(RecvTimeoutError::Timeout) if !shared.is_stopped() => progress(Progress::Opening {
                    open: shared.all_opened(),
                    total,
                }),
                // A thread failed: the others notice, and say so.
                Err(_) => break,
            }
        }
        if wakers.iter().any(Option::is_none) {
            shared.stop();
            return Err(failure(threads));
        }
        let opened_in = Duration::from_nanos(shared.clock.now() - begun);
        let wakers = wakers.into_iter().flatten().collect();
        shared.wakers.set(wakers).expect("they are set once, here");
        let timeline = shared.begin(plan, PAUSE);
        let (steps, ticks) = watch(plan, &layout, &shared, timeline, &threads, &mut progress);
        let outcomes = join(threads)?;
        let server = empty.map(|empty| Usage { empty, steps });
        let mut report = summarize(plan, &layout, timeline, opened_in, outcomes, server);
        report.machine.without_io_uring = missing.map(|missing| missing.to_string());
        Ok(Report { ticks, ..report })
    })
}

/// Tells progress until the threads are done, and looks at the broker's processes at both ends of each step, and at what happened
/// every second.
fn watch<T>(
    plan: &Plan,
    layout: &Layout,
    shared: &Shared,
    timeline: &Timeline,
    threads: &[ScopedJoinHandle<'_, T>],
    progress: &mut impl FnMut(Progress),
) -> (Vec<(Sample, Sample)>, Vec<Tick>) {
    // A process that ended in the run is not the generator's failure: lost connections tell of it.
    let sample = || Sample::of(&plan.server_pids).ok().flatten();
    let mut server = Sampled::new(timeline);
    let mut rate = Rate::new(shared.clock);
    let (start, end) = (timeline.start, timeline.span().end);
    let mut ticker = Ticker::new(start);
    while !threads.iter().all(ScopedJoinHandle::is_finished) {
        let now = shared.clock.now();
        server.look(now, sample);
        let count = shared.all_happened();
        // What comes after the end is closing.
        if now <= end {
            let seen = Seen {
                count,
                bytes: shared.all_bytes(),
            };
            if let Some(tick) = ticker.look(now, seen, sample, |pulse| pulse.look(shared.pulses())) {
                progress(Progress::Second(tick));
            }
        }
        let done = match plan.extent {
            Extent::Time { .. } => now.saturating_sub(start) as f64 / (end - start) as f64,
            Extent::Count(_) => count as f64 / expected(plan, layout),
        };
        progress(Progress::Running {
            done: done.min(1.0),
            count,
            per_second: rate.update(count),
        });
        // To the next end of a step, if that is nearer than the next tick. Where there is no process to look at, ends of
        // steps pass unseen.
        let next = server.next().filter(|&next| next > now);
        let wait = next.map_or(nanoseconds(TICK), |next| nanoseconds(TICK).min(next - now));
        std::thread::park_timeout(Duration::from_nanos(wait));
    }
    (server.finish(sample), ticker.ticks)
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    count: u64,
    bytes: u64,
}

/// Takes note of what happens each second.
struct Ticker {
    at: u64,
    start: u64,
    seen: Seen,
    pulse: Watcher,
    server: Option<Sample>,
    ticks: Vec<Tick>,
}

impl Ticker {
    fn new(start: u64) -> Ticker {
        Ticker {
            at: start,
            start,
            seen: Seen::default(),
            pulse: Watcher::new(),
            server: None,
            ticks: Vec::new(),
        }
    }

    /// What happened in the second that is over, if one is; `latencies` gives those since it was last asked.
    fn look(
        &mut self,
        now: u64,
        seen: Seen,
        sample: impl Fn() -> Option<Sample>,
        latencies: impl FnOnce(&mut Watcher) -> Option<(f64, f64)>,
    ) -> Option<Tick> {
        let elapsed = Duration::from_nanos(now.saturating_sub(self.at)).as_secs_f64();
        if self.server.is_none() && now >= self.start {
            self.server = sample();
        }
        if elapsed < 1.0 {
            return None;
        }
        let server = sample();
        let cores = self.server.zip(server).map(|(before, after)| {
            let cpu = after.cpu.saturating_sub(before.cpu);
            cpu.as_secs_f64() / elapsed
        });
        let latencies = latencies(&mut self.pulse);
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed;
        let tick = Tick {
            seconds: Duration::from_nanos(now - self.start).as_secs_f64(),
            per_second: per_second(seen.count, self.seen.count),
            megabytes_per_second: per_second(seen.bytes, self.seen.bytes) / 1e6,
            p50_microseconds: latencies.map(|(p50, _)| p50),
            p99_microseconds: latencies.map(|(_, p99)| p99),
            server_cores: cores,
        };
        self.ticks.push(tick);
        (self.at, self.seen, self.server) = (now, seen, server);
        Some(tick)
    }
}

/// How much is to happen in a run that counts.
fn expected(plan: &Plan, layout: &Layout) -> f64 {
    let Extent::Count(count) = plan.extent else {
        return f64::INFINITY;
    };
    let each = match plan.scenario {
        Scenario::Connect => f64::from(plan.threads.get()),
        Scenario::Churn { connections, .. } => f64::from(connections),
        Scenario::Ingest { publishers } => f64::from(publishers),
        _ => layout.publishers() as f64 * f64::from(layout.subscribers_each),
    };
    count as f64 * each
}

/// What happened per second since the last look, at least half a second apart.
struct Rate {
    clock: Clock,
    at: u64,
    count: u64,
    per_second: f64,
}

impl Rate {
    fn new(clock: Clock) -> Rate {
        Rate {
            clock,
            at: clock.now(),
            count: 0,
            per_second: 0.0,
        }
    }

    fn update(&mut self, count: u64) -> f64 {
        let now = self.clock.now();
        let elapsed = Duration::from_nanos(now - self.at).as_secs_f64();
        if elapsed >= 0.5 {
            self.per_second = (count - self.count) as f64 / elapsed;
            (self.at, self.count) = (now, count);
        }
        self.per_second
    }
}

/// The outcomes of all threads, or the failure to blame.
fn join(threads: Vec<ScopedJoinHandle<'_, Result<Outcome, Error>>>) -> Result<Vec<Outcome>, Error> {
    let (mut outcomes, mut failure) = (Vec::new(), None);
    for thread in threads {
        match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok(outcome) => outcomes.push(outcome),
            // Those that only stopped for another one are not to blame.
            Err(error) if failure.is_none() || matches!(failure, Some(Error::Stopped)) => failure = Some(error),
            Err(_) => {}
        }
    }
    match failure {
        None => Ok(outcomes),
        Some(error) => Err(error),
    }
}

fn failure(threads: Vec<ScopedJoinHandle<'_, Result<Outcome, Error>>>) -> Error {
    match join(threads) {
        Err(error) => error,
        Ok(_) => Error::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_told_one_after_the_other_from_the_beginning_of_the_load() {
        let mut ticker = Ticker::new(1_000_000_000);
        let sample = |milliseconds| {
            move || {
                Some(Sample {
                    cpu: Duration::from_millis(milliseconds),
                    resident: 0,
                })
            }
        };
        let mut look = |milliseconds: u64, count, cpu| {
            let seen = Seen {
                count,
                bytes: count * 10_000,
            };
            ticker.look(milliseconds * 1_000_000, seen, sample(cpu), |_| Some((5.0, 9.0)))
        };
        let told = [
            look(500, 0, 900),
            look(1_000, 0, 1_000),
            look(1_900, 90, 1_800),
            look(2_000, 100, 1_900),
            look(4_000, 500, 2_000),
        ];
        let tick = |seconds, per_second, cores| Tick {
            seconds,
            per_second,
            megabytes_per_second: per_second / 100.0,
            p50_microseconds: Some(5.0),
            p99_microseconds: Some(9.0),
            server_cores: Some(cores),
        };
        let ticks = [tick(1.0, 100.0, 0.9), tick(3.0, 200.0, 0.05)];
        assert_eq!(ticker.ticks, ticks);
        assert_eq!(told, [None, None, None, Some(ticks[0]), Some(ticks[1])]);
    }
}
