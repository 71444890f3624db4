//! The URL of a connection: the server's, completed with the path of the protocol and the session's identity.

use talktrack_core::message::MAX_EXTERNAL_ID_BYTES;

use super::SessionIdentity;

/// Returns the URL with the path of the protocol if it has no path.
pub(super) fn with_path(url: &str) -> String {
    let (server, query) =
        url.split_once('?').map_or((url, String::new()), |(server, query)| (server, format!("?{query}")));
    let (scheme, place) = server.split_once("://").unwrap_or(("ws", server));
    let host = place.trim_end_matches('/');
    if host.contains('/') { url.to_owned() } else { format!("{scheme}://{host}/v1/ws{query}") }
}

pub(super) fn with_identity(url: &str, identity: &SessionIdentity<'_>) -> String {
    let mut url = url.to_owned();
    let mut add = |name: &str, value: String| {
        let mark = if url.contains('?') { '&' } else { '?' };
        url.push(mark);
        url.push_str(&format!("{name}={value}"));
    };
    identity.session_id.iter().for_each(|id| add("session_id", id.to_string()));
    identity.user_id.iter().for_each(|id| add("user_id", percent_encoded(&id.to_string())));
    identity.external_id.iter().for_each(|name| add("external_id", percent_encoded(name)));
    url
}

/// Removes the query from a URL, because it may contain a token.
pub(super) fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(place, _)| place)
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len().min(MAX_EXTERNAL_ID_BYTES));
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use talktrack_core::ids::SessionId;

    #[test]
    fn the_identity_follows_what_the_url_says_already() {
        let identity = SessionIdentity {
            session_id: Some(SessionId::nil()),
            user_id: None,
            external_id: Some("call 7/ü"),
        };
        let nil = SessionId::nil();
        for (url, mark) in [("ws://h/v1/ws", '?'), ("ws://h/v1/ws?token=x", '&')] {
            let expected = format!("{url}{mark}session_id={nil}&external_id=call%207%2F%C3%BC");
            assert_eq!(with_identity(url, &identity), expected);
        }
        assert_eq!(without_query("ws://h/v1/ws?token=x"), "ws://h/v1/ws");
    }

    #[test]
    fn a_url_without_a_path_means_the_protocols() {
        for url in ["ws://h:1", "ws://h:1/", "ws://h:1/v1/ws"] {
            assert_eq!(with_path(url), "ws://h:1/v1/ws");
        }
        assert_eq!(with_path("wss://h"), "wss://h/v1/ws");
        assert_eq!(with_path("ws://h?token=a/b"), "ws://h/v1/ws?token=a/b");
        assert_eq!(with_path("ws://h/behind/a/proxy"), "ws://h/behind/a/proxy");
    }
}
