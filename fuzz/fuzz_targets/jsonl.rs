//! Replays arbitrary bytes as a JSONL file, and imports them several times.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let data_dir = tempfile::tempdir().expect("a temporary directory can be made");
    talktrack_server::fuzzing::jsonl(bytes, data_dir.path());
});
