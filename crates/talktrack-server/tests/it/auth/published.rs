//! Public keys of a project: rotated, unreachable, and requested for tokens with made-up key ids.

use super::publisher::Manner;
use super::{Publisher, SigningKey, admits, knock, refuses, serve_for};
use crate::harness::{Home, Server, until};

/// Starts a server that has fetched the keys.
async fn serve_informed(home: &Home, project: &Publisher, key: &SigningKey) -> Server {
    let server = serve_for(home, project).await;
    admits(&server, &project.token(key)).await;
    assert_eq!(project.asked(), 1);
    server
}

#[tokio::test]
async fn a_new_key_counts_at_once_and_one_that_was_taken_back_no_longer() {
    let home = Home::new();
    let old = SigningKey::ecdsa("old");
    let new = SigningKey::ecdsa("new");
    let project = Publisher::of(&[&old]).await;
    let server = serve_informed(&home, &project, &old).await;
    let unknown = "kid: is not one of the published keys";
    project.publishes(&[&old, &new]);
    admits(&server, &project.token(&new)).await;
    admits(&server, &project.token(&old)).await;
    server.stop().await;

    project.publishes(&[&old]);
    let asked = project.asked();
    let server = serve_for(&home, &project).await;
    let token = project.token(&old);
    admits(&server, &token).await;
    assert_eq!(project.asked(), asked + 1);
    project.publishes(&[&new]);
    admits(&server, &project.token(&new)).await;
    assert_eq!(refuses(&server, &token).await, unknown);
}

#[tokio::test]
async fn made_up_names_of_keys_lead_to_one_fetch_however_many_there_are() {
    let home = Home::new();
    let key = SigningKey::ecdsa("key");
    let project = Publisher::of(&[&key]).await;
    let server = serve_informed(&home, &project, &key).await;
    let knocks = (0..40).map(|number| {
        let token = project.token(&SigningKey::ecdsa(&format!("made up {number}")));
        let server = &server;
        async move { assert_eq!(refuses(server, &token).await, "kid: is not one of the published keys") }
    });
    futures_util::future::join_all(knocks).await;
    assert_eq!(project.asked(), 2);
    admits(&server, &project.token(&key)).await;
    let nameless = key.sign(&serde_json::json!({"alg": "ES256"}), &project.claims(uuid::Uuid::new_v4()));
    assert_eq!(refuses(&server, &nameless).await, "kid: missing");
    assert_eq!(project.asked(), 2);
}

#[tokio::test]
async fn the_last_good_keys_count_while_the_project_is_out_of_reach() {
    let huge = format!("{{\"keys\":[],\"x\":{:?}}}", "x".repeat(1 << 20));
    for manner in [
        Manner::Gone,
        Manner::Answer(500, "{\"keys\":[]}".into()),
        Manner::Answer(302, "{\"keys\":[]}".into()),
        Manner::Answer(200, "<html>".into()),
        Manner::Answer(200, huge),
        Manner::Endless,
        Manner::Silent,
    ] {
        let home = Home::new();
        let known = SigningKey::ecdsa("known");
        let new = SigningKey::ecdsa("new");
        let project = Publisher::of(&[&known]).await;
        let server = serve_informed(&home, &project, &known).await;
        project.behaves(manner.clone());
        let answer = knock(&server, "", &project.token(&new)).await;
        assert!(answer.problem(503, "internal").contains("try again"), "{manner:?}");
        assert_eq!(answer.header("retry-after"), Some("5"), "{manner:?}");
        admits(&server, &project.token(&known)).await;
        assert_eq!(server.get("/readyz").await.status, 200, "{manner:?}");
        let warned = server.logged("cannot fetch the keys").await;
        assert!(warned.contains("the last 1 keys stay valid"), "{manner:?}: {warned}");
    }
}

#[tokio::test]
async fn a_start_does_not_wait_for_the_keys_and_they_count_as_soon_as_they_are_there() {
    let home = Home::new();
    let key = SigningKey::ecdsa("key");
    let project = Publisher::of(&[&key]).await;
    project.behaves(Manner::Silent);
    let server = serve_for(&home, &project).await;
    assert_eq!(server.get("/readyz").await.status, 200);
    project.behaves(Manner::Gone);
    knock(&server, "", &project.token(&key)).await.problem(503, "internal");
    project.publishes(&[&key]);
    server.logged("can be fetched again").await;
    admits(&server, &project.token(&key)).await;
    let log = server.log();
    let lines = |part: &str| log.match_indices(part).map(|(at, _)| at).collect::<Vec<_>>();
    let listening = lines("listening on");
    let warned = lines("cannot fetch the keys of users' tokens");
    assert!(warned.len() == 1 && listening[0] < warned[0], "told once, and not before the start");
}

#[tokio::test]
async fn whoever_leaves_before_the_answer_takes_it_from_nobody() {
    let home = Home::new();
    let old = SigningKey::ecdsa("old");
    let new = SigningKey::ecdsa("new");
    let project = Publisher::of(&[&old]).await;
    let server = serve_informed(&home, &project, &old).await;
    project.behaves(Manner::Silent);
    let token = project.token(&new);
    let impatient = knock(&server, "", &token);
    tokio::select! {
        answer = impatient => panic!("there can be no answer yet: {answer:?}"),
        () = until("the fetch begins", || (project.asked() == 2).then_some(())) => {}
    }
    // The fetch continues without the client that caused it: it fails after its own timeout and logs a warning.
    server.logged("cannot fetch the keys").await;
}
