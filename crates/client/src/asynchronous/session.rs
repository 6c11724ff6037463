//! A conversation with the broker over tokio's TCP.

use std::time::Instant;

use tidecast_wire::Kind;
use tokio::task::JoinHandle;

use super::{Client, before};
use crate::backoff::Reconnect;
use crate::conversation::{Conversation, Step, offers};
use crate::error::Error;
use crate::event::{Event, Hello, Publish};
use crate::options::Options;
use crate::random::random;

/// A session with a broker on its `/ws`, in the protocol `tidecast.json.v1`, used by one task.
///
/// It subscribes and publishes, waits for the broker's confirmations, and tells what happens in
/// [`receive`](Session::receive). With [`Reconnect`] settings it comes back after a loss and subscribes again; commands
/// given in between wait for that.
#[derive(Debug)]
pub struct Session {
    url: String,
    options: Options,
    /// None while there is no connection.
    client: Option<Client>,
    /// The attempt to come back that is under way.
    attempt: Option<Attempt>,
    conversation: Conversation,
}

/// An attempt to come back, in a task of its own: it goes on while nobody waits for this session, so that it does not keep
/// others from their turn with the same address. It ends with the session.
#[derive(Debug)]
struct Attempt(JoinHandle<Result<Client, Error>>);

impl Attempt {
    async fn outcome(&mut self) -> Result<Client, Error> {
        match (&mut self.0).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime shuts down.
            Err(error) => Err(Error::Lost(error.into())),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
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
    pub async fn connect(url: &str, options: &Options, reconnect: Option<Reconnect>) -> Result<Session, Error> {
        let options = Options {
            protocols: offers(&options.protocols),
            ..options.clone()
        };
        let client = Client::connect(url, &options).await?;
        let now = Instant::now();
        let mut session = Session {
            url: url.to_owned(),
            conversation: Conversation::new(options.timeout, client.protocol(), now),
            client: Some(client),
            attempt: None,
            options,
        };
        while !session.conversation.is_open() {
            session.drive(None).await?;
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
    pub async fn subscribe(&mut self, filter: &str) -> Result<(), Error> {
        let deadline = self.open().await?;
        self.conversation.subscribe(filter);
        self.answer(deadline).await.map(drop)
    }

    /// Ends the subscription of `filter`, and waits for the confirmation.
    ///
    /// # Errors
    /// As for [`Session::subscribe`].
    pub async fn unsubscribe(&mut self, filter: &str) -> Result<(), Error> {
        let deadline = self.open().await?;
        self.conversation.unsubscribe(filter);
        self.answer(deadline).await.map(drop)
    }

    /// Queues a message for a topic, and waits for nothing but a connection. It is sent with others by
    /// [`Session::flush`], or by the next call that waits. A refusal comes as [`Event::Refused`].
    ///
    /// # Errors
    /// [`Error::Payload`], and those of the connection.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], kind: Kind) -> Result<(), Error> {
        self.open().await?;
        self.conversation.publish(&Publish::new(topic, payload, kind), false)?;
        self.send().await
    }

    /// Publishes a message and waits until the broker has taken it; gives its offset, if the topic keeps a history.
    ///
    /// The broker takes one command after the other, so this also confirms all that was published before and not refused.
    ///
    /// # Errors
    /// [`Error::Payload`]; [`Error::Rejected`]; [`Error::TimedOut`]; and whatever lost the connection before the answer
    /// came: then nobody knows whether the broker took it.
    pub async fn publish_confirmed(&mut self, topic: &str, payload: &[u8], kind: Kind) -> Result<Option<u64>, Error> {
        self.publish_with(&Publish::new(topic, payload, kind)).await
    }

    /// [`Session::publish_confirmed`] with all that can be said about a message.
    ///
    /// # Errors
    /// As for [`Session::publish_confirmed`].
    pub async fn publish_with(&mut self, publish: &Publish<'_>) -> Result<Option<u64>, Error> {
        let deadline = self.open().await?;
        self.conversation.publish(publish, true)?;
        self.answer(deadline).await
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn flush(&mut self) -> Result<(), Error> {
        if let Some(client) = &mut self.client {
            let flushed = client.flush().await;
            self.judge(flushed);
        }
        self.conversation.poll_step(Instant::now()).map(drop)
    }

    /// The next event; none if there was none before `deadline`. Without a deadline it waits as long as it takes.
    ///
    /// A reconnection that is due goes on after `deadline`, and is taken up by the next call.
    ///
    /// # Errors
    /// What ended the session for good, also when called again: a loss that is not temporary
    /// ([`Error::is_temporary`]), any without [`Reconnect`] settings, or one attempt too many.
    pub async fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.conversation.poll_event() {
                return Ok(Some(event));
            }
            self.drive(deadline).await?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(self.conversation.poll_event());
            }
        }
    }

    /// Closes the connection in order, if there is one.
    ///
    /// # Errors
    /// Those of [`Client::close`].
    pub async fn close(self) -> Result<(), Error> {
        match self.client {
            Some(client) => client.close(crate::code::NORMAL, "").await,
            None => Ok(()),
        }
    }

    /// Waits for a connection; gives the time until which an answer may take.
    async fn open(&mut self) -> Result<Instant, Error> {
        let deadline = Instant::now() + self.options.timeout;
        while !self.conversation.is_open() {
            self.drive(Some(deadline)).await?;
            if !self.conversation.is_open() && Instant::now() >= deadline {
                return Err(self.late("could not be reached again"));
            }
        }
        Ok(deadline)
    }

    async fn answer(&mut self, deadline: Instant) -> Result<Option<u64>, Error> {
        loop {
            if let Some(answer) = self.conversation.poll_answer() {
                return answer;
            }
            if Instant::now() >= deadline {
                return Err(self.late("did not answer a command"));
            }
            self.drive(Some(deadline)).await?;
        }
    }

    fn late(&self, what: &'static str) -> Error {
        Error::TimedOut {
            what,
            timeout: self.options.timeout,
        }
    }

    /// Takes the next step of the conversation, which ends at `deadline` at the latest.
    async fn drive(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        match self.conversation.poll_step(Instant::now())? {
            Step::Receive(until) => {
                let outcome = self.exchange(deadline.into_iter().chain(until).min()).await;
                self.judge(outcome);
            }
            Step::Wait(until) => {
                let until = deadline.map_or(until, |deadline| deadline.min(until));
                tokio::time::sleep_until(until.into()).await;
            }
            Step::Connect => {
                let attempt = self.attempt.get_or_insert_with(|| {
                    let (url, options) = (self.url.clone(), self.options.clone());
                    Attempt(tokio::spawn(async move { Client::connect(&url, &options).await }))
                });
                let Some(outcome) = before(deadline, attempt.outcome()).await else {
                    return Ok(());
                };
                self.attempt = None;
                match outcome {
                    Ok(client) => {
                        self.conversation.handle_connected(client.protocol(), Instant::now());
                        self.client = Some(client);
                    }
                    failed => self.judge(failed.map(drop)),
                }
            }
        }
        Ok(())
    }

    /// Sends what there is to say, and hears one message.
    async fn exchange(&mut self, until: Option<Instant>) -> Result<(), Error> {
        let client = self.client.as_mut().expect("connected");
        while let Some(message) = self.conversation.poll_send() {
            client.queue_message(&message).await?;
        }
        match client.receive(until).await? {
            Some(message) => self.conversation.handle_message(&message),
            None => self.conversation.handle_timeout(Instant::now()),
        }
    }

    /// Hands what there is to say to the client.
    async fn send(&mut self) -> Result<(), Error> {
        let client = self.client.as_mut().expect("connected");
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let Some(message) = self.conversation.poll_send()
        {
            outcome = client.queue_message(&message).await;
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
