//! Case 14: the calendar clock jumps by hours, days and years while the monotonic clock runs on. The order of messages
//! is kept, and no timer fires too early or too late.
//!
//! The server runs with libfaketime, which reads the time offset from a file. Only the server sees the changed time.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack_testbed::skip;
use tokio::process::Command;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::{Client, Home, Server};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
/// The offsets of the calendar, in seconds.
const JUMPS: [i64; 8] = [HOUR, -HOUR, DAY, -DAY, 40 * DAY, -40 * DAY, 3_000 * DAY, -3_000 * DAY];

/// A short idle timeout, and frequent checks for idle sessions.
const IMPATIENT: [&str; 6] = ["--idle-timeout", "8s", "--ping-interval", "1s", "--grace-period", "400ms"];
const TALKERS: usize = 3;
const MANNER: Manner =
    Manner { talkers: TALKERS, ahead: 20, pause: Duration::from_millis(1), per_session: 100_000 };

/// A calendar whose offset can be changed at any time.
pub(crate) struct Calendar {
    library: PathBuf,
    offset: PathBuf,
}

impl Calendar {
    /// Makes a calendar for the servers of this stand. `None`, with a message, if libfaketime is not installed.
    fn of(stand: &Stand) -> Option<Self> {
        Self::in_home(&stand.home)
    }

    /// Makes a calendar for the servers of this home.
    pub(crate) fn in_home(home: &Home) -> Option<Self> {
        let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut libraries = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
        let Some(library) = libraries.find(|library| library.is_file()) else {
            skip::missing("jumps of the clock", "libfaketime is not installed (Debian: libfaketime)");
            return None;
        };
        let calendar = Self { library, offset: home.path("calendar") };
        calendar.put(0);
        Some(calendar)
    }

    /// Sets the offset to this many seconds.
    pub(crate) fn put(&self, seconds: i64) {
        let draft = self.offset.with_extension("draft");
        std::fs::write(&draft, format!("{seconds:+}s\n")).unwrap();
        std::fs::rename(draft, &self.offset).unwrap();
    }

    /// Makes a command use this calendar. Its monotonic clock stays correct.
    pub(crate) fn on(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.offset);
        for setting in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
            command.env(setting, "1");
        }
        command
    }
}

/// Keeps a client connected that sends nothing except pongs. The task returns the client when it is told to stop.
fn bystander(mut client: Client, stop: tokio::sync::oneshot::Receiver<()>) -> JoinHandle<Client> {
    tokio::spawn(async move {
        tokio::select! {
            frame = client.next() => panic!("nobody asked: {frame:?}"),
            _ = stop => client,
        }
    })
}

async fn jumps(stand: &Stand, case: &str) {
    let Some(calendar) = Calendar::of(stand) else { return };
    let mut random = cut::random(case);
    let server = stand.serve_as(calendar.on(stand.command(&IMPATIENT))).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let silent = bystander(Client::new(&server).await, stopped);
    let talkers = stand.talk(MANNER);
    stand.oracle.hears(100).await;
    for round in 0..cut::rounds(4, 25) {
        if let Some(remote) = stand.remote().filter(|_| random.bool()) {
            remote.proxy.cut();
        }
        calendar.put(random.choice(JUMPS).unwrap());
        stand.oracle.hears(20).await;
        everybody_is_there(&server, round).await;
        stand.remote().inspect(|remote| remote.proxy.fix());
    }
    calendar.put(0);
    stop.send(()).unwrap();
    let mut silent = silent.await.unwrap();
    assert_eq!(rows::number(stand, &still_open(silent.session)), 1, "silent, and connected");
    silent.end("completed").await;
    talkers.fall_silent().await;
    judge(stand, &server).await.without_dead_letters();
    assert_eq!(
        rows::number(stand, "SELECT count(*) AS n FROM conversation_sessions WHERE duration_seconds < 0"),
        0
    );
    stand.stop(server).await;
}

fn still_open(session: Uuid) -> String {
    format!(
        "SELECT count(*) AS n FROM conversation_sessions WHERE session_id = '{session}' AND status = 'active'"
    )
}

/// Waits until the server has checked for idle sessions since the jump, which the count of sessions with a newcomer
/// shows, and asserts that no session was ended.
async fn everybody_is_there(server: &Server, round: u32) {
    let newcomer = Client::new(server).await;
    let everybody = u32::try_from(TALKERS).unwrap() + 2;
    server.shows("talktrack_sessions_active", everybody.into()).await;
    let mut newcomer = newcomer;
    newcomer.end(&format!("seen in round {round}")).await;
    newcomer.close().await;
    // The server forgets an ended session after the grace period, even if the calendar has jumped.
    server.shows("talktrack_sessions_active", f64::from(everybody - 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jumps_of_the_calendar_change_no_order_and_end_no_session() {
    jumps(&Stand::on_sqlite(), "jumps, SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jumps_of_the_calendar_before_postgresql_change_no_order_and_end_no_session() {
    jumps(&Stand::on_postgres().await, "jumps, PostgreSQL").await;
}

/// The server restarts with a calendar that is two days behind the times in its data.
async fn a_start_in_the_past(stand: &Stand) {
    let Some(calendar) = Calendar::of(stand) else { return };
    let server = stand.serve_as(calendar.on(stand.command(&[]))).await;
    let mut client = Client::new(&server).await;
    client.say("before").await;
    let session = client.session;
    let user = client.user;
    stand.stop(server).await;
    calendar.put(-2 * DAY);
    let server = stand.serve_as(calendar.on(stand.command(&[]))).await;
    let mut client = Client::join(&server, session, user).await;
    assert_eq!(client.started["resumed"], stand.remote().is_none(), "{}", client.started);
    // The server accepts a client's correct time, because its data already contain times of that day.
    let now = SystemClock.now().to_string();
    client.track(json!({"type": "message", "role": "user", "content": "after", "created_at": now})).await;
    client.end("completed").await;
    client.close().await;
    stand.drained(&server).await;
    let of = |content: &str| {
        rows::number(
            stand,
            &format!("SELECT seq AS n FROM conversation_messages WHERE content = '{content}'"),
        )
    };
    assert!(of("before") < of("after"), "{} {}", of("before"), of("after"));
    let negative = "SELECT count(*) AS n FROM conversation_sessions WHERE duration_seconds < 0";
    assert_eq!(rows::number(stand, negative), 0);
    stand.stop(server).await;
}

#[tokio::test]
async fn a_start_in_the_past_goes_on_counting_where_the_last_one_stopped() {
    a_start_in_the_past(&Stand::on_sqlite()).await;
    a_start_in_the_past(&Stand::on_postgres().await).await;
}
