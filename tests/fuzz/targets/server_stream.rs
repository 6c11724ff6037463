//! A client's octets, cut anyhow, are heard by a server as they are whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_websocket::fuzzing::server_stream(input));
