//! The looking commands with `--url`: they show what the token may see, as they do for a data directory.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key, serve_with};
use crate::harness::{Client, Home, Output, Server, Tail, text, until_told};

/// Runs a command on this server.
async fn ask(home: &Home, server: &Server, arguments: &[&str]) -> Output {
    let url = format!("http://{}", server.address);
    home.run(&[arguments, &["--url", &url]].concat()).await
}

/// Starts a server with a conversation of two messages that is over, and one that is not.
async fn with_conversations() -> (Home, Server, [Client; 2]) {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut first = Client::new(&server).await;
    first.say("what a rainy day").await;
    let metadata = json!({"number": 12345678901234567890123_f64, "big": 9007199254740993_u64});
    first
        .track(json!({"type": "message", "role": "assistant", "content": "indeed", "metadata": metadata}))
        .await;
    first.end("completed").await;
    let dimensions = json!({"agent": "desk", "channel": "phone", "tags": ["vip", "refund"]});
    let path = format!("/v1/sessions/{}", first.session);
    assert_eq!(server.request("PATCH", path).json(&dimensions).send().await.status, 202);
    let mut second = Client::new(&server).await;
    second.say("anybody there?").await;
    let found = async || {
        let hits = ask(&home, &server, &["search", "anybody", "--json"]).await;
        (hits.stdout.lines().count() == 1).then_some(())
    };
    until_told("the messages are in the search index", found).await;
    (home, server, [first, second])
}

#[tokio::test]
async fn a_command_shows_the_same_of_a_server_as_of_its_data_directory() {
    let (home, server, [first, second]) = with_conversations().await;
    let id = first.session.to_string();
    let user = second.user.to_string();
    let counted = async || {
        let stats = ask(&home, &server, &["stats", "--json"]).await.json();
        (stats["behind"] == json!({"messages": 0, "changes": 0, "slices": 0})).then_some(())
    };
    until_told("everything is counted", counted).await;
    for command in [
        &["sessions"][..],
        &["sessions", "--json"],
        &["sessions", "--csv", "--user", &user],
        &["sessions", "--json", "--status", "ended", "--since", "1h"],
        &["sessions", "--json", "-q", "rainy"],
        &["sessions", "--json", "--until", "2020-01-01"],
        &["show", &id],
        &["show", &id[..8], "--json"],
        &["export"],
        &["export", "--session", &id, "--format", "text"],
        &["export", "--user", &user, "--since", "2020-01-01T00:00:00Z"],
        &["search", "day", "--json"],
        &["search", "RAINY", "da*", "--user", &first.user.to_string()],
        &["search", "anybody", "--session", &second.session.to_string()[..8]],
        &["stats", "--json", "--step", "5m", "--user", &user],
        &["stats", "--since", "2d"],
    ] {
        let here = home.look(command).await.succeeded();
        let there = ask(&home, &server, command).await.succeeded();
        assert_eq!(there.stdout, here.stdout, "{command:?}");
    }
    let shown = ask(&home, &server, &["show", &id, "--json"]).await.succeeded().stdout;
    assert!(shown.contains("9007199254740993"), "numbers are not rounded: {shown}");
}

#[tokio::test]
async fn a_session_that_the_server_does_not_have_is_an_error_of_one_line() {
    let (home, server, _) = with_conversations().await;
    let unknown = Uuid::new_v4().to_string();
    for id in [&unknown[..], &unknown[..8]] {
        let line = ask(&home, &server, &["show", id]).await.failed(1);
        assert!(line.contains("there is no session") && line.contains(id), "{line}");
    }
    let line = ask(&home, &server, &["show", "short"]).await.failed(2);
    assert!(line.contains("first 8 characters"), "{line}");
    let line = home.run(&["sessions", "--url", "http://127.0.0.1:1"]).await.failed(1);
    assert!(line.contains("no server answers at http://127.0.0.1:1"), "{line}");
    let line = home.run(&["sessions", "--url", "ftp://h"]).await.failed(2);
    assert!(line.contains("--url: must begin with http"), "{line}");
    let found = ask(&home, &server, &["search", "unheard-of"]).await;
    assert_eq!((found.code, found.stderr.as_str()), (Some(1), "no message has these words\n"));
}

#[tokio::test]
async fn programs_get_every_session_and_people_are_told_that_there_are_more() {
    let home = Home::new();
    let sessions: Vec<_> = (0..620)
        .map(|number| {
            let start = format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60);
            json!({"type": "session.start", "session_id": Uuid::new_v4(), "user_id": Uuid::new_v4(), "started_at": start})
        })
        .collect();
    let lines: Vec<_> = sessions.iter().map(Value::to_string).collect();
    let file = home.write("many.jsonl", lines.join("\n"));
    home.look(&["import", &file]).await.succeeded();
    let server = home.serve(&[]).await;
    let all = home.look(&["sessions", "--json"]).await.succeeded();
    let ids: Vec<_> = all.json_lines().iter().map(|row| row["session_id"].clone()).collect();
    let newest_first: Vec<_> = sessions.iter().rev().map(|line| line["session_id"].clone()).collect();
    assert_eq!(ids, newest_first);
    assert_eq!(ask(&home, &server, &["sessions", "--json"]).await.succeeded().stdout, all.stdout);
    assert_eq!(ask(&home, &server, &["sessions", "--csv"]).await.succeeded().stdout.lines().count(), 621);
    for (limit, rows) in [("1", 1), ("500", 500), ("501", 501)] {
        let some = ask(&home, &server, &["sessions", "--json", "--limit", limit]).await.succeeded();
        assert_eq!(some.json_lines().len(), rows);
    }
    let table = ask(&home, &server, &["sessions"]).await.succeeded();
    assert_eq!(table.stdout.lines().count(), 51);
    assert_eq!(table.stderr, "there are more sessions; --limit shows more\n");
    assert_eq!(ask(&home, &server, &["sessions", "--limit", "620"]).await.succeeded().stderr, "");
    let line = ask(&home, &server, &["sessions", "--limit", "0"]).await.failed(2);
    assert!(line.contains("at least 1"), "{line}");
}

#[tokio::test]
async fn a_token_shows_what_it_may_see_and_its_absence_is_named() {
    let home = Home::new();
    let key = new_key(&home, "reader", "read,write").await;
    let environment = [("SUPABASE_JWT_SECRET", SECRET), ("TALKTRACK_API_KEYS", &key.entry)];
    let server = serve_with(&home, &environment).await;
    let [ann, ben] = [Uuid::new_v4(), Uuid::new_v4()];
    let mut sessions = Vec::new();
    for user in [ann, ben] {
        let mut client =
            Client::come_with(&server, &format!("user_id={user}"), &key.key).await.expect_started().await;
        client.say("something to find").await;
        sessions.push(client.session.to_string());
    }
    let token = SigningKey::secret(SECRET).token(&claims(ann));
    let own = ask(&home, &server, &["sessions", "--json", "--token", &token]).await.succeeded().json_lines();
    assert_eq!(own.iter().map(|row| &row["session_id"]).collect::<Vec<_>>(), [&json!(sessions[0])]);
    let url = format!("http://{}", server.address);
    let mut command = home.command(&["export"]);
    command.env("TALKTRACK_URL", &url).env("TALKTRACK_TOKEN", &token);
    let exported = Output::of(command).await.succeeded().json_lines();
    assert!(exported.iter().all(|line| line["session_id"] == sessions[0].as_str()), "{exported:?}");
    for id in [&sessions[1][..], &sessions[1][..8]] {
        let line = ask(&home, &server, &["show", id, "--token", &token]).await.failed(1);
        assert!(line.contains("there is no session"), "{line}");
    }
    let refused = ask(&home, &server, &["delete", &sessions[1], "--yes", "--token", &token]).await.failed(1);
    assert!(refused.contains("(403)") && refused.contains("user_access"), "{refused}");
    for command in [&["sessions"][..], &["search", "find"], &["stats"], &["export"], &["tail"]] {
        let line = ask(&home, &server, command).await.failed(1);
        assert!(line.contains("(401)") && line.contains("--token or TALKTRACK_TOKEN"), "{line}");
    }
    let refused =
        ask(&home, &server, &["delete", &sessions[0], "--yes", "--token", &key.key]).await.failed(1);
    assert!(refused.contains("(403)") && refused.contains("admin"), "{refused}");
    assert_eq!(home.look(&["sessions", "--json"]).await.json_lines().len(), 2);
}

#[tokio::test]
async fn the_url_in_the_environment_is_used_unless_a_flag_names_the_data() {
    let (home, server, _) = with_conversations().await;
    let elsewhere = Home::new();
    let _other = elsewhere.serve(&[]).await;
    let url = format!("ws://{}/v1/ws", server.address);
    let run = async |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("TALKTRACK_URL", &url);
        Output::of(command).await.succeeded()
    };
    assert_eq!(run(&["sessions", "--json"]).await.json_lines().len(), 2);
    let other = elsewhere.data_dir();
    assert_eq!(run(&["sessions", "--json", "--data-dir", other.to_str().unwrap()]).await.stdout, "");
    assert_eq!(run(&["status", "--json"]).await.json()["messages"]["durable"], 3);
    let words = home.write("words.txt", "hello");
    let mut client = home.command(&["client"]);
    client.env("TALKTRACK_URL", &url).stdin(std::fs::File::open(words).unwrap());
    Output::of(client).await.succeeded();
    assert_eq!(run(&["sessions", "--json"]).await.json_lines().len(), 3);
    let line = home.run(&["sessions", "--url", &url, "--data-dir", "x"]).await.failed(2);
    assert!(line.contains("cannot be used with"), "{line}");
}

#[tokio::test]
async fn delete_asks_for_a_confirmation_and_works_with_and_without_a_server() {
    let (home, server, [first, second]) = with_conversations().await;
    let ids = [first.session.to_string(), second.session.to_string()];
    let line = home.look(&["delete", &ids[0]]).await.failed(2);
    assert!(line.contains(&ids[0]) && line.contains("--yes"), "{line}");
    let line = home.look(&["delete", "--user", &second.user.to_string()]).await.failed(2);
    assert!(line.contains("everything of the user") && line.contains("--yes"), "{line}");
    assert_eq!(home.look(&["sessions", "--json"]).await.json_lines().len(), 2);

    let told = home.look(&["delete", &ids[0][..8], "--yes"]).await.succeeded().stdout;
    assert_eq!(told, format!("deleted the session {}: 1 session, 2 messages\n", ids[0]));
    assert_eq!(server.get(&format!("/v1/sessions/{}", ids[0])).await.status, 404);
    let logged = std::fs::read_to_string(home.data_dir().join("audit.jsonl")).unwrap();
    assert!(logged.contains("\"what\":\"delete\""), "{logged}");
    let again = home.look(&["delete", &ids[0], "--yes"]).await.succeeded().stdout;
    assert!(again.contains("nothing was left"), "{again}");
    server.stop().await;

    let unknown = Uuid::new_v4().to_string();
    let report = home.look(&["delete", &unknown, &ids[1], "--yes", "--json"]).await;
    assert_eq!(report.code, Some(1));
    assert!(report.stderr.contains(&format!("there is no session {unknown}")), "{report:?}");
    assert_eq!((&report.json()["session_id"], &report.json()["messages"]), (&json!(ids[1]), &json!(1)));
    assert_eq!(home.look(&["sessions", "--json"]).await.stdout, "");
    home.verify().await;
    let server = home.serve(&[]).await;
    let mut third = Client::new(&server).await;
    third.say("here").await;
    let user = third.user.to_string();
    let told = ask(&home, &server, &["delete", "--user", &user, "--yes"]).await.succeeded().stdout;
    assert_eq!(told, format!("deleted the user {user}: 1 session, 1 message\n"));
    assert_eq!(home.look(&["sessions", "--json"]).await.stdout, "");
}

#[tokio::test]
async fn status_says_whether_a_server_is_ready_and_what_it_has() {
    let (home, server, _) = with_conversations().await;
    let figures = json!({"durable": 3, "stored": 3, "dead_letters": 0, "pending": 0});
    for status in [home.look(&["status", "--json"]).await, ask(&home, &server, &["status", "--json"]).await] {
        let status = status.succeeded().json();
        assert_eq!((&status["ready"], &status["messages"]), (&json!(true), &figures));
        assert_eq!(status["url"], format!("http://{}", server.address));
    }
    let shown = ask(&home, &server, &["status"]).await.succeeded().stdout;
    assert!(shown.starts_with("ready     http://") && shown.contains("3 durable"), "{shown}");
    server.stop().await;
    let status = home.look(&["status", "--json"]).await;
    assert_eq!((status.code, &status.json()["ready"]), (Some(1), &json!(false)));
    assert_eq!(status.json()["causes"], json!(["no server uses this data directory"]));
    assert_eq!(status.json()["messages"], figures);
    let killed = home.serve(&[]).await;
    killed.kill().await;
    let status = home.look(&["status"]).await;
    assert_eq!(status.code, Some(1));
    assert!(status.stdout.contains("not ready") && status.stdout.contains("no server answers"), "{status:?}");
}

#[tokio::test]
async fn a_key_without_the_scope_metrics_learns_only_whether_the_server_is_ready() {
    let home = Home::new();
    let key = new_key(&home, "reader", "read").await;
    let server = home.serve(&["--api-keys", &key.entry]).await;
    let status = ask(&home, &server, &["status", "--json", "--token", &key.key]).await.succeeded().json();
    assert_eq!((&status["ready"], &status["messages"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn tail_does_not_say_that_there_is_nothing_when_there_is_something() {
    let (home, server, _) = with_conversations().await;
    server.stop().await;
    // As after an upgrade or a repair, which begin the feed anew.
    home.database().execute("DELETE FROM changes");
    let mut tail = Tail::start(&home, &[]);
    let server = home.serve(&[]).await;
    Client::new(&server).await.track(text("user", "afterwards")).await;
    while !tail.line().await.contains("afterwards") {}
    assert!(tail.warning().await.contains("older changes are no longer kept"));
}

#[tokio::test]
async fn the_client_sends_no_command_as_words_of_the_user() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = Uuid::new_v4();
    let url = format!("http://{}", server.address);
    let words =
        home.write("words.txt", "hello\n/help\n/ende\n/asistant hi\n//etc is a path\n/assistant hi\n/end\n");
    let mut command = home.command(&["client", "--url", &url, "--session-id", &session.to_string()]);
    command.stdin(std::fs::File::open(words).unwrap());
    let output = Output::of(command).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_eq!(home.database().contents(session), ["hello", "/etc is a path", "hi"]);
    for word in ["/ende", "/asistant"] {
        assert!(output.stdout.contains(&format!("not sent: {word} is no command")), "{output:?}");
    }
    assert!(output.stdout.contains("with 3 messages"), "{output:?}");
}

#[tokio::test]
async fn sessions_are_found_by_the_beginning_of_their_id_over_http() {
    let (_home, server, [first, _]) = with_conversations().await;
    let id = first.session.to_string();
    let page = server.get(&format!("/v1/sessions?id_prefix={}", id[..8].to_uppercase())).await.json();
    assert_eq!((&page["sessions"][0]["session_id"], &page["next_cursor"]), (&json!(id), &Value::Null));
    for (query, part) in [
        ("id_prefix=abc", "first 8 characters"),
        ("id_prefix=zzzzzzzz", "first 8 characters"),
        ("id_prefix=00000000&status=ended", "cannot be combined"),
    ] {
        let detail = server.get(&format!("/v1/sessions?{query}")).await.problem(400, "invalid_message");
        assert!(detail.contains(part), "{detail}");
    }
}
