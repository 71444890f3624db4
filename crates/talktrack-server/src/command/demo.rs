//! `talktrack demo`: fills a running server with realistic conversations, to try out pages, searches and statistics.

mod live;
mod delivery;
mod timing;
mod outline;
mod rhythm;
mod numbers;
mod speech;
mod scripts;

use std::process::ExitCode;

use delivery::Delivered;
use outline::Outline;
use scripts::Script;
use serde::Serialize;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{UserId, counted};
use talktrack_client::api::ApiClient;

use super::Outcome;
use super::server_url::ServerArgs;
use crate::error::Failure;
use crate::output;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Running the command again changes nothing; another --seed generates other conversations. If espeak-ng is \
    installed, a few conversations get recordings."
)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The user of all conversations; several generated users by default
    #[arg(long, value_name = "UUID")]
    user_id: Option<UserId>,
    /// The number of conversations, spread over the last week
    #[arg(long, value_name = "N", default_value_t = 40)]
    sessions: usize,
    /// The seed of the random generator: the same seed generates the same conversations
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Then hold one more conversation in real time, until it ends
    #[arg(long)]
    live: bool,
    /// Print the summary as one JSON object
    #[arg(long, conflicts_with = "live")]
    json: bool,
}

/// What the command has done.
#[derive(Debug, Default, Serialize)]
struct DemoSummary {
    url: String,
    /// The number of new conversations.
    sessions: usize,
    messages: usize,
    recordings: usize,
    there_already: usize,
    deleted: usize,
}

/// Runs the command.
pub(crate) async fn run(args: DemoArgs) -> Outcome {
    let api = args.server.api_client()?;
    let scripts = scripts::load_scripts()?;
    if !args.live || args.sessions > 0 {
        let summary = fill_server(&args, &api, &scripts).await?;
        output::print_summary(args.json, &summary, |_| summary.describe(), ExitCode::SUCCESS)?;
    }
    if !args.live {
        return Ok(ExitCode::SUCCESS);
    }
    let server = args.server.socket_client()?;
    let outline = outline::draw_live(&scripts, args.seed)?;
    // A token names its user itself.
    let user_id = args.user_id.or(args.server.token.is_none().then(|| outline.user_id.clone()));
    live::run_live(&server, &outline, user_id, |session_id| format!("{}/sessions/{session_id}", api.url()))
        .await
}

async fn fill_server(args: &DemoArgs, api: &ApiClient, scripts: &[Script]) -> Result<DemoSummary, Failure> {
    let now = SystemClock.now();
    let can_speak = speech::is_installed().await;
    if !can_speak && args.sessions > 0 {
        eprintln!(
            "espeak-ng is not installed: there will be no recordings (apt-get install espeak-ng, or brew install espeak-ng)"
        );
    }
    let mut summary = DemoSummary { url: api.url().to_owned(), ..DemoSummary::default() };
    // Oldest first, so that lists in the order of arrival have the same order as the conversations.
    let starts = rhythm::draw_starts(now, args.sessions, &mut outline::generator(args.seed, "starts", 0));
    for (number, start) in starts.into_iter().enumerate().rev() {
        let mut outline: Outline<'_> = outline::draw(scripts, args.seed, number)?;
        if let Some(user_id) = &args.user_id {
            outline.belongs_to(user_id.clone());
        }
        match delivery::deliver(api, &outline, start, can_speak).await? {
            Delivered::Made { messages, recordings } => {
                summary.sessions += 1;
                summary.messages += messages;
                summary.recordings += recordings;
            }
            Delivered::AlreadyThere => summary.there_already += 1,
            Delivered::Deleted => summary.deleted += 1,
        }
    }
    Ok(summary)
}

impl DemoSummary {
    fn describe(&self) -> String {
        let Self { url, sessions, messages, recordings, there_already, deleted } = self;
        let mut text = format!(
            "created {} with {} and {}",
            counted(sessions, "conversation"),
            counted(messages, "message"),
            counted(recordings, "recording")
        );
        if *there_already > 0 {
            text.push_str(&format!("; {there_already} already existed"));
        }
        if *deleted > 0 {
            text.push_str(&format!(
                "; not created again, because they were deleted before: {deleted} (--seed generates others)"
            ));
        }
        text.push_str(&format!("\nopen {url}/ to see them"));
        text
    }
}
