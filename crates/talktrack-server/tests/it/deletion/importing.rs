//! The import of an export whose session has been deleted since.

use talktrack_testbed::Postgres;

use super::delete;
use crate::harness::remote::{arrives, migrated, select};
use crate::harness::{Client, Home};

#[tokio::test]
async fn an_export_that_is_imported_after_the_deletion_brings_nothing_back() {
    let database = migrated(Postgres::shared()).await;
    for url in [None, Some(database.url())] {
        let home = Home::new();
        let other = Home::new();
        let flags: Vec<&str> = url.iter().flat_map(|url| ["--database-url", url.as_str()]).collect();
        let server = home.serve(&flags).await;
        let mut client = Client::new(&server).await;
        client.say("correct horse").await;
        if url.is_some() {
            arrives(&database, client.session, &["correct horse"]).await;
        }
        let export = server.get(&format!("/v1/sessions/{}/export", client.session)).await.body;
        assert!(export.contains("correct horse"), "{export}");
        assert_eq!(delete(&server, &format!("/v1/sessions/{}", client.session)).await.status, 200);
        server.stop().await;
        // With PostgreSQL, the import is repeated from a data directory that does not know of the deletion.
        let homes = if url.is_some() { vec![&home, &other] } else { vec![&home] };
        for home in homes {
            let file = home.write("export.jsonl", &export);
            let imported = home.look(&[&["import", &file][..], &flags].concat()).await;
            let report = format!("{}{}", imported.stdout, imported.stderr);
            let looked = home.look(&[&["verify"][..], &flags].concat()).await.succeeded();
            assert!(!looked.stdout.contains("correct horse"));
            let messages = "SELECT * FROM conversation_messages";
            let here = home.database().select(messages);
            let there = select(&database, messages);
            assert!(here.is_empty() && there.is_empty(), "{report}");
            assert!(home.database().select("SELECT * FROM dead_letters").is_empty(), "{report}");
        }
    }
}
