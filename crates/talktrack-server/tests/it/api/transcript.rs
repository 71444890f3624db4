//! Requests and their responses as text, compared with a reviewed snapshot.

use std::collections::HashMap;

use serde_json::Value;

use crate::harness::Request;

/// The requests and responses as text.
#[derive(Default)]
pub(super) struct Transcript(String);

/// Fields whose values differ from run to run.
const CHANCE: [&str; 3] = ["seq", "last_event_at", "next_cursor"];

impl Transcript {
    /// Sends the request and appends the request and its response.
    pub(super) async fn add(&mut self, what: &str, request: Request<'_>) {
        let asked = request.in_words();
        let answer = request.send().await;
        let mut lines = format!("# {what}\n{}\n\n{}\n", asked.trim_end(), answer.status);
        for name in ["content-type", "www-authenticate", "retry-after", "allow"] {
            lines.extend(answer.header(name).map(|value| format!("{name}: {value}\n")));
        }
        lines += &match serde_json::from_str::<Value>(&answer.body) {
            Ok(mut body) => {
                mask(&mut body);
                format!("{body:#}")
            }
            Err(_) if answer.header("content-type").is_some_and(|of| of.starts_with("text/csv")) => {
                mask_csv(answer.body)
            }
            Err(_) => answer.body,
        };
        self.0 += &format!("{}\n\n\n", lines.trim_end());
    }

    /// Asserts that the text equals the snapshot of this name.
    pub(super) fn is_as_before(&self, name: &str) {
        insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots"}, {
            insta::assert_snapshot!(name, self.0.trim_end());
        });
    }
}

/// Masks the values of columns, and leaves all other bytes as they are.
fn mask_csv(mut body: String) -> String {
    let table = body.clone();
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    for row in reader.deserialize::<HashMap<String, String>>() {
        let row = row.unwrap();
        for name in CHANCE {
            let value = row.get(name).filter(|value| !value.is_empty());
            body = value.map_or(body.clone(), |value| body.replace(value, &format!("[{name}]")));
        }
    }
    body
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Null => {}
                    value if CHANCE.contains(&name.as_str()) => *value = format!("[{name}]").into(),
                    value => mask(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        _ => {}
    }
}
