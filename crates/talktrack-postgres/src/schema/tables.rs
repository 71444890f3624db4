//! The schema as data. All statements that create, compare or repair it are built from this module.

use super::quoting::quote_literals;

/// A table.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
}

/// A column as it should be.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// The type as [`CATALOG`](super::catalog) spells it.
    pub(super) sql_type: &'static str,
    pub(super) nullable: bool,
    pub(super) default: Option<&'static str>,
    /// The value for rows that existed before the column, or that hold a null where none is allowed. The
    /// default is used if this is missing. `this` is the row.
    fill: Option<&'static str>,
    /// What follows the column when the table is created.
    pub(super) constraint: &'static str,
    /// True if `ON CONFLICT` needs the column to be unique.
    pub(super) key: bool,
    /// The words that talktrack writes to the column: a check on it must allow all of them.
    pub(super) words: &'static [&'static str],
    /// The name of the column in earlier projects.
    pub(super) former: Option<&'static str>,
    /// A remark for readers of the script.
    pub(super) note: &'static str,
}

impl Column {
    const fn new(name: &'static str, sql_type: &'static str) -> Self {
        Self {
            name,
            sql_type,
            nullable: true,
            default: None,
            fill: None,
            constraint: "",
            key: false,
            words: &[],
            former: None,
            note: "",
        }
    }

    const fn required(self) -> Self {
        Self { nullable: false, ..self }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    const fn fill(self, fill: &'static str) -> Self {
        Self { fill: Some(fill), ..self }
    }

    const fn key(self, constraint: &'static str) -> Self {
        Self { key: true, constraint, ..self }
    }

    const fn constraint(self, constraint: &'static str) -> Self {
        Self { constraint, ..self }
    }

    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    const fn former(self, former: &'static str) -> Self {
        Self { former: Some(former), ..self }
    }

    const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// Returns the value for rows that have none, if one can be known.
    pub(super) fn fill_value(&self) -> Option<&'static str> {
        self.fill.or(self.default)
    }

    /// True if existing rows need a value other than the default.
    pub(super) fn is_filled_by_row(&self) -> bool {
        self.fill.is_some()
    }
}

pub(super) const SESSIONS: &str = "conversation_sessions";
pub(super) const MESSAGES: &str = "conversation_messages";
pub(super) const SEARCH: &str = "conversation_search";
pub(super) const DELETIONS: &str = "conversation_deletions";
pub(super) const USER_DELETIONS: &str = "conversation_user_deletions";
pub(super) const MESSAGE_DELETIONS: &str = "conversation_message_deletions";
pub(super) const NODES: &str = "conversation_nodes";
pub(super) const STATS: &str = "conversation_stats";
pub(super) const STALE: &str = "conversation_stats_stale";
pub(super) const STORE: &str = "conversation_store";

/// The column of the store's row that notes the access of users.
pub(super) const USER_ACCESS: &str = "user_access";

/// The tables. A table comes after those that it refers to.
pub(super) const TABLES: [Table; 10] = [
    Table {
        name: SESSIONS,
        columns: &[
            Column::new("id", "uuid").required().default("gen_random_uuid()").key("PRIMARY KEY"),
            Column::new("session_id", "uuid").required().fill("this.id").key("UNIQUE"),
            Column::new("user_id", "uuid").required(),
            Column::new("started_at", "timestamptz")
                .required()
                .default("now()")
                .fill("coalesce(this.created_at, now())")
                .former("session_start"),
            Column::new("ended_at", "timestamptz").former("session_end"),
            Column::new("duration_seconds", "double precision"),
            Column::new("metadata", "jsonb").default("'{}'::jsonb"),
            Column::new("created_at", "timestamptz").default("now()"),
            Column::new("external_id", "text").note("the caller's own id, if it is not a UUID"),
            Column::new("user_external_id", "text").note("the caller's own id of the user, if it is not a UUID"),
            Column::new("status", "text")
                .required()
                .default("'active'")
                .fill("CASE WHEN this.ended_at IS NULL THEN 'active' ELSE 'ended' END")
                .words(&["active", "ended", "abandoned"])
                .note("active | ended | abandoned"),
            Column::new("end_reason", "text")
                .note("disconnect | completed | idle_timeout | shutdown | error | the caller's word"),
            Column::new("message_count", "bigint")
                .required()
                .default("0")
                .fill(
                    "(SELECT count(*) FROM public.conversation_messages AS m WHERE m.session_id = this.session_id)",
                ),
            Column::new("last_event_at", "timestamptz"),
            Column::new("end_inferred", "boolean")
                .required()
                .default("false")
                .fill("coalesce(this.status = 'abandoned', false)")
                .note("true if the end was inferred, not requested"),
            Column::new("agent", "text").note("the name of the agent"),
            Column::new("agent_version", "text"),
            Column::new("channel", "text").note("phone, web, ..."),
            Column::new("environment", "text").note("production, staging, ..."),
            Column::new("parent_session_id", "uuid").note("the session from which this one was transferred"),
            Column::new("tags", "text[]").note("at most 32"),
            Column::new("last_node", "uuid")
                .note("the node that accepted the last applied start, update or end"),
            Column::new("last_seq", "bigint").note("the place of that record in the node's order"),
            Column::new("extra", "jsonb").note("talktrack's own notes are under the key talktrack"),
        ],
    },
    Table {
        name: MESSAGES,
        columns: &[
            Column::new("id", "uuid").required().default("gen_random_uuid()").key("PRIMARY KEY"),
            Column::new("session_id", "uuid")
                .required()
                .constraint("REFERENCES public.conversation_sessions (session_id)"),
            Column::new("user_id", "uuid").note("null for system messages"),
            Column::new("role", "text")
                .required()
                .words(&ROLES)
                .note("user | assistant | system | developer | tool"),
            Column::new("content", "text").required().note("what was said, and heard"),
            Column::new("audio_url", "text"),
            Column::new("metadata", "jsonb"),
            Column::new("created_at", "timestamptz").required().default("now()"),
            Column::new("seq", "bigint")
                .note("order of acceptance; null on rows that talktrack did not write"),
            Column::new("external_id", "text"),
            Column::new("name", "text").note("who spoke: the agent's or the participant's name"),
            Column::new("kind", "text")
                .required()
                .default("'message'")
                .words(&["message", "tool_call", "tool_result", "event", "handoff"])
                .note("message | tool_call | tool_result | event | handoff"),
            Column::new("status", "text")
                .required()
                .default("'final'")
                .words(&["in_progress", "final", "discarded"])
                .note("in_progress | final | discarded"),
            Column::new("revision", "integer")
                .required()
                .default("0")
                .note("a later one of the same id replaces an earlier one"),
            Column::new("place_revision", "integer").note("the revision that gave created_at"),
            Column::new("interrupted", "boolean").required().default("false"),
            Column::new("content_generated", "text")
                .note("what the model generated, if the user interrupted it"),
            Column::new("parts", "jsonb").note("OpenTelemetry GenAI message parts"),
            Column::new("metrics", "jsonb").note("numbers of the turn"),
            Column::new("extra", "jsonb").note("talktrack's own notes are under the key talktrack"),
        ],
    },
    Table {
        name: SEARCH,
        columns: &[
            Column::new("message_id", "uuid").required().key("PRIMARY KEY"),
            Column::new("session_id", "uuid").required(),
            Column::new("user_id", "uuid").required().note("the owner of the session"),
            Column::new("user_external_id", "text").note("the same, if the owner's own id is not a UUID"),
            Column::new("place", "bigint").required().note("the message's seq, or its time if it has none"),
            Column::new("revision", "integer").required().note("the revision that the words are from"),
            Column::new("words", "tsvector").required(),
            Column::new("folding", "smallint")
                .required()
                .default("0")
                .note("the version of the rules by which texts become words"),
        ],
    },
    Table {
        name: DELETIONS,
        columns: &[
            Column::new("session_id", "uuid")
                .required()
                .key("PRIMARY KEY")
                .note("a deleted session: later records of it are refused"),
            Column::new("deleted_at", "timestamptz").required().default("now()"),
            Column::new("user_id", "uuid").note("its owner, if known: only this user learns that it was deleted"),
            Column::new("user_external_id", "text").note("the same, if the owner's own id is not a UUID"),
        ],
    },
    Table {
        name: USER_DELETIONS,
        columns: &[
            Column::new("user_id", "uuid").required(),
            Column::new("session_id", "uuid")
                .required()
                .note("a session that the user deleted without being its known owner; nil for the user as a whole"),
            Column::new("deleted_at", "timestamptz")
                .required()
                .default("now()")
                .note("with the nil id: records accepted for the user before are refused"),
            Column::new("user_external_id", "text")
                .required()
                .default("''")
                .constraint(", PRIMARY KEY (user_id, session_id, user_external_id)")
                .note("the user's own id, if it is not a UUID; otherwise empty"),
        ],
    },
    Table {
        name: MESSAGE_DELETIONS,
        columns: &[
            Column::new("message_id", "uuid").required().note("a message that was deleted while its session was not"),
            Column::new("session_id", "uuid")
                .required()
                .constraint(", PRIMARY KEY (session_id, message_id)"),
            Column::new("deleted_at", "timestamptz").required().default("now()"),
        ],
    },
    Table {
        name: NODES,
        columns: &[
            Column::new("node", "uuid").required().note("a server's data directory"),
            Column::new("lane", "integer").required().note("of its writer"),
            Column::new("delivery", "bigint")
                .required()
                .constraint(", PRIMARY KEY (node, lane)")
                .note("the last stored delivery: the database has lost what a server delivered after it"),
        ],
    },
    Table {
        name: STATS,
        columns: &[
            Column::new("place", "bigint").required().key("PRIMARY KEY").note("the number of a time bucket, by its length"),
            Column::new("tally", "bytea").required().note("the statistics of the bucket"),
        ],
    },
    Table {
        name: STALE,
        columns: &[
            Column::new("id", "uuid").required().default("gen_random_uuid()").key("PRIMARY KEY"),
            Column::new("slice", "bigint")
                .required()
                .note("a bucket of five minutes since 1970 that must be recomputed"),
        ],
    },
    Table {
        name: STORE,
        columns: &[
            Column::new("is_one", "boolean")
                .required()
                .default("true")
                .key("PRIMARY KEY CHECK (is_one)")
                .note("there is one row"),
            Column::new("id", "uuid")
                .required()
                .default("gen_random_uuid()")
                .note("the id by which a data directory knows whose outbox it is"),
            Column::new(USER_ACCESS, "text")
                .required()
                .default("'write'")
                .words(&["read", "write", "delete"])
                .note("what users may do through PostgREST"),
            Column::new("created_at", "timestamptz").required().default("now()"),
        ],
    },
];

/// The roles that can speak.
pub(super) const ROLES: [&str; 5] = ["user", "assistant", "system", "developer", "tool"];

/// An index, which is recognised by its name.
pub(super) struct Index {
    pub(super) name: &'static str,
    pub(super) table: &'static str,
    /// What follows `ON table`.
    pub(super) definition: &'static str,
}

/// The indexes that the queries need. None contains `message_count` or `last_event_at`, which change with
/// every message: an update that changes no indexed column can stay on its page (a heap-only tuple).
pub(super) const INDEXES: [Index; 14] = [
    Index {
        name: "conversation_sessions_of_owner",
        table: SESSIONS,
        definition: "((coalesce('text:' || user_external_id, user_id::text)), started_at DESC, session_id DESC)",
    },
    Index {
        name: "conversation_sessions_newest",
        table: SESSIONS,
        definition: "(started_at DESC, session_id DESC)",
    },
    Index {
        name: "conversation_sessions_of_status",
        table: SESSIONS,
        definition: "(status, started_at DESC, session_id DESC)",
    },
    Index {
        name: "conversation_sessions_of_external_id",
        table: SESSIONS,
        definition: "(external_id, started_at DESC, session_id DESC) WHERE external_id IS NOT NULL",
    },
    Index {
        name: "conversation_sessions_open",
        table: SESSIONS,
        definition: "(session_id) WHERE status = 'active'",
    },
    Index {
        name: "conversation_messages_in_order",
        table: MESSAGES,
        definition: "(session_id, created_at, (coalesce(seq, 0)))",
    },
    Index {
        name: "conversation_messages_interrupted",
        table: MESSAGES,
        definition: "(session_id) WHERE interrupted",
    },
    Index {
        name: "conversation_messages_in_progress",
        table: MESSAGES,
        definition: "(session_id) WHERE status = 'in_progress'",
    },
    Index { name: "conversation_messages_by_time", table: MESSAGES, definition: "(created_at)" },
    Index { name: "conversation_search_words", table: SEARCH, definition: "USING gin (words)" },
    Index { name: "conversation_search_newest", table: SEARCH, definition: "(place DESC, message_id DESC)" },
    Index {
        name: "conversation_search_of_user",
        table: SEARCH,
        definition: "(user_id, place DESC, message_id DESC)",
    },
    Index { name: "conversation_search_of_session", table: SEARCH, definition: "(session_id)" },
    Index { name: "conversation_stats_stale_slices", table: STALE, definition: "(slice)" },
];

/// The names of indexes of earlier schemas, which migration drops.
pub(super) const FORMER_INDEXES: [&str; 1] = ["conversation_sessions_of_user"];

/// The roles of Supabase, which the policies and grants refer to.
pub(super) const DATABASE_ROLES: [&str; 3] = ["anon", "authenticated", "service_role"];

/// The privileges of `service_role`. `TRUNCATE` is not one of them, because no policy restricts it.
pub(super) const PRIVILEGES: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// The function that PostgREST calls, by name.
pub(super) const FUNCTION: &str = "public.insert_conversation_message";

/// The types of its parameters, which distinguish it from other functions of the same name.
pub(super) const FUNCTION_ARGUMENTS: &str = "uuid, text, text, text, jsonb, uuid";

/// The names of its parameters, which callers use.
pub(super) const FUNCTION_PARAMETERS: [&str; 6] =
    ["p_session_id", "p_role", "p_content", "p_audio_url", "p_metadata", "p_user_id"];

/// Returns its body.
pub(super) fn function_body() -> String {
    include_str!("../../migrations/function.sql")
        .replace("{roles}", &quote_literals(&ROLES))
        .replace("{role_words}", &ROLES.join(" "))
}
