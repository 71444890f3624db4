//! The path below which browsers reach the server, if a proxy serves it as a part of another site.

use std::sync::Arc;

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// The maximum length of a prefix in bytes.
const MAX_BYTES: usize = 200;

/// A path such as `/tools/talktrack`, or no path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PathPrefix(Arc<str>);

impl PathPrefix {
    /// Parses a path: segments of letters, digits and `-._~`, each after a slash. A slash at the end is dropped, so `/`
    /// is no prefix. `None` for anything else, so that a prefix needs no escaping and never names another host.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_segment = |segment: &str| !["", ".", ".."].contains(&segment) && segment.bytes().all(is_plain);
        let is_path = path.is_empty()
            || path.strip_prefix('/').is_some_and(|segments| segments.split('/').all(is_segment));
        (is_path && path.len() <= MAX_BYTES).then(|| Self(path.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first segment.
    pub(crate) fn first_segment(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// Returns the address without the prefix; `None` if it does not begin with the prefix.
    pub(crate) fn strip(&self, uri: &Uri) -> Option<Uri> {
        if self.0.is_empty() {
            return None;
        }
        let rest = uri.path_and_query()?.as_str().strip_prefix(&*self.0)?;
        let rest = match rest.as_bytes().first() {
            None | Some(b'?') => format!("/{rest}"),
            Some(b'/') => rest.to_owned(),
            Some(_) => return None,
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Returns an address of this server with the prefix; `None` if it is none of this server, or needs no prefix.
    pub(crate) fn add_to(&self, address: &str) -> Option<String> {
        let is_ours = address.starts_with('/') && !address.starts_with("//");
        (is_ours && !self.0.is_empty()).then(|| format!("{}{address}", self.0))
    }

    /// Adds the prefix to each address of this server in a page. No text of a page can look like one: the pages escape
    /// the quotation marks in everything that was said.
    pub(crate) fn add_to_page(&self, html: &str) -> String {
        let mut page = html.to_owned();
        for attribute in ["href", "src", "action"] {
            page = page.replace(&format!(" {attribute}=\"/"), &format!(" {attribute}=\"{}/", self.0));
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_plain_path_or_none() {
        for (text, prefix) in
            [("", ""), ("/", ""), ("/a", "/a"), ("/a/", "/a"), ("/a.b/c~d-e_1", "/a.b/c~d-e_1")]
        {
            assert_eq!(PathPrefix::parse(text).unwrap().as_str(), prefix, "{text}");
        }
        let long = format!("/{}", "a".repeat(200));
        for text in
            ["a", "//a", "//", "/a//b", "/..", "/a/./b", "/a b", "/a\"", "/<b>", "/%2e", "/a?b", "/é", &long]
        {
            assert_eq!(PathPrefix::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_prefix_is_stripped_from_the_addresses_below_it_only() {
        let prefix = PathPrefix::parse("/a/b").unwrap();
        let strip = |uri: &str| prefix.strip(&uri.parse().unwrap()).map(|uri| uri.to_string());
        for (uri, rest) in [
            ("/a/b", Some("/")),
            ("/a/b/", Some("/")),
            ("/a/b?q=1", Some("/?q=1")),
            ("/a/b/stats?q=/a/b", Some("/stats?q=/a/b")),
            ("http://x:1/a/b/v1/sessions", Some("http://x:1/v1/sessions")),
            ("/a/bc", None),
            ("/a", None),
            ("/", None),
        ] {
            assert_eq!(strip(uri).as_deref(), rest, "{uri}");
        }
        assert_eq!(PathPrefix::default().strip(&Uri::from_static("/stats")), None);
    }

    #[test]
    fn the_prefix_is_added_to_addresses_of_this_server_only() {
        let prefix = PathPrefix::parse("/a").unwrap();
        let added = |address| prefix.add_to(address);
        assert_eq!(
            (added("/login?next=/x"), added("/")),
            (Some("/a/login?next=/x".into()), Some("/a/".into()))
        );
        assert_eq!((added("//evil.example"), added("https://x/y"), added("#main")), (None, None, None));
        let page = "<a class=\"x\" href=\"/stats\">a href=&#34;/b</a><audio src=\"https://x/y\"><form action=\"/x\">";
        assert_eq!(
            prefix.add_to_page(page),
            "<a class=\"x\" href=\"/a/stats\">a href=&#34;/b</a><audio src=\"https://x/y\"><form action=\"/a/x\">"
        );
    }
}
