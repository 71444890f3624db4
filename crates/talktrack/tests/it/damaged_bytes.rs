//! Data directories with randomly damaged bytes. (The fuzz target `journal` searches for the rare cases.)

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use talktrack_testkit::damage::open_damaged;

use crate::properties::{draws, hold};
use crate::support::dir;

/// Draws one change: the file, whether it is cut there, the offset, and the bytes to write.
fn change() -> impl Strategy<Value = Vec<u8>> {
    let place = prop_oneof![0..200u32, 0..300_000u32];
    // All bits clear, all bits set, the sign bit, and arbitrary bytes.
    let byte = || prop_oneof![Just(0u8), Just(0xff), Just(0x80), any::<u8>()];
    let bytes = prop::collection::vec(byte(), 1..9);
    let cut = prop::bool::weighted(0.1);
    (any::<bool>(), cut, place, bytes).prop_map(|(log, cut, place, bytes)| {
        let count = u8::try_from(bytes.len()).expect("a few bytes");
        let [one, two, three, _] = place.to_le_bytes();
        [&[u8::from(log) | u8::from(cut) << 1, one, two, three, count][..], &bytes].concat()
    })
}

#[test]
fn whatever_is_damaged_it_is_opened_or_refused_and_no_thread_dies() {
    let damage = (0..4u8, prop::collection::vec(change(), 0..6));
    let damage = damage.prop_map(|(kind, changes)| [vec![kind], changes.concat()].concat());
    let died = deaths();
    hold("damage", draws(60, 500), &damage, |damage| {
        let dir = dir();
        open_damaged(&damage, dir.path());
        if died.load(Ordering::SeqCst) == 0 { Ok(()) } else { Err("a thread of the tracker died".into()) }
    });
}

/// Regression test: a file whose header had a negative schema version was taken for sound and was migrated
/// from the first version on. The error that refused the start then contained the whole migration script.
#[test]
fn a_file_whose_schema_version_is_nonsense_is_opened_or_refused_in_one_line() {
    for version in [[0, 0, 0, 0], [0x80, 0, 0, 0], [0xff, 0xff, 0xff, 0xff], [0, 0, 0, 1]] {
        let dir = dir();
        // The second bit of the kind removes the WAL, which contains the first page too.
        open_damaged(&[&[2, 0, 60, 0, 0, 4][..], &version].concat(), dir.path());
    }
}

/// Regression test: the page number in a broken frame of the WAL was taken for the number of pages, and
/// the salvage looked for each of these pages, for half an hour.
#[test]
fn a_broken_frame_that_names_a_page_far_behind_the_file_is_no_reason_to_look_for_all_before_it() {
    let dir = dir();
    // The first change is one byte of the WAL's header, so that the salvage does not verify the first
    // frame. The second change is the page number of that frame.
    open_damaged(&[0, 1, 24, 0, 0, 1, 0x5a, 1, 32, 0, 0, 4, 0xf0, 0, 0, 0], dir.path());
}

/// Counts the panics in the library's own threads, which would otherwise go unnoticed.
fn deaths() -> &'static AtomicU32 {
    static DEATHS: AtomicU32 = AtomicU32::new(0);
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let name = std::thread::current().name().map(str::to_owned);
            if name.is_some_and(|name| name.starts_with("talktrack-")) {
                DEATHS.fetch_add(1, Ordering::SeqCst);
            }
            tell(panic);
        }));
    });
    &DEATHS
}
