//! Reads the credentials of a request.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use super::csrf::{CSRF_HEADER, CSRF_PROTOCOL};
use super::refused::Refused;
use crate::limits::ClientAddress;

/// The prefix of a token among the subprotocols. A browser cannot send `Authorization` with a WebSocket request, but it
/// can name subprotocols.
const BEARER_PROTOCOL: &str = "bearer.";

/// Returns the client address of a request, if the server knows it.
pub(super) fn client_address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ClientAddress>().map(|ClientAddress(address)| *address)
}

/// Returns the key or token that a request carries; `None` if it carries neither.
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(in_subprotocols(headers, BEARER_PROTOCOL)),
        (Some(value), None) => after_scheme(value).map(Some).ok_or(Refused::NotBearer),
        (Some(_), Some(_)) => Err(Refused::NotBearer),
    }
}

/// Returns the CSRF token of a request, from the header or from the subprotocols.
pub(super) fn csrf_token(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
    header.or_else(|| in_subprotocols(headers, CSRF_PROTOCOL))
}

/// True if the request may change something: it uses a method that is not safe, or it opens a WebSocket, over which
/// frames may follow.
pub(super) fn is_changing(parts: &Parts) -> bool {
    !parts.method.is_safe() || parts.headers.contains_key(UPGRADE)
}

fn after_scheme(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

fn in_subprotocols<'h>(headers: &'h HeaderMap, prefix: &str) -> Option<&'h str> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).find_map(|protocol| protocol.trim().strip_prefix(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_a_bearer_or_among_the_subprotocols() {
        fn found(given: &[(axum::http::HeaderName, &'static str)]) -> Result<Option<String>, Refused> {
            let value = |text| HeaderValue::from_static(text);
            let headers = given.iter().map(|(name, text)| (name.clone(), value(text))).collect();
            bearer_token(&headers).map(|token| token.map(str::to_owned))
        }
        assert_eq!(found(&[(AUTHORIZATION, "Bearer a.b.c")]), Ok(Some("a.b.c".into())));
        assert_eq!(found(&[(AUTHORIZATION, "bearer  tt_1")]), Ok(Some("tt_1".into())));
        assert_eq!(found(&[(SEC_WEBSOCKET_PROTOCOL, "talktrack, bearer.a.b.c")]), Ok(Some("a.b.c".into())));
        assert_eq!(found(&[(SEC_WEBSOCKET_PROTOCOL, "talktrack")]), Ok(None));
        assert_eq!(found(&[]), Ok(None));
        for value in ["Basic bWU6aHVudGVyMg==", "Bearer", "Bearer ", "a.b.c"] {
            assert_eq!(
                found(&[(AUTHORIZATION, value), (SEC_WEBSOCKET_PROTOCOL, "bearer.x")]),
                Err(Refused::NotBearer)
            );
        }
    }
}
