//! What a worker counts, readable by other threads.

use std::iter::Sum;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::Histogram;

/// Numbers that belong together: one, or one for each value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, in words joined by underscores.
    pub name: &'static str,
    /// What is counted.
    pub help: &'static str,
    /// Whether its numbers fall as well as rise.
    pub is_gauge: bool,
    /// What tells its numbers apart, if there are several.
    pub label: Option<&'static str>,
}

/// One number of a [`Family`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// What it belongs to.
    pub family: Family,
    /// Its name in [`Totals`].
    pub name: &'static str,
    /// The value of the family's label; empty, if that has none.
    pub value: &'static str,
    /// What is counted here, if the family has a label; else empty.
    pub help: &'static str,
}

macro_rules! counters {
    (@is_gauge gauge) => { true };
    (@is_gauge counter) => { false };
    (@label) => { None };
    (@label $label:ident) => { Some(stringify!($label)) };
    ($(
        #[doc = $help:literal]
        $kind:ident $family:ident $(by $label:ident)? {
            $($(#[doc = $doc:literal])? $name:ident $(= $value:literal)?,)+
        }
    )+) => {
        #[expect(non_upper_case_globals, reason = "named as they are written in the table")]
        mod families {
            use super::Family;

            $(pub(super) const $family: Family = Family {
                name: stringify!($family),
                help: $help.trim_ascii(),
                is_gauge: counters!(@is_gauge $kind),
                label: counters!(@label $($label)?),
            };)+
        }

        /// Counters of one worker. It alone writes them; anybody may read.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $help] $(#[doc = ""] #[doc = $doc])? pub $name: Counter,)+)+
            /// From when a message was received until it was handed to the kernel for its subscribers here, for each message that
            /// had any and was not held up by a subscriber that does not read.
            pub delivery: Histogram,
            /// Turns of the loop: what came meanwhile has waited for so long.
            pub turn: Histogram,
            /// Flushes: what it took to hand what was to be sent to the kernel.
            pub flush: Histogram,
        }

        /// Values of [`Counters`] at one moment, or summed over workers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[doc = $help] $(#[doc = ""] #[doc = $doc])? pub $name: u64,)+)+
        }

        impl Counters {
            /// The present values.
            pub fn totals(&self) -> Totals {
                Totals {
                    $($($name: self.$name.get(),)+)+
                }
            }
        }

        impl Sum for Totals {
            fn sum<I: Iterator<Item = Totals>>(all: I) -> Totals {
                all.fold(Totals::default(), |sum, more| Totals {
                    $($($name: sum.$name + more.$name,)+)+
                })
            }
        }

        impl Totals {
            /// What there is, in the order of definition: those of a family one after the other.
            pub const SERIES: &[Series] = &[$($(
                Series {
                    family: families::$family,
                    name: stringify!($name),
                    value: concat!("" $(, $value)?),
                    help: concat!("" $(, $doc)?).trim_ascii(),
                },
            )+)+];

            /// The values, in the order of [`Totals::SERIES`].
            pub fn values(&self) -> impl Iterator<Item = (&'static Series, u64)> {
                Totals::SERIES.iter().zip([$($(self.$name),+),+])
            }
        }
    };
}

counters! {
    /// Connections that were accepted.
    counter connections_accepted { accepted, }
    /// Connections that are open.
    gauge connections { connections, }
    /// WebSockets that were opened.
    counter websockets_opened { opened, }
    /// Connections and requests that were refused because of a limit.
    counter connections_refused by reason {
        /// There were as many as there may be.
        refused_full = "full",
        /// Their address had as many as it may have.
        refused_address = "address",
        /// Their address opened them too fast.
        refused_rate = "rate",
        /// They came by a listener for proxies and did not come from one.
        refused_proxy = "proxy",
        /// Their identity had as many connections as it may have.
        refused_identity = "identity",
        /// Memory was short.
        refused_memory = "memory",
    }
    /// Streams of server-sent events that are open.
    gauge event_streams { event_streams, }
    /// HTTP requests that were served.
    counter requests by kind {
        /// With the page, or with a head alone.
        pages = "page",
        /// What they brought was published.
        posts = "publish",
        /// With a stream of server-sent events.
        events_opened = "events",
        /// With what may be requested.
        options = "options",
    }
    /// Requests that led to nothing.
    counter handshakes_failed by cause {
        /// Not HTTP, not found, a handshake that breaks the rules, a head too large.
        requests_refused = "request",
        /// The page that they came from may not connect.
        origins_refused = "origin",
        /// Credentials were missing or bad, or do not permit it.
        denied = "credentials",
        /// The request did not arrive in time.
        requests_timed_out = "timeout",
        /// TLS failed, in the handshake or after it.
        tls_failed = "tls",
        /// Plain HTTP was spoken to a port with TLS.
        plain_on_tls = "plain_on_tls",
        /// TLS was spoken to a port without it.
        tls_on_plain = "tls_on_plain",
    }
    /// TLS handshakes that were finished.
    counter tls_handshakes by kind {
        /// With a certificate.
        tls_full = "full",
        /// An earlier session was resumed.
        tls_resumed = "resumed",
    }
    /// WebSockets and streams of events that ended, by what ended them.
    counter sessions_closed by cause {
        /// The client sent a Close.
        left = "client",
        /// The client closed the connection without a Close, which is how a stream of events is left.
        gone = "gone",
        /// The connection broke: it was reset.
        broken = "broken",
        /// What was sent was not taken, or not acknowledged, in time.
        unacknowledged = "unacknowledged",
        /// The client broke the WebSocket protocol, and was told so.
        protocol_errors = "protocol",
        /// A raw client said what cannot be done, and has no other way to be told.
        bad_requests = "bad_request",
        /// The client was not permitted what it did, or is not any more.
        forbidden = "forbidden",
        /// Credentials were over, or never came.
        expired = "expired",
        /// Settings took away what the client's rights rested on.
        withdrawn = "withdrawn",
        /// The client went on saying more than it may.
        flooders = "rate_limited",
        /// The subscriber did not read.
        slow_consumers = "slow_consumer",
        /// There was no memory for what the client said, or did not read.
        overloaded = "memory",
        /// The client did not answer a ping, or the closing handshake, in time.
        silent = "silent",
        /// The client sent nothing for too long.
        idle = "idle",
        /// The client began a message and did not go on with it in time.
        messages_timed_out = "message_timeout",
        /// The connection was as old as it may be.
        aged = "aged",
        /// An operator closed it.
        kicked = "operator",
        /// The broker stopped.
        stopped = "stop",
    }
    /// Questions to the hook.
    counter hook_questions { asked, }
    /// Questions to the hook that it did not answer, or not in time.
    counter hook_unanswered { unanswered, }
    /// Messages that were published.
    counter messages_published { published, }
    /// Messages that were taken over from other workers.
    counter messages_forwarded { forwarded, }
    /// Messages that were delivered, each once for every subscriber.
    counter messages_delivered { delivered, }
    /// Deliveries that did not happen.
    counter messages_dropped by reason {
        /// Slow policies dropped them.
        dropped = "slow",
        /// They were for a group whose chosen member had gone, when nobody else of it could be reached.
        undelivered = "group",
    }
    /// Commands answered with an error, and raw messages that closed their connection.
    counter commands_refused { commands_refused, }
    /// Commands among them that were refused because their connection said more than it may.
    counter commands_rate_limited { rate_limited, }
    /// Subscriptions that there are.
    gauge subscriptions { subscriptions, }
    /// Bytes that were received.
    counter received_bytes { bytes_in, }
    /// Bytes that were sent.
    counter sent_bytes { bytes_out, }
    /// Sends: pieces that were handed to the kernel.
    counter sends { sends, }
    /// Sends that the kernel did not take whole, because the client had not read enough.
    counter sends_blocked { blocked, }
    /// Bytes of messages before they were compressed.
    counter compression_input_bytes { deflated_from, }
    /// What these came to.
    counter compression_output_bytes { deflated_to, }
    /// Bytes that wait to be sent, each once, however many wait for it.
    gauge queued_bytes { queued, }
    /// Bytes that clients have sent of what is not complete.
    gauge incomplete_bytes { incomplete, }
    /// Times a publisher had to wait for another worker's mailbox.
    counter publishers_paused { publishers_paused, }
    /// Turns of the loop.
    counter turns { turns, }
    /// Nanoseconds that the loop was not asleep.
    counter busy_nanos { busy, }
}

/// A number that one thread counts and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The present value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds `count`. Only the owning worker calls this, so a plain load and store do.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Subtracts `count`, which was added before.
    pub(crate) fn subtract(&self, count: u64) {
        self.set(self.get() - count);
    }

    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn numbers_of_a_family_have_a_value_each_if_and_only_if_it_has_a_label() {
        let mut values: HashMap<&str, Vec<&str>> = HashMap::new();
        for series in Totals::SERIES {
            let Series {
                family, value, help, ..
            } = series;
            assert!(!family.help.is_empty() && family.help.ends_with('.'), "{family:?}");
            assert_eq!(family.label.is_some(), !value.is_empty(), "{series:?}");
            assert_eq!(value.is_empty(), help.is_empty(), "{series:?}");
            let others = values.entry(family.name).or_default();
            assert!(!others.contains(value), "{series:?}");
            others.push(value);
        }
    }

    #[test]
    fn totals_are_sums_over_workers() {
        let workers = [Counters::default(), Counters::default()];
        workers[0].accepted.add(3);
        workers[1].accepted.add(4);
        workers[1].connections.add(2);
        workers[1].connections.subtract(1);
        let totals: Totals = workers.iter().map(Counters::totals).sum();
        let found: Vec<_> = totals.values().filter(|(_, value)| *value > 0).collect();
        assert_eq!(
            found
                .iter()
                .map(|(series, value)| (series.name, *value))
                .collect::<Vec<_>>(),
            [("accepted", 7), ("connections", 1)]
        );
    }
}
