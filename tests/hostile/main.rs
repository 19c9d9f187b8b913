//! Hostile clients over real sockets, against the server example: each attack, and the bound that
//! it finds. All the while a client that behaves gets its echoes, and waits for none above
//! [`WAIT_MAX`](support::witness::WAIT_MAX).
//!
//! What was measured is printed: `cargo test --test hostile -- --nocapture`, after
//! `cargo build --examples`.

#[path = "../support/mod.rs"]
mod support;
mod crowd;

mod handshakes;
mod silent;
mod deaf;
mod floods;
mod lengths;
mod endings;
mod descriptors;
mod panics;
