//! Searches for inputs that fail `checks/session.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_reactor_fuzz::session(input));
