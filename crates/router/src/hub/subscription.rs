//! The receiving side of a hub.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use futures_core::Stream;

use super::feed::FeedReader;
use super::inner::{Entry, Inner};
use super::mailbox::Mailbox;
use super::options::SubscribeOptions;
use crate::lockfree::cells::{Message, Taken};
use crate::topic::{Filter, TopicError};

/// What a subscription receives.
#[derive(Debug)]
pub enum Received<T> {
    /// A message.
    Message(Message<T>),
    /// So many messages were dropped, by the policy of the subscription, between what was received
    /// before and what comes next. With [`Overflow::Latest`](super::Overflow::Latest) they are those
    /// that a newer one of their key replaced, and those of keys for which there was no room.
    Lagged(u64),
}

impl<T> Received<T> {
    /// The message, if it is one.
    #[must_use]
    pub fn message(self) -> Option<Message<T>> {
        match self {
            Received::Message(message) => Some(message),
            Received::Lagged(_) => None,
        }
    }
}

/// Why nothing will be received any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The hub was closed or dropped, and all that was queued has been received.
    #[error("the hub is closed")]
    Closed,
    /// The queue was full, and the policy of the subscription is to close; all that was queued has
    /// been received.
    #[error("the subscription was closed because its queue was full")]
    Overflowed,
}

/// Why nothing was received at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing is there yet.
    #[error("there is no message")]
    Empty,
    /// Nothing will come any more.
    #[error(transparent)]
    Ended(#[from] RecvError),
}

/// Why nothing was received in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// Nothing came.
    #[error("no message came in time")]
    Timeout,
    /// Nothing will come any more.
    #[error(transparent)]
    Ended(#[from] RecvError),
}

/// Receives what is published to the topics of its filters. Dropping it unsubscribes.
///
/// Messages of one publisher to one topic come in the order in which they were published. There are
/// four ways to receive, which can be mixed: blocking ([`recv`](Self::recv),
/// [`recv_timeout`](Self::recv_timeout), [`iter`](Self::iter)), looking
/// ([`try_recv`](Self::try_recv)), awaiting ([`recv_async`](Self::recv_async)), and as a [`Stream`]. The
/// last two need no particular runtime.
pub struct Subscription<T: Send + Sync + 'static> {
    hub: Arc<Inner<T>>,
    options: SubscribeOptions<T>,
    source: Source<T>,
    /// For filters added to a subscription that reads a feed.
    more: Option<MailboxReader<T>>,
    /// Looks at `more` first.
    more_first: bool,
    /// Retained messages to begin with.
    retained: VecDeque<Message<T>>,
    /// The numbers of the retained messages received from there, by topic: what is older comes too
    /// late, and was published while this subscribed.
    replayed: HashMap<Box<str>, u64>,
    /// In the order in which they were added.
    filters: Vec<Filter>,
    /// What to take out of the router.
    entries: Vec<Entry>,
}

/// Where messages come from.
pub(super) enum Source<T> {
    Feed { reader: FeedReader<T>, filter: Filter },
    Mailbox(MailboxReader<T>),
}

/// The receiving end of a mailbox.
pub(super) struct MailboxReader<T> {
    mailbox: Arc<Mailbox<T>>,
    /// What [`Mailbox::take`] keeps.
    held: Option<Message<T>>,
}

impl<T> MailboxReader<T> {
    pub(super) fn new(mailbox: Arc<Mailbox<T>>) -> Self {
        MailboxReader { mailbox, held: None }
    }

    fn take(&mut self) -> Taken<T> {
        self.mailbox.take(&mut self.held)
    }
}

impl<T> Source<T> {
    #[inline]
    fn take(&mut self) -> Taken<T> {
        match self {
            Source::Feed { reader, .. } => reader.take(),
            Source::Mailbox(reader) => reader.take(),
        }
    }

    fn arm(&self, waker: &Waker) {
        match self {
            Source::Feed { reader, .. } => reader.arm(waker),
            Source::Mailbox(reader) => reader.mailbox.signal.arm(waker),
        }
    }

    fn overflowed(&self) -> bool {
        match self {
            Source::Feed { .. } => false,
            Source::Mailbox(reader) => reader.mailbox.overflowed(),
        }
    }
}

impl<T: Send + Sync + 'static> Subscription<T> {
    pub(super) fn new(
        hub: Arc<Inner<T>>,
        options: SubscribeOptions<T>,
        source: Source<T>,
        filters: Vec<Filter>,
        entries: Vec<Entry>,
    ) -> Self {
        let mut subscription = Subscription {
            hub,
            options,
            source,
            more: None,
            more_first: false,
            retained: VecDeque::new(),
            replayed: HashMap::new(),
            filters,
            entries,
        };
        for index in 0..subscription.filters.len() {
            subscription.replay(index);
        }
        subscription
    }

    /// The filters, in the order in which they were added.
    #[must_use]
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// Adds a filter. A message that several filters match is received once.
    ///
    /// A subscription that reads a queue it has in common with others (see
    /// [`Overflow::DropOld`](super::Overflow::DropOld)) gets one of its own for all filters it adds,
    /// of the same capacity; between the two, order holds for each topic and not across topics.
    /// Prefer [`Hub::subscribe_all`](super::Hub::subscribe_all) where the filters are known before.
    ///
    /// # Errors
    /// Where and how `filter` is not one.
    pub fn add(&mut self, filter: &str) -> Result<(), TopicError> {
        let filter = Filter::parse(filter, self.hub.limits())?;
        let reader = match (&self.source, &self.more) {
            (Source::Mailbox(reader), _) | (_, Some(reader)) => reader,
            (Source::Feed { .. }, None) => {
                let (mailbox, kept) = self.hub.mailbox(&self.options, filter.share_group().is_some());
                self.entries.push(kept);
                self.more.insert(MailboxReader::new(mailbox))
            }
        };
        let entry = self.hub.enter(&filter, &reader.mailbox, &self.filters, &self.options);
        self.entries.push(entry);
        self.filters.push(filter);
        self.replay(self.filters.len() - 1);
        Ok(())
    }

    /// Takes up what is retained for a filter that has just been added.
    fn replay(&mut self, index: usize) {
        let (earlier, rest) = self.filters.split_at(index);
        // A group has many members, of whom each message is for one.
        if self.options.retained && rest[0].share_group().is_none() {
            self.retained.extend(self.hub.retained().matching(&rest[0], earlier));
        }
    }

    /// Receives what is there.
    ///
    /// # Errors
    /// Nothing is there yet, or nothing will come any more.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Received<T>, TryRecvError> {
        loop {
            if let Some(message) = self.retained.pop_front() {
                self.replayed.insert(message.topic().into(), message.retained_as());
                return Ok(Received::Message(message));
            }
            match self.take() {
                Taken::Message(message) if self.comes_too_late(&message) => {}
                Taken::Message(message) => return Ok(Received::Message(message)),
                Taken::Lagged(count) => return Ok(Received::Lagged(count)),
                Taken::Empty => match self.ended() {
                    None => return Err(TryRecvError::Empty),
                    // What was published before the end is there by now, if it was not before.
                    Some(error) => match self.take() {
                        Taken::Message(message) if self.comes_too_late(&message) => {}
                        Taken::Message(message) => return Ok(Received::Message(message)),
                        Taken::Lagged(count) => return Ok(Received::Lagged(count)),
                        Taken::Empty => {
                            self.leave();
                            return Err(error.into());
                        }
                    },
                },
            }
        }
    }

    #[inline]
    fn take(&mut self) -> Taken<T> {
        let Some(more) = &mut self.more else {
            return self.source.take();
        };
        // In turns, so that neither keeps the other from being received.
        self.more_first = !self.more_first;
        let first = if self.more_first {
            more.take()
        } else {
            self.source.take()
        };
        match first {
            Taken::Empty if self.more_first => self.source.take(),
            Taken::Empty => more.take(),
            taken => taken,
        }
    }

    /// Whether a message is one that was retained, and its topic began with it or a newer one.
    #[inline]
    fn comes_too_late(&mut self, message: &Message<T>) -> bool {
        if message.retained_as() == 0 || self.replayed.is_empty() {
            return false;
        }
        match self.replayed.get(message.topic()) {
            Some(&began) if message.retained_as() <= began => true,
            Some(_) => {
                self.replayed.remove(message.topic());
                false
            }
            None => false,
        }
    }

    fn ended(&self) -> Option<RecvError> {
        let full = |reader: &MailboxReader<T>| reader.mailbox.overflowed();
        if self.hub.is_closed() {
            Some(RecvError::Closed)
        } else if self.source.overflowed() || self.more.as_ref().is_some_and(full) {
            Some(RecvError::Overflowed)
        } else {
            None
        }
    }

    /// Receives, and waits if nothing is there: for a moment by looking again, then asleep.
    ///
    /// # Errors
    /// Nothing will come any more.
    pub fn recv(&mut self) -> Result<Received<T>, RecvError> {
        match self.wait(None) {
            Ok(received) => Ok(received),
            Err(RecvTimeoutError::Ended(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => unreachable!("there is no deadline"),
        }
    }

    /// Receives, and waits at most so long if nothing is there.
    ///
    /// # Errors
    /// Nothing came in time, or nothing will come any more.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Received<T>, RecvTimeoutError> {
        // A time that cannot be counted is never reached.
        self.wait(Instant::now().checked_add(timeout))
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Received<T>, RecvTimeoutError> {
        let backoff = Backoff::new();
        while !backoff.is_completed() {
            match self.try_recv() {
                Ok(received) => return Ok(received),
                Err(TryRecvError::Ended(error)) => return Err(error.into()),
                Err(TryRecvError::Empty) => backoff.snooze(),
            }
        }
        thread_local! {
            static THREAD: Waker = Arc::new(Unpark(thread::current())).into();
        }
        THREAD.with(|waker| {
            let mut context = Context::from_waker(waker);
            loop {
                if let Poll::Ready(outcome) = self.poll_recv(&mut context) {
                    return Ok(outcome?);
                }
                match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    None => thread::park(),
                    Some(Duration::ZERO) => return Err(RecvTimeoutError::Timeout),
                    Some(left) => thread::park_timeout(left),
                }
            }
        })
    }

    /// Receives, for those who write futures by hand: if nothing is there, the task is woken when
    /// something is.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Received<T>, RecvError>> {
        if let Some(outcome) = settled(self.try_recv()) {
            return Poll::Ready(outcome);
        }
        self.source.arm(context.waker());
        if let Some(more) = &self.more {
            more.mailbox.signal.arm(context.waker());
        }
        // What came before the waker was there wakes nobody.
        settled(self.try_recv()).map_or(Poll::Pending, Poll::Ready)
    }

    /// Receives, and awaits if nothing is there. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// Nothing will come any more.
    pub fn recv_async(&mut self) -> impl Future<Output = Result<Received<T>, RecvError>> + '_ {
        std::future::poll_fn(|context| self.poll_recv(context))
    }

    /// Receives, blocking, until nothing will come any more.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { subscription: self }
    }

    /// Unsubscribes. Done once; what is queued can still be received, save what is in a feed.
    fn leave(&mut self) {
        for entry in self.entries.drain(..) {
            self.hub.take_out(entry);
        }
    }
}

fn settled<T>(outcome: Result<Received<T>, TryRecvError>) -> Option<Result<Received<T>, RecvError>> {
    match outcome {
        Ok(received) => Some(Ok(received)),
        Err(TryRecvError::Ended(error)) => Some(Err(error)),
        Err(TryRecvError::Empty) => None,
    }
}

/// Wakes a thread as if it were a task.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl<T: Send + Sync + 'static> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.leave();
        if let Source::Feed { reader, filter } = &mut self.source
            && reader.leave()
        {
            self.hub.end_feed(filter, reader.feed());
        }
    }
}

/// Ends when nothing will come any more.
impl<T: Send + Sync + 'static> Stream for Subscription<T> {
    type Item = Received<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Received<T>>> {
        self.get_mut().poll_recv(context).map(Result::ok)
    }
}

/// A subscription moves like any other value, whatever `T` is: it holds no `T` itself.
impl<T: Send + Sync + 'static> Unpin for Subscription<T> {}

impl<T: Send + Sync + 'static> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("filters", &self.filters)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// See [`Subscription::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Send + Sync + 'static> {
    subscription: &'a mut Subscription<T>,
}

impl<T: Send + Sync + 'static> Iterator for Iter<'_, T> {
    type Item = Received<T>;

    fn next(&mut self) -> Option<Received<T>> {
        self.subscription.recv().ok()
    }
}
