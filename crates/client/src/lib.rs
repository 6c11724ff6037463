//! Rust client for tidecast.
#![forbid(unsafe_code)]
