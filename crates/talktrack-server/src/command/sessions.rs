//! `talktrack sessions`: lists stored sessions, newest first.

use std::process::ExitCode;

use talktrack::store::{SessionFilter, SessionRow};
use talktrack::{Status, UserId};

use super::Outcome;
use super::lookup::{self, HOW_TO_BEGIN, SHORT_ID};
use crate::config::DataLocation;
use crate::csv_table;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::store::PAGE;
use crate::terminal::{self, View};

/// The width of a row with full ids.
const WHOLE_ROW: usize = 122;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionsArgs {
    /// The maximum number of sessions
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only sessions of this user
    #[arg(long, value_name = "UUID")]
    user: Option<UserId>,
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
    location: DataLocation,
}

fn parse_status(word: &str) -> Result<Status, String> {
    word.parse::<Status>().map_err(|invalid| invalid.problem.into_owned())
}

/// Runs the command.
pub(crate) async fn run(args: SessionsArgs) -> Outcome {
    list_sessions(args).await.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn list_sessions(args: SessionsArgs) -> Result<(), Stop> {
    let mut rows = read_newest(&args).await?;
    let mut output = Output::stdout();
    if args.json {
        rows.iter().try_for_each(|row| output.write_json(row))?;
    } else if args.csv {
        let mut table = String::new();
        csv_table::write_session_header(&mut table);
        rows.iter().for_each(|row| csv_table::write_session(row, &mut table));
        output.write_text(&table)?;
    } else if rows.is_empty() {
        let filtered = args.user.is_some() || args.status.is_some();
        eprintln!("{}", if filtered { "no such conversations" } else { HOW_TO_BEGIN });
    } else {
        let more = rows.len() > args.limit;
        rows.truncate(args.limit);
        output.write_line(&render_table(&rows, View::for_stdout()))?;
        if more {
            output.flush()?;
            eprintln!("there are more sessions; --limit shows more");
        }
    }
    output.flush()
}

/// Returns the newest sessions. For people, returns one more than the limit, so that the command knows whether there
/// are more.
async fn read_newest(args: &SessionsArgs) -> Result<Vec<SessionRow>, Failure> {
    let stored = lookup::open_store(&args.location)?;
    let reader = stored.rows();
    let filter = SessionFilter::default().with_user_id(args.user.clone()).with_status(args.status);
    let wanted = if args.json || args.csv { args.limit } else { args.limit.saturating_add(1) };
    let mut rows: Vec<SessionRow> = Vec::new();
    loop {
        let cursor = rows.last().map(SessionRow::cursor);
        let limit = PAGE.min(wanted - rows.len());
        let page = reader.sessions(filter.clone(), cursor, limit).await?;
        let more = page.more;
        rows.extend(page);
        if !more || rows.len() == wanted {
            return Ok(rows);
        }
    }
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
    use talktrack::StoredTime;

    use super::*;
    use talktrack::{Dimensions, SessionId};

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
