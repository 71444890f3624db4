//! A connection pooler in front of a cluster.

use std::path::Path;
use std::thread;

use talktrack_testbed::{PgBouncer, Postgres, like_supabase};

#[test]
fn it_answers_whoever_a_hosted_pooler_would() {
    let database = Postgres::shared().database();
    like_supabase(&database);
    database.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (7); GRANT SELECT ON t TO authenticator");
    let through = |user: &str| {
        let place = format!("port={} dbname={} user={user}", PgBouncer::shared().port(), database.name());
        Postgres::shared().try_psql(&place, "SELECT n, current_user FROM t")
    };
    for user in ["talktrack", "postgres", "authenticator"] {
        assert_eq!(through(user), Ok(format!("7|{user}")));
    }
    assert!(PgBouncer::shared().url(&database).ends_with(&format!(
        ":{}/{}",
        PgBouncer::shared().port(),
        database.name()
    )));
}

/// Returns commands with which a client waits, between two transactions, until all 30 clients have been
/// served, and prints how many it saw.
fn wait_for_thirty(place: &Path) -> String {
    let place = place.display();
    format!(
        "\\! touch {place}/$$; n=0; while [ $(ls {place} | wc -l) -lt 30 ] && [ $n -lt 200 ]; do n=$((n + 1)); \
         sleep 0.05; done; ls {place} | wc -l"
    )
}

#[test]
fn thirty_clients_are_connected_at_once_on_ten_servers() {
    let database = Postgres::shared().database();
    let place = format!("port={} dbname={}", PgBouncer::shared().port(), database.name());
    let meeting = tempfile::tempdir().unwrap();
    let statements = format!("SELECT 1 FROM pg_sleep(0.1);\n{}\nSELECT 2", wait_for_thirty(meeting.path()));
    thread::scope(|scope| {
        let client = || assert_eq!(Postgres::shared().psql(&place, &statements), "1\n30\n2");
        (0..30).for_each(|_| drop(scope.spawn(client)));
    });
    let servers = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", database.name());
    assert_eq!(Postgres::shared().psql("postgres", &servers), "10");
}

#[test]
fn one_of_its_own_ends_when_dropped() {
    let postgres = Postgres::shared();
    let pooler = PgBouncer::in_front_of(postgres);
    let place = format!("port={} dbname=postgres", pooler.port());
    assert_eq!(postgres.psql(&place, "SELECT 1"), "1");
    drop(pooler);
    let complaint = postgres.try_psql(&place, "SELECT 1").expect_err("it is gone");
    assert!(complaint.contains("refused"), "{complaint}");
}
