//! The frame around every page, and pages that report errors.

use askama::Template;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::assets;
use super::visitor::Visitor;
use super::words::short;
use crate::auth::Caller;
use crate::error::Problem;

/// The content security policy. It allows scripts and styles only as files of this server, none inline: text that
/// becomes markup by mistake still does nothing. Recordings may be on other hosts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob: https:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Which page the frame surrounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    Conversations,
    Numbers,
    Talk,
    Health,
    Elsewhere,
}

/// The values that the frame around every page needs.
pub(super) struct Frame {
    here: Here,
    /// Who is logged in; `None` if no identity is checked.
    pub(super) who: Option<String>,
    /// True if the visitor has not logged in yet, so that the page shows no navigation.
    pub(super) is_outside: bool,
    /// True if the visitor is an operator of the server.
    pub(super) is_operator: bool,
    /// The CSRF token that the forms and scripts of the page send.
    csrf: String,
}

impl Frame {
    pub(super) fn of(visitor: &Visitor, here: Here) -> Self {
        let Visitor { caller, csrf } = visitor;
        let is_operator = caller.require_operator().is_ok();
        Self { here, who: name(caller), is_outside: false, is_operator, csrf: csrf.clone() }
    }

    pub(super) fn outside() -> Self {
        Self { here: Here::Elsewhere, who: None, is_outside: true, is_operator: false, csrf: String::new() }
    }

    pub(super) fn is(&self, here: &str) -> bool {
        let name = match self.here {
            Here::Conversations => "conversations",
            Here::Numbers => "numbers",
            Here::Talk => "talk",
            Here::Health => "health",
            Here::Elsewhere => "",
        };
        name == here
    }

    /// Returns the CSRF token of the page.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    pub(super) fn asset(&self, name: &str) -> String {
        assets::address(name)
    }
}

/// Returns the name of the logged-in caller.
fn name(caller: &Caller) -> Option<String> {
    match caller {
        Caller::Anyone => None,
        Caller::Key(key) => Some(format!("key {}", key.name)),
        Caller::User(user) => Some(format!("user {}", short(user.user_id))),
    }
}

/// Renders a page, or a part of one for a script.
pub(super) fn shown(status: StatusCode, page: &impl Template) -> Response {
    let html = match page.render() {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            return Problem::without_code(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be rendered")
                .into_response();
        }
    };
    // Browsers send the origin of a form only to this server.
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "same-origin"),
    ];
    (status, headers, html).into_response()
}

/// The response that replaces a page after an error.
#[derive(Debug)]
pub(super) struct Trouble(Response);

#[derive(Template)]
#[template(path = "trouble.html")]
struct TroublePage {
    frame: Frame,
    heading: &'static str,
    detail: String,
}

impl Trouble {
    /// Renders the error as a page.
    pub(super) fn of(problem: Problem, frame: Frame) -> Self {
        let status = problem.status();
        let heading = match status {
            StatusCode::NOT_FOUND => "There is nothing here",
            StatusCode::GONE => "This was deleted",
            StatusCode::FORBIDDEN => "You may not do this",
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "Not possible now",
            _ => "This did not work",
        };
        let retry_after = problem.retry_after();
        let mut page = shown(status, &TroublePage { frame, heading, detail: problem.into_detail() });
        if let Some(seconds) = retry_after {
            page.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        Self(page)
    }

    /// Redirects an unauthenticated visitor to the login, which leads back to this page.
    pub(super) fn log_in(from: &Uri) -> Self {
        let back = from.path_and_query().map_or("/", |path| path.as_str());
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", back).finish();
        Self(axum::response::Redirect::to(&format!("/login?{query}")).into_response())
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self::of(problem, Frame { is_outside: false, ..Frame::outside() })
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        self.0
    }
}
