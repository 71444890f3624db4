//! `talktrack outbox`: shows the store whose outbox a data directory is, and redirects the outbox to another store.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use talktrack::store::Store as _;
use talktrack::store::postgres::{Address, PostgresStore};
use talktrack::{NotedStore, OpenError, Redirect, counted};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Outcome;
use crate::audit::{self, Actor, Entry};
use crate::config::{Config, DataLocation, Database};
use crate::control::{ControlReply, ControlRequest, ask_server};
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::store;
use crate::terminal;

/// Printed if the data directory is not an outbox.
const NO_OUTBOX: &str =
    "this data directory is not an outbox: its own file is the store, and no records wait for another store";

/// How long the writer may take to record the id of the store, which answered a moment ago.
const NOTED_WITHIN: Duration = Duration::from_secs(30);

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct OutboxArgs {
    #[command(subcommand)]
    action: OutboxAction,
}

#[derive(Debug, clap::Subcommand)]
enum OutboxAction {
    /// Show the store that this data directory writes to, and how many records wait for it
    Show(ShowOutboxArgs),
    /// Send the waiting records to another store
    Redirect(RedirectOutboxArgs),
}

#[derive(Debug, clap::Args)]
struct ShowOutboxArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The new store is the one that database_url names. It gets the waiting records, and everything that is accepted \
    from now on. What the former store already has stays there: copy it yourself, or export it and import it. A running server \
    redirects to its own database_url; stop it before using --local."
)]
struct RedirectOutboxArgs {
    /// Store the waiting records in the file of this data directory, which is the store from now on
    #[arg(long)]
    local: bool,
    /// Confirm, if records wait: they go to the new store, permanently
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// Runs the command.
pub(crate) async fn run(args: OutboxArgs) -> Outcome {
    match args.action {
        OutboxAction::Show(args) => {
            show_outbox(&args).map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
        }
        OutboxAction::Redirect(args) => redirect_outbox(&args).await,
    }
}

/// The output for programs.
#[derive(Serialize)]
struct OutboxStatus<'a> {
    /// The address of the store without its password; null if the local file is the store.
    store: Option<&'a str>,
    id: Option<Uuid>,
    waiting: u64,
}

fn show_outbox(args: &ShowOutboxArgs) -> Result<(), Stop> {
    let noted = read_noted_store(&args.location.load()?)?;
    let mut output = Output::stdout();
    if args.json {
        let noted = noted.as_ref();
        output.write_json(&OutboxStatus {
            store: noted.map(NotedStore::name),
            id: noted.and_then(|noted| noted.id),
            waiting: noted.map_or(0, |noted| noted.waiting),
        })?;
    } else if let Some(noted) = &noted {
        output.write_line(&describe(noted))?;
    } else {
        output.write_line(NO_OUTBOX)?;
    }
    output.flush()
}

fn describe(noted: &NotedStore) -> String {
    let id = noted.id.map(|id| format!(" (store id {id})")).unwrap_or_default();
    let name = terminal::escape_line(noted.name());
    format!("the outbox of {name}{id}; {} for it", waiting_records(noted.waiting))
}

fn waiting_records(waiting: u64) -> String {
    let verb = if waiting == 1 { "waits" } else { "wait" };
    format!("{} {verb}", counted(waiting, "record"))
}

fn read_noted_store(config: &Config) -> Result<Option<NotedStore>, Failure> {
    store::expect_file(&config.local_file())?;
    Ok(talktrack::read_noted_store(&config.local_file())?)
}

async fn redirect_outbox(args: &RedirectOutboxArgs) -> Outcome {
    let config = args.location.load()?;
    let Some(noted) = read_noted_store(&config)? else {
        return print_line(NO_OUTBOX);
    };
    let target = Target::new(args, &config, &noted).await?;
    if noted.waiting > 0 && !args.yes {
        return Err(Failure::usage(format_args!(
            "{} for {}; this sends them to {} permanently; add --yes to confirm",
            waiting_records(noted.waiting),
            noted.name(),
            target.name()
        )));
    }
    match target {
        Target::File => redirect_to_file(&config, noted.waiting).await,
        Target::Postgres { address, id } => redirect_to_postgres(&config, &address, id).await,
    }
}

/// The store to which the waiting records are redirected.
enum Target {
    File,
    Postgres { address: Box<Address>, id: Uuid },
}

impl Target {
    async fn new(args: &RedirectOutboxArgs, config: &Config, noted: &NotedStore) -> Result<Self, Failure> {
        let address = match &config.database {
            _ if args.local => return Ok(Self::File),
            Database::Postgres(address) => address.clone(),
            Database::File(_) => {
                let which = "database_url names no other store: name it with --database-url";
                return Err(Failure::usage(format_args!(
                    "{which}, or use --local to keep everything in this file ({} for {})",
                    waiting_records(noted.waiting),
                    noted.name()
                )));
            }
        };
        let store = PostgresStore::new(&address).map_err(Failure::new)?;
        let failed = |error: &dyn std::fmt::Display| Failure::new(format_args!("{address}: {error}"));
        match store.identity().await {
            Ok(Some(id)) => Ok(Self::Postgres { address, id }),
            Ok(None) => Err(failed(&"the database has no store id; run: talktrack migrate")),
            Err(error) => Err(failed(&error)),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File => "the file of this data directory".to_owned(),
            Self::Postgres { address, .. } => address.to_string(),
        }
    }
}

async fn redirect_to_file(config: &Config, waiting: u64) -> Outcome {
    let config = Config { database: Database::File(None), ..config.clone() };
    let options = config.options().with_redirect(Redirect::Always);
    let opened = store::open_tracker(&config, options).map_err(|error| match error {
        OpenError::Locked { .. } => {
            Failure::new(format_args!("{error}; stop the server before using --local"))
        }
        other => other.into(),
    });
    close_tracker(opened?).await?;
    record_redirect(&config, "the file");
    print_line(&format!(
        "moved {} into the file of this data directory, which is the store from now on",
        counted(waiting, "record")
    ))
}

async fn redirect_to_postgres(config: &Config, address: &Address, id: Uuid) -> Outcome {
    let options = config.options().with_redirect(Redirect::Always);
    let tracker = match store::open_tracker(config, options) {
        Ok(tracker) => tracker,
        Err(locked @ OpenError::Locked { .. }) => return redirect_through_server(config, &locked).await,
        Err(other) => return Err(other.into()),
    };
    let deadline = Instant::now() + NOTED_WITHIN;
    while read_noted_store(config)?.is_none_or(|noted| noted.id != Some(id)) {
        if Instant::now() > deadline {
            return Err(Failure::new(format_args!("{address} stopped answering; run the command again")));
        }
        sleep(Duration::from_millis(50)).await;
    }
    close_tracker(tracker).await?;
    record_redirect(config, &address.to_string());
    let left = read_noted_store(config)?.map_or(0, |noted| noted.waiting);
    print_line(&format!(
        "this data directory is the outbox of {address} from now on; {} for it",
        waiting_records(left)
    ))
}

async fn redirect_through_server(config: &Config, locked: &OpenError) -> Outcome {
    match ask_server(&config.data_dir, &locked.to_string(), &ControlRequest::RedirectOutbox).await? {
        ControlReply::Redirected(address) => {
            print_line(&format!("the server sends the waiting records to {address} from now on"))
        }
        other => Err(other.into_failure()),
    }
}

fn print_line(line: &str) -> Outcome {
    let mut output = Output::stdout();
    let said = output.write_line(line).and_then(|()| output.flush());
    said.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

fn record_redirect(config: &Config, store: &str) {
    let entry = Entry::new(Actor::of_this_process(), ControlRequest::RedirectOutbox.name(), None);
    audit::record_command(&config.data_dir, &entry.detail(json!({"store": store})));
}

/// Waits until the tracker's threads have ended and the data directory is unlocked.
async fn close_tracker(tracker: talktrack::Tracker) -> Result<(), Failure> {
    tracker.flush().await?;
    tokio::task::spawn_blocking(move || drop(tracker)).await.map_err(Failure::new)
}
