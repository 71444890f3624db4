//! The limit: the same rows in the same table with the same indexes, built beforehand, 500 per
//! statement, and nothing else.

use std::time::{Duration, Instant};

use talktrack_testbed::bench::{Outcome, TEXT, rate};
use talktrack_testbed::open_client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::bed::Bed;
use crate::talkers::SESSIONS;

const CONNECTIONS: usize = 4;
const ROWS: usize = 500;

const INSERT: &str = "
INSERT INTO conversation_messages (id, session_id, user_id, role, content, created_at, seq)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::int8[])
ON CONFLICT (id) DO NOTHING RETURNING id";

struct Batch {
    ids: Vec<Uuid>,
    sessions: Vec<Uuid>,
    users: Vec<Uuid>,
    roles: Vec<&'static str>,
    texts: Vec<&'static str>,
    times: Vec<jiff::Timestamp>,
    seqs: Vec<i64>,
}

/// Returns the messages per second over four connections.
pub(crate) fn unnest(bed: &Bed, away: Duration, messages: usize) -> Outcome<f64> {
    let place = bed.place(away)?;
    place.psql(&format!(
        "INSERT INTO conversation_sessions (session_id, user_id) \
         SELECT lpad(to_hex(n), 32, '0')::uuid, '00000000-0000-0000-0000-000000000001' FROM generate_series(0, {}) n",
        SESSIONS - 1
    ));
    let batches: Vec<Batch> = (0..messages / ROWS).map(batch).collect();
    let url = place.url(!away.is_zero());
    let took = bed.runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(open_client(&url).await);
        }
        let started = Instant::now();
        let mut tasks = Vec::new();
        let mut batches = batches.into_iter();
        for client in clients {
            let mine: Vec<Batch> = batches.by_ref().take(messages / ROWS / CONNECTIONS).collect();
            tasks.push(tokio::spawn(async move {
                for batch in &mine {
                    insert(&client, batch).await?;
                }
                Ok::<_, tokio_postgres::Error>(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(rate(messages, started))
    })?;
    assert_eq!(place.count()?, messages, "every row is there");
    Ok(took)
}

async fn insert(client: &tokio_postgres::Client, batch: &Batch) -> Result<(), tokio_postgres::Error> {
    let rows = client
        .query_typed(
            INSERT,
            &[
                (&batch.ids, Type::UUID_ARRAY),
                (&batch.sessions, Type::UUID_ARRAY),
                (&batch.users, Type::UUID_ARRAY),
                (&batch.roles, Type::TEXT_ARRAY),
                (&batch.texts, Type::TEXT_ARRAY),
                (&batch.times, Type::TIMESTAMPTZ_ARRAY),
                (&batch.seqs, Type::INT8_ARRAY),
            ],
        )
        .await?;
    assert_eq!(rows.len(), ROWS);
    Ok(())
}

fn batch(number: usize) -> Batch {
    let seqs: Vec<i64> = (0..ROWS).map(|row| 1_795_000_000_000_000 + (number * ROWS + row) as i64).collect();
    let id = |seq: &i64| {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&seq.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis((*seq / 1_000).unsigned_abs(), &random).into_uuid()
    };
    Batch {
        ids: seqs.iter().map(id).collect(),
        sessions: (0..ROWS).map(|row| Uuid::from_u128((number * ROWS + row) as u128 % SESSIONS)).collect(),
        users: vec![Uuid::from_u128(1); ROWS],
        roles: vec!["user"; ROWS],
        texts: vec![TEXT; ROWS],
        times: seqs.iter().map(|seq| jiff::Timestamp::from_microsecond(*seq).unwrap_or_default()).collect(),
        seqs,
    }
}
