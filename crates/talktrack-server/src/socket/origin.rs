//! Who may connect from a browser. Browsers let any page open a WebSocket to this machine, and while no identity is
//! checked, a page from elsewhere could write into its user's conversations. Browsers always say where a page came from;
//! other programs do not.

use std::net::IpAddr;

use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, StatusCode, Uri};

use crate::error::Problem;

/// Refuses pages that do not come from this machine.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.to_str().is_ok_and(is_local) => Ok(()),
        Some(_) => {
            let detail = "Origin: only pages from this machine (localhost) may connect";
            Err(Problem::new(StatusCode::FORBIDDEN, "unauthorized", detail))
        }
    }
}

fn is_local(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_from_this_machine_are_local() {
        for origin in ["http://localhost:3000", "http://127.0.0.1:8080", "https://[::1]", "http://LOCALHOST"]
        {
            assert!(is_local(origin), "{origin}");
        }
        for origin in
            ["https://example.com", "http://localhost.example.com", "http://192.168.0.7:8080", "null", ""]
        {
            assert!(!is_local(origin), "{origin}");
        }
    }
}
