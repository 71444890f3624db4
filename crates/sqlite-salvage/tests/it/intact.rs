//! Files without damage: every value comes back as SQLite wrote it.

use sqlite_salvage::{Database, OpenError, Options, Value};

use crate::support::{Scene, rows_of, words_of};

#[test]
fn every_row_is_found_with_its_rowid_and_values() {
    let scene = Scene::new(
        "CREATE TABLE things (id INTEGER PRIMARY KEY, word TEXT, number REAL, bytes BLOB);
         INSERT INTO things VALUES (-3, NULL, 0.5, x'00ff'), (7, 'seven', -1e300, x''), (9223372036854775807, '', 2, 1);
         CREATE TABLE integers (number);
         INSERT INTO integers VALUES (0), (1), (-1), (127), (-32768), (8388607), (-2147483648), (140737488355327),
                                     (-9223372036854775808)",
    );
    let database = scene.open();
    let things: Vec<_> =
        rows_of(&database, "things").into_iter().map(|row| (row.rowid, row.values)).collect();
    let (text, blob) = (|text: &str| Value::Text(text.into()), |bytes: &[u8]| Value::Blob(bytes.into()));
    let expected = [
        (Some(-3), vec![Value::Null, Value::Null, Value::Real(0.5), blob(&[0, 255])]),
        (Some(7), vec![Value::Null, text("seven"), Value::Real(-1e300), blob(&[])]),
        (Some(i64::MAX), vec![Value::Null, text(""), Value::Integer(2), Value::Integer(1)]),
    ];
    assert_eq!(things, expected);
    let integers: Vec<_> = rows_of(&database, "integers").into_iter().flat_map(|row| row.values).collect();
    let expected = [0, 1, -1, 127, -32768, 8_388_607, -2_147_483_648, 140_737_488_355_327, i64::MIN];
    assert_eq!(integers, expected.map(Value::Integer));
    assert!(database.records().all(|record| record.is_ok()));
    assert!(database.has_valid_header());
}

#[test]
fn the_pages_of_each_table_are_known_and_deep_trees_are_followed() {
    let scene = Scene::with_words();
    scene.connect().execute_batch("CREATE TABLE others (other); INSERT INTO others VALUES (1)").unwrap();
    let database = scene.open();
    assert_eq!(rows_of(&database, "words").len(), 1000);
    assert_eq!(rows_of(&database, "others").len(), 1);
    let entry = &database.schema()[0];
    assert_eq!((entry.kind.as_str(), entry.table.as_str()), ("table", "words"));
    assert_eq!(entry.sql.as_deref(), Some("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)"));
    assert_eq!(words_of(&database), (1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_table_without_rowids_and_an_index_have_values_but_no_rowids() {
    let scene = Scene::new(
        "CREATE TABLE capitals (country TEXT, capital TEXT, PRIMARY KEY (country)) WITHOUT ROWID;
         INSERT INTO capitals VALUES ('Peru', 'Lima'), ('Kenya', 'Nairobi');
         CREATE TABLE rivers (river TEXT);
         INSERT INTO rivers VALUES ('Nile');
         CREATE INDEX rivers_by_name ON rivers (river)",
    );
    let database = scene.open();
    let text = |text: &str| Value::Text(text.into());
    let capitals = rows_of(&database, "capitals");
    assert_eq!(capitals[0].values, [text("Kenya"), text("Nairobi")]);
    assert_eq!((capitals.len(), capitals[1].rowid), (2, None));
    assert_eq!(rows_of(&database, "rivers_by_name")[0].values, [text("Nile"), Value::Integer(1)]);
}

#[test]
fn long_values_are_read_from_their_overflow_pages() {
    let scene = Scene::new("CREATE TABLE texts (text TEXT)");
    let lengths = [3_000, 4_060, 4_061, 4_062, 4_096, 10_000, 1_000_000];
    for length in lengths {
        scene.connect().execute("INSERT INTO texts VALUES (?1)", ["ä".repeat(length / 2)]).unwrap();
    }
    let texts = rows_of(&scene.open(), "texts");
    let found: Vec<_> = texts.iter().map(|row| row.values[0].text().unwrap().len()).collect();
    assert_eq!(found, lengths.map(|length| length / 2 * 2));
    let database = Database::open_with(scene.path(), &Options::new().max_record_bytes(100_000)).unwrap();
    assert_eq!(database.records().filter(Result::is_err).count(), 1, "the row of a million bytes");
}

#[test]
fn deleted_rows_are_not_returned_unless_free_pages_are_read() {
    let scene = Scene::with_words();
    let connection = scene.connect();
    connection
        .execute_batch("PRAGMA secure_delete = 0; DROP TABLE words; CREATE TABLE words (a, b)")
        .unwrap();
    drop(connection);
    assert_eq!(words_of(&scene.open()), [0; 0]);
    let all = Database::open_with(scene.path(), &Options::new().read_free_pages(true)).unwrap();
    assert!(words_of(&all).len() > 500, "most leaves are still as they were");
}

#[test]
fn a_file_that_does_not_exist_and_an_impossible_page_size_are_errors() {
    let scene = Scene::with_words();
    let missing = scene.path().with_file_name("missing.db");
    assert!(matches!(Database::open(&missing), Err(OpenError::NotFound(path)) if path == missing));
    let opened = Database::open_with(scene.path(), &Options::new().page_size(1000));
    assert!(matches!(opened, Err(OpenError::InvalidPageSize(1000))));
}

#[test]
fn nothing_is_written() {
    let scene = Scene::with_words();
    let before = std::fs::read(scene.path()).unwrap();
    assert_eq!(words_of(&scene.open()).len(), 1000);
    assert_eq!(std::fs::read(scene.path()).unwrap(), before);
    assert!(!scene.wal().exists());
}
