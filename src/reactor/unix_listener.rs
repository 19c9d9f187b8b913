//! Listening Unix sockets (unix(7)).

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::listener::{Listener, backlog};
use super::unix_file::UnixFile;
use crate::config::Config;

/// The longest path or name that fits `sockaddr_un`, with the zero byte at its end or start.
const NAME_BYTES_MAX: usize = 107;

/// Listens on a path. Its file gets the permissions `mode`, or else those that the umask leaves.
///
/// A file that an ended process left is replaced. Any other file is an error.
pub(crate) fn listen_on_path(
    path: &Path,
    mode: Option<u32>,
    config: &Config,
) -> io::Result<Listener> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX || bytes.contains(&0) {
        let why = "the path must have 1 to 107 bytes, none of them zero; choose another";
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    let address = SockAddr::unix(path)?;
    let socket = new_socket()?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != ErrorKind::AddrInUse {
            return Err(error);
        }
        check_stale(path, &address)?;
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    let file = UnixFile::new(path)?;
    // No client can connect before the socket listens.
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    socket.listen(backlog(config))?;
    Ok(Listener::sole(socket, Some(file)))
}

/// Listens on a name in the abstract namespace, which ends with the socket.
pub(crate) fn listen_on_name(name: &[u8], config: &Config) -> io::Result<Listener> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let why = "the name must have 1 to 107 bytes; choose another";
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    let name = [b"\0", name].concat();
    let socket = new_socket()?;
    socket.bind(&SockAddr::unix(std::ffi::OsStr::from_bytes(&name))?).map_err(
        |error| match error.kind() {
            ErrorKind::AddrInUse => in_use(),
            _ => error,
        },
    )?;
    socket.listen(backlog(config))?;
    Ok(Listener::sole(socket, None))
}

fn new_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
}

/// Checks that the file at `path` is a socket that no process has.
fn check_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let why = "the file is not a socket; remove it, or choose another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    match new_socket()?.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        // Its queue may be full, or it may be a socket of another type.
        Ok(()) | Err(_) => Err(in_use()),
    }
}

fn in_use() -> io::Error {
    let why = "another process listens on it; stop that, or choose another address";
    io::Error::new(ErrorKind::AddrInUse, why)
}
