//! Identifies the client of a connection in the log.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ws_reactor::{ConnectionInfo, Credentials};

/// The address of a client, or for a Unix socket its process, and the time at which it connected, in
/// 16 bytes, because each idle connection holds one. Only an IPv6 address needs an allocation.
#[derive(Debug)]
pub(crate) enum Client {
    V4 { port: u16, opened: Hundredths, ip: Ipv4Addr },
    V6 { opened: Hundredths, address: Box<SocketAddrV6> },
    Unix { opened: Hundredths, pid: i32, uid: u32 },
}

const _: () = assert!(size_of::<Option<Client>>() == 16, "an idle connection stays small");

impl Client {
    /// A client whose connection opens now.
    pub(crate) fn new(info: ConnectionInfo<'_>) -> Option<Self> {
        let opened = Hundredths::now();
        Some(match info.peer_address().as_tcp() {
            Some(SocketAddr::V4(address)) => {
                Self::V4 { port: address.port(), opened, ip: *address.ip() }
            }
            Some(SocketAddr::V6(address)) => Self::V6 { opened, address: Box::new(address) },
            None => {
                let Credentials { pid, uid, .. } = info.credentials()?;
                Self::Unix { opened, pid, uid }
            }
        })
    }

    fn opened(&self) -> Hundredths {
        match self {
            Self::V4 { opened, .. } | Self::V6 { opened, .. } | Self::Unix { opened, .. } => {
                *opened
            }
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4 { port, ip, .. } => write!(f, "{ip}:{port}"),
            Self::V6 { address, .. } => address.fmt(f),
            Self::Unix { pid, uid, .. } => write!(f, "unix: pid {pid}, uid {uid}"),
        }?;
        write!(f, ", open for {:.2} s", self.opened().elapsed().as_secs_f64())
    }
}

/// A time in hundredths of a second. It wraps around after 497 days, so shorter differences are
/// correct.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hundredths(u32);

impl Hundredths {
    fn now() -> Self {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Self((START.elapsed().as_millis() / 10) as u32)
    }

    fn elapsed(self) -> Duration {
        Duration::from_millis(10) * Self::now().0.wrapping_sub(self.0)
    }
}
