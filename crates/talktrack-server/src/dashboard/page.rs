//! The frame around every page, and pages that report errors.

use askama::Template;
use axum::extract::Extension;
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use talktrack::ErrorCode;

use super::address::with_path_prefix;
use super::assets;
use crate::error::Problem;
use crate::path_prefix::PathPrefix;

/// The content security policy. It allows scripts and styles only as files of this server, none inline: text that
/// becomes markup by mistake still does nothing. Recordings may be on other hosts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob: https:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Which page the frame surrounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NavItem {
    Conversations,
    Stats,
    Talk,
    Health,
    Elsewhere,
}

/// The values that the frame around every page needs.
pub(super) struct Layout {
    pub(super) nav_item: NavItem,
    /// Who is logged in; `None` if no identity is checked.
    pub(super) who: Option<String>,
    /// True if the visitor has not logged in yet, so that the page shows no navigation.
    pub(super) hides_nav: bool,
    /// True if the visitor is an operator of the server.
    pub(super) is_operator: bool,
    /// The CSRF token that the forms and scripts of the page send.
    pub(super) csrf: String,
}

impl Layout {
    pub(super) fn without_visitor() -> Self {
        Self {
            nav_item: NavItem::Elsewhere,
            who: None,
            hides_nav: true,
            is_operator: false,
            csrf: String::new(),
        }
    }

    pub(super) fn is_current(&self, nav_item: &str) -> bool {
        let name = match self.nav_item {
            NavItem::Conversations => "conversations",
            NavItem::Stats => "stats",
            NavItem::Talk => "talk",
            NavItem::Health => "health",
            NavItem::Elsewhere => "",
        };
        name == nav_item
    }

    /// Returns the CSRF token of the page.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    pub(super) fn asset(&self, name: &str) -> String {
        assets::asset_url(name)
    }
}

/// Renders a page, or a part of one for a script.
pub(super) fn render_page(status: StatusCode, page: &impl Template) -> Response {
    let html = match page.render() {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let detail = "the page cannot be rendered";
            return Problem::new(status, ErrorCode::Internal, detail).into_response();
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
pub(super) struct ErrorPage(Response);

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorTemplate {
    layout: Layout,
    heading: &'static str,
    detail: String,
}

impl ErrorPage {
    /// Renders the error as a page.
    pub(super) fn new(problem: Problem, layout: Layout) -> Self {
        let status = problem.status();
        let heading = match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "There is nothing here",
            StatusCode::GONE => "This was deleted",
            StatusCode::FORBIDDEN => "You may not do this",
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "Not possible now",
            _ => "This did not work",
        };
        let retry_after = problem.retry_after();
        let mut page = render_page(status, &ErrorTemplate { layout, heading, detail: problem.into_detail() });
        if let Some(seconds) = retry_after {
            page.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        Self(page)
    }

    /// Redirects an unauthenticated visitor to the login, which leads back to this page.
    pub(super) fn redirect_to_login(from: &Uri) -> Self {
        let back = from.path_and_query().map_or("/", |path| path.as_str());
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", back).finish();
        Self(axum::response::Redirect::to(&format!("/login?{query}")).into_response())
    }
}

/// The first segments of the paths of the pages.
const PAGES: [&str; 7] = ["assets", "health", "login", "logout", "sessions", "stats", "talk"];

/// Reports that nothing is at an address, or that it does not support the method: as a page to a person, as a problem
/// document to a program.
pub(crate) async fn report_wrong_address(
    problem: Problem,
    uri: &Uri,
    headers: &HeaderMap,
    prefix: Option<Extension<PathPrefix>>,
) -> Response {
    let first = uri.path().split('/').nth(1).unwrap_or_default();
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|types| types.to_str().ok());
    let is_person = first != "v1" && accepted.any(|types| types.contains("text/html"));
    if is_person || PAGES.contains(&first) {
        with_path_prefix(prefix, ErrorPage::from(problem).into_response()).await
    } else {
        problem.into_response()
    }
}

impl From<Problem> for ErrorPage {
    fn from(problem: Problem) -> Self {
        Self::new(problem, Layout { hides_nav: false, ..Layout::without_visitor() })
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        self.0
    }
}
