//! `GET /openapi.json` and `GET /docs`: the description of the API, generated from the code, for programs and for
//! people. The page loads nothing from the network.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::MethodRouter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};

use crate::error::ProblemDocument;

/// What the description begins with; the endpoints add themselves.
#[derive(utoipa::OpenApi)]
#[openapi(
    components(schemas(ProblemDocument)),
    info(
        title = "talktrack",
        description = "Records conversations of voice and chat agents while they happen, and reads them back. Errors are problem \
                       documents (RFC 9457). docs/protocol.md describes the WebSocket at `/v1/ws`.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    tags(
        (name = "writing", description = "The server answers a write once what the answer reports is durable."),
        (name = "reading", description = "Returns what is recorded. With a user's token, only what belongs to that user."),
        (name = "deleting", description = "Deletes permanently."),
        (name = "operating", description = "For the operators of the server."),
    )
)]
pub(crate) struct Api;

/// The description as JSON and as HTML, generated at the first request. Cheap to clone; all clones share both.
#[derive(Clone)]
pub(crate) struct DocsPage(Arc<LazyLock<Forms, Box<dyn FnOnce() -> Forms + Send + Sync>>>);

struct Forms {
    json: Bytes,
    html: Bytes,
}

impl DocsPage {
    pub(crate) fn new(describe: impl FnOnce() -> utoipa::openapi::OpenApi + Send + Sync + 'static) -> Self {
        let forms = move || {
            let value = serde_json::to_value(describe()).unwrap_or_default();
            Forms { json: format!("{value:#}").into(), html: render_html(&value).into() }
        };
        Self(Arc::new(LazyLock::new(Box::new(forms))))
    }

    pub(crate) fn json<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        let page = self.clone();
        axum::routing::get(async move || {
            ([(header::CONTENT_TYPE, "application/json")], page.0.json.clone()).into_response()
        })
    }

    pub(crate) fn html<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        // The policy allows this style on the page and nothing else.
        let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        let policy = format!("default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'");
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
            (header::CONTENT_SECURITY_POLICY, policy),
        ];
        let page = self.clone();
        axum::routing::get(async move || (headers, page.0.html.clone()).into_response())
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;background:Canvas;color:CanvasText;font:16px/1.5 system-ui,sans-serif}body{max-width:60rem;margin:2rem auto;padding:0 1rem}\
code{font-family:ui-monospace,monospace;font-size:.9em;overflow-wrap:anywhere}summary{cursor:pointer;padding:.4rem 0}summary b{display:inline-block;\
min-width:4.5rem}table{border-collapse:collapse;margin:.5rem 0 1rem;width:100%}td,th{text-align:left;vertical-align:top;\
padding:.25rem .75rem .25rem 0;border-bottom:1px solid #8884}details{border-bottom:1px solid #8884}section{margin:2rem 0}";

fn render_html(description: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>talktrack: the HTTP API</title><style>{STYLE}</style><main><h1>talktrack: the HTTP API</h1><p>{}</p>\
         <p>For programs: <a href=openapi.json>/openapi.json</a></p>",
        render_text(&description["info"]["description"])
    );
    for tag in description["tags"].as_array().into_iter().flatten() {
        let heading = (escape_html(&tag["name"]), render_text(&tag["description"]));
        // Writing to a string cannot fail.
        let _ = write!(html, "<section><h2>{}</h2><p>{}</p>", heading.0, heading.1);
        for (path, methods) in entries(&description["paths"]) {
            for (method, operation) in
                entries(methods).filter(|(_, operation)| operation["tags"][0] == tag["name"])
            {
                html.push_str(&render_endpoint(method, path, operation));
            }
        }
        html.push_str("</section>");
    }
    html.push_str("<section><h2>schemas</h2>");
    for (name, schema) in entries(&description["components"]["schemas"]) {
        html.push_str(&render_schema(name, schema));
    }
    html.push_str("</section></main></html>");
    html
}

fn render_endpoint(method: &str, path: &str, operation: &Value) -> String {
    let mut html = format!(
        "<details><summary><b>{}</b> <code>{path}</code> {}</summary><p>{}</p>",
        method.to_uppercase(),
        escape_html(&operation["summary"]),
        render_text(&operation["description"])
    );
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let parameters: String = parameters
        .map(|parameter| {
            render_row(
                &escape_html(&parameter["name"]),
                &schema_type(&parameter["schema"]),
                &render_text(&parameter["description"]),
            )
        })
        .collect();
    if !parameters.is_empty() {
        let _ = write!(html, "<table><tr><th>parameter<th>type<th>meaning{parameters}</table>");
    }
    if let Some(body) = schema_of(&operation["requestBody"]) {
        let _ = write!(html, "<p>Request body: {}.</p>", schema_type(body));
    }
    html.push_str("<table><tr><th>status<th>response body<th>meaning");
    for (status, response) in entries(&operation["responses"]) {
        let gives = schema_of(response).map(schema_type).unwrap_or_default();
        html.push_str(&render_row(status, &gives, &render_text(&response["description"])));
    }
    html.push_str("</table></details>");
    html
}

fn render_schema(name: &str, schema: &Value) -> String {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    let rows: String = entries(&schema["properties"])
        .map(|(field, of)| {
            let mark = if required.iter().any(|name| *name == field) { " *" } else { "" };
            render_row(&format!("{field}{mark}"), &schema_type(of), &render_text(&of["description"]))
        })
        .collect();
    let about = render_text(&schema["description"]);
    let fields = if rows.is_empty() { schema_type(schema) } else { format!("<table>{rows}</table>") };
    format!("<details id=\"{name}\"><summary><code>{name}</code></summary><p>{about}</p>{fields}</details>")
}

fn render_row(name: &str, kind: &str, meaning: &str) -> String {
    format!("<tr><td><code>{name}</code><td>{kind}<td>{meaning}")
}

fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter).map(|(key, value)| (key.as_str(), value))
}

/// Returns the schema of the content of a request or a response.
fn schema_of(body: &Value) -> Option<&Value> {
    entries(&body["content"])
        .next()
        .map(|(_, content)| &content["schema"])
        .filter(|schema| schema.is_object())
}

/// Describes a type in a few words, as HTML.
fn schema_type(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#{name}\"><code>{name}</code></a>");
    }
    for choices in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choices].as_array() {
            return choices.iter().map(schema_type).collect::<Vec<_>>().join(" or ");
        }
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        name => name.as_str().unwrap_or("any").to_owned(),
    };
    let format = schema["format"].as_str().map(|format| format!(" ({format})")).unwrap_or_default();
    let items = schema.get("items").map(|items| format!(" of {}", schema_type(items))).unwrap_or_default();
    format!("{name}{format}{items}")
}

/// Converts a description to HTML: text between backticks becomes `code`.
fn render_text(text: &Value) -> String {
    let text = escape_html(text);
    let part = |(place, part): (usize, &str)| match place % 2 {
        0 => part.to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    text.split('`').enumerate().map(part).collect()
}

fn escape_html(text: &Value) -> String {
    text.as_str().unwrap_or_default().replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
