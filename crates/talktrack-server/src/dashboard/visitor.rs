//! Extracts who visits a page, and which conversation.

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::format::short_user;
use super::page::{ErrorPage, Layout, NavItem};
use crate::access::SessionName;
use crate::auth::{Admission, Caller};
use crate::error::Problem;
use crate::state::AppState;

/// An authenticated visitor. An unauthenticated one is redirected to the login.
pub(super) struct Visitor {
    pub(super) caller: Caller,
    /// The CSRF token for the forms and scripts of the page.
    pub(super) csrf: String,
}

impl Visitor {
    /// Returns what the frame around a page of this visitor needs.
    pub(super) fn layout(&self, nav_item: NavItem) -> Layout {
        let is_operator = self.caller.require_operator().is_ok();
        let who = caller_name(&self.caller);
        Layout { nav_item, who, hides_nav: false, is_operator, csrf: self.csrf.clone() }
    }
}

/// Returns the name of the logged-in caller.
fn caller_name(caller: &Caller) -> Option<String> {
    match caller {
        Caller::Anyone => None,
        Caller::Key(key) => Some(format!("key {}", key.name)),
        Caller::User(user) => Some(format!("user {}", short_user(Some(&user.user_id)))),
    }
}

/// The conversation that the path names.
pub(super) struct ConversationName(pub(super) SessionName);

impl FromRequestParts<AppState> for ConversationName {
    type Rejection = ErrorPage;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ErrorPage> {
        Ok(Self(SessionName::from_request_parts(parts, state).await?))
    }
}

/// The query of a page, deserialised into `T`.
pub(super) struct PageQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for PageQuery<T> {
    type Rejection = ErrorPage;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ErrorPage> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::invalid_query(&rejection).into()),
        }
    }
}

impl FromRequestParts<AppState> for Visitor {
    type Rejection = ErrorPage;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ErrorPage> {
        match Admission::from_request_parts(parts, state).await {
            Ok(admission) => {
                let csrf = state.authenticator().csrf_token(&admission);
                Ok(Self { caller: admission.caller, csrf })
            }
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
                Err(ErrorPage::redirect_to_login(&parts.uri))
            }
            Err(problem) => Err(ErrorPage::new(problem, Layout::without_visitor())),
        }
    }
}

/// A visitor who operates the server. Only operators may see failures, which name hosts and tables, and dead letters,
/// which contain what any user has said.
pub(super) struct Operator(pub(super) Visitor);

impl FromRequestParts<AppState> for Operator {
    type Rejection = ErrorPage;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ErrorPage> {
        let visitor = Visitor::from_request_parts(parts, state).await?;
        match visitor.caller.require_operator() {
            Ok(()) => Ok(Self(visitor)),
            Err(problem) => Err(ErrorPage::new(problem, visitor.layout(NavItem::Health))),
        }
    }
}
