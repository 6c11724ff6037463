//! Progress on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::Progress;

/// Steps of the bar.
const STEPS: u64 = 1000;

/// A progress bar on stderr, which shows itself only on a terminal unless it is told to.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that draws if stderr is a terminal.
    pub fn auto() -> Bar {
        Bar::on(ProgressDrawTarget::stderr_with_hz(10))
    }

    /// A bar that never draws.
    pub fn hidden() -> Bar {
        Bar::on(ProgressDrawTarget::hidden())
    }

    fn on(target: ProgressDrawTarget) -> Bar {
        let style = ProgressStyle::with_template("{msg:>36} [{bar:40}] {percent:>3} %")
            .expect("the template is well-formed")
            .progress_chars("=> ");
        Bar(ProgressBar::with_draw_target(Some(STEPS), target).with_style(style))
    }

    /// Shows how far the run is.
    pub fn show(&self, progress: Progress) {
        match progress {
            Progress::Opening { open, total } => {
                self.0.set_position((open * STEPS).checked_div(total).unwrap_or(0));
                self.0.set_message(format!("opening connections, {open} of {total}"));
            }
            Progress::Running { done, per_second, .. } => {
                self.0.set_position((done * STEPS as f64) as u64);
                self.0.set_message(if per_second < 1e5 {
                    format!("{per_second:.0} a second")
                } else {
                    format!("{:.2} M a second", per_second / 1e6)
                });
            }
        }
    }

    /// Removes it.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
