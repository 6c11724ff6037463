//! Requests with bodies, one after the other, are read as the same however the stream is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::requests(input));
