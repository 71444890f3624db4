//! `talktrack demo` makes a plausible week of conversations, and a second run changes nothing.

use std::collections::BTreeSet;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use talktrack_testbed::{Postgres, skip};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, serve_with};
use crate::harness::remote::{migrated, select};
use crate::harness::{Home, Output, Server, until, within};

/// Builds the command `talktrack demo` for this server, with an empty PATH so that no speech program is found.
fn silent(home: &Home, server: &Server, arguments: &[&str]) -> Command {
    let url = format!("http://{}", server.address);
    let mut command = home.command(&[&["demo", "--url", &url], arguments].concat());
    command.env("PATH", "/nonexistent");
    command
}

/// Runs the command without speech and returns its summary.
async fn fill(home: &Home, server: &Server, arguments: &[&str]) -> Value {
    Output::of(silent(home, server, &[arguments, &["--json"]].concat())).await.succeeded().json()
}

/// Returns everything stored, as `talktrack export` prints it.
async fn exported(home: &Home) -> Vec<Value> {
    home.look(&["export"]).await.succeeded().json_lines()
}

fn of_type<'a>(lines: &'a [Value], frame: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == frame).collect()
}

fn distinct<'a>(lines: &[&'a Value], field: impl Fn(&Value) -> &Value) -> BTreeSet<&'a str> {
    lines.iter().filter_map(|line| field(line).as_str()).collect()
}

#[tokio::test]
async fn running_it_twice_changes_nothing_and_the_books_balance() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let first = fill(&home, &server, &[]).await;
    assert_eq!((&first["sessions"], &first["there_already"]), (&json!(40), &json!(0)));
    let before = exported(&home).await;
    assert_eq!(json!(of_type(&before, "message").len()), first["messages"]);
    let again = Output::of(silent(&home, &server, &[])).await.succeeded();
    assert!(
        again.stdout.starts_with("created 0 conversations") && again.stdout.contains("40 already existed"),
        "{again:?}"
    );
    assert!(again.stdout.contains(&format!("http://{}/", server.address)), "{again:?}");
    assert_eq!(exported(&home).await, before);
    assert_eq!(
        fill(&home, &server, &["--seed", "2", "--sessions", "3"]).await["sessions"],
        3,
        "another seed makes others"
    );
    server.stop().await;
    home.verify().await;
}

/// Durable messages may not be in the database yet when the second run asks for them.
#[tokio::test]
async fn running_it_twice_changes_nothing_where_postgresql_is_the_store() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    let arguments = ["--sessions", "20"];
    let first = fill(&home, &server, &arguments).await;
    assert_eq!((&first["sessions"], &first["there_already"]), (&json!(20), &json!(0)));
    fill(&home, &server, &arguments).await;
    server.drained().await;
    let rows = |table: &str| select(&database, &format!("SELECT * FROM conversation_{table} ORDER BY id"));
    let before = (rows("sessions"), rows("messages"));
    assert_eq!((before.0.len(), json!(before.1.len())), (20, first["messages"].clone()));
    assert!(
        before.0.iter().all(|row| row["status"] == "ended" || row["end_reason"] == "idle_timeout"),
        "{before:?}"
    );
    assert_eq!(fill(&home, &server, &arguments).await["there_already"], 20);
    server.drained().await;
    assert_eq!((rows("sessions"), rows("messages")), before);
    server.stop().await;
    home.look_at(&database.url(), &["verify"]).await.succeeded();
}

#[tokio::test]
async fn its_conversations_have_everything_that_there_is_to_see() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let told = Output::of(silent(&home, &server, &[])).await.succeeded();
    assert!(
        told.stderr.starts_with("espeak-ng is not installed") && told.stderr.lines().count() == 1,
        "{told:?}"
    );
    let lines = exported(&home).await;
    let starts = of_type(&lines, "session.start");
    let messages = of_type(&lines, "message");
    let ends = of_type(&lines, "session.end");
    assert!(distinct(&starts, |start| &start["user_id"]).len() > 5);
    let languages = distinct(&starts, |start| &start["metadata"]["language"]);
    assert!(
        ["en-GB", "de-DE", "ar", "zh-CN", "ja-JP"].iter().all(|one| languages.contains(one)),
        "{languages:?}"
    );
    assert_eq!(
        distinct(&starts, |start| &start["metadata"]["channel"]),
        BTreeSet::from(["chat", "phone", "web"])
    );
    let reasons = distinct(&ends, |end| &end["reason"]);
    assert!(
        ["completed", "disconnect", "error", "transferred"].iter().all(|one| reasons.contains(one)),
        "{reasons:?}"
    );
    assert!(ends.iter().any(|end| end["status"] == "abandoned"));
    assert_eq!(ends.len(), 40);

    expect_every_kind_of_message(&messages);
    server.stop().await;
}

fn expect_every_kind_of_message(messages: &[&Value]) {
    let interrupted: Vec<_> = messages.iter().filter(|message| message["interrupted"] == true).collect();
    assert!(interrupted.len() > 10);
    for message in interrupted {
        let heard = message["content"].as_str().unwrap();
        let generated = message["content_generated"].as_str().unwrap();
        assert!(generated.starts_with(heard) && generated.len() > heard.len(), "{message}");
        assert!(message["metrics"]["heard_ms"].as_f64().unwrap() > 0.0, "{message}");
    }
    for (kind, part) in [("tool_call", "tool_call"), ("tool_result", "tool_call_response")] {
        let of_kind: Vec<_> = messages.iter().filter(|message| message["kind"] == kind).collect();
        assert!(
            of_kind.len() > 20 && of_kind.iter().all(|message| message["parts"][0]["type"] == part),
            "{of_kind:?}"
        );
    }
    for number in [
        "stt_ms",
        "eou_ms",
        "llm_ttft_ms",
        "tts_ttfb_ms",
        "e2e_ms",
        "heard_ms",
        "audio_start_ms",
        "audio_end_ms",
        "input_tokens",
        "output_tokens",
        "confidence",
    ] {
        assert!(
            messages
                .iter()
                .any(|message| message["metrics"][number].is_f64() || message["metrics"][number].is_u64()),
            "{number}"
        );
    }
}

/// A program that was stopped in the middle leaves a session that has started and not ended, or has no messages.
#[tokio::test]
async fn what_was_broken_off_is_completed() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    fill(&home, &server, &["--sessions", "1"]).await;
    let whole = exported(&home).await;
    let start = &whole[0];
    // Resuming the session reopens it.
    let mut resume = start.clone();
    resume["resume"] = true.into();
    assert_eq!(server.request("POST", "/v1/sessions").json(&resume).send().await.status, 201);
    assert_eq!(fill(&home, &server, &["--sessions", "1"]).await["sessions"], 1);
    assert_eq!(exported(&home).await, whole);
    server.stop().await;

    let other = Home::new();
    let server = other.serve(&[]).await;
    assert_eq!(server.request("POST", "/v1/sessions").json(start).send().await.status, 201);
    fill(&other, &server, &["--sessions", "1"]).await;
    assert_eq!(exported(&other).await, whole, "it goes on from when it had begun");
    server.stop().await;
}

#[tokio::test]
async fn what_somebody_has_deleted_does_not_come_back() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    fill(&home, &server, &["--sessions", "2"]).await;
    let session = exported(&home).await[0]["session_id"].as_str().unwrap().to_owned();
    assert_eq!(server.request("DELETE", format!("/v1/sessions/{session}")).send().await.status, 200);
    let again = fill(&home, &server, &["--sessions", "2"]).await;
    assert_eq!((&again["deleted"], &again["there_already"]), (&json!(1), &json!(1)));
    server.stop().await;
    home.verify().await;
}

#[tokio::test]
async fn a_user_fills_their_own_conversations_with_their_token() {
    let home = Home::new();
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    let user = Uuid::new_v4();
    let token = SigningKey::secret(SECRET).token(&claims(user));
    let id = user.to_string();
    let made = fill(&home, &server, &["--sessions", "3", "--token", &token, "--user-id", &id]).await;
    assert_eq!(made["sessions"], 3);
    let rows = home.look(&["sessions", "--json", "--user", &id]).await.succeeded().json_lines();
    assert_eq!(rows.len(), 3);
    let refused = Output::of(silent(&home, &server, &["--sessions", "1"])).await;
    assert_eq!(refused.code, Some(1));
    let why = refused.stderr.lines().last().unwrap();
    assert!(
        why.starts_with("talktrack: the server refused the request (401): ")
            && !refused.stderr.contains(&token),
        "{why}"
    );
    server.stop().await;
}

#[tokio::test]
async fn where_no_server_answers_one_line_says_how_to_start_it() {
    let home = Home::new();
    let mut command = home.command(&["demo", "--url", "http://127.0.0.1:1", "--sessions", "0", "--live"]);
    command.env("PATH", "/nonexistent");
    assert!(Output::of(command).await.failed(1).contains("cannot connect"));
    let line = home.run(&["demo", "--url", "http://127.0.0.1:1"]).await;
    let line = line.stderr.lines().last().unwrap().to_owned();
    assert!(
        line.contains("no server answers at http://127.0.0.1:1; start the server with `talktrack serve`"),
        "{line}"
    );
    let line = home.run(&["demo", "--url", "ftp://x"]).await.failed(2);
    assert_eq!(line, "talktrack: --url: must begin with http:// or https://, not \"ftp://x\"");
}

#[tokio::test]
async fn a_live_conversation_is_stored_while_it_goes_on_and_ends_with_ctrl_c() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut command = silent(&home, &server, &["--sessions", "0", "--live"]);
    let mut demo = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    within("it says where to look", output.read_line(&mut line)).await.unwrap();
    let session: Uuid = line.split("/sessions/").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let spoken = || home.database().contents(session).len() >= 2;
    until("two messages are stored", || spoken().then_some(())).await;
    assert_eq!(server.get(&format!("/v1/sessions/{session}")).await.json()["status"], "active");
    kill(Pid::from_raw(demo.id().unwrap().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(within("it ends", demo.wait()).await.unwrap().code(), Some(0));
    let mut rest = String::new();
    within("its output ends", output.read_to_string(&mut rest)).await.unwrap();
    let first = home.database().contents(session)[1].clone();
    assert!(rest.contains(&first), "{first:?} in {rest}");
    assert_eq!(home.database().ended(session).await.end(), ("ended", Some("disconnect")));
    server.stop().await;
    home.verify().await;
}

/// True if the program finds espeak-ng; otherwise the test is recorded as skipped.
async fn can_speak() -> bool {
    let asked = Command::new("espeak-ng").env_clear().arg("--version").stdout(Stdio::null()).status().await;
    let installed = asked.is_ok_and(|status| status.success());
    if !installed {
        skip::missing(
            "recordings of the demo",
            "espeak-ng is not installed (`make test` does it with apt-get)",
        );
    }
    installed
}

/// Returns the length of a recording of `talktrack demo` in milliseconds.
fn length_ms(home: &Home, audio_url: &Value) -> f64 {
    let (session, name) =
        audio_url.as_str().unwrap().strip_prefix("/v1/sessions/").unwrap().split_once("/audio/").unwrap();
    let users = std::fs::read_dir(home.data_dir().join("audio").join(session)).unwrap();
    let mut files = users.map(|user| user.unwrap().path().join(name));
    let file = std::fs::read(files.find(|file| file.exists()).unwrap()).unwrap();
    assert_eq!((&file[..4], &file[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    (file.len() - 44) as f64 / 2.0 / 11_025.0 * 1_000.0
}

#[tokio::test]
async fn recordings_are_as_long_as_their_messages_and_the_whole_one_has_them_all() {
    if !can_speak().await {
        return;
    }
    let home = Home::new();
    let server = home.serve(&[]).await;
    let url = format!("http://{}", server.address);
    let made = home.run(&["demo", "--url", &url, "--sessions", "20", "--json"]).await.succeeded().json();
    assert!(made["recordings"].as_u64().unwrap() > 20, "{made}");
    let lines = exported(&home).await;
    let starts = of_type(&lines, "session.start");
    let recorded: Vec<_> = starts.iter().filter(|start| start["metadata"]["audio_url"].is_string()).collect();
    assert!(recorded.len() >= 3, "{recorded:?}");
    for start in recorded {
        let whole = length_ms(&home, &start["metadata"]["audio_url"]);
        let messages = of_type(&lines, "message")
            .into_iter()
            .filter(|message| message["session_id"] == start["session_id"]);
        let mut spoken = messages.filter(|message| message["audio_url"].is_string()).peekable();
        assert!(spoken.peek().is_some());
        for message in spoken {
            let numbers = &message["metrics"];
            let from = numbers["audio_start_ms"].as_f64().unwrap();
            let until = numbers["audio_end_ms"].as_f64().unwrap();
            let length = length_ms(&home, &message["audio_url"]);
            assert!((until - from - length).abs() < 2.0, "{length} ms: {message}");
            assert!(until < whole + 2.0, "{whole} ms: {message}");
        }
    }
    let again = home.run(&["demo", "--url", &url, "--sessions", "20", "--json"]).await.succeeded().json();
    assert_eq!((&again["there_already"], &again["recordings"]), (&json!(20), &json!(0)));
    server.stop().await;
    home.verify().await;
}
