//! Reads the acknowledged bytes of a socket from the option TCP_INFO (tcp(7)).

use std::io;

use mio::net::TcpStream;
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};

use crate::conn::transport::SendProgress;

/// The start of `struct tcp_info` (linux/tcp.h), up to the last counter that is used. Linux 4.19
/// and later return all of it. An older kernel returns fewer bytes, which makes nix panic.
#[derive(Clone, Copy, Debug)]
#[expect(unreachable_pub, reason = "the macro's own type is public, and names this one")]
#[repr(C)]
pub struct TcpInfo {
    _state_to_mss: [u32; 6],
    unacked_segments: u32,
    _sacked_to_pacing: [u32; 23],
    bytes_acked: u64,
    _bytes_received: u64,
    _segments: [u32; 2],
    notsent_bytes: u32,
    _min_rtt_and_data_segments: [u32; 3],
    _delivery_rate_to_delivered: [u64; 5],
    bytes_sent: u64,
    bytes_retrans: u64,
}

const _: () = assert!(std::mem::offset_of!(TcpInfo, unacked_segments) == 24);
const _: () = assert!(std::mem::offset_of!(TcpInfo, bytes_acked) == 120);
const _: () = assert!(std::mem::offset_of!(TcpInfo, notsent_bytes) == 144);
const _: () = assert!(std::mem::offset_of!(TcpInfo, bytes_sent) == 200);

sockopt_impl!(
    /// Reads [`TcpInfo`].
    ReadTcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    TcpInfo
);

/// Returns the number of bytes written to `stream`, and of those that the peer's TCP has
/// acknowledged.
pub(super) fn send_progress(stream: &TcpStream) -> io::Result<SendProgress> {
    let info = getsockopt(stream, ReadTcpInfo)?;
    let acknowledged = info.bytes_acked;
    // `bytes_sent` includes retransmissions, and `bytes_retrans` omits those of segments that this
    // host itself dropped (a full queue, a firewall). So the difference may be too high.
    let sent = info.bytes_sent.saturating_sub(info.bytes_retrans);
    let written = match (info.unacked_segments, info.notsent_bytes) {
        (0, 0) => acknowledged,
        (_, unsent) => acknowledged.max(sent + u64::from(unsent)),
    };
    Ok(SendProgress { written, acknowledged })
}
