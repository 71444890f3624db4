//! Many sessions over one connection and in one request: what they cost beyond a single session.

use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use talktrack_testbed::bench::{Outcome, TEXT, median};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::bed::{Connection, Server, request};

const MESSAGES: usize = 20_000;
const SESSIONS: usize = 500;
const ROUNDS: usize = 5;

const LINES: &str = "Content-Type: application/x-ndjson\r\n";

pub(crate) fn run() -> Outcome<()> {
    compare("one feed", |server, sessions| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(over_a_feed(server, sessions))
    })?;
    compare("HTTP frames", in_one_request)
}

/// Prints how much longer the messages take over [`SESSIONS`] sessions than over one.
fn compare(what: &str, measure: impl Fn(&Server, usize) -> Outcome<f64>) -> Outcome<()> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (sessions, times) in [1, SESSIONS].into_iter().zip(&mut times) {
            let dir = tempfile::tempdir()?;
            times.push(measure(&Server::start(dir.path(), &[])?, sessions)?);
        }
    }
    let [one, many] = times.map(median);
    println!(
        "{MESSAGES} messages over {what}: {one:.2} s for 1 session, {many:.2} s for {SESSIONS} sessions with their starts, {:.2} times, \
         medians of {ROUNDS} (limit 1.2, ratio {:.2})",
        many / one,
        many / one / 1.2
    );
    Ok(())
}

/// Returns the frames: a start of each session, then the messages, one of each session in turn.
fn frames(sessions: usize) -> Vec<String> {
    let user = Uuid::from_u128(7);
    let ids: Vec<Uuid> = (0..sessions).map(|_| Uuid::new_v4()).collect();
    let start = |id: &Uuid| json!({"type": "session.start", "session_id": id, "user_id": user});
    let message = |turn: usize| {
        let role = if turn.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"type": "message", "session_id": ids[turn % sessions], "role": role, "content": TEXT})
    };
    let frames = ids.iter().map(start).chain((0..MESSAGES).map(message));
    frames.map(|frame| frame.to_string()).collect()
}

/// Returns the seconds until every message is acknowledged.
async fn over_a_feed(server: &Server, sessions: usize) -> Outcome<f64> {
    let frames = frames(sessions);
    let url = format!("ws://{}/v1/ws?feed=true", server.address);
    let (mut outgoing, mut incoming) = connect_async(url).await?.0.split();
    let began = Instant::now();
    let send = async {
        for frame in frames {
            outgoing.feed(Message::text(frame)).await?;
        }
        Outcome::Ok(outgoing.flush().await?)
    };
    let receive = async {
        let mut acked = 0;
        while acked < MESSAGES {
            let Message::Text(text) = incoming.next().await.ok_or("the feed is closed")?? else { continue };
            let answer: Value = serde_json::from_str(&text)?;
            if answer["type"] == "error" {
                return Err(answer.to_string().into());
            }
            acked += answer["acks"].as_array().map_or(0, Vec::len);
        }
        Outcome::Ok(())
    };
    let (sent, received) = tokio::join!(send, receive);
    sent.and(received)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Returns the seconds until the request is answered.
fn in_one_request(server: &Server, sessions: usize) -> Outcome<f64> {
    let request = request("POST", "/v1/frames", LINES, &frames(sessions).join("\n"));
    let mut connection = Connection::to(server)?;
    let began = Instant::now();
    let answer = connection.ask(&request, 200)?;
    let seconds = began.elapsed().as_secs_f64();
    let answers = std::str::from_utf8(answer)?.lines().filter(|line| line.contains(r#""acks""#)).count();
    if answers != MESSAGES {
        return Err(format!("{answers} messages are acknowledged").into());
    }
    Ok(seconds)
}
