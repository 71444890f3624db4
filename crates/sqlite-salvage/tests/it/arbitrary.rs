//! Any bytes: nothing panics, and everything ends.

use std::io::Write as _;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use sqlite_salvage::{Database, Options};

use crate::support::Scene;

/// Reads everything that can be read.
fn read_all(path: &Path) {
    let mut options = vec![Options::new(), Options::new().read_free_pages(true).reserved_bytes(255)];
    options.extend([512, 1024, 65_536].map(|size| Options::new().page_size(size)));
    for options in options {
        let database = Database::open_with(path, &options).unwrap();
        for record in database.records() {
            let _ = record.map_err(|unreadable| unreadable.to_string());
        }
        for entry in database.schema() {
            let _ = entry.root_page.map(|root| database.records_on(database.tree(root)).count());
        }
        let _ = (database.wal().damage(), database.wal().torn_frames());
    }
}

/// Bytes that often look like parts of a database.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..300),
        Just(b"SQLite format 3\0".to_vec()),
        vec(prop_oneof![Just(0x0d), Just(0x0a), Just(0x02), Just(0x05), Just(0x00), Just(0xff)], 0..600),
        (any::<u8>(), 0..2000usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Places (out of 65,536 parts of a file), and the bytes that are written there.
fn damages() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    vec((any::<u16>(), vec(any::<u8>(), 1..16)), 1..40)
}

fn damage(whole: &[u8], damages: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for (place, with) in damages {
        let place = usize::from(*place) * bytes.len() / 65_536;
        let end = bytes.len().min(place + with.len());
        bytes[place..end].copy_from_slice(&with[..end - place]);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(file in pieces(), log in pieces(), index in vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        for (suffix, bytes) in [("", &file), ("-wal", &log), ("-shm", &index)] {
            let file = std::fs::File::create(dir.path().join(format!("test.db{suffix}")));
            file.unwrap().write_all(bytes).unwrap();
        }
        read_all(&path);
    }

    #[test]
    fn a_database_with_arbitrary_damage_never_panics(of_file in damages(), of_log in damages()) {
        let scene = Scene::new(
            "PRAGMA page_size = 512; PRAGMA journal_mode = WAL;
             CREATE TABLE words (word PRIMARY KEY, text) WITHOUT ROWID; CREATE TABLE texts (text, number);
             CREATE INDEX of_texts ON texts (number, text);
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40)
             INSERT INTO texts SELECT printf('%.*c', n * n, 'x'), n FROM n;
             INSERT INTO words SELECT number, text FROM texts; DELETE FROM texts WHERE number > 30",
        );
        let connection = scene.connect();
        connection.execute_batch("INSERT INTO texts SELECT text, word FROM words LIMIT 20").unwrap();
        let scene = scene.copy();
        for (path, damages) in [(scene.path(), of_file), (scene.wal(), of_log)] {
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, damage(&whole, &damages)).unwrap();
        }
        read_all(&scene.path());
    }
}
