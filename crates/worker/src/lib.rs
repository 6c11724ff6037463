//! One thread, one ring: connections, fan-out and delivery.
#![forbid(unsafe_code)]

mod outbox;
