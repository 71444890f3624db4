//! What a record changes in the row of a session, as parts of statements.

/// How much of a record applies, decided as in
/// [`Rule::for_record`](talktrack_core::store::conflict::Rule::for_record): `apply`, `in time` (apply if the record is
/// not late), `fill` (only what is missing), `ignore`. The attempt `repeat` stands for a start that does not reopen its session.
macro_rules! rule {
    () => {
        "CASE WHEN news.attempt IN ('replay', 'repeat') THEN 'fill' \
         WHEN session.last_node = news.node THEN \
           CASE WHEN session.last_seq < news.seq THEN 'apply' WHEN news.attempt = 'retry' THEN 'ignore' ELSE 'fill' END \
         WHEN news.attempt = 'retry' THEN 'fill' ELSE 'in time' END"
    };
}

/// The object to which a record's keys are added: metadata that are not an object count as an empty one
/// ([`merge_base`](talktrack_core::store::conflict::merge_base)). With `||` alone PostgreSQL would build an array.
macro_rules! base {
    () => {
        "CASE jsonb_typeof(session.metadata) WHEN 'object' THEN session.metadata ELSE '{}' END"
    };
}

/// The keys that a record removes, because their value is null.
macro_rules! removed {
    ($news:literal) => {
        concat!("ARRAY(SELECT key FROM jsonb_each(", $news, ".metadata) WHERE value = 'null')")
    };
}

/// The metadata merged with a record. A record without keys changes nothing. Under `ignore` and `fill` only
/// missing keys are added, so a record that was already applied changes nothing; if the result is too long,
/// the record was not applied.
macro_rules! merged {
    ($news:literal) => {
        concat!(
            "CASE WHEN ",
            $news,
            ".metadata = '{}' THEN session.metadata \
             WHEN rule IN ('ignore', 'fill') THEN ",
            $news,
            ".metadata - ",
            removed!($news),
            " || ",
            base!(),
            " \
             ELSE (",
            base!(),
            " || ",
            $news,
            ".metadata) - ",
            removed!($news),
            " END"
        )
    };
}

/// True if the merged metadata are not too long
/// ([`MAX_STORED_METADATA`](talktrack_core::store::conflict::MAX_STORED_METADATA)), or not longer than before.
macro_rules! fits {
    () => {
        "coalesce(octet_length(merged::text) <= greatest(131072, octet_length(session.metadata::text)), true)"
    };
}

/// The columns of the dimensions.
macro_rules! dimensions {
    () => {
        "agent, agent_version, channel, environment, parent_session_id, tags"
    };
}

/// The values of the dimensions in this object.
macro_rules! dimensions_of {
    ($object:literal) => {
        concat!(
            $object,
            "->>'agent', ",
            $object,
            "->>'agent_version', ",
            $object,
            "->>'channel', ",
            $object,
            "->>'environment', (",
            $object,
            "->>'parent_session_id')::uuid, CASE WHEN ",
            $object,
            " ? 'tags' THEN ARRAY(SELECT jsonb_array_elements_text(",
            $object,
            "->'tags')) END"
        )
    };
}

/// The dimensions of a session merged with those of a record
/// ([`Rule::merge_dimensions`](talktrack_core::store::conflict::Rule::merge_dimensions)).
macro_rules! merged_dimensions {
    ($news:literal) => {
        concat!(
            merged_dimension!($news, "agent"),
            ", ",
            merged_dimension!($news, "agent_version"),
            ", ",
            merged_dimension!($news, "channel"),
            ", ",
            merged_dimension!($news, "environment"),
            ", ",
            merged_dimension!($news, "parent_session_id"),
            ", ",
            merged_dimension!($news, "tags")
        )
    };
}

macro_rules! merged_dimension {
    ($news:literal, $column:literal) => {
        concat!(
            "CASE WHEN rule = 'ignore' THEN session.",
            $column,
            " WHEN rule = 'fill' THEN coalesce(session.",
            $column,
            ", ",
            $news,
            ".",
            $column,
            ") ELSE coalesce(",
            $news,
            ".",
            $column,
            ", session.",
            $column,
            ") END"
        )
    };
}

pub(super) use {
    base, dimensions, dimensions_of, fits, merged, merged_dimension, merged_dimensions, removed, rule,
};
