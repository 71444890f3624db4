//! A database that looks like one of Supabase's.

use std::thread;

use talktrack_testbed::{Database, Postgres, like_supabase};

use crate::support::eventually;

const ALICE: &str = "00000000-0000-0000-0000-00000000000a";

fn supabase() -> Database {
    let database = Postgres::shared().database();
    like_supabase(&database);
    database
}

/// Keeps all sessions from creating roles until four of them wait to do so.
const UNTIL_FOUR_WAIT: &str = "
    SET statement_timeout = '30s';
    BEGIN;
    LOCK TABLE pg_authid IN SHARE MODE;
    DO $$ BEGIN
        WHILE (SELECT count(*) FROM pg_locks WHERE NOT granted) < 4 LOOP PERFORM pg_sleep(0.02); END LOOP;
    END $$;
    COMMIT";

#[test]
fn tests_may_make_their_databases_look_so_at_once() {
    let postgres = Postgres::start();
    let databases = [(); 4].map(|()| postgres.database());
    thread::scope(|scope| {
        scope.spawn(|| postgres.psql("postgres", UNTIL_FOUR_WAIT));
        let held =
            "SELECT count(*) FROM pg_locks WHERE relation = 'pg_authid'::regclass AND mode = 'ShareLock'";
        eventually("nobody can make roles", || postgres.psql("postgres", held) == "1");
        for database in &databases {
            scope.spawn(|| like_supabase(database));
        }
    });
    for database in &databases {
        assert_eq!(database.psql("SELECT count(*) FROM auth.users"), "0");
    }
}

#[test]
fn the_sender_of_a_request_is_read_from_its_claims_new_and_old() {
    let database = supabase();
    let sender = |claims: &str| {
        database.psql(&format!(
            "BEGIN; SET LOCAL ROLE authenticated; {claims} SELECT coalesce(auth.uid()::text, 'nobody'); COMMIT"
        ))
    };
    assert_eq!(sender(""), "nobody");
    assert_eq!(sender(&format!("SET LOCAL request.jwt.claims = '{{\"sub\": \"{ALICE}\"}}';")), ALICE);
    assert_eq!(sender(&format!("SET LOCAL request.jwt.claim.sub = '{ALICE}';")), ALICE);
}

#[test]
fn a_new_table_of_its_owner_is_open_to_the_roles_of_the_api() {
    let database = supabase();
    let as_user = |user: &str, sql: &str| {
        Postgres::shared().try_psql(&format!("dbname={} user={user}", database.name()), sql)
    };
    as_user("postgres", "CREATE TABLE t (id bigserial, owner uuid REFERENCES auth.users)").unwrap();
    as_user("authenticator", "SET ROLE anon; INSERT INTO t DEFAULT VALUES").unwrap();
    let complaint = as_user("authenticator", "SELECT * FROM t").expect_err("it inherits nothing");
    assert!(complaint.contains("permission denied"), "{complaint}");
}

#[test]
fn a_plain_cluster_has_none_of_it() {
    let roles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1";
    assert_eq!(Postgres::plain().psql("postgres", roles), "asked_in_the_clear\nkeyed\ntalktrack");
}
