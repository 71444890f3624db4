//! The pages in a real browser: Chromium, driven by playwright-core and checked by axe-core. Each test starts a server,
//! and Node runs the script of the test in `tests/browser/`. `make test` installs what the tests need; without it, they
//! print what is missing and are skipped. The screenshots are in `target/screenshots/`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use talktrack_testbed::skip;
use tokio::process::Command;
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{self, SECRET};
use crate::clients;
use crate::harness::{Home, Server};

/// A browser is slow on a busy machine. The waits in the scripts end long before.
const DEADLINE: Duration = Duration::from_secs(600);

/// Node, with the environment that names the browser.
struct Browser {
    node: Command,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the browser in `CHROMIUM`, or one in the PATH.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM").filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let named = |name: &str| places.iter().map(|place| place.join(name)).find(|program| program.is_file());
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(named)
}

impl Browser {
    /// Finds the browser and its driver. `None` if something is not installed; the test is then recorded as skipped.
    async fn installed() -> Option<Self> {
        let Some(chromium) = chromium() else {
            skip::missing(
                "the pages",
                "there is no Chromium (`make test` installs it with apt-get; CHROMIUM names one)",
            );
            return None;
        };
        let modules = root().join("target/browser");
        if !modules.join("installed").is_file() {
            skip::missing(
                "the pages",
                "playwright-core and axe-core are not installed (`make test` does it with npm)",
            );
            return None;
        }
        let mut node = clients::node().await?;
        node.env("CHROMIUM", chromium).env("BROWSER_MODULES", modules);
        node.env("SCREENSHOTS", root().join("target/screenshots")).kill_on_drop(true);
        Some(Self { node })
    }

    /// Runs a script on the server's pages and waits for its end.
    async fn visits(mut self, server: &Server, script: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
        self.node.arg(path).env("SERVER_URL", format!("http://{}", server.address));
        let Ok(output) = tokio::time::timeout(DEADLINE, self.node.output()).await else {
            panic!("{script} did not end within {DEADLINE:?}");
        };
        let output = output.unwrap();
        let told =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{script}: {told}");
    }
}

#[tokio::test]
async fn the_description_of_the_api_is_a_page_that_everybody_can_read() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    browser.visits(&server, "docs.mjs").await;
}

/// Starts a server and fills it with `talktrack demo`.
async fn filled(home: &Home, sessions: &str) -> Server {
    let server = home.serve(&["--log-level", "warn"]).await;
    let url = format!("http://{}", server.address);
    home.run(&["demo", "--url", &url, "--sessions", sessions]).await.succeeded();
    server
}

#[tokio::test]
async fn the_list_of_conversations_is_leafed_through_filtered_and_searched() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = filled(&home, "70").await;
    browser.visits(&server, "sessions.mjs").await;
}

#[tokio::test]
async fn a_conversation_is_read_heard_copied_exported_and_deleted() {
    let Some(mut browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = filled(&home, "20").await;
    let recorded =
        home.database().count("SELECT count(*) FROM conversation_messages WHERE audio_url IS NOT NULL", &[]);
    if recorded == 0 {
        skip::missing("playing a recording", "espeak-ng is not installed");
    }
    browser.node.env("RECORDED", if recorded > 0 { "yes" } else { "no" });
    browser.visits(&server, "conversation.mjs").await;
}

#[tokio::test]
async fn pages_follow_a_conversation_while_it_goes_on() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    browser.visits(&server, "live.mjs").await;
}

#[tokio::test]
async fn a_conversation_is_shown_in_the_order_of_the_server_whatever_arrives_when() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    browser.visits(&server, "order.mjs").await;
}

#[tokio::test]
async fn the_list_knows_the_readers_days_and_the_way_to_the_next_conversation_and_back() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    browser.visits(&server, "list.mjs").await;
}

#[tokio::test]
async fn pages_work_below_a_path_of_another_site() {
    let Some(mut browser) = Browser::installed().await else { return };
    let home = Home::new();
    let key = auth::new_key(&home, "dashboard", "read,write,admin").await;
    let environment = [("TALKTRACK_API_KEYS", &*key.entry), ("TALKTRACK_TRUSTED_PROXIES", "127.0.0.1")];
    let server = auth::serve_with(&home, &environment).await;
    browser.node.env("API_KEY", &key.key);
    browser.visits(&server, "below_a_path.mjs").await;
}

#[tokio::test]
async fn whatever_people_say_is_shown_as_it_is_and_does_nothing() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    browser.visits(&server, "hostile.mjs").await;
}

#[tokio::test]
async fn everything_is_reached_with_the_keyboard_and_one_sees_where_one_is() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = filled(&home, "20").await;
    browser.visits(&server, "keyboard.mjs").await;
}

#[tokio::test]
async fn who_logs_in_sees_what_the_token_allows_until_they_log_out() {
    let Some(mut browser) = Browser::installed().await else { return };
    let home = Home::new();
    let key = auth::new_key(&home, "dashboard", "read,write,admin").await;
    let server =
        auth::serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry), ("SUPABASE_JWT_SECRET", SECRET)]).await;
    let user = Uuid::new_v4();
    let token = SigningKey::secret(SECRET).token(&claims(user));
    let url = format!("http://{}", server.address);
    let id = user.to_string();
    home.run(&["demo", "--url", &url, "--token", &key.key, "--sessions", "5"]).await.succeeded();
    home.run(&["demo", "--url", &url, "--token", &token, "--user-id", &id, "--sessions", "3"])
        .await
        .succeeded();
    browser.node.envs([("API_KEY", &key.key), ("USER_TOKEN", &token), ("USER_ID", &id)]);
    browser.visits(&server, "login.mjs").await;
}

#[tokio::test]
async fn a_page_on_another_port_comes_to_nothing_with_the_cookie_of_somebody_who_is_logged_in() {
    let Some(mut browser) = Browser::installed().await else { return };
    let home = Home::new();
    let key = auth::new_key(&home, "dashboard", "read,write,admin").await;
    let server = auth::serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let url = format!("http://{}", server.address);
    home.run(&["demo", "--url", &url, "--token", &key.key, "--sessions", "3"]).await.succeeded();
    browser.node.env("API_KEY", &key.key);
    browser.visits(&server, "other_port.mjs").await;
}

#[tokio::test]
async fn the_numbers_are_charts_and_tables_that_one_can_read() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = filled(&home, "70").await;
    browser.visits(&server, "numbers.mjs").await;
}

#[tokio::test]
async fn health_is_followed_and_dead_letters_are_read_dropped_and_brought_back() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    home.database().execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON conversation_messages WHEN NEW.content LIKE 'poison%' \
         BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    );
    browser.visits(&server, "health.mjs").await;
}

#[tokio::test]
async fn a_database_that_is_away_stands_out_on_a_page_that_can_still_be_read() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = home.serve_on("postgres://nobody@127.0.0.1:1/nowhere").await;
    browser.visits(&server, "parked.mjs").await;
}

#[tokio::test]
async fn somebody_talks_with_the_echo_cuts_in_and_loses_the_connection_and_nothing_else() {
    let Some(browser) = Browser::installed().await else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    browser.visits(&server, "talk.mjs").await;
}
