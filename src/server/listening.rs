//! Creates the listeners of the workers.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use super::error::StartError;
use super::sockets;
use crate::config::Config;
use crate::connection_info::Address;
use crate::reactor::listener::{Listener, Sharing, bind, listen};
use crate::reactor::socket::address_of;
use crate::reactor::unix_listener::{listen_on_name, listen_on_path};
use crate::tls::TlsConfig;

/// Where connections come from, and the layer under their bytes.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) place: Place,
    pub(super) tls: Option<TlsConfig>,
}

/// Where connections come from.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The server binds it.
    Address(Address),
    /// The program made it. Servers that clones of a builder start share the socket.
    Listener(Arc<sockets::Listener>),
}

/// The settings that only listeners need.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ListenSettings {
    pub(super) share_port: bool,
    pub(super) balance: Balance,
    pub(super) unix_mode: Option<u32>,
}

/// How the connections of a TCP address are distributed over the workers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// The kernel chooses by a hash of the addresses (SO_REUSEPORT), and the worker that accepts a
    /// connection keeps it. It costs nothing, and is even for many connections: of `n` connections,
    /// a worker's share is off by up to about the square root of `n`.
    #[default]
    Hash,
    /// The worker that accepts a connection hands it to the worker with the fewest, so that few or
    /// long-lived connections are even too. A hand-over costs a wake-up; if the mailbox of the other
    /// worker is full, the connection stays.
    LeastConnections,
}

/// The listeners of each worker.
struct Groups {
    groups: Vec<Vec<Listener>>,
    /// The worker that gets the next listener without a group.
    next: usize,
    /// For the listeners that are pushed next.
    tls: Option<TlsConfig>,
}

impl Groups {
    /// Gives a listener to one worker. Several are spread over the workers.
    fn push_sole(&mut self, listener: Listener) {
        self.push(self.next, listener);
        self.next = (self.next + 1) % self.groups.len();
    }

    fn push(&mut self, worker: usize, listener: Listener) {
        self.groups[worker].push(listener.with_tls(self.tls.clone()));
    }
}

/// Creates the listeners of all workers; returns the addresses with their ports, and the listeners
/// of each worker.
///
/// All listen before any worker accepts, since each socket that joins a SO_REUSEPORT group changes
/// which socket the kernel gives a connection to.
pub(super) fn listen_all(
    sources: &[Source],
    workers: usize,
    settings: ListenSettings,
    config: &Config,
) -> Result<(Vec<Address>, Vec<Vec<Listener>>), StartError> {
    if let Some(mode) = settings.unix_mode.filter(|mode| *mode > 0o777) {
        return Err(StartError::UnixMode(mode));
    }
    let mut resolved = Vec::new();
    let groups = (0..workers).map(|_| Vec::new()).collect();
    let mut groups = Groups { groups, next: 0, tls: None };
    for Source { place, tls } in sources {
        groups.tls.clone_from(tls);
        let (address, result) = match place {
            Place::Address(asked) => (asked.clone(), open(asked, &mut groups, settings, config)),
            Place::Listener(listener) => take_over(listener, &mut groups, config),
        };
        resolved.push(result.map_err(|source| StartError::Bind { address, source })?);
    }
    Ok((resolved, groups.groups))
}

/// Listens on an address; returns it with its port.
fn open(
    asked: &Address,
    groups: &mut Groups,
    settings: ListenSettings,
    config: &Config,
) -> io::Result<Address> {
    match asked {
        Address::Tcp(address) => {
            let shared = open_group(*address, groups, settings, config)?;
            return Ok(shared.into());
        }
        Address::Unix(path) => groups.push_sole(listen_on_path(path, settings.unix_mode, config)?),
        Address::UnixAbstract(name) => groups.push_sole(listen_on_name(name, config)?),
        Address::UnixUnnamed => {
            let why = "a socket that listens needs a path or a name";
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
    }
    Ok(asked.clone())
}

/// Creates a listener on a TCP address for every worker.
fn open_group(
    mut address: SocketAddr,
    groups: &mut Groups,
    settings: ListenSettings,
    config: &Config,
) -> io::Result<SocketAddr> {
    if !settings.share_port {
        // SO_REUSEPORT would silently share an address in use; an exclusive bind fails.
        drop(bind(address, Sharing::Exclusive)?);
    }
    for worker in 0..groups.groups.len() {
        let socket = bind(address, Sharing::Shared)?;
        if address.port() == 0 {
            let local = socket.local_addr()?;
            address.set_port(local.as_socket().map_or(0, |local| local.port()));
        }
        let is_distributed = settings.balance == Balance::LeastConnections;
        groups.push(worker, listen(socket, is_distributed, config)?);
    }
    Ok(address)
}

/// Gives a listener of the program to a worker; returns its address, twice if that succeeded.
fn take_over(
    listener: &sockets::Listener,
    groups: &mut Groups,
    config: &Config,
) -> (Address, io::Result<Address>) {
    let sockets::Listener(socket) = listener;
    let address = socket.local_addr().map_or(Address::UnixUnnamed, |local| address_of(&local));
    let prepare = || {
        if !socket.is_listener()? {
            let why = "the socket does not listen; call listen(2) before";
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        socket.set_nonblocking(true)?;
        if address.as_tcp().is_some() {
            socket.set_tcp_nodelay(config.tcp_nodelay)?;
        }
        socket.try_clone()
    };
    let result = prepare().map(|socket| groups.push_sole(Listener::sole(socket, None)));
    (address.clone(), result.map(|()| address))
}
