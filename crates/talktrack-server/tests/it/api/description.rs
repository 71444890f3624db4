//! Compares the description of the API with the routes, in both directions.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::harness::{Home, Server};

async fn description(server: &Server) -> Value {
    let answer = server.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// The routes of the HTTP API. A route that is added or removed changes the public contract, so this list must change
/// with it.
const ROUTES: &[&str] = &[
    "DELETE /v1/sessions/{session_id}",
    "DELETE /v1/sessions/{session_id}/messages",
    "DELETE /v1/sessions/{session_id}/messages/{message_id}",
    "DELETE /v1/users/{user_id}",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/events",
    "GET /v1/sessions",
    "GET /v1/sessions/{session_id}",
    "GET /v1/sessions/{session_id}/audio/{name}",
    "GET /v1/sessions/{session_id}/export",
    "GET /v1/users/{user_id}/export",
    "GET /v1/sessions/{session_id}/messages",
    "GET /v1/sessions/{session_id}/messages/{message_id}",
    "GET /v1/search",
    "GET /v1/stats",
    "PATCH /v1/sessions/{session_id}",
    "POST /v1/frames",
    "POST /v1/sessions",
    "POST /v1/sessions/{session_id}/audio",
    "POST /v1/sessions/{session_id}/end",
    "POST /v1/sessions/{session_id}/messages",
    "PUT /v1/sessions/{session_id}/messages",
];

#[tokio::test]
async fn the_description_and_the_routes_are_the_same() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let description = description(&server).await;
    let mut told = BTreeSet::new();
    for (path, methods) in entries(&description["paths"]) {
        for (method, _) in entries(methods) {
            told.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert_eq!(told, ROUTES.iter().map(|&route| route.to_owned()).collect());
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let paths: BTreeSet<_> = told.iter().map(|route| route.split_once(' ').unwrap().1).collect();
    for (path, method) in paths.iter().flat_map(|path| methods.map(|method| (path, method))) {
        let address = path
            .replace("{session_id}", "no-uuid")
            .replace("{name}", "no-name")
            .replace("{message_id}", "no-uuid")
            .replace("{user_id}", "no-uuid");
        // The unknown parameter makes every endpoint answer at once; without it, the stream of events would never end.
        let status = server.request(method, format!("{address}?unknown=1")).send().await.status;
        let is_told = told.contains(&format!("{method} {path}"));
        assert_eq!(status != 405, is_told, "{method} {path} answers {status}");
    }
}

#[tokio::test]
async fn every_endpoint_is_described_in_full() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let description = description(&server).await;
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"), "{}", description["openapi"]);
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut ids = BTreeSet::new();
    for (path, methods) in entries(&description["paths"]) {
        for (method, operation) in entries(methods) {
            let name = format!("{method} {path}");
            for field in ["summary", "operationId"] {
                assert!(operation[field].as_str().is_some_and(|text| !text.is_empty()), "{name}: {field}");
            }
            assert!(ids.insert(operation["operationId"].to_string()), "{name}: two have its operationId");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let told = parameter["in"] == "path" || parameter["description"].is_string();
                assert!(told, "{name}: {parameter}");
            }
            let answers: Vec<_> =
                entries(&operation["responses"]).map(|(status, _)| status.clone()).collect();
            assert!(answers.iter().any(|status| status.starts_with('2')), "{name}: {answers:?}");
        }
    }
    let mut links = BTreeSet::new();
    references(&description, &mut links);
    for link in links {
        let pointer = link.trim_start_matches('#');
        assert!(description.pointer(pointer).is_some(), "{link} leads nowhere");
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    if let Some(link) = value.get("$ref").and_then(Value::as_str) {
        found.insert(link.to_owned());
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|value| references(value, found)),
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_for_people_names_every_endpoint_and_needs_nothing_from_elsewhere() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let page = server.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        assert!(page.body.contains(&format!("<b>{method}</b> <code>{path}</code>")), "{route}");
    }
    for foreign in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.body.contains(foreign), "{foreign}");
    }
}
