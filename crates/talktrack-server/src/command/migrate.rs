//! `talktrack migrate`: migrates a PostgreSQL database to the schema, and shows the result.

use std::process::ExitCode;

use talktrack::store::postgres::schema::{self, ColumnInfo, UserAccess};

use super::Outcome;
use super::schema::{NOTHING_TO_DO, connect_to_postgres, print_differences};
use crate::config::DataLocation;
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::schema::in_full;
use crate::terminal::{self, View};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArgs {
    /// Print the SQL instead, for the SQL editor of Supabase or for psql, without connecting to a database
    #[arg(long)]
    print: bool,
    /// What users may do with their own conversations through PostgREST: read, write or delete. Defaults to the value stored
    /// in the database, or to write for a new schema
    #[arg(long, value_name = "ACCESS")]
    users: Option<UserAccess>,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: MigrateArgs) -> Outcome {
    run_migration(args).await.map_or_else(Stop::into_outcome, Ok)
}

async fn run_migration(args: MigrateArgs) -> Result<ExitCode, Stop> {
    let mut output = Output::stdout();
    if args.print {
        let script = args.users.map_or_else(schema::script, schema::script_for);
        output.write_line(script.trim_end())?;
        output.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(connection) = connect_to_postgres(&args.location).await? else {
        eprintln!("{NOTHING_TO_DO}");
        return Ok(ExitCode::SUCCESS);
    };
    let left_over = match args.users {
        None => schema::migrate(&connection).await,
        Some(access) => schema::migrate_for(&connection, access).await,
    };
    let left_over = left_over.map_err(Failure::new)?;
    let columns = schema::describe(&connection).await.map_err(|error| Failure::new(in_full(&error)))?;
    output.write_line(&render_table(&columns, View::for_stdout()))?;
    if !left_over.is_empty() {
        output.write_line("\n-- Not done, because it would change something of your own:\n")?;
        print_differences(&mut output, &left_over)?;
    }
    output.flush()?;
    Ok(if left_over.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render_table(columns: &[ColumnInfo], view: View) -> String {
    let mut table = terminal::new_table(view, &["table", "column", "type", "null", "default", ""]);
    for column in columns {
        let null = if column.nullable { "" } else { "not null" };
        let remark = column.remark.as_deref().unwrap_or_default();
        let default = column.default.as_deref().unwrap_or_default();
        let cells = [&column.table, &column.column, &column.sql_type, null, default, remark];
        table.add_row(cells.map(|cell| terminal::escape_line(cell).into_owned()));
    }
    table.trim_fmt()
}
