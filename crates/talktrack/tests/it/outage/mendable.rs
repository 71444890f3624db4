//! A database that is reachable but accepts nothing until an operator repairs it.

use talktrack_testbed::{Database, KEYED_PASSWORD, Postgres};

use super::{Talk, terminate_connections};
use crate::postgres::{migrate, migrated};

/// Runs statements about the database from another database of the same cluster.
fn administer(sql: &str) {
    Postgres::shared().psql("postgres", sql);
}

fn make_read_only(database: &Database, read_only: &str) {
    administer(&format!(
        "ALTER DATABASE {} SET default_transaction_read_only = {read_only}",
        database.name()
    ));
}

#[tokio::test]
async fn a_database_that_is_read_only_for_a_while_costs_nothing() {
    let database = migrated().await;
    let mut talk = Talk::over(&database.url()).await;
    talk.is_stored().await;
    make_read_only(&database, "on");
    terminate_connections(&database);
    talk.goes_on_despite("the database is read-only: a standby, or a disk that is nearly full").await;
    // An open connection keeps the setting that it began with, so talktrack must open new connections.
    make_read_only(&database, "off");
    talk.arrives().await;
}

#[tokio::test]
async fn a_column_that_is_dropped_is_named_with_the_command_that_mends_it() {
    let database = migrated().await;
    let mut talk = Talk::over(&database.url()).await;
    talk.goes_on(5).await;
    talk.is_stored().await;
    database.psql("ALTER TABLE conversation_messages DROP COLUMN audio_url");
    let words = "Could not find the 'audio_url' column of 'conversation_messages' (run: talktrack migrate)";
    talk.goes_on_despite(words).await;
    assert_eq!(talk.node.tracker.health().store.as_deref(), Some(words), "and nothing else");
    migrate(&database).await;
    talk.arrives().await;
}

#[tokio::test]
async fn a_database_without_tables_is_waited_for_until_it_is_migrated() {
    let database = Postgres::shared().database();
    let mut talk = Talk::over(&database.url()).await;
    talk.goes_on_despite("Could not find the table 'public.conversation_sessions'").await;
    talk.goes_on_despite("(run: talktrack migrate)").await;
    migrate(&database).await;
    talk.arrives().await;
}

#[tokio::test]
async fn a_table_that_is_taken_away_is_named_and_may_come_back() {
    let database = migrated().await;
    let mut talk = Talk::over(&database.url()).await;
    talk.goes_on(5).await;
    talk.is_stored().await;
    database.psql("ALTER TABLE conversation_messages RENAME TO elsewhere");
    talk.goes_on_despite("Could not find the table 'public.conversation_messages' (run: talktrack migrate)")
        .await;
    database.psql("ALTER TABLE elsewhere RENAME TO conversation_messages");
    talk.arrives().await;
}

#[tokio::test]
async fn a_user_without_rights_is_named_until_they_are_granted() {
    let database = migrated().await;
    let role = format!("writer_of_{}", database.name());
    database.psql(&format!("CREATE ROLE {role} LOGIN BYPASSRLS"));
    database.psql(&format!("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"));
    let mut talk = Talk::over(&database.url_as(&role)).await;
    talk.goes_on_despite("permission denied for table conversation_nodes (SQLSTATE 42501); grant the rights")
        .await;
    database.psql(&format!("GRANT INSERT ON conversation_nodes TO {role}"));
    talk.goes_on_despite(
        "permission denied for table conversation_sessions (SQLSTATE 42501); grant the rights",
    )
    .await;
    database.psql(&format!("GRANT INSERT ON conversation_sessions TO {role}"));
    talk.goes_on_despite(
        "permission denied for table conversation_messages (SQLSTATE 42501); grant the rights",
    )
    .await;
    database.psql(&format!("GRANT INSERT ON conversation_messages TO {role}"));
    talk.arrives().await;
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test]
async fn a_wrong_password_is_named_but_not_shown_until_it_is_right() {
    let postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database).await;
    database.psql("ALTER ROLE keyed SUPERUSER PASSWORD 'another'");
    let mut talk = Talk::over(&database.url_as(&format!("keyed:{KEYED_PASSWORD}"))).await;
    talk.goes_on_despite(
        "password authentication failed for user \"keyed\" (SQLSTATE 28P01); check user and password",
    )
    .await;
    assert!(!talk.node.complains_of("password").await.contains(KEYED_PASSWORD));
    database.psql(&format!("ALTER ROLE keyed PASSWORD '{KEYED_PASSWORD}'"));
    talk.arrives().await;
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_named_until_it_does() {
    let template = migrated().await;
    let name = format!("later_{}", template.name());
    let mut talk = Talk::over(&template.url().replace(template.name(), &name)).await;
    talk.goes_on_despite(&format!(
        "database \"{name}\" does not exist (SQLSTATE 3D000); check the database's name"
    ))
    .await;
    administer(&format!("CREATE DATABASE {name} TEMPLATE {}", template.name()));
    talk.arrives().await;
    administer(&format!("DROP DATABASE {name} WITH (FORCE)"));
}
