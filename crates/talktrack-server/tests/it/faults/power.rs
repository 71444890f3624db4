//! Case 8: the power fails. The system calls of a server under load are traced, and images that a power cut could leave
//! are opened: every message that the trace shows as acknowledged before the cut must be there, complete and once.
//!
//! [`disk`](super::disk) describes the model of the disk. The worst moment is just before a sync: everything since the
//! last sync is uncertain, and every acknowledgement since then must hold.

use std::path::PathBuf;

use tokio::process::Command;

use super::cut;
use super::stand::Stand;
use super::story::Story;
use super::strace::{Strace, is_whole};
use super::talkers::Manner;
use crate::harness::remote::all_said;
use crate::harness::{Server, until};

/// Syncs fail at intervals, and what they should have written may never reach the disk.
const BAD_SYNCS: &[&str] = &["fdatasync:error=EIO:when=20+3"];
/// All syncs fail from some call on.
const NO_SYNCS: &[&str] = &["fdatasync:error=EIO:when=60+1"];

/// The life of a traced server: its faults and its end.
struct Life<'a> {
    /// The system calls that fail.
    faults: &'a [&'a str],
    /// How many acknowledgements the server lives for.
    messages: usize,
    end: End,
}

enum End {
    Stop,
    Kill,
    /// The server is killed after it has stopped making messages durable.
    KillInNeed,
}

impl Life<'_> {
    /// Runs the server on this stand and returns the path of the trace.
    async fn live(&self, stand: &Stand, strace: &Strace, trace: &str) -> PathBuf {
        let file = stand.home.path(trace);
        let server = stand.serve_as(strace.traced(&command(stand), &file, self.faults)).await;
        let pid = server.pid();
        self.pass(stand, &server).await;
        match self.end {
            End::Stop => stand.stop(server).await,
            End::Kill | End::KillInNeed => stand.kill(server).await,
        }
        is_whole(&file, pid).await;
        file
    }

    /// PostgreSQL becomes unavailable and available again, so that some messages are only in the file.
    async fn pass(&self, stand: &Stand, server: &Server) {
        if matches!(self.end, End::KillInNeed) {
            server.readiness(503).await;
            return;
        }
        for part in 0..6 {
            match stand.remote() {
                Some(remote) if part % 2 == 0 => remote.proxy.cut(),
                Some(remote) => remote.proxy.fix(),
                None => {}
            }
            stand.oracle.hears(self.messages / 6).await;
        }
        if let Some(remote) = stand.remote() {
            let something = || (!all_said(&remote.database).is_empty()).then_some(());
            until("PostgreSQL has something of it", something).await;
        }
    }
}

/// Builds the command of a server without TLS to PostgreSQL, so that the trace shows what both sides send.
fn command(stand: &Stand) -> Command {
    let Some(remote) = stand.remote() else { return stand.command(&[]) };
    let url = format!("{}?sslmode=disable", remote.url());
    stand.home.server_command(&["--log-level", "warn", "--database-url", &url])
}

/// Runs these lives one after the other, and judges every power cut in them.
async fn power_fails(case: &str, stand: Stand, strace: &Strace, lives: &[Life<'_>]) {
    let mut random = cut::random(case);
    let _talkers = stand.talk(Manner { talkers: 3, ahead: 3, per_session: 100, ..Manner::default() });
    let mut traces = Vec::new();
    for (number, life) in lives.iter().enumerate() {
        traces.push(life.live(&stand, strace, &format!("trace.{number}")).await);
    }
    let story = Story::of(stand, &traces);
    story.judge(&mut random);
    story.goes_on(&mut random).await;
}

/// Returns a server that is killed, one that stops cleanly, and one that is killed, on the same data directory.
fn three_lives<'a>(faults: &'a [&'a str]) -> [Life<'a>; 3] {
    let messages = cut::rounds(120, if faults.is_empty() { 900 } else { 360 }) as usize;
    [End::Kill, End::Stop, End::Kill].map(|end| Life { faults, messages, end })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_holds_everything_acknowledged() {
    let case = "power cuts, SQLite";
    let Some(strace) = Strace::here(case).await else { return };
    power_fails(case, Stand::on_sqlite(), &strace, &three_lives(&[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_out_of_the_journal_that_postgresql_does_not_have() {
    let case = "power cuts, PostgreSQL";
    let Some(strace) = Strace::here(case).await else { return };
    power_fails(case, Stand::on_postgres().await, &strace, &three_lives(&[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_failed_is_not_taken_for_done_by_the_next_one() {
    let case = "failed syncs and power cuts, SQLite";
    let Some(strace) = Strace::here(case).await else { return };
    power_fails(case, Stand::on_sqlite(), &strace, &three_lives(BAD_SYNCS)).await;
}

/// A regression test. Commits that only cleared the journal did not wait for the disk. If the sync of the next commit
/// failed, only that commit was written again: everything acknowledged from then on was behind a gap in the WAL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cleared_away_before_a_sync_that_failed_takes_nothing_with_it() {
    let case = "failed syncs and power cuts, PostgreSQL";
    let Some(strace) = Strace::here(case).await else { return };
    power_fails(case, Stand::on_postgres().await, &strace, &three_lives(BAD_SYNCS)).await;
}

/// A regression test. The next server could read what a server with failing syncs had written, and appended to it
/// although it was not on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_after_one_whose_syncs_failed_builds_on_nothing_that_is_not_there() {
    let case = "a start after failed syncs, and power cuts";
    let Some(strace) = Strace::here(case).await else { return };
    let messages = cut::rounds(60, 300) as usize;
    let [in_need, next] = [(NO_SYNCS, End::KillInNeed), (&[], End::Kill)];
    let lives = [in_need, next].map(|(faults, end)| Life { faults, messages, end });
    power_fails(case, Stand::on_sqlite(), &strace, &lives).await;
}
