//! Ports that servers may listen on.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that systems give to outgoing connections. Above, a client that tries a stopped server again and
/// again would one day get the server's port as its own, and be connected with itself.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// A port of 127.0.0.1 on which nothing listens now. Somebody else may take it before the caller does.
pub(crate) fn free() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Processes that run side by side begin apart from each other.
    let beginning = process::id().wrapping_mul(97);
    (0..COUNT)
        .map(|_| FIRST + beginning.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of 22,000 ports is free")
}
