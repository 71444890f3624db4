//! Runs the conformance suite against every store of the library, and checks that all of them end up
//! with the same rows. PostgreSQL runs the suite twice: directly, and through a pooler that gives every
//! transaction a different connection.

use std::sync::Arc;

use talktrack::store::{MessageRow, SessionFilter, SessionRow};
use talktrack::{JsonObject, Kind, Message, MessageId, NewSession, Role, SessionId, UserId};
use talktrack_testbed::PgBouncer;
use talktrack_testkit::memory::MemoryStore;
use talktrack_testkit::{Setup, Trial};

use crate::postgres::{migrated, store_at};
use crate::support::dir;

macro_rules! tests {
    ($($module:ident { $($check:ident,)+ })+) => {
        mod sqlite {
            use super::*;
            $($(#[tokio::test] async fn $check() {
                let dir = dir();
                talktrack_testkit::checks::$check(Setup::sqlite(dir.path())).await;
            })+)+
        }

        mod memory {
            use super::*;
            $($(#[tokio::test] async fn $check() {
                let dir = dir();
                let store = Arc::new(MemoryStore::new());
                talktrack_testkit::checks::$check(Setup::remote(dir.path(), store)).await;
            })+)+
        }

        mod postgres {
            use super::*;
            $($(#[tokio::test] async fn $check() {
                let dir = dir();
                let database = migrated().await;
                let store = Arc::new(store_at(&database.url()));
                talktrack_testkit::checks::$check(Setup::remote(dir.path(), store)).await;
            })+)+
        }

        mod pgbouncer {
            use super::*;
            $($(#[tokio::test] async fn $check() {
                let dir = dir();
                let database = migrated().await;
                let store = Arc::new(store_at(&PgBouncer::shared().url(&database)));
                talktrack_testkit::checks::$check(Setup::remote(dir.path(), store)).await;
            })+)+
        }
    };
}

talktrack_testkit::for_each_conformance_check!(tests);

/// A few sessions, users, ids and texts, combined at random so that they collide in every way.
struct Script(fastrand::Rng);

impl Script {
    fn session(&mut self) -> SessionId {
        SessionId::from_u128(self.0.u128(1..5))
    }

    fn message(&mut self, trial: &Trial) -> Message {
        let random = &mut self.0;
        let choose = |word: bool, text: &str| word.then(|| text.to_owned());
        let mut message = Message::new(
            SessionId::from_u128(random.u128(1..6)),
            [Role::User, Role::Assistant, Role::System][random.usize(..3)],
            ["yes", "no"][random.usize(..2)],
        )
        .with_id(random.bool().then(|| MessageId::from_u128(random.u128(100..115))))
        .with_created_at((random.u8(..4) == 0).then(|| {
            let back = i64::from(random.u8(..4)) * 1_000_000;
            talktrack::Timestamp::from_micros(trial.now().as_micros() - back).expect("a time")
        }))
        .with_kind([Kind::Message, Kind::Event][random.usize(..2)])
        .with_revision(random.u32(..3))
        .with_interrupted(random.u8(..8) == 0);
        message.external_id = choose(random.u8(..4) == 0, ["x", "y"][random.usize(..2)]);
        message.audio_url = choose(random.u8(..8) == 0, "https://example.org/a");
        message
    }

    async fn step(&mut self, trial: &mut Trial) {
        match self.0.u8(..20) {
            0..13 => {
                let message = self.message(trial);
                let _ = trial.track(message).await;
            }
            13..15 => {
                // Each session has only one user here. After a restart only the store knows the owner of a session,
                // and a remote store is not asked before the answer. `sessions.rs` and the suite cover other users.
                let session = self.session();
                let user = UserId::from_u128(7 + session.as_uuid().as_u128() % 2);
                let metadata = self.0.bool().then(|| self.metadata());
                let start =
                    trial.tracker().start_session(NewSession::new(session, user).with_metadata(metadata));
                if let Ok(receipt) = start {
                    let _ = receipt.durable().await;
                }
            }
            15..17 => {
                let receipt = trial.tracker().end_session(self.session(), "completed").expect("accepted");
                let _ = receipt.durable().await;
            }
            17 => {
                let session = self.session();
                let metadata = self.metadata();
                let _ = trial.tracker().update_session(session, metadata).expect("accepted").await;
            }
            _ => trial.wait(std::time::Duration::from_millis(self.0.u64(..3_000))),
        }
    }

    fn metadata(&mut self) -> JsonObject {
        let text = format!("{{\"{}\":{}}}", ["a", "b", "c"][self.0.usize(..3)], self.0.u8(..9));
        JsonObject::parse(&text).expect("an object")
    }
}

type Story = Vec<(SessionRow, Vec<MessageRow>)>;

/// Plays a script with a restart in the middle, and returns all rows. Each step reaches the store before the next
/// one begins, so that both stores see it in the same state. Generated ids are random, so they are left out.
async fn play(setup: Setup, seed: u64) -> Story {
    let mut script = Script(fastrand::Rng::with_seed(seed));
    let mut trial = Trial::open(setup);
    for step in 0..120 {
        if step == 60 {
            trial = trial.restart().await;
        }
        script.step(&mut trial).await;
        trial.settled().await;
    }
    let mut story = Vec::new();
    for session in trial.sessions(SessionFilter::default()).await {
        let mut rows = trial.transcript(session.session_id).await;
        rows.iter_mut()
            .filter(|row| row.id.as_uuid().get_version_num() == 7)
            .for_each(|row| row.id = MessageId::nil());
        story.push((session, rows));
    }
    story
}

#[tokio::test]
async fn all_stores_tell_the_same_story_of_whatever_happens() {
    let mut count = (0, 0);
    for seed in 0..6 {
        let one = dir();
        let other = dir();
        let sqlite = play(Setup::sqlite(one.path()), seed).await;
        let memory = play(Setup::remote(other.path(), Arc::new(MemoryStore::new())), seed).await;
        let database = migrated().await;
        let third = dir();
        let postgres = play(Setup::remote(third.path(), Arc::new(store_at(&database.url()))), seed).await;
        assert_eq!(postgres, memory, "with seed {seed}");
        let sessions = |story: &Story| story.iter().map(|(session, _)| session.clone()).collect::<Vec<_>>();
        for (one, other) in sessions(&sqlite).iter().zip(sessions(&memory)) {
            assert_eq!(*one, other, "with seed {seed}");
        }
        assert_eq!(sqlite.len(), memory.len(), "sessions with seed {seed}");
        for ((session, told), (_, retold)) in sqlite.iter().zip(&memory) {
            assert_eq!(told.len(), retold.len(), "messages of {} with seed {seed}", session.session_id);
            let different = told.iter().zip(retold).find(|(one, other)| one != other);
            assert_eq!(different, None, "with seed {seed}");
        }
        count.0 += sqlite.len();
        count.1 += sqlite.iter().map(|(_, rows)| rows.len()).sum::<usize>();
    }
    assert!(count.0 > 15 && count.1 > 100, "much happens: {count:?} sessions and messages");
}
