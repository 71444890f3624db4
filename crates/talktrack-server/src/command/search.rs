//! `talktrack search`: finds messages by their words, newest first.

use std::process::ExitCode;

use talktrack::UserId;
use talktrack::search::Hit;

use super::Outcome;
use super::filter::SearchWords;
use super::lookup::{self, SHORT_ID};
use super::sessions::parse_limit;
use super::source::SourceArgs;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::store::PAGE;
use crate::terminal::{self, View};

/// How many messages people see if they name no limit. Programs see all.
const DEFAULT_LIMIT: usize = 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A message must contain all words, in any order, case and with or without accents. \"several words\" must occur \
    in this order; begin* matches words that begin so."
)]
pub(crate) struct SearchArgs {
    /// The words
    #[arg(required = true, value_name = "WORDS")]
    words: Vec<String>,
    /// Only messages in sessions of this user
    #[arg(long, value_name = "UUID")]
    user: Option<UserId>,
    /// Only messages in this session: its id, or at least the first 8 characters of it
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The maximum number of messages [default: 20; all with --json]
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit: Option<usize>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command. As with `grep`, finding nothing is a failure.
pub(crate) async fn run(args: SearchArgs) -> Outcome {
    let code = |found| if found { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    search_messages(args).await.map_or_else(Stop::into_outcome, |found| Ok(code(found)))
}

/// Prints the messages. Returns false if there are none.
async fn search_messages(args: SearchArgs) -> Result<bool, Stop> {
    let words: SearchWords =
        args.words.join(" ").parse().map_err(|error| Failure::usage(format_args!("WORDS: {error}")))?;
    let source = args.source.open()?;
    let session = match &args.session {
        Some(id) => Some(lookup::find_session(&source, id).await?.session_id),
        None => None,
    };
    let limit = args.limit.unwrap_or(if args.json { usize::MAX } else { DEFAULT_LIMIT });
    let mut output = Output::stdout();
    let view = View::for_stdout();
    let mut left = limit;
    let mut after = None;
    loop {
        let page = source.search(&words, args.user.as_ref(), session, after, PAGE.min(left)).await?;
        for hit in &page {
            if args.json { output.write_json(hit) } else { print_hit(&mut output, hit, view) }?;
        }
        left = left.saturating_sub(page.len());
        after = page.last_before_more().map(Hit::cursor);
        if after.is_none() || left == 0 {
            break;
        }
    }
    output.flush()?;
    if !args.json && left == limit {
        eprintln!("no message has these words");
    } else if !args.json && after.is_some() {
        eprintln!("there are more messages; --limit shows more");
    }
    Ok(left < limit)
}

/// Prints a message: where it is, and on the next lines the part with the first match. The words that do not match are
/// dimmed, so that those that match stand out.
fn print_hit(output: &mut Output, hit: &Hit, view: View) -> Result<(), Stop> {
    let mut session = hit.session_id.to_string();
    if !view.fits(WIDE) {
        session.truncate(SHORT_ID);
    }
    let time = terminal::format_time(&hit.created_at);
    let role = terminal::escape_line(hit.role.as_str());
    output.write_line(&format!("{time}  {session}  {role}"))?;
    let mut line = String::new();
    for piece in &hit.snippet {
        let text = terminal::escape_line(&piece.text);
        line.push_str(&if piece.hit { text } else { view.dim(&text).into_owned().into() });
    }
    output.write_line(&format!("    {line}"))
}

/// The width of a line with the whole id of the session.
const WIDE: usize = 80;
