//! Page sizes, reserved bytes and encodings of text.

use sqlite_salvage::{Database, Encoding, Options, Value};

use crate::support::{Scene, flip, rows_of, words_of, write_at};

#[test]
fn every_page_size_is_read() {
    for size in [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536] {
        let scene = Scene::new(&format!(
            "PRAGMA page_size = {size};
             CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT);
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
             INSERT INTO words SELECT n, 'word number ' || n FROM n;
             CREATE TABLE texts (text TEXT);
             INSERT INTO texts VALUES (printf('%.*c', 300000, 'x'))"
        ));
        let database = scene.open();
        assert_eq!((database.page_size(), words_of(&database).len()), (size, 500));
        assert_eq!(
            rows_of(&database, "texts")[0].values[0].text().unwrap().len(),
            300_000,
            "pages of {size}"
        );
    }
}

#[test]
fn the_page_size_is_given_if_the_header_is_lost() {
    let scene = Scene::new(
        "PRAGMA page_size = 1024;
         CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
         INSERT INTO words SELECT n, 'word number ' || n FROM n",
    );
    write_at(&scene.path(), 0, &[0; 1024]);
    let guessed = scene.open();
    assert_eq!((guessed.page_size(), guessed.has_valid_header()), (4096, false));
    let told = Database::open_with(scene.path(), &Options::new().page_size(1024)).unwrap();
    assert_eq!(words_of(&told).len(), 500);
}

#[test]
fn text_in_utf_16_is_decoded() {
    for (pragma, encoding) in [("UTF-16le", Encoding::Utf16Le), ("UTF-16be", Encoding::Utf16Be)] {
        let scene = Scene::new(&format!(
            "PRAGMA encoding = '{pragma}'; CREATE TABLE words (word TEXT); INSERT INTO words VALUES ('grüß 👋 dich')"
        ));
        let database = scene.open();
        assert_eq!(database.encoding(), encoding);
        let row = &rows_of(&database, "words")[0];
        let Value::Text(text) = &row.values[0] else { panic!("{row:?} is text") };
        assert_eq!(database.encoding().decode(text).as_deref(), Some("grüß 👋 dich"));
        assert_eq!(database.encoding().decode(&text[..text.len() - 1]), None, "half a unit is missing");
    }
}

#[test]
fn reserved_bytes_are_left_out_of_long_values() {
    let scene = Scene::new("CREATE TABLE empty (one)");
    // SQLite takes the reserved bytes of a file with the next VACUUM from a test control that rusqlite does not have. So
    // the header says that there are some, and a new database is written with it.
    let header_says = |reserved: u8| write_at(&scene.path(), 20, &[reserved]);
    header_says(32);
    scene
        .connect()
        .execute_batch(
            "CREATE TABLE texts (text TEXT); INSERT INTO texts VALUES (printf('%.*c', 20000, 'x'))",
        )
        .unwrap();
    let database = scene.open();
    assert_eq!(rows_of(&database, "texts")[0].values[0].text().unwrap().len(), 20_000);
    // The byte in the header is damaged, but the caller knows the true number.
    header_says(0);
    let damaged = scene.open();
    assert!(damaged.records().any(|record| record.is_err()), "the chain of overflow pages does not fit");
    let told = Database::open_with(scene.path(), &Options::new().reserved_bytes(32)).unwrap();
    assert_eq!(rows_of(&told, "texts")[0].values[0].text().unwrap().len(), 20_000);
}

#[test]
fn a_broken_encoding_in_the_header_costs_no_rows() {
    let scene = Scene::with_words();
    flip(&scene.path(), 57);
    let database = scene.open();
    assert_eq!((database.encoding(), database.has_valid_header()), (Encoding::Utf8, false));
    assert_eq!(words_of(&database).len(), 1000);
}
