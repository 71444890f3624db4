//! `talktrack dead-letters show SEQ`: shows everything known about one dead letter, with the message itself.

use std::process::ExitCode;

use talktrack::clock::Seq;
use talktrack::store::sqlite::DeadLetter;
use talktrack_protocol::RecordLine;

use super::LetterSheet;
use crate::command::{Outcome, lookup};
use crate::config::DataLocation;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::terminal;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The last line is the message as `talktrack import` and `talktrack client --file` read it. To correct the message: \
    put that line into a file (`| tail -n 1`), change it, import the file, and drop the dead letter."
)]
pub(crate) struct ShowLetterArgs {
    /// The number of the dead letter, as `talktrack dead-letters list` shows it
    seq: Seq,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

pub(super) async fn run(args: ShowLetterArgs) -> Outcome {
    show_letter(args).await.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn show_letter(args: ShowLetterArgs) -> Result<(), Stop> {
    let letter = lookup::open_file(&args.location)?.dead_letters().get(args.seq).await?;
    let none = || Failure::new(format_args!("there is no dead letter {}", args.seq));
    let letter = letter.ok_or_else(none)?;
    let mut output = Output::stdout();
    if args.json {
        output.write_json(&LetterSheet::new(&letter))?;
    } else {
        print_head(&mut output, &letter)?;
        print_body(&mut output, &letter)?;
    }
    output.flush()
}

fn print_head(output: &mut Output, letter: &DeadLetter) -> Result<(), Stop> {
    let owner = letter.record.as_ref().ok().and_then(|record| record.message()?.owner.clone());
    let lines = [
        ("letter", Some(letter.seq.to_string())),
        ("died", Some(terminal::format_time(&letter.died_at.into()))),
        ("reason", Some(letter.reason.clone())),
        ("detail", letter.detail.clone()),
        ("session", letter.session_id.map(|id| id.to_string())),
        ("user", owner.map(|id| id.to_string())),
        ("message", letter.message_id.map(|id| id.to_string())),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            output.write_line(&format!("{name:<7} {}", terminal::escape_line(&value)))?;
        }
    }
    output.write_line("")
}

fn print_body(output: &mut Output, letter: &DeadLetter) -> Result<(), Stop> {
    match &letter.record {
        Ok(record) => {
            let frame = serde_json::to_string(&RecordLine::from_record(record)).map_err(Failure::new)?;
            output.write_line(&terminal::escape_json(&frame))
        }
        Err(text) => {
            output.write_line("its bytes can no longer be read as a message; what is left of them:")?;
            output.write_line(&terminal::escape_line(text))
        }
    }
}
