//! Connection strings as hosting providers print them, and the connections that they lead to.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use talktrack::store::postgres::{Address, PostgresStore};
use talktrack::store::{ErrorClass, Read as _, Rows as _, Store};
use talktrack_testbed::{Database, KEYED_PASSWORD, PgBouncer, Postgres, Proxy, open_client, skip};
use tokio::time::timeout;

use crate::node::Node;
use crate::postgres::{address, migrated};
use crate::support::SESSION;

/// Opens a connection to this database and returns what the server shows of it in this column.
async fn shown(database: &Database, url: &str, column: &str) -> String {
    let connection = address(url).connect().await.unwrap_or_else(|error| panic!("{url}: {error}"));
    // Earlier connections may not have ended yet.
    let shown = database.psql(&format!(
        "SELECT {column} FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
         WHERE datname = current_database() AND application_name = 'talktrack' ORDER BY backend_start DESC LIMIT 1"
    ));
    drop(connection);
    shown
}

/// True if a new connection to this URL is encrypted.
async fn is_encrypted(database: &Database, url: &str) -> bool {
    shown(database, url, "ssl").await == "t"
}

/// Returns a URL that names the server by a host name that is not in its certificate.
fn by_another_name(database: &Database) -> String {
    format!("{}?hostaddr=127.0.0.1", database.url().replace("127.0.0.1", "db.example.org"))
}

/// Adds the parameters for TLS to the URL. The path of the certificate file may contain any character.
fn with_tls(url: &str, mode: &str, certificates: &Path) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    let file = utf8_percent_encode(certificates.to_str().unwrap(), NON_ALPHANUMERIC);
    format!("{url}{sign}sslmode={mode}&sslrootcert={file}")
}

#[tokio::test]
async fn connections_are_encrypted_unless_the_mode_says_otherwise() {
    let database = Postgres::shared().database();
    let url = database.url();
    assert!(is_encrypted(&database, &url).await, "where no mode is given");
    for (mode, encrypted) in [("disable", false), ("allow", true), ("prefer", true), ("require", true)] {
        assert_eq!(is_encrypted(&database, &format!("{url}?sslmode={mode}")).await, encrypted, "{mode}");
    }
}

#[tokio::test]
async fn a_server_with_the_right_certificate_is_trusted() {
    let postgres = Postgres::shared();
    let database = Postgres::shared().database();
    let url = database.url();
    let ca = postgres.ca_file();
    for mode in ["require", "verify-ca", "verify-full"] {
        assert!(is_encrypted(&database, &with_tls(&url, mode, ca)).await, "{mode}");
        assert!(
            is_encrypted(&database, &with_tls(&url.replace("127.0.0.1", "localhost"), mode, ca)).await,
            "{mode}"
        );
    }
    let by_another_name = by_another_name(&database);
    for mode in ["require", "verify-ca"] {
        assert!(
            is_encrypted(&database, &with_tls(&by_another_name, mode, ca)).await,
            "{mode} asks for no name"
        );
    }
}

/// Checks that nothing is sent to the server, and that health reports these words about its certificate.
async fn mistrusts(url: &str, words: &str) {
    let node = Node::at(url);
    node.start(SESSION).await;
    let said = node.complains_of("certificate").await;
    assert!(said.contains(words), "{url}: {said}");
}

#[tokio::test]
async fn a_server_that_somebody_else_vouches_for_is_not_trusted() {
    let postgres = Postgres::shared();
    let database = migrated().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        mistrusts(&with_tls(&database.url(), mode, postgres.other_ca_file()), "UnknownIssuer").await;
    }
    assert_eq!(database.psql("SELECT count(*) FROM conversation_sessions"), "0");
}

#[tokio::test]
async fn a_server_of_another_name_is_not_trusted_where_the_name_counts() {
    let postgres = Postgres::shared();
    let database = migrated().await;
    let url = with_tls(&by_another_name(&database), "verify-full", postgres.ca_file());
    mistrusts(&url, "not valid for name \"db.example.org\"").await;
    assert_eq!(database.psql("SELECT count(*) FROM conversation_sessions"), "0");
}

#[test]
fn certificates_that_cannot_be_read_are_named_at_once() {
    let address = address("postgres://u:secret@127.0.0.1/db?sslmode=verify-ca&sslrootcert=/not/there.pem");
    let error = PostgresStore::new(&address).err().expect("there is no such file").to_string();
    assert!(error.contains("cannot read the certificates in sslrootcert /not/there.pem"), "{error}");
}

#[tokio::test]
async fn a_user_with_a_password_is_let_in_by_either_name_of_the_scheme() {
    let database = Postgres::shared().database();
    let url = database.url_as(&format!("keyed:{KEYED_PASSWORD}"));
    for url in [url.clone(), url.replace("postgres://", "postgresql://")] {
        assert_eq!(shown(&database, &url, "usename").await, "keyed");
    }
}

#[tokio::test]
async fn special_characters_of_a_password_may_be_percent_encoded() {
    let postgres = Postgres::start();
    let password = "p@ss/w:r?d #%+&=ü[]";
    postgres.psql("postgres", &format!("ALTER ROLE keyed PASSWORD '{password}'"));
    let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC);
    let database = postgres.database();
    let url = database.url_as(&format!("keyed:{encoded}"));
    for url in [url.clone(), format!("{url}?sslmode=require")] {
        assert_eq!(shown(&database, &url, "usename").await, "keyed");
    }
}

#[tokio::test]
async fn the_strings_that_supabase_prints_are_taken_as_they_are() {
    let database = migrated().await;
    database.psql("CREATE ROLE \"postgres.abcdefghijklmnopqrst\" LOGIN BYPASSRLS");
    let url =
        database.url_as("postgres.abcdefghijklmnopqrst:anything").replace("postgres://", "postgresql://");
    assert_eq!(shown(&database, &url, "usename").await, "postgres.abcdefghijklmnopqrst");

    let pooled = format!("{}?pgbouncer=true&connection_limit=1", PgBouncer::shared().url(&database));
    let node = Node::at(&pooled);
    node.start(SESSION).await;
    node.say(SESSION, "through the pooler").await;
    node.settled().await;
    assert_eq!(node.contents(SESSION).await, ["through the pooler"]);

    let printed = "postgresql://postgres.abcdefghijklmnopqrst:secret@aws-0-eu-central-1.pooler.supabase.com:6543/postgres";
    let address = address(printed);
    assert_eq!(address.user(), "postgres.abcdefghijklmnopqrst");
    assert_eq!(address.to_string(), "postgres://aws-0-eu-central-1.pooler.supabase.com:6543/postgres");
}

fn refused(url: &str) -> String {
    match url.parse::<Address>() {
        Ok(address) => panic!("{url} is taken for {address}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_placeholder_that_was_left_in_is_named() {
    let printed = "postgresql://postgres:[YOUR-PASSWORD]@db.abcdefghijklmnopqrst.supabase.co:5432/postgres";
    assert_eq!(
        refused(printed),
        "still holds the placeholder [YOUR-PASSWORD]; put the database password there"
    );
}

#[test]
fn strings_that_cannot_be_used_are_explained_without_the_password() {
    for (url, reason) in [
        ("", "it names no host"),
        ("postgres:///db", "it names no host"),
        (
            "https://abcdefghijklmnopqrst.supabase.co",
            "it should look like postgres://USER:PASSWORD@HOST:5432/DATABASE",
        ),
        ("postgres://u:secret@h:port/db", "invalid value for option `port`"),
        ("postgres://u:secret@h/db?schema=tenant", "the parameter schema names another schema than public"),
        ("postgres://u:secret@h/db?sslmode=sometimes", "an sslmode that is none of disable, prefer, require"),
        ("postgres://u:p@secret@h/db", "more than one @"),
        (
            "postgres://u:p?secret@h/db?sslmode=sometimes",
            "an sslmode that is none of disable, prefer, require",
        ),
    ] {
        let error = refused(url);
        assert!(error.contains(reason) && !error.contains("secret"), "{url}: {error}");
    }
}

#[test]
fn an_address_never_shows_the_password() {
    for url in
        ["postgres://u:secret@h1:1,h2:2/db?sslmode=verify-full", "host=h user=u password=secret dbname=db"]
    {
        let address = address(url);
        for shown in [address.to_string(), format!("{address:?}"), format!("{address:#?}")] {
            assert!(shown.ends_with("/db") && !shown.contains("secret"), "{shown}");
        }
    }
}

/// Starts a cluster without TLS, and a proxy on an address of this machine that is not a loopback
/// address. Returns `None`, and records the skip, if the machine has no such address.
fn over_a_network() -> Option<(Postgres, Proxy)> {
    let route = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // Connecting a UDP socket sends nothing. It only makes the system choose the source address.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Some(address) = route.ok().map(|route| route.ip()).filter(|address| !address.is_loopback()) else {
        skip::missing("a password over a network", "this machine has only loopback addresses");
        return None;
    };
    let mut cluster = Postgres::start();
    cluster.stop();
    cluster.start_with("ssl = off");
    let listener = TcpListener::bind((address, 0)).unwrap();
    let proxy = Proxy::behind(listener, cluster.port());
    Some((cluster, proxy))
}

/// Without a parameter the mode is `sslmode=prefer`, and most URLs have none. A machine that takes the
/// place of the server could then simply ask for the password in clear text.
#[tokio::test]
async fn a_password_is_never_sent_in_the_clear_to_another_machine() {
    let Some((cluster, proxy)) = over_a_network() else { return };
    let database = cluster.database();
    let user = |name: &str| database.url_of(&format!("{name}:{KEYED_PASSWORD}"), proxy.address());
    let asked = user("asked_in_the_clear");
    for url in [asked.clone(), format!("{asked}?sslmode=prefer"), format!("{asked}?sslmode=allow")] {
        let error = address(&url).connect().await.err().unwrap();
        let told = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        assert!(told.contains("the password was not sent"), "{url}: {told}");
    }
    let store = PostgresStore::new(&address(&asked)).unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Systemic);
    assert!(error.message.contains("scram-sha-256"), "{}", error.message);
    // SCRAM proves the password without sending it, and `sslmode=disable` is an explicit decision.
    assert!(!is_encrypted(&database, &user("keyed")).await);
    assert!(!is_encrypted(&database, &format!("{asked}?sslmode=disable")).await);
    // Over the loopback interface no other machine can read the password.
    assert!(
        !is_encrypted(&database, &database.url_as(&format!("asked_in_the_clear:{KEYED_PASSWORD}"))).await
    );
    drop(store);
}

/// Without TLS the connection is opened here and not by the driver.
#[tokio::test]
async fn a_server_without_tls_is_asked_whether_it_allows_writes_too() {
    let Some((cluster, proxy)) = over_a_network() else { return };
    let database = cluster.database();
    let url = database.url_of(&format!("keyed:{KEYED_PASSWORD}"), proxy.address());
    let read_only = "options=-c%20default_transaction_read_only%3Don";
    for (parameters, is_taken) in [
        ("target_session_attrs=primary".to_owned(), true),
        ("target_session_attrs=standby".to_owned(), false),
        (format!("target_session_attrs=read-only&{read_only}"), true),
    ] {
        let connected = address(&format!("{url}?{parameters}")).connect().await;
        assert_eq!(connected.is_ok(), is_taken, "{parameters}");
    }
}

#[tokio::test]
async fn a_store_that_is_not_encrypted_and_asks_by_scram_takes_messages_over_a_network() {
    let Some((cluster, proxy)) = over_a_network() else { return };
    let database = cluster.database();
    crate::postgres::migrate(&database).await;
    let store = PostgresStore::new(&address(&database.url_of("talktrack", proxy.address()))).unwrap();
    let node = Node::on(&(Arc::new(store) as Arc<dyn Store>));
    node.start(SESSION).await;
    node.say(SESSION, "over the network").await;
    node.settled().await;
    assert_eq!(node.contents(SESSION).await, ["over the network"]);
}

/// Guards against a caller that drops a read and leaves its statement running, in the database or on a
/// pooled connection that then serves the next read.
#[tokio::test]
async fn questions_that_are_given_up_end_in_the_database_too() {
    let database = migrated().await;
    let store = Arc::new(PostgresStore::new(&address(&database.url())).unwrap());
    let locker = open_client(&database.url()).await;
    locker.batch_execute("BEGIN; LOCK TABLE conversation_sessions").await.unwrap();
    let ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'talktrack'";
    let waiting = format!("SELECT count(*) {ours} AND wait_event_type = 'Lock'");
    let all = format!("SELECT count(*) {ours}");
    for _ in 0..3 {
        let looks = (0..40).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(
                async move { timeout(Duration::from_millis(500), store.session(SESSION)).await.is_err() },
            )
        });
        for look in looks.collect::<Vec<_>>() {
            assert!(look.await.unwrap(), "the table is locked");
        }
        let open: usize = database.psql(&all).parse().unwrap();
        assert!(open <= 8, "{open} connections: more than the pool for readers has");
    }
    // The lock is still held. The dropped statements must end nevertheless, well before their timeout.
    let answer = timeout(Duration::from_secs(15), store.last_said_at(SESSION)).await;
    assert_eq!(answer.expect("a question about another table is answered").unwrap(), None);
    let gone = async {
        while database.psql(&waiting) != "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(15), gone).await.expect("no statement waits for the lock");
    drop(locker);
}
