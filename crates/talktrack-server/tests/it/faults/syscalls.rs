//! Case 6: disk errors. Writes and syncs of the WAL or the database fail for a while under load, with EIO or ENOSPC.
//! Nothing is acknowledged that is not durable, `/readyz` names the cause, and the same process recovers. If the server
//! cannot even start, it prints the reason in one line.
//!
//! [`power`](super::power) tests what a failed sync means for the content of the disk.

use fastrand::Rng;

use super::cut;
use super::judge::judge;
use super::stand::Stand;
use super::strace::Strace;
use super::talkers::Manner;
use crate::harness::Output;

const LOG: &str = "talktrack.db-wal";
const DATABASE: &str = "talktrack.db";

/// The calls that make a commit durable, the error, how many calls come before it, and the text in `/readyz`.
const FAULTS: [(&str, &str, usize, &str); 4] = [
    ("fdatasync", "EIO", 40, "journal: the journal cannot write: disk I/O error"),
    ("pwrite64", "ENOSPC", 600, "journal: the journal's disk is full"),
    ("pwrite64", "EIO", 600, "journal: the journal cannot write: disk I/O error"),
    ("fdatasync", "ENOSPC", 40, "journal: the journal cannot write: disk I/O error"),
];

/// Runs one server after the other. Each has a fault, recovers and is killed; the judge checks the result.
async fn the_disk_says_no(case: &str, stand: Stand, strace: &Strace) {
    let mut random = cut::random(case);
    let talkers = stand.talk(Manner::default());
    for round in 0..cut::rounds(2, 8) {
        meets_a_fault(&stand, strace, round, &mut random).await;
    }
    let server = stand.serve(&[]).await;
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

async fn meets_a_fault(stand: &Stand, strace: &Strace, round: u32, random: &mut Rng) {
    let (call, error, after, words) = FAULTS[round as usize % FAULTS.len()];
    let first = random.usize(after / 2..after);
    let last = first + random.usize(6..9);
    let fault = format!("{call}:error={error}:when={first}..{last}");
    eprintln!("{fault}");
    let log = stand.home.data_dir().join(LOG);
    let trace = stand.home.path("trace");
    let command = strace.failing(&stand.command(&[]), &trace, &log, &[&fault]);
    let server = stand.serve_as(command).await;
    let told = server.readiness(503).await;
    assert!(told.contains(words), "{told}");
    server.readiness(200).await;
    stand.oracle.hears(500).await;
    stand.kill(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_says_no_for_a_while_is_waited_for_and_nothing_false_is_acknowledged() {
    let case = "a disk that says no, SQLite";
    let Some(strace) = Strace::here(case).await else { return };
    the_disk_says_no(case, Stand::on_sqlite(), &strace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_whose_disk_says_no_for_a_while_acknowledges_nothing_false_either() {
    let case = "a disk that says no, PostgreSQL";
    let Some(strace) = Strace::here(case).await else { return };
    the_disk_says_no(case, Stand::on_postgres().await, &strace).await;
}

/// A checkpoint copies the WAL into the database at intervals and at the end. If it fails, the WAL keeps its content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_out_of_the_log_stays_in_it() {
    let case = "a checkpoint that fails";
    let Some(strace) = Strace::here(case).await else { return };
    let stand = Stand::on_sqlite();
    let talkers = stand.talk(Manner::default());
    // The server that creates the file has no faults.
    let server = stand.serve(&[]).await;
    stand.oracle.hears(100).await;
    stand.kill(server).await;
    for fault in
        ["pwrite64:error=ENOSPC:when=20+1", "fdatasync:error=EIO:when=1+1", "ftruncate:error=EIO:when=1+1"]
    {
        let database = stand.home.data_dir().join(DATABASE);
        let trace = stand.home.path("trace");
        let command = strace.failing(&stand.command(&[]), &trace, &database, &[fault]);
        let server = stand.serve_as(command).await;
        // In a full run, this is more than fits into the WAL before a checkpoint.
        for _ in 0..cut::rounds(1, 20) {
            stand.oracle.hears(200).await;
        }
        stand.stop(server).await;
        assert!(std::fs::read_to_string(&trace).unwrap().contains("INJECTED"), "nothing failed: {fault}");
    }
    let server = stand.serve(&[]).await;
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_disk_that_says_no_says_why_in_one_line_and_harms_nothing() {
    let case = "a start on a disk that says no";
    let Some(strace) = Strace::here(case).await else { return };
    let stand = Stand::on_sqlite();
    let talkers = stand.talk(Manner::default());
    let server = stand.serve(&[]).await;
    stand.oracle.hears(1_000).await;
    stand.kill(server).await;
    let faults = [
        (LOG, "openat:error=EIO:when=1+1"),
        (LOG, "write:error=EIO:when=1+1"),
        (LOG, "fsync:error=EIO:when=1+1"),
        (LOG, "pwrite64:error=ENOSPC:when=1+1"),
        (LOG, "fdatasync:error=EIO:when=1+1"),
        (DATABASE, "openat:error=EIO:when=1+1"),
    ];
    for (file, fault) in faults {
        let file = stand.home.data_dir().join(file);
        let trace = stand.home.path("trace");
        let command = strace.failing(&stand.command(&[]), &trace, &file, &[fault]);
        let line = Output::of(command).await.failed(1);
        assert!(line.contains(DATABASE), "{fault}: {line}");
        eprintln!("{fault}: {line}");
    }
    let server = stand.serve(&[]).await;
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}
