//! `tidecast pub`: publishes messages and waits until the broker has taken every one.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use percent_encoding::percent_decode_str;
use tidecast_client::wire::{Command, Kind, Payload, Reference, Reply, json};

use crate::broker::{Broker, BrokerArgs};
use crate::exit::{Failure, remedy};

/// Messages sent and not confirmed. Enough to fill a round trip over a continent with small messages; confirmations are a
/// few dozen bytes each, so that many always fit into the socket and neither side waits for the other to read.
const WINDOW: usize = 256;

/// How often a connection without anything to send is looked after: pings are answered, a close is noticed.
const IDLE: Duration = Duration::from_millis(500);

/// How long a confirmation may take. A broker that is merely busy answers within milliseconds.
const CONFIRMATION: Duration = Duration::from_secs(30);

/// Publish messages to a topic
///
/// Without a payload, each line of stdin is published as one message. The exit code is 0 once the broker has taken all of
/// them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidecast pub demo/hello '{\"a\":1}'
  tidecast pub demo/log < access.log
  tidecast pub demo/picture --file cat.png
  tidecast pub ws://broker:8080/t/demo/hello hi")]
pub(crate) struct PubArgs {
    /// The topic, or its URL: `ws://host:port/t/<topic>`
    #[arg(value_name = "TOPIC")]
    target: String,
    /// The payloads, one message each
    #[arg(value_name = "PAYLOAD", conflicts_with_all = ["file", "lines"])]
    payloads: Vec<String>,
    /// Publish a whole file as one message; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    file: Option<PathBuf>,
    /// Publish each line of stdin as it comes: the default without a payload, unless stdin is a terminal
    #[arg(long)]
    lines: bool,
    /// What the payloads are. Without it each is JSON if it is valid JSON, else text if it is UTF-8, else binary
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    Json,
    Text,
    Binary,
}

/// Where messages come from.
enum Source {
    Given(Vec<Vec<u8>>),
    Lines,
}

/// A message to publish, or why there are no more.
type Input = io::Result<Vec<u8>>;

impl PubArgs {
    pub(crate) fn quiet(&self) -> bool {
        self.broker.quiet
    }

    pub(crate) fn run(self) -> Result<(), Failure> {
        let (url, topic) = target(&self.target, &self.broker.url);
        let source = self.source()?;
        let mut broker = Broker::connect(&url, self.broker.options(&url)?)?;
        let (to, messages) = match source {
            Source::Given(payloads) => {
                let (to, messages) = sync_channel(payloads.len());
                for payload in payloads {
                    to.send(Ok(payload))
                        .expect("the receiver is right here, with room for all");
                }
                (None, messages)
            }
            Source::Lines => {
                let (to, messages) = sync_channel(WINDOW);
                (Some(to), messages)
            }
        };
        if let Some(to) = to {
            // Not joined: it may wait for a line for ever, and the process ends without it.
            std::thread::spawn(move || read_lines(io::stdin().lock(), &to));
        }
        let published = Publisher::new(&topic, self.kind).run(&mut broker, &messages)?;
        broker.close()?;
        if self.broker.verbose {
            eprintln!("tidecast: the broker has taken {published} messages for {topic}");
        }
        Ok(())
    }

    fn source(&self) -> Result<Source, Failure> {
        if let Some(file) = &self.file {
            let payload = if file == Path::new("-") {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
            } else {
                std::fs::read(file)
            };
            let payload = payload.with_context(|| format!("cannot read {}", file.display()))?;
            return Ok(Source::Given(vec![payload]));
        }
        if !self.payloads.is_empty() {
            let payloads = self.payloads.iter().map(|payload| payload.clone().into_bytes());
            return Ok(Source::Given(payloads.collect()));
        }
        if !self.lines && io::stdin().is_terminal() {
            return Err(Failure::new(
                "nothing to publish: give a payload, --file FILE, or --lines to type messages line by line",
            ));
        }
        Ok(Source::Lines)
    }
}

/// The broker's URL and the topic that `target` names: the URL of a topic, or a topic of the broker at `url`.
fn target(target: &str, url: &str) -> (String, String) {
    let named = || {
        let (scheme, rest) = target
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "ws" | "wss"))?;
        let (authority, topic) = rest.split_once("/t/")?;
        let topic = topic.split(['?', '#']).next()?;
        let topic = percent_decode_str(topic).decode_utf8().ok()?;
        Some((format!("{scheme}://{authority}"), topic.into_owned()))
    };
    named().unwrap_or_else(|| (url.to_owned(), target.to_owned()))
}

/// Sends each line, without its end, until there are none or nobody wants them.
fn read_lines(mut from: impl BufRead, to: &SyncSender<Input>) {
    loop {
        let mut line = Vec::new();
        let input = match from.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                if line.ends_with(b"\n") {
                    line.pop();
                    if line.ends_with(b"\r") {
                        line.pop();
                    }
                }
                Ok(line)
            }
            Err(error) => Err(error),
        };
        let failed = input.is_err();
        if to.send(input).is_err() || failed {
            return;
        }
    }
}

/// Publishes with a window: [`WINDOW`] messages may wait for their confirmation.
struct Publisher<'a> {
    topic: &'a str,
    kind: Option<KindArg>,
    /// Messages sent so far; each has its number, counted from 1, as `ref`.
    sent: u64,
    /// The numbers of those that are not confirmed, ascending.
    outstanding: VecDeque<u64>,
}

impl<'a> Publisher<'a> {
    fn new(topic: &'a str, kind: Option<KindArg>) -> Self {
        Publisher {
            topic,
            kind,
            sent: 0,
            outstanding: VecDeque::with_capacity(WINDOW),
        }
    }

    /// Publishes until the channel ends, and returns how many messages there were, all of them confirmed.
    fn run(mut self, broker: &mut Broker, messages: &Receiver<Input>) -> Result<u64, Failure> {
        let mut more = true;
        loop {
            while more && self.outstanding.len() < WINDOW {
                match messages.try_recv() {
                    Ok(input) => self.send(broker, input)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => more = false,
                }
            }
            if !self.outstanding.is_empty() {
                self.confirm(broker)?;
            } else if more {
                match messages.recv_timeout(IDLE) {
                    Ok(input) => self.send(broker, input)?,
                    Err(RecvTimeoutError::Timeout) => self.look_after(broker)?,
                    Err(RecvTimeoutError::Disconnected) => more = false,
                }
            } else {
                return Ok(self.sent);
            }
        }
    }

    fn send(&mut self, broker: &mut Broker, input: Input) -> Result<(), Failure> {
        let payload = input.context("cannot read stdin")?;
        let number = self.sent + 1;
        let kind = match self.kind {
            Some(KindArg::Json) if !json::is_valid(&payload) => {
                return Err(Failure::new(format!(
                    "message {number} is not valid JSON; it was not sent"
                )));
            }
            Some(KindArg::Text) if str::from_utf8(&payload).is_err() => {
                return Err(Failure::new(format!("message {number} is not UTF-8; it was not sent")));
            }
            Some(KindArg::Json) => Kind::Json,
            Some(KindArg::Text) => Kind::Text,
            Some(KindArg::Binary) => Kind::Binary,
            None => kind_of(&payload),
        };
        broker.queue(&Command::Pub {
            topic: self.topic.into(),
            payload: Payload {
                kind,
                bytes: Cow::Owned(payload),
            },
            reference: Some(Reference::number(number)),
            retain: false,
            echo: true,
            key: None,
            id: None,
        })?;
        self.sent = number;
        self.outstanding.push_back(number);
        Ok(())
    }

    /// Waits for at least one answer, and takes all that have come.
    fn confirm(&mut self, broker: &mut Broker) -> Result<(), Failure> {
        let deadline = Instant::now() + CONFIRMATION;
        let before = self.outstanding.len();
        while self.outstanding.len() == before {
            let mut outcome = Ok(());
            if !broker.receive(Some(deadline), |reply| outcome = self.take(reply))? {
                return Err(Failure::new(format!(
                    "the broker has not confirmed {before} messages within {CONFIRMATION:?}"
                )));
            }
            outcome?;
        }
        let mut outcome = Ok(());
        while outcome.is_ok() && broker.receive_buffered(|reply| outcome = self.take(reply))? {}
        outcome
    }

    /// Takes what the broker says of its own accord.
    fn look_after(&mut self, broker: &mut Broker) -> Result<(), Failure> {
        let mut outcome = Ok(());
        while outcome.is_ok() && broker.receive(Some(Instant::now()), |reply| outcome = self.take(reply))? {}
        outcome
    }

    fn take(&mut self, reply: &Reply<'_>) -> Result<(), Failure> {
        match reply {
            Reply::Ok { reference, .. } => {
                let number = reference.as_json().parse().ok();
                let at = number.and_then(|number| self.outstanding.binary_search(&number).ok());
                let at = at.ok_or_else(|| {
                    let reference = reference.as_json();
                    Failure::new(format!("the broker confirmed {reference}, which is not outstanding"))
                })?;
                self.outstanding.remove(at);
                Ok(())
            }
            Reply::Err { reference, code, text } => Err(Failure::new(match reference {
                Some(reference) => format!(
                    "the broker refused message {}: {code}: {text}{}",
                    reference.as_json(),
                    remedy(code)
                ),
                None => format!("the broker refused a message: {code}: {text}{}", remedy(code)),
            })),
            _ => Ok(()),
        }
    }
}

fn kind_of(payload: &[u8]) -> Kind {
    if json::is_valid(payload) {
        Kind::Json
    } else if str::from_utf8(payload).is_ok() {
        Kind::Text
    } else {
        Kind::Binary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_client::Options;

    use crate::double::Double;
    use crate::exit;

    fn publish(double: &Double, kind: Option<KindArg>, messages: &[&[u8]]) -> Result<u64, Failure> {
        let (to, from) = sync_channel(messages.len());
        for message in messages {
            to.send(Ok(message.to_vec())).unwrap();
        }
        drop(to);
        let mut broker = Broker::connect(double.url(), Options::default())?;
        let published = Publisher::new("a/b", kind).run(&mut broker, &from)?;
        broker.close()?;
        Ok(published)
    }

    #[test]
    fn every_message_is_confirmed_however_many_there_are() {
        let double = Double::start(|text, out| out.push(format!("[\"ok\",{},{{}}]", Double::reference(text))));
        let messages = vec![&b"7"[..]; 3 * WINDOW + 1];
        assert_eq!(publish(&double, None, &messages).unwrap(), messages.len() as u64);
        let said = double.said();
        assert_eq!(said.len(), messages.len());
        assert_eq!(said[0], r#"["pub","a/b",7,{"ref":1}]"#);
    }

    #[test]
    fn the_kind_is_told_from_the_payload_message_by_message() {
        let double = Double::start(|text, out| out.push(format!("[\"ok\",{},{{}}]", Double::reference(text))));
        publish(&double, None, &[br#" {"a": 1} "#, b"hello", b"\xff"]).unwrap();
        publish(&double, Some(KindArg::Text), &[b"1"]).unwrap();
        assert_eq!(
            double.said(),
            [
                r#"["pub","a/b", {"a": 1} ,{"ref":1}]"#,
                r#"["pub","a/b","hello",{"ref":2,"kind":"text"}]"#,
                r#"["pub","a/b","/w==",{"ref":3,"kind":"binary"}]"#,
                r#"["pub","a/b","1",{"ref":1,"kind":"text"}]"#,
            ]
        );
    }

    #[test]
    fn what_is_not_of_the_kind_asked_for_is_not_sent() {
        let double = Double::start(|_, _| {});
        for (kind, payload) in [(KindArg::Json, &b"{"[..]), (KindArg::Text, b"\xff")] {
            let failure = publish(&double, Some(kind), &[payload]).unwrap_err();
            assert_eq!(failure.code, exit::FAILED);
            assert!(failure.error.to_string().contains("message 1 is not"), "{failure:?}");
        }
        assert!(double.said().is_empty());
    }

    #[test]
    fn a_refused_message_is_a_failure_that_names_it() {
        let double = Double::start(|text, out| {
            let reference = Double::reference(text);
            out.push(match reference.as_str() {
                "2" => format!("[\"err\",{reference},\"forbidden\",\"not yours\"]"),
                _ => format!("[\"ok\",{reference},{{}}]"),
            });
        });
        let failure = publish(&double, None, &[b"1", b"2", b"3"]).unwrap_err();
        assert_eq!(failure.code, exit::FAILED);
        assert_eq!(
            failure.error.to_string(),
            "the broker refused message 2: forbidden: not yours"
        );
    }

    #[test]
    fn a_connection_that_is_closed_before_the_confirmation_is_lost() {
        let double = Double::start(|_, out| out.push(Double::CLOSE.to_owned()));
        let failure = publish(&double, None, &[b"1"]).unwrap_err();
        assert_eq!(failure.code, exit::CONNECTION_LOST);
        assert!(
            failure.error.to_string().contains("closed the connection with 4001"),
            "{failure:?}"
        );
    }

    #[test]
    fn a_message_beyond_the_brokers_limit_is_not_sent() {
        let double = Double::start(|_, _| {});
        let failure = publish(&double, None, &[&[b'1'; 70_000]]).unwrap_err();
        assert!(failure.error.to_string().contains("at most 65536"), "{failure:?}");
        assert!(double.said().is_empty());
    }

    #[test]
    fn nobody_at_the_address_has_an_exit_code_of_its_own() {
        let failure = Broker::connect("ws://127.0.0.1:9", Options::default()).err().unwrap();
        assert_eq!(failure.code, exit::NOT_CONNECTED);
    }

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let (to, from) = sync_channel(8);
        read_lines(&b"a\r\n\n b \xff\nlast"[..], &to);
        drop(to);
        let lines: Vec<Vec<u8>> = from.iter().map(Result::unwrap).collect();
        assert_eq!(lines, [&b"a"[..], b"", b" b \xff", b"last"]);
    }

    #[test]
    fn the_url_of_a_topic_names_broker_and_topic() {
        let default = "ws://default";
        for (given, url, topic) in [
            ("a/b", default, "a/b"),
            ("ws://h:1/t/a/b%20c?mode=pub", "ws://h:1", "a/b c"),
            ("ws:/x", default, "ws:/x"),
            ("http://h/t/a", default, "http://h/t/a"),
        ] {
            assert_eq!(target(given, default), (url.to_owned(), topic.to_owned()));
        }
    }
}
