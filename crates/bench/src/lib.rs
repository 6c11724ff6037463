//! Load generator for WebSocket publish/subscribe brokers.
#![forbid(unsafe_code)]
