//! `tls.rs` without the feature `tls`. [`Tls`] has no value, so that the compiler removes all code
//! about it.

#![allow(clippy::needless_pass_by_ref_mut, reason = "as in `tls.rs`")]

use std::fmt;
use std::io::{self, IoSlice};

use super::transport::{ReadResult, Transport};
use crate::handler::CloseCause;
use crate::tls::TlsConfig;

/// The state of TLS, which does not exist.
#[derive(Debug)]
pub(super) enum Tls {}

/// Why the TLS of a connection has ended.
#[derive(Debug)]
pub(super) enum TlsFailure {}

impl TlsFailure {
    pub(super) const fn is_of_plain_peer(&self) -> bool {
        match *self {}
    }

    pub(super) const fn cause(&self) -> CloseCause {
        match *self {}
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl Tls {
    pub(super) const fn new(config: &TlsConfig, _: &[u8]) -> Box<Self> {
        match *config {}
    }

    pub(super) const fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(super) const fn unsent_bytes(&self) -> usize {
        match *self {}
    }

    pub(super) fn read<T: Transport>(
        &mut self,
        _: &mut T,
        _: &mut [u8],
    ) -> io::Result<Result<ReadResult, TlsFailure>> {
        match *self {}
    }

    pub(super) fn write<T: Transport>(
        &mut self,
        _: &mut T,
        _: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn send_unsent<T: Transport>(&mut self, _: &mut T) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn close<T: Transport>(&mut self, _: &mut T) -> io::Result<bool> {
        match *self {}
    }
}
