//! `tidecast serve`: runs the broker.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::PossibleValue;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use tidecast_server::config::{ConfigError, FILE_VARIABLE, Flag, Shape, Sources, flags};

use crate::exit::{Failure, USAGE};

/// Run the broker
///
/// It stops in order at SIGINT or SIGTERM: clients are told `bye` and when to come back, and closed with
/// 1001. SIGHUP makes it read its configuration again.
#[derive(Debug, Args)]
#[command(after_help = "\
Every flag is also a setting of the file and a variable of the environment, --max-message is max_message and \
TIDECAST_MAX_MESSAGE: `tidecast config example` prints all as a file.

Examples:
  tidecast serve
  tidecast serve --listen 0.0.0.0:8080 --listen '[::]:8080' --allow-anonymous
  tidecast serve --listen wss://0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem
  tidecast serve --workers 4 --max-message 64K --max-pending 16M
  tidecast serve --config /etc/tidecast.toml
  TIDECAST_LISTEN=127.0.0.1:80 tidecast serve")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
}

impl ServeArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        tidecast_server::run(&self.settings.sources()).map_err(failure)
    }
}

/// A configuration that cannot be used is wrong usage, whoever wrote it where.
pub(crate) fn failure(error: tidecast_server::Error) -> Failure {
    let is_usage = matches!(
        error,
        tidecast_server::Error::Config(ConfigError(_)) | tidecast_server::Error::Tls(_)
    );
    let mut failure = Failure::from(anyhow::Error::new(error));
    if is_usage {
        failure.code = USAGE;
    }
    failure
}

/// Every setting as a flag, and the file.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, Vec<String>)>,
}

/// Made once, as the command line refers to it as long as the process lives.
static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(flags);
const FILE: &str = "config";

impl Settings {
    /// Where settings come from: these, the environment, the file.
    pub(crate) fn sources(self) -> Sources {
        Sources {
            file: self.file,
            environment: std::env::vars_os().collect(),
            flags: self.flags,
        }
    }
}

fn argument(flag: &'static Flag) -> Arg {
    let argument = Arg::new(flag.name)
        .long(flag.flag.as_str())
        .help(flag.help.as_str())
        .help_heading(flag.section);
    if flag.meta.shape == Shape::Switch {
        return argument.action(ArgAction::SetTrue);
    }
    let argument = argument
        .value_name(flag.meta.value_name)
        .action(ArgAction::Append)
        .allow_hyphen_values(true);
    let argument = match flag.default.as_deref() {
        Some(default) => argument.default_value(default),
        None => argument,
    };
    let values = |names: &'static [(&'static str, &'static str)]| {
        let value = |(name, means): &(&'static str, &'static str)| PossibleValue::new(*name).help(*means);
        names.iter().map(value).collect::<Vec<_>>()
    };
    match flag.meta.choices {
        [] => argument,
        choices if flag.meta.shape == Shape::List => argument.value_delimiter(',').value_parser(values(choices)),
        choices => argument.value_parser(values(choices)),
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE)
            .long(FILE)
            .value_name("FILE")
            .env(FILE_VARIABLE)
            .value_parser(clap::value_parser!(PathBuf))
            .help("Read settings from this file; flags and variables of the environment go before it");
        command.arg(file).args(FLAGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Settings, clap::Error> {
        let is_given = |flag: &&Flag| matches.value_source(flag.name) == Some(ValueSource::CommandLine);
        let values = |flag: &Flag| match flag.meta.shape {
            Shape::Switch => Vec::new(),
            Shape::One | Shape::List => matches
                .get_many::<String>(flag.name)
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
        };
        Ok(Settings {
            file: matches.get_one::<PathBuf>(FILE).cloned(),
            flags: FLAGS
                .iter()
                .filter(is_given)
                .map(|flag| (flag.name, values(flag)))
                .collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Settings::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tidecast_server::config::Config;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn config(line: &[&str]) -> Result<Config, String> {
        let line = ["serve"].into_iter().chain(line.iter().copied());
        let settings = Line::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .args
            .settings;
        let mut sources = settings.sources();
        sources.environment.clear();
        let loaded = sources.load().map_err(|error| error.to_string())?;
        Ok(loaded.config)
    }

    #[test]
    fn without_flags_everything_has_its_default() {
        assert_eq!(
            format!("{:?}", config(&[]).unwrap()),
            format!("{:?}", Config::default())
        );
    }

    #[test]
    fn flags_of_every_shape_reach_their_settings() {
        let config = config(&[
            "--listen",
            "0.0.0.0:1",
            "--listen",
            "[::1]:2,127.0.0.1:3",
            "--workers",
            "3",
            "--max-message",
            "64K",
            "--slow",
            "drop-old",
            "--ping-interval",
            "0",
            "--client-context-takeover",
            "--no-pin",
        ])
        .unwrap();
        let listen: Vec<_> = config.server.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["0.0.0.0:1", "[::1]:2", "127.0.0.1:3"]);
        assert_eq!(config.server.workers, Some(3));
        assert_eq!(config.limits.max_message, 64 << 10);
        assert_eq!(config.limits.slow, tidecast_server::SlowPolicy::DropOld);
        assert!(config.timeouts.ping_interval.is_zero());
        assert!(config.websocket.client_context_takeover);
        assert!(!config.server.pin);
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_its_flag() {
        for (line, word) in [
            (["--workers", "0"], "--workers 0: 0 is out of range"),
            (["--max-message", "1X"], "--max-message 1X: give bytes"),
            (["--listen", "8080"], "--listen 8080: \"8080\" is no address"),
            (["--slow", "never"], "--slow"),
            (["--max-mesage", "1"], "--max-message"),
        ] {
            let error = config(&line).unwrap_err();
            assert!(error.contains(word), "{line:?}: {error}");
        }
    }
}
