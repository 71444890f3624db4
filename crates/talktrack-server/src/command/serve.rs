//! `talktrack serve`: runs the server.

use super::Outcome;
use crate::config::SettingFlags;
use crate::serve;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingFlags,
}

/// Runs the server until a signal stops it.
pub(crate) async fn run(args: ServeArgs) -> Outcome {
    serve::serve(args.settings.load()?).await
}
