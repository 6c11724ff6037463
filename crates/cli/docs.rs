//! `tidecast docs`: what is known of the program, for other programs and for people.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command, CommandFactory, Subcommand};
use clap_complete::Shell;

use crate::Cli;
use crate::exit::Failure;

/// Print manual pages, completions for shells, and what the control plane offers
#[derive(Debug, Args)]
pub(crate) struct DocsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a manual page for each command into a directory
    Man {
        /// The directory, which is made if there is none
        directory: PathBuf,
    },
    /// Print what completes commands and flags in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the description of the control plane's API, as OpenAPI
    Openapi,
    /// Print every metric and what it means, as a table in Markdown
    Metrics,
}

impl DocsArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        match self.what {
            What::Man { directory } => write_pages(&directory)?,
            What::Completions { shell } => clap_complete::generate(shell, &mut Cli::command(), "tidecast", &mut text),
            What::Openapi => text = tidecast_server::openapi().into_bytes(),
            What::Metrics => text = tidecast_server::metrics_table().into_bytes(),
        }
        io::stdout().lock().write_all(&text).context("cannot print")?;
        Ok(())
    }
}

/// A page for the program, and one for each of its commands.
fn write_pages(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut command = Cli::command();
    // So that each command knows what it is called in full.
    command.build();
    pages(&command, &mut |command| {
        let page = clap_mangen::Man::new(command.clone());
        let path = directory.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    })
}

fn pages(command: &Command, write: &mut impl FnMut(&Command) -> anyhow::Result<()>) -> anyhow::Result<()> {
    write(command)?;
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        pages(command, write)?;
    }
    Ok(())
}
