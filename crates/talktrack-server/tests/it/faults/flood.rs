//! Case 10: far more messages arrive than the store can take. Each refusal is reported and counted, memory stays
//! bounded, and everything accepted reaches the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use rusqlite::Connection;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::{Client, Server, acks_in, until, until_within, user, within};

const MIB: usize = 1 << 20;

/// Stops the outflow: the disk hangs, or the database is unavailable and the outbox is small.
struct Dam<'s> {
    stand: &'s Stand,
    disk: Option<Connection>,
}

impl<'s> Dam<'s> {
    fn before(stand: &'s Stand) -> Self {
        let disk = match stand.remote() {
            Some(remote) => {
                remote.proxy.cut();
                None
            }
            None => Some(stand.home.database().block()),
        };
        Self { stand, disk }
    }

    fn breaks(self) {
        self.stand.remote().inspect(|remote| remote.proxy.fix());
        drop(self.disk);
    }
}

async fn counted(server: &Server, reason: &str) -> u64 {
    let name = format!(r#"talktrack_messages_refused_total{{reason="{reason}"}}"#);
    server.metric(&name).await.to_string().parse().unwrap()
}

/// Waits for `more` refusals with any reason.
async fn refused(stand: &Stand, more: u64) {
    let told = || stand.oracle.notes().refused.values().sum::<u64>();
    let enough = told() + more;
    until("refusals come", || (told() >= enough).then_some(())).await;
}

async fn flood(stand: &Stand) {
    let limits = [
        "--queue-capacity",
        "100",
        "--queue-bytes",
        "64KiB",
        "--max-message-bytes",
        "32KiB",
        "--journal-max-bytes",
        "1MiB",
    ];
    let server = stand.serve(&limits).await;
    let talkers = stand.talk(Manner { talkers: 12, ahead: 100, per_session: 500, ..Manner::default() });
    for _ in 0..cut::rounds(2, 20) {
        stand.oracle.hears(200).await;
        let dam = Dam::before(stand);
        refused(stand, 600).await;
        assert!(server.metric("talktrack_queue_depth").await <= 100.0);
        dam.breaks();
    }
    talkers.fall_silent().await;
    judge(stand, &server).await.without_dead_letters();
    let told = stand.oracle.notes().refused.clone();
    for reason in ["queue_full", "journal_full"] {
        assert_eq!(counted(&server, reason).await, told.get(reason).copied().unwrap_or_default(), "{reason}");
    }
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_before_a_disk_that_hangs_is_refused_told_and_counted() {
    flood(&Stand::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_before_postgresql_that_is_away_is_refused_told_and_counted() {
    flood(&Stand::on_postgres().await).await;
}

const SPEAKERS: usize = 8;
/// Messages of each speaker.
const MESSAGES: usize = 150;
const MESSAGE_BYTES: usize = 32 << 10;
const QUEUE_BYTES: usize = 2 * MIB;
const JOURNAL_BYTES: usize = MIB / 4;
/// What the journal's thread is writing.
const BATCH_BYTES: usize = MIB + MESSAGE_BYTES;

/// Sends all messages at once and returns how many were acknowledged and how many were refused.
async fn pour(client: Client, all_refused: Arc<AtomicUsize>) -> (usize, usize) {
    let (mut sink, mut stream) = client.socket.split();
    let frame = user(&"x".repeat(MESSAGE_BYTES), 0).to_string();
    let say = async {
        for _ in 0..MESSAGES {
            sink.send(Message::text(frame.as_str())).await.unwrap();
        }
    };
    let hear = async {
        let mut acked = 0;
        let mut refused = 0;
        while acked + refused < MESSAGES {
            let Message::Text(text) = stream.next().await.unwrap().unwrap() else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match frame["code"].as_str() {
                None => acked += acks_in(&frame).len(),
                Some("queue_full" | "journal_full") => {
                    refused += 1;
                    all_refused.fetch_add(1, Ordering::Relaxed);
                }
                Some(_) => panic!("{frame}"),
            }
        }
        (acked, refused)
    };
    let ((), heard) = tokio::join!(say, hear);
    heard
}

async fn pour_out(stand: &Stand) {
    let queue = QUEUE_BYTES.to_string();
    let journal = JOURNAL_BYTES.to_string();
    let server = stand.serve(&["--queue-bytes", &queue, "--journal-max-bytes", &journal]).await;
    let mut clients = Vec::new();
    for _ in 0..SPEAKERS {
        clients.push(Client::join(&server, uuid::Uuid::new_v4(), stand.user).await);
    }
    let dam = Dam::before(stand);
    let before = server.resident_kib();
    let refused = Arc::<AtomicUsize>::default();
    let pours: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(pour(client, Arc::clone(&refused)))).collect();
    // With a remote store, a durable message also takes memory in the outbox on disk, in the writer's window and in
    // SQLite's cache.
    let durable = if stand.remote().is_some() { JOURNAL_BYTES + QUEUE_BYTES + BATCH_BYTES } else { 0 };
    let taken = (QUEUE_BYTES + BATCH_BYTES + durable).div_ceil(MESSAGE_BYTES);
    let offered = SPEAKERS * MESSAGES;
    assert!(offered * MESSAGE_BYTES > 10 * QUEUE_BYTES);
    let is_refused = async || (refused.load(Ordering::Relaxed) + taken >= offered).then_some(());
    until_within(super::PATIENCE, "what has no room is refused", is_refused).await;
    // Twice what may wait, to allow for the allocator, and the buffers of each connection.
    let bound = 2 * (QUEUE_BYTES + BATCH_BYTES) + 3 * durable + SPEAKERS * MIB / 2;
    let more = usize::try_from(server.resident_kib().saturating_sub(before)).unwrap() << 10;
    eprintln!(
        "{} KiB offered, {} KiB more held, of {} KiB",
        (offered * MESSAGE_BYTES) >> 10,
        more >> 10,
        bound >> 10
    );
    assert!(more < bound, "{more} bytes more, of {bound}");
    dam.breaks();
    let mut acked = 0;
    let mut told = 0;
    for pour in pours {
        let (taken, refused) = within("everything is answered", pour).await.unwrap();
        (acked, told) = (acked + taken, told + refused);
    }
    assert_eq!(acked + told, offered);
    let counted = counted(&server, "queue_full").await + counted(&server, "journal_full").await;
    assert_eq!(counted, told as u64);
    stand.drained(&server).await;
    let stored = rows::count(stand);
    assert_eq!(stored, acked as u64);
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_many_times_the_queue_takes_no_more_memory_than_the_queue_may() {
    pour_out(&Stand::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_many_times_the_journal_takes_no_more_memory_than_both_may() {
    pour_out(&Stand::on_postgres().await).await;
}

/// Messages of 60 KiB: a few of them are already many bytes, and 1,500 fill every window several times.
const LARGE: (usize, usize) = (60 << 10, 1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_large_messages_drains_in_bounded_memory() {
    let stand = Stand::on_postgres().await;
    stand.remote().unwrap().proxy.cut();
    let server = stand.serve(&[]).await;
    let before = server.resident_kib();
    let text = "x".repeat(LARGE.0);
    for speaker in 0..4 {
        let mut client = Client::join(&server, uuid::Uuid::from_u128(speaker), stand.user).await;
        for number in 0..LARGE.1 / 4 {
            client.send(user(&text, number)).await;
            // Waiting for the ack keeps the queue nearly empty, so that the memory in use belongs to the outbox.
            client.receive().await;
        }
    }
    stand.remote().unwrap().proxy.fix();
    stand.drained(&server).await;
    let more = server.grown_mib(before);
    let backlog = (LARGE.0 * LARGE.1) >> 20;
    eprintln!("{more} MiB more than after the start, for a backlog of {backlog} MiB");
    // SQLite's cache takes 32 MiB. Each of the four lanes has a write of 1 MiB in flight, which exists several times:
    // as records, as parameters and in the buffers of its connection. Another 2 MiB wait behind it.
    assert!(more < 72 && more < backlog as u64, "{more} MiB");
    let stored = rows::count(&stand);
    assert_eq!(stored, (LARGE.1 / 4 * 4) as u64);
    stand.stop(server).await;
}
