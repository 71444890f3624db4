//! Parses arbitrary bytes as frames of the protocol. Every frame must survive a round trip, and every error
//! must fit into an answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| talktrack_server::fuzzing::wire(bytes));
