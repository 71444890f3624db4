//! `GET /readyz`: reports whether messages would become durable and stored now, and if not, why. Every caller may see
//! the status, because load balancers send no token. The causes name hosts and tables, so only callers who may see the
//! metrics of all users get them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use crate::auth::Caller;
use crate::config::Scope;
use crate::error::Problem;
use crate::state::AppState;

/// Checks that messages would become durable and stored now
#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = "operating",
    responses(
        (status = 200, description = "Messages would become durable and stored now."),
        (status = 503, description = "They would not. Callers that may read `/metrics` also get the causes."),
    )
)]
pub(crate) async fn get_readiness(
    State(state): State<AppState>,
    caller: Result<Caller, Problem>,
) -> Response {
    let health = state.tracker().health();
    let named = |stage: &str, cause: String| format!("{stage}: {cause}");
    let mut causes = Vec::new();
    causes.extend(health.journal.map(|cause| named("journal", cause)));
    causes.extend(health.store.map(|cause| named("store", cause)));
    causes.extend(state.is_stopping().then(|| "shutting down".to_owned()));
    let sees_causes = caller.is_ok_and(|caller| caller.require_for_all(Scope::Metrics).is_ok());
    if causes.is_empty() {
        match health.warning.filter(|_| sees_causes) {
            Some(warning) => {
                super::json_response(StatusCode::OK, &json!({"status": "ready", "warnings": [warning]}))
            }
            None => super::json_response(StatusCode::OK, &json!({"status": "ready"})),
        }
    } else if sees_causes {
        super::json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"status": "not ready", "causes": causes}),
        )
    } else {
        super::json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready"}))
    }
}
