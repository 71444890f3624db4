//! `talktrack doctor`: reports how a PostgreSQL database differs from the schema. Prints nothing if it does not.

use std::process::ExitCode;

use super::Outcome;
use super::schema::{NOTHING_TO_DO, connect_to_postgres, print_differences};
use crate::config::DataLocation;
use crate::output::{Output, Stop};
use crate::schema;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object per difference
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: DoctorArgs) -> Outcome {
    compare_schema(args).await.map_or_else(Stop::into_outcome, Ok)
}

async fn compare_schema(args: DoctorArgs) -> Result<ExitCode, Stop> {
    let Some(connection) = connect_to_postgres(&args.location).await? else {
        eprintln!("{NOTHING_TO_DO}");
        return Ok(ExitCode::SUCCESS);
    };
    let found = schema::differences(&connection).await?;
    let mut output = Output::stdout();
    if args.json {
        found.iter().try_for_each(|difference| output.write_json(difference))?;
    } else {
        print_differences(&mut output, &found)?;
    }
    output.flush()?;
    let is_sound = found.iter().all(|difference| difference.warning);
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
