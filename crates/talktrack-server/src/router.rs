//! The table of routes.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use talktrack::ErrorCode;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api;
use crate::dashboard;
use crate::error::Problem;
use crate::metered::meter_reading;
use crate::middleware::guard_request;
use crate::origin;
use crate::path_prefix::PathPrefix;
use crate::socket;
use crate::state::AppState;
use crate::trail;

/// Request headers that a page of an allowed origin may send. [`ANSWERED_WITH`] lists the response headers that it may
/// read.
const ASKED_WITH: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
];
const ANSWERED_WITH: [HeaderName; 8] = [
    header::LOCATION,
    header::LINK,
    header::RETRY_AFTER,
    header::CONTENT_RANGE,
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    header::CONTENT_DISPOSITION,
    header::ETAG,
];

/// How long a browser may cache the answer to a CORS preflight request.
const PREFLIGHT: Duration = Duration::from_secs(3_600);

/// Builds the router with all endpoints, the dashboard and the middleware.
pub(crate) fn build_router(state: AppState) -> Router {
    // Few clients request the OpenAPI description, so it is built at the first request for it.
    let page = api::docs::DocsPage::new(|| api_routes().split_for_parts().1);
    let (endpoints, _) = api_routes().split_for_parts();
    endpoints
        .route("/v1/ws", get(socket::connect))
        .route("/openapi.json", page.json())
        .route("/docs", page.html())
        .layer(from_fn_with_state(state.clone(), meter_reading))
        .merge(dashboard::routes(&state))
        .fallback(report_not_found)
        .method_not_allowed_fallback(report_wrong_method)
        .layer(DefaultBodyLimit::max(state.config().max_body_bytes))
        .layer(from_fn_with_state(state.clone(), trail::record_access))
        .layer(from_fn_with_state(state.clone(), guard_request))
        .layer(cors_layer(&state))
        .with_state(state)
}

/// Returns the endpoints that are part of the OpenAPI description.
fn api_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(api::docs::Api::openapi())
        .routes(routes!(api::start_session::start_session, api::list_sessions::list_sessions))
        .routes(routes!(
            api::get_session::get_session,
            api::update_session::update_session,
            api::delete_session::delete_session
        ))
        .routes(routes!(api::delete_user::delete_user))
        .routes(routes!(api::end_session::end_session))
        .routes(routes!(
            api::add_messages::add_messages,
            api::list_messages::list_messages,
            api::replace_messages::replace_messages,
            api::delete_messages::delete_messages
        ))
        .routes(routes!(api::add_frames::add_frames))
        .routes(routes!(api::get_message::get_message, api::delete_message::delete_message))
        .routes(routes!(api::add_audio::add_audio))
        .routes(routes!(api::get_audio::get_audio))
        .routes(routes!(api::export::export_session))
        .routes(routes!(api::export_user::export_user))
        .routes(routes!(api::search::search_messages))
        .routes(routes!(api::stats::get_stats))
        .routes(routes!(api::events::stream_events))
        .routes(routes!(api::health::get_health))
        .routes(routes!(api::ready::get_readiness))
        .routes(routes!(api::metrics::get_metrics))
}

/// Returns the CORS layer. The origins that may read responses are those that may open a WebSocket. Browsers send no
/// cookies with these requests.
fn cors_layer(state: &AppState) -> CorsLayer {
    let allowed = state.config().allowed_origins.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, request| {
            is_api(request.uri.path()) && origin::is_welcome(origin, &allowed)
        }))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(ASKED_WITH)
        .expose_headers(ANSWERED_WITH)
        .max_age(PREFLIGHT)
}

/// True if the path does not belong to the dashboard. CORS never applies to the dashboard: otherwise a page of another
/// server on this machine could read the CSRF tokens of its forms.
fn is_api(path: &str) -> bool {
    let others = ["/openapi.json", "/docs", "/healthz", "/readyz", "/metrics"];
    path.starts_with("/v1/") || others.contains(&path)
}

async fn report_not_found(uri: Uri, headers: HeaderMap, prefix: Option<Extension<PathPrefix>>) -> Response {
    dashboard::report_wrong_address(Problem::nothing_at(uri.path()), &uri, &headers, prefix).await
}

async fn report_wrong_method(
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    prefix: Option<Extension<PathPrefix>>,
) -> Response {
    let detail = format!("{} does not support {method}", uri.path());
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, detail);
    dashboard::report_wrong_address(problem, &uri, &headers, prefix).await
}
