//! `talktrack dead-letters list`: lists dead letters, one a line, newest last.

use std::process::ExitCode;
use talktrack::clock::Seq;

use talktrack::store::sqlite::{DeadLetter, DeadLetterReader};

use super::{LetterSheet, NONE};
use crate::command::Outcome;
use crate::command::lookup::{self, SHORT_ID};
use crate::config::DataLocation;
use crate::dead_letters::{self, MOST_AT_ONCE};
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::terminal::{self, View};

/// The width of all columns before the detail, with message ids and without.
const WHOLE_FRONT: usize = 117;
const SHORT_FRONT: usize = 69;
/// The smallest useful width of the detail column.
const NARROWEST_DETAIL: usize = 11;
/// The length of a shortened session id, which is the same in the log.
const SHORTEST_ID: usize = 8;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct ListLettersArgs {
    /// The maximum number of dead letters: the newest are listed
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Print one JSON object per line, with the message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

pub(super) async fn run(args: ListLettersArgs) -> Outcome {
    list_letters(args).await.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn list_letters(args: ListLettersArgs) -> Result<(), Stop> {
    let reader = lookup::open_file(&args.location)?.dead_letters();
    let seqs = reader.seqs().await?;
    let newest = &seqs[seqs.len().saturating_sub(args.limit)..];
    let mut output = Output::stdout();
    let view = View::for_stdout();
    let mut table = new_letter_table(view);
    for page in newest.chunks(MOST_AT_ONCE) {
        for letter in read_between(&reader, page).await? {
            if args.json {
                output.write_json(&LetterSheet::new(&letter))?;
            } else {
                table.add_row(letter_cells(&letter, view));
            }
        }
    }
    if !args.json && !newest.is_empty() {
        output.write_line(&table.trim_fmt())?;
    }
    output.flush()?;
    print_remark(seqs.len(), &args);
    Ok(())
}

/// Returns the letters from the first to the last of these. Some may have been removed meanwhile.
async fn read_between(reader: &DeadLetterReader, seqs: &[Seq]) -> Result<Vec<DeadLetter>, Failure> {
    let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else { return Ok(Vec::new()) };
    let mut letters = reader.list(Some(first.previous()), seqs.len()).await?;
    letters.retain(|letter| letter.seq <= *last);
    Ok(letters)
}

fn print_remark(all: usize, args: &ListLettersArgs) {
    if args.json {
        return;
    }
    if all == 0 {
        eprintln!("{NONE}");
    } else if all > args.limit {
        eprintln!("there are {} older dead letters; --limit shows more", all - args.limit);
    }
}

fn new_letter_table(view: View) -> comfy_table::Table {
    let mut heads = vec!["letter", "died", "session", "message", "reason", "detail"];
    if !view.fits(WHOLE_FRONT + NARROWEST_DETAIL) {
        heads.retain(|head| *head != "message");
    }
    terminal::new_table(view, &heads)
}

fn letter_cells(letter: &DeadLetter, view: View) -> Vec<String> {
    let whole = view.fits(WHOLE_FRONT + NARROWEST_DETAIL);
    let mut session = letter.session_id.map_or_else(|| "-".into(), |id| id.to_string());
    session.truncate(if whole { SHORT_ID } else { SHORTEST_ID });
    let mut cells = vec![letter.seq.to_string(), terminal::format_time(&letter.died_at.into()), session];
    if whole {
        cells.push(
            letter
                .message_id
                .map_or_else(|| format!("({})", dead_letters::kind_of_record(letter)), |id| id.to_string()),
        );
    }
    cells.push(terminal::escape_line(&letter.reason).into_owned());
    let front = if whole { WHOLE_FRONT } else { SHORT_FRONT };
    let room = view.columns.map(|columns| columns.saturating_sub(front).max(NARROWEST_DETAIL));
    let detail = terminal::escape_line(letter.detail.as_deref().unwrap_or_default());
    cells.push(room.map_or_else(|| detail.to_string(), |room| terminal::truncate(&detail, room)));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: usize, detail: &str) -> String {
        let letter = DeadLetter {
            seq: Seq::new(1_795_000_000_000_000),
            session_id: Some(talktrack::SessionId::from_u128(0xfda8_6359 << 96)),
            message_id: Some(talktrack::MessageId::from_u128(7)),
            reason: "unknown_session".into(),
            detail: Some(detail.into()),
            died_at: "2026-11-23T08:00:00Z".parse().unwrap(),
            record: Err(String::new()),
        };
        let view = View { columns: Some(columns), colour: false };
        let mut table = new_letter_table(view);
        table.add_row(letter_cells(&letter, view));
        let text = table.trim_fmt();
        let (_, row) = text.split_once('\n').unwrap();
        row.to_owned()
    }

    #[test]
    fn a_letter_takes_one_line_however_long_its_detail_and_narrow_the_terminal() {
        let narrow = row(80, &"why ".repeat(100));
        assert_eq!(
            narrow, "1795000000000000  2026-11-23T08:00:00Z  fda86359  unknown_session  why why wh…",
            "{narrow}"
        );
        let wide = row(140, "not this one");
        assert!(
            wide.contains("00000000-0000-0000-0000-000000000007  unknown_session  not this one"),
            "{wide}"
        );
        assert!(!wide.contains('\n'), "{wide}");
    }
}
