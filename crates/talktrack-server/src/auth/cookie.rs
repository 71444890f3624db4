//! The token of a person who has logged in to the dashboard. No script can read it, and no page from elsewhere can have it
//! sent along with anything but a link.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

const NAME: &str = "talktrack_token";

/// The token that a browser sends along.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, token)| token).filter(|token| !token.is_empty())
}

/// Has the browser keep the token until it is closed; `None` where it is none. Over TLS it is sent over TLS only.
pub(crate) fn keep(token: &str, is_over_tls: bool) -> Option<HeaderValue> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
    let secure = if is_over_tls { "; Secure" } else { "" };
    let cookie = format!("{NAME}={token}; Path=/; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&cookie).ok().filter(|_| token.bytes().all(is_plain))
}

/// Has the browser forget it.
pub(crate) fn forget() -> HeaderValue {
    HeaderValue::from_static("talktrack_token=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let headers = |text: &'static str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(text))]);
        assert_eq!(token(&headers("a=1; talktrack_token=x.y.z; b=2")), Some("x.y.z"));
        assert_eq!(token(&headers("talktrack_token=tt_1=")), Some("tt_1="));
        for none in ["", "talktrack_token", "talktrack_token=", "other=talktrack_token", "xtalktrack_token=1"]
        {
            assert_eq!(token(&headers(none)), None, "{none}");
        }
    }

    #[test]
    fn what_would_end_the_cookie_is_no_token() {
        assert!(keep("a.b-c_d=", false).is_some() && keep("a", true).is_some());
        for bad in ["a; Path=/x", "a b", "a\r\nSet-Cookie: x=1", "ä", "a,b"] {
            assert_eq!(keep(bad, false), None, "{bad}");
        }
    }
}
