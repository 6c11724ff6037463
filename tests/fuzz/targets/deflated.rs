//! What is deflated for many is heard as it was, with either extension, whoever heard something before.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::deflated(input));
