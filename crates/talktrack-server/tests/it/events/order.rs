//! Which events the server sends, in which order, and to which listeners.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Place, over_both_stores};
use crate::harness::{Client, Listener, Told, until_told, user, within};

over_both_stores! {
    what_becomes_durable_is_told_in_its_order_as_the_lists_show_it
    a_listener_hears_what_it_asks_for
    a_listener_who_wants_little_is_told_how_far_it_has_come
    many_listeners_hear_the_same
    a_stop_ends_the_streams_at_once_and_says_so
}

fn names(heard: &[Told]) -> Vec<&str> {
    heard.iter().map(|told| told.name.as_str()).collect()
}

async fn what_becomes_durable_is_told_in_its_order_as_the_lists_show_it(place: &Place) {
    let server = place.serve(&[]).await;
    let mut listener = Listener::new(&server).await;
    assert!(listener.head.contains("content-type: text/event-stream"), "{}", listener.head);
    let mut client = Client::new(&server).await;
    let id = Uuid::new_v4();
    let said = json!({"type": "message", "role": "assistant", "id": id, "content": "a\nb", "metadata": {"n": 1},
        "external_id": null, "metrics": {"e2e_ms": 300}, "created_at": "2026-11-23T08:00:00Z"});
    client.track(said.clone()).await;
    let mut revised = said;
    (revised["revision"], revised["content"], revised["interrupted"]) = (json!(1), json!("a"), json!(true));
    client.track(revised).await;
    client.track(json!({"type": "message", "role": "system", "content": "be kind"})).await;
    client.send(json!({"type": "session.update", "metadata": {"topic": "tea"}})).await;
    client.end("completed").await;

    let heard = listener.several(6).await;
    let expected = ["session.started", "message", "message", "message", "session.updated", "session.ended"];
    assert_eq!(names(&heard), expected);
    assert!(heard.is_sorted_by(|one, other| one.id < other.id), "{heard:?}");
    assert_eq!((&heard[1].data["id"], &heard[2].data["id"]), (&json!(id), &json!(id)));
    assert_eq!((&heard[2].data["revision"], &heard[2].data["content"]), (&json!(1), &json!("a")));
    assert_eq!(heard[5].data["status"], "ended");
    assert_eq!(heard[5].data["metadata"], json!({"topic": "tea"}));
    if place.remote.is_some() {
        server.drained().await;
    }
    let path = format!("/v1/sessions/{}", client.session);
    let session = server.get(&path).await.json();
    let list = server.get(&format!("{path}/messages")).await.json();
    let rows: Vec<&Value> = vec![&heard[2].data, &heard[3].data];
    assert_eq!(list["messages"].as_array().unwrap().iter().collect::<Vec<_>>(), rows);
    let mut last = heard[5].data.clone();
    // Until the session is stored, its figures come from this node, which counts a revision as a message.
    if place.remote.is_some() {
        last["last_event_at"] = session["last_event_at"].clone();
        last["message_count"] = session["message_count"].clone();
    }
    assert_eq!(last, session);
    // A late listener gets the same events from the table as the first one got from the ring buffer.
    let mut late = Listener::with(&server, "last_event_id=0", "").await;
    let again = late.several(6).await;
    assert_eq!(names(&again), expected);
    assert_eq!(
        again.iter().map(|told| told.id).collect::<Vec<_>>(),
        heard.iter().map(|told| told.id).collect::<Vec<_>>()
    );
    assert_eq!(again[5].data["status"], "ended");
}

async fn a_listener_hears_what_it_asks_for(place: &Place) {
    let server = place.serve(&[]).await;
    let mut one = Client::new(&server).await;
    let mut two = Client::new(&server).await;
    let mut of_session = Listener::with(&server, &format!("session_id={}", one.session), "").await;
    let mut of_user = Listener::with(&server, &format!("user_id={}", two.user), "").await;
    let both = format!("session_id={}&user_id={}", one.session, two.user);
    let mut of_nothing = Listener::with(&server, &both, "").await;
    for number in 0..20 {
        one.say(&format!("one {number}")).await;
        two.say(&format!("two {number}")).await;
    }
    let expected = |who: &str| (0..20).map(|number| format!("{who} {number}")).collect::<Vec<_>>();
    assert_eq!(of_session.contents(20).await, expected("one"));
    assert_eq!(of_user.contents(20).await, expected("two"));
    server.stop().await;
    assert_eq!(of_nothing.expect("closing").await.data["code"], "shutting_down");
}

async fn a_listener_who_wants_little_is_told_how_far_it_has_come(place: &Place) {
    let server = place.serve(&["--ping-interval", "50ms"]).await;
    let query = format!("session_id={}", Uuid::new_v4());
    let mut listener = Listener::with(&server, &query, "").await;
    let mut everything = Listener::new(&server).await;
    let mut client = Client::new(&server).await;
    client.say("nothing for it").await;
    let newest = everything.several(2).await[1].id;
    let told = async {
        while listener.last_id < newest {
            listener.mark().await;
        }
    };
    within("its place is told", told).await;
    assert_eq!(listener.last_id, newest);
}

async fn many_listeners_hear_the_same(place: &Place) {
    const LISTENERS: usize = 50;
    const MESSAGES: usize = 300;
    let server = place.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS {
        listeners.push(Listener::new(&server).await);
    }
    for number in 0..MESSAGES {
        client.send(user(&format!("message {number}"), number)).await;
    }
    client.acks(MESSAGES).await;
    let expected: Vec<_> = (0..MESSAGES).map(|number| format!("message {number}")).collect();
    for listener in &mut listeners {
        assert_eq!(listener.contents(MESSAGES).await, expected);
    }
}

async fn a_stop_ends_the_streams_at_once_and_says_so(place: &Place) {
    let server = place.serve(&[]).await;
    let mut listener = Listener::new(&server).await;
    server.stop().await;
    assert_eq!(listener.expect("closing").await.data["code"], "shutting_down");
    assert_eq!(listener.next().await, None);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let place = Place::file();
    let server = place.serve(&["--max-listeners", "1"]).await;
    for (query, why) in [
        ("session_id=7", "session_id: "),
        ("last_event_id=-1", "last_event_id: must not be negative"),
        ("last_event_id=x", "last_event_id: "),
        ("limit=7", "limit: unknown field `limit`"),
    ] {
        let told = server.get(&format!("/v1/events?{query}")).await.problem(400, "invalid_message");
        assert!(told.starts_with(why), "{told}");
    }
    let listener = Listener::new(&server).await;
    let told = server.get("/v1/events").await.problem(503, "rate_limited");
    assert!(told.contains("max_listeners"), "{told}");
    drop(listener);
    until_told("there is room again", async || Listener::try_new(&server).await).await;
}

#[tokio::test]
async fn events_go_on_while_the_database_is_away() {
    let place = Place::postgres().await;
    let server = place.serve(&[]).await;
    let mut listener = Listener::new(&server).await;
    let mut client = Client::new(&server).await;
    client.say("before").await;
    assert_eq!(names(&listener.several(2).await), ["session.started", "message"]);
    server.drained().await;
    place.proxy().cut();
    server.readiness(503).await;
    for number in 0..50 {
        client.say(&format!("message {number}")).await;
    }
    client.track(json!({"type": "message", "role": "system", "content": "be kind"})).await;
    client.send(json!({"type": "session.update", "metadata": {"topic": "tea"}})).await;
    // The pong proves that the server has accepted these messages before the other client connects.
    client.lives().await;
    let mut other = Client::new(&server).await;
    other.say("and another").await;
    client.end("completed").await;
    let heard = listener.several(55).await;
    assert!((0..50).all(|number| heard[number].data["content"] == json!(format!("message {number}"))));
    let rest = ["message", "session.updated", "session.started", "message", "session.ended"];
    assert_eq!(names(&heard[50..]), rest);
    assert_eq!(heard[51].data["metadata"], json!({"topic": "tea"}));
    let ended = &heard[54].data;
    assert_eq!(
        (&ended["status"], &ended["message_count"], &ended["user_id"]),
        (&json!("ended"), &json!(52), &json!(client.user)),
        "{ended}"
    );
    // A listener that connects only now gets the same events.
    let mut late = Listener::after(&server, heard[9].id).await;
    assert_eq!(names(&late.several(45).await), names(&heard[10..]));
    place.proxy().fix();
    server.drained().await;
    other.say("after").await;
    assert_eq!(listener.expect("message").await.data["content"], "after");
    assert_eq!(late.expect("message").await.data["content"], "after");
}
