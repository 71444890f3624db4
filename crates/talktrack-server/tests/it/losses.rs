//! `talktrack verify` says what was lost, and never that all is well when it has not looked at everything.

use talktrack_testbed::Postgres;

use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, Home};

#[tokio::test]
async fn a_lost_write_ahead_log_is_told_by_every_audit_from_then_on() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("acknowledged and lost").await;
    server.kill().await;
    std::fs::remove_file(home.data_dir().join("talktrack.db-wal")).unwrap();
    let server = home.serve(&[]).await;
    let line = server.logged("The database was damaged").await;
    let told = "part of the write-ahead log was lost: the messages that were acknowledged last are missing";
    assert!(line.contains(told) && !line.contains("nothing is known to be missing"), "{line}");
    for _ in 0..2 {
        let audit = home.look(&["verify"]).await.succeeded().stdout;
        assert!(
            audit.contains(told) && audit.contains("nothing is missing beyond the losses above"),
            "{audit}"
        );
        let audit = home.look(&["verify", "--json"]).await.succeeded().json();
        assert_eq!(audit["losses"].as_array().unwrap().len(), 1, "{audit}");
        // The loss is known even when the broken files are gone.
        home.look(&["quarantine", "drop", "--all", "--yes"]).await.succeeded();
    }
    server.stop().await;
    let log = std::fs::read_to_string(home.log_path()).unwrap();
    assert_eq!(log.matches("is damaged").count(), 1, "{log}");
}

#[tokio::test]
async fn an_audit_says_that_it_names_only_some_of_many_problems() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    for _ in 0..22 {
        Client::new(&server).await.say("counted").await;
    }
    server.stop().await;
    home.database().execute("UPDATE conversation_sessions SET message_count = 7");
    let audit = home.look(&["verify"]).await;
    assert_eq!(audit.code, Some(1));
    assert_eq!(audit.stdout.matches(" counts 7 messages").count(), 20, "{audit:?}");
    assert!(
        audit.stdout.contains("there are more problems of this kind; only the first 20 are named"),
        "{audit:?}"
    );
    home.database().execute("UPDATE conversation_sessions SET message_count = 1 WHERE rowid > 20");
    let audit = home.look(&["verify"]).await;
    assert!(
        audit.stdout.matches(" counts 7 messages").count() == 20 && !audit.stdout.contains("more"),
        "{audit:?}"
    );
}

#[tokio::test]
async fn an_audit_without_the_address_of_the_store_does_not_say_that_all_is_well() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let url = database.url();
    let server = home.serve_on(&url).await;
    let mut client = Client::new(&server).await;
    client.say("stored elsewhere").await;
    arrives(&database, client.session, &["stored elsewhere"]).await;
    server.stop().await;
    home.look_at(&url, &["verify"]).await.succeeded();
    let audit = home.look(&["verify"]).await;
    assert_eq!(audit.code, Some(1), "{audit:?}");
    assert!(
        !audit.stdout.contains('✓') && audit.stdout.contains("the rows of the store were not counted"),
        "{audit:?}"
    );
}
