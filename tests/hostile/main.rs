//! Hostile clients over real sockets, against the server example. Each test attacks the server and
//! checks the bound that limits the attack. Meanwhile a well-behaved client must get all its
//! echoes, none later than [`WAIT_MAX`](support::canary::WAIT_MAX).
//!
//! The measurements are printed: `cargo test --test hostile -- --nocapture`, after
//! `cargo build --examples`.

#[path = "../support/mod.rs"]
mod support;
mod crowd;

mod handshakes;
mod silent;
mod slow_readers;
mod floods;
mod lengths;
mod endings;
mod descriptors;
mod panics;
