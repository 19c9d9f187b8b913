//! The file of a Unix socket, which the kernel does not remove.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};

/// Removes the file of a socket at its end, unless another file has taken its place.
///
/// Drop it before the socket is closed: until then the kernel gives the number of its inode to no
/// other file.
#[derive(Debug)]
pub(crate) struct UnixFile {
    /// Absolute, since the process may change its directory.
    path: PathBuf,
    identity: (u64, u64),
}

impl UnixFile {
    /// The file of a socket that was bound just now.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path::absolute(path)?, identity: identity(path)? })
    }
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        let is_ours = identity(&self.path).is_ok_and(|found| found == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

/// The device and the inode of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
