//! No bytes are a token, and one that is signed right grants what it says.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidecast_auth::fuzzing::jwt(input));
