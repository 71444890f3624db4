//! `talktrack dead-letters`: lists, replays and drops messages that the store has refused, with and without a running
//! server.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Home, Output, Server, text, until};

/// Makes the store refuse all messages that begin with `poison`.
const REFUSE: &str = "CREATE TRIGGER refuse BEFORE INSERT ON conversation_messages WHEN NEW.content LIKE 'poison%' \
                      BEGIN SELECT RAISE(ABORT, 'not this one'); END";
const TAKE_AGAIN: &str = "DROP TRIGGER refuse";

/// Starts a server that has made dead letters of these messages, and returns the client of their session.
async fn with_letters(texts: &[&str]) -> (Home, Server, Client) {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    home.database().execute(REFUSE);
    for content in texts {
        client.say(content).await;
    }
    (home, server, client)
}

async fn dead_letters(home: &Home, arguments: &[&str]) -> Output {
    home.look(&[&["dead-letters"], arguments].concat()).await
}

/// Returns the output of `list --json`, oldest first.
async fn listed(home: &Home) -> Vec<Value> {
    dead_letters(home, &["list", "--json"]).await.succeeded().json_lines()
}

fn seq(letter: &Value) -> String {
    letter["seq"].to_string()
}

#[tokio::test]
async fn letters_are_listed_beside_a_running_server_the_newest_last() {
    let (home, _server, client) = with_letters(&["poison 1", "good", "poison 2"]).await;
    let letters = listed(&home).await;
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (&letter["frame"]["content"], &letter["reason"], &letter["session_id"]))
        .collect();
    let data = json!("data");
    let session = json!(client.session);
    assert_eq!(told, [(&json!("poison 1"), &data, &session), (&json!("poison 2"), &data, &session)]);
    assert!(letters[0]["detail"].as_str().unwrap().contains("not this one"), "{}", letters[0]);
    assert_eq!(letters[0]["frame"]["id"], letters[0]["message_id"]);

    let table = dead_letters(&home, &["list"]).await.succeeded().stdout;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with(&seq(&letters[0])) && lines[2].starts_with(&seq(&letters[1])), "{table}");
    assert!(lines[2].contains(letters[1]["message_id"].as_str().unwrap()), "{table}");
    assert!(!table.contains("poison"), "a list does not quote what was said: {table}");

    let newest = dead_letters(&home, &["list", "--limit", "1"]).await.succeeded();
    assert!(newest.stdout.contains(&seq(&letters[1])) && !newest.stdout.contains(&seq(&letters[0])));
    assert!(newest.stderr.contains("1 older"), "{}", newest.stderr);
}

#[tokio::test]
async fn without_letters_the_list_says_so() {
    let (home, _server, _) = with_letters(&["good"]).await;
    for arguments in [&["list"][..], &["replay", "--all"], &["drop", "--all", "--yes"]] {
        let output = dead_letters(&home, arguments).await.succeeded();
        assert_eq!((output.stdout.as_str(), output.stderr.trim()), ("", "no dead letters"), "{arguments:?}");
    }
    assert_eq!(dead_letters(&home, &["list", "--json"]).await.succeeded().stdout, "");
}

#[tokio::test]
async fn what_is_shown_can_be_mended_and_imported() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    home.database().execute(REFUSE);
    let content = "poison\u{1b}[2J\u{202e} \"quoted\"\n";
    let said = json!({
        "type": "message", "role": "user", "content": content, "external_id": "e", "metadata": {"a": [1]},
        "created_at": "2026-11-23T08:00:00Z",
    });
    let id = client.track(said).await;
    server.stop().await;
    let letter = seq(&listed(&home).await[0]);
    let shown = dead_letters(&home, &["show", &letter]).await.succeeded().stdout;
    let bad = |character: &char| character.is_control() && *character != '\n' || *character == '\u{202e}';
    assert_eq!(shown.chars().find(bad), None, "{shown:?}");
    for part in ["data", "not this one", &client.session.to_string(), &client.user.to_string()] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let line = shown.lines().last().unwrap();
    let frame: Value = serde_json::from_str(line).unwrap();
    let sheet = dead_letters(&home, &["show", &letter, "--json"]).await.succeeded().json();
    assert_eq!((&sheet["frame"], &frame["content"]), (&frame, &json!(content)));

    let file = home.write("mended.jsonl", line.replace("poison", "mended"));
    home.look(&["import", &file]).await.succeeded();
    let rows = home.database().messages(client.session);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0].id, rows[0].content.as_str()),
        (&id.to_string(), &*content.replace("poison", "mended"))
    );
    assert_eq!(rows[0].created_at, "2026-11-23T08:00:00.000000Z");
    dead_letters(&home, &["drop", &letter]).await.succeeded();
    home.verify().await;
}

/// Replays some dead letters and drops others. If `stop_first` is set, no server runs meanwhile.
async fn letters_leave(stop_first: bool) {
    let (home, server, client) = with_letters(&["poison 1", "poison 2", "poison 3", "good"]).await;
    let server = if stop_first {
        server.stop().await;
        None
    } else {
        Some(server)
    };
    let seqs: Vec<_> = listed(&home).await.iter().map(seq).collect();
    let output = dead_letters(&home, &["drop", &seqs[1], &seqs[1]]).await.succeeded();
    assert_eq!(output.stdout.trim(), format!("{}: dropped", seqs[1]));
    home.verify().await;

    // The cause is still there, so the replay fails again.
    let output = dead_letters(&home, &["replay", &seqs[2]]).await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
    let letters = listed(&home).await;
    let new = seq(&letters[1]);
    assert_eq!((letters.len(), seq(&letters[0])), (2, seqs[0].clone()), "{letters:?}");
    assert_eq!(letters[1]["frame"]["content"], "poison 3");
    for part in [&seqs[2], &new, "data", "not this one"] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    home.verify().await;

    home.database().execute(TAKE_AGAIN);
    let output = dead_letters(&home, &["replay", &seqs[0], &seqs[1], "--json"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let outcomes: Vec<_> = output.json_lines().iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["stored", "not_there"]);
    assert!(output.stderr.starts_with(&format!("{}: ", seqs[1])), "{}", output.stderr);
    let output = dead_letters(&home, &["replay", "--all"]).await.succeeded();
    assert_eq!(output.stdout.trim(), format!("{new}: stored"));
    assert_eq!(
        home.database().contents(client.session),
        ["poison 1", "poison 3", "good"],
        "where they were said"
    );
    assert_eq!(listed(&home).await, [Value::Null; 0]);
    home.verify().await;
    if let Some(server) = server {
        assert!(server.metric("talktrack_dead_letters_taken_out_total").await > 3.5);
        server.logged("dead letters replayed from the command line").await;
        server.stop().await;
        home.verify().await;
    }
}

#[tokio::test]
async fn letters_leave_where_no_server_runs() {
    letters_leave(true).await;
}

#[tokio::test]
async fn letters_leave_through_a_running_server() {
    letters_leave(false).await;
}

#[tokio::test]
async fn more_letters_than_go_into_one_request_come_back_in_their_order() {
    let texts: Vec<_> = (0..230).map(|number| format!("poison {number}")).collect();
    let (home, server, client) = with_letters(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    home.database().execute(TAKE_AGAIN);
    let output = dead_letters(&home, &["replay", "--all"]).await.succeeded();
    assert_eq!(output.stdout.lines().count(), texts.len());
    assert_eq!(home.database().contents(client.session), texts);
    server.stop().await;
    home.verify().await;
}

#[tokio::test]
async fn a_server_killed_between_the_two_steps_leaves_the_letter_and_the_message_and_nothing_twice() {
    let (home, server, client) = with_letters(&["poison"]).await;
    let database = home.database();
    database.execute(TAKE_AGAIN);
    // The replayed message becomes durable, but the removal of its dead letter fails.
    database.execute(
        "CREATE TRIGGER keep BEFORE DELETE ON dead_letters BEGIN SELECT RAISE(ABORT, 'not now'); END",
    );
    let letter = seq(&listed(&home).await[0]);
    let data_dir = home.data_dir();
    let command =
        home.command(&["dead-letters", "replay", &letter, "--data-dir", data_dir.to_str().unwrap()]);
    let asking = tokio::spawn(Output::of(command));
    until("the message is stored", || (database.contents(client.session).len() == 1).then_some(())).await;
    server.logged("not now").await;
    server.kill().await;
    let line = asking.await.unwrap().failed(1);
    assert!(line.contains("no answer"), "{line}");

    database.execute("DROP TRIGGER keep");
    home.verify().await;
    let server = home.serve(&[]).await;
    assert_eq!(listed(&home).await.iter().map(seq).collect::<Vec<_>>(), std::slice::from_ref(&letter));
    home.verify().await;
    let output = dead_letters(&home, &["replay", &letter]).await.succeeded();
    assert_eq!(output.stdout.trim(), format!("{letter}: stored"));
    assert_eq!(database.contents(client.session), ["poison"]);
    assert_eq!(listed(&home).await, [Value::Null; 0]);
    server.stop().await;
    home.verify().await;
}

#[tokio::test]
async fn a_server_killed_before_a_replay_is_durable_leaves_the_letter() {
    let (home, server, client) = with_letters(&["poison"]).await;
    let database = home.database();
    database.execute(TAKE_AGAIN);
    let letter = seq(&listed(&home).await[0]);
    let disk = database.block();
    let data_dir = home.data_dir();
    let command =
        home.command(&["dead-letters", "replay", &letter, "--data-dir", data_dir.to_str().unwrap()]);
    let asking = tokio::spawn(Output::of(command));
    server.logged("the journal cannot write").await;
    server.kill().await;
    asking.await.unwrap().failed(1);
    drop(disk);
    let _server = home.serve(&[]).await;
    assert_eq!(database.contents(client.session), [""; 0]);
    home.verify().await;
    dead_letters(&home, &["replay", &letter]).await.succeeded();
    assert_eq!(database.contents(client.session), ["poison"]);
    home.verify().await;
}

#[tokio::test]
async fn a_drop_that_waits_for_the_disk_is_not_logged_as_a_message() {
    let (home, server, _client) = with_letters(&["poison"]).await;
    let letter = seq(&listed(&home).await[0]);
    let disk = home.database().block();
    let data_dir = home.data_dir();
    let command = home.command(&["dead-letters", "drop", &letter, "--data-dir", data_dir.to_str().unwrap()]);
    let asking = tokio::spawn(Output::of(command));
    server.logged("❌ Failed to delete dead letters: the journal cannot write").await;
    drop(disk);
    asking.await.unwrap().succeeded();
    assert_eq!(listed(&home).await, [Value::Null; 0]);
    let log = server.log();
    assert!(!log.contains("Failed to save message: the journal cannot write"), "no message waited: {log}");
    server.stop().await;
    home.verify().await;
}

#[tokio::test]
async fn what_cannot_be_replayed_stays_and_says_why() {
    let (home, server, mut client) = with_letters(&["poison 1"]).await;
    let id = Uuid::new_v4();
    let said = |content: &str| {
        let mut message = text("user", content);
        message["id"] = json!(id);
        message
    };
    client.track(said("poison 2")).await;
    let database = home.database();
    database.execute(TAKE_AGAIN);
    client.track(said("something else")).await;
    database.execute(
        "UPDATE dead_letters SET reason = 'corrupt' WHERE seq = (SELECT min(seq) FROM dead_letters)",
    );
    let output = dead_letters(&home, &["replay", "--all"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    let told: Vec<_> = output.stderr.lines().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("bytes have changed") && told[1].contains("other content"), "{told:?}");
    assert_eq!(listed(&home).await.len(), 2);
    assert_eq!(database.contents(client.session), ["something else"]);
    home.verify().await;

    database.execute("UPDATE dead_letters SET body = 'rot' WHERE reason = 'corrupt'");
    let letter = seq(&listed(&home).await[0]);
    let shown = dead_letters(&home, &["show", &letter]).await.succeeded().stdout;
    assert!(shown.trim_end().ends_with("\nrot"), "{shown}");
    server.stop().await;
    dead_letters(&home, &["drop", "--all", "--yes"]).await.succeeded();
    home.verify().await;
}

#[tokio::test]
async fn forgetting_all_wants_to_be_said_twice_and_letters_to_be_named() {
    let (home, _server, _) = with_letters(&["poison"]).await;
    let line = dead_letters(&home, &["drop", "--all"]).await.failed(2);
    assert!(line.contains("1 dead letter") && line.contains("--yes"), "{line}");
    for arguments in
        [&["replay"][..], &["drop"], &["replay", "--all", "1"], &["drop", "x"], &["show"], &["what"]]
    {
        dead_letters(&home, arguments).await.failed(2);
    }
    let line = dead_letters(&home, &["show", "12"]).await.failed(1);
    assert!(line.contains("no dead letter 12"), "{line}");
    assert_eq!(listed(&home).await.len(), 1);
    home.verify().await;
}

#[tokio::test]
async fn without_data_nothing_is_made() {
    let home = Home::new();
    for arguments in [&["list"][..], &["show", "1"], &["replay", "1"], &["drop", "--all"]] {
        let line = dead_letters(&home, arguments).await.failed(1);
        assert!(line.contains(home.data_dir().to_str().unwrap()), "{line}");
    }
    assert!(!home.data_dir().exists());
}
