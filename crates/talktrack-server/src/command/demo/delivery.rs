//! Delivers a conversation to the server, as an agent would that transfers stored conversations: the session, the
//! recordings, the messages, the end. What the server already has stays unchanged; an interrupted delivery is
//! completed.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use talktrack::{Status, Timestamp};
use talktrack_client::api::ApiClient;

use super::outline::Outline;
use super::scripts::ScriptLine;
use super::speech::{self, Clip};
use super::timing::{self, TimedMessage};
use crate::error::Failure;

/// The result of delivering a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// The conversation was delivered, with these numbers of messages and recordings.
    Made {
        messages: usize,
        recordings: usize,
    },
    AlreadyThere,
    /// The conversation was deleted before, and is not delivered again.
    Deleted,
}

/// Delivers a conversation. `start` is when it begins, if the server does not have it yet.
pub(super) async fn deliver(
    api: &ApiClient,
    outline: &Outline<'_>,
    start: Timestamp,
    can_speak: bool,
) -> Result<Delivered, Failure> {
    let session = outline.session_path();
    let there = api.get(&session).await?;
    let mut has_recording = false;
    let (start, stored) = if there.status == StatusCode::NOT_FOUND {
        if !start_session(api, outline, start).await? {
            return Ok(Delivered::Deleted);
        }
        (start, Vec::new())
    } else {
        let row = there.into_body()?;
        if !row["ended_at"].is_null() {
            return Ok(Delivered::AlreadyThere);
        }
        has_recording = row["metadata"]["audio_url"].is_string();
        let began = row["started_at"].as_str().and_then(|start| start.parse().ok());
        let mut page = api.get(&format!("{session}/messages?limit=500")).await?.into_body()?;
        (began.unwrap_or(start), page["messages"].as_array_mut().map(std::mem::take).unwrap_or_default())
    };
    let clips = if can_speak && outline.is_recorded { speak_or_warn(outline).await } else { Vec::new() };
    let said = timing::schedule_lines(outline, &clips);
    let recordings = send_messages(api, &session, &said, &clips, start, &stored).await?;
    if clips.iter().any(|clip| !clip.is_empty()) && !has_recording {
        let audio_url =
            api.upload_recording(&format!("{session}/audio"), join_clips(&said, &clips).wav()).await?;
        api.send_json(Method::PATCH, &session, &json!({"metadata": {"audio_url": audio_url}}))
            .await?
            .into_body()?;
    }
    end_session(api, &session, outline, &said, start).await?;
    Ok(Delivered::Made { messages: said.len(), recordings })
}

/// Starts the session. Returns false if it was deleted.
async fn start_session(api: &ApiClient, outline: &Outline<'_>, start: Timestamp) -> Result<bool, Failure> {
    let body = json!({
        "external_id": outline.external_id, "user_id": outline.user_id, "started_at": start,
        "metadata": outline.metadata,
    });
    let answer = api.send_json(Method::POST, "/v1/sessions", &body).await?;
    if answer.status == StatusCode::GONE {
        return Ok(false);
    }
    answer.into_body()?;
    Ok(true)
}

/// Sends the missing messages, and returns how many recordings the conversation then has.
async fn send_messages(
    api: &ApiClient,
    session: &str,
    said: &[TimedMessage],
    clips: &[Clip],
    start: Timestamp,
    stored: &[Value],
) -> Result<usize, Failure> {
    let known: BTreeSet<&str> = stored.iter().filter_map(|row| row["external_id"].as_str()).collect();
    let mut recordings = stored.iter().filter(|row| row["audio_url"].is_string()).count();
    let mut missing = Vec::new();
    for (number, message) in said.iter().enumerate() {
        if message.fields["external_id"].as_str().is_some_and(|name| known.contains(name)) {
            continue;
        }
        let mut fields = message.fields.clone();
        fields.insert("created_at".to_owned(), json!(time_after(start, message.from_ms)));
        if let Some(clip) = clips.get(number).filter(|clip| !clip.is_empty()) {
            fields.insert(
                "audio_url".to_owned(),
                api.upload_recording(&format!("{session}/audio"), clip.wav()).await?.into(),
            );
            recordings += 1;
        }
        missing.push(Value::Object(fields));
    }
    if !missing.is_empty() {
        // Waits until the messages are stored, because a repeated run asks the store which messages are missing.
        let path = format!("{session}/messages?wait=stored");
        api.send_json(Method::POST, &path, &Value::Array(missing)).await?.into_body()?;
    }
    Ok(recordings)
}

async fn end_session(
    api: &ApiClient,
    session: &str,
    outline: &Outline<'_>,
    said: &[TimedMessage],
    start: Timestamp,
) -> Result<(), Failure> {
    let (status, reason) = outline.script.end();
    let until = said.iter().map(|said| said.until_ms).fold(0.0, f64::max);
    let mut body = json!({"reason": reason, "ended_at": time_after(start, until + 900.0)});
    if status == Status::Abandoned {
        body["status"] = json!(status);
    }
    api.send_json(Method::POST, &format!("{session}/end"), &body).await?.into_body()?;
    Ok(())
}

/// Speaks the lines. If a voice is not installed, the conversation has no recordings.
async fn speak_or_warn(outline: &Outline<'_>) -> Vec<Clip> {
    speak_lines(outline).await.unwrap_or_else(|error| {
        eprintln!("{}: no recordings: {error}", outline.external_id);
        Vec::new()
    })
}

/// Speaks the lines of the user and the agent, each in a different voice.
async fn speak_lines(outline: &Outline<'_>) -> io::Result<Vec<Clip>> {
    let voice = outline.script.voice.as_deref().unwrap_or("en-gb");
    let mut clips = Vec::new();
    for line in &outline.lines {
        clips.push(match line {
            ScriptLine::User(text) => speech::speak(&format!("{voice}+m3"), text).await?,
            ScriptLine::Agent(heard, _) => speech::speak(&format!("{voice}+f2"), heard).await?,
            _ => Clip::default(),
        });
    }
    Ok(clips)
}

/// Joins the clips into one recording of the whole conversation.
fn join_clips(said: &[TimedMessage], clips: &[Clip]) -> Clip {
    let mut whole = Clip::default();
    for (message, clip) in said.iter().zip(clips) {
        whole.add(clip, message.from_ms);
    }
    whole
}

fn time_after(start: Timestamp, ms: f64) -> Timestamp {
    start.plus(Duration::from_secs_f64(ms / 1_000.0))
}
