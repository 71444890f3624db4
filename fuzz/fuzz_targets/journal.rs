//! A damaged data directory is opened, looked at and used.

#![no_main]

libfuzzer_sys::fuzz_target!(|damage: &[u8]| {
    let data_dir = tempfile::tempdir().expect("a temporary directory can be made");
    talktrack::testing::damage::open_damaged(damage, data_dir.path());
});
