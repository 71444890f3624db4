//! Runs the examples of docs/http-api.md in order and compares the responses with those on the page.

use serde_json::Value;
use talktrack_testbed::skip;
use tokio::process::Command;

use crate::harness::{Home, Output};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http-api.md");

/// Fields whose values differ from run to run.
const CHANCE: [&str; 3] = ["seq", "last_event_at", "next_cursor"];

/// A command and the response that the page shows.
struct Example {
    command: String,
    answer: String,
}

/// Returns each block of commands with the JSON block after it.
fn examples(page: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut rest = page;
    while let Some((_, from)) = rest.split_once("```sh\n") {
        let (command, behind) = from.split_once("```\n").unwrap();
        let answer = behind.strip_prefix("```json\n").unwrap_or_else(|| panic!("no answer: {command}"));
        let (answer, behind) = answer.split_once("```\n").unwrap();
        examples.push(Example { command: command.to_owned(), answer: answer.to_owned() });
        rest = behind;
    }
    examples
}

/// Replaces values that differ from run to run by the name of their kind.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match value {
                value if !value.is_null() && CHANCE.contains(&name.as_str()) => {
                    (name.clone(), "chance".into())
                }
                value => (name.clone(), masked(value)),
            };
            fields.iter().map(field).collect()
        }
        Value::Array(values) => values.iter().map(masked).collect(),
        value => value.clone(),
    }
}

#[tokio::test]
async fn every_example_gives_the_answer_that_the_page_shows() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        skip::missing("the examples of docs/http-api.md", "curl is not installed");
        return;
    }
    let examples = examples(&std::fs::read_to_string(PAGE).unwrap());
    assert!(examples.len() >= 10, "the page has examples");
    let home = Home::new();
    let server = home.serve(&[]).await;
    for Example { command, answer } in examples {
        let told = command.replace("127.0.0.1:8080", &server.address.to_string());
        assert_ne!(told, command, "it speaks to the server");
        let mut shell = Command::new("sh");
        shell.args(["-c", &told.replacen("curl ", "curl --silent --show-error ", 1)]);
        let output = Output::of(shell).await.succeeded();
        let [expected, found] = [&answer, &output.stdout].map(|text| {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{command}\n{text}"))
        });
        assert_eq!(masked(&expected), masked(&found), "{command}");
    }
}
