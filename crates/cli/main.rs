//! The `tidecast` binary.
#![forbid(unsafe_code)]

fn main() {}
