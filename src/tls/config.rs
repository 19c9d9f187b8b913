//! The configuration of the TLS of a listener, which the program can replace.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::{Error, ServerConfig, ServerConnection};

/// The only application protocol (RFC 7301) that a WebSocket handshake can follow here: RFC 6455
/// upgrades a connection of HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

/// The certificates and settings of TLS, for [`ServerBuilder::bind_tls`], [`listener_tls`] and
/// [`ServerHandle::adopt_tls`].
///
/// It is made of a [`rustls::ServerConfig`], whose cryptography provider the program chooses. Clones
/// share the configuration: [`replace`](Self::replace) changes it for all of them, for instance when a
/// certificate is renewed.
///
/// ```no_run
/// use ws_reactor::rustls::ServerConfig;
/// use ws_reactor::rustls::pki_types::pem::PemObject;
/// use ws_reactor::rustls::pki_types::{CertificateDer, PrivateKeyDer};
/// use ws_reactor::{Address, Echo, Server, TlsConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let chain = CertificateDer::pem_file_iter("chain.pem")?.collect::<Result<Vec<_>, _>>()?;
/// let key = PrivateKeyDer::from_pem_file("key.pem")?;
/// let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
/// let address: Address = "0.0.0.0:443".parse()?;
/// let server = Server::builder().bind_tls(address, TlsConfig::new(config)?).start(|_, _| Echo)?;
/// # Ok(server.join()?)
/// # }
/// ```
///
/// Two settings are changed. If the program lists no application protocols, `http/1.1` is the only
/// one. Early data (0-RTT) is off, because an attacker could repeat the requests in it (RFC 8446 8).
///
/// [`ServerBuilder::bind_tls`]: crate::ServerBuilder::bind_tls
/// [`listener_tls`]: crate::ServerBuilder::listener_tls
/// [`ServerHandle::adopt_tls`]: crate::ServerHandle::adopt_tls
#[derive(Clone)]
pub struct TlsConfig(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsConfig {
    /// Makes a configuration.
    ///
    /// # Errors
    ///
    /// The error of rustls if no connection can have this configuration, such as a wrong
    /// `max_fragment_size`.
    pub fn new(config: ServerConfig) -> Result<Self, Error> {
        Ok(Self(Arc::new(RwLock::new(prepare(config)?))))
    }

    /// Replaces the configuration. It holds for connections that are accepted from now on; the others
    /// keep theirs.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). The earlier configuration stays.
    pub fn replace(&self, config: ServerConfig) -> Result<(), Error> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = prepare(config)?;
        Ok(())
    }

    /// The configuration for a new connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn prepare(mut config: ServerConfig) -> Result<Arc<ServerConfig>, Error> {
    if config.alpn_protocols.is_empty() {
        config.alpn_protocols.push(ALPN.to_vec());
    }
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    let config = Arc::new(config);
    // An error must be found here, where the program gets it, and not by the first connection.
    ServerConnection::new(Arc::clone(&config))?;
    Ok(config)
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the contents, which include private keys.
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}
