//! A pooler in front of a cluster.

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

#[test]
fn clients_share_ten_servers() {
    let database = Postgres::shared().database();
    let place = format!("port={} dbname={}", PgBouncer::shared().port(), database.name());
    let connected = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", database.name());
    thread::scope(|scope| {
        let one = || drop(Postgres::shared().psql(&place, "SELECT pg_sleep(0.1); SELECT pg_sleep(0.1)"));
        (0..30).for_each(|_| drop(scope.spawn(one)));
    });
    assert_eq!(Postgres::shared().psql("postgres", &connected), "10");
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
