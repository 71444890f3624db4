//! The dashboard: pages for people, from the same rows and under the same rules as the API. The server renders them,
//! they load nothing from other hosts, and they are readable without scripts. Scripts add live updates.

mod login;
mod sessions;
mod search_results;
mod conversation;
mod transcript_part;
mod neighbours;
mod deletion;
mod stats;
mod talk;
mod health;
mod dead_letters;

// The modules below are shared by the pages.
mod sessions_query;
mod forms;
mod visitor;
mod page;
mod address;
mod row;
mod message_view;
mod latency_bar;
mod chart;
mod pipeline_status;
mod letter_view;
mod assets;
mod format;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tower_http::compression::CompressionLayer;
use tower_http::compression::CompressionLevel;

pub(crate) use page::report_wrong_address;

use crate::metered::meter_reading;
use crate::state::AppState;

/// Returns the routes of the pages. Responses are compressed.
pub(crate) fn routes(state: &AppState) -> Router<AppState> {
    Router::new()
        .route("/", get(sessions::show_sessions))
        .route("/sessions/{session_id}", get(conversation::show_conversation))
        .route("/sessions/{session_id}/head", get(conversation::show_head))
        .route("/sessions/{session_id}/said", get(conversation::show_messages))
        .route(
            "/sessions/{session_id}/delete",
            get(deletion::confirm_deletion).post(deletion::delete_conversation),
        )
        .route("/stats", get(stats::show_stats))
        .route("/talk", get(talk::show_talk))
        .route("/health", get(health::show_health))
        .route("/health/figures", get(health::show_pipeline_status))
        .route("/health/letters/{seq}", get(dead_letters::show_letter))
        .route("/health/replay", post(dead_letters::replay_letters))
        .route("/health/drop", get(dead_letters::confirm_drop).post(dead_letters::drop_letters))
        .route("/login", get(login::show_login).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/assets/{name}", get(assets::serve_asset))
        .layer(from_fn_with_state(state.clone(), forms::check_form))
        .layer(from_fn(address::add_path_prefix))
        // Inside the compression layer, so that reads are counted by their uncompressed size.
        .layer(from_fn_with_state(state.clone(), meter_reading))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
}
