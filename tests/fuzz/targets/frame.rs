//! Searches for inputs that fail `checks/frame.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_reactor_fuzz::frame(input));
