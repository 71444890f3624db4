//! The names by which browsers identify servers, `Host` and `PageOrigin`, parsed strictly. Forms that lenient parsers
//! interpret in different ways (a user before the host, a path, half a bracket, a number as an address) are invalid
//! here.

use std::net::{IpAddr, Ipv6Addr};

/// A host with an optional port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    host: Host,
    port: Option<u16>,
}

/// The origin of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageOrigin {
    scheme: Scheme,
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In lower case, without a dot at its end.
    Name(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn usual_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Authority {
    /// Parses `host` or `host:port`; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
                (Host::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)), port)
            }
            None => {
                let (host, port) =
                    text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                (Host::parse(host)?, port)
            }
        };
        match port {
            Some(port) => Some(Self { host, port: Some(port_number(port)?) }),
            None => Some(Self { host, port: None }),
        }
    }

    /// True if the host is this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.host.is_local()
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let is_name = text.len() <= 253 && text.split('.').all(is_label);
        // Browsers interpret a last label of digits as an address, in several notations.
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_number =
            last.bytes().all(|byte| byte.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x");
        (is_name && !is_number).then(|| Self::Name(text.to_ascii_lowercase()))
    }

    fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

/// Parses a port. Only digits are accepted: `+80`, `080` and an empty port are invalid.
fn port_number(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    is_plain.then(|| text.parse().ok()).flatten()
}

impl PageOrigin {
    /// Parses `http://host` or `https://host:port`; `None` for anything else, including `null`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let Authority { host, port } = Authority::parse(authority)?;
        Some(Self { scheme, host, port: port.unwrap_or(scheme.usual_port()) })
    }

    /// True if a page of this origin is a page of the server that was requested under this name.
    pub(crate) fn is_of(&self, server: &Authority) -> bool {
        self.host == server.host && self.port == server.port.unwrap_or(self.scheme.usual_port())
    }

    /// True if the origin is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.host.is_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_and_a_port_are_a_name() {
        for name in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:65535"] {
            assert!(Authority::parse(name).is_some_and(|name| name.is_local()), "{name}");
        }
        for name in ["localhost.example.com", "talk.example:8443", "192.0.2.7", "[2001:db8::1]", "my_host"] {
            assert!(Authority::parse(name).is_some_and(|name| !name.is_local()), "{name}");
        }
        for nothing in [
            "",
            "localhost.",
            "localhost:",
            "localhost:0",
            "localhost:080",
            "localhost:65536",
            "localhost:80:80",
            "localhost:+80",
            "localhost/",
            "localhost#",
            "localhost?x",
            "localhost\\",
            "local host",
            "localhost\t",
            "me@localhost",
            "localhost@evil.example",
            "evil.example#@localhost",
            "localhost,evil.example",
            "%6cocalhost",
            "[::1",
            "::1",
            "[::1]8080",
            "[::1]]",
            "[[::1]]",
            "[::1%lo]",
            "[127.0.0.1]",
            "127.1",
            "127.0.0.1.",
            "0177.0.0.1",
            "2130706433",
            "0x7f000001",
            "127.0.0.0x1",
            ".localhost",
            "a..b",
            "ｌocalhost",
        ] {
            assert_eq!(Authority::parse(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn an_origin_is_of_a_server_if_scheme_host_and_port_are() {
        let is_of = |origin: &str, server: &str| {
            let origin = PageOrigin::parse(origin);
            let server = Authority::parse(server);
            origin.zip(server).is_some_and(|(origin, server)| origin.is_of(&server))
        };
        for (origin, server) in [
            ("https://talk.example", "talk.example"),
            ("https://TALK.example:443", "talk.example"),
            ("http://talk.example", "talk.EXAMPLE:80"),
            ("http://[::1]:8080", "[0:0:0:0:0:0:0:1]:8080"),
        ] {
            assert!(is_of(origin, server), "{origin} {server}");
        }
        for (origin, server) in [
            ("https://talk.example:8443", "talk.example"),
            ("http://talk.example", "talk.example:443"),
            ("https://talk.example.evil.example", "talk.example"),
            ("https://evil.example", "talk.example"),
            ("null", "talk.example"),
            ("ftp://talk.example", "talk.example"),
            ("https://talk.example/", "talk.example"),
            ("https://talk.example https://evil.example", "talk.example"),
            ("https://talk.example@evil.example", "evil.example"),
            ("//talk.example", "talk.example"),
            ("https:talk.example", "talk.example"),
        ] {
            assert!(!is_of(origin, server), "{origin} {server}");
        }
    }
}
