//! Exports of a conversation, byte for byte in each format.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, serve_with};

use super::transcript::Transcript;
use super::{say, start};
use crate::harness::{Home, Server};

const SESSION: &str = "fda86359-0000-4000-8000-000000000001";
const USER: &str = "03f6b167-0000-4000-8000-000000000002";

/// Writes a conversation that contains every kind of message.
async fn conversation(server: &Server) {
    let body = json!({"session_id": SESSION, "user_id": USER, "started_at": "2026-11-23T08:00:00Z"});
    assert_eq!(server.request("POST", "/v1/sessions").json(&body).send().await.status, 201);
    let said = |second: u32, role: &str, fields: Value| {
        let mut message = json!({
            "id": Uuid::from_u128(u128::from(second)), "role": role, "created_at": format!("2026-11-23T08:00:{second:02}Z"),
        });
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message
    };
    let call =
        json!({"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Turin"}});
    let result = json!({"type": "tool_call_response", "id": "call_1", "response": {"celsius": 4}});
    let messages = json!([
        said(1, "system", json!({"content": "Be kind."})),
        said(
            2,
            "user",
            json!({"content": "How cold\n\nis it --> in <Turin> & around?",
            "metrics": {"audio_start_ms": 1_900, "audio_end_ms": 3_250.4}})
        ),
        said(4, "assistant", json!({"content": "weather(Turin)", "kind": "tool_call", "parts": [call]})),
        said(5, "tool", json!({"content": "4 degrees", "kind": "tool_result", "parts": [result]})),
        said(
            6,
            "assistant",
            json!({"content": "It is 4 de", "content_generated": "It is 4 degrees, and dry.",
            "interrupted": true})
        ),
        said(7, "user", json!({"content": "Thanks \u{2615}\u{1b}[31m"})),
        said(8, "user", json!({"content": "dtmf 1", "kind": "event"})),
    ]);
    let session = SESSION.parse().unwrap();
    assert_eq!(say(server, session, &messages).await.status, 202);
    let end = json!({"reason": "completed", "ended_at": "2026-11-23T08:00:45.2Z"});
    let path = format!("/v1/sessions/{SESSION}/end");
    assert_eq!(server.request("POST", path).json(&end).send().await.status, 202);
}

fn export<'s>(server: &'s Server, format: &str) -> crate::harness::Request<'s> {
    server.request("GET", format!("/v1/sessions/{SESSION}/export?format={format}"))
}

#[tokio::test]
async fn a_conversation_is_written_in_every_format() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    conversation(&server).await;
    let mut told = Transcript::default();
    for format in ["json", "jsonl", "text", "vtt", "openai", "csv"] {
        told.add(format, export(&server, format)).await;
    }
    told.add("another format", export(&server, "pdf")).await;
    let unknown = format!("/v1/sessions/{}/export", Uuid::nil());
    told.add("a session that is not there", server.request("GET", unknown)).await;
    told.is_as_before("export");
    let named = export(&server, "vtt").send().await;
    let name = format!("attachment; filename=\"{SESSION}.vtt\"");
    assert_eq!(named.header("content-disposition"), Some(name.as_str()));
}

#[tokio::test]
async fn an_empty_conversation_is_a_document_too() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = start(&server).await;
    let mut documents = Vec::new();
    for format in ["json", "openai", "vtt", "csv"] {
        let path = format!("/v1/sessions/{session}/export?format={format}");
        documents.push(server.request("GET", path).send().await);
    }
    assert_eq!(documents[0].json()["messages"], json!([]));
    assert_eq!(documents[1].json(), json!([]));
    assert_eq!(documents[2].body, format!("WEBVTT\n\nNOTE session {session}\n"));
    assert!(
        documents[3].body.starts_with("session_id,id,created_at,role,name,kind,status,content,"),
        "{}",
        documents[3].body
    );
    assert_eq!(documents[3].body.lines().count(), 1);
}

#[tokio::test]
async fn what_is_exported_is_imported_as_the_same_conversation_byte_for_byte() {
    let home = Home::new();
    let other = Home::new();
    let server = home.serve(&[]).await;
    conversation(&server).await;
    let exported = export(&server, "jsonl").send().await.body;
    let by_command = home.look(&["export", "--session", SESSION]).await.succeeded().stdout;
    assert_eq!(exported, by_command);
    let file = other.write("conversation.jsonl", &exported);
    other.look(&["import", &file]).await.succeeded();
    assert_eq!(other.look(&["export"]).await.succeeded().stdout, exported);
    let columns = "SELECT session_id, user_id, status, end_reason, started_at, ended_at, duration_seconds, message_count \
                   FROM conversation_sessions";
    assert_eq!(other.database().select(columns), home.database().select(columns));
    other.verify().await;
}

#[tokio::test]
async fn a_command_writes_the_same_files() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    conversation(&server).await;
    for format in ["json", "jsonl", "text", "vtt", "openai", "csv"] {
        let written =
            home.look(&["export", "--format", format, "--session", SESSION]).await.succeeded().stdout;
        assert_eq!(written, export(&server, format).send().await.body, "{format}");
    }
    start(&server).await;
    let why = home.look(&["export", "--format", "vtt"]).await.failed(2);
    assert_eq!(why, "talktrack: this format holds one conversation: name it with --session ID");
    let all = home.look(&["export", "--format", "openai"]).await.succeeded().stdout;
    let arrays: Vec<Value> =
        serde_json::Deserializer::from_str(&all).into_iter().map(Result::unwrap).collect();
    assert_eq!(arrays.len(), 2, "an array for each conversation");
    let tables = home.look(&["export", "--format", "csv"]).await.succeeded().stdout;
    assert_eq!(tables.matches("session_id").count(), 1, "one header for all conversations: {tables}");
}

/// The export of a conversation of chat messages is what was sent, even if the results came in another order and late.
#[tokio::test]
async fn what_a_chat_api_takes_comes_back_as_it_was_sent() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls =
        json!([call("call_1", "weather", r#"{"city":"Ulm","days":[1.50]}"#), call("call_2", "time", "{}")]);
    let chat = [
        json!({"role": "system", "content": "Be kind."}),
        json!({"role": "user", "content": "How cold is it, and how late?"}),
        json!({"role": "assistant", "content": "I look.", "tool_calls": calls}),
        json!({"role": "tool", "tool_call_id": "call_1", "content": "{\"celsius\": 4}"}),
        json!({"role": "tool", "tool_call_id": "call_2", "content": "noon"}),
        json!({"role": "user", "content": "Are you there?"}),
        json!({"role": "assistant", "content": null, "tool_calls": [call("call_3", "wait", "{}")]}),
        json!({"role": "tool", "tool_call_id": "call_3", "content": ""}),
        json!({"role": "assistant", "content": "4 degrees, and noon."}),
    ];
    for order in [[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 5, 4, 3, 6, 7, 8]] {
        let session = start(&server).await;
        let sent: Value = order.iter().map(|place: &usize| chat[*place].clone()).collect();
        assert_eq!(say(&server, session, &sent).await.status, 202);
        let path = format!("/v1/sessions/{session}/export?format=openai");
        assert_eq!(server.request("GET", path).send().await.json(), json!(chat), "{order:?}");
    }
}

#[tokio::test]
async fn no_cell_of_a_table_is_run_by_a_spreadsheet() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = start(&server).await;
    let said = ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "fine, \"really\"\nfine"];
    let messages: Value =
        said.iter().map(|text| json!({"role": "user", "content": text, "metadata": {"a": "="}})).collect();
    assert_eq!(say(&server, session, &messages).await.status, 202);
    let table = server.request("GET", format!("/v1/sessions/{session}/export?format=csv")).send().await;
    assert_eq!(table.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let mut reader = csv::Reader::from_reader(table.body.as_bytes());
    let column = reader.headers().unwrap().iter().position(|name| name == "content").unwrap();
    let read: Vec<String> = reader.records().map(|row| row.unwrap()[column].to_owned()).collect();
    let expected: Vec<_> =
        said[..6].iter().map(|text| format!("'{text}")).chain([said[6].to_owned()]).collect();
    assert_eq!(read, expected);
}

/// The export streams the conversation: the memory it takes must not grow with the length of the conversation.
#[tokio::test]
async fn a_long_conversation_is_exported_as_it_is_read() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = start(&server).await;
    let words = "x".repeat(2_000);
    let call = json!([{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}]);
    assert_eq!(say(&server, session, &call).await.status, 202);
    for part in 0..20 {
        let turn = |turn: u32| json!({"role": "user", "content": format!("{part}.{turn} {words}")});
        let messages: Value = (0..1_000).map(turn).collect();
        assert_eq!(say(&server, session, &messages).await.status, 202);
    }
    let path = format!("/v1/sessions/{session}/export");
    let short = start(&server).await;
    server.request("GET", format!("/v1/sessions/{short}/export")).send().await;
    // The first message is a call that is never answered. The chat messages after it do not all wait for its result.
    for (format, around, least) in [("jsonl", 2, 40_000), ("openai", 4, 39_000), ("csv", 2, 40_000)] {
        let before = server.resident_kib();
        let exported = server.request("GET", format!("{path}?format={format}")).send().await;
        let grown = server.resident_kib().saturating_sub(before);
        assert_eq!(exported.body.lines().count(), 20_000 + around, "{format}");
        let size = exported.body.len() / 1024;
        assert!(size > least && grown < 10_000, "{format}: {grown} KiB more for {size} KiB");
    }
}

#[tokio::test]
async fn everything_of_a_user_comes_as_one_file_which_import_reads() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let [ann, ben] = [Uuid::new_v4(), Uuid::new_v4()];
    for (user, sessions) in [(ann, 103), (ben, 1)] {
        for number in 0..sessions {
            let body = json!({"user_id": user, "started_at": "2026-11-23T08:00:00Z", "external_id": format!("{user} {number}")});
            let session =
                server.request("POST", "/v1/sessions").json(&body).send().await.json()["session_id"].clone();
            let session = session.as_str().unwrap().parse().unwrap();
            let message = json!({"role": "user", "content": format!("{user} {number}")});
            assert_eq!(say(&server, session, &message).await.status, 202);
        }
    }
    let export = server.get(&format!("/v1/users/{ann}/export")).await;
    assert_eq!((export.status, export.header("content-type")), (200, Some("application/jsonl")));
    let command = home.look(&["export", "--user", &ann.to_string()]).await.succeeded();
    assert!(export.body == command.stdout && export.body.lines().count() == 206, "{}", export.body.len());
    assert!(!export.body.contains(&ben.to_string()));
    let other = Home::new();
    let file = other.write("ann.jsonl", &export.body);
    other.look(&["import", &file]).await.succeeded();
    assert_eq!(other.look(&["export"]).await.succeeded().stdout.lines().count(), 206);
    let nobody = server.get(&format!("/v1/users/{}/export", Uuid::new_v4())).await;
    assert_eq!((nobody.status, nobody.body.as_str()), (200, ""));
    server.get(&format!("/v1/users/{ann}/export?format=csv")).await.problem(400, "invalid_message");
}

#[tokio::test]
async fn users_export_themselves_and_nobody_else() {
    let home = Home::new();
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    let [ann, ben] = [Uuid::new_v4(), Uuid::new_v4()];
    let token = |user| SigningKey::secret(SECRET).token(&claims(user));
    let body = json!({"external_id": "call"});
    for user in [ann, ben] {
        let started = server.request("POST", "/v1/sessions").token(&token(user)).json(&body).send().await;
        assert_eq!(started.status, 201, "{started:?}");
    }
    let own = server.get_with(&format!("/v1/users/{ann}/export"), &token(ann)).await;
    assert!(
        own.status == 200 && own.body.lines().count() == 1 && own.body.contains(&ann.to_string()),
        "{own:?}"
    );
    let foreign = server.get_with(&format!("/v1/users/{ben}/export"), &token(ann)).await;
    let absent = server.get_with(&format!("/v1/users/{}/export", Uuid::new_v4()), &token(ann)).await;
    assert_eq!(foreign.problem(403, "forbidden"), absent.problem(403, "forbidden"));
    server.get(&format!("/v1/users/{ann}/export")).await.problem(401, "unauthorized");
}
