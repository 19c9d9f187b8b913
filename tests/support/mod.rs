//! Code that the test binaries share: a builder of frames, tables of inputs with the replies of a
//! strict server, a model, a fake kernel, clients.
//!
//! **The expected results never come from the library under test.** The tables are the
//! specification in bytes. A helper that used the library's encoder would agree with its mistakes.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

pub mod cases;
pub mod frames;
pub mod codec;
pub mod model;
pub mod requests;
pub mod client;
pub mod programs;
pub mod messages;
pub mod rng;
pub mod servers;
pub mod unix;
pub mod server_process;
pub mod canary;
