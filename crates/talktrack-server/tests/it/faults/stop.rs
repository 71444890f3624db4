//! Case 11: the server is asked to stop under load, in every way and with the store in every state.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::{Server, until_told};

/// How the server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One signal, and as much time as the server needs.
    InOrder,
    /// A second signal while the disk delays the stop.
    Twice,
    /// The disk delays the stop beyond its deadline.
    PastTheDeadline,
    /// Killed right after the signal.
    ThenKilled,
    /// The signal comes before the server listens.
    DuringTheStart,
}

const WAYS: [Way; 5] = [Way::InOrder, Way::Twice, Way::PastTheDeadline, Way::ThenKilled, Way::DuringTheStart];
const SIGNALS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Makes the remote database, if there is one, available, unavailable, or hang.
fn disturb(stand: &Stand, state: u8) {
    let Some(remote) = stand.remote() else { return };
    match state {
        0 => remote.proxy.cut(),
        1 => remote.proxy.hang(),
        _ => remote.proxy.fix(),
    }
}

async fn stop_after_stop(stand: &Stand, case: &str) {
    let mut random = cut::random(case);
    let talkers = stand.talk(Manner { per_session: 300, ..Manner::default() });
    for round in 0..cut::rounds(5, 60) {
        let way = WAYS[round as usize % WAYS.len()];
        let signal = random.choice(SIGNALS).unwrap();
        let state = random.u8(0..4);
        eprintln!("round {round}: {way:?} {signal} {state}");
        let moment = Duration::from_millis(random.u64(0..100));
        if way == Way::DuringTheStart {
            during_the_start(stand, signal, moment).await;
            continue;
        }
        let deadline = if way == Way::PastTheDeadline { "300ms" } else { "10m" };
        let mut server = stand.serve(&["--shutdown-deadline", deadline]).await;
        stand.oracle.hears(50).await;
        disturb(stand, state);
        // The moment must be random, so the test sleeps instead of waiting for a condition.
        tokio::time::sleep(moment).await;
        end(stand, &mut server, way, signal).await;
    }
    stand.remote().inspect(|remote| remote.proxy.fix());
    let server = stand.serve(&[]).await;
    talkers.fall_silent().await;
    judge(stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

async fn end(stand: &Stand, server: &mut Server, way: Way, signal: Signal) {
    let code = match way {
        Way::InOrder | Way::DuringTheStart => stand.ends(server, signal).await,
        Way::ThenKilled => {
            server.signal(signal);
            stand.ends(server, Signal::SIGKILL).await
        }
        Way::PastTheDeadline => {
            let _disk = blocked(stand, server).await;
            stand.ends(server, signal).await
        }
        Way::Twice => {
            let _disk = blocked(stand, server).await;
            server.signal(signal);
            let stops = async || server.get("/readyz").await.body.contains("shutting down").then_some(());
            until_told("the first signal is heard", stops).await;
            stand.ends(server, Signal::SIGTERM).await
        }
    };
    let expected = match way {
        Way::InOrder | Way::DuringTheStart => Some(0),
        Way::Twice => Some(130),
        Way::PastTheDeadline => Some(1),
        Way::ThenKilled => None,
    };
    assert_eq!(code, expected, "{way:?}");
    TcpStream::connect(server.address).await.unwrap_err();
    if way == Way::InOrder && stand.remote().is_none() {
        let those = |which| {
            rows::number(stand, &format!("SELECT count(*) AS n FROM conversation_sessions WHERE {which}"))
        };
        assert_eq!(those("status = 'active'"), 0, "a stop in order ends every session");
        assert!(those("status = 'ended' AND end_reason = 'shutdown'") > 0);
    }
}

/// Blocks the disk and waits until the server waits for it.
async fn blocked(stand: &Stand, server: &Server) -> rusqlite::Connection {
    let disk = stand.home.database().block();
    let waits = async || server.readiness(503).await.contains("journal: ").then_some(());
    until_told("something waits for the disk", waits).await;
    disk
}

/// Asserts that the server ends cleanly, or by the signal if it does not handle signals yet.
async fn during_the_start(stand: &Stand, signal: Signal, moment: Duration) {
    let mut command = stand.command(&[]);
    let mut server = command.spawn().unwrap();
    tokio::time::sleep(moment).await;
    let pid = nix::unistd::Pid::from_raw(server.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, signal).unwrap();
    let code = crate::harness::within("the server ends", server.wait()).await.unwrap().code();
    assert!([Some(0), None].contains(&code), "{code:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_after_stop_in_every_way_nothing_acknowledged_is_lost() {
    stop_after_stop(&Stand::on_sqlite(), "stops, SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_after_stop_with_postgresql_there_away_and_hanging_nothing_acknowledged_is_lost() {
    stop_after_stop(&Stand::on_postgres().await, "stops, PostgreSQL").await;
}
