//! A cluster and its databases, and that nothing of them is left behind.

use std::time::Duration;

use talktrack_testbed::{KEYED_PASSWORD, Postgres};

use crate::support::PATIENCE;

/// The time to wait for an answer that must not come.
const A_WHILE: Duration = Duration::from_millis(300);

#[test]
fn a_database_can_be_used_and_is_gone_after() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    database.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)");
    assert_eq!(database.psql("SELECT n, 'ä' FROM t ORDER BY n"), "1|ä\n2|ä");
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", database.name());
    assert_eq!(postgres.psql("postgres", &count), "1");
    drop(database);
    assert_eq!(postgres.psql("postgres", &count), "0");
}

#[test]
fn a_stopped_cluster_starts_again_with_its_rows() {
    let mut postgres = Postgres::start();
    let database = postgres.database();
    database.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
    postgres.stop();
    let complaint = database.try_psql("SELECT 1").expect_err("the server is stopped");
    assert!(complaint.contains("refused"), "{complaint}");
    postgres.start_again();
    assert_eq!(database.psql("SELECT n FROM t"), "7");
}

#[test]
fn the_server_is_known_to_its_authority_only() {
    let postgres = Postgres::shared();
    let encrypted = |authority: &std::path::Path, host| {
        let place =
            format!("dbname=postgres host={host} sslmode=verify-full sslrootcert={}", authority.display());
        postgres.try_psql(&place, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    };
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(encrypted(postgres.ca_file(), host), Ok("t".into()));
        let complaint = encrypted(postgres.other_ca_file(), host).expect_err("a stranger vouches for nobody");
        assert!(complaint.contains("certificate verify failed"), "{complaint}");
    }
}

#[test]
fn keyed_must_give_its_password() {
    let postgres = Postgres::shared();
    let who = |password: &str| {
        postgres.try_psql(&format!("dbname=postgres user=keyed password={password}"), "SELECT current_user")
    };
    assert_eq!(who(KEYED_PASSWORD), Ok("keyed".into()));
    let complaint = who("wrong").expect_err("the password is wrong");
    assert!(complaint.contains("password authentication failed"), "{complaint}");
}

#[test]
fn a_frozen_cluster_takes_connections_and_answers_only_when_it_has_thawed() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let frozen = postgres.freeze();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| database.psql("SELECT 7"));
        std::thread::sleep(A_WHILE);
        assert!(!asked.is_finished(), "it answered");
        drop(frozen);
        assert_eq!(asked.join().unwrap(), "7");
    });
}

#[test]
fn an_occupied_cluster_turns_clients_away() {
    let mut postgres = Postgres::start();
    postgres.stop();
    postgres.start_with("max_connections = 10");
    let occupied = postgres.occupy();
    let complaint = postgres.try_psql("postgres", "SELECT 1").expect_err("no connection is left");
    assert!(complaint.contains("too many clients"), "{complaint}");
    drop(occupied);
    let deadline = std::time::Instant::now() + PATIENCE;
    while postgres.try_psql("postgres", "SELECT 1").is_err() {
        assert!(std::time::Instant::now() < deadline, "its connections are free again");
    }
}

#[test]
fn a_standby_refuses_to_write_until_it_is_promoted() {
    let mut postgres = Postgres::start();
    let database = postgres.database();
    postgres.stop();
    postgres.start_as_standby();
    let complaint = database.try_psql("CREATE TABLE t (n int)").expect_err("it is a standby");
    assert!(complaint.contains("read-only"), "{complaint}");
    postgres.promote();
    database.psql("CREATE TABLE t (n int)");
}
