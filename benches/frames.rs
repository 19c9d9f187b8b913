//! Client frames for the benches.

use ws_reactor::protocol::{MaskKey, unmask};

pub(crate) const KEY: MaskKey = MaskKey([0x37, 0xFA, 0x21, 0x3D]);

/// `len` bytes of `pattern`, repeated.
pub(crate) fn text(pattern: &str, len: usize) -> Vec<u8> {
    pattern.bytes().cycle().take(len).collect()
}

/// A masked frame with FIN.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(KEY.0);
    let start = frame.len();
    frame.extend(payload);
    unmask(&mut frame[start..], KEY);
    frame
}
