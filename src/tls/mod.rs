//! TLS as the program sees it: the configuration of a listener, and the properties of a connection.
//! `conn/tls.rs` has the connection's state.

#[cfg(feature = "tls")]
mod config;
#[cfg(feature = "tls")]
mod info;
#[cfg(not(feature = "tls"))]
mod absent;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::TlsConfig;
#[cfg(feature = "tls")]
pub use config::TlsConfig;
#[cfg(feature = "tls")]
pub use info::TlsInfo;
