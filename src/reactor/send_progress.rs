//! How many of the bytes that were written to a socket the peer has: by TCP_INFO (tcp(7)) its TCP has
//! acknowledged them, by SO_MEMINFO the process at the other end of a Unix socket has read them.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
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

/// The start of the values of SO_MEMINFO (linux/sock_diag.h), up to the memory of sent bytes.
type MemInfo = [u32; 3];

/// The place of SK_MEMINFO_WMEM_ALLOC.
const SENT_MEMORY: usize = 2;

/// linux/socket.h; the libc crate does not have it.
const SO_MEMINFO: libc::c_int = 55;

sockopt_impl!(
    /// Reads [`MemInfo`].
    ReadMemInfo,
    GetOnly,
    libc::SOL_SOCKET,
    SO_MEMINFO,
    MemInfo
);

/// The offset that stands for all bytes written to a Unix socket: more than the memory of any.
const UNIX_WRITTEN: u64 = 1 << 32;

/// The progress of a socket. Only deadlines ask for it, so a Unix socket may cost two calls.
pub(super) fn of(socket: &impl AsFd) -> io::Result<SendProgress> {
    match tcp_progress(socket) {
        Err(error) if is_without_tcp(&error) => unix_progress(socket),
        result => result,
    }
}

/// Whether an option of TCP failed because the socket is not TCP.
pub(super) fn is_without_tcp(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EOPNOTSUPP | Errno::ENOPROTOOPT))
}

/// Returns the number of bytes written to a TCP socket, and of those that the peer's TCP has
/// acknowledged.
fn tcp_progress(socket: &impl AsFd) -> io::Result<SendProgress> {
    let info = getsockopt(socket, ReadTcpInfo)?;
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

/// A Unix socket counts no bytes, but the memory of those that the peer has not read. That shrinks
/// only if the peer reads, and is zero when it has read all.
fn unix_progress(socket: &impl AsFd) -> io::Result<SendProgress> {
    let unread = u64::from(getsockopt(socket, ReadMemInfo)?[SENT_MEMORY]);
    Ok(SendProgress { written: UNIX_WRITTEN, acknowledged: UNIX_WRITTEN - unread })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_reading_acknowledges_the_bytes_of_a_unix_socket() {
        let (mut ours, mut peers) = UnixStream::pair().unwrap();
        let is_complete = |progress: SendProgress| progress.acknowledged == progress.written;
        assert!(is_complete(of(&ours).unwrap()), "nothing is sent");
        ours.write_all(&[7; 1000]).unwrap();
        let first = of(&ours).unwrap();
        assert!(first.acknowledged < first.written);
        ours.write_all(&[7; 1000]).unwrap();
        let both = of(&ours).unwrap();
        assert!(both.acknowledged < first.acknowledged, "writing is no progress");
        peers.read_exact(&mut [0; 1000]).unwrap();
        let half = of(&ours).unwrap();
        assert!(half.acknowledged > both.acknowledged && !is_complete(half));
        peers.read_exact(&mut [0; 1000]).unwrap();
        assert!(is_complete(of(&ours).unwrap()));
    }
}
