//! Case 19: a project's own triggers change rows as they are written. A repeated delivery finds its row, no row is
//! duplicated, and a trigger that changes ids is named in `/readyz`.

use std::time::Duration;

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::until_told;

/// Returns a trigger on the table of messages that runs before each row is written.
fn trigger(when: &str, body: &str) -> String {
    format!(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$;
         CREATE TRIGGER meddle BEFORE {when} ON conversation_messages FOR EACH ROW EXECUTE FUNCTION meddle()"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_trigger_edits_are_the_same_rows_when_they_are_delivered_again() {
    let stand = Stand::on_postgres().await;
    let remote = stand.remote().unwrap();
    // The judge does not compare this column, but talktrack does.
    remote.database.psql(&trigger("INSERT OR UPDATE", "NEW.audio_url := 'edited'"));
    let mut random = cut::random("an editing trigger");
    let mut server = stand.serve(&[]).await;
    let talkers = stand.talk(Manner { per_session: 500, ..Manner::default() });
    for _ in 0..cut::rounds(3, 50) {
        stand.oracle.hears(100).await;
        // The connection breaks in the middle of a write, so that its outcome is unknown; then the server is killed.
        remote.proxy.cut_after(random.usize(1_000..50_000));
        stand.oracle.hears(100).await;
        stand.kill(server).await;
        remote.proxy.fix();
        server = stand.serve(&[]).await;
    }
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    let edited = "SELECT count(*) AS n FROM conversation_messages WHERE audio_url = 'edited'";
    assert_eq!(rows::number(&stand, edited), rows::count(&stand));
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_gives_rows_other_ids_is_named_and_makes_no_copies() {
    let stand = Stand::on_postgres().await;
    let database = &stand.remote().unwrap().database;
    let server = stand.serve(&[]).await;
    let talkers =
        stand.talk(Manner { talkers: 2, ahead: 5, pause: Duration::from_millis(2), ..Manner::default() });
    stand.oracle.hears(50).await;
    database.psql(&trigger("INSERT", "NEW.id := gen_random_uuid()"));
    let named = async || server.get("/readyz").await.body.contains("The trigger 'meddle'").then_some(());
    until_told("/readyz names the trigger", named).await;
    stand.oracle.hears(50).await;
    let before = rows::count(&stand);
    stand.oracle.hears(50).await;
    assert_eq!(rows::count(&stand), before, "nothing is written under another id");
    database.psql("DROP TRIGGER meddle ON conversation_messages");
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}
