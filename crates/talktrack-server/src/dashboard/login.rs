//! `/login` and `/logout`: a person shows a token once, and the browser keeps it in a cookie.

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::header::{AUTHORIZATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::page::{Frame, shown};
use crate::auth::{Caller, cookie};
use crate::error::Problem;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    /// Why the last attempt failed.
    trouble: Option<String>,
}

/// Where one wanted to go.
#[derive(Deserialize)]
pub(super) struct Way {
    #[serde(default)]
    next: String,
}

/// The form.
#[derive(Deserialize)]
pub(super) struct Entry {
    token: String,
    #[serde(default)]
    next: String,
}

/// Asks for the token.
pub(super) async fn page(State(state): State<AppState>, Query(way): Query<Way>) -> Response {
    if state.gate().is_open() {
        return Redirect::to("/").into_response();
    }
    shown(StatusCode::OK, &LoginPage { frame: Frame::outside(), next: within(way.next), trouble: None })
}

/// Lets in whoever has a good one.
pub(super) async fn enter(
    State(state): State<AppState>,
    headers: HeaderMap,
    Form(entry): Form<Entry>,
) -> Response {
    let (token, next) = (entry.token.trim(), within(entry.next));
    let is_over_tls = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let admitted = admit(&state, token).await;
    match admitted.map(|_| cookie::keep(token, is_over_tls)) {
        Ok(Some(kept)) => ([(SET_COOKIE, kept)], Redirect::to(&next)).into_response(),
        Ok(None) => refuse(next, Problem::unauthorized("this is no token")),
        Err(problem) => refuse(next, problem),
    }
}

/// Forgets it.
pub(super) async fn leave() -> Response {
    ([(SET_COOKIE, cookie::forget())], Redirect::to("/login")).into_response()
}

async fn admit(state: &AppState, token: &str) -> Result<Caller, Problem> {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let value = value.map_err(|_| Problem::unauthorized("this is no token"))?;
    state.gate().admit(&HeaderMap::from_iter([(AUTHORIZATION, value)])).await
}

fn refuse(next: String, problem: Problem) -> Response {
    let status = problem.status();
    let trouble = Some(problem.into_detail());
    shown(status, &LoginPage { frame: Frame::outside(), next, trouble })
}

/// A place on this server; the beginning where it is none. `//` and `/\` would lead elsewhere.
fn within(next: String) -> String {
    let mut characters = next.chars();
    let is_within = characters.next() == Some('/')
        && !matches!(characters.next(), Some('/' | '\\'))
        && !next.chars().any(char::is_control);
    if is_within { next } else { "/".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_never_sent_elsewhere() {
        assert_eq!(within("/sessions/1?after=2".into()), "/sessions/1?after=2");
        for elsewhere in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example"]
        {
            assert_eq!(within(elsewhere.into()), "/", "{elsewhere}");
        }
    }
}
