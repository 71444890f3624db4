//! A cluster, its databases, and that nothing of it stays behind.

use talktrack_testbed::{KEYED_PASSWORD, Postgres};

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
