//! What the tools of the field send is understood, over the socket, over HTTP and from files, and in both stores.

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres};
use uuid::Uuid;

use crate::harness::remote::{migrated, select};
use crate::harness::{Client, Home, Server, text, until, upgrade, user};

/// Messages as tools send them, each with the row that it becomes and the warnings that it gets.
fn messages() -> Vec<(Value, Value, Vec<&'static str>)> {
    let plain = |role: &str, content: &str| json!({"role": role, "content": content, "kind": "message", "parts": null});
    let call = json!([{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Ulm"}}]);
    vec![
        (json!({"role": "user", "content": ""}), plain("user", ""), vec![]),
        (json!({"role": "user", "content": null}), plain("user", ""), vec![]),
        (json!({"role": "user"}), plain("user", ""), vec![]),
        (json!({"role": "user", "content": " \n"}), plain("user", " \n"), vec![]),
        (
            json!({"role": "Agent", "content": "Hi"}),
            plain("assistant", "Hi"),
            vec!["role: Agent is recorded as assistant"],
        ),
        (
            json!({"role": "HUMAN", "content": "Hi"}),
            plain("user", "Hi"),
            vec!["role: HUMAN is recorded as user"],
        ),
        (
            json!({"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}]}),
            json!({"role": "user", "content": "Look", "kind": "message", "parts":
                [{"type": "text", "content": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}]}),
            vec![],
        ),
        (
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Ulm\"}"}}]}),
            json!({"role": "assistant", "content": "", "kind": "tool_call", "parts": call}),
            vec![],
        ),
        (
            json!({"role": "tool", "tool_call_id": "c1", "content": "4 degrees"}),
            json!({"role": "tool", "content": "4 degrees", "kind": "tool_result", "parts":
                [{"type": "tool_call_response", "id": "c1"}]}),
            vec![],
        ),
        (
            json!({"role": "user", "content": "Hi", "meta": {"a": [1.5]}, "startedAt": "noon\u{0}"}),
            json!({"role": "user", "content": "Hi", "kind": "message", "parts": null,
                "metadata": {"talktrack.nul_replaced": true}, "extra": {"meta": {"a": [1.5]}, "startedAt": "noon\u{fffd}"}}),
            vec!["meta: unknown field, kept in extra", "startedAt: unknown field, kept in extra"],
        ),
        (
            json!({"role": "user", "content": "Hi", "extra": {"own": 1}, "turn": 7}),
            json!({"role": "user", "content": "Hi", "kind": "message", "parts": null, "extra": {"own": 1, "turn": 7}}),
            vec!["turn: unknown field, kept in extra"],
        ),
    ]
}

/// Returns the message with an id and a time that only depend on its place.
fn placed(message: &Value, place: usize) -> Value {
    let mut placed = message.clone();
    placed["external_id"] = json!(format!("m{place}"));
    placed["created_at"] = json!(1_795_420_800 + place);
    placed
}

fn expected_rows() -> Vec<Value> {
    let complete = |mut row: Value| {
        let columns = row.as_object_mut().unwrap();
        for column in ["metadata", "extra"] {
            columns.entry(column).or_insert(Value::Null);
        }
        row
    };
    messages().into_iter().map(|(_, row, _)| complete(row)).collect()
}

async fn sends_by_socket(server: &Server) -> Uuid {
    let mut client = Client::new(server).await;
    for (place, (message, _, warnings)) in messages().into_iter().enumerate() {
        let mut frame = placed(&message, place);
        (frame["type"], frame["ref"]) = (json!("message"), json!(place));
        client.send(frame).await;
        let ack = client.expect("ack").await;
        let told = ack["acks"][0]["warnings"].as_array().cloned().unwrap_or_default();
        assert_eq!(
            (&ack["acks"][0]["ref"], told),
            (&json!(place), warnings.iter().map(|text| json!(text)).collect()),
            "{message}"
        );
    }
    client.session
}

async fn sends_over_http(server: &Server) -> Uuid {
    let session = Uuid::new_v4();
    let start =
        json!({"session_id": session, "user_id": Uuid::new_v4(), "started_at": 1_795_420_700_000_u64});
    assert_eq!(server.request("POST", "/v1/sessions").json(&start).send().await.status, 201);
    let body: Value =
        messages().iter().enumerate().map(|(place, (message, ..))| placed(message, place)).collect();
    let answer = server.request("POST", format!("/v1/sessions/{session}/messages")).json(&body).send().await;
    assert_eq!(answer.status, 202, "{answer:?}");
    for (ack, (message, _, warnings)) in answer.json()["acks"].as_array().unwrap().iter().zip(messages()) {
        let told = ack["warnings"].as_array().cloned().unwrap_or_default();
        assert_eq!(told, warnings.iter().map(|text| json!(text)).collect::<Vec<_>>(), "{message}");
    }
    session
}

async fn imports(home: &Home, arguments: &[&str]) -> Uuid {
    let session = Uuid::new_v4();
    let mut lines = vec![json!({"type": "session.start", "session_id": session, "user_id": Uuid::new_v4()})];
    lines.extend(messages().iter().enumerate().map(|(place, (message, ..))| {
        let mut line = placed(message, place);
        (line["type"], line["session_id"]) = (json!("message"), json!(session));
        line
    }));
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let file = home.write("tools.jsonl", format!("\u{feff}{}", text.replace('\n', "\r\n")));
    let output = home.run(&[&["import", &file], arguments].concat()).await.succeeded();
    for (_, _, warnings) in messages() {
        assert!(warnings.iter().all(|warning| output.stderr.contains(warning)), "{}", output.stderr);
    }
    session
}

/// Returns the rows of the session as the server shows them.
async fn shown(server: &Server, session: Uuid) -> Vec<Value> {
    let page = server.request("GET", format!("/v1/sessions/{session}/messages")).send().await.json();
    let columns = ["role", "content", "kind", "parts", "metadata", "extra"];
    let row =
        |row: &Value| columns.iter().map(|column| ((*column).to_owned(), row[*column].clone())).collect();
    page["messages"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn what_tools_send_is_recorded_in_sqlite_however_it_comes() {
    let home = Home::new();
    let data = home.data_dir().display().to_string();
    let imported = imports(&home, &["--data-dir", &data]).await;
    let server = home.serve(&[]).await;
    for session in [sends_by_socket(&server).await, sends_over_http(&server).await, imported] {
        assert_eq!(shown(&server, session).await, expected_rows());
    }
    drop(server);
    home.verify().await;
}

async fn waits_for_rows(database: &Database, session: Uuid) -> Vec<Value> {
    let query = format!(
        "SELECT role, content, kind, parts, metadata, extra FROM conversation_messages WHERE session_id = '{session}' \
         ORDER BY created_at"
    );
    let expected = expected_rows().len();
    until("all rows are in PostgreSQL", || {
        let rows = select(database, &query);
        (rows.len() == expected).then_some(rows)
    })
    .await
}

#[tokio::test]
async fn what_tools_send_is_recorded_in_postgresql_however_it_comes() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let data = home.data_dir().display().to_string();
    let imported = imports(&home, &["--data-dir", &data, "--database-url", &database.url()]).await;
    let server = home.serve_on(&database.url()).await;
    for session in [sends_by_socket(&server).await, sends_over_http(&server).await, imported] {
        assert_eq!(waits_for_rows(&database, session).await, expected_rows());
    }
}

#[tokio::test]
async fn a_bad_member_of_an_array_does_not_affect_its_neighbours() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let client = Client::new(&server).await;
    let path = format!("/v1/sessions/{}/messages", client.session);
    for bad in [
        r#"{"role":"user","metrics":{"e2e_ms":NaN},"ref":"bad"}"#,
        r#"{"role":"user","metrics":{"e2e_ms":-Infinity},"ref":"bad"}"#,
        r#"{"role":"user","content":"\ud8","ref":"bad"}"#,
        r#"{"role":"king","ref":"bad"}"#,
        r#"{"role":"user","session_id":"00000000-0000-0000-0000-000000000001","ref":"bad"}"#,
        r#"{"role":"user","user_id":"00000000-0000-0000-0000-000000000001","ref":"bad"}"#,
        r#"{"role":"user","rol":1,"ref":"bad"}"#,
    ] {
        let body =
            format!(r#"[{{"role":"user","content":"a"}},{bad},{{"role":"user","content":"b\ud800"}}]"#);
        let answer = server.request("POST", path.clone()).body("application/json", body).send().await;
        assert_eq!(answer.status, 207, "{bad}: {answer:?}");
        let acks = &answer.json()["acks"];
        assert_eq!(acks[1]["ref"], "bad", "{acks}");
        assert!(
            acks[1]["error"]["code"].is_string() && acks[0]["id"].is_string() && acks[2]["id"].is_string(),
            "{acks}"
        );
    }
    assert_eq!(home.database().contents(client.session), ["a", "b\u{fffd}"].repeat(7));
    for broken in ["[", r#"[{"role":"user"}"#, r#"[{"role":"user"}] x"#] {
        let answer = server.request("POST", path.clone()).body("application/json", broken).send().await;
        answer.problem(400, "invalid_json");
    }
}

#[tokio::test]
async fn an_error_about_a_frame_carries_its_ref_and_touches_no_other() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    for frame in [
        r#"{"type":"message","role":"user","metrics":{"e2e_ms":NaN},"ref":1}"#,
        r#"{"type":"message","role":"user","metrics":{"e2e_ms":Infinity},"ref":2}"#,
    ] {
        client.send(user("before", "a")).await;
        client.send_raw(frame.into()).await;
        client.send(user("after", "b")).await;
        let (mut refused, mut durable) = (Vec::new(), Vec::new());
        while durable.len() < 2 || refused.is_empty() {
            let answer = client.receive().await;
            match answer["type"].as_str() {
                Some("error") => refused.push(answer["ref"].clone()),
                _ => durable.extend(answer["acks"].as_array().unwrap().iter().map(|ack| ack["ref"].clone())),
            }
        }
        assert_eq!((durable, refused.len()), (vec![json!("a"), json!("b")], 1));
        assert!(refused[0].is_number(), "{refused:?}");
    }
}

#[tokio::test]
async fn what_has_no_effect_is_refused_and_not_ignored() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let client = Client::new(&server).await;
    let session = format!("/v1/sessions/{}", client.session);
    for (method, path) in [
        ("POST", "/v1/sessions?wait=stored".to_owned()),
        ("GET", format!("{session}?fields=all")),
        ("PATCH", format!("{session}?wait=stored")),
        ("DELETE", format!("{session}?dry_run=true")),
        ("POST", format!("{session}/end?reason=x")),
        ("DELETE", format!("/v1/users/{}?dry_run=true", client.user)),
    ] {
        let answer = server.request(method, path.clone()).json(&json!({"user_id": client.user})).send().await;
        assert_eq!(
            answer.problem(400, "invalid_message"),
            "this address has no query parameters",
            "{method} {path}"
        );
    }
    let path = format!("/v1/ws?user_id={}&sesion_id=x", client.user);
    let (_, answer) = upgrade(server.address, &path, &[]).await;
    assert!(answer.problem(400, "invalid_message").contains("sesion_id"), "{answer:?}");
    for key in ["", &"k".repeat(257)] {
        let request = server.request("POST", format!("{session}/messages")).header("Idempotency-Key", key);
        let answer = request.json(&json!({"role": "user"})).send().await;
        assert_eq!(answer.problem(400, "invalid_message"), "Idempotency-Key: must be 1 to 256 bytes");
    }
    for (path, body, problem) in [
        (
            "/v1/sessions".to_owned(),
            json!({"user_id": client.user, "startedAt": 1}),
            "startedAt: session.start has no such field",
        ),
        (
            format!("{session}/end"),
            json!({"reson": "x"}),
            "reson: session.end has no such field; did you mean reason?",
        ),
    ] {
        let answer = server.request("POST", path).json(&body).send().await;
        assert_eq!(answer.problem(400, "invalid_message"), problem);
    }
    assert_eq!(home.database().session(client.session).unwrap().end().0, "active");
    let mut client = client;
    client.track(text("user", "still here")).await;
}
