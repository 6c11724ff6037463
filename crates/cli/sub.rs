//! `tidecast sub`: prints what is published.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use tidecast_client::wire::{Command, Kind, Payload, Reference, Reply};
use tidecast_server::config::parse_time;

use crate::broker::{Broker, BrokerArgs};
use crate::exit::{Failure, remedy};

/// Print what is published to the topics that match
///
/// Each payload is printed on a line of its own; binary ones in base64.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidecast sub 'demo/#'
  tidecast sub --count 1 --timeout 5s demo/hello
  tidecast sub --json 'sensors/+/temperature' | jq .payload")]
pub(crate) struct SubArgs {
    /// Topics or filters: `+` stands for one level, `#` at the end for all below
    #[arg(value_name = "FILTER", required = true)]
    filters: Vec<String>,
    /// Stop after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after this time; with --count that is a failure if fewer messages came
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Print one JSON object a line: topic, kind, payload, offset if there is one, received_ms
    #[arg(long, conflicts_with_all = ["raw", "topics"])]
    json: bool,
    /// Print binary payloads as they are
    #[arg(long)]
    raw: bool,
    /// Print the topic and a tab before each payload
    #[arg(long)]
    topics: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// How messages are printed.
#[derive(Debug, Clone, Copy)]
struct Format {
    json: bool,
    raw: bool,
    topics: bool,
}

impl SubArgs {
    pub(crate) fn quiet(&self) -> bool {
        self.broker.quiet
    }

    pub(crate) fn run(self) -> Result<(), Failure> {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        self.print(BufWriter::with_capacity(64 * 1024, stdout.lock()), terminal)
    }

    /// Subscribes and prints to `to`, which shows every message at once if it is a `terminal`.
    fn print(&self, mut to: impl Write, terminal: bool) -> Result<(), Failure> {
        let mut broker = Broker::connect(&self.broker.url, self.broker.options(&self.broker.url)?)?;
        for (filter, number) in self.filters.iter().zip(1..) {
            broker.queue(&Command::Sub {
                filter: filter.into(),
                reference: Some(Reference::number(number)),
                since: None,
                slow: None,
            })?;
        }
        broker.flush()?;
        let mut subscriber = Subscriber {
            args: self,
            format: Format {
                json: self.json,
                raw: self.raw,
                topics: self.topics,
            },
            unconfirmed: self.filters.len(),
            deadline: self.timeout.map(|timeout| Instant::now() + timeout),
            received: 0,
        };
        let outcome = subscriber.run(&mut broker, &mut to, terminal);
        // What came before a failure is shown all the same.
        let flushed = to.flush();
        match outcome.and_then(|()| flushed.map_err(Stop::Output)) {
            Ok(()) => broker.close(),
            // Whoever reads has had enough: `head` for example.
            Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => broker.close(),
            Err(Stop::Output(error)) => Err(anyhow::Error::new(error).context("cannot write to stdout").into()),
            Err(Stop::Failure(failure)) => Err(failure),
        }
    }
}

/// Why printing stopped early.
enum Stop {
    Output(io::Error),
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

struct Subscriber<'a> {
    args: &'a SubArgs,
    format: Format,
    /// Filters whose subscription the broker has not confirmed.
    unconfirmed: usize,
    deadline: Option<Instant>,
    received: u64,
}

impl Subscriber<'_> {
    /// Prints until the count or the deadline is reached.
    fn run(&mut self, broker: &mut Broker, to: &mut impl Write, terminal: bool) -> Result<(), Stop> {
        while self.args.count.is_none_or(|count| self.received < count) {
            let mut outcome = Ok(());
            let buffered = broker.receive_buffered(|reply| outcome = self.take(reply, to))?;
            outcome?;
            if buffered {
                if terminal {
                    to.flush().map_err(Stop::Output)?;
                }
                continue;
            }
            // Nothing more is at hand: show what there is before waiting.
            to.flush().map_err(Stop::Output)?;
            let mut outcome = Ok(());
            let received = broker.receive(self.deadline, |reply| outcome = self.take(reply, to))?;
            outcome?;
            if !received {
                return self.out_of_time().map_err(Stop::Failure);
            }
        }
        Ok(())
    }

    fn out_of_time(&self) -> Result<(), Failure> {
        if self.unconfirmed > 0 {
            return Err(Failure::new("the broker has not confirmed the subscription in time"));
        }
        match self.args.count {
            None => Ok(()),
            Some(count) => Err(Failure::new(format!(
                "{} of {count} messages came within {:?}",
                self.received,
                self.args.timeout.unwrap_or_default()
            ))),
        }
    }

    fn take(&mut self, reply: &Reply<'_>, to: &mut impl Write) -> Result<(), Stop> {
        match reply {
            Reply::Message { topic, payload, offset } => {
                self.received += 1;
                self.format.print(to, topic, payload, *offset).map_err(Stop::Output)
            }
            Reply::Ok { .. } => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                if self.unconfirmed == 0 {
                    self.tell("subscribed");
                }
                Ok(())
            }
            Reply::Err { reference, code, text } => {
                let number = reference
                    .as_ref()
                    .and_then(|reference| reference.as_json().parse::<usize>().ok());
                let filter = number.and_then(|number| self.args.filters.get(number.checked_sub(1)?));
                let what = filter.map_or_else(|| "a subscription".to_owned(), |filter| format!("{filter:?}"));
                Err(Failure::new(format!("the broker refused {what}: {code}: {text}{}", remedy(code))).into())
            }
            Reply::Lag { filter, dropped } => {
                if !self.args.broker.quiet {
                    eprintln!(
                        "tidecast: the broker has dropped {dropped} messages of {filter:?}: this reader is too slow"
                    );
                }
                Ok(())
            }
            Reply::Bye { code, text, .. } => {
                self.tell(format_args!(
                    "the broker is about to close the connection: {code} {text}"
                ));
                Ok(())
            }
            Reply::Hello { .. } | Reply::Pong => Ok(()),
        }
    }

    fn tell(&self, what: impl std::fmt::Display) {
        if self.args.broker.verbose {
            eprintln!("tidecast: {what}");
        }
    }
}

impl Format {
    fn print(self, to: &mut impl Write, topic: &str, payload: &Payload<'_>, offset: Option<u64>) -> io::Result<()> {
        if self.json {
            return print_json(to, topic, payload, offset);
        }
        if self.topics {
            write!(to, "{topic}\t")?;
        }
        match payload.text() {
            Some(text) => to.write_all(text.as_bytes())?,
            None if payload.kind == Kind::Binary && !self.raw => {
                to.write_all(STANDARD.encode(&payload.bytes).as_bytes())?
            }
            None => to.write_all(&payload.bytes)?,
        }
        // A line is a line, but binary data has no lines.
        if payload.kind == Kind::Binary && self.raw {
            Ok(())
        } else {
            to.write_all(b"\n")
        }
    }
}

fn print_json(to: &mut impl Write, topic: &str, payload: &Payload<'_>, offset: Option<u64>) -> io::Result<()> {
    let string = |text: &str| serde_json::to_string(text).expect("a string is always JSON");
    // The JSON protocol delivers a text as a JSON string, so a string is a text.
    let (kind, value) = match (payload.text(), payload.kind) {
        (Some(text), _) => (Kind::Text, string(&text)),
        (None, Kind::Binary) => (Kind::Binary, string(&STANDARD.encode(&payload.bytes))),
        // Ends of lines can only stand between tokens, where a space does as well.
        (None, kind) => (kind, String::from_utf8_lossy(&payload.bytes).replace(['\n', '\r'], " ")),
    };
    write!(
        to,
        "{{\"topic\":{},\"kind\":\"{}\",\"payload\":{value}",
        string(topic),
        kind.as_str()
    )?;
    if let Some(offset) = offset {
        write!(to, ",\"offset\":{offset}")?;
    }
    let received = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    writeln!(to, ",\"received_ms\":{}}}", received.as_millis())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::double::Double;
    use crate::exit;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SubArgs,
    }

    fn sub(double: &Double, line: &[&str]) -> (Result<(), Failure>, String) {
        let line = ["sub", "--url", double.url()].into_iter().chain(line.iter().copied());
        let mut printed = Vec::new();
        let result = Line::parse_from(line).args.print(&mut printed, false);
        (result, String::from_utf8(printed).unwrap())
    }

    /// A broker that confirms each subscription and then delivers `messages`.
    fn delivering(messages: &'static [&'static str]) -> Double {
        Double::start(move |text, out| {
            out.push(format!("[\"ok\",{},{{}}]", Double::reference(text)));
            out.extend(messages.iter().map(|message| (*message).to_owned()));
        })
    }

    const MESSAGES: &[&str] = &[
        r#"["msg","a/1",{"x": [1,2]}]"#,
        r#"["msg","a/2","line\nbreak",7]"#,
        r#"["msg","a/3","/w==",null,"base64"]"#,
    ];

    #[test]
    fn payloads_are_printed_one_a_line_and_binary_ones_in_base64() {
        let (result, printed) = sub(&delivering(MESSAGES), &["--count", "3", "a/#"]);
        result.unwrap();
        assert_eq!(printed, "{\"x\": [1,2]}\nline\nbreak\n/w==\n");
    }

    #[test]
    fn topics_stand_before_a_tab() {
        let (result, printed) = sub(&delivering(&MESSAGES[..1]), &["--count", "1", "--topics", "a/#"]);
        result.unwrap();
        assert_eq!(printed, "a/1\t{\"x\": [1,2]}\n");
    }

    #[test]
    fn json_lines_hold_topic_kind_payload_offset_and_time() {
        let (result, printed) = sub(&delivering(MESSAGES), &["--count", "3", "--json", "a/#"]);
        result.unwrap();
        let lines: Vec<serde_json::Value> = printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let kinds = ["json", "text", "binary"];
        for (line, (number, kind)) in lines.iter().zip((1..).zip(kinds)) {
            assert_eq!(line["topic"], format!("a/{number}"));
            assert_eq!(line["kind"], kind);
            assert!(line["received_ms"].as_u64().unwrap() > 1_500_000_000_000);
        }
        assert_eq!(lines[0]["payload"], serde_json::json!({"x": [1, 2]}));
        assert_eq!(
            (&lines[1]["payload"], &lines[1]["offset"]),
            (&"line\nbreak".into(), &7.into())
        );
        assert_eq!(lines[2]["payload"], "/w==");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn raw_prints_the_bytes_and_nothing_else() {
        let mut printed = Vec::new();
        let format = Format {
            json: false,
            raw: true,
            topics: false,
        };
        let payload = Payload {
            kind: Kind::Binary,
            bytes: (&b"\xff\n"[..]).into(),
        };
        format.print(&mut printed, "a", &payload, None).unwrap();
        assert_eq!(printed, b"\xff\n");
    }

    #[test]
    fn every_filter_is_subscribed_to() {
        let double = delivering(&[]);
        let (result, _) = sub(&double, &["--timeout", "200ms", "a", "b/+"]);
        result.expect("without --count the end of the time is the end");
        assert_eq!(
            double.said(),
            [r#"["sub","a",{"ref":1}]"#, r#"["sub","b/+",{"ref":2}]"#]
        );
    }

    #[test]
    fn fewer_messages_than_asked_for_in_time_are_a_failure_and_are_printed() {
        let (result, printed) = sub(
            &delivering(&MESSAGES[..1]),
            &["--count", "2", "--timeout", "200ms", "a/#"],
        );
        let failure = result.unwrap_err();
        assert_eq!(failure.code, exit::FAILED);
        assert_eq!(failure.error.to_string(), "1 of 2 messages came within 200ms");
        assert_eq!(printed.lines().count(), 1);
    }

    #[test]
    fn a_refused_filter_is_named() {
        let double = Double::start(|text, out| {
            out.push(format!(
                "[\"err\",{},\"bad_topic\",\"# must be last\"]",
                Double::reference(text)
            ));
        });
        let (result, _) = sub(&double, &["a/#/b"]);
        let failure = result.unwrap_err();
        assert_eq!(failure.code, exit::FAILED);
        assert_eq!(
            failure.error.to_string(),
            "the broker refused \"a/#/b\": bad_topic: # must be last"
        );
    }

    #[test]
    fn a_closed_connection_has_an_exit_code_of_its_own_and_what_came_before_is_printed() {
        let double = delivering(const { &[MESSAGES[0], Double::CLOSE] });
        let (result, printed) = sub(&double, &["a/#"]);
        assert_eq!(result.unwrap_err().code, exit::CONNECTION_LOST);
        assert_eq!(printed.lines().count(), 1);
    }

    #[test]
    fn a_reader_that_has_had_enough_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let double = delivering(MESSAGES);
        let line = ["sub", "--url", double.url(), "a/#"];
        Line::parse_from(line).args.print(Closed, false).unwrap();
    }
}
