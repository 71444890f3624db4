//! `talktrack sessions`: lists stored sessions, newest first.

use std::process::ExitCode;

use talktrack::Status;
use talktrack::store::SessionRow;

use super::Outcome;
use super::filter::{FilterArgs, ListFilter};
use super::lookup::{HOW_TO_BEGIN, SHORT_ID};
use super::source::{SessionPages, Source, SourceArgs};
use crate::csv_table;
use crate::output::{Output, Stop};
use crate::terminal::{self, View};

/// The width of a row with full ids.
const WHOLE_ROW: usize = 122;

/// How many sessions people see if they name no limit. Programs see all.
const DEFAULT_LIMIT: usize = 50;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionsArgs {
    /// The maximum number of sessions [default: 50; all with --json and --csv]
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit: Option<usize>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only sessions with this status: active, ended or abandoned
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    status: Option<Status>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Print a table for spreadsheets (CSV)
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    source: SourceArgs,
}

fn parse_status(word: &str) -> Result<Status, String> {
    word.parse::<Status>().map_err(|invalid| invalid.problem.into_owned())
}

/// Parses the maximum number of rows of a list.
pub(super) fn parse_limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| format!("must be a whole number of at least 1, not {text:?}"))
}

/// Runs the command.
pub(crate) async fn run(args: SessionsArgs) -> Outcome {
    list_sessions(args).await.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn list_sessions(args: SessionsArgs) -> Result<(), Stop> {
    let source = args.source.open()?;
    let filter = args.filter.with_status(args.status);
    let mut output = Output::stdout();
    if args.json || args.csv {
        let wanted = args.limit.unwrap_or(usize::MAX);
        return write_rows(&source, &filter, wanted, args.csv, &mut output).await;
    }
    let limit = args.limit.unwrap_or(DEFAULT_LIMIT);
    // One more than the limit, to know whether there are more.
    let mut pages = SessionPages::new(&source, &filter, limit.saturating_add(1));
    let mut rows = Vec::new();
    while let Some(page) = pages.next().await? {
        rows.extend(page);
    }
    if rows.is_empty() {
        let filtered = args.status.is_some() || !args.filter.is_empty();
        eprintln!("{}", if filtered { "no such conversations" } else { HOW_TO_BEGIN });
        return output.flush();
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    output.write_line(&render_table(&rows, View::for_stdout()))?;
    output.flush()?;
    if more {
        eprintln!("there are more sessions; --limit shows more");
    }
    Ok(())
}

/// Writes the sessions for a program, page by page.
async fn write_rows(
    source: &Source,
    filter: &ListFilter,
    wanted: usize,
    as_csv: bool,
    output: &mut Output,
) -> Result<(), Stop> {
    let mut table = String::new();
    if as_csv {
        csv_table::write_session_header(&mut table);
    }
    let mut pages = SessionPages::new(source, filter, wanted);
    while let Some(page) = pages.next().await? {
        if as_csv {
            page.iter().for_each(|row| csv_table::write_session(row, &mut table));
            output.write_text(&std::mem::take(&mut table))?;
        } else {
            page.iter().try_for_each(|row| output.write_json(row))?;
        }
    }
    output.write_text(&table)?;
    output.flush()
}

fn render_table(rows: &[SessionRow], view: View) -> String {
    let whole = view.fits(WHOLE_ROW);
    let mut heads = vec!["session", "started", ">length", ">messages", "status"];
    if whole {
        heads.push("user");
    }
    let mut table = terminal::new_table(view, &heads);
    for row in rows {
        let mut session = row.session_id.to_string();
        if !whole {
            session.truncate(SHORT_ID);
        }
        let length = row.duration_seconds.map_or_else(|| "-".to_owned(), terminal::format_duration);
        let status = terminal::escape_line(row.status.as_str()).into_owned();
        let mut cells = vec![
            session,
            terminal::format_time(&row.started_at),
            length,
            row.message_count.to_string(),
            status,
        ];
        if whole {
            cells.push(terminal::format_user(row.user_id.as_ref()));
        }
        table.add_row(cells);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use talktrack::{Dimensions, SessionId, StoredTime, UserId};

    use super::*;

    fn moment(text: &str) -> StoredTime {
        StoredTime::Known(text.parse().unwrap())
    }

    fn row() -> SessionRow {
        SessionRow {
            session_id: SessionId::from_u128(0xfda8_6359 << 96),
            user_id: Some(UserId::from_u128(2)),
            external_id: None,
            status: Status::Ended.into(),
            end_reason: Some("completed".into()),
            started_at: moment("2026-11-23T08:00:00Z"),
            ended_at: Some(moment("2026-11-23T08:00:45.2Z")),
            duration_seconds: Some(45.2),
            last_event_at: None,
            message_count: 8,
            dimensions: Dimensions::default(),
            metadata: None,
        }
    }

    #[test]
    fn a_narrow_terminal_gets_one_line_a_session_all_the_same() {
        let lines = |columns| {
            render_table(&[row()], View { columns, colour: false })
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let narrow = lines(Some(80));
        assert_eq!(narrow.len(), 2, "{narrow:?}");
        assert!(narrow[1].starts_with("fda86359-0000-0000  2026-11-23T08:00:00Z"), "{narrow:?}");
        let wide = lines(None);
        assert!(wide[1].contains("fda86359-0000-0000-0000-000000000000"), "{wide:?}");
        assert!(wide[1].len() <= WHOLE_ROW, "{}", wide[1].len());
    }
}
