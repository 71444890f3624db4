//! `talktrack dead-letters replay` and `drop`: sends dead letters to the store again, or deletes them.

use std::process::ExitCode;

use serde_json::json;
use talktrack::clock::Seq;

use super::NONE;
use super::hands::Hands;
use crate::audit::{self, Actor, Entry};
use crate::command::{self, looking};
use crate::config::Place;
use crate::error::Failure;
use crate::letters::{Fate, MOST_AT_ONCE, Outcome, Request};
use crate::output::{Output, Stop};
use crate::store;
use crate::table;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A dead letter is removed once its message is durable again. If the store refuses the message again, it becomes \
    a new dead letter. Replaying a message twice does no harm."
)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    chosen: Chosen,
}

/// Arguments of `drop`.
#[derive(Debug, clap::Args)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Confirm --all
    #[arg(long, requires = "all")]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct Chosen {
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
    place: Place,
}

pub(super) async fn replay(args: ReplayArgs) -> command::Outcome {
    settle(&args.chosen, Request::Replay).await
}

pub(super) async fn forget(args: DropArgs) -> command::Outcome {
    if args.chosen.all && !args.yes {
        let reader = looking::open_file(&args.chosen.place)?;
        let count = reader.dead_letter_seqs().await?.len();
        return Err(Failure::usage(format_args!(
            "drop --all deletes {count} dead letters permanently; add --yes to confirm"
        )));
    }
    settle(&args.chosen, Request::Drop).await
}

async fn settle(chosen: &Chosen, request: fn(Vec<Seq>) -> Request) -> command::Outcome {
    let config = chosen.place.load()?;
    store::expect_file(&config.local_file())?;
    // The data directory is opened before the letters are read: on a full disk, reading the file needs space that only
    // opening the tracker can free.
    let hands = Hands::on(&config).await?;
    let seqs = chosen.seqs().await?;
    if seqs.is_empty() {
        eprintln!("{NONE}");
        return hands.let_go().await.map(|()| ExitCode::SUCCESS);
    }
    let what = request(Vec::new()).name();
    let (mut all_good, mut done) = (true, 0_u64);
    let mut output = Output::stdout();
    for some in seqs.chunks(MOST_AT_ONCE) {
        for outcome in hands.carry_out(request(some.to_vec())).await? {
            all_good &= outcome.fate.is_good();
            done += u64::from(outcome.fate.is_good());
            tell(&outcome, chosen.json, &mut output).or_else(ignore_reader_gone)?;
        }
        output.flush().or_else(ignore_reader_gone)?;
    }
    if hands.are_ours() {
        let (who, detail) = (Actor::of_this_process(), json!({"asked": seqs.len()}));
        audit::record_command(&config.data_dir, &Entry::new(who, what, None).count(done).detail(detail));
    }
    hands.let_go().await?;
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Chosen {
    /// Returns the chosen letters, oldest first, so that a session's start comes before its messages.
    async fn seqs(&self) -> Result<Vec<Seq>, Failure> {
        let reader = looking::open_file(&self.place)?;
        if self.all {
            return Ok(reader.dead_letter_seqs().await?);
        }
        let mut seqs = self.seqs.clone();
        seqs.sort_unstable();
        seqs.dedup();
        Ok(seqs)
    }
}

/// Prints successes on standard output and failures on standard error.
fn tell(outcome: &Outcome, json: bool, output: &mut Output) -> Result<(), Stop> {
    let line = format!("{}: {}", outcome.seq, table::safe_line(&in_words(&outcome.fate)));
    if !outcome.fate.is_good() {
        eprintln!("{line}");
    }
    match json {
        true => output.json(outcome),
        false if outcome.fate.is_good() => output.line(&line),
        false => Ok(()),
    }
}

fn in_words(fate: &Fate) -> String {
    match fate {
        Fate::Stored => "stored".into(),
        Fate::OnItsWay => "durable again; on its way to the store".into(),
        Fate::DeadAgain { letter, reason, detail } => {
            let detail = detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
            format!("refused again; it is now the dead letter {letter}: {reason}{detail}")
        }
        Fate::Deleted => "removed: its content was deleted meanwhile".into(),
        Fate::Dropped => "dropped".into(),
        Fate::Stays { why } => format!("stays a dead letter: {why}"),
        Fate::NotThere => "there is no such dead letter".into(),
    }
}

/// Ignores a closed standard output, so that the work continues even if its reader has ended.
fn ignore_reader_gone(stop: Stop) -> Result<(), Failure> {
    match stop {
        Stop::ReaderGone => Ok(()),
        Stop::Failed(failure) => Err(failure),
    }
}
