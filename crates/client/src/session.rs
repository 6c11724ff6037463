//! A conversation with the broker over blocking TCP.

use std::time::Instant;

use tidecast_wire::Kind;

use crate::backoff::Reconnect;
use crate::client::Client;
use crate::conversation::{Conversation, Step, offers};
use crate::error::Error;
use crate::event::{Event, Hello, Publish};
use crate::options::Options;
use crate::random::random;

/// A session with a broker on its `/ws`, in the protocol `tidecast.json.v1`, used by one thread.
///
/// It subscribes and publishes, waits for the broker's confirmations, and tells what happens in
/// [`receive`](Session::receive). With [`Reconnect`] settings it comes back after a loss and subscribes again; commands
/// given in between wait for that.
///
/// ```
/// # mod double { include!("../tests/double/mod.rs"); }
/// use tidecast_client::{Event, Options, Reconnect, Session, wire::Kind};
///
/// # fn main() -> Result<(), tidecast_client::Error> {
/// # let broker = double::Double::start();
/// # let url = broker.url();
/// let mut session = Session::connect(&url, &Options::default(), Some(Reconnect::default()))?;
/// session.subscribe("weather/+")?;
/// session.publish_confirmed("weather/kiel", br#"{"wind": 7}"#, Kind::Json)?;
/// if let Some(Event::Message(message)) = session.receive(None)? {
///     assert_eq!(message.topic, "weather/kiel");
///     assert_eq!(&*message.payload.bytes, br#"{"wind": 7}"#);
/// }
/// session.close()
/// # }
/// ```
#[derive(Debug)]
pub struct Session {
    url: String,
    options: Options,
    /// None while there is no connection.
    client: Option<Client>,
    conversation: Conversation,
}

impl Session {
    /// Connects to `url` and waits for the broker's `hello`. This first connection is tried once; `reconnect` tells how
    /// to come back after it was lost, if at all.
    ///
    /// It speaks JSON, unless `options` offer `tidecast.bin.v1`, whose packets are smaller and binary payloads in them as
    /// they are; and text payloads arrive as such.
    ///
    /// # Errors
    /// Those of [`Client::connect`], and of the connection while `hello` is waited for.
    pub fn connect(url: &str, options: &Options, reconnect: Option<Reconnect>) -> Result<Session, Error> {
        let options = Options {
            protocols: offers(&options.protocols),
            ..options.clone()
        };
        let client = Client::connect(url, &options)?;
        let now = Instant::now();
        let mut session = Session {
            url: url.to_owned(),
            conversation: Conversation::new(options.timeout, client.protocol(), now),
            client: Some(client),
            options,
        };
        while !session.conversation.is_open() {
            session.drive(None)?;
        }
        session.conversation.come_back(reconnect, now);
        Ok(session)
    }

    /// What the broker said of itself, on this connection or the last one.
    pub fn hello(&self) -> &Hello {
        self.conversation.hello().expect("a session begins with hello")
    }

    /// The filters subscribed to.
    pub fn subscriptions(&self) -> &[String] {
        self.conversation.subscriptions()
    }

    /// Subscribes to the topics that `filter` matches, and waits for the confirmation. What is delivered meanwhile waits
    /// for [`Session::receive`].
    ///
    /// # Errors
    /// [`Error::Rejected`], after which the session goes on; [`Error::TimedOut`]; and whatever lost the connection before
    /// the answer came: then the subscription is not made, nor later.
    pub fn subscribe(&mut self, filter: &str) -> Result<(), Error> {
        let deadline = self.open()?;
        self.conversation.subscribe(filter);
        self.answer(deadline).map(drop)
    }

    /// Ends the subscription of `filter`, and waits for the confirmation.
    ///
    /// # Errors
    /// As for [`Session::subscribe`].
    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), Error> {
        let deadline = self.open()?;
        self.conversation.unsubscribe(filter);
        self.answer(deadline).map(drop)
    }

    /// Queues a message for a topic, and waits for nothing but a connection. It is sent with others by
    /// [`Session::flush`], or by the next call that waits. A refusal comes as [`Event::Refused`].
    ///
    /// # Errors
    /// [`Error::Payload`], and those of the connection.
    pub fn publish(&mut self, topic: &str, payload: &[u8], kind: Kind) -> Result<(), Error> {
        self.open()?;
        self.conversation.publish(&Publish::new(topic, payload, kind), false)?;
        self.send()
    }

    /// Publishes a message and waits until the broker has taken it; gives its offset, if the topic keeps a history.
    ///
    /// The broker takes one command after the other, so this also confirms all that was published before and not refused.
    ///
    /// # Errors
    /// [`Error::Payload`]; [`Error::Rejected`]; [`Error::TimedOut`]; and whatever lost the connection before the answer
    /// came: then nobody knows whether the broker took it.
    pub fn publish_confirmed(&mut self, topic: &str, payload: &[u8], kind: Kind) -> Result<Option<u64>, Error> {
        self.publish_with(&Publish::new(topic, payload, kind))
    }

    /// [`Session::publish_confirmed`] with all that can be said about a message.
    ///
    /// # Errors
    /// As for [`Session::publish_confirmed`].
    pub fn publish_with(&mut self, publish: &Publish<'_>) -> Result<Option<u64>, Error> {
        let deadline = self.open()?;
        self.conversation.publish(publish, true)?;
        self.answer(deadline)
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn flush(&mut self) -> Result<(), Error> {
        if let Some(client) = &mut self.client {
            let flushed = client.flush();
            self.judge(flushed);
        }
        self.conversation.poll_step(Instant::now()).map(drop)
    }

    /// The next event; none if there was none before `deadline`. Without a deadline it waits as long as it takes.
    ///
    /// A reconnection that is due is tried in this call, and may make it [`Options::timeout`] late.
    ///
    /// # Errors
    /// What ended the session for good, also when called again: a loss that is not temporary
    /// ([`Error::is_temporary`]), any without [`Reconnect`] settings, or one attempt too many.
    pub fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.conversation.poll_event() {
                return Ok(Some(event));
            }
            self.drive(deadline)?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(self.conversation.poll_event());
            }
        }
    }

    /// Closes the connection in order, if there is one.
    ///
    /// # Errors
    /// Those of [`Client::close`].
    pub fn close(self) -> Result<(), Error> {
        match self.client {
            Some(client) => client.close(crate::code::NORMAL, ""),
            None => Ok(()),
        }
    }

    /// Waits for a connection; gives the time until which an answer may take.
    fn open(&mut self) -> Result<Instant, Error> {
        let deadline = Instant::now() + self.options.timeout;
        while !self.conversation.is_open() {
            self.drive(Some(deadline))?;
            if !self.conversation.is_open() && Instant::now() >= deadline {
                return Err(self.late("could not be reached again"));
            }
        }
        Ok(deadline)
    }

    fn answer(&mut self, deadline: Instant) -> Result<Option<u64>, Error> {
        loop {
            if let Some(answer) = self.conversation.poll_answer() {
                return answer;
            }
            if Instant::now() >= deadline {
                return Err(self.late("did not answer a command"));
            }
            self.drive(Some(deadline))?;
        }
    }

    fn late(&self, what: &'static str) -> Error {
        Error::TimedOut {
            what,
            timeout: self.options.timeout,
        }
    }

    /// Takes the next step of the conversation, which ends at `deadline` at the latest.
    fn drive(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        match self.conversation.poll_step(Instant::now())? {
            Step::Receive(until) => {
                let outcome = self.exchange(deadline.into_iter().chain(until).min());
                self.judge(outcome);
            }
            Step::Wait(until) => {
                let until = deadline.map_or(until, |deadline| deadline.min(until));
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
            Step::Connect => match Client::connect(&self.url, &self.options) {
                Ok(client) => {
                    self.conversation.handle_connected(client.protocol(), Instant::now());
                    self.client = Some(client);
                }
                failed => self.judge(failed.map(drop)),
            },
        }
        Ok(())
    }

    /// Sends what there is to say, and hears one message.
    fn exchange(&mut self, until: Option<Instant>) -> Result<(), Error> {
        let client = self.client.as_mut().expect("connected");
        while let Some(message) = self.conversation.poll_send() {
            client.queue_message(&message)?;
        }
        match client.receive(until)? {
            Some(message) => self.conversation.handle_message(&message),
            None => self.conversation.handle_timeout(Instant::now()),
        }
    }

    /// Hands what there is to say to the client.
    fn send(&mut self) -> Result<(), Error> {
        let client = self.client.as_mut().expect("connected");
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let Some(message) = self.conversation.poll_send()
        {
            outcome = client.queue_message(&message);
        }
        self.judge(outcome);
        self.conversation.poll_step(Instant::now()).map(drop)
    }

    /// A failure of the connection is told to the conversation, which knows whether it ends the session.
    fn judge(&mut self, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            self.client = None;
            self.conversation.handle_lost(error, Instant::now(), random());
        }
    }
}
