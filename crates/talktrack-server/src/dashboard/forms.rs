//! CSRF protection of the forms. Each form has a field with a token that only the server's own pages know. This
//! middleware moves the token into a header before the form reaches its page, and the authentication checks it there
//! (`auth/authenticator.rs`). So no page can forget the check.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::page::{ErrorPage, Layout};
use crate::api::body;
use crate::api::form::MAX_FORM_BYTES;
use crate::auth::{CSRF_FIELD, CSRF_HEADER};
use crate::error::Problem;
use crate::state::AppState;

/// The path of the login form. It needs no token, because there is no login yet that a token could belong to.
const LOGIN: &str = "/login";

/// Passes a request on. While no identity is checked, refuses a form that none of the server's own pages has sent.
pub(super) async fn check_form(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    match with_token_in_header(&state, request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => ErrorPage::new(problem, Layout::without_visitor()).into_response(),
    }
}

async fn with_token_in_header(state: &AppState, request: Request) -> Result<Request, Problem> {
    let (mut parts, body) = request.into_parts();
    let detail = format!("a form has at most {MAX_FORM_BYTES} bytes");
    let (bytes, _room) = body::read(body, state, MAX_FORM_BYTES, &detail).await?;
    let field = form_urlencoded::parse(&bytes).find(|(name, _)| name == CSRF_FIELD);
    if let Some(token) = field.and_then(|(_, token)| HeaderValue::from_str(&token).ok()) {
        parts.headers.insert(CSRF_HEADER, token);
    }
    if parts.uri.path() != LOGIN {
        state.authenticator().check_open_form(&parts)?;
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}
