//! The cookie of a person who has logged in to the dashboard. Its value is the random id of the login, never the key or
//! the token, and scripts cannot read it. Browsers send it with links from other sites (`SameSite=Lax`), so that a link
//! in a ticket opens a conversation. A request that changes something needs more than the cookie (`auth/csrf.rs`).

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

/// The name over TLS. Because of the prefix, a browser accepts this cookie only with `Secure` and for this host alone,
/// so that no other host and no unencrypted page can set it.
const SECURE_NAME: &str = "__Host-talktrack";

/// The name without TLS, because browsers then refuse a name with that prefix.
const PLAIN_NAME: &str = "talktrack_session";

/// Returns the login id that the browser sent.
pub(super) fn login_id(headers: &HeaderMap, is_over_tls: bool) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == name_of(is_over_tls)).map(|(_, id)| id).filter(|id| !id.is_empty())
}

/// Returns the `Set-Cookie` value with which the browser keeps the id until it is closed.
pub(crate) fn login_cookie(id: &str, is_over_tls: bool) -> Option<HeaderValue> {
    HeaderValue::from_str(&cookie_text(id, is_over_tls)).ok()
}

/// Returns the `Set-Cookie` value with which the browser forgets the id.
pub(crate) fn expired_cookie(is_over_tls: bool) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{}; Max-Age=0", cookie_text("", is_over_tls))).ok()
}

fn cookie_text(id: &str, is_over_tls: bool) -> String {
    let secure = if is_over_tls { "; Secure" } else { "" };
    format!("{}={id}; Path=/; HttpOnly; SameSite=Lax{secure}", name_of(is_over_tls))
}

fn name_of(is_over_tls: bool) -> &'static str {
    if is_over_tls { SECURE_NAME } else { PLAIN_NAME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_among_other_cookies() {
        let headers = |text: &'static str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(text))]);
        let id = |text, is_over_tls| login_id(&headers(text), is_over_tls).map(str::to_owned);
        assert_eq!(id("a=1; talktrack_session=x-_1; b=2", false), Some("x-_1".into()));
        assert_eq!(id("a=1; __Host-talktrack=y", true), Some("y".into()));
        assert_eq!(id("talktrack_session=planted", true), None, "an unencrypted page cannot plant one");
        for none in ["", "talktrack_session", "talktrack_session=", "xtalktrack_session=1"] {
            assert_eq!(id(none, false), None, "{none}");
        }
    }

    #[test]
    fn over_tls_the_cookie_is_bound_to_this_host() {
        let kept = login_cookie("x", true).unwrap();
        assert_eq!(kept, "__Host-talktrack=x; Path=/; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(login_cookie("x", false).unwrap(), "talktrack_session=x; Path=/; HttpOnly; SameSite=Lax");
        assert!(expired_cookie(true).unwrap().to_str().unwrap().ends_with("Secure; Max-Age=0"));
    }
}
