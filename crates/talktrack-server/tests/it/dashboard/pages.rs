//! The content of the pages, their size, and hostile text in them.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::harness::{Client, Home, Server, until_told, within};

/// Texts that would become markup if a page did not escape them.
const HOSTILE: [&str; 5] = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><b onmouseover='alert(1)'>",
    "</textarea></details></ol><h1>free</h1>",
    "{{ 7 * 7 }} {% raw %} &lt;i&gt; &amp;",
];

/// Returns the markup from the element with this id to the end of its list item.
fn item<'p>(page: &'p str, id: &str) -> &'p str {
    let start = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    let rest = &page[start..];
    &rest[..rest.find("</li>").unwrap()]
}

async fn transcript(server: &Server, session: Uuid) -> String {
    let page = server.get(&format!("/sessions/{session}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    page.body
}

#[tokio::test]
async fn the_list_says_of_each_conversation_who_when_how_long_and_the_last_words() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let empty = server.get("/").await.body;
    assert!(
        empty.contains("No conversation yet") && empty.contains("/v1/ws?user_id="),
        "it says how: {empty}"
    );
    let mut talk = Client::new(&server).await;
    talk.say("Where is it?").await;
    talk.track(json!({"type": "message", "role": "assistant", "content": "On its", "interrupted": true}))
        .await;
    let live = server.get("/").await.body;
    let row = item(&live, &format!("s-{}", talk.session));
    let short = &talk.user.to_string()[..8];
    for part in [short, "<b>Agent</b> <bdi>On its</bdi>", "1 interruption<", "2 messages", ">live<"] {
        assert!(row.contains(part), "{part}: {row}");
    }
    assert!(!live.contains("No conversation yet"));
    talk.end("completed").await;
    let ended = server.get("/?status=ended").await.body;
    assert!(!item(&ended, &format!("s-{}", talk.session)).contains(">live<"));
    for (filter, is_there) in [
        ("status=active", false),
        ("status=&user=&from=&to=&q=", true),
        (&format!("user={}", talk.user), true),
        (&format!("user={}", Uuid::new_v4()), false),
        ("from=2000-01-01&to=2999-01-01", true),
        ("to=2000-01-01", false),
    ] {
        let page = server.get(&format!("/?{filter}")).await;
        let is_listed = page.body.contains(&format!("s-{}", talk.session));
        assert_eq!((page.status, is_listed), (200, is_there), "{filter}: {page:?}");
    }
    for (filter, told) in [
        ("user=%07", "User: "),
        ("status=asleep", "Status: no such status"),
        ("from=yesterday", "From: must be a day"),
        ("q=%2B", "Search: must contain a letter"),
        ("cursor=x", "cursor: "),
    ] {
        let page = server.get(&format!("/?{filter}")).await;
        assert!(page.status == 400 && page.body.contains(told), "{filter}: {page:?}");
    }
}

#[tokio::test]
async fn what_is_found_is_shown_with_its_place_and_leads_to_it() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut talk = Client::new(&server).await;
    talk.say("nothing of interest").await;
    let hit = talk.say("the <b>parcel</b> is lost").await;
    let page = until_told("the message is found", async || {
        let page = server.get("/?q=parc*").await.body;
        page.contains("<mark>").then_some(page)
    })
    .await;
    assert!(page.contains("the &#60;b&#62;<mark>parcel</mark>&#60;/b&#62; is lost"), "{page}");
    let link = page.split(&format!("/sessions/{}?after=", talk.session)).nth(1).unwrap();
    let after = link.split('#').next().unwrap();
    assert!(link.contains(&format!("#m-{hit}")));
    let led = server.get(&format!("/sessions/{}?after={after}", talk.session)).await.body;
    item(&led, &format!("m-{hit}"));
    let filtered = server.get("/?q=parcel&status=ended").await.body;
    assert!(filtered.contains("No message matches"), "{filtered}");
}

#[tokio::test]
async fn a_conversation_shows_what_was_heard_what_was_not_the_tools_and_how_long_it_took() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut talk = Client::new(&server).await;
    let metrics =
        |json: Value| json!({"type": "message", "role": "user", "content": "Open?", "metrics": json});
    talk.track(metrics(json!({"eou_ms": 300, "stt_ms": 200}))).await;
    let cut = talk
        .track(json!({
            "type": "message", "role": "assistant", "content": "We open at", "interrupted": true,
            "content_generated": "We open at nine & close at five.",
            "metrics": {"llm_ttft_ms": 400, "tts_ttfb_ms": 100, "e2e_ms": 1050},
            "audio_url": format!("/v1/sessions/{}/audio/x.wav", talk.session),
        }))
        .await;
    let parts =
        json!([{"type": "tool_call", "id": "1", "name": "opening_hours", "arguments": {"day": "<today>"}}]);
    let call = talk
        .track(json!({"type": "message", "role": "assistant", "kind": "tool_call", "content": "", "parts": parts}))
        .await;
    talk.send(json!({"type": "session.update", "metadata": {"channel": "phone & web"}})).await;
    talk.lives().await;
    let page = transcript(&server, talk.session).await;
    let cut = item(&page, &format!("m-{cut}"));
    for part in [
        "We open at <del>",
        "nine &#38; close at five.</del>",
        ">interrupted<",
        "end of speech 300 ms, transcript 200 ms, first token 400 ms, first sound 100 ms; in all 1.05 s",
        "<span>1.05 s</span>",
        "data-play",
    ] {
        assert!(cut.contains(part), "{part}: {cut}");
    }
    let call = item(&page, &format!("m-{call}"));
    assert!(call.contains("Tool call") && call.contains("<code>opening_hours</code>"), "{call}");
    assert!(call.contains("<details>") && call.contains("&#60;today&#62;"), "folded, and escaped: {call}");
    assert!(page.contains("phone &#38; web"));
    for format in ["text", "json", "jsonl", "vtt", "openai", "csv"] {
        let link = format!("/v1/sessions/{}/export?format={format}", talk.session);
        assert!(page.contains(&link), "{link}");
        assert_eq!(server.get(&link).await.status, 200);
    }
}

#[tokio::test]
async fn hostile_text_is_text_wherever_it_is_shown() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut talk = Client::new(&server).await;
    for text in HOSTILE {
        talk.track(json!({
            "type": "message", "role": "user", "content": text, "metadata": {text: text}, "external_id": text,
            "content_generated": format!("{text}{text}"), "audio_url": format!("javascript:{text}"),
            "parts": [{"type": text, "name": text}],
        }))
        .await;
        talk.send(json!({"type": "session.update", "metadata": {text: text, "audio_url": text}})).await;
    }
    talk.end(HOSTILE[0]).await;
    let path = format!("/sessions/{}", talk.session);
    let query = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let mut paths = vec![
        "/".to_owned(),
        path.clone(),
        format!("{path}/head"),
        format!("{path}/said"),
        format!("{path}/delete"),
    ];
    for text in HOSTILE {
        paths.push(format!("/?q={0}&user={0}&status={0}&from={0}&to={0}&cursor={0}", query(text)));
        paths.push(format!("/?q={}", query(text)));
        paths.push(format!("{path}?after={}", query(text)));
    }
    for path in paths {
        let page = server.get(&path).await;
        for markup in
            ["<script>", "<img", "<b onmouse", "<h1>free", "href=\"javascript:", "src=\"javascript:"]
        {
            assert!(!page.body.contains(markup), "{path}: {markup} in {}", page.body);
        }
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{path}: {policy}");
    }
    let page = server.get("/sessions/%3Cscript%3E").await;
    assert!(page.status == 400 && page.body.contains("session_id: must be a UUID"), "{page:?}");
    assert!(!page.body.contains("<script>"), "{page:?}");
}

#[tokio::test]
async fn pages_of_fifty_conversations_and_of_a_thousand_messages_weigh_little() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut talk = Client::new(&server).await;
    let words = |number: usize| {
        format!("Message {number}: it left our house on the {} of the month, I believe.", number % 28)
    };
    for number in 0..1_000 {
        let metrics = json!({"eou_ms": number % 400, "stt_ms": 200, "llm_ttft_ms": 400 + number, "tts_ttfb_ms": 150, "e2e_ms": 900 + number});
        let role = if number % 2 == 0 { "user" } else { "assistant" };
        talk.send(json!({"type": "message", "role": role, "content": words(number), "metrics": metrics}))
            .await;
    }
    talk.acks(1_000).await;
    let page = weight(&server, &format!("/sessions/{}", talk.session)).await;
    assert!(page <= 150 << 10, "a transcript of a thousand messages weighs {page} bytes");
    for _ in 0..50 {
        Client::new(&server)
            .await
            .say("Good morning, I should like to move my appointment on Thursday.")
            .await;
    }
    let page = weight(&server, "/").await;
    assert!(page <= 150 << 10, "a list of fifty conversations weighs {page} bytes");
    let all = server.get(&format!("/sessions/{}", talk.session)).await.body;
    assert_eq!(all.matches("class=\"said").count(), 1_000);
}

/// Returns the size of the compressed responses for a page and all assets that the browser loads for it.
async fn weight(server: &Server, path: &str) -> usize {
    let page = over_the_wire(server, path).await;
    let text = server.get(path).await.body;
    let assets = text.split('"').filter(|part| part.starts_with("/assets/"));
    let mut sum = page;
    for asset in assets {
        sum += over_the_wire(server, asset).await;
    }
    eprintln!("{path}: {page} bytes, with what it needs {sum}");
    sum
}

async fn over_the_wire(server: &Server, path: &str) -> usize {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
    );
    within("a page", async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}");
        answer.len()
    })
    .await
}

#[tokio::test]
async fn what_looks_are_made_of_is_kept_by_the_browser_until_it_changes() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let page = server.get("/").await.body;
    let assets: Vec<_> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert!(assets.len() >= 4, "{assets:?}");
    for asset in assets {
        let answer = server.get(asset).await;
        assert_eq!(answer.status, 200, "{asset}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"), "{asset}");
        assert!(asset.contains("?v="), "{asset}");
    }
    let missing = server.get("/assets/../Cargo.toml").await;
    assert_eq!(missing.status, 404);
    let missing = server.get("/assets/nothing.css").await;
    assert!(
        missing.status == 404 && missing.body.contains("there is nothing at /assets/nothing.css"),
        "{missing:?}"
    );
}

#[tokio::test]
async fn the_numbers_are_drawn_and_every_value_is_in_a_table() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut talk = Client::new(&server).await;
    for ms in [400, 800, 1_200] {
        let metrics = json!({"e2e_ms": ms, "llm_ttft_ms": ms / 2});
        talk.track(json!({"type": "message", "role": "assistant", "content": "x", "interrupted": true, "metrics": metrics}))
            .await;
    }
    talk.end("completed").await;
    let page = until_told("everything is counted", async || {
        let page = server.get("/stats?range=6h").await.body;
        (page.contains("<dd>3</dd>") && page.contains("<dt>Duration, p50</dt><dd>0 s</dd>")).then_some(page)
    })
    .await;
    assert_eq!(page.matches("<svg viewBox=\"0 0 420").count(), 6, "a chart each");
    for part in [
        "<dt>Conversations</dt><dd>1</dd>",
        "<dt>Interruptions</dt><dd>3</dd>",
        "<dt>Dead letters</dt><dd>0</dd>",
        "<th scope=\"col\">p95</th>",
        "aria-label=\"Time to the answer (e2e_ms): at most 1",
        "<th scope=\"row\">up to 10 s</th><td>1</td>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let other = server.get("/stats?range=30d&measure=llm_ttft_ms&user=").await.body;
    assert!(other.contains("First token of the model (llm_ttft_ms): at most "), "{other}");
    let nobody = server.get(&format!("/stats?user={}", Uuid::new_v4())).await.body;
    assert!(nobody.contains("<dt>Messages</dt><dd>0</dd>") && !nobody.contains("Dead letters"), "{nobody}");
    for (query, told) in
        [("user=%07", "User: "), ("from=x", "From: "), ("from=2026-02-02&to=2026-01-01", "since: ")]
    {
        let page = server.get(&format!("/stats?{query}")).await;
        assert!(page.status == 400 && page.body.contains(told), "{query}: {page:?}");
    }
    let markup = "%3Cscript%3E";
    let page =
        server.get(&format!("/stats?range={markup}&from={markup}&measure={markup}&user={markup}")).await;
    assert!(!page.body.contains("<script>"), "{page:?}");
}
