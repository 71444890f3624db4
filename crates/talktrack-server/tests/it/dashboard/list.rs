//! The list of conversations: its filters, its pages, and the way from a conversation to the next one and back.

use std::collections::BTreeSet;

use serde_json::json;
use uuid::Uuid;

use crate::harness::{Client, Home, Server};

/// Starts a session in November 2026 and returns its id.
async fn start(server: &Server, user: Uuid, time: &str) -> Uuid {
    let session = Uuid::new_v4();
    let body = json!({"session_id": session, "user_id": user, "started_at": format!("2026-11-{time}Z")});
    let started = server.request("POST", "/v1/sessions").json(&body).send().await;
    assert_eq!(started.status, 201, "{started:?}");
    session
}

/// Returns the sessions of a page of the list, in its order.
fn listed(page: &str) -> Vec<Uuid> {
    page.split("id=\"s-").skip(1).map(|row| row[..36].parse().unwrap()).collect()
}

/// Returns where a link with this attribute leads.
fn link(page: &str, attribute: &str) -> Option<String> {
    let link = page.split("<a ").find(|link| link.contains(attribute))?;
    let address = link.split("href=\"").nth(1)?.split('"').next()?;
    Some(address.replace("&#38;", "&"))
}

#[tokio::test]
async fn next_and_previous_lead_through_the_filtered_list_and_back() {
    let home = Home::new();
    let server = home.serve(&["--log-level", "warn"]).await;
    let (anna, ben) = (Uuid::new_v4(), Uuid::new_v4());
    // Many at one moment, many close to each other, and a few far apart.
    let times = (0..60)
        .map(|_| "20T12:00:00".to_owned())
        .chain((0..59).map(|second| format!("20T18:30:{second:02}")))
        .chain(["01T00:00:00", "21T00:00:00", "30T00:00:00"].map(str::to_owned));
    let mut wanted = BTreeSet::new();
    for time in times {
        wanted.insert((time.clone(), start(&server, anna, &time).await));
        start(&server, ben, &time).await;
    }
    let wanted: Vec<Uuid> = wanted.into_iter().rev().map(|(_, session)| session).collect();
    let list = server.get(&format!("/?user={anna}&status=active&from=2026-11-01&to=2026-11-30")).await.body;
    assert_eq!(listed(&list), wanted[..50]);

    for (attribute, path) in
        [("rel=\"next\"", wanted.clone()), ("rel=\"prev\"", wanted.iter().rev().copied().collect())]
    {
        let mut passed = Vec::new();
        let mut next = link(&list, "class=\"cover\"")
            .map(|first| first.replace(&wanted[0].to_string(), &path[0].to_string()));
        while let Some(address) = next {
            let page = server.get(&address).await;
            assert_eq!(page.status, 200, "{address}: {page:?}");
            passed.push(address["/sessions/".len()..][..36].parse::<Uuid>().unwrap());
            next = link(&page.body, attribute);
            let back = format!("/?user={anna}&status=active&from=2026-11-01&to=2026-11-30");
            assert_eq!(
                link(&page.body, "href=\"/?user=").as_deref(),
                Some(&*back),
                "the way back keeps the filters"
            );
        }
        assert_eq!(passed, path, "{attribute}");
    }
}

#[tokio::test]
async fn without_filters_the_way_leads_through_all_conversations_and_with_words_through_those_that_match() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut sessions = Vec::new();
    for words in ["a blue parcel", "a letter", "a red parcel"] {
        let mut talk = Client::new(&server).await;
        talk.say(words).await;
        sessions.push(talk);
    }
    let [first, letter, last] = [0, 1, 2].map(|index| sessions[index].session);
    let page = server.get(&format!("/sessions/{letter}")).await.body;
    assert_eq!(link(&page, "rel=\"prev\""), Some(format!("/sessions/{last}")));
    assert_eq!(link(&page, "rel=\"next\""), Some(format!("/sessions/{first}")));
    crate::harness::until_told("the words are found", async || {
        let found = server.get("/?q=parcel").await.body;
        (found.matches("<mark>").count() == 2).then_some(())
    })
    .await;
    let page = server.get(&format!("/sessions/{last}?q=parcel")).await.body;
    assert_eq!(link(&page, "rel=\"next\""), Some(format!("/sessions/{first}?q=parcel")));
    assert_eq!(link(&page, "rel=\"prev\""), None, "{page}");
    let odd = server.get(&format!("/sessions/{last}?user=anna")).await;
    assert!(
        odd.status == 200 && link(&odd.body, "rel=\"next\"").is_none(),
        "a wrong filter has no list: {odd:?}"
    );
}

#[tokio::test]
async fn days_are_those_of_the_reader_and_the_last_is_not_before_the_first() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let user = Uuid::new_v4();
    let evening = start(&server, user, "22T23:30:00").await;
    let morning = start(&server, user, "23T08:00:00").await;
    let night = start(&server, user, "23T23:30:00").await;
    // In Berlin, 23 November begins at 23:00 UTC of the day before.
    let berlin = "&from_at=2026-11-22T23:00:00.000Z&to_at=2026-11-23T23:00:00.000Z";
    for (query, wanted) in [
        ("from=2026-11-23&to=2026-11-23", vec![night, morning]),
        (&*format!("from=2026-11-23&to=2026-11-23{berlin}"), vec![morning, evening]),
        (&*format!("from=2026-11-23{berlin}"), vec![night, morning, evening]),
        // Moments of another day are ignored, so that an edited address means what it says.
        (&*format!("from=2026-11-21&to=2026-11-22{berlin}"), vec![evening]),
    ] {
        let page = server.get(&format!("/?{query}")).await;
        assert_eq!((page.status, listed(&page.body)), (200, wanted), "{query}");
    }
    let page = server.get("/?from=2026-11-23&to=2026-11-22").await;
    assert!(
        page.status == 400 && page.body.contains("To: 2026-11-22 is before 2026-11-23 (From)"),
        "{page:?}"
    );
    assert_eq!(server.get("/?from=2026-11-23&to=2026-11-23").await.status, 200);
}

#[tokio::test]
async fn a_full_page_leads_to_no_empty_one() {
    let home = Home::new();
    let server = home.serve(&["--log-level", "warn"]).await;
    let user = Uuid::new_v4();
    for second in 0..50 {
        start(&server, user, &format!("20T12:00:{second:02}")).await;
    }
    let page = server.get("/").await.body;
    assert_eq!((listed(&page).len(), link(&page, "rel=\"next\"")), (50, None));
    start(&server, user, "20T12:01:00").await;
    let page = server.get("/").await.body;
    let older = server.get(&link(&page, "rel=\"next\"").unwrap()).await.body;
    assert_eq!((listed(&page).len(), listed(&older).len()), (50, 1));
}
