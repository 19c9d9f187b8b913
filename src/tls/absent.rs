//! The types without the feature `tls`. They have no values, so that the compiler removes all code
//! about them.

/// The configuration of TLS, which does not exist.
#[derive(Clone, Debug)]
pub enum TlsConfig {}
