//! The directory of a server, and the watchdog that ends the server together with this process.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits for the end of its input, which comes when the process at the other end of the pipe ends. Then
/// sends the signal $3 to the server, whose process id is on the first line of the file $2, and removes the
/// directory $1. A server that is not killed outright removes that file as its last action, and has 10 s
/// for it. `CONT` wakes a server that a test has frozen.
const WATCHDOG: &str = r#"
    read -r _
    if pid=$(head -n 1 "$2"); then
        kill -s "$3" "$pid"
        kill -s CONT "$pid"
        tries=0
        while [ "$3" != KILL ] && [ -e "$2" ] && [ $tries -lt 200 ]; do tries=$((tries + 1)); sleep 0.05; done
    fi
    rm -rf "$1"
"#;

/// A temporary directory in which one server lives. Both are removed when this value is dropped or when the
/// process ends, in any way: statics are never dropped, and a killed test drops nothing at all.
pub(crate) struct Scratch {
    path: PathBuf,
    /// The account that the server runs as, if different from this process's.
    account: Option<Account>,
    watchdog: Child,
}

impl Scratch {
    /// Creates a directory for a server that will write its process id to `pid_file` in it, and that this
    /// signal stops.
    pub(crate) fn new(pid_file: &str, signal: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("tt-").tempdir().expect("a temporary directory can be made");
        let path = directory.keep();
        let mut watchdog = Command::new("/bin/sh");
        watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(&path).arg(path.join(pid_file)).arg(signal);
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        // In a process group of its own: Ctrl-C is meant for the tests, and must not reach the watchdog
        // first.
        let watchdog = watchdog.process_group(0).spawn().expect("/bin/sh can be started");
        let scratch = Self { account: Account::for_owner_of(&path), path, watchdog };
        scratch.hand_over(&scratch.path);
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only the server's account may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.path.join(name);
        fs::write(&file, text).expect("the temporary directory takes files");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("our file can be made private");
        self.hand_over(&file);
        file
    }

    /// Prepares a command that runs the program in this directory as the server's account.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path).stdin(Stdio::null());
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn hand_over(&self, file: &Path) {
        if let Some(account) = &self.account {
            chown(file, Some(account.uid), Some(account.gid)).expect("root can give a file away");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// An account without privileges. PostgreSQL and pgbouncer refuse to run as root, the usual account in
/// containers.
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// Returns an account if this process, the owner of the file, is root; otherwise `None`.
    fn for_owner_of(file: &Path) -> Option<Self> {
        let owner = fs::metadata(file).expect("the temporary directory is there").uid();
        (owner == 0).then(|| {
            let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
            let named = |name| accounts.lines().find_map(|line| Self::parse(line, name));
            named("postgres").or_else(|| named("nobody")).expect("there is an account `postgres` or `nobody`")
        })
    }

    /// Returns the account if this line of /etc/passwd is that of `name`.
    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
        Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }
}
