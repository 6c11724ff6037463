//! What an operator asks of a broker that runs, from outside of it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, InvalidHeaderValue};
use serde::Deserialize;
use tokio::runtime;

use crate::http::{Http, HttpError, HttpSetupError, Limits, Url, UrlError};
use crate::local;

/// The longest answer.
const MOST_ANSWER: usize = 1 << 20;

/// Which broker is asked.
#[derive(Clone, Debug)]
pub enum Target {
    /// The one whose control plane is there, with the token that it wants.
    Admin(Url, Option<String>),
    /// The one that is this process of this machine, and of this user.
    Process(u32),
}

/// Why it was not done, or is not known to have been.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The control plane cannot be asked.
    #[error(transparent)]
    Setup(#[from] HttpSetupError),
    /// The address leads nowhere.
    #[error(transparent)]
    Address(#[from] UrlError),
    /// The token is none.
    #[error("the token cannot be sent: {0}")]
    Token(#[from] InvalidHeaderValue),
    /// There is no such broker, or it does not answer.
    #[error("the broker at {target} cannot be asked: {reason}")]
    Unreachable {
        /// Where.
        target: String,
        /// Why.
        reason: String,
    },
    /// It refuses, or it has failed.
    #[error("{0}")]
    Refused(String),
    /// There is no thread or descriptor to ask with.
    #[error(transparent)]
    Process(#[from] io::Error),
}

#[derive(Deserialize)]
struct Done {
    text: String,
}

#[derive(Deserialize)]
struct Problem {
    error: Done,
}

/// Has a broker replaced by a new process, and waits at most `limit` for that; gives what it says.
///
/// # Errors
/// It has not been replaced, or that cannot be told.
pub fn upgrade(target: &Target, limit: Duration) -> Result<String, RemoteError> {
    match target {
        Target::Admin(url, token) => ask_admin(url, token.as_deref(), limit),
        Target::Process(pid) => ask_process(*pid, limit),
    }
}

fn ask_admin(url: &Url, token: Option<&str>, time: Duration) -> Result<String, RemoteError> {
    let url: Url = format!("{}/v1/upgrade", url.to_string().trim_end_matches('/')).parse()?;
    let token = token
        .map(|token| HeaderValue::from_str(&format!("Bearer {token}")))
        .transpose()?;
    let http = Http::new(&url, None)?;
    let bytes = MOST_ANSWER;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let answered = runtime.block_on(http.post(&url, token.as_ref(), Vec::new(), Limits { time, bytes }));
    let answer = answered.map_err(|error: HttpError| RemoteError::Unreachable {
        target: url.to_string(),
        reason: error.to_string(),
    })?;
    if answer.status == StatusCode::ACCEPTED
        && let Ok(Done { text }) = serde_json::from_slice(&answer.body)
    {
        return Ok(text);
    }
    Err(RemoteError::Refused(match serde_json::from_slice(&answer.body) {
        Ok(Problem { error }) => error.text,
        Err(_) => format!(
            "{url} answers {}: is the control plane of a broker there?",
            answer.status
        ),
    }))
}

fn ask_process(pid: u32, limit: Duration) -> Result<String, RemoteError> {
    let unreachable = |error: io::Error| RemoteError::Unreachable {
        target: format!("process {pid}"),
        reason: match error.kind() {
            io::ErrorKind::ConnectionRefused => "it is no broker, or not in this network namespace".to_owned(),
            io::ErrorKind::WouldBlock => format!("there was no answer within {limit:?}"),
            _ => error.to_string(),
        },
    };
    let ask = || -> io::Result<String> {
        let mut stream = UnixStream::connect_addr(&local::address(pid)?)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(local::UPGRADE.as_bytes())?;
        let mut answer = String::new();
        stream.take(MOST_ANSWER as u64).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(unreachable)?;
    let answer = answer.trim_end();
    if let Some(text) = answer.strip_prefix(local::YES) {
        return Ok(text.to_owned());
    }
    Err(RemoteError::Refused(match answer.strip_prefix(local::NO) {
        Some(text) => text.to_owned(),
        None => format!("process {pid} does not say; it is another user's, or has ended"),
    }))
}
