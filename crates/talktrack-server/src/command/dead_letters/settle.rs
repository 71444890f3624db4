//! `talktrack dead-letters replay` and `drop`: sends dead letters to the store again, or deletes them.

use std::process::ExitCode;

use serde_json::json;
use talktrack::clock::Seq;

use super::NONE;
use super::executor::Executor;
use crate::audit::{self, Actor, Entry};
use crate::command::{self, lookup};
use crate::config::DataLocation;
use crate::dead_letters::{LetterOutcome, LetterRequest, LetterResult, MOST_AT_ONCE};
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::store;
use crate::terminal;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A dead letter is removed once its message is durable again. If the store refuses the message again, it becomes \
    a new dead letter. Replaying a message twice does no harm."
)]
pub(crate) struct ReplayLettersArgs {
    #[command(flatten)]
    chosen: ChosenLetters,
}

/// Arguments of `drop`.
#[derive(Debug, clap::Args)]
pub(crate) struct DropLettersArgs {
    #[command(flatten)]
    chosen: ChosenLetters,
    /// Confirm --all
    #[arg(long, requires = "all")]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct ChosenLetters {
    /// The numbers of the dead letters, as `talktrack dead-letters list` shows them
    #[arg(value_name = "SEQ", required_unless_present = "all", conflicts_with = "all")]
    seqs: Vec<Seq>,
    /// All current dead letters
    #[arg(long)]
    all: bool,
    /// Print one JSON object per dead letter
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

pub(super) async fn replay_letters(args: ReplayLettersArgs) -> command::Outcome {
    settle_letters(&args.chosen, LetterRequest::Replay).await
}

pub(super) async fn drop_letters(args: DropLettersArgs) -> command::Outcome {
    if args.chosen.all && !args.yes {
        let reader = lookup::open_file(&args.chosen.location)?;
        let count = reader.dead_letters().seqs().await?.len();
        return Err(Failure::usage(format_args!(
            "drop --all deletes {count} dead letters permanently; add --yes to confirm"
        )));
    }
    settle_letters(&args.chosen, LetterRequest::Drop).await
}

async fn settle_letters(chosen: &ChosenLetters, request: fn(Vec<Seq>) -> LetterRequest) -> command::Outcome {
    let config = chosen.location.load()?;
    store::expect_file(&config.local_file())?;
    // The data directory is opened before the letters are read: on a full disk, reading the file needs space that only
    // opening the tracker can free.
    let executor = Executor::open(&config).await?;
    let seqs = chosen.read_seqs().await?;
    if seqs.is_empty() {
        eprintln!("{NONE}");
        return executor.close().await.map(|()| ExitCode::SUCCESS);
    }
    let what = request(Vec::new()).name();
    let mut all_succeeded = true;
    let mut done = 0_u64;
    let mut output = Output::stdout();
    for some in seqs.chunks(MOST_AT_ONCE) {
        for result in executor.execute(request(some.to_vec())).await? {
            all_succeeded &= result.outcome.is_success();
            done += u64::from(result.outcome.is_success());
            print_result(&result, chosen.json, &mut output).or_else(ignore_reader_gone)?;
        }
        output.flush().or_else(ignore_reader_gone)?;
    }
    if executor.is_local() {
        let who = Actor::of_this_process();
        let detail = json!({"asked": seqs.len()});
        audit::record_command(&config.data_dir, &Entry::new(who, what, None).count(done).detail(detail));
    }
    executor.close().await?;
    Ok(if all_succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl ChosenLetters {
    /// Returns the chosen letters, oldest first, so that a session's start comes before its messages.
    async fn read_seqs(&self) -> Result<Vec<Seq>, Failure> {
        let reader = lookup::open_file(&self.location)?;
        if self.all {
            return Ok(reader.dead_letters().seqs().await?);
        }
        let mut seqs = self.seqs.clone();
        seqs.sort_unstable();
        seqs.dedup();
        Ok(seqs)
    }
}

/// Prints successes on standard output and failures on standard error.
fn print_result(result: &LetterResult, json: bool, output: &mut Output) -> Result<(), Stop> {
    let line = format!("{}: {}", result.seq, terminal::escape_line(&describe(&result.outcome)));
    if !result.outcome.is_success() {
        eprintln!("{line}");
    }
    match json {
        true => output.write_json(result),
        false if result.outcome.is_success() => output.write_line(&line),
        false => Ok(()),
    }
}

fn describe(outcome: &LetterOutcome) -> String {
    match outcome {
        LetterOutcome::Stored => "stored".into(),
        LetterOutcome::OnItsWay => "durable again; on its way to the store".into(),
        LetterOutcome::DeadAgain { letter, reason, detail } => {
            let detail = detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
            format!("refused again; it is now the dead letter {letter}: {reason}{detail}")
        }
        LetterOutcome::Deleted => "removed: its content was deleted meanwhile".into(),
        LetterOutcome::Dropped => "dropped".into(),
        LetterOutcome::Stays { why } => format!("stays a dead letter: {why}"),
        LetterOutcome::NotThere => "there is no such dead letter".into(),
    }
}

/// Ignores a closed standard output, so that the work continues even if its reader has ended.
fn ignore_reader_gone(stop: Stop) -> Result<(), Failure> {
    match stop {
        Stop::ReaderGone => Ok(()),
        Stop::Failed(failure) => Err(failure),
    }
}
