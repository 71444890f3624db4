//! Triggers, so that the writes of all programs are noted: which five-minute buckets are stale and must
//! be recomputed (in the background), and what was deleted.

use super::tables::{MESSAGES, SESSIONS, STATS};

/// A function that triggers call. It runs with its owner's rights: a role that may write messages must not
/// be able to change the notes.
pub(super) struct TriggerFunction {
    pub(super) name: &'static str,
    /// What it is for, for the reader of the script.
    pub(super) purpose: &'static str,
    pub(super) body: &'static str,
    /// The settings that apply while it runs, as the catalog spells them.
    pub(super) settings: &'static [&'static str],
    /// Returns the statement that must follow any change of the function.
    after: fn() -> String,
}

/// Marks stale buckets. The one lock that it may wait for is held only for a moment.
pub(super) const COUNTER: TriggerFunction = TriggerFunction {
    name: "public.conversation_stats_touched",
    purpose: "Notes which buckets of the statistics a statement changed. A server computes them again.",
    body: include_str!("../../migrations/counted.sql"),
    settings: &["search_path=\"\"", "lock_timeout=0"],
    after: restart_rollup,
};

/// Notes deletions. The settings force an index, even if the plans were cached when the tables had few
/// rows.
pub(super) const DELETION_RECORDER: TriggerFunction = TriggerFunction {
    name: "public.conversation_deleted",
    purpose: "Notes what a statement deleted, so that no server writes it again from its outbox.",
    body: include_str!("../../migrations/deleted.sql"),
    settings: &[
        "search_path=\"\"",
        "lock_timeout=0",
        "enable_seqscan=off",
        "enable_hashjoin=off",
        "enable_mergejoin=off",
    ],
    after: String::new,
};

/// All trigger functions.
pub(super) const FUNCTIONS: [&TriggerFunction; 2] = [&COUNTER, &DELETION_RECORDER];

/// A trigger that runs once for each statement.
pub(super) struct Trigger {
    pub(super) name: &'static str,
    pub(super) table: &'static str,
    /// The event, such as `INSERT`.
    pub(super) event: &'static str,
    /// The transition tables that the function sees.
    pub(super) referencing: &'static str,
    pub(super) function: &'static TriggerFunction,
}

const CAME: &str = " REFERENCING NEW TABLE AS after_it";
const WENT: &str = " REFERENCING OLD TABLE AS before_it";
const CHANGED: &str = " REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it";

macro_rules! triggers {
    ($(($name:literal, $table:ident, $event:literal, $referencing:expr, $function:ident)),* $(,)?) => {
        [$(Trigger { name: $name, table: $table, event: $event, referencing: $referencing, function: &$function }),*]
    };
}

pub(super) const TRIGGERS: [Trigger; 10] = triggers![
    ("talktrack_stats_insert", SESSIONS, "INSERT", CAME, COUNTER),
    ("talktrack_stats_update", SESSIONS, "UPDATE", CHANGED, COUNTER),
    ("talktrack_stats_delete", SESSIONS, "DELETE", WENT, COUNTER),
    ("talktrack_stats_truncate", SESSIONS, "TRUNCATE", "", COUNTER),
    ("talktrack_stats_insert", MESSAGES, "INSERT", CAME, COUNTER),
    ("talktrack_stats_update", MESSAGES, "UPDATE", CHANGED, COUNTER),
    ("talktrack_stats_delete", MESSAGES, "DELETE", WENT, COUNTER),
    ("talktrack_stats_truncate", MESSAGES, "TRUNCATE", "", COUNTER),
    ("talktrack_deletions", SESSIONS, "DELETE", WENT, DELETION_RECORDER),
    ("talktrack_deletions", MESSAGES, "DELETE", WENT, DELETION_RECORDER),
];

/// Restarts the rollup if the function differs: rows written with another function may not have been noted.
pub(super) fn restart_rollup_if_changed() -> String {
    let TriggerFunction { name, body, .. } = COUNTER;
    format!(
        "DELETE FROM public.{STATS} WHERE place = 0 AND NOT EXISTS (\n  \
         SELECT FROM pg_proc WHERE oid = to_regprocedure('{name}()') AND prosecdef\n  \
         AND prosrc = $talktrack$\n{body}$talktrack$);"
    )
}

/// Creates or replaces the function.
pub(super) fn create_function(function: &TriggerFunction) -> String {
    let TriggerFunction { name, body, settings, .. } = function;
    let settings: String = settings
        .iter()
        .map(|setting| format!(" SET {}", setting.replacen('=', " = ", 1).replace("\"\"", "''")))
        .collect();
    format!(
        "CREATE OR REPLACE FUNCTION {name}()\nRETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{settings}\n\
         AS $talktrack$\n{body}$talktrack$;\n\
         REVOKE ALL ON FUNCTION {name}() FROM PUBLIC, anon, authenticated;"
    )
}

/// Creates a function that was missing or different, and makes up for what it should have noted.
pub(super) fn repair_function(function: &TriggerFunction) -> String {
    format!("{}\n{}", create_function(function), (function.after)()).trim_end().to_owned()
}

/// Creates the trigger, and makes up for rows that were written without it.
pub(super) fn create_trigger(trigger: &Trigger) -> String {
    let Trigger { name, table, event, referencing, function } = trigger;
    format!(
        "DROP TRIGGER IF EXISTS {name} ON public.{table};\n\
         CREATE TRIGGER {name} AFTER {event} ON public.{table}{referencing}\n  \
         FOR EACH STATEMENT EXECUTE FUNCTION {}();\n{}",
        function.name,
        (function.after)()
    )
    .trim_end()
    .to_owned()
}

/// Makes the rollup start over.
fn restart_rollup() -> String {
    format!("DELETE FROM public.{STATS} WHERE place = 0;")
}
