//! A database that looks as Supabase's do.

use std::thread;

use talktrack_testbed::{Database, Postgres, like_supabase};

const ALICE: &str = "00000000-0000-0000-0000-00000000000a";

fn supabase() -> Database {
    let database = Postgres::shared().database();
    like_supabase(&database);
    database
}

#[test]
fn many_tests_make_their_databases_look_so_at_once() {
    let roles = "SELECT count(*) FROM pg_roles
                 WHERE rolname IN ('anon', 'authenticated', 'service_role', 'authenticator', 'postgres')";
    thread::scope(|scope| {
        let one = || assert_eq!(supabase().psql(roles), "5");
        (0..4).for_each(|_| drop(scope.spawn(one)));
    });
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
    assert_eq!(Postgres::plain().psql("postgres", roles), "keyed\ntalktrack");
}
