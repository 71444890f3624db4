//! A call that is recorded after it took place has the times of the call.

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use crate::harness::remote::{has_status, migrated};
use crate::harness::{Client, Home, Server, until_told};

/// A moment of a call nine days ago.
fn at(second: u64) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (now.as_secs() / 86_400 * 86_400 - 9 * 86_400 + second).into()
}

async fn post(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let answer = server.request("POST", path).json(body).send().await;
    (answer.status, answer.json())
}

/// Records a call over HTTP: its start without a time, its messages, its end.
async fn records_a_call(server: &Server, is_started: impl AsyncFnOnce()) -> Uuid {
    let session = Uuid::new_v4();
    let start = json!({"session_id": session, "user_id": Uuid::new_v4()});
    assert_eq!(post(server, "/v1/sessions", &start).await.0, 201);
    is_started().await;
    let said = json!([
        {"role": "user", "content": "Hello?", "created_at": at(0)},
        {"role": "assistant", "content": "Good morning.", "created_at": at(2)},
    ]);
    assert_eq!(post(server, &format!("/v1/sessions/{session}/messages"), &said).await.0, 202);
    let end = json!({"reason": "hangup", "ended_at": at(300)});
    let (status, ended) = post(server, &format!("/v1/sessions/{session}/end"), &end).await;
    assert_eq!((status, &ended["duration_seconds"]), (202, &json!(300.0)), "{ended}");
    session
}

/// Asserts that the session has the times of the call.
fn is_of_then(row: &Value) {
    assert_eq!(row["duration_seconds"], 300.0, "{row}");
    let seconds = |column: &str| {
        let time: talktrack::Timestamp =
            row[column].as_str().unwrap().replace("+00:00", "Z").parse().unwrap();
        json!(time.as_micros() / 1_000_000)
    };
    assert_eq!((seconds("started_at"), seconds("ended_at")), (at(0), at(300)), "{row}");
}

/// Waits until the statistics count this many sessions that began on a day, counted from the day of the call.
async fn counts_sessions(server: &Server, day: u64, count: u64) {
    let midnight = |day: u64| {
        let seconds = at(day * 86_400).as_u64().unwrap();
        talktrack::Timestamp::from_micros(i64::try_from(seconds).unwrap() * 1_000_000).unwrap()
    };
    let path = format!("/v1/stats?since={}&until={}&step=1d", midnight(day), midnight(day + 1));
    until_told(&format!("the statistics count {count} sessions on day {day}"), async || {
        let stats = server.request("GET", path.clone()).send().await.json();
        (stats["totals"]["sessions"]["begun"] == json!(count)).then_some(())
    })
    .await;
}

fn lines(session: Uuid, end: &Value) -> String {
    [
        json!({"type": "session.start", "session_id": session, "user_id": Uuid::new_v4()}),
        json!({"type": "message", "session_id": session, "role": "user", "created_at": at(0)}),
        json!({"type": "session.end", "session_id": session, "ended_at": end}),
    ]
    .map(|line| line.to_string())
    .join("\n")
}

#[tokio::test]
async fn a_call_of_last_week_is_recorded_as_such_in_sqlite() {
    let home = Home::new();
    let imported = Uuid::new_v4();
    let file = home.write("calls.jsonl", lines(imported, &at(300)));
    home.look(&["import", &file]).await.succeeded();
    let server = home.serve(&[]).await;
    let is_counted_today = async || counts_sessions(&server, 9, 1).await;
    for session in [records_a_call(&server, is_counted_today).await, imported] {
        is_of_then(&server.request("GET", format!("/v1/sessions/{session}")).send().await.json());
    }
    counts_sessions(&server, 0, 2).await;
    counts_sessions(&server, 9, 0).await;
    drop(server);
    home.verify().await;
}

#[tokio::test]
async fn a_call_of_last_week_is_recorded_as_such_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let imported = Uuid::new_v4();
    let file = home.write("calls.jsonl", lines(imported, &at(300)));
    let data = home.data_dir().display().to_string();
    let arguments = ["import", &file, "--data-dir", &data, "--database-url", &database.url()];
    home.run(&arguments).await.succeeded();
    let server = home.serve_on(&database.url()).await;
    for session in [records_a_call(&server, async || {}).await, imported] {
        is_of_then(&has_status(&database, session, "ended").await);
    }
}

#[tokio::test]
async fn an_end_in_the_far_future_is_refused() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = Uuid::new_v4();
    let start = json!({"session_id": session, "user_id": Uuid::new_v4()});
    assert_eq!(post(&server, "/v1/sessions", &start).await.0, 201);
    let path = format!("/v1/sessions/{session}/end");
    let end = json!({"ended_at": "2999-01-01T00:00:00Z"});
    let answer = server.request("POST", path).json(&end).send().await;
    assert_eq!(answer.problem(400, "invalid_message"), "ended_at: must not be more than a day in the future");
    assert_eq!(home.database().session(session).unwrap().end().0, "active");
    server.stop().await;
    let file = home.write("calls.jsonl", lines(Uuid::new_v4(), &json!("2999-01-01T00:00:00Z")));
    let errors = home.look(&["import", &file]).await.failed(1);
    assert!(errors.contains("calls.jsonl:3: ended_at: must not be more than a day"), "{errors}");
}

#[tokio::test]
async fn an_export_is_imported_although_its_session_ends_before_it_starts() {
    let home = Home::new();
    let session = Uuid::new_v4();
    let lines = [
        json!({"type": "session.start", "session_id": session, "user_id": Uuid::new_v4(), "started_at": at(300)}),
        json!({"type": "session.end", "session_id": session, "ended_at": at(240)}),
    ];
    let file = home.write("odd.jsonl", lines.map(|line| line.to_string()).join("\n"));
    home.look(&["import", &file]).await.succeeded();
    let exported = home.look(&["export", "--session", &session.to_string()]).await.succeeded().stdout;
    let other = Home::new();
    let again = other.write("again.jsonl", exported.clone());
    other.look(&["import", &again]).await.succeeded();
    assert_eq!(other.look(&["export", "--session", &session.to_string()]).await.succeeded().stdout, exported);
    let row = home.look(&["sessions", "--json"]).await.succeeded().json_lines().remove(0);
    assert_eq!((&row["started_at"], &row["duration_seconds"]), (&row["ended_at"], &json!(0.0)), "{row}");
}

#[tokio::test]
async fn an_end_over_a_socket_has_the_time_that_the_client_gives() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.track(json!({"type": "message", "role": "user", "created_at": at(0)})).await;
    client.send(json!({"type": "session.end", "reason": "hangup", "ended_at": at(300)})).await;
    assert_eq!(client.expect("session.ended").await["duration_seconds"], 300.0);
    is_of_then(&server.request("GET", format!("/v1/sessions/{}", client.session)).send().await.json());
}
