//! Connection strings in every form that clients, hosting services and deployments write, each tried with a real
//! server.

use std::os::unix::fs::symlink;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use talktrack::store::ErrorClass;
use talktrack::store::Store;
use talktrack::store::postgres::{Address, PostgresStore};
use talktrack_testbed::{Database, KEYED_PASSWORD, Postgres};

use crate::postgres::address;

/// Connects, and returns this expression of the connection's row in pg_stat_activity.
async fn shown_as(database: &Database, url: &str, application: &str, column: &str) -> String {
    let connection =
        address(url).connect().await.unwrap_or_else(|error| panic!("{url}: {}", in_full(&error)));
    let shown = database.psql(&format!(
        "SELECT {column} FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
         WHERE datname = current_database() AND application_name = '{application}' ORDER BY backend_start DESC LIMIT 1"
    ));
    drop(connection);
    shown
}

async fn shown(database: &Database, url: &str, column: &str) -> String {
    shown_as(database, url, "talktrack", column).await
}

/// Connects, and checks that no parameter is without effect.
async fn connects(database: &Database, url: &str) {
    assert_eq!(address(url).warnings(), [] as [String; 0], "{url}");
    assert_eq!(shown(database, url, "usename").await, "talktrack", "{url}");
}

fn in_full(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", in_full(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

/// Returns why no connection can be opened.
async fn fails(url: &str) -> String {
    let error = address(url).connect().await.err().unwrap_or_else(|| panic!("{url} works"));
    in_full(&error)
}

fn refused(url: &str) -> String {
    url.parse::<Address>().err().unwrap_or_else(|| panic!("{url} is taken")).to_string()
}

fn encoded(path: &Path) -> String {
    utf8_percent_encode(path.to_str().unwrap(), NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn the_urls_of_other_clients_are_taken_as_they_are() {
    let database = Postgres::shared().database();
    let url = database.url();
    for parameters in [
        "schema=public",
        "sslmode=no-verify",
        "gssencmode=disable",
        "gssencmode=prefer&krbsrvname=",
        "client_encoding=utf8",
        "client_encoding=UTF-8&connect_timeout=10&schema=public&pgbouncer=true&connection_limit=5",
        "target_session_attrs=any",
        "target_session_attrs=read-write",
        "target_session_attrs=primary&load_balance_hosts=random",
        "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=30000",
        "sslcert=&sslkey=&sslcrl=&require_auth=",
        "sslcertmode=allow&sslsni=1&sslcompression=0&sslnegotiation=postgres&channel_binding=prefer",
        "sslmode=require&ssl_min_protocol_version=TLSv1.2&ssl_max_protocol_version=TLSv1.3",
        "currentSchema=public&ApplicationName=talktrack",
        "search_path=public&options=-csearch_path%3Dpublic%2Cextensions",
        " sslmode = require & connect_timeout = 5 ",
        "SSLMODE=REQUIRE",
        "uselibpqcompat=true&sslmode=require",
    ] {
        connects(&database, &format!("{url}?{parameters}")).await;
    }
    for scheme in ["postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "postgres+pg8000", "PostgreSQL"]
    {
        connects(&database, &url.replace("postgres", scheme)).await;
    }
    for wrapped in [format!("{url}\n"), format!("  {url} \r\n"), format!("\"{url}\""), format!("'{url}'\n")] {
        connects(&database, &wrapped).await;
    }
}

#[tokio::test]
async fn pairs_of_libpq_are_taken_too() {
    let database = Postgres::shared().database();
    let port = Postgres::shared().port();
    let name = database.name();
    for pairs in [
        format!("host=127.0.0.1 port={port} user=talktrack dbname={name}"),
        format!("  dbname = '{name}'   host = '127.0.0.1' port='{port}'  user= talktrack password=''\n"),
        format!("user=talktrack host=localhost hostaddr=127.0.0.1 port={port} dbname={name} sslmode=require"),
        format!(
            "hostaddr=127.0.0.1 port={port} user=talk\\track dbname={name} options='-c jit=off' connect_timeout=3"
        ),
        format!("port={port} host=127.0.0.1,127.0.0.1 user=talktrack dbname={name} sslmode=disable"),
    ] {
        connects(&database, &pairs).await;
    }
    let keyed = format!("host=127.0.0.1 port={port} user=keyed password='{KEYED_PASSWORD}' dbname={name}");
    assert_eq!(shown(&database, &keyed, "usename").await, "keyed");
}

#[tokio::test]
async fn a_socket_is_named_in_every_way() {
    let database = Postgres::shared().database();
    let port = Postgres::shared().port();
    let name = database.name();
    let socket = Postgres::shared().socket_dir();
    // As on Cloud Run.
    let dir = tempfile::tempdir().unwrap();
    let cloud_sql = dir.path().join("project:europe-west1:db");
    symlink(socket, &cloud_sql).unwrap();
    let cloud_sql = cloud_sql.to_str().unwrap();
    for url in [
        format!("postgres://talktrack@/{name}?host={cloud_sql}&port={port}"),
        format!("postgresql://talktrack:secret@localhost:{port}/{name}?host={cloud_sql}"),
        format!("postgresql+pg8000://talktrack@/{name}?unix_sock={cloud_sql}/.s.PGSQL.{port}"),
        format!("postgres://talktrack@/{name}?host={cloud_sql}/.s.PGSQL.{port}&sslmode=verify-full"),
        format!("postgres://talktrack@{}:{port}/{name}?sslmode=require", encoded(socket)),
        format!("postgres:///{name}?user=talktrack&host={}&port={port}", encoded(socket)),
        format!("host={cloud_sql} port={port} user=talktrack dbname={name}"),
    ] {
        assert_eq!(shown(&database, &url, "client_addr IS NULL").await, "t", "{url}");
        assert_eq!(address(&url).warnings(), [] as [String; 0], "{url}");
    }
}

#[tokio::test]
async fn of_several_hosts_the_first_that_fits_is_taken() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let port = postgres.port();
    let name = database.name();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    for url in [
        format!("postgres://talktrack@127.0.0.1:{closed},127.0.0.1:{port}/{name}"),
        format!("postgresql+psycopg://talktrack@/{name}?host=127.0.0.1:{closed}&host=127.0.0.1:{port}"),
        format!("postgres://talktrack@/{name}?host=127.0.0.1,localhost&port={closed},{port}&sslmode=require"),
        format!(
            "host=127.0.0.1,127.0.0.1 port={closed},{port} user=talktrack dbname={name} load_balance_hosts=random"
        ),
    ] {
        connects(&database, &url).await;
    }

    let standby = postgres.standby();
    let both = format!("postgres://talktrack@127.0.0.1:{},127.0.0.1:{port}/postgres", standby.port());
    let taken = async |attributes: &str| {
        let url = format!("{both}?target_session_attrs={attributes}&application_name={attributes}");
        let connection = address(&url).connect().await.unwrap();
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{attributes}'");
        let primary = postgres.psql("postgres", &count) == "1";
        drop(connection);
        primary
    };
    for (attributes, is_primary) in
        [("read-write", true), ("primary", true), ("any", false), ("read-only", false), ("standby", false)]
    {
        assert_eq!(taken(attributes).await, is_primary, "{attributes}");
    }
    let standby_only =
        format!("postgres://talktrack@127.0.0.1:{}/postgres?target_session_attrs=read-write", standby.port());
    assert!(fails(&standby_only).await.contains("does not allow writes"));
}

#[tokio::test]
async fn options_and_the_application_name_reach_the_server() {
    let database = Postgres::shared().database();
    let url = database.url();
    let named = format!("{url}?application_name=my%20agent&fallback_application_name=other");
    assert_eq!(shown_as(&database, &named, "my agent", "usename").await, "talktrack");
    let fallback = format!("{url}?fallback_application_name=other");
    assert_eq!(shown_as(&database, &fallback, "other", "usename").await, "talktrack");

    let read_only = "options=-c%20default_transaction_read_only%3Don";
    address(&format!("{url}?{read_only}&target_session_attrs=read-only")).connect().await.unwrap();
    let said = fails(&format!("{url}?{read_only}&target_session_attrs=read-write")).await;
    assert!(said.contains("does not allow writes"), "{said}");

    // No row is the cause: nothing of the batch may become a dead letter.
    let store =
        PostgresStore::new(&address(&format!("{url}?options=-c%20statement_timeout%3Dsoon"))).unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Systemic, "{error:?}");
    assert!(error.message.contains("statement_timeout"), "{error:?}");
}

#[tokio::test]
async fn a_switch_for_tls_checks_the_server_fully() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let url = database.url();
    let by_another_name = format!("{}?hostaddr=127.0.0.1", url.replace("127.0.0.1", "db.example.org"));
    let ca = encoded(postgres.ca_file());
    let other_ca = encoded(postgres.other_ca_file());
    for tls in [
        "ssl=true",
        "ssl=1",
        "ssl",
        "ssl=verify-full",
        "sslaccept=strict&sslmode=require",
        "sslmode=verify-full",
    ] {
        let trusted = format!("{tls}&sslrootcert={ca}");
        assert_eq!(shown(&database, &format!("{url}?{trusted}"), "ssl").await, "t", "{tls}");
        let said = fails(&format!("{by_another_name}&{trusted}")).await;
        assert!(said.contains("not valid for name"), "{tls}: {said}");
        for untrusted in [format!("{url}?{tls}&sslrootcert={other_ca}"), format!("{url}?{tls}")] {
            let said = fails(&untrusted).await;
            assert!(said.contains("certificate"), "{tls}: {said}");
        }
    }
    // A certificate that is named is checked, and without another mode fully.
    assert!(fails(&format!("{url}?sslrootcert={other_ca}")).await.contains("UnknownIssuer"));
    let said = fails(&format!("{url}?sslrootcert=system")).await;
    assert!(said.contains("UnknownIssuer") || said.contains("no root certificates"), "{said}");

    for (tls, is_encrypted) in
        [("ssl=false", "f"), ("ssl=prefer", "t"), ("ssl=true&sslmode=require", "t"), ("requiressl=1", "t")]
    {
        assert_eq!(shown(&database, &format!("{url}?{tls}"), "ssl").await, is_encrypted, "{tls}");
    }
    let unchecked = format!("{url}?sslmode=no-verify&sslrootcert={other_ca}");
    assert_eq!(shown(&database, &unchecked, "ssl").await, "t");
    assert!(address(&unchecked).warnings()[0].contains("sslrootcert"));
    for (bounds, version) in
        [("ssl_min_protocol_version=TLSv1.3", "TLSv1.3"), ("ssl_max_protocol_version=TLSv1.2", "TLSv1.2")]
    {
        assert_eq!(shown(&database, &format!("{url}?sslmode=require&{bounds}"), "version").await, version);
    }
}

#[tokio::test]
async fn channel_binding_is_used_or_the_parameter_is_named() {
    let database = Postgres::shared().database();
    let keyed = database.url_as(&format!("keyed:{KEYED_PASSWORD}"));
    for parameters in
        ["channel_binding=require", "sslmode=require&channel_binding=require", "channel_binding=disable"]
    {
        assert_eq!(
            shown(&database, &format!("{keyed}?{parameters}"), "usename").await,
            "keyed",
            "{parameters}"
        );
    }
    // A server that asks for no password proves nothing.
    let url = format!("{}?sslmode=require&channel_binding=require", database.url());
    let error = PostgresStore::new(&address(&url)).unwrap().check().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Systemic);
    for said in [fails(&url).await, error.message] {
        assert!(said.contains("channel_binding=require") && !said.contains("authentication"), "{said}");
    }
    assert!(refused(&format!("{keyed}?sslmode=disable&channel_binding=require")).contains("channel_binding"));
}

/// A connection that the server refuses for want of encryption is no question of the password.
#[tokio::test]
async fn a_server_that_demands_tls_is_not_taken_for_a_wrong_password() {
    let postgres = Postgres::start();
    let hba = postgres.psql("postgres", "SHOW hba_file");
    let rules = "local all all trust|host all talktrack all trust|hostssl all keyed all scram-sha-256";
    postgres.psql("postgres", &format!("COPY (SELECT regexp_split_to_table('{rules}', '[|]')) TO '{hba}'"));
    postgres.psql("postgres", "SELECT pg_reload_conf()");
    let database = postgres.database();
    let keyed = database.url_as(&format!("keyed:{KEYED_PASSWORD}"));
    address(&format!("{keyed}?sslmode=require")).connect().await.unwrap();
    let store = PostgresStore::new(&address(&format!("{keyed}?sslmode=disable"))).unwrap();
    let said = store.check().await.unwrap_err().message;
    assert!(said.contains("sslmode=require") && !said.contains("password"), "{said}");
}
