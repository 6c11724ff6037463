//! Measuring in turns, for ratios on a machine that is shared.
//!
//! Load from elsewhere comes and goes in seconds: of two things measured one after the other, one has it and the other
//! has not. Here they alternate, a fraction of a millisecond each, for many rounds that begin with another one each time.
//! Each round gives a ratio of what ran within the same few milliseconds; the median of those is shown.
//!
//! An argument that does not begin with `-` chooses the comparisons with that in their name. With `--test` everything
//! runs once and nothing is measured.

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 400;

/// How long a turn takes at least. Short enough for a round to have one kind of weather, and long beside a look at the
/// clock.
const TURN: Duration = Duration::from_micros(100);

/// What is compared: a name, and what is timed, as a whole and with what all of the comparison share.
pub(crate) struct Contender<'c, T> {
    name: String,
    run: Box<dyn FnMut(&mut T) + 'c>,
}

impl<'c, T> Contender<'c, T> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(&mut T) + 'c) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
        }
    }

    fn time(&mut self, shared: &mut T, runs: u32) -> Duration {
        let start = Instant::now();
        for _ in 0..runs {
            (self.run)(black_box(shared));
        }
        start.elapsed()
    }
}

/// Compares `ours` with `reference`, of which the fastest of each round counts, and prints a line each: the median time of
/// one of the `units` that a run goes through, in nanoseconds, and the median rate as a multiple of the reference.
pub(crate) fn compare<T>(
    name: &str,
    units: usize,
    reference: Vec<Contender<'_, T>>,
    ours: Vec<Contender<'_, T>>,
    shared: &mut T,
) {
    let mut test = false;
    let mut chosen = true;
    for argument in env::args().skip(1) {
        if !argument.starts_with('-') {
            chosen = name.contains(&argument);
        }
        test |= argument == "--test";
    }
    if !chosen {
        return;
    }
    let references = reference.len();
    let mut contenders: Vec<_> = reference.into_iter().chain(ours).collect();
    if test {
        for contender in &mut contenders {
            contender.time(shared, 1);
            println!("{name}/{}: ok", contender.name);
        }
        return;
    }
    let runs: Vec<u32> = contenders
        .iter_mut()
        .map(|contender| {
            let mut runs = 1;
            while contender.time(shared, runs) < TURN {
                runs *= 2;
            }
            runs
        })
        .collect();
    // By contender, then by round.
    let mut times = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for round in 0..ROUNDS {
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            // What the one before left in the caches is not its own.
            contenders[at].time(shared, 1);
            let time = contenders[at].time(shared, runs[at]);
            times[at].push(time.as_secs_f64() * 1e9 / f64::from(runs[at]) / units as f64);
        }
    }
    let fastest: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let of_round = times[..references].iter().map(|times| times[round]);
            of_round.fold(f64::INFINITY, f64::min)
        })
        .collect();
    println!("{name}");
    for (contender, times) in contenders.iter().zip(&times) {
        let ratios = fastest.iter().zip(times).map(|(fastest, time)| fastest / time);
        println!(
            "  {:<20} {:>12.2} ns {:>8.2}",
            contender.name,
            median(times.iter().copied()),
            median(ratios)
        );
    }
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = of.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
