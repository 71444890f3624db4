//! The write-ahead log: what is only there, what SQLite would ignore, and what was never committed.

use sqlite_salvage::{Value, WalDamage};

use crate::support::{PAGE, Scene, flip, rows_of, words_of};

const FRAME: u64 = 24 + PAGE;

/// A database as a crash leaves it: one row in the file, and 20 committed transactions with one row each in the log.
fn crashed() -> Scene {
    let scene = Scene::new(
        "PRAGMA journal_mode = WAL; CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT);
         INSERT INTO words VALUES (1, 'word number 1'); PRAGMA wal_checkpoint(TRUNCATE)",
    );
    let connection = scene.connect();
    connection.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    for id in 2..=21 {
        connection.execute("INSERT INTO words VALUES (?1, 'word number ' || ?1)", [id]).unwrap();
    }
    scene.copy()
}

fn log_bytes(scene: &Scene) -> u64 {
    std::fs::metadata(scene.wal()).unwrap().len()
}

fn cut(scene: &Scene, length: u64) {
    std::fs::OpenOptions::new().write(true).open(scene.wal()).unwrap().set_len(length).unwrap();
}

#[test]
fn rows_of_a_log_that_was_not_checkpointed_are_found() {
    let scene = crashed();
    assert_eq!(log_bytes(&scene), 32 + 20 * FRAME);
    let database = scene.open();
    assert_eq!(words_of(&database), (1..=21).collect::<Vec<_>>());
    assert_eq!(
        (database.wal().page_count(), database.wal().damage(), database.wal().torn_frames()),
        (1, None, 0)
    );
}

#[test]
fn rows_are_found_if_only_the_log_is_left() {
    let scene = crashed();
    std::fs::remove_file(scene.path()).unwrap();
    let database = scene.open();
    assert_eq!(words_of(&database), (1..=21).collect::<Vec<_>>());
}

#[test]
fn a_new_database_whose_file_is_still_empty_is_read_from_the_log() {
    let scene = Scene::new("");
    let connection = scene.connect();
    connection
        .execute_batch(
            "PRAGMA page_size = 1024; PRAGMA encoding = 'UTF-16le'; PRAGMA journal_mode = WAL;
             PRAGMA wal_autocheckpoint = 0; CREATE TABLE words (word); INSERT INTO words VALUES ('a')",
        )
        .unwrap();
    let scene = scene.copy();
    let database = scene.open();
    assert_eq!(database.page_size(), 1024);
    assert_eq!(rows_of(&database, "words")[0].values, [Value::Text(vec![b'a', 0])]);
}

#[test]
fn a_broken_frame_costs_nothing_that_a_later_frame_has() {
    let scene = crashed();
    flip(&scene.wal(), 32 + 4 * FRAME + 24 + 500);
    let database = scene.open();
    assert_eq!(words_of(&database), (1..=21).collect::<Vec<_>>(), "the frames after it are used");
    assert_eq!(database.wal().damage(), Some(WalDamage::BrokenFrame { ignored: 16 }));
    let sqlite: u64 = scene.connect().query_row("SELECT count(*) FROM words", [], |row| row.get(0)).unwrap();
    assert_eq!(sqlite, 5, "SQLite stops at the broken frame");
}

#[test]
fn the_version_before_a_broken_last_frame_is_returned() {
    let scene = crashed();
    flip(&scene.wal(), 32 + 19 * FRAME + 24 + 500);
    // Without SQLite's index of the log, the last frame looks like a transaction that was torn by a power failure.
    std::fs::remove_file(scene.path().with_file_name("test.db-shm")).unwrap();
    let database = scene.open();
    assert_eq!(words_of(&database), (1..=20).collect::<Vec<_>>());
    assert_eq!((database.wal().damage(), database.wal().torn_frames()), (None, 1));
}

#[test]
fn a_broken_header_of_the_log_costs_nothing() {
    let scene = crashed();
    flip(&scene.wal(), 3);
    let database = scene.open();
    assert_eq!(words_of(&database), (1..=21).collect::<Vec<_>>());
    assert_eq!(database.wal().damage(), Some(WalDamage::BrokenHeader { ignored: 20 }));
}

#[test]
fn a_missing_log_is_damage_if_its_index_knows_of_frames() {
    let scene = crashed();
    std::fs::remove_file(scene.wal()).unwrap();
    let database = scene.open();
    assert_eq!(words_of(&database), [1]);
    assert_eq!(database.wal().damage(), Some(WalDamage::Missing { frames: 20 }));
    assert_eq!(
        database.wal().damage().unwrap().to_string(),
        "its write-ahead log is missing, with 20 frames that exist nowhere else"
    );
}

#[test]
fn a_transaction_without_its_end_is_not_read() {
    let scene =
        Scene::new("PRAGMA journal_mode = WAL; CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)");
    let connection = scene.connect();
    connection
        .execute_batch(
            "PRAGMA wal_autocheckpoint = 0; INSERT INTO words VALUES (1, 'word number 1');
             WITH RECURSIVE n(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
             INSERT INTO words SELECT n, 'word number ' || n FROM n",
        )
        .unwrap();
    let scene = scene.copy();
    std::fs::remove_file(scene.path().with_file_name("test.db-shm")).unwrap();
    assert_eq!(words_of(&scene.open()).len(), 1000);
    cut(&scene, log_bytes(&scene) - FRAME);
    assert_eq!(words_of(&scene.open()), [1], "the frame that ends the transaction is missing");
}

#[test]
fn a_log_that_is_cut_or_flipped_anywhere_returns_only_true_words() {
    let scene = crashed();
    let whole = std::fs::read(scene.wal()).unwrap();
    for place in (0..whole.len()).step_by(509) {
        cut(&scene, place as u64);
        let found = words_of(&scene.open());
        assert!(found.starts_with(&[1]), "{found:?}");
        std::fs::write(scene.wal(), &whole).unwrap();
        flip(&scene.wal(), place as u64);
        assert!(words_of(&scene.open()).len() >= 19, "byte {place}");
        std::fs::write(scene.wal(), &whole).unwrap();
    }
}
