//! Messages that the end of their session makes final, as parts of statements.

/// `extra` with the note that the end of the session made the message final
/// ([`Message::is_closed`](talktrack_core::message::Message::is_closed)).
macro_rules! closed_extra {
    ($extra:literal) => {
        concat!(
            "CASE coalesce(jsonb_typeof(",
            $extra,
            "), 'object') WHEN 'object'
      THEN jsonb_set(coalesce(",
            $extra,
            ", '{}'), '{talktrack}',
        CASE jsonb_typeof(",
            $extra,
            "->'talktrack') WHEN 'object' THEN ",
            $extra,
            "->'talktrack' ELSE '{}' END || '{\"closed\":true}')
      ELSE ",
            $extra,
            " END"
        )
    };
}

/// Makes the messages of the sessions in this table final that are in progress. Returns them with their sessions.
macro_rules! close_messages {
    ($ended:literal) => {
        concat!(
            "
  UPDATE public.conversation_messages message
  SET status = 'final', interrupted = coalesce(message.interrupted, false) OR message.role = 'assistant', extra = ",
            closed_extra!("message.extra"),
            "
  FROM ",
            $ended,
            " AS ended WHERE message.session_id = ended.session_id AND message.status = 'in_progress'
  RETURNING message.id, message.session_id"
        )
    };
}

/// The number of messages of a session that ends now: those in progress become final.
macro_rules! closed_count {
    () => {
        "(SELECT least(coalesce(session.message_count, 0), 9223372036854775807 - count(*)) + count(*)
      FROM public.conversation_messages message
      WHERE message.session_id = session.session_id AND message.status = 'in_progress')"
    };
}

pub(super) use {close_messages, closed_count, closed_extra};
