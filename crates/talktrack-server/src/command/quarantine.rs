//! `talktrack quarantine`: manages damaged databases that are kept next to the current one. They contain text,
//! including text that was deleted since.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::Outcome;
use crate::audit::{self, Actor, Entry};
use crate::config::DataLocation;
use crate::error::Failure;
use crate::output::{Output, Stop};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    action: QuarantineAction,
}

#[derive(Debug, clap::Subcommand)]
enum QuarantineAction {
    /// List damaged databases, oldest first
    List(ListQuarantineArgs),
    /// Remove damaged databases permanently
    Drop(DropQuarantineArgs),
}

#[derive(Debug, clap::Args)]
struct ListQuarantineArgs {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

#[derive(Debug, clap::Args)]
struct DropQuarantineArgs {
    /// The names that `list` shows
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// Remove all of them
    #[arg(long, requires = "yes")]
    all: bool,
    /// Confirm --all
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// One damaged database.
#[derive(Debug, Serialize)]
struct Quarantine {
    name: String,
    path: PathBuf,
    bytes: u64,
    /// The first line of its report.
    report: String,
}

/// Runs the command.
pub(crate) async fn run(args: QuarantineArgs) -> Outcome {
    match args.action {
        QuarantineAction::List(args) => {
            list_quarantines(&args).map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
        }
        QuarantineAction::Drop(args) => drop_quarantines(&args),
    }
}

fn list_quarantines(args: &ListQuarantineArgs) -> Result<(), Stop> {
    let mut output = Output::stdout();
    for kept in read_quarantines(&args.location.load()?.local_file()) {
        match args.json {
            true => output.write_json(&kept)?,
            false => output.write_line(&format!("{}  {} bytes  {}", kept.name, kept.bytes, kept.report))?,
        }
    }
    output.flush()?;
    Ok(())
}

fn drop_quarantines(args: &DropQuarantineArgs) -> Outcome {
    let config = args.location.load()?;
    let all = read_quarantines(&config.local_file());
    let unknown = args.names.iter().find(|name| !all.iter().any(|kept| kept.name == **name));
    if let Some(name) = unknown {
        return Err(Failure::new(format!("there is no {name} in quarantine; see talktrack quarantine list")));
    }
    let chosen = all.iter().filter(|kept| args.all || args.names.contains(&kept.name));
    for kept in chosen {
        fs::remove_dir_all(&kept.path)
            .map_err(|error| Failure::new(format!("cannot remove {}: {error}", kept.path.display())))?;
        println!("removed {}", kept.name);
        let detail = serde_json::json!({"quarantine": kept.name});
        let entry = Entry::new(Actor::of_this_process(), "quarantine.drop", None).detail(detail);
        audit::record_command(&config.data_dir, &entry);
    }
    Ok(ExitCode::SUCCESS)
}

fn read_quarantines(database: &Path) -> Vec<Quarantine> {
    let kept = |path: PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let files = fs::read_dir(&path).into_iter().flatten().flatten();
        let bytes = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        let report = fs::read_to_string(path.join("report.txt")).unwrap_or_default();
        let report = report.lines().next().unwrap_or("no report").to_owned();
        Quarantine { name, path, bytes, report }
    };
    talktrack::quarantines(database).into_iter().map(kept).collect()
}
