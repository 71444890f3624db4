//! Pagination: a list omits no row and repeats none, even if rows arrive between two pages.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use super::{messages_of, say, start};
use crate::harness::remote::migrated;
use crate::harness::{Home, Server};

/// Returns the rows of a page and the cursor of the next page.
async fn page(server: &Server, path: &str, cursor: Option<&str>, list: &str) -> (Vec<Value>, Option<String>) {
    let sign = if path.contains('?') { '&' } else { '?' };
    let path = cursor.map_or_else(|| path.to_owned(), |cursor| format!("{path}{sign}cursor={cursor}"));
    let answer = server.request("GET", path).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut page = answer.json();
    let Value::Array(rows) = page[list].take() else { panic!("{answer:?}") };
    (rows, page["next_cursor"].as_str().map(str::to_owned))
}

/// Returns all rows of a list, from all its pages.
pub(super) async fn all(server: &Server, path: &str, list: &str) -> Vec<Value> {
    let (mut rows, mut next) = page(server, path, None, list).await;
    while let Some(cursor) = next {
        let (more, after) = page(server, path, Some(&cursor), list).await;
        rows.extend(more);
        next = after;
    }
    rows
}

/// Reads a transcript page by page while a message arrives between each two pages.
async fn transcript_grows(server: &Server) {
    let session = start(server).await;
    let messages: Value = (0..20).map(|turn| json!({"role": "user", "content": turn.to_string()})).collect();
    assert_eq!(say(server, session, &messages).await.status, 202);
    server.drained().await;
    let path = format!("{}?limit=3", messages_of(session));
    let (mut told, mut next) = page(server, &path, None, "messages").await;
    for turn in 20..25 {
        let message = json!({"role": "user", "content": turn.to_string()});
        assert_eq!(say(server, session, &message).await.status, 202);
        server.drained().await;
        let (more, after) = page(server, &path, next.as_deref(), "messages").await;
        told.extend(more);
        next = after;
    }
    while let Some(cursor) = next {
        let (more, after) = page(server, &path, Some(&cursor), "messages").await;
        told.extend(more);
        next = after;
    }
    let told: Vec<_> = told.iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, (0..25).map(|turn| turn.to_string()).collect::<Vec<_>>());
}

/// Reads the list of sessions page by page while other sessions start, several of them with the same start time.
async fn sessions_begin(server: &Server) {
    let begin = async |at: usize| {
        let session = Uuid::new_v4();
        let started_at = format!("2026-11-23T08:{:02}:00Z", at / 3);
        let body = json!({"session_id": session, "user_id": Uuid::nil(), "started_at": started_at});
        assert_eq!(server.request("POST", "/v1/sessions").json(&body).send().await.status, 201);
        session.to_string()
    };
    let mut there = HashSet::new();
    for at in 0..12 {
        there.insert(begin(at).await);
    }
    server.drained().await;
    let path = format!("/v1/sessions?limit=2&user_id={}", Uuid::nil());
    let (mut told, mut next) = page(server, &path, None, "sessions").await;
    let mut newer = 12;
    while let Some(cursor) = next {
        begin(newer).await;
        newer += 1;
        server.drained().await;
        let (more, after) = page(server, &path, Some(&cursor), "sessions").await;
        told.extend(more);
        next = after;
    }
    let ids: Vec<_> = told.iter().map(|row| row["session_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 12, "{told:?}");
    assert_eq!(ids.into_iter().collect::<HashSet<_>>(), there);
    assert!(told.is_sorted_by(|a, b| a["started_at"].as_str() >= b["started_at"].as_str()), "newest first");
}

#[tokio::test]
async fn pages_leave_nothing_out_while_rows_arrive() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    transcript_grows(&server).await;
    sessions_begin(&server).await;
}

#[tokio::test]
async fn pages_leave_nothing_out_while_rows_arrive_in_postgresql() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let server = home.serve_on(&database.url()).await;
    transcript_grows(&server).await;
    sessions_begin(&server).await;
}

#[tokio::test]
async fn the_list_of_sessions_as_a_table_has_the_same_rows_filters_and_pages() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    for name in 0..5 {
        let metadata = json!({"note": format!("a \"quoted\", {name}")});
        let body =
            json!({"external_id": format!("=call {name}"), "user_id": Uuid::nil(), "metadata": metadata});
        assert_eq!(server.request("POST", "/v1/sessions").json(&body).send().await.status, 201);
        start(&server).await;
    }
    let listed = all(&server, &format!("/v1/sessions?user_id={}", Uuid::nil()), "sessions").await;
    assert_eq!(listed.len(), 5);
    let mut path = format!("/v1/sessions?format=csv&limit=2&user_id={}", Uuid::nil());
    let mut read: Vec<HashMap<String, String>> = Vec::new();
    for _ in 0..3 {
        let answer = server.request("GET", path.clone()).send().await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("text/csv; charset=utf-8; header=present"))
        );
        let mut rows = csv::Reader::from_reader(answer.body.as_bytes());
        read.extend(rows.deserialize().map(Result::unwrap));
        let link =
            answer.header("link").and_then(|link| link.strip_prefix('<')?.strip_suffix(">; rel=\"next\""));
        path = link.unwrap_or_default().to_owned();
    }
    assert_eq!(path, "", "the third page is the last one");
    assert_eq!(read.len(), 5);
    for (cells, row) in read.iter().zip(&listed) {
        assert_eq!(cells.len(), row.as_object().unwrap().len(), "a column for each field: {cells:?}");
        for (field, value) in row.as_object().unwrap() {
            let expected = match value {
                Value::Null => String::new(),
                Value::String(text) if text.starts_with('=') => format!("'{text}"),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(cells[field], expected, "{field}");
        }
    }
    let odd = server.request("GET", "/v1/sessions?format=xml").send().await;
    assert_eq!(odd.status, 400, "{odd:?}");
}

#[tokio::test]
async fn a_page_of_the_last_rows_leads_nowhere_or_to_an_empty_one() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = start(&server).await;
    let messages: Value = (0..4).map(|turn| json!({"role": "user", "content": turn.to_string()})).collect();
    assert_eq!(say(&server, session, &messages).await.status, 202);
    let path = messages_of(session);
    let (rows, next) = page(&server, &format!("{path}?limit=5"), None, "messages").await;
    assert_eq!((rows.len(), next), (4, None));
    let (rows, next) = page(&server, &format!("{path}?limit=4"), None, "messages").await;
    assert_eq!(rows.len(), 4);
    // The last page was full, so only another request can show that the list has ended.
    let (rows, next) = page(&server, &format!("{path}?limit=4"), next.as_deref(), "messages").await;
    assert_eq!((rows.len(), next), (0, None));
}

/// Checks that pages of the largest messages are bounded in bytes, over HTTP and in the dashboard, and omit no message.
async fn large_messages_come_on_small_pages(server: &Server) {
    const MESSAGES: usize = 40;
    const PAGE_AT_MOST: usize = 6 << 20;
    let session = start(server).await;
    for number in 0..MESSAGES {
        let content = format!("{number} {}", "x".repeat(900 << 10));
        assert_eq!(say(server, session, &json!({"role": "user", "content": content})).await.status, 202);
    }
    server.drained().await;
    let before = server.resident_kib();
    let path = format!("{}?limit=500", messages_of(session));
    let four = (0..4).map(|_| server.get(&path));
    for answer in futures_util::future::join_all(four).await {
        assert!(answer.body.len() < PAGE_AT_MOST, "{} bytes", answer.body.len());
    }
    let dashboard = server.get(&format!("/sessions/{session}")).await;
    assert!(dashboard.body.len() < PAGE_AT_MOST, "{} bytes", dashboard.body.len());
    assert!(dashboard.body.contains("Previous messages"), "the page says where the transcript goes on");
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 128 << 10, "{grown} KiB for pages of 4 MiB");
    let (rows, next) = page(server, &path, None, "messages").await;
    assert!(rows.len() < MESSAGES && next.is_some(), "{} rows on a page", rows.len());
    let rows = all(server, &path, "messages").await;
    let numbers =
        rows.iter().map(|row| row["content"].as_str().unwrap().split(' ').next().unwrap().to_owned());
    assert_eq!(numbers.collect::<Vec<_>>(), (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>());
    let export = server.get(&format!("/v1/sessions/{session}/export?format=text")).await;
    assert!(export.body.len() > MESSAGES * (900 << 10), "the export is whole: {} bytes", export.body.len());
}

#[tokio::test]
async fn pages_of_large_messages_end_early() {
    let home = Home::new();
    large_messages_come_on_small_pages(&home.serve(&[]).await).await;
}

#[tokio::test]
async fn pages_of_large_messages_end_early_in_postgresql() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    large_messages_come_on_small_pages(&home.serve_on(&database.url()).await).await;
}

/// Reads the messages of a session backwards, and one by one, while they wait for the store and after that.
async fn messages_are_read_from_the_last(server: &Server) {
    let session = start(server).await;
    let turns: Value = (0..25)
        .map(|turn| json!({"role": "user", "content": turn.to_string(), "external_id": format!("m{turn}")}))
        .collect();
    assert_eq!(say(server, session, &turns).await.status, 202);
    for _ in 0..2 {
        let path = messages_of(session);
        let forwards = all(server, &format!("{path}?limit=10"), "messages").await;
        let mut backwards = all(server, &format!("{path}?limit=10&order=desc"), "messages").await;
        let last = page(server, &format!("{path}?limit=3&order=desc"), None, "messages").await.0;
        let contents: Vec<_> = last.iter().map(|row| row["content"].clone()).collect();
        assert_eq!(contents, ["24", "23", "22"]);
        backwards.reverse();
        assert_eq!((forwards.len(), &backwards), (25, &forwards));
        for row in &forwards {
            let answer = server.get(&format!("{path}/{}", row["id"].as_str().unwrap())).await;
            assert_eq!((answer.status, &answer.json()), (200, row));
        }
        server.drained().await;
    }
    let other = start(server).await;
    assert_eq!(say(server, other, &json!({"role": "user", "content": "elsewhere"})).await.status, 202);
    let elsewhere =
        page(server, &messages_of(other), None, "messages").await.0[0]["id"].as_str().unwrap().to_owned();
    for id in [elsewhere, Uuid::new_v4().to_string()] {
        let answer = server.get(&format!("{}/{id}", messages_of(session))).await;
        assert_eq!(answer.problem(404, "not_found"), "the session has no such message");
    }
    let answer = server.get(&format!("{}/7", messages_of(session))).await;
    assert_eq!(answer.problem(400, "invalid_message"), "message_id: must be a UUID");
}

#[tokio::test]
async fn the_last_messages_are_one_page() {
    let home = Home::new();
    messages_are_read_from_the_last(&home.serve(&[]).await).await;
}

#[tokio::test]
async fn the_last_messages_are_one_page_in_postgresql() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    messages_are_read_from_the_last(&home.serve_on(&database.url()).await).await;
}
