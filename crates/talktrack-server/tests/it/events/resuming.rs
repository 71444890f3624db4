//! A listener that connects again misses no event and gets none twice, no matter which side broke the connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Place, over_both_stores};
use crate::harness::{Client, Listener, Oracle, Told, within};

over_both_stores! {
    a_listener_that_breaks_off_again_and_again_misses_nothing_and_hears_nothing_twice
    a_server_that_is_killed_costs_a_listener_nothing
}

/// The minimum number of messages in the test.
const MESSAGES: usize = 4_000;

fn seed() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    eprintln!("the moments come from the seed {seed}");
    fastrand::Rng::with_seed(seed)
}

fn ids(heard: &[Told]) -> Vec<Uuid> {
    let messages = heard.iter().filter(|told| told.name == "message");
    messages.map(|told| told.data["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// Returns all events up to this id from a listener that has been connected from the start.
async fn everything(listener: &mut Listener, up_to: Option<i64>) -> Vec<Told> {
    let mut heard = Vec::new();
    while listener.last_id < up_to {
        heard.extend(listener.next().await);
    }
    heard
}

async fn a_listener_that_breaks_off_again_and_again_misses_nothing_and_hears_nothing_twice(place: &Place) {
    let mut random = seed();
    let server = place.serve(&["--log-level", "warn"]).await;
    let mut steady = Listener::new(&server).await;
    let mut listener = Listener::new(&server).await;
    let oracle = Arc::new(Oracle::default());
    let sessions: Vec<_> = (0..3).map(|_| Uuid::new_v4()).collect();
    let talkers = oracle.hears(&server, &sessions, Uuid::new_v4()).await;
    let mut heard = Vec::new();
    while oracle.count() < MESSAGES {
        heard.extend(listener.several(random.usize(1..400)).await);
        drop(listener);
        // Some of these pauses are so long that the next events are no longer in memory.
        tokio::time::sleep(Duration::from_millis(random.u64(0..100))).await;
        listener = Listener::after(&server, heard.last().unwrap().id).await;
    }
    talkers.iter().for_each(tokio::task::JoinHandle::abort);
    let mut client = Client::new(&server).await;
    let last = client.say("the last").await;
    let is_last = |told: &Told| told.data["id"] == serde_json::json!(last);
    while !heard.last().is_some_and(is_last) {
        heard.extend(listener.next().await);
    }
    let all = everything(&mut steady, heard.last().unwrap().id).await;
    let order = |heard: &[Told]| heard.iter().map(|told| (told.id, told.name.clone())).collect::<Vec<_>>();
    assert_eq!(order(&heard), order(&all));
    let said = ids(&heard);
    let distinct: BTreeSet<_> = said.iter().copied().collect();
    assert_eq!(distinct.len(), said.len());
    oracle.heard_in(&distinct);
}

async fn a_server_that_is_killed_costs_a_listener_nothing(place: &Place) {
    let mut random = seed();
    let oracle = Arc::new(Oracle::default());
    let user = Uuid::new_v4();
    let sessions: Vec<_> = (0..3).map(|_| Uuid::new_v4()).collect();
    let mut heard: Vec<Told> = Vec::new();
    for _ in 0..3 {
        let server = place.serve(&["--log-level", "warn"]).await;
        let mut listener = match heard.last() {
            None => Listener::new(&server).await,
            Some(told) => Listener::after(&server, told.id).await,
        };
        let talkers = oracle.hears(&server, &sessions, user).await;
        let listening = tokio::spawn(async move {
            let mut heard = Vec::new();
            while let Some(told) = listener.next().await {
                heard.push(told);
            }
            heard
        });
        oracle.has_heard_more_than(oracle.count() + random.usize(300..1_500)).await;
        server.kill().await;
        heard.extend(within("the listener notices", listening).await.unwrap());
        for talker in talkers {
            within("the talker notices", talker).await.unwrap();
        }
    }
    let server = place.serve(&[]).await;
    let mut listener = Listener::after(&server, heard.last().unwrap().id).await;
    let mut client = Client::join(&server, Uuid::new_v4(), user).await;
    let last = client.say("the last").await;
    while !ids(&heard[heard.len() - 1..]).contains(&last) {
        heard.push(listener.next().await.unwrap());
    }
    assert!(heard.is_sorted_by(|one, other| one.id < other.id));
    let mut again = Listener::with(&server, "last_event_id=0", "").await;
    let all = everything(&mut again, heard.last().unwrap().id).await;
    let places = |heard: &[Told]| heard.iter().map(|told| told.id).collect::<Vec<_>>();
    assert_eq!(places(&heard), places(&all));
    let ends = heard.iter().filter(|told| told.name == "session.ended").count();
    assert_eq!(ends, 9, "three sessions that three kills left open");
    let said = ids(&heard);
    let distinct: BTreeSet<_> = said.iter().copied().collect();
    oracle.heard_in(&distinct);
    if place.remote.is_none() {
        // A client repeats a message if the kill came before the ack. With SQLite as the store, the repetition changes
        // nothing and causes no event.
        assert_eq!(distinct.len(), said.len());
    }
}

#[tokio::test]
async fn whoever_comes_too_late_is_told_that_something_is_missing() {
    let place = Place::file();
    let server = place.serve(&[]).await;
    let mut listener = Listener::new(&server).await;
    let mut client = Client::new(&server).await;
    for number in 0..10 {
        client.say(&format!("message {number}")).await;
    }
    let heard = listener.several(11).await;
    server.stop().await;
    let early = heard[2].id.unwrap();
    let kept = heard[6].id.unwrap();
    place.home.database().execute(&format!("DELETE FROM changes WHERE seq < {kept}"));
    let server = place.serve(&[]).await;
    let mut late = Listener::after(&server, Some(early)).await;
    let told = late.expect("gap").await;
    assert_eq!((&told.data["last_event_id"], told.id), (&early.into(), Some(kept - 1)));
    let rest = late.several(5).await;
    assert_eq!(
        rest.iter().map(|told| told.id).collect::<Vec<_>>(),
        heard[6..].iter().map(|told| told.id).collect::<Vec<_>>()
    );
    let mut in_time = Listener::after(&server, Some(kept)).await;
    assert_eq!(in_time.expect("message").await.data["content"], "message 6");
}

#[tokio::test]
async fn whoever_comes_with_an_id_from_the_future_hears_what_is_new() {
    let place = Place::file();
    let server = place.serve(&[]).await;
    Client::new(&server).await.say("old").await;
    let mut listener = Listener::after(&server, Some(i64::MAX)).await;
    listener.last_id = None;
    let mut client = Client::new(&server).await;
    client.say("new").await;
    let first = listener.next().await.unwrap();
    let first = if first.name == "session.ended" { listener.next().await.unwrap() } else { first };
    assert_eq!(first.name, "session.started");
    assert_eq!(listener.contents(1).await, ["new"]);
}
