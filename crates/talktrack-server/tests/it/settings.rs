//! Settings: their sources, their precedence, and the errors for invalid values.

use crate::harness::{Client, Home, Output, Server};

/// Asserts that the server does not start, prints one line and exits with 2. Returns the line.
async fn refuses_to_start(home: &Home, flags: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = home.server_command(flags);
    command.envs(environment.iter().copied());
    let line = Output::of(command).await.failed(2);
    assert!(!home.data_dir().join("talktrack.db").exists(), "nothing is made before the settings are known");
    line
}

#[tokio::test]
async fn a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default() {
    let home = Home::new();
    home.settings("max_connections = 1\ngrace_period = \"5s\"\nlog_level = \"off\"\n");
    let allowed = async |environment: &[(&str, &str)], flags: &[&str]| {
        let mut command = home.server_command(flags);
        command.envs(environment.iter().copied());
        let server = Server::start(&home, command).await;
        let mut clients = Vec::new();
        while let Some(client) =
            Client::try_open(&server, "user_id=00000000-0000-4000-8000-000000000001").await
        {
            clients.push(client);
        }
        server.stop().await;
        clients.len()
    };
    assert_eq!(allowed(&[], &[]).await, 1);
    assert_eq!(allowed(&[("TALKTRACK_MAX_CONNECTIONS", "2")], &[]).await, 2);
    assert_eq!(allowed(&[("TALKTRACK_MAX_CONNECTIONS", "2")], &["--max-connections", "3"]).await, 3);
}

#[tokio::test]
async fn a_file_can_be_named_and_must_then_be_there() {
    let home = Home::new();
    let file = home.write("other.toml", "max_message_bytes = 10\n");
    let server = home.serve(&["--config", &file]).await;
    let mut client = Client::new(&server).await;
    client.send(crate::harness::user("eleven byte", 1)).await;
    client.refused("too_large", 1).await;
    server.stop().await;
    let mut command = home.server_command(&[]);
    command.env("TALKTRACK_CONFIG", "missing.toml");
    let line = Output::of(command).await.failed(2);
    assert!(line.contains("missing.toml"), "{line}");
    let line = Output::of(home.server_command(&["--config", "missing.toml"])).await.failed(2);
    assert!(line.contains("missing.toml"), "{line}");
}

#[tokio::test]
async fn everything_else_works_from_the_environment_alone() {
    let home = Home::new();
    let mut command = home.command(&["serve"]);
    let data_dir = home.data_dir();
    command.env("TALKTRACK_LISTEN", "127.0.0.1:0").env("TALKTRACK_DATA_DIR", &data_dir);
    let server = Server::start(&home, command).await;
    Client::new(&server).await.say("hello").await;
    assert!(data_dir.join("talktrack.db").exists());
}

#[tokio::test]
async fn the_database_may_lie_elsewhere_and_every_command_finds_it() {
    let home = Home::new();
    std::fs::create_dir(home.path("elsewhere")).unwrap();
    let url = format!("sqlite://{}", home.path("elsewhere/t.db").display());
    let mut command = home.server_command(&[]);
    command.env("DATABASE_URL", &url);
    let server = Server::start(&home, command).await;
    let mut client = Client::new(&server).await;
    client.say("kept elsewhere").await;
    assert!(home.path("elsewhere/t.db").exists() && !home.data_dir().join("talktrack.db").exists());
    let session = client.session.to_string();
    let shown = home.run(&["show", &session, "--database-url", &url]).await.succeeded();
    assert!(shown.stdout.contains("kept elsewhere"));
    home.run(&["verify", "--database-url", &url]).await.succeeded();
}

#[tokio::test]
async fn an_unknown_setting_stops_the_start_wherever_it_stands() {
    let home = Home::new();
    let line = refuses_to_start(&home, &[], &[("TALKTRACK_LISTN", "x")]).await;
    assert!(line.contains("TALKTRACK_LISTN"), "{line}");
    let line = refuses_to_start(&home, &["--lissten", "127.0.0.1:0"], &[]).await;
    assert!(line.contains("--lissten"), "{line}");
    home.settings("queue_capacitty = 5\n");
    let line = refuses_to_start(&home, &[], &[]).await;
    assert!(line.contains("queue_capacitty") && line.contains("talktrack.toml"), "{line}");
    home.settings("[server]\nlisten = \"127.0.0.1:0\"\n");
    let line = refuses_to_start(&home, &[], &[]).await;
    assert!(line.contains("server") && line.contains("talktrack.toml"), "{line}");
    home.settings("this is no = = toml\n");
    let line = refuses_to_start(&home, &[], &[]).await;
    assert!(line.contains("talktrack.toml") && line.contains("line 1"), "{line}");
}

#[tokio::test]
async fn a_bad_setting_is_named_with_its_origin() {
    let home = Home::new();
    for (key, value) in [
        ("listen", "8080"),
        ("listen", "127.0.0.1:99999"),
        ("queue_capacity", "0"),
        ("queue_capacity", "-1"),
        ("queue_bytes", "lots"),
        ("journal_max_bytes", "1 parsec"),
        ("grace_period", "60"),
        ("idle_timeout", "-5s"),
        ("max_message_bytes", "0"),
        ("max_message_bytes", "2MiB"),
        ("max_connections", "many"),
        ("ping_interval", ""),
        ("peer_timeout", "1ms"),
        ("shutdown_deadline", "soon"),
        ("log_format", "xml"),
        ("log_level", "loud"),
    ] {
        let flag = format!("--{}={value}", key.replace('_', "-"));
        // `server_command` already passes --listen, and a flag may appear only once, so this setting is tested through
        // the environment only.
        if key != "listen" {
            let line = refuses_to_start(&home, &[&flag], &[]).await;
            let name = flag.split('=').next().unwrap();
            assert!(line.contains(&format!("{key}: ")) && line.contains(name), "{line}");
        }
        let variable = format!("TALKTRACK_{}", key.to_uppercase());
        let mut command = home.command(&["serve"]);
        command.env(&variable, value);
        let line = Output::of(command).await.failed(2);
        assert!(line.contains(&format!("{key}: ")) && line.contains(&variable), "{line}");
    }
}

#[tokio::test]
async fn only_loopback_addresses_are_listened_on() {
    let home = Home::new();
    for address in ["0.0.0.0:0", "192.0.2.1:8080", "[::]:0"] {
        let line = Output::of(home.command(&["serve", "--listen", address])).await.failed(2);
        assert!(
            line.contains("listen: ") && line.contains("loopback") && line.contains("authentication"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Output::of(home.command(&["serve", "--listen", &address])).await;
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(output.stderr.contains(&address), "{output:?}");
}

#[tokio::test]
async fn a_secret_is_never_shown() {
    let home = Home::new();
    for url in ["postgres://me:hunter2@db.example:port/x", "mysql://me:hunter2@db.example/x", "hunter2"] {
        let line = refuses_to_start(&home, &[], &[("DATABASE_URL", url)]).await;
        assert!(line.contains("database_url: ") && line.contains("DATABASE_URL"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
        let line = refuses_to_start(&home, &["--database-url", url], &[]).await;
        assert!(!line.contains("hunter2"), "{line}");
    }
    home.settings("database_url = \"postgres://me:hunter2@db.example:port/x\"\n");
    let line = refuses_to_start(&home, &[], &[]).await;
    assert!(line.contains("database_url: ") && !line.contains("hunter2"), "{line}");
    home.settings("database_url = \"postgres://me:hunter2@db.example/x\n");
    let line = refuses_to_start(&home, &[], &[]).await;
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn port_0_picks_a_free_one_and_tells_which() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    assert_ne!(server.address.port(), 0);
    let listen = std::fs::read_to_string(home.data_dir().join("listen")).unwrap();
    assert_eq!(listen.trim(), server.address.to_string());
    server.logged(&server.address.to_string()).await;
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_made_is_named() {
    let home = Home::new();
    let file = home.write("occupied", "a file, not a directory");
    let output = home.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &format!("{file}/data")]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("occupied/data"), "{output:?}");
}

/// Another user who can write into the working directory could otherwise change the settings of a server that is
/// started there.
#[tokio::test]
async fn a_settings_file_in_the_working_directory_is_not_read() {
    let home = Home::new();
    home.write("talktrack.toml", "this is no = = toml\n");
    let server = home.serve(&[]).await;
    server.stop().await;
    home.settings("grace_period = \"never\"\n");
    let mut command = home.command(&["serve"]);
    command.env("TALKTRACK_DATA_DIR", home.data_dir());
    let line = Output::of(command).await.failed(2);
    assert!(line.contains("grace_period") && line.contains("data/talktrack.toml"), "{line}");
}

#[tokio::test]
async fn no_file_says_where_the_data_are() {
    let home = Home::new();
    let file = home.write("other.toml", "data_dir = \"elsewhere\"\n");
    let line = refuses_to_start(&home, &["--config", &file], &[]).await;
    assert!(
        line.starts_with("talktrack: data_dir: cannot be set in a file; name it with --data-dir"),
        "{line}"
    );
}

/// Kubernetes sets the first of these in every container if a service is called `talktrack`; clients and tests use the
/// others.
#[tokio::test]
async fn variables_of_others_are_no_settings_and_no_mistakes() {
    let home = Home::new();
    let mut command = home.server_command(&[]);
    for (name, value) in [
        ("TALKTRACK_PORT", "tcp://10.0.0.7:8080"),
        ("TALKTRACK_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
        ("TALKTRACK_PORT_8080_TCP_ADDR", "10.0.0.7"),
        ("TALKTRACK_PORT_8080_TCP_PROTO", "tcp"),
        ("TALKTRACK_SERVICE_HOST", "10.0.0.7"),
        ("TALKTRACK_URL", "http://127.0.0.1:8080"),
        ("TALKTRACK_TOKEN", "tt_"),
        ("TALKTRACK_SEED", "7"),
    ] {
        command.env(name, value);
    }
    Server::start(&home, command).await.stop().await;
    let line = refuses_to_start(&Home::new(), &[], &[("TALKTRACK_QUEUE_BYTES", "tcp://10.0.0.7:80")]).await;
    assert!(line.contains("queue_bytes: must be a size"), "{line}");
}
