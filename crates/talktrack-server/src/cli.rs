//! The command line: parses the arguments and runs the command.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::build_info;
use crate::command::{self, Outcome};
use crate::error::Failure;
use crate::visible;

/// Records every conversation of a voice or chat agent, and loses none of it
#[derive(Debug, Parser)]
#[command(name = "talktrack", version = build_info::VERSION_AND_COMMIT, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Settings come from talktrack.toml, TALKTRACK_* environment variables and flags; see `talktrack serve --help`."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(command::serve::ServeArgs),
    /// Fill a running server with example conversations
    Demo(command::demo::DemoArgs),
    /// Talk to a server from the terminal, or replay recorded conversations
    Client(command::client::ClientArgs),
    /// Import conversations from JSONL files into the store
    Import(command::import::ImportArgs),
    /// Export conversations from the store as files
    Export(command::export::ExportArgs),
    /// List sessions, newest first
    Sessions(command::sessions::SessionsArgs),
    /// Show one session with its messages
    Show(command::show::ShowArgs),
    /// Find messages by their words, newest first
    Search(command::search::SearchArgs),
    /// Count sessions and messages over time, with durations and latencies
    Stats(command::stats::StatsArgs),
    /// Delete sessions, or everything of a user, permanently
    Delete(command::delete::DeleteArgs),
    /// Say whether a server runs and is ready, and what waits
    Status(command::status::StatusArgs),
    /// Print new messages as they are stored
    Tail(command::tail::TailArgs),
    /// List, replay or drop the messages that the store refused
    DeadLetters(command::dead_letters::DeadLettersArgs),
    /// Copy the data directory, also while a server uses it
    Backup(command::backup::BackupArgs),
    /// Show or change the PostgreSQL store that a data directory writes to
    Outbox(command::outbox::OutboxArgs),
    /// List or remove damaged databases that were replaced
    Quarantine(command::quarantine::QuarantineArgs),
    /// Audit the books: compare the counts with the rows, the journal and the dead letters
    Verify(command::verify::VerifyArgs),
    /// Create or update the schema of a PostgreSQL database
    Migrate(command::migrate::MigrateArgs),
    /// Compare a PostgreSQL database with the schema, and print the SQL that corrects it
    Doctor(command::doctor::DoctorArgs),
    /// Create, list and revoke API keys for servers
    Keys(command::keys::KeysArgs),
    /// Show the audit log: who did what
    Audit(command::audit::AuditArgs),
    /// Show which build this is
    Version(command::version::VersionArgs),
    /// Print the script with which a shell completes commands and flags
    Completions(command::completions::CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(command::man::ManArgs),
}

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        // Help and version are not errors: they were requested, or no command was given.
        Err(error)
            if !error.use_stderr()
                || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            error.exit()
        }
        Err(error) => Err(Failure::usage(one_line(&error))),
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("talktrack: {}", visible::escape_line(&failure.to_string()));
        failure.exit_code()
    })
}

fn run(command: Command) -> Outcome {
    // At least two threads, so that one thread with a long computation does not block all connections.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let ended = runtime.block_on(async {
        match command {
            Command::Serve(args) => command::serve::run(args).await,
            Command::Demo(args) => command::demo::run(args).await,
            Command::Client(args) => command::client::run(args).await,
            Command::Import(args) => command::import::run(args).await,
            Command::Export(args) => command::export::run(args).await,
            Command::Sessions(args) => command::sessions::run(args).await,
            Command::Show(args) => command::show::run(args).await,
            Command::Search(args) => command::search::run(args).await,
            Command::Stats(args) => command::stats::run(args).await,
            Command::Delete(args) => command::delete::run(args).await,
            Command::Status(args) => command::status::run(args).await,
            Command::Tail(args) => command::tail::run(args).await,
            Command::DeadLetters(args) => command::dead_letters::run(args).await,
            Command::Backup(args) => command::backup::run(args).await,
            Command::Outbox(args) => command::outbox::run(args).await,
            Command::Quarantine(args) => command::quarantine::run(args).await,
            Command::Verify(args) => command::verify::run(args).await,
            Command::Migrate(args) => command::migrate::run(args).await,
            Command::Doctor(args) => command::doctor::run(args).await,
            Command::Keys(args) => command::keys::run(args).await,
            Command::Audit(args) => command::audit::run(args).await,
            Command::Version(args) => command::version::run(&args),
            Command::Completions(args) => command::completions::run(&args, Cli::command()),
            Command::Man(args) => command::man::run(&args, Cli::command()),
        }
    });
    // Tasks that still run, such as a read from the terminal, no longer matter.
    runtime.shutdown_background();
    ended
}

/// Returns clap's error as one line, without usage and hints.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let rest = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more information");
    let lines = text.lines().map(str::trim).take_while(|line| !rest(line)).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line).to_owned();
    line.replace("tip: ", "")
}
