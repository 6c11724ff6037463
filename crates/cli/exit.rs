//! How the process ends: a message on stderr and an exit code that scripts can tell apart.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tidecast_client as client;
use tidecast_client::wire::Code;

/// The broker refused, or anything that has no code of its own.
pub(crate) const FAILED: u8 = 1;
/// The command line asks for what cannot be; clap's own code too.
pub(crate) const USAGE: u8 = 2;
/// There was never a connection.
pub(crate) const NOT_CONNECTED: u8 = 3;
/// There was a connection, and it was lost or closed.
pub(crate) const CONNECTION_LOST: u8 = 4;
/// The load generator counted losses, duplicates, reordering or broken connections.
pub(crate) const FAULTS: u8 = 5;

/// How long the message may take to be written: nobody may be reading it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The list of exit codes as it stands at the end of the help.
pub(crate) const HELP: &str = "\
Exit codes: 0 done · 1 refused or failed · 2 wrong usage · 3 cannot connect · 4 connection lost · 5 bench: deliveries \
lost · 6 bench: a condition of --fail-if holds";

/// What to do where a broker wants credentials.
pub(crate) const HOW_TO_SHOW_A_TOKEN: &str = "a token comes from --token-file or TIDECAST_TOKEN";

/// What to add to a refusal with this code.
pub(crate) fn remedy(code: &str) -> String {
    if code == Code::Unauthorized.as_str() {
        format!("; {HOW_TO_SHOW_A_TOKEN}")
    } else {
        String::new()
    }
}

/// Why a subcommand failed, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    /// With the exit code [`FAILED`].
    pub(crate) fn new(message: impl std::fmt::Display) -> Failure {
        Failure {
            code: FAILED,
            error: anyhow::anyhow!("{message}"),
        }
    }

    /// Says what went wrong on stderr, unless `quiet`, and gives the exit code.
    pub(crate) fn report(&self, quiet: bool) -> ExitCode {
        if !quiet {
            say(format!("tidecast: {}\n", told(&self.error)));
        }
        ExitCode::from(self.code)
    }
}

/// Writes to standard error; if it is a pipe that is full, and nobody reads it, the process ends all the same.
fn say(line: String) {
    let (written, done) = mpsc::channel::<()>();
    let writing = thread::Builder::new().spawn(move || {
        let _ = io::stderr().write_all(line.as_bytes());
        drop(written);
    });
    if writing.is_ok() {
        // Nothing is sent: the other end is dropped.
        let _ = done.recv_timeout(LAST_WORDS);
    }
}

/// The error and its causes in one line, less those that a message before them names already.
fn told(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { code: FAILED, error }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let code = if error.is_connect() {
            NOT_CONNECTED
        } else {
            CONNECTION_LOST
        };
        // The messages of the client name their causes already: no chain.
        Failure {
            code,
            error: match error {
                client::Error::Unauthorized { .. } => anyhow::anyhow!("{error}; {HOW_TO_SHOW_A_TOKEN}"),
                error => anyhow::anyhow!("{error}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = anyhow::anyhow!("no such file").context("cannot read x: no such file");
        assert_eq!(
            told(&cause.context("nothing to publish")),
            "nothing to publish: cannot read x: no such file"
        );
    }

    #[test]
    fn a_failed_connection_and_a_lost_one_have_different_codes() {
        let lost = client::Error::Closed {
            code: None,
            reason: String::new(),
        };
        let refused = client::Error::Tls { host: "h".into() };
        assert_eq!(Failure::from(lost).code, CONNECTION_LOST);
        assert_eq!(Failure::from(refused).code, NOT_CONNECTED);
    }
}
