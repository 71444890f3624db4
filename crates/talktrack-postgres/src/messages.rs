//! Writes messages to rows: one statement inserts all messages of a batch, and revisions replace earlier
//! revisions.

use talktrack_core::ids::UserId;
use talktrack_core::json::{JsonArray, JsonObject};
use talktrack_core::message::Message;
use talktrack_core::record::StampedMessage;
use tokio_postgres::types::Type;

use crate::closed_messages::closed_extra;
use crate::moved_start::{moved_duration, moved_start, noted_start};
use crate::owners::{is_marked, is_owner};
use crate::plan::PlacedMessage;
use crate::statement::Statement;

/// True if a message is in progress and its session has ended: the message is then made final at once
/// ([`MessageStatus::InProgress`](talktrack_core::message::MessageStatus)).
macro_rules! closes {
    ($news:literal) => {
        concat!($news, ".status = 'in_progress' AND session.ended_at IS NOT NULL")
    };
}

/// Inserts messages that have a session of their own user, and counts them. Returns the ids that were
/// inserted, or null if all were. Inserts in the order of the ids: nodes that insert the same ids in
/// different orders could deadlock.
const INSERT: &str = concat!("
WITH inserted AS (
  INSERT INTO public.conversation_messages (id, session_id, user_id, role, content, audio_url, metadata, created_at, seq,
    external_id, kind, revision, interrupted, content_generated, parts, metrics, extra, name, status)
  SELECT news.id, news.session_id, CASE WHEN role <> 'system' THEN session.user_id END, role, content, audio_url,
    news.metadata::jsonb, news.created_at, seq, news.external_id, kind, revision,
    interrupted OR role = 'assistant' AND closes, content_generated,
    parts::jsonb, metrics::jsonb, CASE WHEN closes THEN ",closed_extra!("news.extra::jsonb")," ELSE news.extra::jsonb END, name,
    CASE WHEN closes THEN 'final' ELSE news.status END
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int4[], $8::bool[], $9::text[],
      $10::text[], $11::text[], $12::text[], $13::text[], $14::uuid[], $15::uuid[], $16::timestamptz[], $17::int8[], $18::text[], $22::text[], $23::text[])
    AS news(id, role, content, audio_url, metadata, kind, revision, interrupted, content_generated, parts, metrics, extra, name,
      session_id, owner, created_at, seq, external_id, status, owner_text)
  JOIN public.conversation_sessions session
    ON session.session_id = news.session_id AND ", is_owner!("news.owner", "news.owner_text"), ",
  LATERAL (SELECT ", closes!("news"), " AND NOT EXISTS (SELECT FROM unnest($20::uuid[], $21::timestamptz[]) AS late(id, takes_back)
    WHERE late.id = news.id AND session.end_inferred AND session.ended_at < late.takes_back)) AS decided(closes)
  WHERE NOT EXISTS (SELECT FROM public.conversation_user_deletions gone WHERE ",
    is_marked!("session.user_id", "session.user_external_id"), "
    AND CASE gone.session_id WHEN '00000000-0000-0000-0000-000000000000'
      THEN gone.deleted_at >= timestamptz 'epoch' + seq * interval '1 microsecond'
      WHEN session.session_id THEN news.owner IS NOT NULL END)
    AND NOT EXISTS (SELECT FROM public.conversation_message_deletions gone
      WHERE gone.session_id = news.session_id AND gone.message_id = news.id)
  ORDER BY news.id
  ON CONFLICT (id) DO NOTHING RETURNING id, session_id, created_at, seq, status
), counted AS (
  UPDATE public.conversation_sessions session
  -- The column cannot hold more; the messages are there all the same.
  SET message_count = least(coalesce(session.message_count, 0), 9223372036854775807 - news.messages) + news.messages,
      last_event_at = greatest(session.last_event_at, news.happened_at),
      (status, ended_at, duration_seconds, end_reason, end_inferred, started_at, extra) = (
        SELECT CASE WHEN goes_on THEN 'active' ELSE session.status END, CASE WHEN NOT goes_on THEN session.ended_at END,
          CASE WHEN NOT goes_on THEN ", moved_duration!(), " END,
          CASE WHEN NOT goes_on THEN session.end_reason END, session.end_inferred AND NOT goes_on,
          coalesce(start, session.started_at), ", noted_start!(), "
        FROM (SELECT session.end_inferred AND coalesce(session.ended_at < news.takes_back, false)) AS decided(goes_on),
          LATERAL (SELECT ", moved_start!("news.first_said"), ") AS begun(start))
  FROM (SELECT session_id, count(*) FILTER (WHERE status = 'final') AS messages,
          -- An event is never later than its acceptance, even if the caller's clock is ahead.
          max(least(created_at, timestamptz 'epoch' + seq * interval '1 microsecond')) AS happened_at,
          max(takes_back) AS takes_back, min(created_at) AS first_said
        FROM inserted LEFT JOIN unnest($20::uuid[], $21::timestamptz[]) AS late(id, takes_back) USING (id)
        GROUP BY session_id) news
  WHERE session.session_id = news.session_id
)
SELECT CASE WHEN count(*) < $19::int8 THEN coalesce(array_agg(id), '{}') END,
  -- Fails, and with it the whole transaction, if a trigger gave a row another id: it would be written again without end.
  (SELECT ('talktrack: a trigger changed ' || count(*))::int FROM inserted WHERE NOT EXISTS (
    SELECT FROM unnest($1::uuid[], $14::uuid[]) AS sent(id, session_id)
    WHERE sent.id = inserted.id AND sent.session_id = inserted.session_id) HAVING count(*) > 0)
FROM inserted");

/// Adds to `extra` the `seq` of the record that wrote this content, if row triggers exist that may edit
/// rows. After an edit only this note shows that the same record is delivered again.
macro_rules! noted {
    ($extra:literal, $seq:literal) => {
        concat!(
            "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = 'public.conversation_messages'::regclass
                -- For each row, before an insert or an update.
                AND tgtype & 3 = 3 AND tgtype & 20 <> 0)
              AND coalesce(jsonb_typeof(", $extra, "), 'object') = 'object'
            THEN jsonb_set(coalesce(", $extra, ", '{}'), '{talktrack}', coalesce(", $extra, "->'talktrack', '{}')
              || jsonb_build_object('revision_seq', ", $seq, "))
            ELSE ", $extra, " END"
        )
    };
}

/// Replaces earlier revisions, and corrects the counts of their sessions; the place of the messages (`created_at`, `seq`) stays.
/// Returns the ids that were replaced.
const REVISE: &str = concat!("
WITH old AS MATERIALIZED (
  SELECT id, status FROM public.conversation_messages WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
), revised AS (
  UPDATE public.conversation_messages message
  SET role = revised.role, content = revised.content, audio_url = revised.audio_url, metadata = revised.metadata::jsonb,
    kind = revised.kind, revision = revised.revision, interrupted = revised.interrupted OR revised.role = 'assistant' AND closes,
    content_generated = revised.content_generated, parts = revised.parts::jsonb, metrics = revised.metrics::jsonb,
    extra = CASE WHEN closes THEN ", closed_extra!("revised.extra::jsonb"), " ELSE ", noted!("revised.extra::jsonb", "revised.seq"), " END,
    status = CASE WHEN closes THEN 'final' ELSE revised.status END,
    name = revised.name, user_id = CASE WHEN revised.role <> 'system' THEN session.user_id END
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int4[], $8::bool[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::int8[], $15::text[])
  AS revised(id, role, content, audio_url, metadata, kind, revision, interrupted, content_generated, parts, metrics, extra, name, seq, status),
  public.conversation_sessions session, old, LATERAL (SELECT ", closes!("revised"), ") AS decided(closes)
  WHERE message.id = revised.id AND old.id = message.id AND message.revision < revised.revision
    AND session.session_id = message.session_id
  RETURNING message.id, message.session_id, (message.status = 'final')::int - (old.status = 'final')::int AS added
), counted AS (
  UPDATE public.conversation_sessions session
  SET message_count = greatest(least(coalesce(session.message_count, 0), 9223372036854775807 - greatest(news.added, 0)) + news.added, 0)
  FROM (SELECT session_id, sum(added) AS added FROM revised GROUP BY session_id) news
  WHERE news.added <> 0 AND session.session_id = news.session_id
)
SELECT id FROM revised");

/// Moves messages to the place of an earlier revision that arrived after a later one, and the start of a session down to them.
const MOVE_UP: &str = concat!(
    "
WITH moved AS (
UPDATE public.conversation_messages message SET created_at = first.created_at, seq = first.seq,
    extra = ",
    noted!("message.extra", "coalesce(message.extra->'talktrack'->'revision_seq', to_jsonb(message.seq))"),
    "
FROM unnest($1::uuid[], $2::timestamptz[], $3::int8[]) AS first(id, created_at, seq)
WHERE message.id = first.id AND (message.created_at, message.seq) > (first.created_at, first.seq)
RETURNING message.session_id, message.created_at
)
UPDATE public.conversation_sessions session SET (started_at, duration_seconds, extra) = (
  SELECT coalesce(start, session.started_at), ",
    moved_duration!(),
    ", ",
    noted_start!(),
    "
  FROM (SELECT ",
    moved_start!("news.first_said"),
    ") AS begun(start))
FROM (SELECT session_id, min(created_at) AS first_said FROM moved GROUP BY session_id) news
WHERE session.session_id = news.session_id AND news.first_said < session.started_at"
);

/// Inserts these messages. Their ids are distinct.
pub(super) fn insert_messages<'a>(messages: &[PlacedMessage<'a>]) -> Statement<'a> {
    let all = || messages.iter().map(|placed| placed.stamped);
    let late = || messages.iter().filter_map(|placed| Some((placed, placed.reopens_before()?)));
    with_content(Statement::new(INSERT), all)
        .uuids(all().map(|stamped| stamped.message.session_id))
        .uuids_or_null(all().map(|stamped| stamped.owner.as_ref().map(UserId::as_uuid)))
        .moments(all().map(|stamped| stamped.created_at))
        .seqs(messages.iter().map(|placed| placed.seq))
        .texts_or_null(all().map(|stamped| stamped.message.external_id.as_deref()))
        .with(i64::try_from(messages.len()).unwrap_or(i64::MAX), Type::INT8)
        .uuids(late().map(|(placed, _)| placed.stamped.id))
        .moments(late().map(|(_, before)| before))
        .texts(all().map(|stamped| stamped.message.status.as_str()))
        .user_texts(all().map(|stamped| stamped.owner.as_ref()))
}

/// Moves the messages stored under these ids to the place of these records. The ids are distinct.
pub(super) fn move_messages_up<'a>(
    earlier: impl Iterator<Item = &'a PlacedMessage<'a>> + Clone,
) -> Statement<'static> {
    Statement::new(MOVE_UP)
        .uuids(earlier.clone().map(|placed| placed.stamped.id))
        .moments(earlier.clone().map(|placed| placed.stamped.created_at))
        .seqs(earlier.map(|placed| placed.seq))
}

/// Replaces earlier revisions with these. The ids are distinct.
pub(super) fn revise_messages<'a>(revisions: &[PlacedMessage<'a>]) -> Statement<'a> {
    with_content(Statement::new(REVISE), || revisions.iter().map(|placed| placed.stamped))
        .seqs(revisions.iter().map(|placed| placed.seq))
        .texts(revisions.iter().map(|placed| placed.stamped.message.status.as_str()))
}

/// Adds the ids and the columns that a revision may change as parameters.
fn with_content<'a, I: Iterator<Item = &'a StampedMessage>>(
    statement: Statement<'a>,
    all: impl Fn() -> I,
) -> Statement<'a> {
    let messages = || all().map(|stamped| &stamped.message);
    // A valid message has no revision larger than the column holds.
    let revision = |message: &Message| i32::try_from(message.revision).unwrap_or(i32::MAX);
    statement
        .uuids(all().map(|stamped| stamped.id))
        .texts(messages().map(|message| message.role.as_str()))
        .texts(messages().map(|message| message.content.as_str()))
        .texts_or_null(messages().map(|message| message.audio_url.as_deref()))
        .texts_or_null(messages().map(|message| message.metadata.as_ref().map(JsonObject::as_str)))
        .texts(messages().map(|message| message.kind.as_str()))
        .with(messages().map(revision).collect::<Vec<_>>(), Type::INT4_ARRAY)
        .with(messages().map(|message| message.interrupted).collect::<Vec<_>>(), Type::BOOL_ARRAY)
        .texts_or_null(messages().map(|message| message.content_generated.as_deref()))
        .texts_or_null(messages().map(|message| message.parts.as_ref().map(JsonArray::as_str)))
        .texts_or_null(
            messages().map(|message| message.metrics.as_ref().map(|metrics| metrics.as_json().as_str())),
        )
        .texts_or_null(messages().map(|message| message.extra.as_ref().map(JsonObject::as_str)))
        .texts_or_null(messages().map(|message| message.name.as_deref()))
}
