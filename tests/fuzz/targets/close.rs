//! Searches for inputs that fail `checks/close.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_reactor_fuzz::close(input));
