//! Opens, reads and uses a damaged data directory.

#![no_main]

libfuzzer_sys::fuzz_target!(|damage: &[u8]| {
    let data_dir = tempfile::tempdir().expect("a temporary directory can be made");
    talktrack_testkit::damage::open_damaged(damage, data_dir.path());
});
