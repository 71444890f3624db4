//! The data directory and its files are deleted, replaced or shared while a server runs or before it starts. Everything
//! acknowledged must be in the file that the next start opens.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use talktrack_testbed::{Postgres, skip};

use crate::harness::remote::migrated;
use crate::harness::{Client, Home, Output, Server, user};

/// A change of the data directory of a running server.
#[derive(Debug, Clone, Copy)]
enum Harm {
    DirectoryDeleted,
    DirectoryReplaced,
    DatabaseDeleted,
    DatabaseReplaced,
    LogDeleted,
    LogIndexDeleted,
    LockDeleted,
    LockReplaced,
}

const HARMS: [Harm; 8] = [
    Harm::DirectoryDeleted,
    Harm::DirectoryReplaced,
    Harm::DatabaseDeleted,
    Harm::DatabaseReplaced,
    Harm::LogDeleted,
    Harm::LogIndexDeleted,
    Harm::LockDeleted,
    Harm::LockReplaced,
];

/// Deletes a directory in which the server may create a file meanwhile.
fn delete_in_use(dir: &Path) {
    while let Err(error) = fs::remove_dir_all(dir) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
}

impl Harm {
    fn do_to(self, data_dir: &Path) {
        let at = |name: &str| data_dir.join(name);
        match self {
            Self::DirectoryDeleted => delete_in_use(data_dir),
            Self::DirectoryReplaced => {
                fs::rename(data_dir, data_dir.with_extension("moved")).unwrap();
                fs::create_dir(data_dir).unwrap();
            }
            Self::DatabaseDeleted => fs::remove_file(at("talktrack.db")).unwrap(),
            Self::DatabaseReplaced => replace(&at("talktrack.db")),
            Self::LogDeleted => fs::remove_file(at("talktrack.db-wal")).unwrap(),
            Self::LogIndexDeleted => fs::remove_file(at("talktrack.db-shm")).unwrap(),
            Self::LockDeleted => fs::remove_file(at("LOCK")).unwrap(),
            Self::LockReplaced => replace(&at("LOCK")),
        }
    }
}

/// Replaces a file by a copy of the same name, as an editor, the restore of a backup or a deployment does.
fn replace(path: &Path) {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    fs::rename(copy, path).unwrap();
}

/// Asserts that a message is refused, and returns the text of the error.
async fn is_refused(client: &mut Client) -> String {
    client.send(user("after the harm", "after")).await;
    let answer: Value = client.receive().await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("journal_full")), "{answer}");
    answer["message"].as_str().unwrap().to_owned()
}

async fn harmed(home: &Home, flags: &[&str], harm: Harm) {
    let mut server = home.serve(flags).await;
    let mut client = Client::new(&server).await;
    client.say("before").await;
    harm.do_to(&home.data_dir());
    let told = server.readiness(503).await;
    assert!(told.contains("while talktrack runs: nothing is acknowledged any more"), "{harm:?}: {told}");
    let words = is_refused(&mut client).await;
    assert!(words.contains("was deleted or replaced"), "{harm:?}: {words}");
    server.logged("❌ Failed to save message: the ").await;
    server.signal(nix::sys::signal::Signal::SIGKILL);
    server.ended().await;
    // The next server starts with the files that are there.
    let server = home.serve(flags).await;
    let mut client = Client::new(&server).await;
    client.say("after the restart").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_once_the_file_that_is_written_has_lost_its_name() {
    for harm in HARMS {
        harmed(&Home::new(), &[], harm).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_has_lost_its_name_acknowledges_nothing_either() {
    let database = migrated(Postgres::shared()).await;
    for harm in HARMS {
        harmed(&Home::new(), &["--database-url", &database.url()], harm).await;
    }
}

/// The next start must find everything acknowledged in the directory that was moved back, including messages from the
/// moment of the move.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_put_back_goes_on_and_has_everything_that_was_acknowledged() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let away = home.path("away");
    for number in 0..200 {
        client.send(user(&format!("message {number}"), number)).await;
    }
    fs::rename(home.data_dir(), &away).unwrap();
    let mut acknowledged = 0;
    while acknowledged < 200 {
        let frame = client.receive().await;
        match frame["type"].as_str().unwrap() {
            "ack" => acknowledged += frame["acks"].as_array().unwrap().len(),
            _ => break,
        }
        if server.get("/readyz").await.status == 503 {
            break;
        }
    }
    server.readiness(503).await;
    fs::rename(&away, home.data_dir()).unwrap();
    server.kill().await;
    let rows = home.database().messages(client.session).len();
    assert!(rows >= acknowledged, "{acknowledged} acknowledged, {rows} there");
    let server = home.serve(&[]).await;
    server.readiness(200).await;
    server.stop().await;
}

async fn refuses_to_start(home: &Home, why: &str) {
    let line = Output::of(home.server_command(&[])).await.failed(1);
    assert!(line.contains(why), "{line}");
}

#[tokio::test]
async fn two_directories_with_one_file_are_refused() {
    let home = Home::new();
    let other = Home::new();
    let server = home.serve(&[]).await;
    fs::create_dir(other.data_dir()).unwrap();
    let theirs = other.data_dir().join("talktrack.db");
    fs::hard_link(home.data_dir().join("talktrack.db"), &theirs).unwrap();
    refuses_to_start(&other, "has 2 names (hard links)").await;
    Client::new(&server).await.say("the first one goes on").await;
    server.stop().await;
    refuses_to_start(&home, "has 2 names (hard links)").await;
    fs::remove_file(theirs).unwrap();
    home.serve(&[]).await.stop().await;
}

#[tokio::test]
async fn a_link_into_the_directory_of_another_server_is_refused() {
    let home = Home::new();
    let other = Home::new();
    let server = home.serve(&[]).await;
    fs::create_dir(other.data_dir()).unwrap();
    let link = other.data_dir().join("talktrack.db");
    std::os::unix::fs::symlink(home.data_dir().join("talktrack.db"), link).unwrap();
    refuses_to_start(&other, "is in use by process").await;
    server.stop().await;
}

/// As `docker run -v ./talktrack.db:/data/talktrack.db` does.
#[tokio::test]
async fn a_database_file_that_is_mounted_by_itself_is_refused() {
    let home = Home::new();
    home.serve(&[]).await.stop().await;
    let file = home.data_dir().join("talktrack.db");
    let outside = home.path("outside.db");
    fs::rename(&file, &outside).unwrap();
    fs::write(&file, "").unwrap();
    let script = format!(
        "mount --bind {} {} && exec \"$0\" serve --listen 127.0.0.1:0 --data-dir {}",
        shown(&outside),
        shown(&file),
        shown(&home.data_dir())
    );
    let binary = env!("CARGO_BIN_EXE_talktrack");
    let unshared =
        tokio::process::Command::new("unshare").args(["--mount", "--map-root-user", "true"]).status().await;
    if !unshared.is_ok_and(|status| status.success()) {
        skip::missing("a file that is mounted by itself", "unshare cannot make mounts here");
        return;
    }
    let mut command = tokio::process::Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", &script, binary]).kill_on_drop(true);
    let line = Output::of(command).await.failed(1);
    assert!(line.contains("is mounted by itself"), "{line}");
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Returns every file and directory below this one that the group or other users can access.
fn open_to_others(dir: &Path) -> Vec<(PathBuf, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut open = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.mode() & 0o077 != 0 {
            open.push((path.clone(), found.mode() & 0o777));
        }
        if found.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    open
}

async fn serve_with_umask(home: &Home, umask: &str, flags: &[&str]) -> Server {
    let inner = home.server_command(flags);
    let inner = inner.as_std();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(inner.get_program());
    command.args(inner.get_args()).env_clear().current_dir(home.path("."));
    Server::start(home, command).await
}

#[tokio::test]
async fn no_file_of_a_server_is_for_other_users_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    for umask in ["0", "022"] {
        let home = Home::new();
        let log = home.path("talktrack.log");
        let flags = ["--log-file", log.to_str().unwrap()];
        // Permissions as an earlier version has left them.
        fs::create_dir_all(home.data_dir().join("audio/of-a-session")).unwrap();
        for (name, mode) in [
            ("LOCK", 0o644),
            ("audio/of-a-session/one.wav", 0o644),
            ("audio/of-a-session", 0o755),
            ("audio", 0o755),
        ] {
            let path = home.data_dir().join(name);
            if !path.is_dir() {
                fs::write(&path, "").unwrap();
            }
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(&log, "").unwrap();
        for path in [home.data_dir(), log.clone()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let server = serve_with_umask(&home, umask, &flags).await;
        let mut client = Client::new(&server).await;
        client.say("for its owner alone").await;
        let path = format!("/v1/sessions/{}/audio", client.session);
        let kept = server.request("POST", path).body("audio/wav", "RIFF....WAVEfmt ").send().await;
        assert_eq!(kept.status, 201, "{kept:?}");
        for made in
            ["talktrack.db", "talktrack.db-wal", "talktrack-search.db", "talktrack-stats.db", "control"]
        {
            let path = home.data_dir().join(made);
            crate::harness::until("the file is there", || path.exists().then_some(())).await;
        }
        assert_eq!(open_to_others(&home.data_dir()), [], "umask {umask}");
        assert_eq!(open_to_others(&log), [], "umask {umask}");
        let export = home.path("export.jsonl");
        home.look(&["export", "--output", export.to_str().unwrap()]).await.succeeded();
        assert_eq!(open_to_others(&export), [], "umask {umask}");
        server.stop().await;
        assert_eq!(open_to_others(&home.data_dir()), [], "umask {umask}");
    }
}
