//! Files in JSONL: replayed, and imported again and again.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let data_dir = tempfile::tempdir().expect("a temporary directory can be made");
    talktrack_server::fuzzing::jsonl(bytes, data_dir.path());
});
