//! permessage-deflate (RFC 7692): compressed messages.
//!
//! An offer in the client's request is negotiated ([`offer`]). After that a message may be
//! compressed, which RSV1 of its first frame shows. A worker has one [`codec`](codec::Codec), which
//! it lends to each session with its workspace, so a connection needs no memory for compression.

pub(super) mod codec;
pub(super) mod offer;
pub(super) mod parameters;
