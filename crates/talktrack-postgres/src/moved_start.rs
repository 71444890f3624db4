//! The start of a session that moves down to its first message or its end, as parts of statements.

/// When a session starts after an event at this time, as in
/// [`StartTime::moved_down_to`](talktrack_core::record::StartTime::moved_down_to): the time of the event, or null if the start stays.
macro_rules! moved_start {
    ($event:literal) => {
        concat!(
            "CASE WHEN isfinite(session.started_at) AND ",
            $event,
            " < session.started_at AND ",
            $event,
            " >= 'epoch'
      AND (coalesce(session.extra->'talktrack'->>'start' = 'accepted', false) OR extract(epoch FROM ",
            $event,
            ") * 1000000 >=
        CASE jsonb_typeof(session.extra->'talktrack'->'given_start') WHEN 'number'
          THEN (session.extra->'talktrack'->>'given_start')::numeric
          ELSE extract(epoch FROM session.started_at) * 1000000 END - 86400000000)
    THEN ",
            $event,
            " END"
        )
    };
}

/// `extra` of a session whose start moves to `start`, with the start that a caller gave
/// ([`StartTime::noted_in`](talktrack_core::record::StartTime::noted_in)).
macro_rules! noted_start {
    () => {
        "CASE WHEN start IS NULL OR coalesce(session.extra->'talktrack' ?| ARRAY['start', 'given_start'], false)
      OR coalesce(jsonb_typeof(session.extra), 'object') <> 'object' THEN session.extra
    ELSE jsonb_set(coalesce(session.extra, '{}'), '{talktrack}',
      CASE jsonb_typeof(session.extra->'talktrack') WHEN 'object' THEN session.extra->'talktrack' ELSE '{}' END
      || jsonb_build_object('given_start', (extract(epoch FROM session.started_at) * 1000000)::int8)) END"
    };
}

/// The duration of a session whose start moves to `start`.
macro_rules! moved_duration {
    () => {
        "CASE WHEN isfinite(session.ended_at) AND start IS NOT NULL
      THEN extract(epoch FROM greatest(session.ended_at, start) - start) ELSE session.duration_seconds END"
    };
}

pub(super) use {moved_duration, moved_start, noted_start};
