//! A PROXY header is found where it ends, and what is none is refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_worker::fuzzing::proxy(input));
