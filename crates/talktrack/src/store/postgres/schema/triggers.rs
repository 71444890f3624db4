//! What tells that something is to be counted: triggers, so that whoever writes is counted. They only note which five minutes
//! were touched; the counting is done behind the path.

use super::tables::{MESSAGES, SESSIONS, STATS};

/// The function that all of them call.
pub(super) const MARKER: &str = "public.conversation_stats_touched";

/// Its body.
pub(super) const MARKER_BODY: &str = include_str!("../../../../migrations/postgres/counted.sql");

/// A trigger, once for each statement.
pub(super) struct Trigger {
    pub(super) name: &'static str,
    pub(super) table: &'static str,
    /// `INSERT`, and so on.
    pub(super) event: &'static str,
    /// What the function sees of the rows.
    pub(super) referencing: &'static str,
}

const CAME: &str = " REFERENCING NEW TABLE AS after_it";
const WENT: &str = " REFERENCING OLD TABLE AS before_it";
const CHANGED: &str = " REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it";

macro_rules! triggers {
    ($(($name:literal, $table:ident, $event:literal, $referencing:expr)),* $(,)?) => {
        [$(Trigger { name: $name, table: $table, event: $event, referencing: $referencing }),*]
    };
}

pub(super) const TRIGGERS: [Trigger; 8] = triggers![
    ("talktrack_stats_insert", SESSIONS, "INSERT", CAME),
    ("talktrack_stats_update", SESSIONS, "UPDATE", CHANGED),
    ("talktrack_stats_delete", SESSIONS, "DELETE", WENT),
    ("talktrack_stats_truncate", SESSIONS, "TRUNCATE", ""),
    ("talktrack_stats_insert", MESSAGES, "INSERT", CAME),
    ("talktrack_stats_update", MESSAGES, "UPDATE", CHANGED),
    ("talktrack_stats_delete", MESSAGES, "DELETE", WENT),
    ("talktrack_stats_truncate", MESSAGES, "TRUNCATE", ""),
];

/// What was written under another function may not be noted: everything is counted anew.
pub(super) fn forget_what_another_noted() -> String {
    format!(
        "DELETE FROM public.{STATS} WHERE place = 0 AND NOT EXISTS (\n  \
         SELECT FROM pg_proc WHERE oid = to_regprocedure('{MARKER}()') AND prosecdef\n  \
         AND prosrc = $talktrack$\n{MARKER_BODY}$talktrack$);"
    )
}

/// Makes the function, or puts it in the place of an earlier one. It has the rights of its owner: whoever may write a message
/// may not therefore change what is counted. The one lock that it may meet is held for a moment.
pub(super) fn create_marker() -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {MARKER}()\nRETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET lock_timeout = 0\n\
         AS $talktrack$\n{MARKER_BODY}$talktrack$;\n\
         REVOKE ALL ON FUNCTION {MARKER}() FROM PUBLIC, anon, authenticated;"
    )
}

/// Makes the trigger. What was written without it was not noted: everything is counted anew.
pub(super) fn create_trigger(trigger: &Trigger) -> String {
    let Trigger { name, table, event, referencing } = trigger;
    format!(
        "DROP TRIGGER IF EXISTS {name} ON public.{table};\n\
         CREATE TRIGGER {name} AFTER {event} ON public.{table}{referencing}\n  \
         FOR EACH STATEMENT EXECUTE FUNCTION {MARKER}();\n{}",
        count_anew()
    )
}

/// Has everything counted anew.
pub(super) fn count_anew() -> String {
    format!("DELETE FROM public.{STATS} WHERE place = 0;")
}
