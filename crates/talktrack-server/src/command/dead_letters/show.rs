//! `talktrack dead-letters show SEQ`: shows everything known about one dead letter, with the message itself.

use std::process::ExitCode;

use talktrack::clock::Seq;
use talktrack::store::sqlite::DeadLetter;

use super::Sheet;
use crate::command::Outcome;
use crate::command::looking;
use crate::config::Place;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::table;
use crate::wire::RecordLine;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The last line is the message as `talktrack import` and `talktrack client --file` read it. To correct the message: \
    put that line into a file (`| tail -n 1`), change it, import the file, and drop the dead letter."
)]
pub(crate) struct Args {
    /// The number of the dead letter, as `talktrack dead-letters list` shows it
    seq: Seq,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(args: Args) -> Outcome {
    show(args).await.map_or_else(Stop::outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn show(args: Args) -> Result<(), Stop> {
    let letter = looking::open_file(&args.place)?.dead_letter(args.seq).await?;
    let none = || Failure::new(format_args!("there is no dead letter {}", args.seq));
    let letter = letter.ok_or_else(none)?;
    let mut output = Output::stdout();
    if args.json {
        output.json(&Sheet::of(&letter))?;
    } else {
        head(&mut output, &letter)?;
        body(&mut output, &letter)?;
    }
    output.flush()
}

fn head(output: &mut Output, letter: &DeadLetter) -> Result<(), Stop> {
    let owner = letter.record.as_ref().ok().and_then(|record| record.message()?.owner);
    let lines = [
        ("letter", Some(letter.seq.to_string())),
        ("died", Some(table::moment(&letter.died_at.into()))),
        ("reason", Some(letter.reason.clone())),
        ("detail", letter.detail.clone()),
        ("session", letter.session_id.map(|id| id.to_string())),
        ("user", owner.map(|id| id.to_string())),
        ("message", letter.message_id.map(|id| id.to_string())),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            output.line(&format!("{name:<7} {}", table::safe_line(&value)))?;
        }
    }
    output.line("")
}

fn body(output: &mut Output, letter: &DeadLetter) -> Result<(), Stop> {
    match &letter.record {
        Ok(record) => {
            let frame = serde_json::to_string(&RecordLine::of(record)).map_err(Failure::new)?;
            output.line(&table::safe_json(&frame))
        }
        Err(text) => {
            output.line("its bytes can no longer be read as a message; what is left of them:")?;
            output.line(&table::safe_line(text))
        }
    }
}
