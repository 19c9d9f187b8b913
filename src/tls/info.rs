//! The properties of a TLS connection.

use std::fmt;

use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;

/// The result of the TLS handshake of a connection: see
/// [`ConnectionInfo::tls`](crate::ConnectionInfo::tls).
#[derive(Clone, Copy)]
pub struct TlsInfo<'c>(&'c ServerConnection);

impl<'c> TlsInfo<'c> {
    pub(crate) const fn new(connection: &'c ServerConnection) -> Self {
        Self(connection)
    }

    /// The version of the protocol: TLS 1.2 or 1.3.
    #[must_use]
    pub fn version(&self) -> Option<rustls::ProtocolVersion> {
        self.0.protocol_version()
    }

    /// The name of the server that the client asked for (SNI, RFC 6066 3), in lower case. A client may
    /// leave it out, and does if it connects to an IP address.
    #[must_use]
    pub fn server_name(&self) -> Option<&'c str> {
        self.0.server_name()
    }

    /// The application protocol that both sides chose (ALPN, RFC 7301), if the client offered any.
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&'c [u8]> {
        self.0.alpn_protocol()
    }

    /// The certificates of the client, its own first, if the configuration asks clients for them. The
    /// verifier of the configuration has accepted them.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&'c [CertificateDer<'static>]> {
        self.0.peer_certificates()
    }
}

impl fmt::Debug for TlsInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version())
            .field("server_name", &self.server_name())
            .finish_non_exhaustive()
    }
}
