//! The queries of readers, each as one statement. A list of a user's sessions compares the user as
//! [`user_key`](crate::owners::user_key) writes it, which the index `conversation_sessions_of_owner` holds.

/// The columns of a session, for [`session_row`](crate::rows::session_row), as they are read and as they are stored.
macro_rules! session_columns {
    (read) => {
        "session_id, user_id, external_id, status, end_reason, started_at, ended_at, duration_seconds, last_event_at, \
         message_count, metadata::text, agent, agent_version, channel, environment, parent_session_id, to_json(tags)::text, user_external_id"
    };
    (stored) => {
        "session_id, user_id, external_id, status, end_reason, started_at, ended_at, duration_seconds, last_event_at, \
         message_count, metadata, agent, agent_version, channel, environment, parent_session_id, tags, user_external_id"
    };
}

/// The same for a message and [`message_row`](crate::rows::message_row). Those that are read come from rows named `weighed`.
macro_rules! message_columns {
    (read) => {
        "id, session_id, user_id, role, content, audio_url, metadata::text, created_at, seq, external_id, kind, revision, \
         interrupted, content_generated, parts::text, metrics::text, extra::text, name, status, \
         (SELECT user_external_id FROM public.conversation_sessions AS session \
          WHERE session.session_id = weighed.session_id AND session.user_id = weighed.user_id) AS user_external_id"
    };
    (stored) => {
        "id, session_id, user_id, role, content, audio_url, metadata, created_at, seq, external_id, kind, revision, \
         interrupted, content_generated, parts, metrics, extra, name, status"
    };
}

pub(super) use message_columns;

macro_rules! select_sessions {
    ($rest:literal) => {
        concat!("SELECT ", session_columns!(read), " FROM public.conversation_sessions ", $rest)
    };
}

/// A page of rows: those that begin before 4 MiB of text, and the number of rows up to the limit. Each row is measured
/// once (`OFFSET 0` keeps the planner from measuring it twice), and lengths of texts are known without reading the texts.
macro_rules! page {
    ($read:expr, $stored:expr, $weight:literal, $table:literal, $rows:literal, $order:literal, $limit:literal) => {
        concat!(
            "SELECT ",
            $read,
            ", found FROM (SELECT *, count(*) OVER () AS found, \
             sum(weight) OVER (ORDER BY ",
            $order,
            " ROWS UNBOUNDED PRECEDING) - weight AS bytes FROM (\
             SELECT *, ",
            $weight,
            " AS weight FROM (SELECT ",
            $stored,
            " FROM public.",
            $table,
            " ",
            $rows,
            " ORDER BY ",
            $order,
            " LIMIT ",
            $limit,
            ") AS listed OFFSET 0) AS measured) AS weighed \
             WHERE bytes < 4194304 ORDER BY ",
            $order
        )
    };
}

macro_rules! page_of_sessions {
    ($rows:literal, $order:literal, $limit:literal) => {
        page!(
            session_columns!(read),
            session_columns!(stored),
            "coalesce(octet_length(external_id::text), 0) + coalesce(octet_length(end_reason::text), 0) \
             + coalesce(octet_length(metadata::text), 0) + coalesce(octet_length(agent::text), 0) \
             + coalesce(octet_length(agent_version::text), 0) + coalesce(octet_length(channel::text), 0) \
             + coalesce(octet_length(environment::text), 0) + coalesce(octet_length(tags::text), 0) \
             + coalesce(octet_length(user_external_id::text), 0)",
            "conversation_sessions",
            $rows,
            $order,
            $limit
        )
    };
}

macro_rules! page_of_messages {
    ($rows:literal, $order:literal, $limit:literal) => {
        page!(
            message_columns!(read), message_columns!(stored),
            "coalesce(octet_length(content::text), 0) \
             + coalesce(octet_length(content_generated::text), 0) + coalesce(octet_length(audio_url::text), 0) \
             + coalesce(octet_length(external_id::text), 0) + coalesce(octet_length(metadata::text), 0) \
             + coalesce(octet_length(parts::text), 0) + coalesce(octet_length(metrics::text), 0) \
             + coalesce(octet_length(extra::text), 0) + coalesce(octet_length(name::text), 0)",
            "conversation_messages", $rows, $order, $limit
        )
    };
}

/// Messages with one of the ids in `$1`, in the order of the ids. The limit has no effect.
pub(super) const MESSAGES_BY_ID: &str =
    page_of_messages!("WHERE id = ANY($1::uuid[])", "array_position($1::uuid[], id)", "2147483647::int8");

/// Those of these messages that the current role may see.
pub(super) const VISIBLE_MESSAGES: &str =
    "SELECT id FROM public.conversation_messages WHERE id = ANY($1::uuid[])";

pub(super) const SESSIONS_BY_ID: &str = select_sessions!("WHERE session_id = ANY($1::uuid[])");

pub(super) const SESSION: &str = select_sessions!("WHERE session_id = $1::uuid");

/// A user's newest session with an external id, through the index on the user.
pub(super) const SESSION_BY_NAME: &str = select_sessions!(
    "WHERE session_id IS NOT NULL AND coalesce('text:' || user_external_id, user_id::text) = $1::text \
     AND external_id = $2::text ORDER BY started_at DESC, session_id DESC LIMIT 1"
);

/// Sessions, newest first. A parameter that is null does not restrict the list.
pub(super) const SESSIONS: &str = page_of_sessions!(
    "WHERE session_id IS NOT NULL AND ($1::text IS NULL OR coalesce('text:' || user_external_id, user_id::text) = $1) AND ($2::text IS NULL OR status = $2) AND ($8::text IS NULL OR external_id = $8) \
     AND ($3::timestamptz IS NULL OR started_at >= $3) AND ($4::timestamptz IS NULL OR started_at < $4) \
     AND ($6::uuid IS NULL OR (started_at, session_id) < ($5::timestamptz, $6) OR ($5 IS NULL AND (started_at IS NOT NULL OR session_id < $6)))",
    "started_at DESC, session_id DESC",
    "$7::int8"
);

/// Sessions without recent events, oldest first, through the index on the start. A time before 1970 says
/// nothing about the age of a session.
pub(super) const INACTIVE_SESSIONS: &str = page_of_sessions!(
    "WHERE session_id IS NOT NULL AND started_at < $1::timestamptz AND coalesce(last_event_at, started_at) < $1 \
     AND coalesce(last_event_at, started_at) > '1970-01-01T00:00:00Z' AND ($2::timestamptz IS NULL OR (started_at, session_id) > ($2, $3::uuid))",
    "started_at, session_id",
    "$4::int8"
);

/// Those of the newest 500 sessions that match. Common words are found among these. Each session is checked
/// separately.
pub(super) const NEWEST_MATCHING_SESSIONS: &str = page_of_sessions!(
    "AS session WHERE session_id IN (SELECT session_id FROM public.conversation_sessions \
       WHERE ($1::text IS NULL OR coalesce('text:' || user_external_id, user_id::text) = $1) AND ($2::text IS NULL OR status = $2) AND ($8::text IS NULL OR external_id = $8) \
       AND ($3::timestamptz IS NULL OR started_at >= $3) AND ($4::timestamptz IS NULL OR started_at < $4) \
       AND ($6::uuid IS NULL OR (started_at, session_id) < ($5::timestamptz, $6) OR ($5 IS NULL AND (started_at IS NOT NULL OR session_id < $6))) \
       ORDER BY started_at DESC, session_id DESC LIMIT 500) \
     AND (SELECT true FROM public.conversation_search AS found \
       WHERE found.session_id = session.session_id AND found.words @@ $9::text::tsquery LIMIT 1)",
    "started_at DESC, session_id DESC",
    "$7::int8"
);

/// Those of all sessions that match. The array is built first, through the index on the words: otherwise
/// the planner, which assumes that every word is frequent, would check one session after the other until it
/// has enough.
pub(super) const MATCHING_SESSIONS: &str = page_of_sessions!(
    "WHERE session_id IS NOT NULL AND ($1::text IS NULL OR coalesce('text:' || user_external_id, user_id::text) = $1) AND ($2::text IS NULL OR status = $2) AND ($8::text IS NULL OR external_id = $8) \
     AND ($3::timestamptz IS NULL OR started_at >= $3) AND ($4::timestamptz IS NULL OR started_at < $4) \
     AND ($6::uuid IS NULL OR (started_at, session_id) < ($5::timestamptz, $6) OR ($5 IS NULL AND (started_at IS NOT NULL OR session_id < $6))) \
     AND session_id = ANY (ARRAY(SELECT DISTINCT session_id FROM public.conversation_search WHERE words @@ $9::text::tsquery))",
    "started_at DESC, session_id DESC",
    "$7::int8"
);

/// Those of the sessions with these ids that pass the filter.
pub(super) const SESSIONS_AMONG: &str = page_of_sessions!(
    "WHERE session_id = ANY($9::uuid[]) AND ($1::text IS NULL OR coalesce('text:' || user_external_id, user_id::text) = $1) AND ($2::text IS NULL OR status = $2) AND ($8::text IS NULL OR external_id = $8) \
     AND ($3::timestamptz IS NULL OR started_at >= $3) AND ($4::timestamptz IS NULL OR started_at < $4) \
     AND ($6::uuid IS NULL OR (started_at, session_id) < ($5::timestamptz, $6) OR ($5 IS NULL AND (started_at IS NOT NULL OR session_id < $6)))",
    "started_at DESC, session_id DESC",
    "$7::int8"
);

pub(super) const SESSIONS_BY_PREFIX: &str =
    select_sessions!("WHERE session_id BETWEEN $1::uuid AND $2::uuid ORDER BY session_id LIMIT $3::int8");

pub(super) const MESSAGES: &str = page_of_messages!(
    "WHERE session_id = $1::uuid AND (created_at, coalesce(seq, 0), id) > ($2::timestamptz, $3::int8, $4::uuid)",
    "created_at, coalesce(seq, 0), id",
    "$5::int8"
);

/// The last messages of a transcript, without a time: a comparison with NULL is true for no row. `$3` is
/// null if none of them was listed yet.
pub(super) const MESSAGES_WITHOUT_TIME: &str = page_of_messages!(
    "WHERE session_id = $1::uuid AND created_at IS NULL AND ($3::uuid IS NULL OR (coalesce(seq, 0), id) > ($2::int8, $3))",
    "coalesce(seq, 0), id",
    "$4::int8"
);

pub(super) const FIRST_MESSAGES: &str =
    page_of_messages!("WHERE session_id = $1::uuid", "created_at, coalesce(seq, 0), id", "$2::int8");

/// Messages before a cursor, newest first. Those without a time are the first of this order.
pub(super) const MESSAGES_BACKWARDS: &str = page_of_messages!(
    "WHERE session_id = $1::uuid AND (created_at, coalesce(seq, 0), id) < ($2::timestamptz, $3::int8, $4::uuid)",
    "created_at DESC, coalesce(seq, 0) DESC, id DESC",
    "$5::int8"
);

/// Messages before one without a time, newest first.
pub(super) const MESSAGES_BACKWARDS_WITHOUT_TIME: &str = page_of_messages!(
    "WHERE session_id = $1::uuid AND (created_at IS NOT NULL OR (coalesce(seq, 0), id) < ($2::int8, $3::uuid))",
    "created_at DESC, coalesce(seq, 0) DESC, id DESC",
    "$4::int8"
);

pub(super) const LAST_MESSAGES: &str = page_of_messages!(
    "WHERE session_id = $1::uuid",
    "created_at DESC, coalesce(seq, 0) DESC, id DESC",
    "$2::int8"
);

/// For each session in `$1`: the last message, and the number of interrupted messages.
pub(super) const SESSION_PREVIEWS: &str = "
SELECT last.session_id, last.role, last.words,
  (SELECT count(*) FROM public.conversation_messages cut WHERE cut.session_id = last.session_id AND cut.interrupted)
FROM unnest($1::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
  SELECT session_id, role, left(content, $2::int8::integer) AS words FROM public.conversation_messages
  WHERE session_id = wanted.id AND kind = 'message' AND status = 'final' AND role IN ('user', 'assistant')
  ORDER BY created_at DESC, coalesce(seq, 0) DESC, id DESC LIMIT 1
) AS last";

/// Sessions with a wrong count: below the number of rows that talktrack wrote, or above the number of all
/// rows. Other programs may write rows too, with or without counting them.
pub(super) const ODD_SESSIONS: &str = "
SELECT 'session ' || coalesce(session.session_id::text, 'without an id') || ' counts ' || coalesce(session.message_count::text, 'null')
  || ' messages, but ' || coalesce(rows.total, 0) || ' are stored'
FROM public.conversation_sessions session
LEFT JOIN (SELECT session_id, count(*) AS total, count(seq) AS ours FROM public.conversation_messages WHERE status = 'final' GROUP BY session_id) rows
  USING (session_id)
WHERE coalesce(session.message_count, -1) NOT BETWEEN coalesce(rows.ours, 0) AND coalesce(rows.total, 0) LIMIT $1";

/// The count of a session's row, and those of the ids in `$2` that the session has, in one snapshot: a row for each, or one
/// without an id.
pub(super) const MESSAGE_COUNT: &str = "SELECT coalesce(session.message_count, 0), message.id, coalesce(message.revision, 0), \
       coalesce(message.status = 'final', false) FROM public.conversation_sessions session \
     LEFT JOIN public.conversation_messages message \
       ON message.id = ANY($2::uuid[]) AND message.session_id = session.session_id \
     WHERE session.session_id = $1::uuid";

/// Ordered like an index, so that only one row is read.
pub(super) const LAST_SAID_AT: &str = "SELECT created_at FROM public.conversation_messages \
     WHERE session_id = $1::uuid ORDER BY session_id DESC, created_at DESC, seq DESC LIMIT 1";

/// Sessions that were deleted for good, with the users they belonged to.
pub(super) const DELETED_SESSIONS: &str = "SELECT session_id, user_id, user_external_id FROM public.conversation_deletions WHERE session_id = ANY($1::uuid[])";

/// A session exists from its acceptance. The start may be later, if the client's clock is ahead.
pub(super) const SESSIONS_OF_USER_AT: &str = "SELECT session_id FROM public.conversation_sessions \
     WHERE coalesce('text:' || user_external_id, user_id::text) = $1::text AND (created_at <= $2::timestamptz OR started_at <= $2::timestamptz)";

pub(super) const ORPHANS: &str = "
SELECT 'message ' || coalesce(id::text, 'without an id') || ' belongs to session ' || coalesce(session_id::text, 'null')
  || ', which does not exist'
FROM public.conversation_messages message
WHERE NOT EXISTS (SELECT FROM public.conversation_sessions session WHERE session.session_id = message.session_id) LIMIT $1";

pub(super) const COUNTS: &str = "
SELECT (SELECT count(*) FROM public.conversation_sessions), (SELECT count(*) FROM public.conversation_messages)";
