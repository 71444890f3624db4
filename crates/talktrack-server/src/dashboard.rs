//! The dashboard: pages for people, from the same rows and under the same rules as the API. The server renders them,
//! they load nothing from other hosts, and they are readable without scripts. Scripts add live updates.

mod login;
mod sessions;
mod found;
mod conversation;
mod deletion;
mod numbers;
mod talk;
mod health;
mod dead;

// The modules below are shared by the pages.
mod forms;
mod visitor;
mod page;
mod row;
mod said;
mod turn;
mod chart;
mod figures;
mod letter;
mod assets;
mod words;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tower_http::compression::CompressionLayer;
use tower_http::compression::CompressionLevel;

use crate::metered::meter;
use crate::state::AppState;

/// Returns the routes of the pages. Responses are compressed.
pub(crate) fn routes(state: &AppState) -> Router<AppState> {
    Router::new()
        .route("/", get(sessions::page))
        .route("/sessions/{session_id}", get(conversation::page))
        .route("/sessions/{session_id}/head", get(conversation::head))
        .route("/sessions/{session_id}/said", get(conversation::said))
        .route("/sessions/{session_id}/delete", get(deletion::ask).post(deletion::delete))
        .route("/stats", get(numbers::page))
        .route("/talk", get(talk::page))
        .route("/health", get(health::page))
        .route("/health/figures", get(health::figures))
        .route("/health/letters/{seq}", get(dead::letter))
        .route("/health/replay", post(dead::replay))
        .route("/health/drop", get(dead::ask).post(dead::forget))
        .route("/login", get(login::page).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/assets/{name}", get(assets::serve_asset))
        .layer(from_fn_with_state(state.clone(), forms::check))
        // Inside the compression layer, so that reads are counted by their uncompressed size.
        .layer(from_fn_with_state(state.clone(), meter))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
}
