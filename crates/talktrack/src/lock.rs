//! The lock on a data directory: one process at a time. The operating system releases it however the process ends.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::error::OpenError;
use crate::permissions::{make_private_directory, private_file};

/// The file in the data directory. Its text names the holder, for people; the lock itself is the system's (`flock`).
const FILE_NAME: &str = "LOCK";

/// So much of the file is read to learn who holds it; whatever else it may hold is nobody's name.
const HOLDER_BYTES: u64 = 200;

/// Held for as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    /// Who took it. A process that this one has forked has a copy, and must leave it alone.
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
                let holder = holder(&file);
                return Err(OpenError::Locked { path: data_dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
        }
        // Who holds it is a courtesy: a full disk must not stop a start that only wants to make room.
        let _ = describe(&mut file, now);
        Ok(Self { file, path, process: std::process::id() })
    }

    /// The lock file, and the device and number of the file that is really locked.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn held(&self) -> std::io::Result<(PathBuf, (u64, u64))> {
        let held = self.file.metadata()?;
        Ok((self.path.clone(), (held.dev(), held.ino())))
    }
}

/// Closing the file alone would keep the lock for as long as a child process that was just forked has a copy of it. In such
/// a child it is the other way round: releasing the lock would take it from the parent.
impl Drop for Lock {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = self.file.unlock();
        }
    }
}

/// Makes the directory, and sees to it that a power cut does not take its name away with everything in it: a sync of what
/// lies in a directory need not include the name that the directory has in the one above.
fn make_directory(dir: &Path) -> std::io::Result<()> {
    let missing = dir.ancestors().skip(1).take_while(|above| !above.exists()).count();
    make_private_directory(dir)?;
    // One more than was made here: an earlier start may have been killed in between.
    for above in dir.ancestors().skip(1).take(missing + 1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        // Some file systems know no sync of a directory, and some directories may not be read: then this is all there is.
        let _ = File::open(above).and_then(|above| above.sync_all());
    }
    Ok(())
}

/// What the holder wrote; on one line, whatever the file has become.
fn holder(file: &File) -> String {
    let mut bytes = Vec::new();
    let _ = file.take(HOLDER_BYTES).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    let Some(process) = line.strip_prefix("process ").filter(|_| !line.contains(char::is_control)) else {
        return "another process".into();
    };
    let id = process.split(' ').next().unwrap_or_default();
    if Path::new("/proc/self").exists() && !Path::new("/proc").join(id).exists() {
        return format!("a child process of {line}, which is gone itself");
    }
    line.to_owned()
}

fn describe(file: &mut File, now: Timestamp) -> std::io::Result<()> {
    let program = std::env::current_exe().ok();
    let program =
        program.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} ({program}), since {now}", std::process::id())
}
