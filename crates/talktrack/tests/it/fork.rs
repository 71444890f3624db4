//! A process that forks while it has a tracker open. The child has a copy of everything except the threads that write.
//!
//! Rust has no safe fork. So the test starts itself again with a tiny C library preloaded, in which
//! `getppid`, a function that Rust can call safely, forks.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use talktrack::{Message, OpenError, Options, Role, Tracker};
use talktrack_testbed::skip;
use tempfile::TempDir;

use crate::support::{SESSION, dir, new_session, value, within};

/// The environment variable that passes the data directory to the process that forks.
const DIRECTORY: &str = "TALKTRACK_FORK_DIRECTORY";
/// The environment variable that tells the child to drop its copy of the tracker.
const DROPS: &str = "TALKTRACK_FORK_DROPS";
const FORK: &str = "#include <unistd.h>\npid_t getppid(void) { return fork(); }\n";
const LONG: Duration = Duration::from_secs(120);

/// Builds the library that forks. Returns `None` if there is no C compiler that can build it.
fn forking_library(dir: &Path) -> Option<PathBuf> {
    let source = dir.join("fork.c");
    let library = dir.join("fork.so");
    std::fs::write(&source, FORK).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    made.is_ok_and(|status| status.success()).then_some(library)
}

/// Waits for a file by which one process signals another.
fn wait_for(file: &Path) {
    let begun = Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < LONG, "nobody writes {}", file.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn tell(file: &Path, text: &str) {
    std::fs::write(file.with_extension("new"), text).unwrap();
    std::fs::rename(file.with_extension("new"), file).unwrap();
}

#[test]
#[ignore = "another test starts it as a process of its own"]
fn a_process_that_forks() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let tracker = Tracker::open(Options::new(&dir)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(within(tracker.start_session(new_session()).unwrap().durable())).unwrap();
    if std::os::unix::process::parent_id() == 0 {
        let refused = tracker.track_message(Message::new(SESSION, Role::User, "the child's")).err();
        if std::env::var_os(DROPS).is_some() {
            drop(tracker);
        }
        tell(&dir.join("child-said"), &refused.map_or_else(String::new, |refused| refused.to_string()));
        wait_for(&dir.join("child-may-go"));
        std::process::exit(0);
    }
    wait_for(&dir.join("child-said"));
    let receipt = tracker.track_message(Message::new(SESSION, Role::User, "the parent's")).unwrap();
    runtime.block_on(within(receipt)).unwrap();
    tell(&dir.join("parent-goes-on"), "");
    wait_for(&dir.join("never"));
}

/// A parent that continues after a fork, and its child, which waits.
struct Forked {
    dir: TempDir,
    parent: Child,
}

impl Forked {
    /// Returns `None`, and records the skip, if the library that forks cannot be built.
    fn start(child_drops: bool) -> Option<Self> {
        let (dir, tools) = (dir(), dir());
        let Some(library) = forking_library(tools.path()) else {
            skip::missing("forks", "there is no C compiler (cc) that can make a shared library");
            return None;
        };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "fork::a_process_that_forks", "--ignored", "--nocapture"]);
        command.env(DIRECTORY, dir.path()).env("LD_PRELOAD", library).stdout(Stdio::null());
        if child_drops {
            command.env(DROPS, "");
        }
        let parent = command.spawn().unwrap();
        wait_for(&dir.path().join("parent-goes-on"));
        let said = std::fs::read_to_string(dir.path().join("child-said")).unwrap();
        assert!(said.starts_with("this process was forked from the one that opened the tracker"), "{said}");
        Some(Self { dir, parent })
    }

    /// Returns the process that holds the directory, as the error of an attempt to open it names it.
    fn holder(&self) -> String {
        match Tracker::open(Options::new(self.dir.path())).err() {
            Some(OpenError::Locked { holder, .. }) => holder,
            other => panic!("the directory should be taken: {other:?}"),
        }
    }

    fn name(&self) -> String {
        format!("process {} ", self.parent.id())
    }

    fn kill_parent(&mut self) {
        self.parent.kill().unwrap();
        self.parent.wait().unwrap();
    }

    /// Checks that the directory can be opened within [`LONG`] and contains the message of the parent.
    fn opens(&self) {
        let begun = Instant::now();
        while let Err(error) = Tracker::open(Options::new(self.dir.path())) {
            assert!(begun.elapsed() < LONG, "nobody is there: {error}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let contents: String =
            value(self.dir.path(), "SELECT group_concat(content) FROM conversation_messages");
        assert_eq!(contents, "the parent's");
    }
}

/// Ends the child together with the test, even if the test fails.
impl Drop for Forked {
    fn drop(&mut self) {
        tell(&self.dir.path().join("child-may-go"), "");
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

#[test]
fn a_forked_child_that_drops_its_copy_takes_nothing_from_the_parent() {
    let Some(mut forked) = Forked::start(true) else { return };
    assert!(
        forked.holder().starts_with(&forked.name()),
        "the lock is still the parent's: {}",
        forked.holder()
    );
    forked.kill_parent();
    forked.opens();
}

#[test]
fn a_forked_child_that_outlives_its_parent_holds_the_directory_and_is_named() {
    let Some(mut forked) = Forked::start(false) else { return };
    forked.kill_parent();
    let holder = forked.holder();
    assert!(holder.starts_with(&format!("a child process of {}", forked.name())), "{holder}");
    tell(&forked.dir.path().join("child-may-go"), "");
    forked.opens();
}
