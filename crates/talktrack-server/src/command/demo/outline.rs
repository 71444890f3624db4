//! The outline of a conversation: who talks to whom about what, determined by its number and the seed.

use fastrand::Rng;
use serde_json::{Map, Value, json};
use talktrack::UserId;
use uuid::Uuid;

use super::scripts::{Channel, Script, ScriptLine};
use crate::error::Failure;

/// Models with their providers.
const MODELS: [(&str, &str); 4] = [
    ("gpt-4o-mini", "openai"),
    ("gemini-2.5-flash", "google"),
    ("mistral-small-latest", "mistral"),
    ("llama-3.3-70b-versatile", "groq"),
];

/// A conversation without times.
#[derive(Debug)]
pub(super) struct Outline<'s> {
    pub(super) script: &'s Script,
    /// The user, who also has other conversations, as a repeated caller would.
    pub(super) user_id: UserId,
    pub(super) model: (&'static str, &'static str),
    pub(super) metadata: Map<String, Value>,
    pub(super) lines: Vec<ScriptLine>,
    /// True if the conversation gets recordings, provided that espeak-ng is installed.
    pub(super) is_recorded: bool,
    /// The name of the session. The same name is the same conversation, so none is created twice.
    pub(super) external_id: String,
    /// The random generator for everything else of this conversation.
    pub(super) rng: Rng,
}

/// Draws the conversation with this number.
pub(super) fn draw(scripts: &[Script], seed: u64, number: usize) -> Result<Outline<'_>, Failure> {
    let round = number / scripts.len();
    // Each round uses every script once, in a different order.
    let mut order: Vec<&Script> = scripts.iter().collect();
    generator(seed, "round", round).shuffle(&mut order);
    let mut rng = generator(seed, "conversation", number);
    of_script(order[number % scripts.len()], &mut rng, format!("demo-{seed}-{number}"), round == 0)
}

/// Draws a live conversation, which equals no numbered one.
pub(super) fn draw_live(scripts: &[Script], seed: u64) -> Result<Outline<'_>, Failure> {
    let mut rng = generator(seed, "live", 0);
    let talks = |script: &&Script| script.channel != Channel::Chat && script.language.starts_with("en");
    let scripts: Vec<&Script> =
        scripts.iter().filter(talks).filter(|script| script.end().1 == "completed").collect();
    let script =
        rng.choice(scripts).ok_or_else(|| Failure::new("there is no script for a live conversation"))?;
    of_script(script, &mut rng, String::new(), false)
}

fn of_script<'s>(
    script: &'s Script,
    rng: &mut Rng,
    external_id: String,
    is_first: bool,
) -> Result<Outline<'s>, Failure> {
    let is_recorded = is_first && script.voice.is_some();
    // Conversations that people listen to or watch include every interruption of the script.
    let shows_all = is_recorded || external_id.is_empty();
    let language = script.language.split('-').next().unwrap_or_default();
    let callers = if language == "en" { 7 } else { 2 };
    let caller = rng.usize(..callers);
    let user = format!("{language}-{caller}.demo.talktrack");
    let mut metadata = Map::new();
    let mut add = |name: &str, value: Value| drop(metadata.insert(name.to_owned(), value));
    add("channel", json!(script.channel.as_str()));
    add("agent", json!(script.agent));
    add("agent_version", json!(*rng.choice(&["2.3.1", "2.4.0", "2.4.0"]).unwrap_or(&"2.4.0")));
    add("language", json!(script.language));
    if script.channel == Channel::Phone {
        // Phone numbers that are reserved for fiction.
        add("caller", json!(format!("+1 202 555 01{:02}", 10 * language.len() + caller)));
    }
    add("source", json!("talktrack demo"));
    Ok(Outline {
        script,
        user_id: UserId::new(Uuid::new_v5(&Uuid::NAMESPACE_DNS, user.as_bytes())),
        model: *rng.choice(&MODELS).unwrap_or(&MODELS[0]),
        metadata,
        lines: script.filled(rng, shows_all)?,
        is_recorded,
        external_id,
        rng: rng.fork(),
    })
}

/// Makes a generator whose numbers depend only on these arguments, not on what else was drawn.
pub(super) fn generator(seed: u64, what: &str, number: usize) -> Rng {
    let name = format!("{seed} {what} {number}");
    let (high, low) = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).as_u64_pair();
    Rng::with_seed(high ^ low)
}

impl Outline<'_> {
    /// Assigns the conversation to this user, with another name, so that it differs from the conversation of the same
    /// number without a user.
    pub(super) fn belongs_to(&mut self, user_id: UserId) {
        self.external_id = format!("{}-{user_id}", self.external_id);
        self.user_id = user_id;
    }

    /// Returns the path of the session by its name. Which id the name means depends on whether the caller is a key or a
    /// user.
    pub(super) fn session_path(&self) -> String {
        let name: String = form_urlencoded::byte_serialize(self.external_id.as_bytes()).collect();
        format!("/v1/sessions/external:{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripts;
    use super::*;

    #[test]
    fn every_script_can_be_read_and_no_slot_is_left_open() {
        let scripts = scripts::load_scripts().unwrap();
        for number in 0..3 * scripts.len() {
            let outline = draw(&scripts, 1, number).unwrap();
            let said = format!("{:?}", outline.lines);
            let slots =
                said.split('{').skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            assert_eq!(slots.collect::<Vec<_>>(), [""; 0], "{}", outline.script.name);
        }
    }

    #[test]
    fn the_first_round_has_every_script_and_the_same_seed_draws_the_same() {
        let scripts = scripts::load_scripts().unwrap();
        let draw = |seed, number| draw(&scripts, seed, number).unwrap();
        let names: std::collections::BTreeSet<_> =
            (0..scripts.len()).map(|n| &draw(1, n).script.name).collect();
        assert_eq!(names.len(), scripts.len());
        let one = draw(1, 3);
        let same = draw(1, 3);
        let other = draw(2, 3);
        assert_eq!((&one.lines, one.session_path()), (&same.lines, same.session_path()));
        assert_ne!(one.session_path(), other.session_path());
    }
}
