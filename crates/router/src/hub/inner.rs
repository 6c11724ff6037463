//! What the handles of a hub have in common.

use std::sync::Arc;

use super::feed::{Feed, FeedKey, FeedReader, NoReader};
use super::mailbox::Mailbox;
use super::options::{HubOptions, Overflow, SubscribeOptions};
use super::retained::Retained;
use crate::group::registry::Registry;
use crate::group::{Group, Load, SharedOptions, Strategy, Tree};
use crate::lockfree::cells::sync::{AtomicBool, Ordering, fence};
use crate::lockfree::cells::{Handover, Message, Versioned};
use crate::router::{Route, Router, SubscriptionId};
use crate::topic::{Filter, Limits, Topic};

/// Is called with each message.
pub(super) type Callback<T> = Arc<dyn Fn(&Message<T>) + Send + Sync>;

/// Where a message goes that a filter matches.
pub(super) enum Target<T> {
    /// To all who read the feed, if its place is under this id.
    Feed {
        feed: Arc<Feed<T>>,
        id: u64,
    },
    Mailbox(Arc<Mailbox<T>>),
    Callback(Callback<T>),
}

/// What the router knows of a subscription.
pub(super) struct Sink<T> {
    target: Target<T>,
    /// The filters that the subscription had before: what they match, it gets from them.
    except: Option<Arc<[Filter]>>,
}

impl<T> Clone for Sink<T> {
    fn clone(&self) -> Self {
        let target = match &self.target {
            Target::Feed { feed, id } => Target::Feed {
                feed: Arc::clone(feed),
                id: *id,
            },
            Target::Mailbox(mailbox) => Target::Mailbox(Arc::clone(mailbox)),
            Target::Callback(callback) => Target::Callback(Arc::clone(callback)),
        };
        Sink {
            target,
            except: self.except.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> Sink<T> {
    /// Whether a message to `topic` comes this way.
    #[inline]
    pub(super) fn takes(&self, topic: Topic<'_>) -> bool {
        let earlier = self.except.as_deref().unwrap_or(&[]);
        let entered = match &self.target {
            Target::Feed { feed, id } => feed.place.entry() == *id,
            _ => true,
        };
        entered && !earlier.iter().any(|filter| filter.matches(topic))
    }

    /// Delivers, and says to how many subscriptions.
    #[inline]
    pub(super) fn deliver(&self, outgoing: &mut Outgoing<'_, T>) -> usize {
        match &self.target {
            Target::Feed { feed, .. } => feed.push(|| Handover::Lent(outgoing.message())),
            Target::Mailbox(mailbox) => usize::from(mailbox.push(outgoing.message())),
            Target::Callback(callback) => {
                callback(outgoing.message());
                1
            }
        }
    }

    /// As [`deliver`](Self::deliver), for the last sink of a message.
    #[inline]
    pub(super) fn deliver_last(&self, mut outgoing: Outgoing<'_, T>) -> usize {
        match &self.target {
            Target::Feed { feed, .. } => feed.push(|| Handover::Given(outgoing.into_message())),
            _ => self.deliver(&mut outgoing),
        }
    }
}

/// What is being published: no message until somebody wants it.
pub(super) struct Outgoing<'a, T> {
    topic: &'a str,
    value: Option<T>,
    message: Option<Message<T>>,
}

impl<'a, T> Outgoing<'a, T> {
    #[inline]
    pub(super) fn new(topic: &'a str, value: T) -> Self {
        Outgoing {
            topic,
            value: Some(value),
            message: None,
        }
    }

    fn made(topic: &'a str, message: Message<T>) -> Self {
        Outgoing {
            topic,
            value: None,
            message: Some(message),
        }
    }

    #[inline]
    fn into_message(mut self) -> Message<T> {
        self.message();
        self.message.expect("it was just made")
    }

    #[inline]
    fn message(&mut self) -> &Message<T> {
        let Outgoing { topic, value, message } = self;
        message.get_or_insert_with(|| {
            let value = value.take().expect("a value is there until it is a message");
            Message::new(topic, value)
        })
    }
}

/// Something of a subscription that is to be taken out when it ends.
pub(super) enum Entry {
    /// Of the router.
    Filter(Filter, SubscriptionId),
    /// Of the mailboxes.
    Mailbox(u64),
}

pub(super) struct Inner<T: Send + Sync + 'static> {
    router: Router<Sink<T>>,
    feeds: Registry<FeedKey, Arc<Feed<T>>>,
    /// All mailboxes, to wake those who wait when the hub closes.
    mailboxes: Versioned<Tree<Arc<Mailbox<T>>>>,
    retained: Retained<T>,
    limits: Limits,
    closed: AtomicBool,
}

impl<T: Send + Sync + 'static> Inner<T> {
    pub(super) fn new(options: &HubOptions) -> Self {
        Inner {
            router: Router::with_strategy(options.strategy),
            feeds: Registry::new(),
            mailboxes: Versioned::new(Tree::EMPTY),
            retained: Retained::new(options.retained_topics, options.limits),
            limits: options.limits,
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn retained(&self) -> &Retained<T> {
        &self.retained
    }

    pub(super) fn router(&self) -> &Router<Sink<T>> {
        &self.router
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Whoever is not found below subscribed later than this, and sees that it is closed when it
        // looks once more before it waits.
        fence(Ordering::SeqCst);
        self.feeds.for_each(|feed| feed.wake());
        let mailboxes = self.mailboxes.read(Tree::clone);
        mailboxes.for_each(&mut |mailbox| mailbox.signal.notify());
    }

    /// Delivers to all who want it, and says how many they are.
    pub(super) fn publish(&self, topic: Topic<'_>, value: T) -> usize {
        self.deliver(topic, Outgoing::new(topic.as_str(), value))
    }

    pub(super) fn publish_message(&self, topic: Topic<'_>, message: Message<T>) -> usize {
        self.deliver(topic, Outgoing::made(topic.as_str(), message))
    }

    fn deliver(&self, topic: Topic<'_>, mut outgoing: Outgoing<'_, T>) -> usize {
        if self.is_closed() {
            return 0;
        }
        let mut reached = 0;
        self.router.for_each_route(topic, |route| {
            reached += match route {
                Route::One(sink) if sink.takes(topic) => sink.deliver(&mut outgoing),
                Route::One(_) => 0,
                Route::Group(group) => self.deliver_to_one(group, topic, &mut outgoing),
            };
        });
        reached
    }

    pub(super) fn deliver_to_one(
        &self,
        group: &Group<Sink<T>>,
        topic: Topic<'_>,
        outgoing: &mut Outgoing<'_, T>,
    ) -> usize {
        let key = match group.strategy() {
            Strategy::Sticky => self.router.sticky_key(topic),
            _ => 0,
        };
        // A member that has the message from an earlier filter takes this one as had.
        let deliver = |sink: &Sink<T>| if sink.takes(topic) { sink.deliver(outgoing) } else { 0 };
        group.pick_with(key, deliver).unwrap_or(0)
    }

    /// A mailbox that is woken when the hub closes.
    pub(super) fn mailbox(&self, options: &SubscribeOptions<T>, shared: bool) -> (Arc<Mailbox<T>>, Entry) {
        // Where the caller has a load of its own, it counts.
        let depth = (shared && options.load.is_none()).then(Load::new);
        let mailbox = Arc::new(Mailbox::new(
            options.overflow,
            options.capacity,
            options.key.clone(),
            depth,
        ));
        // Spread, as the tree likes its keys; the factor being odd, it stays unique.
        let key = self.router.new_id().get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.mailboxes
            .update(|mailboxes| Ok((mailboxes.with(key, Arc::clone(&mailbox)), ())));
        (mailbox, Entry::Mailbox(key))
    }

    /// Lets what `filter` matches, and none of `earlier` does, go to `mailbox`.
    pub(super) fn enter(
        &self,
        filter: &Filter,
        mailbox: &Arc<Mailbox<T>>,
        earlier: &[Filter],
        options: &SubscribeOptions<T>,
    ) -> Entry {
        let load = options.load.clone().or_else(|| mailbox.depth().cloned());
        let sink = Sink {
            target: Target::Mailbox(Arc::clone(mailbox)),
            except: (!earlier.is_empty()).then(|| earlier.into()),
        };
        self.subscribe(filter, sink, options.strategy, load)
    }

    pub(super) fn enter_callback(
        &self,
        filter: &Filter,
        callback: Callback<T>,
        options: &SubscribeOptions<T>,
    ) -> Entry {
        let sink = Sink {
            target: Target::Callback(callback),
            except: None,
        };
        self.subscribe(filter, sink, options.strategy, options.load.clone())
    }

    fn subscribe(&self, filter: &Filter, sink: Sink<T>, strategy: Option<Strategy>, load: Option<Load>) -> Entry {
        let mut shared = SharedOptions::new().load(load.unwrap_or_default());
        shared.strategy = strategy;
        Entry::Filter(filter.clone(), self.router.subscribe_shared(filter, sink, &shared))
    }

    pub(super) fn take_out(&self, entry: Entry) {
        match entry {
            Entry::Filter(filter, id) => {
                self.router.unsubscribe(&filter, id);
            }
            Entry::Mailbox(key) => self.mailboxes.update(|mailboxes| Ok((mailboxes.without(key), ()))),
        }
    }

    /// Reads the feed of `filter`; `None` if it has too many readers, or none can be for it.
    pub(super) fn read_feed(&self, filter: &Filter, options: &SubscribeOptions<T>) -> Option<FeedReader<T>> {
        if options.overflow != Overflow::DropOld || filter.share_group().is_some() {
            return None;
        }
        let slots = options.capacity.next_power_of_two();
        let filter = filter.clone();
        let key = FeedKey { filter, slots };
        let reader = loop {
            let feed = self.feeds.get_or_insert_with(&key, || Arc::new(Feed::new(slots)));
            match feed.join(options.capacity) {
                Ok(reader) => break reader,
                Err(NoReader::Full) => return None,
                // Whoever ended it is about to take it out; not to wait for that, do it.
                Err(NoReader::Ended) => self.feeds.remove(&key, |other| Arc::ptr_eq(other, &feed)),
            }
        };
        // From here on the feed does not end, for this reads it; but it may be that nobody has
        // entered it yet, or that the generation does not count it yet.
        let feed = reader.feed();
        if feed.place.entry() == 0 {
            let id = self.router.new_id();
            let target = Target::Feed {
                feed: Arc::clone(feed),
                id: id.get(),
            };
            let sink = Sink { target, except: None };
            self.router
                .subscribe_as(id, &key.filter, sink, &SharedOptions::default());
            if !feed.place.choose(id.get()) {
                self.router.unsubscribe(&key.filter, id);
            }
        }
        if !feed.place.is_announced() {
            self.router.raise_generation();
            feed.place.set_announced();
        }
        Some(reader)
    }

    /// Takes out a feed whose last reader has left.
    pub(super) fn end_feed(&self, filter: &Filter, feed: &Arc<Feed<T>>) {
        let key = FeedKey {
            filter: filter.clone(),
            slots: feed.slots(),
        };
        self.feeds.remove(&key, |other| Arc::ptr_eq(other, feed));
        // Every reader saw to it that there is an entry before it could leave.
        let id = SubscriptionId::from_number(feed.place.entry());
        self.router.unsubscribe(&key.filter, id);
    }
}
