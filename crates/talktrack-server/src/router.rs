//! The table of routes.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api;
use crate::error::Problem;
use crate::socket;
use crate::state::AppState;

/// Everything the server answers to.
pub(crate) fn router(state: AppState) -> Router {
    let (described, description) = described().split_for_parts();
    let page = api::docs::Page::of(&description);
    described
        .route("/v1/ws", get(socket::connect))
        .route("/openapi.json", get(page.json()))
        .route("/docs", get(page.html()))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(state.config().max_body_bytes))
        .with_state(state)
}

/// The endpoints that describe themselves.
fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(api::docs::Api::openapi())
        .routes(routes!(api::start_session::answer, api::list_sessions::answer))
        .routes(routes!(api::get_session::answer, api::update_session::answer))
        .routes(routes!(api::end_session::answer))
        .routes(routes!(api::add_messages::answer, api::list_messages::answer))
        .routes(routes!(api::export::answer))
        .routes(routes!(api::search::answer))
        .routes(routes!(api::events::answer))
        .routes(routes!(api::health::answer))
        .routes(routes!(api::ready::answer))
        .routes(routes!(api::metrics::answer))
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::without_code(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::without_code(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer to {method}", uri.path()),
    )
}
