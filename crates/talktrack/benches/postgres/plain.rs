//! The plain design: a queue in memory and one worker that writes one row per statement.

use std::time::{Duration, Instant};

use talktrack_testbed::bench::{Outcome, TEXT, rate};
use talktrack_testbed::open_client;
use uuid::Uuid;

use crate::bed::Bed;

/// Returns the messages per second of one worker with one prepared INSERT.
pub(crate) fn worker(bed: &Bed, away: Duration, messages: usize) -> Outcome<f64> {
    let place = bed.place(away)?;
    let session = Uuid::from_u128(1);
    let user = Uuid::from_u128(2);
    place.psql(&format!(
        "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{session}', '{user}')"
    ));
    let url = place.url(!away.is_zero());
    let rate = bed.runtime.block_on(async {
        let client = open_client(&url).await;
        let insert =
            "INSERT INTO conversation_messages (session_id, user_id, role, content) VALUES ($1, $2, $3, $4)";
        let insert = client.prepare(insert).await?;
        let (sender, mut queue) = tokio::sync::mpsc::channel(messages);
        for _ in 0..messages {
            sender.send(TEXT).await?;
        }
        drop(sender);
        let started = Instant::now();
        while let Some(text) = queue.recv().await {
            client.execute(&insert, &[&session, &user, &"user", &text]).await?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(rate(messages, started))
    })?;
    assert_eq!(place.count()?, messages, "every row is there");
    Ok(rate)
}
