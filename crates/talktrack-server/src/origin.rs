//! Decides which pages may connect from a browser. Browsers let any page open a WebSocket to this machine, so without
//! authentication a foreign page could write into its visitor's conversations. Browsers always send the origin of a
//! page; other programs do not.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};

use crate::authority::{Authority, PageOrigin};
use crate::error::Problem;

/// The rule for which pages may connect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origins<'a> {
    /// The origins from the settings, in lower case.
    pub(crate) allowed: &'a [String],
    /// True if no identity is checked, so that only this machine is trusted. With DNS rebinding, a foreign page looks
    /// as if it were the server's own.
    pub(crate) is_open: bool,
}

impl Origins<'_> {
    /// Refuses requests from foreign pages.
    pub(crate) fn check_origin(self, headers: &HeaderMap) -> Result<(), Problem> {
        let refused = || {
            let detail =
                "Origin: only pages from this machine (localhost) and of allowed_origins may connect";
            Err(Problem::forbidden(detail))
        };
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) => {
                let is_own = !self.is_open && is_of_this_server(origin, headers);
                if is_own || is_welcome(origin, self.allowed) { Ok(()) } else { refused() }
            }
            // Parsers differ in which of two values they use.
            (Some(_), Some(_)) => refused(),
        }
    }

    /// Refuses requests of foreign pages that change something: the browser may send its user's cookie, or may be on
    /// the trusted machine.
    pub(crate) fn check_writing(self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        if method.is_safe() { Ok(()) } else { self.check_origin(headers) }
    }

    /// If only this machine is trusted, the `Host` must be a name of this machine. This applies to every path,
    /// including `/healthz` and `/readyz`: otherwise a page could use DNS rebinding to read what is wrong with the
    /// server.
    pub(crate) fn check_host(self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.is_open {
            return Ok(());
        }
        // If the target of the request is an absolute URL, its host takes precedence. Both hosts must be valid.
        let in_target = uri.authority().map(|authority| authority.as_str());
        let in_header = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
        if in_target.into_iter().chain(in_header).all(|host| self.is_name_of_this_machine(host)) {
            return Ok(());
        }
        let detail = "Host: without authentication, the server answers only to the names of this machine (localhost) and of \
                      allowed_origins";
        Err(Problem::forbidden(detail))
    }

    fn is_name_of_this_machine(self, host: &str) -> bool {
        let Some(host) = Authority::parse(host) else { return false };
        let mut allowed = self.allowed.iter().filter_map(|origin| PageOrigin::parse(origin));
        host.is_local() || allowed.any(|origin| origin.is_of(&host))
    }
}

fn is_of_this_server(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().and_then(Authority::parse);
    let origin = origin.to_str().ok().and_then(PageOrigin::parse);
    origin.zip(host).is_some_and(|(origin, host)| origin.is_of(&host))
}

/// True if the request was sent by a page of this server or of an origin in the settings, or by no page. Other pages of
/// this machine are not accepted here, because the browser sends them the same cookie.
pub(crate) fn is_own_page(headers: &HeaderMap, allowed: &[String]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => is_of_this_server(origin, headers) || is_named(origin, allowed),
        (Some(_), Some(_)) => false,
    }
}

fn is_named(origin: &HeaderValue, allowed: &[String]) -> bool {
    let origin = origin.to_str().ok().and_then(PageOrigin::parse);
    origin.is_some() && allowed.iter().any(|allowed| PageOrigin::parse(allowed) == origin)
}

/// True if pages of this origin may connect and read responses.
pub(crate) fn is_welcome(origin: &HeaderValue, allowed: &[String]) -> bool {
    origin.to_str().is_ok_and(|origin| is_local(origin) || is_allowed(origin, allowed))
}

fn is_allowed(origin: &str, allowed: &[String]) -> bool {
    let parsed = PageOrigin::parse(origin);
    let is_it = |allowed: &str| parsed.is_some() && PageOrigin::parse(allowed) == parsed;
    allowed.iter().any(|allowed| allowed == "*" || is_it(allowed))
}

fn is_local(origin: &str) -> bool {
    PageOrigin::parse(origin).is_some_and(|origin| origin.is_local())
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
        assert_eq!(origins.check_origin(&headers("talk.example", "https://talk.example")), Ok(()));
        assert_eq!(origins.check_origin(&headers("talk.example:8443", "https://TALK.example:8443")), Ok(()));
        assert!(origins.check_origin(&headers("talk.example", "https://evil.example")).is_err());
        assert!(origins.check_origin(&headers("talk.example", "null")).is_err());
        assert_eq!(origins.check_host(&Uri::from_static("/"), &headers("talk.example", "null")), Ok(()));
    }

    #[test]
    fn without_one_only_the_names_of_this_machine_count() {
        let origins = Origins { allowed: &["https://dev.example".to_owned()], is_open: true };
        assert!(origins.check_origin(&headers("rebound.example", "http://rebound.example")).is_err());
        let check = |target: &'static str, host: &'static str| {
            origins.check_host(&Uri::from_static(target), &headers(host, "null"))
        };
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "dev.example", "LocalHost"] {
            assert_eq!(check("/readyz", host), Ok(()), "{host}");
        }
        for host in ["rebound.example:8080", "localhost.", "me@localhost", "localhost.evil.example", ""] {
            assert!(check("/", host).is_err(), "{host}");
        }
        assert!(check("http://rebound.example/", "localhost").is_err(), "a whole URL as the target");
        let mut two = headers("localhost", "http://localhost");
        two.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(origins.check_host(&Uri::from_static("/"), &two).is_err());
        let mut two = headers("localhost", "http://localhost");
        two.append(ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(origins.check_origin(&two).is_err());
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
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://example.com",
            "null",
            "",
            "https://app.example.com.",
            "https://app.example.com/",
        ] {
            assert!(!is_allowed(origin, &allowed), "{origin}");
        }
        assert!(is_allowed("null", &["*".to_owned()]) && !is_allowed("https://app.example.com", &[]));
    }
}
