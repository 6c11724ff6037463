//! A server's octets, cut anyhow, are heard by a client as they are whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::client_stream(input));
