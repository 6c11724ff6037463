//! What is read as packets is written and read again as the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_wire::fuzzing::packets(input));
