//! Case 12: other processes use the data directory of a running server. A second server is refused and told which
//! process holds the directory, an import goes through the server, processes that read get their result, and the server continues unharmed. (The library's
//! own tests cover a process that forks.)

use std::time::Instant;

use super::judge::judge;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::{Output, Server};

async fn neighbours(stand: &Stand) {
    let talkers = stand.talk(Manner { per_session: 300, ..Manner::default() });
    let server = stand.serve(&[]).await;
    stand.oracle.hears(100).await;
    a_second_writer_is_refused(stand, &server).await;
    lookers_are_answered(stand).await;
    stand.oracle.hears(100).await;
    let listen = std::fs::read_to_string(stand.home.data_dir().join("listen")).unwrap();
    assert_eq!(listen.trim(), server.address.to_string(), "the server's address is still its own");
    talkers.fall_silent().await;
    judge(stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

async fn a_second_writer_is_refused(stand: &Stand, server: &Server) {
    let line = r#"{"type":"session.start","session_id":"00000000-0000-4000-8000-000000000001","user_id":"00000000-0000-4000-8000-000000000002"}"#;
    let import = stand.home.write("one.jsonl", line);
    let begun = Instant::now();
    let second = Output::of(stand.command(&[])).await;
    eprintln!("the second server was refused after {:?}", begun.elapsed());
    let line = second.failed(1);
    assert!(line.contains(&format!("in use by process {} ", server.pid())), "{line}");
    let imported = run(stand, &["import", &import]).await.succeeded();
    assert!(
        imported.stderr.contains(&format!("importing through it (http://{})", server.address)),
        "{imported:?}"
    );
}

async fn lookers_are_answered(stand: &Stand) {
    for look in [
        &["verify", "--json"][..],
        &["export"],
        &["sessions"],
        &["migrate"],
        &["doctor"],
        &["dead-letters", "list"],
        &["dead-letters", "replay", "--all"],
    ] {
        run(stand, look).await.succeeded();
    }
}

/// Runs a command on the data directory and the store of the server.
async fn run(stand: &Stand, arguments: &[&str]) -> Output {
    match stand.remote() {
        Some(remote) => stand.home.look_at(&remote.url(), arguments).await,
        None => stand.home.look(arguments).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_beside_a_server_is_refused_and_who_looks_is_answered() {
    neighbours(&Stand::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_beside_a_server_on_postgresql_is_refused_and_who_looks_is_answered() {
    neighbours(&Stand::on_postgres().await).await;
}
