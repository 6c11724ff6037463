//! What a worker counts, readable by other threads.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of one worker. It alone writes them; anybody may read.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
        }

        /// Values of [`Counters`] at one moment, or summed over workers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Adds the present values to `totals`.
            pub fn add_to(&self, totals: &mut Totals) {
                $(totals.$name += self.$name.get();)+
            }
        }

        impl Totals {
            /// Names and values, in the order of definition.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections open at present.
    connections,
    /// Connections refused because there were as many as there may be.
    refused_full,
    /// Connections refused because their address had as many as it may have.
    refused_address,
    /// Connections refused because their address opened them too fast.
    refused_rate,
    /// Connections refused because they came by a listener for proxies and did not come from one.
    refused_proxy,
    /// Requests refused because their identity had as many connections as it may have.
    refused_identity,
    /// Connections and requests refused because memory was short.
    refused_memory,
    /// WebSockets opened.
    opened,
    /// HTTP requests answered with a page.
    pages,
    /// Requests refused: not HTTP, not found, a handshake that breaks the rules, a head too large.
    requests_refused,
    /// Handshakes refused because of the page that they came from.
    origins_refused,
    /// Handshakes refused because of missing or bad credentials, or what these do not permit.
    denied,
    /// Connections closed because their credentials were over, or never came.
    expired,
    /// Questions to the hook.
    asked,
    /// Those that it did not answer, or not in time.
    unanswered,
    /// Requests that did not arrive in time.
    requests_timed_out,
    /// TLS handshakes that were finished.
    tls_handshakes,
    /// Those among them that resumed an earlier session.
    tls_resumed,
    /// Connections whose TLS failed, in the handshake or after it.
    tls_failed,
    /// Connections that spoke plain HTTP to a port with TLS.
    plain_on_tls,
    /// Connections that spoke TLS to a port without it.
    tls_on_plain,
    /// Connections that broke the WebSocket protocol and were told so.
    protocol_errors,
    /// Commands answered with `err`, and raw messages that closed their connection.
    commands_refused,
    /// Commands refused because their connection said more than it may.
    rate_limited,
    /// Connections closed because they went on with that.
    flooders,
    /// Subscribers closed because they did not read.
    slow_consumers,
    /// Connections closed because there was no memory for what they said, or did not read.
    overloaded,
    /// Connections that did not answer a ping, or not the closing handshake, in time.
    silent,
    /// Connections closed because they sent nothing for too long.
    idle,
    /// Connections closed because they were open for as long as they may be.
    aged,
    /// Messages published.
    published,
    /// Messages taken over from other workers.
    forwarded,
    /// Messages for a group whose chosen member had gone, when nobody else of it could be reached.
    undelivered,
    /// Deliveries that slow policies dropped.
    dropped,
    /// Messages delivered, counted once per subscriber.
    delivered,
    /// Subscriptions at present.
    subscriptions,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
    /// Sends.
    sends,
    /// Turns of the loop.
    turns,
    /// Times a publisher had to wait for another worker's mailbox.
    publishers_paused,
}

/// A number that one thread counts and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds `count`. Only the owning worker calls this, so a plain load and store do.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get() + count);
    }

    /// Subtracts `count`, which was added before.
    pub(crate) fn subtract(&self, count: u64) {
        self.set(self.get() - count);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}
