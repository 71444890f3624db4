//! The commands that show stored data, and those that import and export it.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Home, Output, Tail, text};

/// Control characters that clear the screen, rename the window, reverse the text and ring the bell.
const NASTY: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m \u{202e}evil\u{202c} \r overwritten";

/// Makes the data of a stopped server with two sessions, the second of which is newer.
async fn with_two_sessions() -> (Home, [Client; 2]) {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut first = Client::new(&server).await;
    first.say("what a day").await;
    first.track(text("assistant", "indeed")).await;
    first.end("completed").await;
    let mut second = Client::new(&server).await;
    second.say("anybody there?").await;
    server.stop().await;
    (home, [first, second])
}

#[tokio::test]
async fn sessions_lists_the_newest_first() {
    let (home, [first, second]) = with_two_sessions().await;
    let rows = home.look(&["sessions", "--json"]).await.succeeded().json_lines();
    let ids: Vec<_> = rows.iter().map(|row| row["session_id"].clone()).collect();
    assert_eq!(ids, [json!(second.session), json!(first.session)]);
    assert_eq!((&rows[1]["message_count"], &rows[1]["status"]), (&json!(2), &json!("ended")));
    assert_eq!((&rows[1]["end_reason"], &rows[0]["end_reason"]), (&json!("completed"), &json!("shutdown")));
    let user = first.user.to_string();
    let rows = home.look(&["sessions", "--json", "--user", &user]).await.succeeded().json_lines();
    assert_eq!(rows.len(), 1);
    assert_eq!(home.look(&["sessions", "--json", "--limit", "1"]).await.succeeded().json_lines().len(), 1);
    let table = home.look(&["sessions", "--csv", "--user", &user]).await.succeeded().stdout;
    let table: Vec<_> = table.lines().collect();
    assert!(
        table[0].starts_with("session_id,user_id,") && table[1].starts_with(&first.session.to_string()),
        "{table:?}"
    );
    assert_eq!(table.len(), 2);
    let listed = home.look(&["sessions"]).await.succeeded().stdout;
    assert!(
        listed.contains(&first.session.to_string()) && listed.contains(&second.session.to_string()),
        "{listed}"
    );
    assert!(!listed.contains('\u{1b}'), "no colours where nobody sees them");
}

#[tokio::test]
async fn show_tells_one_conversation() {
    let (home, [first, _]) = with_two_sessions().await;
    let id = first.session.to_string();
    let lines = home.look(&["show", &id, "--json"]).await.succeeded().json_lines();
    assert_eq!(lines[0]["session_id"], json!(first.session));
    let said: Vec<_> = lines[1..].iter().map(|line| (&line["role"], &line["content"])).collect();
    assert_eq!(said, [(&json!("user"), &json!("what a day")), (&json!("assistant"), &json!("indeed"))]);
    let shown = home.look(&["show", &id[..8]]).await.succeeded().stdout;
    assert!(shown.contains("what a day") && shown.contains("indeed") && shown.contains(&id), "{shown}");
}

#[tokio::test]
async fn a_session_that_is_not_there_is_an_error_of_one_line() {
    let (home, _) = with_two_sessions().await;
    let unknown = Uuid::new_v4().to_string();
    for command in [&["show", &unknown][..], &["export", "--session", &unknown], &["show", &unknown[..8]]] {
        let line = home.look(command).await.failed(1);
        assert!(line.contains(command.last().unwrap()), "{line}");
    }
    let line = home.look(&["show", "what\u{1b}[2J"]).await.failed(2);
    assert!(!line.contains('\u{1b}'), "{line}");
}

#[tokio::test]
async fn without_data_every_looking_command_says_where_it_looked() {
    let home = Home::new();
    let id = Uuid::new_v4().to_string();
    for command in [&["sessions"][..], &["show", &id], &["tail"], &["export"], &["verify"]] {
        let line = home.look(command).await.failed(1);
        assert!(line.contains(home.data_dir().to_str().unwrap()), "{line}");
    }
    assert!(!home.data_dir().exists(), "looking makes nothing");
}

#[tokio::test]
async fn escape_sequences_never_reach_the_terminal() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let query = format!("user_id={}&external_id=%1b%5b2J", Uuid::new_v4());
    let mut client = Client::open(&server, &query).await.expect_started().await;
    let message = json!({
        "type": "message", "role": "assistant", "content": NASTY, "content_generated": NASTY, "audio_url": NASTY,
        "external_id": NASTY, "metadata": {"k": NASTY}, "parts": [NASTY], "interrupted": true,
    });
    client.track(message).await;
    client.send(json!({"type": "session.update", "metadata": {NASTY: NASTY}})).await;
    client.end(NASTY).await;
    let session = client.session.to_string();
    let mut tail = Tail::start(&home, &["--since-start"]);
    let mut shown = String::new();
    while !shown.contains("overwritten") {
        shown += &tail.line().await;
    }
    for command in [&["show", &session][..], &["sessions"], &["verify"]] {
        shown += &home.look(command).await.succeeded().stdout;
    }
    let bad = |character: &char| character.is_control() && *character != '\n' || *character == '\u{202e}';
    assert_eq!(shown.chars().find(bad), None, "{shown:?}");
    assert!(shown.contains("evil"), "{shown}");
    let exported = home.look(&["export"]).await.succeeded().json_lines();
    assert_eq!(exported[1]["content"], NASTY, "a program gets it as it was said");
}

#[tokio::test]
async fn export_writes_what_import_reads_and_can_be_narrowed() {
    let (home, [first, second]) = with_two_sessions().await;
    let all = home.look(&["export"]).await.succeeded().json_lines();
    let types: Vec<_> = all.iter().map(|line| line["type"].as_str().unwrap()).collect();
    let expected =
        ["session.start", "message", "session.end", "session.start", "message", "message", "session.end"];
    assert_eq!(types, expected);
    let one = home.look(&["export", "--session", &first.session.to_string()]).await.succeeded().json_lines();
    assert_eq!(one, all[3..]);
    let file = home.path("out.jsonl");
    let arguments = ["export", "--user", &second.user.to_string(), "--output", file.to_str().unwrap()];
    home.look(&arguments).await.succeeded();
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>(),
        all[..3]
    );
}

#[tokio::test]
async fn import_reports_bad_lines_with_their_place_and_takes_the_others() {
    let home = Home::new();
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let lines = [
        json!({"type": "session.start", "session_id": session, "user_id": user, "started_at": "2026-01-01T00:00:00Z"})
            .to_string(),
        json!({"type": "message", "session_id": session, "role": "user", "content": "one"}).to_string(),
        "{broken".into(),
        json!({"type": "message", "session_id": session, "role": "king", "content": "SECRET"}).to_string(),
        String::new(),
        json!({"type": "message", "role": "user", "content": "SECRET"}).to_string(),
        json!({"type": "message", "session_id": Uuid::new_v4(), "role": "user", "content": "SECRET"})
            .to_string(),
        json!({"type": "session.start", "session_id": session, "user_id": Uuid::new_v4()}).to_string(),
        json!({"type": "message", "session_id": session, "role": "user", "content": "two"}).to_string(),
        json!({"type": "session.end", "session_id": session, "ended_at": "0001-01-01T00:00:00Z"}).to_string(),
        json!({"type": "session.end", "session_id": session, "ended_at": "2999-01-01T00:00:00Z"}).to_string(),
        json!({"type": "session.end", "session_id": session}).to_string(),
    ];
    let file = home.write("conv.jsonl", lines.join("\n"));
    let output = home.look(&["import", &file, "--json"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    for (line, word) in [
        (3, "JSON"),
        (4, "role"),
        (6, "session_id"),
        (7, "session"),
        (8, "user"),
        (10, "ended_at: must not be before 1970"),
        (11, "ended_at: must not be more than a day in the future"),
    ] {
        let place = format!("{file}:{line}: ");
        let told = output.stderr.lines().find(|told| told.starts_with(&place));
        assert!(told.is_some_and(|told| told.contains(word)), "{place}{word}: {}", output.stderr);
    }
    assert!(!output.stderr.contains("SECRET"), "{}", output.stderr);
    let summary = output.json();
    assert_eq!((&summary["messages"], &summary["refused"]), (&json!(2), &json!(7)), "{summary}");
    assert_eq!(home.database().contents(session), ["one", "two"]);
    let again = home.look(&["import", &file, "--json"]).await.json();
    assert_eq!(again["new"], 0, "{again}");
    assert_eq!(home.database().contents(session), ["one", "two"]);
    home.verify().await;
    let line = home.look(&["import", "missing.jsonl"]).await.failed(1);
    assert!(line.contains("missing.jsonl"), "{line}");
}

#[tokio::test]
async fn a_file_that_speaks_of_a_stored_session_before_it_starts_it_reopens_nothing() {
    let home = Home::new();
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let start = json!({"type": "session.start", "session_id": session, "user_id": user}).to_string();
    let end = json!({"type": "session.end", "session_id": session}).to_string();
    let say = |text| json!({"type": "message", "session_id": session, "role": "user", "content": text, "id": Uuid::new_v4()});
    let file =
        home.write("conv.jsonl", [&start, &say("one").to_string(), &end].map(String::as_str).join("\n"));
    home.look(&["import", &file]).await.succeeded();
    let more = home.write("more.jsonl", [say("two").to_string(), start].join("\n"));
    home.look(&["import", &more]).await.succeeded();
    assert_eq!(home.database().contents(session), ["one", "two"]);
    assert_eq!(home.database().ended(session).await.status, "ended");
}

#[tokio::test]
async fn verify_finds_what_was_taken_away_behind_its_back() {
    let (home, [first, _]) = with_two_sessions().await;
    home.verify().await;
    let report = home.look(&["verify", "--json"]).await.succeeded().json();
    assert_eq!(
        (&report["balanced"], &report["sessions"], &report["messages"]),
        (&json!(true), &json!(2), &json!(3))
    );
    let database = home.database().block();
    let sql = "DELETE FROM conversation_messages WHERE content = 'indeed'; COMMIT";
    database.execute_batch(sql).unwrap();
    let output = home.look(&["verify"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stdout.contains(&first.session.to_string()), "{output:?}");
    let report = home.look(&["verify", "--json"]).await;
    assert_eq!((report.code, &report.json()["balanced"]), (Some(1), &json!(false)));
}

#[tokio::test]
async fn the_client_talks_from_a_pipe() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = Uuid::new_v4();
    let url = format!("ws://{}/v1/ws", server.address);
    let words = home.write("words.txt", "hello there\nand goodbye\n");
    let mut command = home.command(&["client", "--url", &url, "--session-id", &session.to_string()]);
    command.stdin(std::fs::File::open(words).unwrap());
    Output::of(command).await.succeeded();
    assert_eq!(home.database().contents(session), ["hello there", "and goodbye"]);
    let row = home.database().ended(session).await;
    assert_eq!(row.status, "ended");
}

#[tokio::test]
async fn the_client_says_when_there_is_no_server() {
    let home = Home::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{free}/v1/ws");
    let line = home.run(&["client", "--url", &url]).await.failed(1);
    assert!(line.contains(&url), "{line}");
    let file = home.write("conv.jsonl", "{\"type\":\"nonsense\"}\n");
    let output = home.run(&["client", "--url", &url, "--file", &file]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_an_error_of_one_line() {
    let home = Home::new();
    let line = home.run(&["sing"]).await.failed(2);
    assert!(line.contains("sing"), "{line}");
    let line = home.run(&["sessions", "--loud"]).await.failed(2);
    assert!(line.contains("--loud"), "{line}");
    let help = home.run(&["--help"]).await.succeeded().stdout;
    for command in [
        "serve", "client", "import", "export", "sessions", "search", "stats", "delete", "status", "show",
        "tail", "verify",
    ] {
        assert!(help.contains(command), "{help}");
    }
}

#[tokio::test]
async fn version_names_the_build_for_people_and_programs() {
    let home = Home::new();
    let version = env!("CARGO_PKG_VERSION");
    let short = home.run(&["--version"]).await.succeeded().stdout;
    assert!(short.starts_with(&format!("talktrack {version}")), "{short}");
    let said = home.run(&["version", "--json"]).await.succeeded().json_lines().remove(0);
    assert_eq!(said["version"], version);
    assert!(said["target"].as_str().is_some_and(|target| target.contains(std::env::consts::ARCH)), "{said}");
    let words = home.run(&["version"]).await.succeeded().stdout;
    assert!(words.contains(version) && words.contains(said["target"].as_str().unwrap()), "{words}");
}

#[tokio::test]
async fn a_shell_completes_commands_and_each_command_has_a_manual_page() {
    let home = Home::new();
    let script = home.run(&["completions", "bash"]).await.succeeded().stdout;
    let checked = std::process::Command::new("bash").args(["-n", "-c", &script]).status().unwrap();
    assert!(checked.success() && script.contains("dead-letters"), "{script}");
    let complete = format!(
        "{script}\nCOMP_WORDS=(talktrack ver); COMP_CWORD=1; _talktrack talktrack ver talktrack; echo ${{COMPREPLY[@]}}"
    );
    let offered = std::process::Command::new("bash").args(["-c", &complete]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&offered.stdout).trim(), "verify version");

    let pages = home.path("man");
    home.run(&["man", pages.to_str().unwrap()]).await.succeeded();
    let help = home.run(&["help"]).await.succeeded().stdout;
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    for command in names {
        let page = std::fs::read_to_string(pages.join(format!("talktrack-{command}.1")));
        assert!(page.is_ok_and(|page| page.contains(".SH SYNOPSIS")), "talktrack-{command}.1");
    }
}
