//! A connection to the broker that speaks `tidecast.json.v1`, as `pub` and `sub` use it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use tidecast_client::wire::{Command, Reply, json};
use tidecast_client::{Client, Error, Message, Options, Tls, TlsConnector, Trust, code};
use tidecast_server::config::parse_time;

use crate::exit::{self, Failure};

/// The variable that a token is taken from.
const TOKEN_VARIABLE: &str = "TIDECAST_TOKEN";

/// What the broker knows a client by. Other users see command lines, so a token is not given there.
#[derive(Debug, Args)]
pub(crate) struct TokenFile {
    /// A file with the token that the broker wants; without it, that of TIDECAST_TOKEN, if there is one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenFile {
    /// The token, if there is any.
    pub(crate) fn read(&self) -> Result<Option<String>, Failure> {
        let token = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| Failure {
                    code: exit::USAGE,
                    error: anyhow::anyhow!("--token-file {}: {error}", path.display()),
                })?;
                Some(text.trim().to_owned())
            }
            None => std::env::var(TOKEN_VARIABLE).ok().map(|token| token.trim().to_owned()),
        };
        match token {
            Some(token) if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                Err(Failure {
                    code: exit::USAGE,
                    error: anyhow::anyhow!("the token is none: it is empty, or has spaces in it"),
                })
            }
            token => Ok(token),
        }
    }
}

/// Where the broker is, and how much is said about it.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// The broker. Without a path, `/ws` is meant
    #[arg(
        long,
        value_name = "URL",
        default_value = "ws://127.0.0.1:8080",
        env = "TIDECAST_URL"
    )]
    pub(crate) url: String,
    /// Believe the certificates of the authorities in this file, in PEM, instead of those the system trusts
    #[arg(long, value_name = "FILE", conflicts_with = "tls_insecure", env = "TIDECAST_TLS_CA")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Believe any certificate: whoever is on the way can read and change what is said
    #[arg(long)]
    pub(crate) tls_insecure: bool,
    #[command(flatten)]
    pub(crate) token: TokenFile,
    /// How long connecting and closing may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub(crate) connect_timeout: Duration,
    /// Say on stderr what is being done
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Say nothing on stderr: the exit code tells
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl BrokerArgs {
    /// How to connect to `url`.
    pub(crate) fn options(&self, url: &str) -> Result<Options, Failure> {
        Ok(Options {
            timeout: self.connect_timeout,
            tls: self.tls(url)?,
            headers: match self.token.read()? {
                Some(token) => vec![("Authorization".to_owned(), format!("Bearer {token}"))],
                None => Vec::new(),
            },
            ..Options::default()
        })
    }

    /// What TLS is spoken with, if `url` needs it.
    fn tls(&self, url: &str) -> Result<Option<TlsConnector>, Failure> {
        if !url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("wss:")) {
            return Ok(None);
        }
        let tls = Tls {
            trust: match &self.tls_ca {
                Some(path) => Trust::Authorities(path.clone()),
                None if self.tls_insecure => Trust::Anybody,
                None => Trust::System,
            },
            ..Tls::default()
        };
        let connector = TlsConnector::new(&tls).map_err(|error| Failure {
            code: exit::NOT_CONNECTED,
            error: error.into(),
        })?;
        Ok(Some(connector))
    }
}

/// The open connection.
pub(crate) struct Broker {
    client: Client,
    /// The largest message the broker takes, in bytes, as its `hello` says.
    max_message: u64,
    command: Vec<u8>,
}

impl Broker {
    /// Connects and reads the broker's greeting.
    pub(crate) fn connect(url: &str, options: Options) -> Result<Broker, Failure> {
        let timeout = options.timeout;
        let options = Options {
            protocols: vec![json::SUBPROTOCOL.to_owned()],
            ..options
        };
        let client = Client::connect(&with_path(url), &options)?;
        let mut broker = Broker {
            client,
            max_message: u64::MAX,
            command: Vec::new(),
        };
        let mut greeting = None;
        broker.receive(Some(Instant::now() + timeout), |reply| {
            greeting = Some(match reply {
                Reply::Hello { max_message, .. } => Ok(*max_message),
                other => Err(Failure::new(format!(
                    "the broker greets with {other:?}, not with hello"
                ))),
            });
        })?;
        let nothing = || {
            Err(Failure::new(format!(
                "{url} opened a WebSocket, but sent no hello within {timeout:?}: is it a tidecast broker?"
            )))
        };
        broker.max_message = greeting.unwrap_or_else(nothing)?;
        Ok(broker)
    }

    /// Queues a command, to be sent by the next call that waits, or by [`Broker::flush`].
    pub(crate) fn queue(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        self.command.clear();
        json::command(&mut self.command, command);
        if self.command.len() as u64 > self.max_message {
            return Err(Failure::new(format!(
                "the message takes {} bytes, and the broker takes at most {} (its --max-message)",
                self.command.len(),
                self.max_message
            )));
        }
        let text = str::from_utf8(&self.command).expect("JSON is UTF-8");
        Ok(self.client.queue_text(text)?)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.client.flush()?)
    }

    /// Waits for the broker's next message and hands it to `handle`; false if none came before `deadline`.
    pub(crate) fn receive(
        &mut self,
        deadline: Option<Instant>,
        handle: impl FnOnce(&Reply<'_>),
    ) -> Result<bool, Failure> {
        let message = self.client.receive(deadline)?;
        understand(message, handle)
    }

    /// Like [`Broker::receive`], but only what has been read already; false if there is nothing.
    pub(crate) fn receive_buffered(&mut self, handle: impl FnOnce(&Reply<'_>)) -> Result<bool, Failure> {
        let message = self.client.receive_buffered()?;
        understand(message, handle)
    }

    /// Closes in order. All that matters has been said before, so a broker that went away in between is no failure.
    pub(crate) fn close(self) -> Result<(), Failure> {
        match self.client.close(code::NORMAL, "") {
            Ok(()) | Err(Error::Lost(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn understand(message: Option<Message>, handle: impl FnOnce(&Reply<'_>)) -> Result<bool, Failure> {
    let text = match message {
        None => return Ok(false),
        Some(Message::Text(text)) => text,
        Some(Message::Binary(_)) => return Err(Failure::new("the broker sent a binary message on a JSON connection")),
    };
    match json::parse_reply(&text) {
        Ok(reply) => handle(&reply),
        // A newer broker may say things that this version need not understand.
        Err(error) if error.code == tidecast_client::wire::Code::UnknownVerb => {}
        Err(error) => return Err(Failure::new(format!("the broker sent what cannot be read: {error}"))),
    }
    Ok(true)
}

/// `url`, with the path of the multiplexed endpoint if it has none.
fn with_path(url: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    match url[authority..].find('/') {
        None => format!("{url}/ws"),
        Some(at) if authority + at + 1 == url.len() => format!("{url}ws"),
        Some(_) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_means_the_multiplexed_endpoint() {
        for (url, expected) in [
            ("ws://h", "ws://h/ws"),
            ("ws://h:1/", "ws://h:1/ws"),
            ("ws://[::1]:1", "ws://[::1]:1/ws"),
            ("ws://h/behind/a/proxy", "ws://h/behind/a/proxy"),
        ] {
            assert_eq!(with_path(url), expected);
        }
    }
}
