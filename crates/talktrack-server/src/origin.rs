//! Which pages may connect from a browser. Browsers let any page open a WebSocket to this machine, and where no identity is
//! checked, a page from elsewhere could write into its user's conversations. Browsers always say where a page came from;
//! other programs do not.

use std::net::IpAddr;

use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderValue, Uri};

use crate::error::Problem;

/// Refuses pages that come neither from this machine nor from one of the allowed origins, which are in lower case.
pub(crate) fn check(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    if is_welcome(origin, allowed) {
        return Ok(());
    }
    Err(Problem::forbidden(
        "Origin: only pages from this machine (localhost) and of allowed_origins may connect",
    ))
}

/// Whether pages of this origin may connect, and read what is answered.
pub(crate) fn is_welcome(origin: &HeaderValue, allowed: &[String]) -> bool {
    origin.to_str().is_ok_and(|origin| is_local(origin) || is_allowed(origin, allowed))
}

fn is_allowed(origin: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|allowed| allowed == "*" || origin.eq_ignore_ascii_case(allowed))
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

    #[test]
    fn an_allowed_origin_is_exactly_one_that_is_listed() {
        let allowed = ["https://app.example.com".to_owned(), "http://dev.example:3000".to_owned()];
        assert!(
            is_allowed("https://app.example.com", &allowed)
                && is_allowed("HTTP://dev.example:3000", &allowed)
        );
        for origin in
            ["http://app.example.com", "https://app.example.com:8443", "https://example.com", "null", ""]
        {
            assert!(!is_allowed(origin, &allowed), "{origin}");
        }
        assert!(is_allowed("null", &["*".to_owned()]) && !is_allowed("https://app.example.com", &[]));
    }
}
