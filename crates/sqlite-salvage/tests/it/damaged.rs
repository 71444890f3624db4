//! Damage to the database file: it costs the rows on the damaged pages, and no others.

use sqlite_salvage::{Database, Unreadable};

use crate::support::{PAGE, Scene, flip, rows_of, words_of, write_at};

#[test]
fn a_zeroed_root_page_costs_no_row() {
    let scene = Scene::with_words();
    let root = scene.root_page("words");
    scene.overwrite_page(root, 0);
    let database = scene.open();
    assert_eq!(words_of(&database), (1..=1000).collect::<Vec<_>>());
    assert_eq!(rows_of(&database, "words").len(), 0, "the tree is gone");
}

#[test]
fn a_lost_first_page_costs_the_schema_and_no_row() {
    let scene = Scene::with_words();
    scene.overwrite_page(1, 0xa5);
    let database = scene.open();
    assert!(!database.has_valid_header() && database.schema().is_empty());
    assert_eq!(words_of(&database).len(), 1000);
}

#[test]
fn a_truncated_file_costs_the_rows_behind_its_end() {
    let scene = Scene::with_words();
    let length = std::fs::metadata(scene.path()).unwrap().len();
    assert!(length > 6 * PAGE);
    let file = std::fs::OpenOptions::new().write(true).open(scene.path()).unwrap();
    file.set_len(length - 2 * PAGE - 100).unwrap();
    let left = words_of(&scene.open());
    assert!(left.len() > 500 && left.len() < 1000, "{} rows are left", left.len());
}

#[test]
fn a_file_that_is_cut_anywhere_never_returns_a_wrong_word() {
    let scene = Scene::with_words();
    let whole = std::fs::read(scene.path()).unwrap();
    for length in (0..whole.len()).step_by(997) {
        std::fs::write(scene.path(), &whole[..length]).unwrap();
        assert!(words_of(&scene.open()).len() <= 1000);
    }
}

#[test]
fn a_broken_row_is_reported_and_its_neighbours_are_returned() {
    let scene = Scene::with_words();
    let pages = scene.open().tree(scene.root_page("words").try_into().unwrap());
    let leaf = u64::from(*pages.last().unwrap());
    // The first cell pointer leads behind the end of the page.
    write_at(&scene.path(), (leaf - 1) * PAGE + 8, &[0xff, 0xff]);
    let database = scene.open();
    let broken: Vec<_> = database.records().filter_map(Result::err).collect();
    assert_eq!(broken.len(), 1);
    assert!(
        matches!(broken[0], Unreadable::Record { page, cell: 0, is_row: true } if u64::from(page) == leaf),
        "{broken:?}"
    );
    assert_eq!(words_of(&database).len(), 999);
}

#[test]
fn a_chain_of_overflow_pages_that_is_broken_costs_its_row_only() {
    let scene = Scene::new(
        "CREATE TABLE texts (text TEXT);
         INSERT INTO texts VALUES ('short'), (printf('%.*c', 20000, 'x')), ('short')",
    );
    let sql =
        "SELECT pageno FROM dbstat WHERE name = 'texts' AND pagetype = 'overflow' ORDER BY path LIMIT 1";
    let first: u64 = scene.connect().query_row(sql, [], |row| row.get(0)).unwrap();
    let counts = |database: &Database| {
        let readable = database.records().flatten().filter(|record| record.values.len() == 1).count();
        (readable, database.records().filter(Result::is_err).count())
    };
    assert_eq!(counts(&scene.open()), (3, 0));
    let next = u32::try_from(first).unwrap().to_be_bytes();
    // A page that is its own successor, and one whose successor does not exist.
    for successor in [next, [0, 1, 0, 0]] {
        write_at(&scene.path(), (first - 1) * PAGE, &successor);
        assert_eq!(counts(&scene.open()), (2, 1));
    }
}

#[test]
fn a_length_that_is_never_reached_ends_where_the_chain_repeats() {
    let scene =
        Scene::new("CREATE TABLE texts (text TEXT); INSERT INTO texts VALUES (printf('%.*c', 20000, 'x'))");
    let root = scene.root_page("texts");
    let page = std::fs::read(scene.path()).unwrap().split_off(usize::try_from((root - 1) * PAGE).unwrap());
    let cell = u64::from(u16::from_be_bytes([page[8], page[9]]));
    // The length of the payload becomes 2 to the power of 21: three bytes of a varint, as before.
    write_at(&scene.path(), (root - 1) * PAGE + cell, &[0xff, 0xff, 0x7f]);
    let database = scene.open();
    assert_eq!(database.records().filter(Result::is_err).count(), 1);
}

#[test]
fn a_freelist_that_lists_itself_ends() {
    let scene = Scene::with_words();
    scene.connect().execute_batch("DROP TABLE words").unwrap();
    let trunk = std::fs::read(scene.path()).unwrap();
    let trunk = u32::from_be_bytes(trunk[32..36].try_into().unwrap());
    write_at(&scene.path(), u64::from(trunk - 1) * PAGE, &trunk.to_be_bytes());
    assert_eq!(words_of(&scene.open()).len(), 0);
}

#[test]
fn flipped_bytes_never_cost_more_than_their_pages() {
    let scene = Scene::with_words();
    let whole = std::fs::read(scene.path()).unwrap();
    let pages = whole.len() / 4096;
    let most_on_a_page = 260;
    for place in (0..whole.len()).step_by(61) {
        flip(&scene.path(), place as u64);
        let found = words_of(&scene.open()).len();
        let in_freelist_or_header = place < 100;
        assert!(
            found + most_on_a_page >= 1000 || in_freelist_or_header,
            "byte {place} of {pages} pages leaves {found} rows"
        );
        std::fs::write(scene.path(), &whole).unwrap();
    }
}
