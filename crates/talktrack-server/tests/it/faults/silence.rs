//! Case 13: half-open connections. The peer has disappeared, and no packet reports it.

use std::time::Duration;

use serde_json::Value;
use talktrack_testbed::{Postgres, Proxy, skip};
use tokio_tungstenite::connect_async;
use uuid::Uuid;

use super::cut;
use super::judge::judge;
use super::namespace::Namespace;
use super::ordeal::Ordeal;
use super::stand::{Remote, Stand};
use crate::harness::remote::has_status;
use crate::harness::{Client, Server, until_within, within};

const SILENT: &str = "store: the store has not answered for 5 s";
const GONE: &str = "store: the database cannot be reached";

/// More than the longest timeout: 30 s for data that the peer does not confirm, 35 s for a response, and 10 s for a
/// keepalive after 30 s of silence.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_named_and_what_it_owes_arrives_when_it_speaks_again() {
    let ordeal = Ordeal::begin(Stand::on_postgres().await).await;
    ordeal.remote().proxy.hang();
    ordeal.goes_on_despite(SILENT).await;
    ordeal.remote().proxy.fix();
    ordeal.recovers().await;
    ordeal.ends().await.without_dead_letters();
}

/// The cable to the database is unplugged: no packet comes back, and no connection is reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_nobody_resets_are_given_up_and_none_of_them_hangs_for_ever() {
    if cut::rounds(0, 1) == 0 {
        skip::left_to_full_run("half a minute of silence");
        return;
    }
    let Some(network) = Namespace::new() else {
        skip::missing("a silent network", "a network namespace needs root and the program ip");
        return;
    };
    let cluster = Postgres::shared();
    let remote = Remote::behind(Proxy::behind(network.listener(), cluster.port()), cluster).await;
    let ordeal = Ordeal::begin(Stand::on_remote(remote)).await;
    for _ in 0..2 {
        let address = ordeal.remote().proxy.address();
        let before = connections(&ordeal.server, address);
        assert!(!before.is_empty(), "the server is connected");
        network.pull();
        ordeal.goes_on_despite(SILENT).await;
        let given_up = async || {
            let now = connections(&ordeal.server, address);
            before.iter().all(|port| !now.contains(port)).then_some(())
        };
        until_within(LIMIT, "every connection to the silent side is given up", given_up).await;
        ordeal.complains_of(GONE).await;
        ordeal.goes_on().await;
        network.plug();
        ordeal.recovers().await;
    }
    ordeal.ends().await.without_dead_letters();
}

/// Returns the local ports of the server's connections to this address that its system considers established.
fn connections(server: &Server, address: std::net::SocketAddr) -> Vec<String> {
    let std::net::IpAddr::V4(ip) = address.ip() else { panic!("an address of version 4") };
    let remote = format!("{:08X}:{:04X}", u32::from_le_bytes(ip.octets()), address.port());
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", server.pid())).unwrap();
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open = columns.filter(|row| row[2] == remote && row[3] == "01");
    open.map(|row| row[1].to_owned()).collect()
}

/// Starts a session through a proxy that can break.
async fn call(network: &Proxy) -> Client {
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let url = format!("ws://{}/v1/ws?session_id={session}&user_id={user}", network.address());
    let (socket, _) = within("the socket opens", connect_async(url)).await.unwrap();
    Client { socket, session, user, started: Value::Null }.expect_started().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_without_a_word_is_noticed_and_its_session_ends() {
    let stand = Stand::on_postgres().await;
    let server = stand.serve(&["--ping-interval", "500ms", "--peer-timeout", "2s"]).await;
    let network = Proxy::to(server.address.port());
    let mut clients = Vec::new();
    for _ in 0..cut::rounds(4, 40) {
        let mut client = call(&network).await;
        client.say("fresh").await;
        clients.push(client);
    }
    network.hang();
    server.shows("talktrack_ws_connections", 0.0).await;
    for client in &clients {
        let database = &stand.remote().unwrap().database;
        assert_eq!(has_status(database, client.session, "ended").await["end_reason"], "disconnect");
    }
    judge(&stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}
