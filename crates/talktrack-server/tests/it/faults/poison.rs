//! Case 3: one row that the database never accepts among 500 that it accepts, and a batch of only such rows.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::{Remote, Stand};
use super::talkers::Manner;
use crate::harness::{Client, Server, until_told};

/// Messages that are sent while the database is unavailable, so that they are written as one batch.
const BATCH: usize = 500;

/// The number of the refused message in each session.
const BAD: usize = 273;

const WAITING: &str = "they wait until the store accepts them";

/// A stand whose server has a batch to write and cannot reach the database.
struct Eve {
    stand: Stand,
    server: Server,
}

impl Eve {
    async fn after(manner: Manner) -> Self {
        let stand = Stand::on_postgres().await;
        stand.remote().unwrap().proxy.cut();
        let server = stand.serve(&[]).await;
        let talkers = stand.talk(manner);
        stand.oracle.hears(BATCH * manner.talkers).await;
        talkers.fall_silent().await;
        Self { stand, server }
    }

    /// Sends a batch in each of `sessions` sessions.
    async fn of_sessions(sessions: usize) -> Self {
        let pause = Duration::ZERO;
        Self::after(Manner { talkers: sessions, ahead: BATCH, pause, per_session: usize::MAX }).await
    }

    fn remote(&self) -> &Remote {
        self.stand.remote().unwrap()
    }

    /// Returns the acknowledged messages with these numbers.
    fn of_number(&self, is_meant: impl Fn(usize) -> bool) -> BTreeSet<Uuid> {
        let notes = self.stand.oracle.notes();
        let meant = notes.acknowledged.values().filter(|saying| is_meant(saying.number));
        meant.map(|saying| saying.id()).collect()
    }

    /// Lets the server write the batch, and asserts that exactly these messages become dead letters, each for this
    /// reason.
    async fn lays_aside(&self, bad: &BTreeSet<Uuid>, why: &str) {
        self.remote().proxy.fix();
        let verdict = judge(&self.stand, &self.server).await;
        assert_eq!(verdict.dead.keys().copied().collect::<BTreeSet<_>>(), *bad);
        for letter in self.letters().await {
            assert!(letter["detail"].as_str().unwrap_or_default().contains(why), "{why}: {letter}");
        }
    }

    async fn letters(&self) -> Vec<Value> {
        self.stand
            .home
            .look(&["dead-letters", "list", "--json", "--limit", "1000000"])
            .await
            .succeeded()
            .json_lines()
    }

    /// Replays the dead letters after the cause was removed, and asserts that all messages are stored.
    async fn replays(self) {
        self.stand.home.look(&["dead-letters", "replay", "--all"]).await.succeeded();
        judge(&self.stand, &self.server).await.without_dead_letters();
        self.stand.stop(self.server).await;
    }
}

/// Checks that a rule of the user's own database which refuses one message of each session affects only that message.
async fn one_is_bad(idea: &str, why: &str, undo: &str) {
    let eve = Eve::of_sessions(cut::rounds(1, 8) as usize).await;
    eve.remote().database.psql(idea);
    eve.lays_aside(&eve.of_number(|number| number == BAD), why).await;
    eve.remote().database.psql(undo);
    eve.replays().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_in_500_that_breaks_a_users_check_is_laid_aside_alone() {
    one_is_bad(
        &format!(
            "ALTER TABLE conversation_messages ADD CONSTRAINT lucky CHECK (metadata->>'number' <> '{BAD}')"
        ),
        "violates check constraint \"lucky\"",
        "ALTER TABLE conversation_messages DROP CONSTRAINT lucky",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_in_500_that_breaks_a_users_foreign_key_is_laid_aside_alone() {
    let number = "ALTER TABLE conversation_messages ADD number int \
                  GENERATED ALWAYS AS ((metadata->>'number')::int) STORED REFERENCES numbers";
    one_is_bad(
        &format!(
            "CREATE TABLE numbers (n int PRIMARY KEY);
             INSERT INTO numbers SELECT n FROM generate_series(0, 100000) n WHERE n <> {BAD};
             {number}"
        ),
        "violates foreign key constraint \"conversation_messages_number_fkey\"",
        &format!("INSERT INTO numbers VALUES ({BAD})"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_too_long_for_a_users_column_are_laid_aside_alone() {
    let eve = Eve::of_sessions(1).await;
    // A few messages are long.
    let long = eve.of_number(|number| number.is_multiple_of(97));
    eve.remote().database.psql("ALTER TABLE conversation_messages ALTER content TYPE varchar(5000)");
    eve.lays_aside(&long, "value too long for type character varying(5000)").await;
    eve.remote().database.psql("ALTER TABLE conversation_messages ALTER content TYPE text");
    eve.replays().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_in_500_whose_id_another_message_has_is_laid_aside_alone() {
    let eve = Eve::of_sessions(cut::rounds(1, 8) as usize).await;
    let bad = eve.of_number(|number| number == BAD);
    let database = &eve.remote().database;
    let user = eve.stand.user;
    // Another message with the same id already exists in each of these sessions.
    for saying in eve.stand.oracle.notes().acknowledged.values().filter(|saying| bad.contains(&saying.id())) {
        let id = saying.id();
        let session = saying.session;
        database.psql(&format!(
            "INSERT INTO conversation_sessions (session_id, user_id, message_count) VALUES ('{session}', '{user}', 1);
             INSERT INTO conversation_messages (id, session_id, user_id, role, content)
             VALUES ('{id}', '{session}', '{user}', 'user', 'fresh')"
        ));
    }
    eve.remote().proxy.fix();
    let dead = judge(&eve.stand, &eve.server).await.dead;
    assert_eq!(dead.into_keys().collect::<BTreeSet<_>>(), bad);
    for letter in eve.letters().await {
        assert_eq!(letter["reason"], "id_conflict", "{letter}");
    }
    // The other message is removed and no longer counted.
    for id in &bad {
        database.psql(&format!(
            "SET session_replication_role = replica;
             WITH gone AS (DELETE FROM conversation_messages WHERE id = '{id}' RETURNING session_id)
             UPDATE conversation_sessions session SET message_count = message_count - 1
             FROM gone WHERE session.session_id = gone.session_id"
        ));
    }
    eve.replays().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_nothing_but_bad_rows_speaks_against_the_database_and_waits() {
    // A single session uses a single lane, which waits as soon as it reports the fault. With more lanes, another one
    // could still bisect its batch when the database is repaired.
    let eve = Eve::of_sessions(1).await;
    let database = &eve.remote().database;
    database.psql("ALTER TABLE conversation_messages ADD CONSTRAINT never CHECK (false)");
    eve.remote().proxy.fix();
    let page = async || Some(eve.server.get("/readyz").await.body).filter(|page| page.contains(WAITING));
    let page = until_told("/readyz says that rows wait", page).await;
    assert!(page.contains("violates check constraint"), "{page}");
    assert_eq!(eve.letters().await, [Value::Null; 0]);
    assert_eq!(rows::count(&eve.stand), 0);
    database.psql("ALTER TABLE conversation_messages DROP CONSTRAINT never");
    judge(&eve.stand, &eve.server).await.without_dead_letters();
    eve.stand.stop(eve.server).await;
}

/// If bad rows arrive one by one, only as many become dead letters as the breaker needs to see that all rows are
/// refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_that_come_one_by_one_are_laid_aside_until_they_speak_against_the_database() {
    let stand = Stand::on_postgres().await;
    let server = stand.serve(&[]).await;
    let one_by_one = Manner { talkers: 2, ahead: 1, pause: Duration::from_millis(10), per_session: 1_000 };
    let talkers = stand.talk(one_by_one);
    stand.oracle.hears(20).await;
    let database = &stand.remote().unwrap().database;
    database.psql("ALTER TABLE conversation_messages ADD CONSTRAINT never CHECK (false) NOT VALID");
    let waits = async || server.get("/readyz").await.body.contains(WAITING).then_some(());
    until_told("/readyz says that rows wait", waits).await;
    stand.oracle.hears(100).await;
    database.psql("ALTER TABLE conversation_messages DROP CONSTRAINT never");
    talkers.fall_silent().await;
    let verdict = judge(&stand, &server).await;
    assert!(verdict.dead.len() < 4 * 20, "19 for each lane, not {}", verdict.dead.len());
    let eve = Eve { stand, server };
    eve.replays().await;
}

/// Returns messages with text that PostgreSQL cannot store, in every field that a client can set.
fn unspeakable() -> Vec<Value> {
    let strange = ["\0", "a\0b", "\u{FFFE}\u{FFFF}", "\u{10FFFF}", "\u{202E}\r\n"];
    let mut frames = Vec::new();
    for word in strange {
        let fields = json!({
            "content": word, "external_id": word, "audio_url": word, "content_generated": word, "kind": word,
            "role": word, "metadata": {word: {"deep": [word]}}, "parts": [{word: word}], "metrics": {"model": word},
        });
        for (field, value) in fields.as_object().unwrap() {
            let mut frame = json!({"type": "message", "role": "user", "content": "fresh", "ref": field});
            frame[field] = value.clone();
            frames.push(frame);
        }
    }
    frames
}

/// Returns the same as raw JSON, in spellings that a tree of JSON values cannot represent.
fn misspelled() -> [String; 10] {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let metadata = [
        r#"{"half": "\ud800"}"#,
        r#"{"swapped": "\udc00\ud800"}"#,
        r#"{"huge": 1e999999}"#,
        r#"{"tiny": -1.5e-999999}"#,
        r#"{"largest": [1e131071, -0.1e131071, 1e-16383]}"#,
        r#"{"too large": [1, {"n": -1e131072}]}"#,
        r#"{"too small": 1.5E-16383}"#,
        &format!(r#"{{"long": {}}}"#, "9".repeat(140_000)),
        r#"{"twice": 1, "twice": "\u0000"}"#,
        &format!(r#"{{"deep": {deep}}}"#),
    ];
    metadata.map(|metadata| {
        format!(
            r#"{{"type": "message", "role": "user", "content": "fresh", "metadata": {metadata}, "ref": "m"}}"#
        )
    })
}

#[tokio::test]
async fn whatever_postgresql_cannot_hold_is_refused_at_the_door_or_stored_in_other_words() {
    let stand = Stand::on_postgres().await;
    let server = stand.serve(&[]).await;
    let refused = server.get(&format!("/v1/ws?user_id={}&external_id=own%00id", Uuid::new_v4())).await;
    assert!(refused.status >= 400, "{}", refused.body);
    let mut client = Client::new(&server).await;
    client.send(json!({"type": "session.update", "metadata": {"k\0": ["\0"]}})).await;
    let mut answers = [0, 0];
    let frames = unspeakable().into_iter().map(|frame| frame.to_string()).chain(misspelled());
    for frame in frames {
        client.send_raw(tokio_tungstenite::tungstenite::Message::text(frame)).await;
        let answer = client.receive().await;
        let is_taken = answer["type"] == "ack";
        assert!(
            is_taken || answer["code"] == "invalid_message" || answer["code"] == "invalid_json",
            "{answer}"
        );
        answers[usize::from(is_taken)] += 1;
    }
    client.close().await;
    stand.drained(&server).await;
    let letters = stand.home.look(&["dead-letters", "list", "--json"]).await.succeeded().stdout;
    assert_eq!(letters.lines().count(), 0, "{letters}");
    let rows = rows::count(&stand);
    assert!(rows > 0 && answers[1] >= rows && answers[0] > 0, "{rows}, {answers:?}");
    stand.stop(server).await;
}
