//! Files in the data directory that a deletion cannot reach: damaged databases, which are kept in quarantine until an
//! operator drops them.

use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use crate::state::AppState;

/// Files in the data directory of this server that may still hold deleted data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Remaining {
    /// The directory below the data directory.
    pub(crate) path: String,
    /// The command that removes it.
    pub(crate) remove: String,
}

/// Lists the files in quarantine. They are damaged, so their contents are not examined.
pub(super) async fn find_remaining(state: &AppState) -> Vec<Remaining> {
    let file = state.config().local_file();
    let kept = spawn_blocking(move || talktrack::quarantines(&file)).await.unwrap_or_default();
    let name = |path: &std::path::PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    let remaining = |name: String| Remaining {
        path: format!("quarantine/{name}"),
        remove: format!("talktrack quarantine drop {name}"),
    };
    kept.iter().filter_map(name).map(remaining).collect()
}
