//! The lock on a data directory: only one process at a time may use it. The operating system releases the lock however
//! the process ends.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use talktrack_core::clock::Timestamp;

use crate::error::OpenError;
use crate::permissions::{make_private_directory, private_file};

/// The name of the lock file. Its text names the holder for people. The lock itself is the operating system's
/// (`flock`).
const FILE_NAME: &str = "LOCK";

/// The maximum number of bytes that are read to learn the holder. A holder's name is never longer.
const HOLDER_BYTES: u64 = 200;

/// The lock. It is held for as long as this value exists.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    /// The process that took the lock. A forked child has a copy, and must not release it.
    process: u32,
}

impl Lock {
    pub(crate) fn acquire(data_dir: &Path, now: Timestamp) -> Result<Self, OpenError> {
        let failed = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
        make_directory(data_dir).map_err(|error| failed(data_dir, error))?;
        let path = data_dir.join(FILE_NAME);
        let open = private_file().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| failed(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&file);
                return Err(OpenError::Locked { path: data_dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
        }
        // The holder's name is only informative: a full disk must not prevent a start that would free space.
        let _ = write_holder(&mut file, now);
        Ok(Self { file, path, process: std::process::id() })
    }

    /// Returns the path of the lock file, and the device and inode of the file that is really locked.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(crate) fn held(&self) -> std::io::Result<(PathBuf, (u64, u64))> {
        let held = self.file.metadata()?;
        Ok((self.path.clone(), (held.dev(), held.ino())))
    }
}

/// Releases the lock explicitly. If this only closed the file, a child process that was just forked would keep the lock
/// through its copy. In such a child, releasing the lock would take it from the parent.
impl Drop for Lock {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = self.file.unlock();
        }
    }
}

/// Creates the directory and makes its name durable: syncing the files in a directory need not sync the name of that
/// directory in its parent, so that a power failure could lose it with everything in it.
fn make_directory(dir: &Path) -> std::io::Result<()> {
    let missing = dir.ancestors().skip(1).take_while(|above| !above.exists()).count();
    make_private_directory(dir)?;
    // One more than was created here, because an earlier start may have been killed in between.
    for above in dir.ancestors().skip(1).take(missing + 1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        // Some file systems cannot sync a directory, and some directories cannot be read. Then nothing more can be
        // done.
        let _ = File::open(above).and_then(|above| above.sync_all());
    }
    Ok(())
}

/// Returns what the holder wrote, as one line, even if the file's content is damaged.
fn read_holder(file: &File) -> String {
    let mut bytes = Vec::new();
    let _ = file.take(HOLDER_BYTES).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    let Some(process) = line.strip_prefix("process ").filter(|_| !line.contains(char::is_control)) else {
        return "another process".into();
    };
    let id = process.split(' ').next().unwrap_or_default();
    if Path::new("/proc/self").exists() && !Path::new("/proc").join(id).exists() {
        return format!("a child process of {line}, which has exited");
    }
    line.to_owned()
}

fn write_holder(file: &mut File, now: Timestamp) -> std::io::Result<()> {
    let program = std::env::current_exe().ok();
    let program =
        program.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} ({program}), since {now}", std::process::id())
}
