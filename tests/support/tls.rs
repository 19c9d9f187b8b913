//! Certificates and clients for the tests of TLS.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

use std::io::Read;
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use ws_reactor::TlsConfig;

/// The name in the certificate.
pub const NAME: &str = "ws.example";

/// A certificate that signs itself, and its key.
pub struct Identity(CertifiedKey<KeyPair>);

impl Identity {
    pub fn new() -> Self {
        let certified =
            rcgen::generate_simple_self_signed([NAME.to_owned(), "127.0.0.1".to_owned()]);
        Self(certified.expect("a key can be made"))
    }

    pub fn certificate_pem(&self) -> String {
        self.0.cert.pem()
    }

    pub fn key_pem(&self) -> String {
        self.0.signing_key.serialize_pem()
    }

    /// A server's settings with this certificate.
    pub fn server_config(&self) -> ServerConfig {
        let key = PrivateKeyDer::Pkcs8(self.0.signing_key.serialize_der().into());
        ServerConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(&[&TLS12, &TLS13])
            .expect("the provider has both versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.0.cert.der().clone()], key)
            .expect("the key is that of the certificate")
    }

    pub fn tls_config(&self) -> TlsConfig {
        TlsConfig::new(self.server_config()).expect("the settings are valid")
    }

    /// A client's settings, which trust this certificate only.
    pub fn client_config(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.cert.der().clone()).expect("a valid certificate");
        let mut config = ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(&[version])
            .expect("the provider has the version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// A client before its handshake.
    pub fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConnection {
        let name = ServerName::try_from(NAME).expect("a valid name");
        ClientConnection::new(self.client_config(version), name).expect("the settings are valid")
    }
}

/// The ciphertext that a client wants to send.
pub fn take_ciphertext(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("memory takes everything");
    }
    bytes
}

/// Gives a client ciphertext of the server. Returns the plaintext.
pub fn decrypt(
    client: &mut ClientConnection,
    mut ciphertext: &[u8],
) -> Result<Vec<u8>, rustls::Error> {
    let mut plaintext = Vec::new();
    while !ciphertext.is_empty() {
        client.read_tls(&mut ciphertext).expect("the client takes it");
        let state = client.process_new_packets()?;
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut part).expect("so many bytes are there");
        plaintext.extend_from_slice(&part);
    }
    Ok(plaintext)
}
