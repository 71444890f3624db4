//! Case 20: PostgreSQL loses rows that it has confirmed. The re-send window delivers them again, and no row is stored
//! twice.

use talktrack_testbed::{Database, Postgres};

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::{Remote, Stand};
use super::talkers::Manner;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_of_a_database_that_answers_before_it_syncs_lose_nothing() {
    let mut cluster = Postgres::start();
    let stand = Stand::on_remote(Remote::on(&cluster).await);
    let database = &stand.remote().unwrap().database;
    // With these settings, no background process flushes commits that did not wait for the disk, so the crash loses
    // them.
    database.psql("ALTER SYSTEM SET wal_writer_delay = '10s'; ALTER SYSTEM SET wal_writer_flush_after = 0");
    database.psql(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name()));
    database.psql("SELECT pg_reload_conf()");
    let server = stand.serve(&[]).await;
    let talkers = stand.talk(Manner { per_session: 200, ..Manner::default() });
    for _ in 0..cut::rounds(3, 60) {
        stand.oracle.hears(200).await;
        cluster.stop();
        cluster.start_again();
    }
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

/// Copies every table in one transaction.
fn dump(database: &Database) {
    database.psql(
        "BEGIN ISOLATION LEVEL REPEATABLE READ;
         DO $$ DECLARE it text; BEGIN
           DROP SCHEMA IF EXISTS dump CASCADE;
           CREATE SCHEMA dump;
           FOR it IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
             EXECUTE format('CREATE TABLE dump.%I AS TABLE public.%I', it, it);
           END LOOP;
         END $$;
         COMMIT",
    );
}

/// Restores the database from the copy.
fn restore(database: &Database) {
    database.psql(
        "BEGIN;
         SET LOCAL session_replication_role = replica;
         DO $$ DECLARE it text; BEGIN
           EXECUTE (SELECT 'TRUNCATE ' || string_agg(format('public.%I', tablename), ', ') FROM pg_tables WHERE schemaname = 'public');
           FOR it IN SELECT tablename FROM pg_tables WHERE schemaname = 'dump' LOOP
             EXECUTE format('INSERT INTO public.%I OVERRIDING SYSTEM VALUE SELECT * FROM dump.%I', it, it);
           END LOOP;
         END $$;
         COMMIT",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_that_is_restored_while_the_server_runs_gets_what_came_after_it() {
    let stand = Stand::on_postgres().await;
    let Remote { database, proxy, .. } = stand.remote().unwrap();
    let mut server = stand.serve(&[]).await;
    let talkers = stand.talk(Manner { per_session: 200, ..Manner::default() });
    for round in 0..cut::rounds(2, 30) {
        stand.oracle.hears(200).await;
        dump(database);
        let dumped = rows::number(&stand, "SELECT count(*) AS n FROM dump.conversation_messages");
        let count = || rows::count(&stand);
        let grown = async || (count() > dumped + 200).then_some(());
        crate::harness::until_within(super::PATIENCE, "more is stored than was dumped", grown).await;
        // The server must not write while the tables are empty.
        proxy.cut();
        restore(database);
        assert_eq!(count(), dumped);
        if round % 2 == 1 {
            stand.kill(server).await;
            server = stand.serve(&[]).await;
        }
        proxy.fix();
    }
    talkers.fall_silent().await;
    // An idle lane checks every 10 s whether the database still has what it confirmed.
    let acknowledged = stand.oracle.count() as u64;
    let whole = async || (rows::count(&stand) >= acknowledged).then_some(());
    crate::harness::until_within(super::PATIENCE, "what was forgotten is there again", whole).await;
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}
