//! Searches for inputs that fail `checks/handshake.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_reactor_fuzz::handshake(input));
