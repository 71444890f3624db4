//! The messages of an export that are not written yet, because a result or another call may still belong to them.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use talktrack::MessageId;

use super::limits::{MAX_CALLS, MAX_ID, to_id, to_name};
use super::messages::{AssistantJson, CallJson, FunctionJson, ToolJson, to_json};

/// The most messages and calls that wait, and the most bytes of their text. If there are more, the oldest are written, and
/// open calls among them are closed with [`NO_RESULT`]. This keeps the memory of an export bounded.
pub(super) const MAX_WAITING: usize = 1_000;
pub(super) const MAX_WAITING_BYTES: usize = 1 << 20;
/// The number of messages for which a result that came before its call waits for it.
const MAX_AHEAD: usize = 8;
/// The number of written calls whose further results are recognised.
const MAX_WRITTEN_CALLS: usize = 1_000;

/// The result of a call without a result: the API requires one.
pub(super) const NO_RESULT: &str = "No result was recorded.";
/// The name of a function that no part names.
const UNKNOWN_FUNCTION: &str = "unknown_function";

/// What results are matched with calls by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallKey(String);

impl CallKey {
    pub(super) fn from_id(id: &str) -> Self {
        Self(to_id(id))
    }

    /// Returns the key of a part without an id.
    pub(super) fn from_row(row: MessageId, place: usize) -> Self {
        Self(if place == 0 { row.to_string() } else { format!("{}_{place}", row.as_uuid().simple()) })
    }
}

/// A tool call, and its result once that is known.
#[derive(Debug)]
pub(super) struct Call {
    key: CallKey,
    /// True if the caller gave the id.
    has_id: bool,
    name: String,
    arguments: String,
    result: Option<String>,
}

impl Call {
    /// Makes a call. `unnamed` is its key if it has no id.
    pub(super) fn new(key: Option<CallKey>, unnamed: CallKey, name: Option<&str>, arguments: String) -> Self {
        let has_id = key.is_some();
        let name = to_name(name.unwrap_or_default(), UNKNOWN_FUNCTION);
        Self { key: key.unwrap_or(unnamed), has_id, name, arguments, result: None }
    }

    fn bytes(&self) -> usize {
        self.name.len() + self.arguments.len() + self.result.as_ref().map_or(0, String::len)
    }

    fn repeats(&self, other: &Self) -> bool {
        self.has_id && self.key == other.key && self.name == other.name && self.arguments == other.arguments
    }
}

/// A result of a tool.
#[derive(Debug, Clone)]
pub(super) struct ToolResult<'a> {
    /// The call that it answers. `None` if it does not say.
    pub(super) key: Option<CallKey>,
    pub(super) name: Option<&'a str>,
    pub(super) content: &'a str,
    /// The key to use if there is no such call.
    pub(super) unnamed: CallKey,
}

enum Item {
    /// A complete message, as JSON.
    Turn(String),
    Assistant(AssistantTurn),
}

/// A message of the assistant: its words, its calls, or both.
#[derive(Default)]
struct AssistantTurn {
    words: String,
    calls: Vec<Call>,
    /// True if the call is made up for a result whose call was not seen yet.
    is_ahead: bool,
}

/// A call that was written, with what recognises a repetition of its result.
struct WrittenCall {
    key: CallKey,
    name: String,
    result: Option<u64>,
}

/// Messages that wait for the results of calls, oldest first.
#[derive(Default)]
pub(super) struct PendingMessages {
    items: VecDeque<Item>,
    /// The number of messages and calls, and the bytes of their text.
    count: usize,
    bytes: usize,
    written: VecDeque<WrittenCall>,
}

impl PendingMessages {
    /// Adds a message of anyone but the assistant and tools, as JSON.
    pub(super) fn add_turn(&mut self, json: String) {
        self.push(Item::Turn(json));
    }

    /// Adds words and calls of the assistant. If `continues`, they belong to the message of the assistant before, as long as
    /// none of its calls has a result.
    pub(super) fn add_assistant(&mut self, words: &str, calls: impl Iterator<Item = Call>, continues: bool) {
        let calls = self.without_repetitions(calls);
        if words.is_empty() && calls.is_empty() {
            return;
        }
        let continues = continues && !calls.is_empty();
        match self.items.back_mut() {
            Some(Item::Assistant(turn)) if continues && !turn.has_results() => {
                self.bytes += turn.add_words(words);
            }
            _ => self.push(Item::Assistant(AssistantTurn { words: words.to_owned(), ..Default::default() })),
        }
        calls.into_iter().for_each(|call| self.add_call(call));
    }

    /// Returns the calls that are not recorded twice.
    fn without_repetitions(&self, calls: impl Iterator<Item = Call>) -> Vec<Call> {
        let mut new: Vec<Call> = Vec::new();
        for call in calls {
            let open = self.turns().flat_map(|turn| &turn.calls).filter(|open| open.result.is_none());
            if !open.chain(&new).any(|open| call.repeats(open)) {
                new.push(call);
            }
        }
        new
    }

    fn add_call(&mut self, mut call: Call) {
        call.result = self.take_result_ahead(&call.key);
        self.count += 1;
        self.bytes += call.bytes();
        match self.items.back_mut() {
            Some(Item::Assistant(turn)) if turn.calls.len() < MAX_CALLS && !turn.is_ahead => {
                turn.calls.push(call)
            }
            _ => {
                self.count += 1;
                self.items
                    .push_back(Item::Assistant(AssistantTurn { calls: vec![call], ..Default::default() }));
            }
        }
    }

    /// Adds a result to its call. A call is made up for a result that has none, because the API takes no other one, and
    /// because a model must not take the words of a tool for those of someone else.
    pub(super) fn add_result(&mut self, result: ToolResult<'_>) {
        if let Some((turn, call)) = self.find_open_call(&result) {
            self.bytes += result.content.len();
            if let Some(Item::Assistant(found)) = self.items.get_mut(turn) {
                let is_first = !found.has_results();
                found.calls[call].result = Some(result.content.to_owned());
                if is_first {
                    self.join_words_after(turn);
                }
            }
            return;
        }
        let Some(key) = result.key else {
            if !result.content.trim().is_empty() {
                self.push_made_up(result.unnamed, result.name, result.content, false);
            }
            return;
        };
        if self.add_further_result(&key, result.content) {
            return;
        }
        match self.written.iter().rev().find(|call| call.key == key) {
            Some(call) if call.result == Some(hash(result.content)) => {}
            Some(call) => {
                let name = call.name.clone();
                self.push_made_up(key, Some(&name), result.content, false);
            }
            None => self.push_made_up(key, result.name, result.content, true),
        }
    }

    /// Returns the next messages, as JSON, if nothing can belong to them any more, or if too much waits.
    pub(super) fn pop_ready(&mut self) -> Option<Vec<String>> {
        let is_ready = match self.items.front()? {
            Item::Turn(_) => true,
            Item::Assistant(turn) if turn.is_ahead => self.items.len() > MAX_AHEAD,
            Item::Assistant(turn) => {
                self.items.len() > 1 && turn.calls.iter().all(|call| call.result.is_some())
            }
        };
        if is_ready || self.count > MAX_WAITING || self.bytes > MAX_WAITING_BYTES { self.pop() } else { None }
    }

    /// Returns the next messages, as JSON. Open calls are closed.
    pub(super) fn pop(&mut self) -> Option<Vec<String>> {
        let item = self.items.pop_front()?;
        self.count = self.count.saturating_sub(1);
        match item {
            Item::Turn(json) => {
                self.bytes = self.bytes.saturating_sub(json.len());
                Some(vec![json])
            }
            Item::Assistant(turn) => {
                self.count = self.count.saturating_sub(turn.calls.len());
                self.bytes = self.bytes.saturating_sub(turn.bytes());
                let messages = turn.to_messages();
                for call in turn.calls {
                    let result = call.result.as_deref().map(hash);
                    self.written.push_back(WrittenCall { key: call.key, name: call.name, result });
                }
                let surplus = self.written.len().saturating_sub(MAX_WRITTEN_CALLS);
                self.written.drain(..surplus);
                Some(messages)
            }
        }
    }

    fn push(&mut self, item: Item) {
        self.count += 1;
        self.bytes += match &item {
            Item::Turn(json) => json.len(),
            Item::Assistant(turn) => turn.bytes(),
        };
        self.items.push_back(item);
    }

    fn push_made_up(&mut self, key: CallKey, name: Option<&str>, result: &str, is_ahead: bool) {
        let mut call = Call::new(Some(key.clone()), key, name, "{}".to_owned());
        call.result = Some(result.to_owned());
        self.count += 1;
        self.push(Item::Assistant(AssistantTurn { words: String::new(), calls: vec![call], is_ahead }));
    }

    fn turns(&self) -> impl Iterator<Item = &AssistantTurn> {
        self.items.iter().filter_map(|item| if let Item::Assistant(turn) = item { Some(turn) } else { None })
    }

    /// Finds the call without a result that this result answers: in the newest turn that has one, the first one.
    fn find_open_call(&self, result: &ToolResult<'_>) -> Option<(usize, usize)> {
        let name = result.name.map(|name| to_name(name, UNKNOWN_FUNCTION));
        let answers = |call: &Call, by_name: bool| match &result.key {
            Some(key) => call.key == *key,
            None => !by_name || name.as_ref() == Some(&call.name),
        };
        let find = |by_name: bool| {
            self.items.iter().enumerate().rev().find_map(|(at, item)| {
                let Item::Assistant(turn) = item else { return None };
                let call =
                    turn.calls.iter().position(|call| call.result.is_none() && answers(call, by_name))?;
                Some((at, call))
            })
        };
        // A result without an id belongs to the call with its name, otherwise to any.
        name.as_ref().and_then(|_| find(true)).or_else(|| find(false))
    }

    /// Adds a further result to a call that has one. A result that only repeats it changes nothing. Returns false if no such
    /// call waits.
    fn add_further_result(&mut self, key: &CallKey, content: &str) -> bool {
        let turns = self.items.iter_mut().rev();
        let turns = turns.filter_map(|item| if let Item::Assistant(turn) = item { Some(turn) } else { None });
        let result = turns.flat_map(|turn| &mut turn.calls).find(|call| call.key == *key);
        let Some(Call { result: Some(result), .. }) = result else { return false };
        if result != content {
            result.push('\n');
            result.push_str(content);
            self.bytes += content.len() + 1;
        }
        true
    }

    /// Removes the call that was made up for a result, and returns the result.
    fn take_result_ahead(&mut self, key: &CallKey) -> Option<String> {
        let is_it = |item: &Item| matches!(item, Item::Assistant(turn) if turn.is_ahead && turn.calls.iter().any(|call| call.key == *key));
        let at = self.items.iter().position(is_it)?;
        let Some(Item::Assistant(turn)) = self.items.remove(at) else { return None };
        self.count = self.count.saturating_sub(1 + turn.calls.len());
        self.bytes = self.bytes.saturating_sub(turn.bytes());
        turn.calls.into_iter().find_map(|call| call.result)
    }

    /// Joins what the assistant said while its calls were open with the message that has the calls.
    fn join_words_after(&mut self, turn: usize) {
        while let Some(Item::Assistant(next)) = self.items.get(turn + 1)
            && next.calls.is_empty()
        {
            let Some(Item::Assistant(next)) = self.items.remove(turn + 1) else { return };
            self.count = self.count.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(next.bytes());
            if let Some(Item::Assistant(turn)) = self.items.get_mut(turn) {
                self.bytes += turn.add_words(&next.words);
            }
        }
    }
}

impl AssistantTurn {
    fn has_results(&self) -> bool {
        self.calls.iter().any(|call| call.result.is_some())
    }

    fn bytes(&self) -> usize {
        self.words.len() + self.calls.iter().map(Call::bytes).sum::<usize>()
    }

    /// Adds words on a line of their own, and returns the number of bytes added.
    fn add_words(&mut self, words: &str) -> usize {
        let before = self.words.len();
        if !self.words.is_empty() && !words.is_empty() {
            self.words.push('\n');
        }
        self.words.push_str(words);
        self.words.len() - before
    }

    /// Returns the message and the results of its calls, as JSON.
    fn to_messages(&self) -> Vec<String> {
        let ids = self.choose_ids();
        let calls = self.calls.iter().zip(&ids).map(|(call, id)| CallJson {
            id,
            r#type: "function",
            function: FunctionJson { name: &call.name, arguments: &call.arguments },
        });
        let content = Some(&*self.words).filter(|words| !words.is_empty());
        let message = AssistantJson { role: "assistant", content, tool_calls: calls.collect() };
        let mut messages = vec![to_json(&message)];
        messages.extend(self.calls.iter().zip(&ids).map(|(call, id)| {
            let content = call.result.as_deref().unwrap_or(NO_RESULT);
            to_json(&ToolJson { role: "tool", tool_call_id: id, content })
        }));
        messages
    }

    /// Returns an id for each call: its own one, unless an earlier call of the message has it.
    fn choose_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for CallKey(key) in self.calls.iter().map(|call| &call.key) {
            let is_free = |id: &String| {
                !ids.contains(id) && (id == key || self.calls.iter().all(|call| call.key.0 != *id))
            };
            let numbered = (2..).map(|number| {
                let ending = format!("_{number}");
                key.chars().take(MAX_ID - ending.len()).collect::<String>() + &ending
            });
            ids.extend(std::iter::once(key.clone()).chain(numbered).find(is_free));
        }
        ids
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
