//! Case 8: the power fails. What a server under load asked of the disk is traced, and images that a power cut could leave
//! are opened: each message whose acknowledgement the trace shows before the cut must be there, whole and once.
//!
//! The model of the disk is told in [`disk`](super::disk). A cut just before a sync is the worst there is: everything since
//! the last one is uncertain, and everything that was told since is promised.

use std::path::PathBuf;

use tokio::process::Command;

use super::cut;
use super::stand::Stand;
use super::story::Story;
use super::strace::{Strace, is_whole};
use super::talkers::Manner;
use crate::harness::remote::all_said;
use crate::harness::{Server, until};

/// Every so often a sync fails, and what it should have brought to the disk may never come there.
const BAD_SYNCS: &[&str] = &["fdatasync:error=EIO:when=20+3"];
/// From some moment on all do.
const NO_SYNCS: &[&str] = &["fdatasync:error=EIO:when=60+1"];

/// What becomes of a server while it is traced.
struct Life<'a> {
    /// System calls that fail.
    faults: &'a [&'a str],
    /// Acknowledgements it lives for.
    messages: usize,
    end: End,
}

enum End {
    Stop,
    Kill,
    /// It is killed when nothing becomes durable any more.
    KillInNeed,
}

impl Life<'_> {
    /// Lives it on this stand, and says where the trace is.
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

    /// PostgreSQL comes and goes meanwhile: what it is kept from is in the file alone.
    async fn pass(&self, stand: &Stand, server: &Server) {
        if matches!(self.end, End::KillInNeed) {
            server.readiness(503).await;
            return;
        }
        for part in 0..6 {
            match stand.remote() {
                Some(remote) if part % 2 == 0 => remote.proxy.cut(),
                Some(remote) => remote.proxy.mend(),
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

/// Nothing is encrypted on the way to PostgreSQL: the trace shows what it is given and what it answers.
fn command(stand: &Stand) -> Command {
    let Some(remote) = stand.remote() else { return stand.command(&[]) };
    let url = format!("{}?sslmode=disable", remote.url());
    stand.home.server_command(&["--log-level", "warn", "--database-url", &url])
}

/// Lives these lives, one after the other, and judges what every power cut in them leaves.
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

/// A server that is killed, one that stops, and one that is killed again, each on what the one before has left.
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

/// The commits that only clear the journal once did not wait for the disk. Where the sync of the next one failed, that one
/// was written again, and they were not: everything acknowledged from then on lay behind a gap in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cleared_away_before_a_sync_that_failed_takes_nothing_with_it() {
    let case = "failed syncs and power cuts, PostgreSQL";
    let Some(strace) = Strace::here(case).await else { return };
    power_fails(case, Stand::on_postgres().await, &strace, &three_lives(BAD_SYNCS)).await;
}

/// What such a server had written could be read by the next one, which wrote on behind it, and was not on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_after_one_whose_syncs_failed_builds_on_nothing_that_is_not_there() {
    let case = "a start after failed syncs, and power cuts";
    let Some(strace) = Strace::here(case).await else { return };
    let messages = cut::rounds(60, 300) as usize;
    let [in_need, next] = [(NO_SYNCS, End::KillInNeed), (&[], End::Kill)];
    let lives = [in_need, next].map(|(faults, end)| Life { faults, messages, end });
    power_fails(case, Stand::on_sqlite(), &strace, &lives).await;
}
