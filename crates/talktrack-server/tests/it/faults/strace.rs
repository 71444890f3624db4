//! Runs the server under strace, which records its system calls and makes some of them fail as a bad disk would.
//!
//! strace runs as the server's grandchild (`-D`), so the process that a test starts, signals and kills is the server
//! itself. It needs Linux and permission to use ptrace. If it cannot run, the test prints this and is skipped.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use talktrack_testbed::skip;
use tokio::process::Command;

use crate::harness::until_within;

/// The system calls that the model of the disk and the oracle at the socket need. Other calls that could change a file
/// are included so that their use is noticed. Calls with `?` do not exist on every machine.
const TRACED: &str = "trace=openat,?open,?creat,close,?mkdir,mkdirat,lseek,write,writev,pwrite64,pwritev,?pwritev2,sendto,\
                      sendmsg,recvfrom,fdatasync,fsync,?sync_file_range,ftruncate,truncate,fallocate,?copy_file_range,\
                      sendfile,?unlink,unlinkat,?rename,?renameat,renameat2,?link,linkat,mmap";

/// The path of a working strace.
pub(crate) struct Strace(PathBuf);

impl Strace {
    /// Finds strace; `None`, with a message that is not captured, if it cannot run.
    pub(crate) async fn here(case: &str) -> Option<Self> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let mut programs = std::env::split_paths(&paths).map(|place| place.join("strace"));
        let why = match programs.find(|program| program.is_file()) {
            None => "strace is not installed (`make test` installs it on Debian and Ubuntu)".to_owned(),
            Some(program) => {
                let mut trial = Command::new(&program);
                let tried =
                    trial.args(["-f", "-D", "--seccomp-bpf", "-o", "/dev/null", "true"]).output().await;
                match tried.map(|output| (output.status.success(), output.stderr)) {
                    Ok((true, _)) => return Some(Self(program)),
                    Ok((false, stderr)) => String::from_utf8_lossy(&stderr).trim().to_owned(),
                    Err(error) => error.to_string(),
                }
            }
        };
        skip::missing(case, &why);
        None
    }

    /// Wraps a command so that all relevant calls are written to this file and these calls fail. Each fault has the
    /// form `call:error=EIO:when=first..last` or `when=first+step`. The numbers count the calls of each thread, from 1.
    pub(crate) fn traced(&self, command: &Command, into: &Path, faults: &[&str]) -> Command {
        self.wrap(command, into, &["-s", "16777216", "-e", TRACED], faults)
    }

    /// Wraps a command so that these calls on this file fail. The numbers count the calls on the file in each thread,
    /// from 1.
    pub(crate) fn failing(&self, command: &Command, into: &Path, file: &Path, faults: &[&str]) -> Command {
        let calls: Vec<_> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        let options = ["-P", file.to_str().unwrap(), "-s", "0", "-e", &format!("trace={}", calls.join(","))];
        self.wrap(command, into, &options, faults)
    }

    fn wrap(&self, command: &Command, into: &Path, options: &[&str], faults: &[&str]) -> Command {
        let inner = command.as_std();
        let mut outer = Command::new(&self.0);
        outer.args(["-D", "-f", "-q", "-y", "--seccomp-bpf", "-e", "signal=kill"]).args(options);
        outer.args(faults.iter().flat_map(|fault| ["-e".to_owned(), format!("inject={fault}")]));
        outer.arg("-o").arg(into).arg("--").arg(inner.get_program()).args(inner.get_args());
        outer.env_clear().current_dir(inner.get_current_dir().unwrap());
        outer.stdin(Stdio::null()).kill_on_drop(true);
        outer
    }
}

/// Waits until strace has written the end of this process, which has ended.
pub(crate) async fn is_whole(trace: &Path, pid: u32) {
    let last_words = format!("{pid:<5} +++ ");
    let written = async || {
        let text = std::fs::read(trace).unwrap();
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(1_000)..]).into_owned();
        tail.lines().any(|line| line.starts_with(&last_words)).then_some(())
    };
    until_within(super::PATIENCE, "strace has written down everything", written).await;
}
