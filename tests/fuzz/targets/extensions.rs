//! A list of extensions is malformed or answered, with what a client that offered it accepts.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::extensions(input));
