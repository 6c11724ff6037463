//! `tidecast config`: looks at configurations without running them.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidecast_server::config::{Sources, example};

use crate::exit::Failure;
use crate::serve::{Settings, failure};

/// Check, show and explain configurations
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Say whether a file can be used, and everything that is wrong with it
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print every setting with its value and where that was written, as `serve` would find them; secrets are masked
    ///
    /// Takes the flags of `serve`.
    Show(Settings),
    /// Print a file with every setting, explained, with its default
    Example,
}

impl ConfigArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let text = match self.task {
            Task::Check { file } => {
                let sources = Sources {
                    file: Some(file.clone()),
                    ..Sources::default()
                };
                tidecast_server::check(&sources).map_err(failure)?;
                format!("{}: good\n", file.display())
            }
            Task::Show(settings) => {
                let loaded = tidecast_server::check(&settings.sources()).map_err(failure)?;
                for warning in &loaded.warnings {
                    eprintln!("tidecast: {warning}");
                }
                loaded.show()
            }
            Task::Example => example(),
        };
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(error)),
            _ => Ok(()),
        }
    }
}
