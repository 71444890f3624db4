//! `talktrack migrate`: migrates a PostgreSQL database to the schema, and shows the result.

use std::process::ExitCode;

use talktrack::store::postgres::schema::{self, ColumnInfo, UserAccess};

use super::Outcome;
use super::schema::{NOTHING_TO_DO, connect, write};
use crate::config::DataLocation;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::schema::in_full;
use crate::table::{self, View};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArgs {
    /// Print the SQL instead, for the SQL editor of Supabase or psql; asks no database
    #[arg(long)]
    print: bool,
    /// What users may do with their own conversations through PostgREST: read, write or delete. Without it they keep what the
    /// database notes; the first time, write
    #[arg(long, value_name = "ACCESS")]
    users: Option<UserAccess>,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: MigrateArgs) -> Outcome {
    migrate(args).await.map_or_else(Stop::outcome, Ok)
}

async fn migrate(args: MigrateArgs) -> Result<ExitCode, Stop> {
    let mut output = Output::stdout();
    if args.print {
        let script = args.users.map_or_else(schema::script, schema::script_for);
        output.line(script.trim_end())?;
        output.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(client) = connect(&args.location).await? else {
        eprintln!("{NOTHING_TO_DO}");
        return Ok(ExitCode::SUCCESS);
    };
    let left_over = match args.users {
        None => schema::migrate(&client).await,
        Some(access) => schema::migrate_for(&client, access).await,
    };
    let left_over = left_over.map_err(Failure::new)?;
    let columns = schema::describe(&client).await.map_err(|error| Failure::new(in_full(&error)))?;
    output.line(&listing(&columns, View::of_stdout()))?;
    if !left_over.is_empty() {
        output.line("\n-- Left over, since it would change what is your own:\n")?;
        write(&mut output, &left_over)?;
    }
    output.flush()?;
    Ok(if left_over.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn listing(columns: &[ColumnInfo], view: View) -> String {
    let mut table = table::table(view, &["table", "column", "type", "null", "default", ""]);
    for column in columns {
        let null = if column.nullable { "" } else { "not null" };
        let remark = column.remark.as_deref().unwrap_or_default();
        let default = column.default.as_deref().unwrap_or_default();
        let cells = [&column.table, &column.column, &column.sql_type, null, default, remark];
        table.add_row(cells.map(|cell| table::safe_line(cell).into_owned()));
    }
    table.trim_fmt()
}
