//! A response head is found where it ends, and only a good one is accepted.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::response(input));
