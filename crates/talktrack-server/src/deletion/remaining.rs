//! What a deletion does not reach in the data directory: the files of damaged databases, which are kept until somebody drops them.

use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use crate::state::AppState;

/// Files in the data directory of this server that may still hold what was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Remaining {
    /// The directory below the data directory.
    pub(crate) path: String,
    /// The command that removes it.
    pub(crate) remove: String,
}

/// Names them. Nobody looks into the files: they are damaged.
pub(super) async fn find(state: &AppState) -> Vec<Remaining> {
    let file = state.config().local_file();
    let kept = spawn_blocking(move || talktrack::quarantines(&file)).await.unwrap_or_default();
    let name = |path: &std::path::PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    let remaining = |name: String| Remaining {
        path: format!("quarantine/{name}"),
        remove: format!("talktrack quarantine drop {name}"),
    };
    kept.iter().filter_map(name).map(remaining).collect()
}
