//! `/login` and `/logout`: a person enters a key or a token once, and the browser keeps the id of the login in a
//! cookie.

use askama::Template;
use axum::extract::{Extension, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::page::{ErrorPage, Layout, render_page};
use super::visitor::PageQuery;
use crate::api::form::FormBody;
use crate::audit::{self, Actor};
use crate::auth::{Admission, cookie};
use crate::error::Problem;
use crate::limits::{ClientAddress, OverTls, neighbourhood};
use crate::origin;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    layout: Layout,
    next: String,
    /// Why the last attempt failed.
    error: Option<String>,
}

/// The page that the person wanted to visit.
#[derive(Deserialize)]
pub(super) struct LoginQuery {
    #[serde(default)]
    next: String,
}

/// The fields of the login form.
#[derive(Deserialize)]
pub(super) struct LoginForm {
    token: String,
    #[serde(default)]
    next: String,
}

/// Returns the login form.
pub(super) async fn show_login(
    State(state): State<AppState>,
    PageQuery(query): PageQuery<LoginQuery>,
) -> Response {
    if state.authenticator().is_open() {
        return Redirect::to("/").into_response();
    }
    render_page(
        StatusCode::OK,
        &LoginPage { layout: Layout::without_visitor(), next: local_path(query.next), error: None },
    )
}

/// Begins a login with a valid key or token.
pub(super) async fn log_in(
    State(state): State<AppState>,
    client: Option<Extension<ClientAddress>>,
    over_tls: Option<Extension<OverTls>>,
    headers: HeaderMap,
    FormBody(form): FormBody<LoginForm>,
) -> Response {
    let token = form.token.trim();
    let next = local_path(form.next);
    let from = client.map(|Extension(ClientAddress(address))| address);
    if !origin::is_own_page(&headers, &state.config().allowed_origins) {
        return render_refusal(
            next,
            Problem::forbidden("Origin: the form was sent by another page; log in here"),
        );
    }
    if state.authenticator().is_open() {
        return Redirect::to(&next).into_response();
    }
    match state.authenticator().log_in(token, from).await {
        Ok((id, caller)) => {
            state.audit().record(audit::Entry::new(caller.actor(), "login", from));
            let kept = cookie::login_cookie(&id, is_over_tls(over_tls));
            (AppendHeaders(kept.map(|kept| (SET_COOKIE, kept))), Redirect::to(&next)).into_response()
        }
        Err(problem) => {
            let failed = audit::Entry::new(Actor::Unknown, "login.failed", from.map(neighbourhood));
            state.audit().record_once(failed.status(problem.status().as_u16()));
            render_refusal(next, problem)
        }
    }
}

/// Ends the login.
pub(super) async fn log_out(
    State(state): State<AppState>,
    client: Option<Extension<ClientAddress>>,
    over_tls: Option<Extension<OverTls>>,
    admission: Result<Admission, Problem>,
) -> Response {
    match admission {
        Ok(admission) => {
            state.authenticator().log_out(&admission);
            let from = client.map(|Extension(ClientAddress(address))| address);
            state.audit().record(audit::Entry::new(admission.caller.actor(), "logout", from));
        }
        // The login had already ended.
        Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {}
        Err(problem) => return ErrorPage::new(problem, Layout::without_visitor()).into_response(),
    }
    let forgotten = cookie::expired_cookie(is_over_tls(over_tls));
    (AppendHeaders(forgotten.map(|forgotten| (SET_COOKIE, forgotten))), Redirect::to("/login"))
        .into_response()
}

fn is_over_tls(extension: Option<Extension<OverTls>>) -> bool {
    extension.is_some_and(|Extension(OverTls(is_over_tls))| is_over_tls)
}

fn render_refusal(next: String, problem: Problem) -> Response {
    let status = problem.status();
    let error = Some(problem.into_detail());
    render_page(status, &LoginPage { layout: Layout::without_visitor(), next, error })
}

/// Returns `next` if it is a path on this server, otherwise `/`. Browsers would resolve `//` and `/\` to another host.
fn local_path(next: String) -> String {
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
        assert_eq!(local_path("/sessions/1?after=2".into()), "/sessions/1?after=2");
        for elsewhere in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example"]
        {
            assert_eq!(local_path(elsewhere.into()), "/", "{elsewhere}");
        }
    }
}
