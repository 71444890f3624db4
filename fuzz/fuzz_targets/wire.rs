//! The decoder of the protocol, and its answers.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| talktrack_server::fuzzing::wire(bytes));
