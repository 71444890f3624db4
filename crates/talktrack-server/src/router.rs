//! The table of routes.

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api;
use crate::dashboard;
use crate::error::Problem;
use crate::guard::guard;
use crate::metered::meter;
use crate::origin;
use crate::socket;
use crate::state::AppState;
use crate::trail;

/// Headers that a page may send and see.
const ASKED_WITH: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
];
const ANSWERED_WITH: [HeaderName; 7] = [
    header::LOCATION,
    header::RETRY_AFTER,
    header::CONTENT_RANGE,
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    header::CONTENT_DISPOSITION,
    header::ETAG,
];

/// How long a browser need not ask again whether it may.
const PREFLIGHT: Duration = Duration::from_secs(3_600);

/// Everything the server answers to.
pub(crate) fn router(state: AppState) -> Router {
    // Few ask for the description: it is made for the first who does.
    let page = api::docs::Page::of(|| described().split_for_parts().1);
    let (endpoints, _) = described().split_for_parts();
    endpoints
        .route("/v1/ws", get(socket::connect))
        .route("/openapi.json", page.json())
        .route("/docs", page.html())
        .layer(from_fn_with_state(state.clone(), meter))
        .merge(dashboard::routes(&state))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(state.config().max_body_bytes))
        .layer(from_fn_with_state(state.clone(), trail::record))
        .layer(from_fn_with_state(state.clone(), guard))
        .layer(cors(&state))
        .with_state(state)
}

/// The endpoints that describe themselves.
fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(api::docs::Api::openapi())
        .routes(routes!(api::start_session::answer, api::list_sessions::answer))
        .routes(routes!(api::get_session::answer, api::update_session::answer, api::delete_session::answer))
        .routes(routes!(api::delete_user::answer))
        .routes(routes!(api::end_session::answer))
        .routes(routes!(api::add_messages::answer, api::list_messages::answer))
        .routes(routes!(api::add_audio::answer))
        .routes(routes!(api::get_audio::answer))
        .routes(routes!(api::export::answer))
        .routes(routes!(api::search::answer))
        .routes(routes!(api::stats::answer))
        .routes(routes!(api::events::answer))
        .routes(routes!(api::health::answer))
        .routes(routes!(api::ready::answer))
        .routes(routes!(api::metrics::answer))
}

/// Which pages may read the answers in a browser: those that may open a WebSocket too. No cookies are sent along.
fn cors(state: &AppState) -> CorsLayer {
    let allowed = state.config().allowed_origins.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, request| {
            is_api(request.uri.path()) && origin::is_welcome(origin, &allowed)
        }))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(ASKED_WITH)
        .expose_headers(ANSWERED_WITH)
        .max_age(PREFLIGHT)
}

/// True if the path is none of the dashboard's: of its pages, those of other servers on this machine may read nothing, or they
/// would read the tokens of its forms.
fn is_api(path: &str) -> bool {
    let others = ["/openapi.json", "/docs", "/healthz", "/readyz", "/metrics"];
    path.starts_with("/v1/") || others.contains(&path)
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::nothing_at(uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::without_code(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer to {method}", uri.path()),
    )
}
