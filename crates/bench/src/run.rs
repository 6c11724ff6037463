//! A whole run: starts the threads, begins when all connections are open, and puts together what they measured.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crate::check::Faults;
use crate::clock::{Clock, Span};
use crate::error::Error;
use crate::plan::{Extent, Plan};
use crate::process::Sample;
use crate::report::{Generator, Latency, Report, Server, Setup, ratio};
use crate::shared::Shared;
use crate::tally::{Totals, histogram};
use crate::thread::{self, Outcome, Ready};

/// Between the last handshake and the first message. Threads notice the beginning; and servers that answer a handshake before
/// the subscription is in force, which is most of them, have time to make it so.
const PAUSE: Duration = Duration::from_millis(200);

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Connections are being opened.
    Opening,
    /// Messages go out.
    Running {
        /// What part of the run is over, 0 to 1.
        done: f64,
        /// Deliveries so far.
        deliveries: u64,
        /// Deliveries in the second before.
        per_second: f64,
    },
}

/// Runs `plan` and tells `progress` about it ten times a second.
///
/// # Errors
/// The run could not take place. Whatever goes wrong once it has begun is part of the report.
pub fn run(plan: &Plan, mut progress: impl FnMut(Progress)) -> Result<Report, Error> {
    plan.check()?;
    let sample = |pid| Sample::take(pid).map_err(|source| Error::Server { pid, source });
    // Whether the process can be measured is found out before the run, not after it.
    plan.server_pid.map(sample).transpose()?;
    let key = tidecast_client::handshake_key().map_err(|error| Error::Random(error.to_string()))?;
    let shared = Shared::new(plan, u32::from_le_bytes(*key.first_chunk().expect("it has 16 bytes")));
    let (ready, announced) = channel::<Ready>();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads.get())
            .map(|index| {
                let (ready, shared) = (ready.clone(), &shared);
                scope.spawn(move || {
                    let outcome = thread::run(index, plan, shared, &ready);
                    if outcome.is_err() {
                        // The others cannot do without this one.
                        shared.stop();
                    }
                    outcome
                })
            })
            .collect();
        drop(ready);
        let mut rings = vec![None; threads.len()];
        while rings.iter().any(Option::is_none) {
            match announced.recv_timeout(TICK) {
                Ok(Ready { thread, ring }) => rings[thread] = Some(ring),
                Err(RecvTimeoutError::Timeout) if !shared.is_stopped() => progress(Progress::Opening),
                // A thread failed: the others notice, and say so.
                Err(_) => break,
            }
        }
        if rings.iter().any(Option::is_none) {
            shared.stop();
            return Err(failure(threads));
        }
        let rings = rings.into_iter().flatten().collect();
        shared.rings.set(rings).expect("they are set once, here");
        let (start, span) = shared.begin(plan.extent, PAUSE);
        let server = watch(plan, &shared, start, &span, &threads, &mut progress)?;
        let outcomes = join(threads)?;
        Ok(report(plan, &span, outcomes, server))
    })
}

/// What the broker's process had used when the span began, and when it ended.
type Usage = Option<(Sample, Sample)>;

/// Tells progress until the threads are done, and looks at the broker's process at both ends of the span.
fn watch<T>(
    plan: &Plan,
    shared: &Shared,
    start: u64,
    span: &Span,
    threads: &[ScopedJoinHandle<'_, T>],
    progress: &mut impl FnMut(Progress),
) -> Result<Usage, Error> {
    // A process that ended in the run is not the generator's failure: lost connections tell of it.
    let sample = || plan.server_pid.and_then(|pid| Sample::take(pid).ok());
    let (mut before, mut after) = (None, None);
    let mut rate = Rate::new(shared.clock);
    while !threads.iter().all(ScopedJoinHandle::is_finished) {
        let now = shared.clock.now();
        if before.is_none() && now >= span.start {
            before = sample();
        }
        if after.is_none() && now >= span.end {
            after = sample();
        }
        let deliveries = shared.all_delivered();
        let done = match plan.extent {
            Extent::Time { .. } => ratio(now.saturating_sub(start) as f64, (span.end - start) as f64),
            Extent::Count(count) => {
                let all = count as f64 * f64::from(plan.subscribers) * f64::from(plan.publishers.get());
                ratio(deliveries as f64, all)
            }
        };
        progress(Progress::Running {
            done: done.min(1.0),
            deliveries,
            per_second: rate.update(deliveries),
        });
        // To the next end of the span, if that is nearer than the next tick.
        let next = [span.start, span.end].into_iter().filter(|&end| end > now).min();
        let wait = next.map_or(TICK, |end| TICK.min(Duration::from_nanos(end - now)));
        std::thread::park_timeout(wait);
    }
    Ok(before.zip(after.or_else(sample)))
}

/// Deliveries per second since the last look, at least half a second apart.
struct Rate {
    clock: Clock,
    at: u64,
    deliveries: u64,
    per_second: f64,
}

impl Rate {
    fn new(clock: Clock) -> Rate {
        Rate {
            clock,
            at: clock.now(),
            deliveries: 0,
            per_second: 0.0,
        }
    }

    fn update(&mut self, deliveries: u64) -> f64 {
        let now = self.clock.now();
        let elapsed = Duration::from_nanos(now - self.at).as_secs_f64();
        if elapsed >= 0.5 {
            self.per_second = (deliveries - self.deliveries) as f64 / elapsed;
            (self.at, self.deliveries) = (now, deliveries);
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

fn report(plan: &Plan, span: &Span, outcomes: Vec<Outcome>, server: Usage) -> Report {
    let (mut latency, mut faults, mut totals) = (histogram(), Faults::default(), Totals::default());
    let (mut published, mut foreign) = (0, 0);
    let (mut cpu, mut errors) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        latency.add(outcome.latency).expect("they are made alike");
        faults.add(&outcome.faults);
        totals.deliveries += outcome.totals.deliveries;
        totals.wire_bytes += outcome.totals.wire_bytes;
        totals.last = totals.last.max(outcome.totals.last);
        published += outcome.published;
        foreign += outcome.foreign;
        cpu.push(outcome.cpu);
        errors.extend(outcome.errors);
    }
    let end = match plan.extent {
        Extent::Time { .. } => span.end,
        Extent::Count(_) => totals.last.max(span.start),
    };
    let length = Duration::from_nanos(end - span.start);
    let seconds = length.as_secs_f64();
    let megabytes = |bytes: f64| ratio(bytes / 1e6, seconds);
    Report {
        setup: Setup {
            url: plan.url.clone(),
            protocol: plan.protocol,
            version: plan.version.number(),
            compression: plan.compression,
            subscribers: plan.subscribers,
            publishers: plan.publishers.get(),
            size: plan.size,
            load: plan.load,
            extent: plan.extent,
            threads: plan.threads.get(),
        },
        seconds,
        published,
        deliveries: totals.deliveries,
        published_per_second: ratio(published as f64, seconds),
        deliveries_per_second: ratio(totals.deliveries as f64, seconds),
        payload_megabytes_per_second: megabytes(totals.deliveries as f64 * plan.size as f64),
        wire_megabytes_per_second: megabytes(totals.wire_bytes as f64),
        faults,
        errors,
        foreign,
        latency: Latency::of(&latency),
        generator: Generator::of(&cpu, length),
        server: server.map(|(before, after)| {
            let cpu = after.cpu.saturating_sub(before.cpu);
            Server::of(cpu, after.resident, length, totals.deliveries)
        }),
    }
}
