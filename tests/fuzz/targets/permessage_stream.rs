//! A server hears the same in any stream with compressed messages, however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::permessage_stream(input));
