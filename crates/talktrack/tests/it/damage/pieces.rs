//! The single steps of a salvage: which rows it keeps, what it reports, and how the next start continues
//! one that was interrupted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use talktrack::{DATABASE_FILE, quarantines};
use talktrack_testkit::Setup;
use tempfile::TempDir;

use super::scene::{File, Scene};
use crate::support::{accept, dir, message, new_session, sqlite, value, within};

const MESSAGES: u64 = 300;

/// Creates a closed data directory, and also returns the path of its database file.
async fn closed() -> (TempDir, PathBuf) {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    (0..MESSAGES).for_each(|number| drop(accept(&tracker, message(format!("message {number}")))));
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    let file = dir.path().join(DATABASE_FILE);
    (dir, file)
}

fn messages(dir: &TempDir) -> u64 {
    value(dir.path(), "SELECT count(*) FROM conversation_messages")
}

fn open(dir: &TempDir) {
    let setup = Setup::sqlite(dir.path());
    drop(setup.open(setup.options()).unwrap());
}

/// Returns the number of the root page of a table or an index.
fn root(dir: &TempDir, name: &str) -> u64 {
    value(dir.path(), &format!("SELECT rootpage FROM sqlite_schema WHERE name = '{name}'"))
}

fn overwrite(file: &Path, page: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[0xa5; 4096], (page - 1) * 4096).unwrap();
}

#[tokio::test]
async fn a_file_that_is_sound_is_left_where_it_is() {
    let (dir, file) = closed().await;
    open(&dir);
    assert!(quarantines(&file).is_empty());
}

#[tokio::test]
async fn every_row_is_found_where_the_root_of_its_tree_is_gone() {
    let (dir, file) = closed().await;
    let root = root(&dir, "conversation_messages");
    assert_eq!(
        std::fs::read(&file).unwrap()[(usize::try_from(root).unwrap() - 1) * 4096],
        5,
        "it has leaves"
    );
    overwrite(&file, root);
    open(&dir);
    assert_eq!(messages(&dir), MESSAGES);
    let report = std::fs::read_to_string(quarantines(&file)[0].join("report.txt")).unwrap();
    assert!(
        report.contains("saved 300 messages, 1 sessions")
            && report.contains("nothing is known to be missing")
    );
}

#[tokio::test]
async fn every_row_is_found_where_the_first_page_with_the_header_and_the_schema_is_gone() {
    let (dir, file) = closed().await;
    overwrite(&file, 1);
    open(&dir);
    assert_eq!(messages(&dir), MESSAGES);
}

#[tokio::test]
async fn a_session_whose_row_is_gone_is_written_again_from_what_else_tells_of_it() {
    let (dir, file) = closed().await;
    overwrite(&file, root(&dir, "conversation_sessions"));
    open(&dir);
    let of = "SELECT user_id || ' ' || status || ' ' || message_count FROM conversation_sessions";
    assert_eq!(value::<String>(dir.path(), of), format!("{} abandoned {MESSAGES}", crate::support::USER));
}

#[tokio::test]
async fn rows_with_words_of_other_programs_are_saved_as_they_are() {
    let (dir, file) = closed().await;
    sqlite(dir.path())
        .execute_batch(
            "PRAGMA ignore_check_constraints = 1;
             UPDATE conversation_sessions SET status = 'hacked';
             UPDATE conversation_messages SET role = 'agent' WHERE rowid = 1;
             UPDATE conversation_messages SET kind = 'evil' WHERE rowid = 2;
             PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .unwrap();
    // Damage to the table `changes` triggers the salvage. Every row of the other tables must survive,
    // including values that talktrack does not know.
    overwrite(&file, root(&dir, "changes"));
    open(&dir);
    assert_eq!((messages(&dir), quarantines(&file).len()), (MESSAGES, 1));
    let words = "SELECT (SELECT status FROM conversation_sessions) || ' ' || \
                 (SELECT count(*) FROM conversation_messages WHERE role = 'agent' OR kind = 'evil')";
    assert_eq!(value::<String>(dir.path(), words), "hacked 2");
}

#[tokio::test]
async fn what_is_missing_is_counted_and_leaves_the_books() {
    let (dir, file) = closed().await;
    let leaf = "SELECT pageno FROM dbstat WHERE name = 'conversation_messages' AND pagetype = 'leaf' LIMIT 1 OFFSET 3";
    let on_it = "SELECT ncell FROM dbstat WHERE name = 'conversation_messages' AND pagetype = 'leaf' LIMIT 1 OFFSET 3";
    let leaf = value::<u64>(dir.path(), leaf);
    let lost = value::<u64>(dir.path(), on_it);
    overwrite(&file, leaf);
    open(&dir);
    assert_eq!(messages(&dir), MESSAGES - lost);
    let books = "SELECT durable = stored AND stored = inserted AND inserted = ?1 FROM books";
    let balanced: bool = sqlite(dir.path()).query_row(books, [MESSAGES - lost], |row| row.get(0)).unwrap();
    assert!(balanced);
    let report = std::fs::read_to_string(quarantines(&file)[0].join("report.txt")).unwrap();
    assert!(
        report.contains(&format!("missing: {lost} messages, 0 that waited for the store and 0 dead letters")),
        "{report}"
    );
    assert!(report.contains(&format!("{} of {MESSAGES} messages", MESSAGES - lost)), "{report}");
}

#[tokio::test]
async fn a_draft_that_a_kill_left_behind_is_thrown_away_and_the_salvage_begins_again() {
    let (dir, file) = closed().await;
    overwrite(&file, root(&dir, "conversation_messages"));
    let cut_short = dir.path().join("quarantine/2026-01-01T00-00-00.000000Z");
    std::fs::create_dir_all(&cut_short).unwrap();
    std::fs::write(cut_short.join("draft.db"), "half of it").unwrap();
    open(&dir);
    assert!(!cut_short.exists());
    assert_eq!((messages(&dir), quarantines(&file).len()), (MESSAGES, 1));
}

/// The kill may happen at any moment between the completion of the new file and its move into place.
#[tokio::test]
async fn a_new_file_that_a_kill_kept_from_its_place_is_put_there_by_the_next_start() {
    for moved in 0..3 {
        let (dir, file) = closed().await;
        let broken = std::fs::read(&file).unwrap();
        let cut_short = dir.path().join("quarantine/2026-01-01T00-00-00.000000Z");
        std::fs::create_dir_all(&cut_short).unwrap();
        std::fs::copy(&file, cut_short.join("salvaged.db")).unwrap();
        overwrite(&file, root(&dir, "conversation_messages"));
        std::fs::write(dir.path().join("talktrack.db-wal"), "broken too").unwrap();
        let harmed = std::fs::read(&file).unwrap();
        for name in ["talktrack.db-wal", DATABASE_FILE].iter().take(moved) {
            let _ = std::fs::rename(dir.path().join(name), cut_short.join(name));
        }
        open(&dir);
        assert_eq!(messages(&dir), MESSAGES, "{moved} files were moved before the kill");
        assert_eq!(quarantines(&file), std::slice::from_ref(&cut_short), "nothing is salvaged twice");
        assert!(std::fs::read(cut_short.join(DATABASE_FILE)).unwrap() == harmed && harmed != broken);
        assert_eq!(std::fs::read(cut_short.join("talktrack.db-wal")).unwrap(), b"broken too");
    }
}

#[tokio::test]
async fn a_file_that_has_become_empty_is_missed() {
    let (dir, file) = closed().await;
    std::fs::write(&file, "").unwrap();
    open(&dir);
    assert_eq!((messages(&dir), quarantines(&file).len()), (0, 1));
}

/// Guards the locks of open connections. If the salvage read the file directly and closed it, the system would
/// release the locks of every connection of this process, and another process could remove the WAL from under them.
#[tokio::test]
async fn a_file_that_this_process_has_open_keeps_its_locks() {
    let (dir, file) = closed().await;
    let reader = sqlite(dir.path());
    reader.query_row("SELECT count(*) FROM conversation_messages", [], |_| Ok(())).unwrap();
    let locks = || {
        let id = std::process::id().to_string();
        let inode = format!(":{} ", std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap()));
        let held = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        held.lines().filter(|line| line.contains(&id) && line.contains(&inode)).count()
    };
    let before = locks();
    let setup = Setup::sqlite(dir.path());
    let _tracker = setup.open(setup.options()).unwrap();
    assert!(locks() >= before, "{before} locks before, {} after", locks());
}

#[tokio::test]
async fn a_new_file_may_be_read_by_nobody_who_could_not_read_the_broken_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, file) = closed().await;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    overwrite(&file, root(&dir, "conversation_messages"));
    open(&dir);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Regression test, found by flipping bytes: behind a record whose `seq` claimed the year 3061, no new record was read.
#[tokio::test]
async fn a_waiting_record_whose_number_has_rotted_is_known_by_its_body() {
    let scene = Scene::outbox().await;
    let broken = scene.copy();
    let rot = "UPDATE journal SET seq = seq * 20, message_id = 'rotten' WHERE seq = (SELECT max(seq) FROM journal WHERE message_id IS NOT NULL)";
    assert_eq!(sqlite(broken.path()).execute(rot, []).unwrap(), 1);
    // A second damage, only to trigger the salvage.
    overwrite(&File::Database.of(broken.path()), root(&broken, "journal_messages"));
    scene.judge(&broken, &scene.hit(File::Index, &[])).await;
    assert_eq!(value::<u64>(broken.path(), "SELECT count(*) FROM dead_letters"), 0);
}
