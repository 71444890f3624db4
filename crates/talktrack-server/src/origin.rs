//! Which pages may connect from a browser. Browsers let any page open a WebSocket to this machine, and where no identity is
//! checked, a page from elsewhere could write into its user's conversations. Browsers always say where a page came from;
//! other programs do not.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};

use crate::error::Problem;

/// Which pages are not from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origins<'a> {
    /// As the settings name them, in lower case.
    pub(crate) allowed: &'a [String],
    /// No identity is checked: only this machine is trusted. A page whose name was made to lead here (DNS rebinding) looks as
    /// if it were the server's own.
    pub(crate) is_open: bool,
}

impl Origins<'_> {
    /// Refuses what pages from elsewhere ask for.
    pub(crate) fn check(self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let is_own = !self.is_open && is_of_this_server(origin, headers);
        if is_own || is_welcome(origin, self.allowed) {
            return Ok(());
        }
        let detail = "Origin: only pages from this machine (localhost) and of allowed_origins may connect";
        Err(Problem::forbidden(detail))
    }

    /// Refuses requests that change something and were made by a page from elsewhere: the browser may send its user's cookie
    /// along, or be on the machine that is trusted.
    pub(crate) fn check_writing(self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        if method.is_safe() { Ok(()) } else { self.check(headers) }
    }

    /// Where only this machine is trusted, a browser must know the server by a name of this machine.
    pub(crate) fn check_host(self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(host) = headers.get(HOST).filter(|_| self.is_open) else { return Ok(()) };
        let as_origin =
            |scheme: &str| HeaderValue::try_from(format!("{scheme}://{}", host.to_str().ok()?)).ok();
        let names = ["http", "https"].into_iter().filter_map(as_origin);
        if names.into_iter().any(|name| is_welcome(&name, self.allowed)) {
            return Ok(());
        }
        let detail = "Host: without auth configured the server answers to the names of this machine (localhost) and of \
                      allowed_origins only";
        Err(Problem::forbidden(detail))
    }
}

fn is_of_this_server(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let authority =
        |origin: &str| Some(origin.parse::<Uri>().ok()?.authority()?.as_str().to_ascii_lowercase());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    host.is_some() && host == origin.to_str().ok().and_then(authority)
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

    fn headers(host: &'static str, origin: &'static str) -> HeaderMap {
        [(HOST, host), (ORIGIN, origin)]
            .map(|(name, text)| (name, HeaderValue::from_static(text)))
            .into_iter()
            .collect()
    }

    #[test]
    fn with_an_identity_the_servers_own_pages_are_welcome_under_whatever_name() {
        let origins = Origins { allowed: &[], is_open: false };
        assert_eq!(origins.check(&headers("talk.example", "https://talk.example")), Ok(()));
        assert_eq!(origins.check(&headers("talk.example:8443", "https://TALK.example:8443")), Ok(()));
        assert!(origins.check(&headers("talk.example", "https://evil.example")).is_err());
        assert!(origins.check(&headers("talk.example", "null")).is_err());
        assert_eq!(origins.check_host(&headers("talk.example", "null")), Ok(()));
    }

    #[test]
    fn without_one_only_the_names_of_this_machine_count() {
        let origins = Origins { allowed: &["https://dev.example".to_owned()], is_open: true };
        assert!(origins.check(&headers("rebound.example", "http://rebound.example")).is_err());
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "dev.example"] {
            assert_eq!(origins.check_host(&headers(host, "null")), Ok(()), "{host}");
        }
        assert!(origins.check_host(&headers("rebound.example:8080", "null")).is_err());
        let evil = headers("localhost", "http://evil.example");
        assert_eq!(origins.check_writing(&Method::GET, &evil), Ok(()));
        assert!(origins.check_writing(&Method::POST, &evil).is_err());
    }

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
