//! The header of the PROXY protocol, before everything else on a connection.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::throttle::Throttles;
use super::tick::Tick;
use crate::connection_info::{Address, Origin};
use crate::protocol::proxy::{ProxyError, ProxyReader, ProxySource};
use crate::tls::TlsConfig;

/// A connection whose PROXY header is incomplete.
#[derive(Debug)]
pub(super) struct Preface {
    /// The address of the socket, which is that of the proxy.
    proxy: Address,
    /// The layer behind the header.
    tls: Option<TlsConfig>,
    reader: ProxyReader,
}

impl Preface {
    pub(super) fn new(origin: Origin) -> Self {
        Self { proxy: origin.address, tls: origin.tls, reader: ProxyReader::default() }
    }

    /// The TLS that begins behind the header.
    pub(super) const fn take_tls(&mut self) -> Option<TlsConfig> {
        self.tls.take()
    }

    pub(super) const fn proxy(&self) -> &Address {
        &self.proxy
    }

    /// Takes the bytes of a read. Once the header is complete, returns the peer's address and the
    /// number of bytes up to the end of the header.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<Option<(Address, usize)>, ProxyError> {
        let Some((source, consumed)) = self.reader.read(input)? else { return Ok(None) };
        let peer = match source {
            ProxySource::Own => self.proxy.clone(),
            ProxySource::Tcp(address) => address.into(),
            ProxySource::Unix(name) => unix_address(name),
        };
        Ok(Some((peer, consumed)))
    }

    /// Tells the operator that a connection ends, since only a wrong setting of the server or of its
    /// proxy explains it.
    pub(super) fn warn(&self, error: ProxyError, throttles: &Throttles, now: Tick) {
        if let Some(suppressed) = throttles.prefaces.admit(now) {
            log::warn!("the connection of {} is dropped: {error}{suppressed}", self.proxy);
        }
    }
}

/// The address of a name as unix(7) stores it.
fn unix_address(mut name: Vec<u8>) -> Address {
    match name.first() {
        None => Address::UnixUnnamed,
        Some(0) => Address::UnixAbstract(name.split_off(1)),
        Some(_) => Address::Unix(OsString::from_vec(name).into()),
    }
}
