//! Methods that take turns, and what each turn cost.

use std::io;
use std::time::{Duration, Instant};

/// Counted rounds of a turn go on until so much time has gone by.
const TURN: Duration = Duration::from_millis(8);
/// Fewer rotations than that have no median worth the name.
const LEAST_ROTATIONS: usize = 3;

/// How a turn ended.
pub(crate) enum Turn {
    /// Microseconds of processor time per send, or per unit of what was received.
    Cost(f64),
    /// Why it cannot be had.
    Refused(String),
}

/// Rounds of one method, the first of them to warm the caches: the mean cost of the others, each being `units` many.
pub(crate) fn turn(units: usize, mut round: impl FnMut() -> io::Result<Result<Duration, String>>) -> io::Result<Turn> {
    let (mut rounds, mut cost, mut begun) = (0, Duration::ZERO, None);
    loop {
        match (round()?, begun) {
            (Err(why), _) => return Ok(Turn::Refused(why)),
            (Ok(_), None) => begun = Some(Instant::now()),
            (Ok(time), Some(since)) => {
                rounds += 1;
                cost += time;
                if since.elapsed() >= TURN {
                    return Ok(Turn::Cost(cost.as_secs_f64() * 1e6 / (rounds * units) as f64));
                }
            }
        }
    }
}

/// One row's figures of one column.
#[derive(Default)]
pub(crate) struct Figures {
    /// By rotation.
    pub(crate) costs: Vec<f64>,
    pub(crate) refused: Option<String>,
}

/// Lets all of `turns` take turns for `seconds`. The first is what the others are compared with.
pub(crate) fn rotate(
    seconds: f64,
    count: usize,
    mut turn: impl FnMut(usize) -> io::Result<Turn>,
) -> Result<Vec<Figures>, String> {
    // Always in the same order: every row's connections have then been idle for the same time, which TCP's acknowledgements
    // depend on.
    let mut figures: Vec<Figures> = (0..count).map(|_| Figures::default()).collect();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut rotation = 0;
    while rotation < LEAST_ROTATIONS || Instant::now() < until {
        for (row, figures) in figures.iter_mut().enumerate() {
            if figures.refused.is_some() {
                continue;
            }
            match turn(row).map_err(|error| format!("row {row}: {error}"))? {
                Turn::Cost(cost) => figures.costs.push(cost),
                Turn::Refused(why) => figures.refused = Some(why),
            }
        }
        rotation += 1;
    }
    Ok(figures)
}
