//! Free ports for servers.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first port. The range is below the ports that systems use for outgoing connections: otherwise a
/// client that retries a stopped server could get the server's port as its own, and be connected to itself.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// Returns a port of 127.0.0.1 on which no process listens now. Another process may take it before the
/// caller does.
pub(crate) fn free() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Concurrent processes start at different ports.
    let beginning = process::id().wrapping_mul(97);
    (0..COUNT)
        .map(|_| FIRST + beginning.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of 22,000 ports is free")
}
