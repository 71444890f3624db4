//! Decides which requests are written to the audit log. The route and the response determine this for all endpoints in
//! one place, so that new endpoints need no code for it. Logged are reads by administrators and by people at the
//! dashboard, exports, deletions, and operations on dead letters.

use std::borrow::Cow;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use percent_encoding::percent_decode_str;
use talktrack::{SessionId, UserId};

use crate::audit::{Actor, Entry};
use crate::auth::{Caller, SeenCaller};
use crate::config::Scope;
use crate::limits::ClientAddress;
use crate::state::AppState;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Shows what was said, or who spoke.
    Read,
    Export,
    Delete,
    /// An operation on the server, logged under this name.
    Operate(&'static str),
    /// Not logged.
    Other,
}

/// Passes a request on, and logs its outcome.
pub(crate) async fn record_access(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let act = request
        .extensions()
        .get::<MatchedPath>()
        .map(|route| classify_request(request.method(), route.as_str()));
    let Some(act) = act.filter(|act| *act != Act::Other) else { return next.run(request).await };
    let seen = SeenCaller::default();
    request.extensions_mut().insert(seen.clone());
    let entry = entry_for(&request);
    let answer = next.run(request).await;
    if let Some((caller, is_person)) = seen.get() {
        // Of reads, only those by people who may see other users' conversations are logged. A user's reads of their own
        // are not.
        let is_by_program = !(*is_person || is_administrator(caller)) || caller.user().is_some();
        if act != Act::Read || !is_by_program {
            write_entry(&state, entry(caller.actor(), act).status(answer.status().as_u16()), act);
        }
    }
    answer
}

fn write_entry(state: &AppState, entry: Entry, act: Act) {
    match act {
        // Pages reload themselves, and refused requests change nothing. Both may be frequent, so repetitions are not
        // logged.
        Act::Read | Act::Export => state.audit().record_once(entry),
        _ if entry.is_refused() => state.audit().record_once(entry),
        _ => state.audit().record(entry),
    }
}

/// True for a caller who may see and delete everything. Programs with other keys read constantly; for them only the use
/// of the key is logged.
fn is_administrator(caller: &Caller) -> bool {
    matches!(caller, Caller::Key(_)) && caller.require(Scope::Admin).is_ok()
}

fn classify_request(method: &Method, route: &str) -> Act {
    match (method.as_str(), route) {
        ("DELETE", _) => Act::Delete,
        ("POST", "/sessions/{session_id}/delete") => Act::Delete,
        ("POST", "/health/replay") => Act::Operate("dead_letters.replay"),
        ("POST", "/health/drop") => Act::Operate("dead_letters.drop"),
        ("GET" | "HEAD", route) if route.ends_with("/export") => Act::Export,
        ("GET" | "HEAD", "/" | "/v1/search" | "/v1/events" | "/health/letters/{seq}") => Act::Read,
        ("GET" | "HEAD", route)
            if ["/v1/sessions", "/v1/users", "/sessions/"].iter().any(|begin| route.starts_with(begin)) =>
        {
            Act::Read
        }
        _ => Act::Other,
    }
}

/// Collects what is known before the response, and returns a function that makes the entry for a caller.
fn entry_for(request: &Request) -> impl FnOnce(Actor, Act) -> Entry + use<> {
    let from = request.extensions().get().map(|ClientAddress(address)| *address);
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let route = route.unwrap_or_default();
    let path = request.uri().path().split('/');
    let named: Vec<(String, String)> = route
        .split('/')
        .zip(path)
        .filter_map(|(name, value)| {
            Some((name.strip_prefix('{')?.trim_end_matches('}').to_owned(), decode(value)?))
        })
        .chain(in_query(request))
        .collect();
    move |who, act| {
        let find = |names: [&str; 2]| {
            named.iter().find(|(name, _)| names.contains(&&**name)).map(|(_, value)| value.as_str())
        };
        let what = match act {
            Act::Read => "read",
            Act::Export => "export",
            Act::Delete => "delete",
            Act::Operate(what) => what,
            Act::Other => "other",
        };
        let entry = Entry::new(who, what, from).route(&route);
        let session: Option<SessionId> = find(["session_id", "session"]).and_then(|id| id.parse().ok());
        let user: Option<UserId> = find(["user_id", "user"]).and_then(|id| id.parse().ok());
        entry.session(session).user(user)
    }
}

fn decode(segment: &str) -> Option<String> {
    percent_decode_str(segment).decode_utf8().ok().map(Cow::into_owned)
}

/// Returns the parameters of the query. Only the ids are logged, because the others may contain search terms.
fn in_query(request: &Request) -> Vec<(String, String)> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_that_shows_or_removes_conversations_is_written_down() {
        for (method, route, expected) in [
            (Method::GET, "/v1/sessions", Act::Read),
            (Method::GET, "/v1/sessions/{session_id}/messages", Act::Read),
            (Method::GET, "/v1/sessions/{session_id}/audio/{name}", Act::Read),
            (Method::GET, "/v1/sessions/{session_id}/export", Act::Export),
            (Method::GET, "/v1/users/{user_id}/export", Act::Export),
            (Method::GET, "/sessions/{session_id}/said", Act::Read),
            (Method::DELETE, "/v1/users/{user_id}", Act::Delete),
            (Method::DELETE, "/v1/sessions/{session_id}/messages/{message_id}", Act::Delete),
            (Method::POST, "/sessions/{session_id}/delete", Act::Delete),
            (Method::GET, "/sessions/{session_id}/delete", Act::Read),
            (Method::POST, "/health/drop", Act::Operate("dead_letters.drop")),
            (Method::POST, "/v1/sessions/{session_id}/messages", Act::Other),
            (Method::GET, "/assets/{name}", Act::Other),
            (Method::GET, "/readyz", Act::Other),
        ] {
            assert_eq!(classify_request(&method, route), expected, "{method} {route}");
        }
    }
}
