//! Servers on free ports of this machine. This is the only module here that uses the library's
//! server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ws_reactor::{Config, Handler, Server, ServerHandle, Stats};

use super::client::DEADLINE;

/// A free port.
pub const LOCAL: SocketAddr = local(1);

/// A free port of 127.0.0.`host`. A test that releases a port and then examines it needs a host of
/// its own, so that no other test takes the port meanwhile.
pub const fn local(host: u8) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0)
}

/// A server with default settings on a free port.
#[track_caller]
pub fn serve<H: Handler + Send>(workers: usize, handler: impl FnMut() -> H) -> ServerHandle {
    serve_with(Config::default(), workers, handler)
}

/// A server with settings of its own.
#[track_caller]
pub fn serve_with<H: Handler + Send>(
    config: Config,
    workers: usize,
    mut handler: impl FnMut() -> H,
) -> ServerHandle {
    let builder = Server::builder().bind(LOCAL).workers(workers).config(config);
    builder.start(|_, _| handler()).expect("the server starts")
}

/// The TCP address on which `server` listens.
pub fn address(server: &ServerHandle) -> SocketAddr {
    server.local_addresses()[0].as_tcp().expect("a TCP address")
}

/// Stops a server after its clients have disconnected, and checks that all connections have ended.
#[track_caller]
pub fn stop(server: &ServerHandle) -> Stats {
    server.shutdown(DEADLINE + Duration::from_secs(1));
    server.join().expect("no worker has failed");
    let stats = server.stats();
    assert_eq!(stats.accepted, stats.ended, "{stats:?}");
    assert_eq!(stats.opened, stats.closed, "{stats:?}");
    stats
}
