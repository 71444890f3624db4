//! Which pages may connect from a browser. Browsers let any page open a WebSocket to this machine, and where no identity is
//! checked, a page from elsewhere could write into its user's conversations. Browsers always say where a page came from;
//! other programs do not.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};

use crate::authority::{Authority, PageOrigin};
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
            // Which of the two a reader takes is anybody's guess.
            (Some(_), Some(_)) => refused(),
        }
    }

    /// Refuses requests that change something and were made by a page from elsewhere: the browser may send its user's cookie
    /// along, or be on the machine that is trusted.
    pub(crate) fn check_writing(self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        if method.is_safe() { Ok(()) } else { self.check(headers) }
    }

    /// If only this machine is trusted, a browser must know the server by a name of this machine. Counts for every path, also
    /// `/healthz` and `/readyz`: with a name that was made to lead here (DNS rebinding) a page could read what is wrong.
    pub(crate) fn check_host(self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.is_open {
            return Ok(());
        }
        // The target of the request may be a whole URL, whose host counts then; both have to be right.
        let in_target = uri.authority().map(|authority| authority.as_str());
        let in_header = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
        if in_target.into_iter().chain(in_header).all(|host| self.is_name_of_this_machine(host)) {
            return Ok(());
        }
        let detail = "Host: without auth configured the server answers to the names of this machine (localhost) and of \
                      allowed_origins only";
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

/// True if no other page than one of this server's own, or of an origin that the settings name, has sent the request. Other
/// pages of this machine do not count here: a browser sends them our cookie too.
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

/// Whether pages of this origin may connect, and read what is answered.
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
        assert_eq!(origins.check(&headers("talk.example", "https://talk.example")), Ok(()));
        assert_eq!(origins.check(&headers("talk.example:8443", "https://TALK.example:8443")), Ok(()));
        assert!(origins.check(&headers("talk.example", "https://evil.example")).is_err());
        assert!(origins.check(&headers("talk.example", "null")).is_err());
        assert_eq!(origins.check_host(&Uri::from_static("/"), &headers("talk.example", "null")), Ok(()));
    }

    #[test]
    fn without_one_only_the_names_of_this_machine_count() {
        let origins = Origins { allowed: &["https://dev.example".to_owned()], is_open: true };
        assert!(origins.check(&headers("rebound.example", "http://rebound.example")).is_err());
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
        assert!(origins.check(&two).is_err());
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
