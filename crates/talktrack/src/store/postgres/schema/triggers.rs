//! Triggers, so that whatever any program writes is noted: which five minutes are to be counted anew (the counting is done behind
//! the path), and what was deleted.

use super::tables::{MESSAGES, SESSIONS, STATS};

/// A function that triggers call. It has the rights of its owner: whoever may write a message may not therefore change what is
/// noted.
pub(super) struct TriggerFunction {
    pub(super) name: &'static str,
    pub(super) body: &'static str,
    /// What is set while it runs, as the catalog spells it.
    pub(super) settings: &'static [&'static str],
    /// What goes behind any change of it.
    after: fn() -> String,
}

/// Notes what is to be counted. The one lock that it may meet is held for a moment.
pub(super) const COUNTER: TriggerFunction = TriggerFunction {
    name: "public.conversation_stats_touched",
    body: include_str!("../../../../migrations/postgres/counted.sql"),
    settings: &["search_path=\"\"", "lock_timeout=0"],
    after: count_anew,
};

/// Notes what was deleted. However many rows or sessions there were when its plans were made, an index serves it.
pub(super) const DELETION_RECORDER: TriggerFunction = TriggerFunction {
    name: "public.conversation_deleted",
    body: include_str!("../../../../migrations/postgres/deleted.sql"),
    settings: &[
        "search_path=\"\"",
        "lock_timeout=0",
        "enable_seqscan=off",
        "enable_hashjoin=off",
        "enable_mergejoin=off",
    ],
    after: String::new,
};

/// All of them.
pub(super) const FUNCTIONS: [&TriggerFunction; 2] = [&COUNTER, &DELETION_RECORDER];

/// A trigger, once for each statement.
pub(super) struct Trigger {
    pub(super) name: &'static str,
    pub(super) table: &'static str,
    /// `INSERT`, and so on.
    pub(super) event: &'static str,
    /// What the function sees of the rows.
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

/// What was written under another function may not be noted: everything is counted anew.
pub(super) fn forget_what_another_noted() -> String {
    let TriggerFunction { name, body, .. } = COUNTER;
    format!(
        "DELETE FROM public.{STATS} WHERE place = 0 AND NOT EXISTS (\n  \
         SELECT FROM pg_proc WHERE oid = to_regprocedure('{name}()') AND prosecdef\n  \
         AND prosrc = $talktrack$\n{body}$talktrack$);"
    )
}

/// Makes the function, or puts it in the place of an earlier one.
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

/// The same, for a function that was missing or another one: what it should have noted was not.
pub(super) fn mend_function(function: &TriggerFunction) -> String {
    format!("{}\n{}", create_function(function), (function.after)()).trim_end().to_owned()
}

/// Makes the trigger. What was written without it was not noted.
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

/// Has everything counted anew.
fn count_anew() -> String {
    format!("DELETE FROM public.{STATS} WHERE place = 0;")
}
