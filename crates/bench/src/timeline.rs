//! What part of a run is measured, and how it is divided.

use crate::clock::{Clock, Span, nanoseconds};
use crate::load::{Load, spans};
use crate::payload::Stamp;
use crate::plan::Extent;

/// The steps of a run, which follow each other without gaps; a run without steps is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// When the load begins, in nanoseconds of the clock.
    pub(crate) start: u64,
    steps: Vec<Span>,
}

/// A run without steps.
fn whole(span: Span) -> Vec<Span> {
    std::iter::once(span).collect()
}

impl Timeline {
    /// One that begins `pause` after now.
    pub(crate) fn begin(clock: Clock, pause: std::time::Duration, extent: Extent, load: &Load) -> Timeline {
        // Steps of whole milliseconds then begin and end with times that messages can tell.
        let start = (clock.now() + nanoseconds(pause)).next_multiple_of(Stamp::UNIT);
        let steps = match extent {
            Extent::Time { warmup, measured } => {
                let start = start + nanoseconds(warmup);
                let steps = spans(&load.rows(), start);
                if steps.is_empty() {
                    whole(start..start + nanoseconds(measured))
                } else {
                    steps
                }
            }
            Extent::Count(_) => whole(start..u64::MAX),
        };
        Timeline { start, steps }
    }

    /// One whose load never begins.
    pub(crate) fn never() -> Timeline {
        Timeline {
            start: u64::MAX,
            steps: whole(u64::MAX..u64::MAX),
        }
    }

    /// All that is measured.
    pub(crate) fn span(&self) -> Span {
        let last = self.steps.last().expect("there is a step");
        self.steps[0].start..last.end
    }

    /// The steps, at least one.
    pub(crate) fn steps(&self) -> &[Span] {
        &self.steps
    }

    /// The step that `time` is in. `hint` is where to look first, and is set to where it was found: times come in order,
    /// mostly.
    #[inline]
    pub(crate) fn step_at(&self, time: u64, hint: &mut usize) -> Option<usize> {
        if self.steps[*hint].contains(&time) {
            return Some(*hint);
        }
        self.look_up(time, hint)
    }

    #[cold]
    fn look_up(&self, time: u64, hint: &mut usize) -> Option<usize> {
        let step = self.steps.partition_point(|step| step.end <= time);
        self.steps.get(step).filter(|step| step.contains(&time))?;
        *hint = step;
        Some(step)
    }

    /// The moments at which steps begin, and the end of the last one.
    pub(crate) fn boundaries(&self) -> impl Iterator<Item = u64> {
        let end = self.span().end;
        self.steps.iter().map(|step| step.start).chain(std::iter::once(end))
    }
}

/// Something that is looked at when each step begins and when the last one ends.
#[derive(Debug)]
pub(crate) struct Sampled<T> {
    samples: Vec<T>,
    boundaries: Vec<u64>,
}

impl<T: Copy> Sampled<T> {
    pub(crate) fn new(timeline: &Timeline) -> Sampled<T> {
        Sampled {
            samples: Vec::new(),
            boundaries: timeline.boundaries().collect(),
        }
    }

    /// Takes a sample if one is due at `now`. One that nobody came for in time stands for all that were due.
    pub(crate) fn look(&mut self, now: u64, mut sample: impl FnMut() -> Option<T>) {
        if self.next().is_some_and(|due| due <= now)
            && let Some(sample) = sample()
        {
            while self.next().is_some_and(|due| due <= now) {
                self.samples.push(sample);
            }
        }
    }

    /// When the next sample is due, in nanoseconds of the clock.
    pub(crate) fn next(&self) -> Option<u64> {
        self.boundaries.get(self.samples.len()).copied()
    }

    /// By step, the samples at its ends. What the last step lacks is `last`: it did not end by the clock.
    pub(crate) fn finish(mut self, last: impl Fn() -> Option<T>) -> Vec<(T, T)> {
        if self.samples.len() + 1 == self.boundaries.len() {
            self.samples.extend(last());
        }
        self.samples.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn steps() -> Timeline {
        Timeline {
            start: 0,
            steps: vec![10..20, 20..40],
        }
    }

    #[test]
    fn a_time_is_in_the_step_that_holds_it_wherever_it_is_looked_for_first() {
        for mut hint in [0, 1] {
            for (time, step) in [
                (9, None),
                (10, Some(0)),
                (19, Some(0)),
                (20, Some(1)),
                (39, Some(1)),
                (40, None),
            ] {
                assert_eq!(steps().step_at(time, &mut hint), step, "{time}");
            }
        }
        assert_eq!(Timeline::never().step_at(5, &mut 0), None);
    }

    #[test]
    fn steps_begin_behind_the_warm_up() {
        let load = Load::parse_rate("1k,2k..3k", Duration::from_secs(5)).unwrap();
        let extent = Extent::Time {
            warmup: Duration::from_secs(1),
            measured: Duration::from_secs(10),
        };
        let timeline = Timeline::begin(Clock::start(), Duration::from_secs(2), extent, &load);
        assert_eq!(timeline.steps().len(), 11);
        let span = timeline.span();
        assert_eq!(span.start - timeline.start, 1_000_000_000);
        assert_eq!(span.end - span.start, 10_000_000_000);
        let whole = Timeline::begin(Clock::start(), Duration::ZERO, extent, &Load::Window(1));
        assert_eq!(whole.steps().len(), 1);
        let counted = Timeline::begin(Clock::start(), Duration::ZERO, Extent::Count(1), &Load::Window(1));
        assert_eq!(counted.span().end, u64::MAX);
    }

    #[test]
    fn samples_are_taken_at_the_ends_of_steps_and_late_ones_stand_for_all_that_were_due() {
        let mut sampled = Sampled::new(&steps());
        sampled.look(5, || Some(1));
        sampled.look(11, || Some(2));
        sampled.look(12, || Some(3));
        assert_eq!(sampled.next(), Some(20));
        sampled.look(45, || Some(4));
        assert_eq!(sampled.next(), None);
        assert_eq!(sampled.finish(|| Some(5)), [(2, 4), (4, 4)]);
        let mut unended = Sampled::new(&steps());
        unended.look(25, || Some(1));
        assert_eq!(unended.finish(|| Some(9)), [(1, 1), (1, 9)]);
    }
}
