//! Case 5: the disk of the data directory is full. New messages are refused with the reason, acknowledged messages
//! stay, users can free space, and the server then continues without a restart.

use std::fs::{self, File};
use std::io::{Read as _, copy, repeat};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use talktrack_testbed::{SmallDisk, skip};
use uuid::Uuid;

use super::cut;
use super::judge::judge;
use super::stand::Stand;
use super::talkers::{Manner, Talkers};
use crate::harness::{Client, Home, Output, Server, text, until, until_told, within};

/// The size in MB of a disk that messages fill.
const SMALL: u32 = 24;
/// The size in MB of a disk that only the ballast fills, however long the test takes: the clients send less than this.
const ROOMY: u32 = 256;
/// The number of messages whose records take more room in the file than a batch needs.
const ENOUGH: usize = 3_000;
/// A reserve of more bytes than this lets a server start on a full disk, and deliver.
const RESERVE: u64 = 2 << 20;
/// Clients with a pause between messages, so that the ballast fills the disk and not they.
const UNHURRIED: Manner =
    Manner { talkers: 4, ahead: 50, pause: Duration::from_millis(2), per_session: 2_000 };

/// A small disk that holds a home's data directory.
struct Disk {
    disk: SmallDisk,
}

impl Disk {
    /// Mounts the disk. `None`, with a message, if this process may not mount one.
    fn under(home: &Home, size: u32) -> Option<Self> {
        let disk = SmallDisk::for_owner_of(home.data_dir().parent().unwrap(), size);
        if disk.is_none() {
            skip::missing("a full disk", "this process may not mount one (run as root)");
        }
        let disk = disk?;
        symlink(disk.path(), home.data_dir()).unwrap();
        Some(Self { disk })
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let full = copy(&mut repeat(0).take(1 << 30), &mut ballast).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Frees the space again.
    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.disk.path().join("ballast")
    }
}

/// Fills the disk and waits until clients and `/readyz` are told.
async fn fill(stand: &Stand, disk: &Disk, server: &Server) {
    let told = || stand.oracle.notes().refused.get("journal_full").copied().unwrap_or_default();
    let before = told();
    disk.fill();
    until("messages are refused by name", || (told() > before).then_some(())).await;
    let cause = "journal: the journal's disk is full";
    let told = async || server.readiness(503).await.contains(cause).then_some(());
    until_told("/readyz names the disk", told).await;
}

/// Frees space: either the database takes what waits for it, or the ballast is removed.
async fn free(stand: &Stand, disk: &Disk, by_the_database: bool) {
    match stand.remote() {
        Some(remote) if by_the_database => {
            remote.proxy.fix();
            stand.oracle.hears(100).await;
            disk.free();
        }
        remote => {
            disk.free();
            stand.oracle.hears(100).await;
            remote.inspect(|remote| remote.proxy.fix());
        }
    }
}

async fn full_and_free_again(stand: &Stand, case: &str) {
    let Some(disk) = Disk::under(&stand.home, ROOMY) else { return };
    let mut random = cut::random(case);
    let log = stand.home.data_dir().join("log");
    // The log is on the same disk.
    let flags = ["--log-file", log.to_str().unwrap()];
    let mut server = stand.serve(&flags).await;
    let talkers = stand.talk(UNHURRIED);
    if stand.remote().is_some() {
        // Only records that leave the file make room for new ones, so there must be more of them than a batch needs.
        stand.oracle.hears(ENOUGH).await;
    }
    let reserve = stand.home.data_dir().join("talktrack.db-reserve");
    for _ in 0..cut::rounds(2, 15) {
        stand.oracle.hears(100).await;
        // The server restores its reserve within a second or so after there is room.
        let is_restored = || fs::metadata(&reserve).is_ok_and(|found| found.len() > RESERVE).then_some(());
        until("the reserve is restored", is_restored).await;
        stand.remote().inspect(|remote| remote.proxy.cut());
        fill(stand, &disk, &server).await;
        if random.bool() {
            stand.kill(server).await;
            server = stand.serve(&flags).await;
        }
        free(stand, &disk, random.bool()).await;
        let is_well = async || (!server.get("/readyz").await.body.contains("journal: ")).then_some(());
        until_told("nothing is wrong with the disk any more", is_well).await;
    }
    talkers.fall_silent().await;
    judge(stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_by_name_and_it_goes_on_once_there_is_room() {
    full_and_free_again(&Stand::on_sqlite(), "full disk, SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_before_postgresql_is_told_by_name_and_it_goes_on_once_there_is_room() {
    full_and_free_again(&Stand::on_postgres().await, "full disk, PostgreSQL").await;
}

/// Sends messages until the outbox has filled the disk, because the database is unavailable.
async fn fill_with_backlog(stand: &Stand, disk: &Disk, server: &Server) -> Talkers {
    stand.remote().unwrap().proxy.cut();
    let talkers = stand.talk(Manner { talkers: 2, ..UNHURRIED });
    stand.oracle.hears(ENOUGH).await;
    fill(stand, disk, server).await;
    talkers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_back_makes_room_on_a_disk_that_stays_full() {
    let stand = Stand::on_postgres().await;
    let Some(disk) = Disk::under(&stand.home, SMALL) else { return };
    let server = stand.serve(&[]).await;
    let talkers = fill_with_backlog(&stand, &disk, &server).await;
    stand.remote().unwrap().proxy.fix();
    // New messages have only the space that the delivered backlog leaves in the file.
    stand.oracle.hears(500).await;
    talkers.fall_silent().await;
    stand.drained(&server).await;
    server.readiness(200).await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_brings_the_backlog_to_a_database_that_is_back() {
    let stand = Stand::on_postgres().await;
    let Some(disk) = Disk::under(&stand.home, SMALL) else { return };
    let server = stand.serve(&[]).await;
    let talkers = fill_with_backlog(&stand, &disk, &server).await;
    stand.kill(server).await;
    stand.remote().unwrap().proxy.fix();
    let server = stand.serve(&[]).await;
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

/// Makes `count` long messages dead letters.
async fn lay_aside(stand: &Stand, server: &Server, count: usize) {
    stand.home.database().execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON conversation_messages WHEN NEW.content LIKE 'poison%' \
         BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    );
    let mut client = Client::new(server).await;
    let poison = format!("poison {}", "word ".repeat(2_000));
    for _ in 0..count {
        client.send(text("user", &poison)).await;
    }
    client.acks(count).await;
    client.close().await;
    stand.home.database().execute("DROP TRIGGER refuse");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_dropped_on_a_full_disk_and_their_room_serves_what_comes() {
    let stand = Stand::on_sqlite();
    let Some(disk) = Disk::under(&stand.home, SMALL) else { return };
    let server = stand.serve(&[]).await;
    lay_aside(&stand, &server, 500).await;
    let talkers = stand.talk(UNHURRIED);
    stand.oracle.hears(100).await;
    fill(&stand, &disk, &server).await;
    let letters = async |arguments: &[&str]| {
        stand.home.look(&[&["dead-letters"], arguments].concat()).await.succeeded()
    };
    let listed = letters(&["list", "--json", "--limit", "1000"]).await.json_lines();
    assert_eq!(listed.len(), 500);
    let oldest: Vec<_> = listed[..300].iter().map(|letter| letter["seq"].to_string()).collect();
    let oldest: Vec<_> = oldest.iter().map(String::as_str).collect();
    letters(&[&["drop"], &oldest[..]].concat()).await;
    stand.oracle.hears(100).await;
    // The same without a running server.
    stand.kill(server).await;
    letters(&["drop", "--all", "--yes"]).await;
    let server = stand.serve(&[]).await;
    stand.oracle.hears(100).await;
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

#[tokio::test]
async fn a_first_start_on_a_full_disk_says_so_in_one_line() {
    let home = Home::new();
    let Some(disk) = Disk::under(&home, SMALL) else { return };
    disk.fill();
    let line = Output::of(home.server_command(&[])).await.failed(1);
    assert!(line.contains("talktrack.db: its disk is full; make room there"), "{line}");
    disk.free();
    let server = home.serve(&[]).await;
    Client::new(&server).await.say("now there is room").await;
}

#[tokio::test]
async fn an_import_waits_for_room_and_says_so() {
    const MESSAGES: usize = 1_000;
    let home = Home::new();
    let Some(disk) = Disk::under(&home, SMALL) else { return };
    home.serve(&[]).await.stop().await;
    disk.fill();
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let mut lines = vec![json!({"type": "session.start", "session_id": session, "user_id": user})];
    let words = "word ".repeat(1_000);
    let message = |number| json!({"type": "message", "session_id": session, "role": "user", "content": format!("{number} {words}")});
    // More data than the reserve for a full disk, but little enough that the rows fit twice next to it: in the WAL and
    // in the database file.
    lines.extend((0..MESSAGES).map(message));
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    let file = home.write("conversation.jsonl", lines.join("\n"));
    let mut import = home.command(&["import", &file, "--data-dir", home.data_dir().to_str().unwrap()]);
    let said = home.path("said");
    import.stderr(File::create(&said).unwrap()).stdout(std::process::Stdio::null());
    let mut import = import.spawn().unwrap();
    until("the import says that it waits", || {
        fs::read_to_string(&said)
            .unwrap()
            .contains("there is no room now; waiting until there is some")
            .then_some(())
    })
    .await;
    disk.free();
    assert!(within("the import ends", import.wait()).await.unwrap().success());
    assert_eq!(home.database().messages(session).len(), MESSAGES);
    home.verify().await;
}
