//! The page of the server's health: its figures are correct, it names each problem and its remedy, and users can read,
//! replay and drop dead letters.

use serde_json::json;
use talktrack_testbed::{Postgres, Proxy};
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key, serve_with};
use crate::harness::remote::migrated;
use crate::harness::{Client, Home, HttpAnswer, Server, text, until_told};

const FORM: &str = "application/x-www-form-urlencoded";

/// Makes the store refuse all messages that begin with `poison`.
const REFUSE: &str = "CREATE TRIGGER refuse BEFORE INSERT ON conversation_messages WHEN NEW.content LIKE 'poison%' \
                      BEGIN SELECT RAISE(ABORT, 'not <this> one'); END";
const TAKE_AGAIN: &str = "DROP TRIGGER refuse";

/// The attribute of a figure on the page, and the name of the metric with the same value.
const FIGURES: [(&str, &str); 5] = [
    ("id=\"accepted\"", "talktrack_messages_accepted_total"),
    ("id=\"queued\"", "talktrack_queue_depth"),
    ("id=\"durable\"", "talktrack_messages_durable_total"),
    ("id=\"stored\"", "talktrack_messages_stored_total"),
    ("id=\"dead-lettered\"", "talktrack_messages_dead_lettered_total"),
];

async fn page(server: &Server, path: &str) -> String {
    let page = server.get(path).await;
    assert_eq!(page.status, 200, "{path}: {page:?}");
    page.body
}

/// Returns the value of a figure on the page.
fn figure(page: &str, attribute: &str) -> f64 {
    let element = format!("<data {attribute} value=\"");
    let (_, rest) = page.split_once(&element).unwrap_or_else(|| panic!("no {attribute} in {page}"));
    rest.split('"').next().unwrap().parse().unwrap()
}

/// Waits until the page and `/metrics` agree, and returns the page. While messages are in flight, the two may differ
/// for a moment.
async fn agrees_with_the_metrics(server: &Server, figures: &[(&str, &str)]) -> String {
    let agrees = async || {
        let page = page(server, "/health").await;
        for (attribute, metric) in figures {
            if figure(&page, attribute) != server.metric(metric).await {
                return None;
            }
        }
        Some(page)
    };
    until_told("the page agrees with the metrics", agrees).await
}

/// Waits until the page contains all these texts, and returns the page.
async fn shows(server: &Server, parts: &[&str]) -> String {
    let shown = async || {
        Some(page(server, "/health").await).filter(|page| parts.iter().all(|part| page.contains(part)))
    };
    until_told(&format!("the page says {parts:?}"), shown).await
}

/// Starts a server that has made dead letters of these messages.
async fn with_letters(texts: &[&str]) -> (Home, Server, Client) {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    home.database().execute(REFUSE);
    for content in texts {
        client.say(content).await;
    }
    (home, server, client)
}

/// Returns the ids of the dead letters in the order of the page.
fn letters(page: &str) -> Vec<i64> {
    let ids = page.split("id=\"letter-").skip(1);
    ids.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
}

async fn post(server: &Server, path: &str, form: &str) -> HttpAnswer {
    let csrf = super::csrf(&server.get("/health").await);
    server.request("POST", path).body(FORM, format!("csrf={csrf}&{form}")).send().await
}

#[tokio::test]
async fn the_figures_are_those_of_the_metrics_and_the_books_are_shown_to_balance() {
    let (_home, server, mut client) = with_letters(&["one", "poison", "two"]).await;
    client.send(json!({"type": "message", "role": "nobody", "content": "x"})).await;
    client.expect("error").await;
    client.send(text("user", &"x".repeat(1_000_001 + 48_576))).await;
    client.expect("error").await;
    let page = agrees_with_the_metrics(&server, &FIGURES).await;
    for reason in ["invalid_message", "too_large"] {
        let metric = format!("talktrack_messages_refused_total{{reason=\"{reason}\"}}");
        let shown = figure(&page, &format!("data-reason=\"{reason}\""));
        assert_eq!((shown, server.metric(&metric).await), (1.0, 1.0), "{reason}");
    }
    assert_eq!((figure(&page, "id=\"refused\""), figure(&page, "id=\"letters\"")), (2.0, 1.0));
    let sum = "durable <b>3</b></span> <span>= stored <b>2</b></span> <span>+ dead-lettered <b>1</b></span> <span>+ pending <b>0</b>";
    assert!(page.contains(sum) && page.contains("The books balance"), "{page}");
    assert!(page.contains("All is well") && page.contains("The store is a SQLite file"), "{page}");
    let part = server.get("/health/figures").await;
    assert!(part.status == 200 && part.body.contains(sum) && !part.body.contains("<html"), "{part:?}");
}

#[tokio::test]
async fn a_parked_store_is_shown_with_its_cause_the_command_that_mends_it_and_each_difference() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let server = home.serve_on(&database.url_at(proxy.port())).await;
    let mut client = Client::new(&server).await;
    client.say("stored").await;
    server.drained().await;
    shows(&server, &["All is well", "The database matches the schema"]).await;

    database.psql("ALTER TABLE conversation_messages DROP audio_url");
    client.say("waits").await;
    server.shows("talktrack_journal_pending", 1.0).await;
    let told = [
        "Could not find the &#39;audio_url&#39; column of &#39;conversation_messages&#39;</bdi>",
        "<pre><code>talktrack migrate</code></pre>",
        "One difference",
        "<pre><code>ALTER TABLE public.conversation_messages ADD COLUMN audio_url text;\n\
         GRANT INSERT (audio_url) ON public.conversation_messages TO authenticated;</code></pre>",
    ];
    shows(&server, &told).await;
    let figures = [
        &FIGURES[..],
        &[
            ("id=\"pending\"", "talktrack_journal_pending"),
            ("id=\"journal-bytes\"", "talktrack_journal_bytes"),
        ],
    ];
    let parked = agrees_with_the_metrics(&server, &figures.concat()).await;
    assert_eq!((figure(&parked, "id=\"stored\""), figure(&parked, "id=\"pending\"")), (1.0, 1.0));
    assert!(parked.contains("1 message pending and 0 dead letters, the same as in the books"), "{parked}");

    // The page must be shown even if the database is unavailable.
    proxy.cut();
    let away = page(&server, "/health").await;
    assert!(away.contains("The schema cannot be compared now"), "{away}");

    proxy.fix();
    home.run(&["migrate", "--database-url", &database.url()]).await.succeeded();
    server.drained().await;
    let well = shows(&server, &["All is well", "The database matches the schema"]).await;
    assert_eq!((figure(&well, "id=\"stored\""), figure(&well, "id=\"pending\"")), (2.0, 0.0));
}

#[tokio::test]
async fn dead_letters_are_replayed_and_dropped_by_forms_which_say_what_became_of_them() {
    let (home, server, client) = with_letters(&["poison 1", "poison 2", "poison 3", "good"]).await;
    let listed = letters(&page(&server, "/health").await);
    let newest = listed[0];
    let oldest = listed[2];
    assert!(listed.len() == 3 && newest > oldest, "the newest first: {listed:?}");
    let whole = page(&server, &format!("/health/letters/{newest}")).await;
    for part in
        ["poison 3", "not &#60;this&#62; one", "<b>data</b>", &client.session.to_string(), "&#34;role&#34;"]
    {
        assert!(whole.contains(part), "{part}: {whole}");
    }

    // The cause is still there, so the replay fails again.
    let again = post(&server, "/health/replay", &format!("letter={newest}")).await;
    assert_eq!(again.status, 200, "{again:?}");
    for part in ["This did not work", "1 letter replayed and refused again", &newest.to_string()] {
        assert!(again.body.contains(part), "{part}: {again:?}");
    }
    let listed = letters(&page(&server, "/health").await);
    assert!(listed.len() == 3 && listed[0] > newest, "it is a new one: {listed:?}");

    let asked = page(&server, &format!("/health/drop?letter={oldest}")).await;
    assert!(
        asked.contains("Drop this dead letter?") && asked.contains("poison 1"),
        "it names what goes: {asked}"
    );
    assert_eq!(letters(&page(&server, "/health").await).len(), 3, "asking drops nothing");
    let dropped = post(&server, "/health/drop", &format!("letter={oldest}")).await;
    assert!(dropped.status == 200 && dropped.body.contains("1 letter dropped"), "{dropped:?}");
    let twice = post(&server, "/health/drop", &format!("letter={oldest}")).await;
    assert!(twice.body.contains("1 letter no longer there"), "{twice:?}");

    home.database().execute(TAKE_AGAIN);
    let replayed = post(&server, "/health/replay", "reason=data").await;
    assert!(
        replayed.body.contains("Done") && replayed.body.contains("2 letters replayed and stored"),
        "{replayed:?}"
    );
    assert_eq!(home.database().contents(client.session), ["poison 2", "poison 3", "good"]);
    let empty = page(&server, "/health").await;
    assert!(letters(&empty).is_empty() && empty.contains("4 replayed or dropped"), "{empty}");
    home.verify().await;
}

#[tokio::test]
async fn all_letters_of_a_reason_go_after_a_page_that_names_how_many_and_the_list_has_pages() {
    let texts: Vec<_> = (0..27).map(|number| format!("poison {number}")).collect();
    let (home, server, _) = with_letters(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let first = page(&server, "/health?reason=data").await;
    let (_, next) = first.split_once("rel=\"next\" href=\"").expect("there are older ones");
    let next = next.split('"').next().unwrap().replace("&#38;", "&").replace("#dead", "");
    let second = page(&server, &next).await;
    let all = [letters(&first), letters(&second)].concat();
    assert_eq!((letters(&first).len(), all.len()), (25, 27));
    assert!(all.is_sorted_by(|one, next| one > next), "newest first, none twice: {all:?}");
    assert_eq!(letters(&page(&server, "/health?reason=corrupt").await), [] as [i64; 0]);

    let asked = page(&server, "/health/drop?reason=data").await;
    assert!(asked.contains("Drop 27 dead letters?") && asked.contains("<b>data</b>"), "{asked}");
    let dropped = post(&server, "/health/drop", "reason=data").await;
    assert!(dropped.body.contains("27 letters dropped"), "{dropped:?}");
    assert_eq!(home.database().count("SELECT count(*) FROM dead_letters", &[]), 0);
    home.verify().await;
    for form in ["", "reason=", "letter=anna"] {
        let refused = post(&server, "/health/drop", form).await;
        assert!((400..500).contains(&refused.status), "{form}: {refused:?}");
    }
    assert_eq!(server.get("/health/letters/1").await.status, 404);
    assert_eq!(server.get("/health/drop?letter=x").await.status, 400);
}

#[tokio::test]
async fn only_who_runs_the_server_sees_its_health() {
    let home = Home::new();
    let admin = new_key(&home, "desk", "admin").await;
    let reader = new_key(&home, "app", "read,write").await;
    let keys = format!("{},{}", admin.entry, reader.entry);
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &keys), ("SUPABASE_JWT_SECRET", SECRET)]).await;
    let user = SigningKey::secret(SECRET).token(&claims(Uuid::new_v4()));
    let of = async |path: &str, token: &str| server.get_with(path, token).await;
    for path in ["/health", "/health/figures", "/health/letters/1", "/health/drop?reason=data"] {
        assert_eq!(server.get(path).await.status, 303, "{path}");
        for token in [&user, &reader.key] {
            let refused = of(path, token).await;
            assert_eq!(refused.status, 403, "{path}: {refused:?}");
            assert!(refused.body.contains("this needs an API key with the scope admin"), "{refused:?}");
        }
    }
    for path in ["/health/replay", "/health/drop"] {
        let refused = server.request("POST", path).token(&user).body(FORM, "reason=data").send().await;
        assert_eq!(refused.status, 403, "{path}: {refused:?}");
    }
    let shown = of("/health", &admin.key).await;
    assert!(shown.status == 200 && shown.body.contains("aria-current=\"page\">Health"), "{shown:?}");
    assert!(!of("/", &user).await.body.contains("href=\"/health\""), "nobody is led where they may not go");
    let elsewhere = server.request("POST", "/health/drop").header("Origin", "https://evil.example");
    let refused = elsewhere.token(&admin.key).body(FORM, "reason=data").send().await;
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[tokio::test]
async fn what_a_dead_letter_says_stays_text() {
    let hostile = "poison <script>alert(1)</script></pre></details><h1>free</h1> {{ 7 * 7 }}";
    let (_home, server, _) = with_letters(&[hostile]).await;
    let listed = page(&server, "/health").await;
    let seq = letters(&listed)[0];
    let whole = page(&server, &format!("/health/letters/{seq}")).await;
    let asked = page(&server, &format!("/health/drop?letter={seq}")).await;
    let done = post(&server, "/health/replay", &format!("letter={seq}")).await.body;
    for page in [&listed, &whole, &asked] {
        assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;&#60;/pre&#62;"), "{page}");
    }
    for page in [&listed, &whole, &asked, &done] {
        assert!(!page.contains("<script>alert") && !page.contains("<h1>free"), "{page}");
        assert!(!page.contains("not <this> one"), "the store's words are text too: {page}");
    }
}
