//! A request head is found where it ends, and every one is answered.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::request(input));
