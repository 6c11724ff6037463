//! Any file is read, or refused with what is wrong; what was read is written so that it is read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_server::fuzzing::config(input));
