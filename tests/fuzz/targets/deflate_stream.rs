//! A server hears the same in any deflated stream, however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::deflate_stream(input));
