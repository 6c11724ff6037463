//! The hub: publish and subscribe within a process.

mod conflated;
mod feed;
mod inner;
mod mailbox;
mod options;
mod publisher;
mod retained;
mod signal;
mod subscription;

use std::fmt;
use std::sync::Arc;

use crate::lockfree::cells::Message;
use crate::topic::{Filter, Topic, TopicError, TopicErrorKind};
use inner::{Entry, Inner};
pub use options::{HubOptions, Overflow, SubscribeOptions};
pub use publisher::Publisher;
use retained::Full;
pub use subscription::{Iter, Received, RecvError, RecvTimeoutError, Subscription, TryRecvError};
use subscription::{MailboxReader, Source};

/// Publishes values to whoever subscribes to their topic.
///
/// A handle: clones are the same hub, which closes when the last of them, and the last
/// [`Publisher`], is dropped. Any number of threads may publish, subscribe and receive. Publishing
/// takes no lock (but for [`Overflow::Latest`]), waits for no receiver, and allocates once, or not at
/// all if nobody wants the message: all who receive it share one [`Message`].
///
/// ```
/// use tidecast_router::{Hub, Received, SubscribeOptions};
///
/// let hub = Hub::new();
/// let mut news = hub.subscribe("news/#", SubscribeOptions::new())?;
/// assert_eq!(hub.publish("news/sport", "a goal")?, 1);
/// assert_eq!(hub.publish("weather", "rain")?, 0);
///
/// let Ok(Received::Message(message)) = news.recv() else { panic!("no message") };
/// assert_eq!((message.topic(), *message), ("news/sport", "a goal"));
/// # Ok::<(), tidecast_router::TopicError>(())
/// ```
pub struct Hub<T: Send + Sync + 'static> {
    owner: Arc<Owner<T>>,
}

/// What publishes; the hub closes with it.
struct Owner<T: Send + Sync + 'static>(Arc<Inner<T>>);

impl<T: Send + Sync + 'static> Drop for Owner<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Why a message was not retained, nor published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetainError {
    /// The topic is not one.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// There are as many retained topics as [`HubOptions::retained_topics`] allows, and this is not
    /// one of them.
    #[error("{limit} topics have a retained message, and there may be no more")]
    Full {
        /// The limit.
        limit: usize,
    },
}

impl<T: Send + Sync + 'static> Hub<T> {
    /// A hub without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(HubOptions::default())
    }

    /// A hub without subscriptions, with these options.
    #[must_use]
    pub fn with_options(options: HubOptions) -> Self {
        Hub {
            owner: Arc::new(Owner(Arc::new(Inner::new(&options)))),
        }
    }

    fn inner(&self) -> &Arc<Inner<T>> {
        &self.owner.0
    }

    /// Publishes, and says how many subscriptions the message reached: a member of a group counts,
    /// the others of it do not, nor does one whose policy dropped this message. It is 0 after the hub
    /// was closed.
    ///
    /// Who publishes to one topic again and again is served faster by a
    /// [`publisher`](Self::publisher).
    ///
    /// # Errors
    /// Where and how `topic` is not one.
    pub fn publish(&self, topic: &str, value: T) -> Result<usize, TopicError> {
        let topic = Topic::parse(topic, self.inner().limits())?;
        Ok(self.inner().publish(topic, value))
    }

    /// Publishes, and keeps the message for those who subscribe later: they receive it first, until
    /// another takes its place.
    ///
    /// # Errors
    /// The topic is not one, or too many others have a retained message. Then nothing is published.
    pub fn publish_retained(&self, topic: &str, value: T) -> Result<usize, RetainError> {
        let topic = Topic::parse(topic, self.inner().limits())?;
        let message = self.inner().retained().message(topic, value);
        // Kept before it is published: who subscribes in between finds it here, or gets it live, or
        // both, and then knows by its number that it is the same.
        match self.inner().retained().keep(&message) {
            Ok(()) => Ok(self.inner().publish_message(topic, message)),
            Err(Full { limit }) => Err(RetainError::Full { limit }),
        }
    }

    /// Forgets what is retained for `topic`, and says whether anything was.
    ///
    /// # Errors
    /// Where and how `topic` is not one.
    pub fn forget_retained(&self, topic: &str) -> Result<bool, TopicError> {
        let topic = Topic::parse(topic, self.inner().limits())?;
        Ok(self.inner().retained().forget(topic))
    }

    /// A publisher to one topic, which remembers who wants it.
    ///
    /// # Errors
    /// Where and how `topic` is not one.
    pub fn publisher(&self, topic: &str) -> Result<Publisher<T>, TopicError> {
        Topic::parse(topic, self.inner().limits())?;
        Ok(Publisher::new(Arc::clone(&self.owner), topic.into()))
    }

    /// Subscribes: what is published from now on is received, and before it, unless the options say
    /// otherwise, what was retained.
    ///
    /// With a shared filter (`$share/<group>/<filter>`) each message is received by one of the
    /// group; if its queue is full its policy decides, and no other member is tried. After the hub was
    /// closed the subscription has nothing to receive but what was retained.
    ///
    /// # Errors
    /// Where and how `filter` is not one.
    pub fn subscribe(&self, filter: &str, options: SubscribeOptions<T>) -> Result<Subscription<T>, TopicError> {
        let filter = Filter::parse(filter, self.inner().limits())?;
        let Some(reader) = self.inner().read_feed(&filter, &options) else {
            return Ok(self.subscribe_mailbox(vec![filter], options));
        };
        let source = Source::Feed {
            reader,
            filter: filter.clone(),
        };
        let hub = Arc::clone(self.inner());
        Ok(Subscription::new(hub, options, source, vec![filter], Vec::new()))
    }

    /// Subscribes to several filters as one: a message that several of them match is received once,
    /// and messages of one publisher to several topics come in the order in which they were
    /// published.
    ///
    /// # Errors
    /// Where and how one of `filters` is not one, or there are none.
    pub fn subscribe_all<'f>(
        &self,
        filters: impl IntoIterator<Item = &'f str>,
        options: SubscribeOptions<T>,
    ) -> Result<Subscription<T>, TopicError> {
        let parse = |filter| Filter::parse(filter, self.inner().limits());
        let filters = filters.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if filters.is_empty() {
            let kind = TopicErrorKind::Empty;
            return Err(TopicError { kind, at: 0 });
        }
        Ok(self.subscribe_mailbox(filters, options))
    }

    fn subscribe_mailbox(&self, filters: Vec<Filter>, options: SubscribeOptions<T>) -> Subscription<T> {
        let shared = filters.iter().any(|filter| filter.share_group().is_some());
        let (mailbox, kept) = self.inner().mailbox(&options, shared);
        let mut entries = vec![kept];
        for (index, filter) in filters.iter().enumerate() {
            entries.push(self.inner().enter(filter, &mailbox, &filters[..index], &options));
        }
        let source = Source::Mailbox(MailboxReader::new(mailbox));
        Subscription::new(Arc::clone(self.inner()), options, source, filters, entries)
    }

    /// Calls `callback` with each message, in the thread that publishes it and before its publish
    /// returns, until the [`Callback`] is dropped.
    ///
    /// It delays the publisher, and the freeing of memory in all routers of the process, so it should
    /// be short; it may publish, subscribe and unsubscribe. A panic in it ends the publish and comes
    /// out of it, and others may then not have the message. With threads that publish at once it is
    /// called by them at once. What was retained is passed to it first, by this thread, unless it is
    /// published at the same time. Of the options, `capacity`, `overflow` and `key` mean nothing.
    ///
    /// # Errors
    /// Where and how `filter` is not one.
    pub fn subscribe_with(
        &self,
        filter: &str,
        options: SubscribeOptions<T>,
        callback: impl Fn(&Message<T>) + Send + Sync + 'static,
    ) -> Result<Callback<T>, TopicError> {
        let filter = Filter::parse(filter, self.inner().limits())?;
        let callback: inner::Callback<T> = Arc::new(callback);
        let entry = self.inner().enter_callback(&filter, Arc::clone(&callback), &options);
        // Made before anything is called, so that a panic unsubscribes.
        let subscription = Callback {
            hub: Arc::clone(self.inner()),
            entry: Some(entry),
        };
        if options.retained && filter.share_group().is_none() {
            let retained = self.inner().retained().matching(&filter, &[]);
            retained.iter().for_each(|message| callback(message));
        }
        Ok(subscription)
    }

    /// Closes the hub: publishing reaches nobody any more, and whoever receives gets what is queued
    /// and then [`RecvError::Closed`]. A message that is being published meanwhile may be lost.
    pub fn close(&self) {
        self.inner().close();
    }

    /// Whether the hub was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner().is_closed()
    }
}

impl<T: Send + Sync + 'static> Default for Hub<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync + 'static> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Hub {
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Hub<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("router", self.inner().router())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A subscription by callback: see [`Hub::subscribe_with`]. Dropping it unsubscribes; calls that
/// other threads have begun may still be under way then.
pub struct Callback<T: Send + Sync + 'static> {
    hub: Arc<Inner<T>>,
    entry: Option<Entry>,
}

impl<T: Send + Sync + 'static> Drop for Callback<T> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.hub.take_out(entry);
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Callback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").finish_non_exhaustive()
    }
}
