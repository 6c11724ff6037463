//! Progress on a terminal.

use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Tick;
use crate::run::Progress;
use crate::text::{grouped, time};

/// Steps of the bar.
const STEPS: u64 = 1000;

/// A progress bar on stderr, with a line for each second above it.
pub struct Bar {
    bar: ProgressBar,
    /// Lines are written also where no bar is.
    lines: bool,
}

impl Bar {
    /// A bar and its lines if stderr is a terminal, otherwise nothing.
    pub fn auto() -> Bar {
        Bar::on(ProgressDrawTarget::stderr_with_hz(10), false)
    }

    /// The lines without the bar, wherever stderr goes.
    pub fn lines() -> Bar {
        Bar::on(ProgressDrawTarget::hidden(), true)
    }

    /// Nothing.
    pub fn hidden() -> Bar {
        Bar::on(ProgressDrawTarget::hidden(), false)
    }

    fn on(target: ProgressDrawTarget, lines: bool) -> Bar {
        let style = ProgressStyle::with_template("{msg:>36} [{bar:40}] {percent:>3} %")
            .expect("the template is well-formed")
            .progress_chars("=> ");
        Bar {
            bar: ProgressBar::with_draw_target(Some(STEPS), target).with_style(style),
            lines,
        }
    }

    /// Shows how far the run is.
    pub fn show(&self, progress: Progress) {
        match progress {
            Progress::Opening { open, total } => {
                self.bar.set_position((open * STEPS).checked_div(total).unwrap_or(0));
                self.bar.set_message(format!("opening connections, {open} of {total}"));
            }
            Progress::Running { done, per_second, .. } => {
                self.bar.set_position((done * STEPS as f64) as u64);
                self.bar.set_message(if per_second < 1e5 {
                    format!("{per_second:.0} a second")
                } else {
                    format!("{:.2} M a second", per_second / 1e6)
                });
            }
            Progress::Second(tick) if self.lines => {
                // Who does not want to read it any more does not end the run.
                let _ = writeln!(std::io::stderr(), "{}", line(&tick));
            }
            Progress::Second(tick) => self.bar.println(line(&tick)),
        }
    }

    /// Removes it.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A second in one line.
fn line(tick: &Tick) -> String {
    let latency = |latency: Option<f64>| latency.map_or_else(|| "-".to_owned(), time);
    let server = tick
        .server_cores
        .map_or_else(String::new, |cores| format!("   server CPU {:>4.0} %", cores * 100.0));
    format!(
        "{:>4.0} s {:>13}/s {:>9.2} MB/s   p50 {:>9}   p99 {:>9}{server}",
        tick.seconds,
        grouped(tick.per_second as u64),
        tick.megabytes_per_second,
        latency(tick.p50_microseconds),
        latency(tick.p99_microseconds),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_one_line_with_what_was_measured() {
        let tick = Tick {
            seconds: 3.004,
            per_second: 1_234_567.8,
            megabytes_per_second: 158.02,
            p50_microseconds: Some(812.2),
            p99_microseconds: Some(2_000.0),
            server_cores: Some(0.98),
        };
        assert_eq!(
            line(&tick),
            "   3 s     1,234,567/s    158.02 MB/s   p50  812.2 µs   p99   2.00 ms   server CPU   98 %"
        );
        let quiet = Tick {
            per_second: 0.0,
            megabytes_per_second: 0.0,
            p50_microseconds: None,
            p99_microseconds: None,
            server_cores: None,
            ..tick
        };
        assert_eq!(
            line(&quiet),
            "   3 s             0/s      0.00 MB/s   p50         -   p99         -"
        );
    }
}
