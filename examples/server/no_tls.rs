//! `tls.rs` without the feature `tls`.

use std::path::Path;

use ws_reactor::{Address, ServerBuilder};

/// The certificate, which does not exist.
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn load(_: &Path, _: &Path) -> Result<Self, String> {
        Err("--tls-cert: this program was built without TLS; build it with --features tls".into())
    }

    pub(crate) fn reload(&self) -> Result<(), String> {
        match *self {}
    }

    pub(crate) fn bind(&self, _: ServerBuilder, _: Address) -> ServerBuilder {
        match *self {}
    }
}
