//! The server is killed at random moments while several clients talk to it. What it acknowledged must be there, once, and
//! unchanged.
//!
//! `TALKTRACK_CRASH_ROUNDS` sets the number of kills (5 where it is not set), `TALKTRACK_SEED` the seed from which their
//! moments are drawn; the seed of each run is printed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::harness::{Client, Home, Oracle, gapless, within};

/// Connections that talk at the same time.
const TALKERS: usize = 6;
/// The latest moment of a kill after the first ack of its round.
const LATEST_MS: u64 = 400;

/// One life of the server: started, talked to, killed.
async fn round(home: &Home, sessions: &[Uuid], user: Uuid, oracle: &Arc<Oracle>, kill_after: Duration) {
    let server = home.serve(&["--log-level", "warn"]).await;
    let talkers = oracle.hears(&server, sessions, user).await;
    // The moment is what is random here: no condition could stand for it.
    tokio::time::sleep(kill_after).await;
    server.kill().await;
    for talker in talkers {
        within("the talker notices", talker).await.unwrap();
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: must be a number, not {text:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_after_kill_nothing_acknowledged_is_lost_or_doubled() {
    let rounds = number_from("TALKTRACK_CRASH_ROUNDS").unwrap_or(5);
    let seed = number_from("TALKTRACK_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{rounds} rounds; TALKTRACK_SEED={seed} draws the same moments again");
    let mut random = fastrand::Rng::with_seed(seed);
    let (home, oracle, user) = (Home::new(), Arc::new(Oracle::default()), Uuid::new_v4());

    // Some sessions go on through every kill, the others are new in each round.
    let lasting: Vec<_> = (0..TALKERS / 2).map(|_| Uuid::new_v4()).collect();
    for _ in 0..rounds {
        let new = (lasting.len()..TALKERS).map(|_| Uuid::new_v4());
        let sessions: Vec<_> = lasting.iter().copied().chain(new).collect();
        round(&home, &sessions, user, &oracle, Duration::from_millis(random.u64(0..LATEST_MS))).await;
    }

    let server = home.serve(&[]).await;
    let database = home.database();
    let mut stored = BTreeMap::new();
    for (id, content) in database.all_messages() {
        assert!(stored.insert(id, content).is_none(), "{id} is there twice");
    }
    oracle.finds_everything_in(&stored);
    for session in oracle.sessions() {
        let row = database.session(session).expect("a session was acknowledged");
        assert_eq!(row.status, "abandoned", "{row:?}");
        assert!(row.ended_at.is_some(), "{row:?}");
        gapless(&database.contents(session), session);
    }
    home.verify().await;
    Client::join(&server, lasting[0], user).await.say("and it goes on").await;
    eprintln!("{} acknowledged, {} stored", oracle.count(), stored.len());
}
