//! `database_url` in the forms of other tools: the server and every command take, refuse and warn of the same.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use talktrack_testbed::Postgres;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, Home, Output};

/// The commands that read `database_url`.
const COMMANDS: [&[&str]; 9] = [
    &["serve", "--listen", "127.0.0.1:0"],
    &["migrate"],
    &["doctor"],
    &["sessions"],
    &["export"],
    &["verify"],
    &["dead-letters", "list"],
    &["outbox", "show"],
    &["show", "01890a5d-ac96-774b-bcce-b302099a8057"],
];

#[tokio::test]
async fn every_command_refuses_the_same_strings_and_names_the_parameter() {
    let home = Home::new();
    for (parameter, words) in [
        ("sslcert=client.pem", "the parameter sslcert cannot be honoured"),
        ("require_auth=scram-sha-256", "the parameter require_auth cannot be honoured"),
        ("schema=tenant", "the parameter schema names another schema than public"),
        ("ssl=perhaps", "the parameter ssl must be one of true, false"),
    ] {
        for command in COMMANDS {
            let url = format!("postgres://keyed:hunter2@127.0.0.1:1/x?{parameter}");
            let line = home.look_at(&url, command).await.failed(2);
            assert!(line.contains("database_url: ") && line.contains(words), "{command:?}: {line}");
            assert!(!line.contains("hunter2") && !line.contains("authentication failed"), "{line}");
        }
    }
    assert!(!home.data_dir().exists(), "nothing was started");
}

#[tokio::test]
async fn a_parameter_without_effect_is_warned_of_once() {
    let database = migrated(Postgres::shared()).await;
    let url = format!("{}?statement_timeout=5000&jit=off&pgbouncer=true", database.url());
    let home = Home::new();
    let server = home.serve_on(&url).await;
    let mut client = Client::new(&server).await;
    client.say("hello").await;
    arrives(&database, client.session, &["hello"]).await;
    server.drained().await;
    let log = server.log();
    server.stop().await;
    let warned = |text: &str, name: &str| {
        text.matches(&format!("database_url: the parameter {name} has no effect")).count()
    };
    assert_eq!(
        [warned(&log, "statement_timeout"), warned(&log, "jit"), warned(&log, "pgbouncer")],
        [1, 1, 0],
        "{log}"
    );
    for command in &COMMANDS[1..8] {
        let output = home.look_at(&url, command).await.succeeded();
        assert_eq!(
            [warned(&output.stderr, "statement_timeout"), warned(&output.stderr, "jit")],
            [1, 1],
            "{command:?}: {output:?}"
        );
        assert!(!output.stdout.contains("statement_timeout"), "{command:?}: {output:?}");
    }
}

#[tokio::test]
async fn a_secret_with_a_newline_and_the_pairs_of_libpq_lead_to_the_database() {
    let database = migrated(Postgres::shared()).await;
    let port = Postgres::shared().port();
    let socket = Postgres::shared().socket_dir().display();
    let name = database.name();
    for (place, text) in [
        format!("{}\n", database.url()),
        format!(
            "  {}?sslmode=no-verify&schema=public\r\n",
            database.url().replace("postgres:", "postgresql+asyncpg:")
        ),
        format!("host='{socket}' port={port} user=talktrack dbname={name}\n"),
        format!("postgres://talktrack:secret@localhost:{port}/{name}?host={socket}&sslmode=require"),
    ]
    .iter()
    .enumerate()
    {
        let home = Home::new();
        let mut command = home.server_command(&[]);
        command.env("DATABASE_URL", text);
        let server = crate::harness::Server::start(&home, command).await;
        let mut client = Client::new(&server).await;
        let said = format!("by way {place}");
        client.say(&said).await;
        arrives(&database, client.session, &[&said]).await;
        server.stop().await;
        home.settings(format!("database_url = {}\n", serde_json::json!(text)));
        assert!(home.look(&["export"]).await.succeeded().stdout.contains(&said), "{text}");
        home.look(&["doctor"]).await.succeeded();
    }
}

#[tokio::test]
async fn a_newline_is_no_part_of_the_name_of_a_file() {
    let home = Home::new();
    let url = format!("sqlite://{}\n", home.path("talks.db").display());
    home.serve(&["--database-url", &url]).await.stop().await;
    assert!(home.path("talks.db").is_file());
}

#[tokio::test]
async fn the_certificates_of_the_system_are_those_that_the_machine_names() {
    let postgres = Postgres::shared();
    let database = migrated(postgres).await;
    let home = Home::new();
    let doctor = async |parameters: &str, file: &std::path::Path| {
        let mut command =
            home.command(&["doctor", "--database-url", &format!("{}?{parameters}", database.url())]);
        command.env("SSL_CERT_FILE", file);
        Output::of(command).await
    };
    for parameters in
        ["sslrootcert=system", "sslmode=verify-full&sslrootcert=system", "ssl=true", "sslmode=verify-ca"]
    {
        doctor(parameters, postgres.ca_file()).await.succeeded();
        let line = doctor(parameters, postgres.other_ca_file()).await.failed(1);
        assert!(line.contains("UnknownIssuer"), "{parameters}: {line}");
    }
    let line = doctor("sslmode=require&sslrootcert=system", postgres.ca_file()).await.failed(2);
    assert!(line.contains("the parameter sslrootcert cannot be honoured"), "{line}");
}

/// Accepts connections that begin with the handshake, as PostgreSQL 17 does, and passes them on to the server. The
/// handshake fails unless it names PostgreSQL's protocol.
async fn direct_tls(postgres: &'static Postgres) -> u16 {
    let file = |name: &str| BufReader::new(File::open(postgres.socket_dir().join(name)).unwrap());
    let certificates = CertificateDer::pem_reader_iter(file("server.pem")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_reader(file("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(certificates, key).unwrap();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                if client.get_ref().1.alpn_protocol().is_none() {
                    return;
                }
                let mut server = TcpStream::connect(("127.0.0.1", postgres.port())).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn direct_tls_names_the_protocol_and_needs_a_server_that_speaks_it() {
    let postgres = Postgres::shared();
    let database = migrated(postgres).await;
    let home = Home::new();
    let ca = postgres.ca_file().display();
    let parameters = format!("sslnegotiation=direct&sslmode=verify-full&sslrootcert={ca}");
    let url = format!("{}?{parameters}", database.url_at(direct_tls(postgres).await));
    home.look_at(&url, &["doctor"]).await.succeeded();
    // Without the parameter, the client first asks whether the server speaks TLS.
    let url = url.replace("sslnegotiation=direct", "sslnegotiation=postgres");
    home.look_at(&url, &["doctor"]).await.failed(1);
    // This server is too old for it.
    let line = home.look_at(&format!("{}?{parameters}", database.url()), &["doctor"]).await.failed(1);
    assert!(!line.contains("authentication") && !line.contains("password"), "{line}");
}
