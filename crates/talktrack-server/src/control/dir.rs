//! The place of the control socket. It is in the data directory, so that exactly those who may enter the directory may
//! use it. The path of a socket is limited to about a hundred bytes, and data directories may have longer paths. On
//! systems with /proc, the path through an open descriptor of the directory is short.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The name of the socket in the data directory.
const SOCKET: &str = "control";
/// The directory in which the socket is created.
const DRAFT: &str = "control.new";

/// A data directory, which may contain a control socket.
#[derive(Debug)]
pub(crate) struct ControlDir {
    /// A short path to the data directory.
    way: PathBuf,
    /// Kept open because the short path leads through it.
    _descriptor: File,
}

impl ControlDir {
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let descriptor = File::open(data_dir)?;
        let short = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        let way = if short.is_dir() { short } else { data_dir.to_owned() };
        Ok(Self { way, _descriptor: descriptor })
    }

    /// Creates the socket. Replaces one that a killed server has left behind: the lock of the data directory guarantees
    /// that no other server uses it.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let draft_dir = self.way.join(DRAFT);
        let _ = fs::remove_dir_all(&draft_dir);
        // Only the owner can enter this directory. The socket is moved to the data directory after its permissions are
        // restricted to the owner.
        DirBuilder::new().mode(0o700).create(&draft_dir)?;
        let listener = self.listen_in(&draft_dir.join(SOCKET));
        let _ = fs::remove_dir_all(&draft_dir);
        listener
    }

    fn listen_in(&self, draft: &Path) -> io::Result<UnixListener> {
        let listener = UnixListener::bind(draft)?;
        fs::set_permissions(draft, Permissions::from_mode(0o600))?;
        fs::rename(draft, self.way.join(SOCKET))?;
        Ok(listener)
    }

    /// Connects to the server that listens on the socket.
    pub(crate) async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.way.join(SOCKET)).await
    }

    /// Removes the socket.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(self.way.join(SOCKET));
    }
}
