//! Where the control socket lies: in the data directory, so that whoever may enter it, and nobody else, may ask. A
//! socket's path has room for about a hundred bytes, and data directories lie deeper than that. Where the system has
//! /proc, the way through an open descriptor of the directory is short.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The socket's name in the data directory.
const SOCKET: &str = "control";
/// Where it is made.
const DRAFT: &str = "control.new";

/// A data directory with, or without, a control socket.
#[derive(Debug)]
pub(crate) struct ControlDir {
    /// A short way into it.
    way: PathBuf,
    /// Kept open: the way leads through it.
    _descriptor: File,
}

impl ControlDir {
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let descriptor = File::open(data_dir)?;
        let short = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        let way = if short.is_dir() { short } else { data_dir.to_owned() };
        Ok(Self { way, _descriptor: descriptor })
    }

    /// Makes the socket, in the place of one that a killed server has left behind.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let draft_dir = self.way.join(DRAFT);
        let _ = fs::remove_dir_all(&draft_dir);
        // Where nobody else can enter: it appears in the data directory once it is its owner's alone.
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

    /// Speaks to the server that listens there.
    pub(crate) async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.way.join(SOCKET)).await
    }

    /// Takes the socket away.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(self.way.join(SOCKET));
    }
}
