//! `talktrack backup`: copies a data directory while a server uses it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use talktrack::counted;

use super::Outcome;
use crate::audit::{self, Actor, Entry};
use crate::config::{AudioStore, Config, DataLocation};
use crate::error::Failure;
use crate::output::print_summary;
use crate::store;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The copy has everything that was durable when the command began. To restore it, copy it to an empty directory and \
    start the server there. With PostgreSQL, back up the database too: the data directory has only what waits for it."
)]
pub(crate) struct BackupArgs {
    /// The directory of the backup, which must not exist yet
    #[arg(value_name = "DEST")]
    target: PathBuf,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: DataLocation,
}

/// What the backup has.
#[derive(Debug, Default, Serialize)]
struct BackupSummary {
    path: PathBuf,
    /// The size of the database in bytes.
    database_bytes: u64,
    recordings: u64,
    recording_bytes: u64,
    /// True if the recordings are in a bucket, which has backups of its own.
    recordings_elsewhere: bool,
}

/// The folder of the recordings in a data directory.
const RECORDINGS: &str = "audio";

/// Files that belong to the running server, or that it makes again from the database.
const NOT_COPIED: [&str; 6] = ["LOCK", "listen", "listen.tmp", "control", "control.new", "quarantine"];

/// Runs the command.
pub(crate) async fn run(args: BackupArgs) -> Outcome {
    let config = args.location.load()?;
    store::expect_file(&config.local_file())?;
    let target = args.target.clone();
    let data_dir = config.data_dir.clone();
    let copied =
        tokio::task::spawn_blocking(move || back_up(&config, &target)).await.map_err(Failure::new)?;
    let summary = copied?;
    let detail = serde_json::json!({"path": summary.path});
    audit::record_command(&data_dir, &Entry::new(Actor::of_this_process(), "backup", None).detail(detail));
    print_summary(args.json, &summary, |_| summary.describe(), ExitCode::SUCCESS)
}

/// Makes the backup in a directory beside the target, which gets its name when it is complete.
fn back_up(config: &Config, target: &Path) -> Result<BackupSummary, Failure> {
    let failed = |path: &Path, error: &io::Error| Failure::new(format_args!("{}: {error}", path.display()));
    if target.symlink_metadata().is_ok() {
        return Err(Failure::new(format_args!("{} exists; name a new directory", target.display())));
    }
    let name = target.file_name().ok_or_else(|| Failure::usage("DEST: must name a directory"))?;
    let draft = target.with_file_name(format!("{}.partial", name.to_string_lossy()));
    if draft.exists() {
        let left = draft.display();
        return Err(Failure::new(format_args!("{left} is left of an interrupted backup; remove it first")));
    }
    fs::DirBuilder::new().mode(0o700).create(&draft).map_err(|error| failed(&draft, &error))?;
    let copied = copy_all(config, &draft).and_then(|summary| {
        fs::rename(&draft, target)?;
        sync_parent(target)?;
        Ok(BackupSummary { path: target.to_owned(), ..summary })
    });
    copied.map_err(|error| {
        // What is left would only be in the way of the next attempt.
        let _ = fs::remove_dir_all(&draft);
        failed(target, &error)
    })
}

fn copy_all(config: &Config, draft: &Path) -> io::Result<BackupSummary> {
    let database = draft.join(talktrack::DATABASE_FILE);
    // The recordings come after the database, so that each `audio_url` in it has its file.
    talktrack::back_up(&config.local_file(), &database)?;
    let mut summary =
        BackupSummary { database_bytes: database.metadata()?.len(), ..BackupSummary::default() };
    copy_small_files(&config.data_dir, draft)?;
    match config.audio_store {
        AudioStore::Folder => copy_recordings(&config.data_dir.join(RECORDINGS), draft, &mut summary)?,
        AudioStore::S3(_) => summary.recordings_elsewhere = true,
    }
    File::open(draft)?.sync_all()?;
    Ok(summary)
}

/// Copies what else is in the data directory: settings, keys, the audit log, notes of deletions. The databases of the search
/// index and the statistics are left out; the next server computes them again.
fn copy_small_files(data_dir: &Path, draft: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if NOT_COPIED.contains(&&*text) || text == RECORDINGS || text.contains(".db") {
            continue;
        }
        copy_tree(&entry.path(), &draft.join(&name), &mut |_| {})?;
    }
    Ok(())
}

fn copy_recordings(folder: &Path, draft: &Path, summary: &mut BackupSummary) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    copy_tree(folder, &draft.join(RECORDINGS), &mut |bytes| {
        summary.recordings += 1;
        summary.recording_bytes += bytes;
    })
}

/// Copies a file, or a directory with everything in it. Skips what is removed meanwhile, what is no file, and uploads in
/// progress, whose names have a `#`. Calls `copied` with the size of each file.
fn copy_tree(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    match copy_node(from, to, copied) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => Ok(()),
        done => done,
    }
}

fn copy_node(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_dir() {
        fs::DirBuilder::new().mode(0o700).create(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()), copied)?;
        }
        return File::open(to)?.sync_all();
    }
    let is_draft = from.file_name().is_some_and(|name| name.to_string_lossy().contains('#'));
    if kind.is_file() && !is_draft {
        let bytes = fs::copy(from, to)?;
        File::open(to)?.sync_all()?;
        copied(bytes);
    }
    Ok(())
}

/// Makes the name of the backup durable.
fn sync_parent(target: &Path) -> io::Result<()> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl BackupSummary {
    fn describe(&self) -> String {
        let Self { path, database_bytes, recordings, recording_bytes, recordings_elsewhere } = self;
        let recordings = match recordings_elsewhere {
            true => "the recordings are in a bucket and are not part of it".to_owned(),
            false => format!("{} of {recording_bytes} bytes", counted(recordings, "recording")),
        };
        format!("the backup is in {}: a database of {database_bytes} bytes; {recordings}", path.display())
    }
}
