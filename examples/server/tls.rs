//! The certificate of `--tls-cert`, and its renewal at SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ProducesTickets;
use ws_reactor::{Address, ServerBuilder, TlsConfig};

/// The files of a certificate and its key, and the configuration made of them.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// It stays when the certificate changes, so that clients can resume their sessions.
    tickets: Arc<dyn ProducesTickets>,
    config: TlsConfig,
}

impl Tls {
    /// Reads the files. The error names the file and the problem.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, String> {
        let tickets = Ticketer::new().map_err(|error| format!("no keys for tickets: {error}"))?;
        let config = read(certificate, key, &tickets)?;
        let config = TlsConfig::new(config).map_err(|error| error.to_string())?;
        Ok(Self { certificate: certificate.into(), key: key.into(), tickets, config })
    }

    /// Reads the files again, for new connections. After an error the earlier ones stay in use.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let config = read(&self.certificate, &self.key, &self.tickets)?;
        self.config.replace(config).map_err(|error| error.to_string())
    }

    /// Listens on an address with TLS.
    pub(crate) fn bind(&self, builder: ServerBuilder, address: Address) -> ServerBuilder {
        builder.bind_tls(address, self.config.clone())
    }
}

fn read(
    certificate: &Path,
    key: &Path,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, String> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("--tls-cert {}: {error}", certificate.display()))?;
    if chain.is_empty() {
        return Err(format!("--tls-cert {}: no certificate in PEM", certificate.display()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("--tls-key {}: {error}", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("--tls-cert {certificate} with --tls-key {key}: {error}")
        })?;
    config.ticketer = Arc::clone(tickets);
    Ok(config)
}
