//! The `tidecast` binary: one subcommand, one file.
#![forbid(unsafe_code)]

mod broker;
#[cfg(test)]
mod double;
mod exit;
mod r#pub;
mod sub;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A multi-threaded, high-throughput WebSocket publish/subscribe broker
#[derive(Debug, Parser)]
#[command(version, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    subcommand: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Pub(r#pub::PubArgs),
    Sub(sub::SubArgs),
}

fn main() -> ExitCode {
    let (result, quiet) = match Cli::parse().subcommand {
        Sub::Pub(args) => {
            let quiet = args.quiet();
            (args.run(), quiet)
        }
        Sub::Sub(args) => {
            let quiet = args.quiet();
            (args.run(), quiet)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(quiet),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
