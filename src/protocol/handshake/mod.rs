//! The opening handshake (RFC 6455 4): request bytes in, the 101 or another response out.

pub(super) mod head;
pub(super) mod request;
pub(super) mod response;
pub(super) mod request_line;
pub(super) mod headers;
pub(super) mod error;
