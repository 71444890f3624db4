//! The names by which browsers identify servers, `Host` and `PageOrigin`, parsed strictly. Forms that lenient parsers
//! interpret in different ways (a user before the host, a path, half a bracket, a number as an address) are invalid
//! here.

use std::fmt;
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
    /// The port, also if it is the usual one of the scheme; `None` if the scheme has no usual port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In lower case, without a dot at its end.
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    /// The scheme of apps and browser extensions, in lower case: `capacitor`, `tauri`, `chrome-extension`.
    App(String),
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        let is_name = text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        match text.to_ascii_lowercase() {
            scheme if scheme == "http" => Some(Self::Http),
            scheme if scheme == "https" => Some(Self::Https),
            // Pages of files and of data have no origin of their own: browsers send `null`.
            scheme if is_name && scheme != "file" && scheme != "data" => Some(Self::App(scheme)),
            _ => None,
        }
    }

    fn usual_port(&self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::App(_) => None,
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
            Self::Address(address) => address.to_canonical().is_loopback(),
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
    /// Parses `http://host` or `https://host:port`, or the origin of an app such as `capacitor://localhost`; `None` for
    /// anything else, including `null`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = Scheme::parse(scheme)?;
        let Authority { host, port } = Authority::parse(authority)?;
        let port = port.or(scheme.usual_port());
        Some(Self { scheme, host, port })
    }

    /// Parses an origin as a person writes it: the name of the host may have letters of any script. Browsers send such a
    /// name in its ASCII form (`xn--…`).
    pub(crate) fn parse_written(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        match authority.is_ascii() {
            true => Self::parse(text),
            false => {
                let (host, port) = match authority.rsplit_once(':') {
                    Some((host, port)) => (host, format!(":{port}")),
                    None => (authority, String::new()),
                };
                Self::parse(&format!("{scheme}://{}{port}", idna::domain_to_ascii(host).ok()?))
            }
        }
    }

    /// True if a page of this origin is a page of the server that was requested under this name.
    pub(crate) fn is_of(&self, server: &Authority) -> bool {
        self.is_web() && self.host == server.host && self.port == server.port.or(self.scheme.usual_port())
    }

    /// True if the origin is on this machine. An app on another device may call itself `localhost`, so apps are not.
    pub(crate) fn is_local(&self) -> bool {
        self.is_web() && self.host.is_local()
    }

    fn is_web(&self) -> bool {
        !matches!(self.scheme, Scheme::App(_))
    }
}

/// Displays the origin as a browser sends it: without the usual port.
impl fmt::Display for PageOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Scheme::Http => f.write_str("http://"),
            Scheme::Https => f.write_str("https://"),
            Scheme::App(name) => write!(f, "{name}://"),
        }?;
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(address) => write!(f, "{address}"),
            Host::Name(name) => f.write_str(name),
        }?;
        match self.port {
            Some(port) if self.port != self.scheme.usual_port() => write!(f, ":{port}"),
            _ => Ok(()),
        }
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

    #[test]
    fn a_person_may_write_an_origin_in_another_way_than_browsers_send_it() {
        let written = |text: &str| PageOrigin::parse_written(text).map(|origin| origin.to_string());
        for (text, sent) in [
            ("https://App.Example:443", "https://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("https://B\u{dc}CHER.example:8443", "https://xn--bcher-kva.example:8443"),
            ("https://\u{4f8b}\u{5b50}.example", "https://xn--fsqu00a.example"),
            ("https://[2001:DB8:0:0::1]:443", "https://[2001:db8::1]"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("Tauri://localhost", "tauri://localhost"),
        ] {
            assert_eq!(written(text).as_deref(), Some(sent), "{text}");
            assert_eq!(PageOrigin::parse(sent), PageOrigin::parse_written(text), "{text}");
        }
        for text in [
            "null",
            "file://",
            "data://x",
            "https://",
            "https://a\u{fc}/b",
            "https://a\u{fc}@b",
            "1a://b",
            "*",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
    }
}
