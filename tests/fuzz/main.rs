//! Properties that must hold for any bytes. Each check parses the fuzzer's input itself.
//!
//! This file is the root of two crates. As a test, `cargo test --test fuzz`, it runs every check
//! over the stored cases: those in `corpus/TARGET/` reach all code that the check can reach, and
//! those in `found/TARGET/` once failed. As the library of this folder's `Cargo.toml` it provides
//! the checks to the programs in `targets/`, which `tests/fuzz/run` runs with libFuzzer and
//! AddressSanitizer to find new cases.
//!
//! **The expected results never come from the library under test**, nor from its dependencies.

#![allow(dead_code, reason = "only a part of the load example is used")]
#![allow(missing_docs, reason = "each check is documented at the top of its file")]
#![allow(unreachable_pub, reason = "a test crate exports nothing")]

mod checks {
    pub(crate) mod close;
    pub(crate) mod frame;
    pub(crate) mod handshake;
    pub(crate) mod load;
    pub(crate) mod session;

    mod pieces;

    #[path = "../../support/codec.rs"]
    mod codec;
    #[path = "../../support/model.rs"]
    mod model;
}

#[path = "../../examples/load/frames.rs"]
mod frames;
#[path = "../../examples/load/problem.rs"]
mod problem;
#[path = "../../examples/load/upgrade.rs"]
mod upgrade;

pub use checks::close::close;
pub use checks::frame::frame;
pub use checks::handshake::handshake;
pub use checks::load::load;
pub use checks::session::session;

/// Runs `check` over every stored case of `target`. The last printed name is that of a failed case.
#[cfg(test)]
fn run_stored(target: &str, check: fn(&[u8])) {
    use std::fs;

    let mut cases = 0;
    for kind in ["corpus", "found"] {
        let folder = format!("{}/tests/fuzz/{kind}/{target}", env!("CARGO_MANIFEST_DIR"));
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("a folder can be listed").path();
            let input = fs::read(&path).expect("a stored case can be read");
            println!("{}", path.display());
            check(&input);
            cases += 1;
        }
    }
    assert!(cases >= 5, "only {cases} cases are stored for {target}");
}

#[test]
fn stored_cases_of_session() {
    run_stored("session", session);
}

#[test]
fn stored_cases_of_handshake() {
    run_stored("handshake", handshake);
}

#[test]
fn stored_cases_of_frame() {
    run_stored("frame", frame);
}

#[test]
fn stored_cases_of_close() {
    run_stored("close", close);
}

#[test]
fn stored_cases_of_load() {
    run_stored("load", load);
}
