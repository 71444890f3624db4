//! Only one process at a time can open a data directory, and only a talktrack that knows the schema of a file opens it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use talktrack::{OpenError, Options, Tracker};

use crate::crash::Process;
use crate::support::{dir, new_session, sqlite, within};

/// Returns the reason why the directory cannot be opened.
fn refusal(dir: &Path) -> OpenError {
    Tracker::open(Options::new(dir)).err().expect("the directory is taken")
}

#[tokio::test]
async fn a_second_tracker_in_the_same_process_is_refused_and_told_who_has_the_directory() {
    let dir = dir();
    let first = Tracker::open(Options::new(dir.path())).unwrap();
    let OpenError::Locked { path, holder } = refusal(dir.path()) else { panic!("another error") };
    assert_eq!(path, dir.path());
    assert!(holder.contains(&format!("process {} ", std::process::id())), "{holder}");
    let error = refusal(dir.path()).to_string();
    assert!(error.contains(&holder) && error.contains("stop it, or choose another data_dir"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    within(first.start_session(new_session()).unwrap().durable()).await.expect("the first goes on");
    drop(first);
    drop(Tracker::open(Options::new(dir.path())).expect("the directory is free at once"));
}

#[test]
fn a_lock_file_that_does_not_name_its_holder_still_locks() {
    let dir = dir();
    let file = File::create(dir.path().join("LOCK")).unwrap();
    file.try_lock().unwrap();
    let OpenError::Locked { holder, .. } = refusal(dir.path()) else { panic!("another error") };
    assert_eq!(holder, "another process");
    file.unlock().unwrap();
    drop(Tracker::open(Options::new(dir.path())).expect("the file alone locks nothing"));
}

#[test]
fn two_data_directories_cannot_share_one_database_file() {
    let home = dir();
    let other = dir();
    let first = Tracker::open(Options::new(home.path())).unwrap();
    let elsewhere = Options::new(other.path()).with_database_file(home.path().join(talktrack::DATABASE_FILE));
    let refused = Tracker::open(elsewhere.clone()).err().expect("the file is taken");
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(first);
    drop(Tracker::open(elsewhere).expect("the file is free"));
}

#[tokio::test]
async fn another_process_holds_the_directory_until_it_is_killed() {
    let dir = dir();
    let mut process = Process::start(dir.path());
    process.acknowledged(1).await;
    let OpenError::Locked { holder, .. } = refusal(dir.path()) else { panic!("another error") };
    assert!(holder.contains(&format!("process {} ", process.id())), "{holder}");
    process.kill();
    drop(Tracker::open(Options::new(dir.path())).expect("a killed process holds nothing"));
}

/// Regression test: a process that is being started briefly has a copy of every open file, and a lock lives
/// as long as any copy of its file. So a directory that had just been closed could not be opened again.
#[test]
fn a_process_being_started_meanwhile_keeps_no_directory() {
    let dir = dir();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut nothing = Command::new(std::env::current_exe().unwrap());
                nothing.args(["--exact", "no such test"]).stdout(Stdio::null()).status().unwrap();
            }
        });
        let reopened = (0..60).map(|_| Tracker::open(Options::new(dir.path())).map(drop));
        let refused = reopened.filter_map(Result::err).next();
        done.store(true, Ordering::Relaxed);
        assert!(refused.is_none(), "{}", refused.unwrap());
    });
}

#[test]
fn a_file_of_a_newer_talktrack_is_left_alone() {
    let dir = dir();
    drop(Tracker::open(Options::new(dir.path())).unwrap());
    let newest: i64 = sqlite(dir.path()).query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    sqlite(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    let error = refusal(dir.path());
    let OpenError::NewerSchema { path, found, known } = &error else { panic!("another error: {error}") };
    assert_eq!(
        (path.as_path(), *found, *known),
        (dir.path().join(talktrack::DATABASE_FILE).as_path(), 99, newest)
    );
    assert!(error.to_string().contains("schema version 99"), "{error}");
    let version: i64 = sqlite(dir.path()).query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[test]
fn a_file_of_somebody_elses_that_is_no_database_is_refused_by_its_name_and_left_alone() {
    let dir = dir();
    let file = dir.path().join("holiday.jpg");
    std::fs::write(&file, "not a database ".repeat(1_000)).unwrap();
    let options = Options::new(dir.path()).with_database_file(file.clone());
    let error = Tracker::open(options).err().expect("it is refused");
    assert!(matches!(&error, OpenError::Salvage { path, .. } if *path == file), "{error}");
    assert!(error.to_string().contains("holiday.jpg"), "{error}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("not a database"), "it is left as it was");
    assert!(talktrack::quarantines(&file).is_empty());
}

#[test]
fn a_directory_in_place_of_the_database_is_refused_as_such() {
    let dir = dir();
    std::fs::create_dir(dir.path().join(talktrack::DATABASE_FILE)).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::UnusableFile { .. }), "{error}");
    assert!(error.to_string().contains("talktrack.db is not a file"), "{error}");
}

#[test]
fn a_data_directory_is_made_and_one_that_cannot_be_is_named() {
    let dir = dir();
    let deep = dir.path().join("not/yet/there");
    drop(Tracker::open(Options::new(&deep)).unwrap());
    assert!(deep.join(talktrack::DATABASE_FILE).exists());
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let error = refusal(&file);
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[test]
fn a_lock_file_full_of_anything_locks_as_well_and_is_told_on_one_line() {
    let dir = dir();
    let path = dir.path().join("LOCK");
    for text in [&b"\xff\xfe\n\n\x00\x1b[31m"[..], b"process one\x07\nprocess two", &[b'x'; 100_000], b""] {
        std::fs::write(&path, text).unwrap();
        let file = File::open(&path).unwrap();
        file.try_lock().unwrap();
        let error = refusal(dir.path()).to_string();
        assert!(
            error.contains("in use by another process; stop it") && error.lines().count() == 1,
            "{error}"
        );
        // A child that another test has just forked keeps a copy of the file until its exec. Only an
        // explicit unlock releases the lock at once.
        file.unlock().unwrap();
        drop(Tracker::open(Options::new(dir.path())).expect("what it says locks nothing"));
        let said = std::fs::read_to_string(&path).unwrap();
        assert!(said.starts_with(&format!("process {} ", std::process::id())), "{said}");
    }
}

#[test]
fn a_directory_in_the_place_of_the_lock_file_is_named() {
    let dir = dir();
    std::fs::create_dir(dir.path().join("LOCK")).unwrap();
    let error = refusal(dir.path()).to_string();
    assert!(error.contains("LOCK: ") && error.lines().count() == 1, "{error}");
}
