//! Crashes: every acknowledged message is in the store afterwards, complete and exactly once.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use talktrack::{DATABASE_FILE, MessageId, NewSession, Options, SessionId, Status, Tracker};
use talktrack_testkit::{Setup, eventually};

use crate::support::{SESSION, USER, accept, dir, image_of, message, new_session, sqlite, within};

/// The environment variable that passes the data directory to a child process of a test.
const DIRECTORY: &str = "TALKTRACK_TEST_DIRECTORY";

/// A child process that writes until it is killed, and prints the id of each acknowledged message.
pub(crate) struct Process {
    child: Child,
    told: Receiver<MessageId>,
    acknowledged: Vec<MessageId>,
}

impl Process {
    pub(crate) fn start(data_dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "crash::a_process_that_writes_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ]);
        command.env(DIRECTORY, data_dir).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(id) = line.strip_prefix("acknowledged ") {
                    // The kill may cut the last line short. Such a line is not an acknowledgement.
                    id.parse::<MessageId>().ok().filter(|_| id.len() == 36).map(|id| tell.send(id));
                }
            }
        });
        Self { child, told, acknowledged: Vec::new() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until at least this many messages are acknowledged.
    pub(crate) async fn acknowledged(&mut self, count: usize) {
        eventually("the process acknowledges messages", || {
            self.acknowledged.extend(self.told.try_iter());
            self.acknowledged.len() >= count
        })
        .await;
    }

    /// Kills the process, and returns the ids of all messages that it acknowledged.
    pub(crate) fn kill(mut self) -> Vec<MessageId> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.acknowledged.extend(self.told.iter());
        std::mem::take(&mut self.acknowledged)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "other tests start it as a process of its own"]
async fn a_process_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let tracker = Tracker::open(Options::new(dir)).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    loop {
        let receipts: Vec<_> = (0..7).map(|_| accept(&tracker, message("x".repeat(500)))).collect();
        for receipt in receipts {
            let id = receipt.id();
            receipt.await.unwrap();
            eprintln!("acknowledged {id}");
        }
    }
}

#[tokio::test]
async fn what_a_killed_process_acknowledged_is_there_once_and_the_next_start_works_at_once() {
    let dir = dir();
    let mut all = HashSet::new();
    for round in 1..=3 {
        let mut process = Process::start(dir.path());
        process.acknowledged(40 * round).await;
        all.extend(process.kill());
        let tracker = Tracker::open(Options::new(dir.path())).expect("the next start works at once");
        let rows = within(tracker.reader().messages(SESSION, None, 100_000)).await.unwrap();
        let ids: HashSet<_> = rows.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), rows.len(), "no message is there twice");
        assert_eq!(all.difference(&ids).next(), None, "no acknowledged message is missing");
        assert!(rows.iter().all(|row| row.content == "x".repeat(500)));
        let session = within(tracker.reader().session(SESSION)).await.unwrap().unwrap();
        assert_eq!((session.status, session.ended_at), (Status::Abandoned.into(), session.last_event_at));
        assert_eq!(session.message_count, rows.len() as i64);
        assert_eq!(within(tracker.reader().audit()).await.unwrap().problems, [""; 0]);
    }
}

#[tokio::test]
async fn an_image_of_the_files_of_a_live_tracker_holds_everything_durable() {
    let live = dir();
    let image = dir();
    let setup = Setup::sqlite(live.path());
    let tracker = setup.open(setup.options()).unwrap();
    let open = SESSION;
    let ended = SessionId::from_u128(2);
    drop(tracker.start_session(new_session()).unwrap());
    drop(tracker.start_session(NewSession::new(ended, USER)).unwrap());
    for number in 0..300 {
        drop(accept(&tracker, message(format!("message {number}"))));
    }
    drop(tracker.end_session(ended, "completed").unwrap());
    within(tracker.flush()).await.unwrap();
    image_of(live.path(), image.path());

    let survivor = Setup::sqlite(image.path());
    let survivor = survivor.open(survivor.options()).unwrap();
    let rows = within(survivor.reader().messages(open, None, 1_000)).await.unwrap();
    let original = within(tracker.reader().messages(open, None, 1_000)).await.unwrap();
    assert_eq!(rows.len(), 300);
    assert_eq!(rows, original);
    let session = |tracker: &Tracker, id| {
        let reader = tracker.reader();
        async move { within(reader.session(id)).await.unwrap().unwrap() }
    };
    let abandoned = session(&survivor, open).await;
    assert_eq!(
        (abandoned.status, abandoned.ended_at),
        (Status::Abandoned.into(), rows.last().map(|row| row.created_at.clone()))
    );
    assert_eq!(abandoned.message_count, 300);
    assert_eq!(session(&survivor, ended).await, session(&tracker, ended).await);
    assert_eq!(survivor.health().books, tracker.health().books);
    assert_eq!(within(survivor.reader().audit()).await.unwrap().problems, [""; 0]);
    assert_eq!(session(&tracker, open).await.status, Status::Active, "the live one goes on");
}

#[tokio::test]
async fn what_was_not_committed_when_the_files_were_copied_is_not_there() {
    let live = dir();
    let image = dir();
    let tracker = Tracker::open(Options::new(live.path())).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    within(accept(&tracker, message("committed"))).await.unwrap();
    // An open transaction, so large that SQLite has already written part of it to the WAL.
    let other = sqlite(live.path());
    other.pragma_update(None, "cache_size", 1).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let spill = "INSERT INTO dead_letters (seq, reason, body, died_at) VALUES (?1, 'none', ?2, '')";
    for seq in 0..50 {
        other.execute(spill, rusqlite::params![seq, "x".repeat(10_000)]).unwrap();
    }
    let log = live.path().join(format!("{DATABASE_FILE}-wal"));
    assert!(std::fs::metadata(log).unwrap().len() > 100_000, "the transaction has spilled into the log");
    image_of(live.path(), image.path());
    let survivor = Tracker::open(Options::new(image.path())).unwrap();
    let audit = within(survivor.reader().audit()).await.unwrap();
    assert_eq!((audit.messages, audit.problems), (1, vec![]));
    let letters: u64 =
        sqlite(image.path()).query_row("SELECT count(*) FROM dead_letters", [], |row| row.get(0)).unwrap();
    assert_eq!(letters, 0);
    other.execute_batch("ROLLBACK").unwrap();
}
