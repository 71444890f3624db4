//! The errors of opening a database.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the files of a database cannot be read. Damage to their content is never an error.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// There is neither a file at this path nor a write-ahead log next to it. Check the path.
    NotFound(PathBuf),
    /// The system cannot open or read a file: it may belong to another user, or the disk may be broken. `source` says
    /// why.
    Io {
        /// The file.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// The page size in the [`Options`](crate::Options) is not a power of two from 512 to 65,536.
    InvalidPageSize(usize),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(path) => write!(f, "there is no database at {}", path.display()),
            Self::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::InvalidPageSize(bytes) => {
                write!(f, "no database has pages of {bytes} bytes; give a power of two from 512 to 65536")
            }
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::NotFound(_) | Self::InvalidPageSize(_) => None,
        }
    }
}

/// Keeps the system's error where there is one.
impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io { source, .. } => source,
            OpenError::NotFound(_) => Self::new(io::ErrorKind::NotFound, error),
            OpenError::InvalidPageSize(_) => Self::new(io::ErrorKind::InvalidInput, error),
        }
    }
}
