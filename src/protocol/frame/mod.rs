//! Frames (RFC 6455 5): headers, opcodes, the mask, the payload of a close frame.

pub(super) mod close;
pub(super) mod header;
pub(super) mod opcode;
pub(super) mod mask;
