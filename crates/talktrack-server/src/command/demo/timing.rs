//! The time of each message, and the metrics of each turn.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::numbers::{self, Waits, between, skewed, tenths};
use super::outline::Outline;
use super::scripts::{Channel, ScriptLine};
use super::speech::Clip;

/// A message with its position in the conversation, in milliseconds.
#[derive(Debug)]
pub(super) struct TimedMessage {
    pub(super) from_ms: f64,
    pub(super) until_ms: f64,
    /// The fields of the `message` frame without its time and recording.
    pub(super) fields: Map<String, Value>,
}

/// Returns the messages of a conversation in order. `clips` contains the speech of each line, empty for lines without
/// speech.
pub(super) fn schedule_lines(outline: &Outline<'_>, clips: &[Clip]) -> Vec<TimedMessage> {
    let mut talk = Timeline {
        outline,
        rng: outline.rng.clone(),
        now_ms: 0.0,
        user_until_ms: None,
        is_interrupted: false,
        calls: 0,
        context: 160,
    };
    let silence = Clip::default();
    let said = outline.lines.iter().enumerate();
    said.map(|(number, line)| {
        let mut said = talk.time_line(line, clips.get(number).unwrap_or(&silence));
        said.fields.insert("external_id".to_owned(), json!(format!("{}", number + 1)));
        said
    })
    .collect()
}

struct Timeline<'o> {
    outline: &'o Outline<'o>,
    rng: Rng,
    /// When the last message ended.
    now_ms: f64,
    /// When the user's last speech ended, until the agent has answered it.
    user_until_ms: Option<f64>,
    /// True if the user interrupts the agent.
    is_interrupted: bool,
    calls: usize,
    /// The tokens that the model has received so far.
    context: u64,
}

impl Timeline<'_> {
    fn time_line(&mut self, line: &ScriptLine, clip: &Clip) -> TimedMessage {
        match line {
            ScriptLine::System(text) => self.time_plain("system", "message", text),
            ScriptLine::Event(text) => {
                self.now_ms += between(&mut self.rng, 150.0, 600.0);
                self.time_plain("system", "event", text)
            }
            ScriptLine::User(text) => self.time_user(text, clip),
            ScriptLine::Agent(heard, generated) => self.time_agent(heard, generated.as_deref(), clip),
            ScriptLine::Call(function, arguments) => self.time_call(function, arguments),
            ScriptLine::Result(answer) => self.time_result(answer),
        }
    }

    fn time_plain(&mut self, role: &str, kind: &str, text: &str) -> TimedMessage {
        self.context += numbers::tokens(text);
        timed_message(self.now_ms, self.now_ms, json!({"role": role, "kind": kind, "content": text}))
    }

    fn time_user(&mut self, text: &str, clip: &Clip) -> TimedMessage {
        self.context += numbers::tokens(text);
        let pause = skewed(&mut self.rng, 650.0, 0.5);
        let language = &self.outline.script.language;
        if self.is_typed() {
            let typing = 1_500.0 + 110.0 * numbers::speaking(&mut self.rng, text) / 62.0;
            self.now_ms = tenths(self.now_ms + pause + typing);
            self.user_until_ms = Some(self.now_ms);
            let fields = json!({"role": "user", "content": text, "metrics": {"language": language}});
            return timed_message(self.now_ms, self.now_ms, fields);
        }
        // A user who interrupts begins a moment before the agent stops.
        let from = if self.is_interrupted {
            self.now_ms - between(&mut self.rng, 120.0, 320.0)
        } else {
            self.now_ms + pause
        };
        let (from, until) = self.time_speech(from.max(0.0), text, clip);
        (self.now_ms, self.user_until_ms, self.is_interrupted) = (until, Some(until), false);
        let waits = Waits::draw(&mut self.rng);
        let metrics = json!({
            "stt_ms": waits.stt, "eou_ms": waits.end_of_utterance, "confidence": numbers::confidence(&mut self.rng),
            "language": language, "audio_start_ms": from, "audio_end_ms": until,
        });
        // The model begins when the end of the user's speech is certain.
        self.now_ms += waits.stt + waits.end_of_utterance;
        timed_message(from, until, json!({"role": "user", "content": text, "metrics": metrics}))
    }

    fn time_agent(&mut self, heard: &str, generated: Option<&str>, clip: &Clip) -> TimedMessage {
        let waits = Waits::draw(&mut self.rng);
        let mut metrics = self.model_metrics(generated.unwrap_or(heard), waits.first_token);
        let first_byte = if self.is_typed() { 0.0 } else { waits.first_byte };
        let from = self.now_ms + waits.first_token + first_byte;
        let (from, until) =
            if self.is_typed() { (tenths(from), tenths(from)) } else { self.time_speech(from, heard, clip) };
        if let Some(user_until_ms) = self.user_until_ms.take() {
            metrics.insert("e2e_ms".to_owned(), json!(tenths(from - user_until_ms)));
        }
        if !self.is_typed() {
            metrics.insert("tts_ttfb_ms".to_owned(), json!(first_byte));
            metrics.insert("audio_start_ms".to_owned(), json!(from));
            metrics.insert("audio_end_ms".to_owned(), json!(until));
        }
        let mut fields = json!({"role": "assistant", "content": heard});
        if let Some(generated) = generated {
            metrics.insert("heard_ms".to_owned(), json!(tenths(until - from)));
            fields["interrupted"] = json!(true);
            fields["content_generated"] = json!(generated);
        }
        fields["metrics"] = Value::Object(metrics);
        (self.now_ms, self.is_interrupted) = (until, generated.is_some());
        timed_message(from, until, fields)
    }

    fn time_call(&mut self, function: &str, arguments: &Value) -> TimedMessage {
        let waits = Waits::draw(&mut self.rng);
        // A tool call needs no speech, and the model is warm.
        let first_token = tenths(waits.first_token * 0.5);
        let metrics = self.model_metrics(&arguments.to_string(), first_token);
        self.calls += 1;
        self.now_ms = tenths(self.now_ms + first_token);
        let parts =
            json!([{"type": "tool_call", "id": self.call_id(), "name": function, "arguments": arguments}]);
        let fields = json!({"role": "assistant", "kind": "tool_call", "content": "", "parts": parts, "metrics": metrics});
        timed_message(self.now_ms, self.now_ms, fields)
    }

    fn time_result(&mut self, answer: &Value) -> TimedMessage {
        let took = skewed(&mut self.rng, 130.0, 0.4).min(700.0);
        self.now_ms = tenths(self.now_ms + answer["after_ms"].as_f64().unwrap_or(took));
        let text = answer.to_string();
        self.context += numbers::tokens(&text);
        let parts = json!([{"type": "tool_call_response", "id": self.call_id(), "response": answer}]);
        let fields = json!({"role": "tool", "kind": "tool_result", "content": text, "parts": parts});
        timed_message(self.now_ms, self.now_ms, fields)
    }

    fn call_id(&self) -> String {
        format!("call_{:02}", self.calls)
    }

    fn is_typed(&self) -> bool {
        self.outline.script.channel == Channel::Chat
    }

    /// Returns the beginning and the end of the speech.
    fn time_speech(&mut self, from: f64, text: &str, clip: &Clip) -> (f64, f64) {
        let takes = if clip.is_empty() { numbers::speaking(&mut self.rng, text) } else { clip.ms() };
        let from = tenths(from);
        (from, tenths(from + takes))
    }

    fn model_metrics(&mut self, generated: &str, first_token: f64) -> Map<String, Value> {
        let (model, provider) = self.outline.model;
        let tokens = numbers::tokens(generated);
        let mut metrics = Map::new();
        metrics.insert("llm_ttft_ms".to_owned(), json!(first_token));
        metrics.insert("input_tokens".to_owned(), json!(self.context));
        metrics.insert("output_tokens".to_owned(), json!(tokens));
        metrics.insert("model".to_owned(), json!(model));
        metrics.insert("provider".to_owned(), json!(provider));
        self.context += tokens;
        metrics
    }
}

fn timed_message(from_ms: f64, until_ms: f64, fields: Value) -> TimedMessage {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    TimedMessage { from_ms, until_ms, fields }
}

#[cfg(test)]
mod tests {
    use super::super::{outline, scripts};
    use super::*;

    /// Checks what the pages and statistics show: most answers within a second, some of three seconds, and no message
    /// before its time.
    #[test]
    fn turns_follow_each_other_and_answers_come_as_fast_as_real_ones() {
        let scripts = scripts::load_scripts().unwrap();
        let mut answers = Vec::new();
        for number in 0..200 {
            let outline = outline::draw(&scripts, 1, number).unwrap();
            let talk = schedule_lines(&outline, &[]);
            let starts: Vec<f64> = talk.iter().map(|said| said.from_ms).collect();
            assert!(starts.windows(2).all(|pair| pair[0] <= pair[1]), "{starts:?}");
            assert!(talk.iter().all(|said| said.until_ms < 300_000.0), "{starts:?}");
            answers.extend(talk.iter().filter_map(|said| said.fields.get("metrics")?["e2e_ms"].as_f64()));
        }
        answers.sort_by(f64::total_cmp);
        let median = answers[answers.len() / 2];
        let slowest = answers[answers.len() - 1];
        assert!((700.0..1_000.0).contains(&median), "p50 {median}");
        assert!((2_400.0..5_000.0).contains(&slowest), "the slowest {slowest}");
    }
}
