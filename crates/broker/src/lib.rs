//! What a client's command means: sessions, subscriptions, publishing; without I/O.
#![forbid(unsafe_code)]
