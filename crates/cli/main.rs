//! The `tidecast` binary: one subcommand, one file.
#![forbid(unsafe_code)]

mod admin;
mod bench;
mod broker;
mod config;
mod dev_cert;
mod docs;
#[cfg(test)]
mod double;
mod exit;
mod health;
mod r#pub;
mod serve;
mod sub;
mod token;
mod top;
mod upgrade;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A multi-threaded, high-throughput WebSocket publish/subscribe broker
#[derive(Debug, Parser)]
#[command(version, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Serve(serve::ServeArgs),
    Pub(r#pub::PubArgs),
    Sub(sub::SubArgs),
    Bench(bench::BenchArgs),
    Config(config::ConfigArgs),
    DevCert(dev_cert::DevCertArgs),
    Docs(docs::DocsArgs),
    Health(health::HealthArgs),
    Token(token::TokenArgs),
    Top(top::TopArgs),
    Upgrade(upgrade::UpgradeArgs),
}

fn main() -> ExitCode {
    // A broker that is upgraded runs this program for no more than that.
    if let Some(code) = tidecast_server::start_successor() {
        return code;
    }
    let (result, quiet) = match Cli::parse().task {
        Task::Serve(args) => (args.run(), false),
        Task::Bench(args) => (args.run(), false),
        Task::Config(args) => (args.run(), false),
        Task::DevCert(args) => (args.run(), false),
        Task::Docs(args) => (args.run(), false),
        Task::Health(args) => (args.run(), false),
        Task::Token(args) => (args.run(), false),
        Task::Top(args) => (args.run(), false),
        Task::Upgrade(args) => (args.run(), false),
        Task::Pub(args) => {
            let quiet = args.quiet();
            (args.run(), quiet)
        }
        Task::Sub(args) => {
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
