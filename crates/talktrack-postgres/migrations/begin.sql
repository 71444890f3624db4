-- talktrack: brings the tables conversation_sessions and conversation_messages to the schema that
-- talktrack writes. It also creates conversation_search (the search index), conversation_deletions,
-- conversation_user_deletions and conversation_message_deletions (tombstones, which keep deleted rows
-- from coming back), conversation_nodes (the last delivery of each server), conversation_stats and
-- conversation_stats_stale (the statistics), and conversation_store (the id of this store).
--
-- Paste the whole script into the SQL editor of Supabase, or pass it to psql. It accepts an empty
-- database, tables of your own that lack columns, and a database that is already right. It keeps every
-- row, and your own columns, triggers, policies and foreign keys. You can run it again at any time. It
-- is a single transaction, so it changes everything or nothing.
--
-- If something can only be repaired by a change to what is yours, the script leaves it as it is;
-- `talktrack doctor` names it, with the SQL that repairs it.

BEGIN;

SET LOCAL client_min_messages = warning;
SET LOCAL statement_timeout = 0;

-- Only one migration runs at a time. It gives up after 10 s instead of waiting for a long query that
-- uses the tables, because everyone else's queries would have to wait behind it.
SET LOCAL lock_timeout = '10s';
SELECT pg_advisory_xact_lock(hashtextextended('talktrack migrate', 0));


-- 1. Helper functions, dropped at the end -----------------------------------------------------------------------------

-- Executes the statement. If the existing rows or types do not allow it, raises a warning and continues.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_try(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE statement;
EXCEPTION
  WHEN not_null_violation OR unique_violation OR check_violation OR foreign_key_violation OR invalid_foreign_key
    OR undefined_function OR datatype_mismatch OR cannot_coerce OR invalid_text_representation
    OR invalid_table_definition OR feature_not_supported OR generated_always
  THEN
    RAISE WARNING 'talktrack: left over: % (%)', statement, SQLERRM;
END $$;

-- Renames a column from its former name to its current one. If both exist, the new column takes over the
-- values that only the old one has, and the old one becomes nullable.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_renamed(former name, today name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  sessions regclass := to_regclass('public.conversation_sessions');
  columns name[] := ARRAY(SELECT attname FROM pg_attribute
                          WHERE attrelid = sessions AND attnum > 0 AND NOT attisdropped);
BEGIN
  IF sessions IS NULL OR NOT former = ANY (columns) THEN
    RETURN;
  ELSIF NOT today = ANY (columns) THEN
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', sessions, former, today);
    RETURN;
  END IF;
  -- Only the first time, when there is no status yet. Later a missing end means that the session was resumed.
  IF NOT 'status' = ANY (columns) THEN
    PERFORM pg_temp.talktrack_try(format('UPDATE %s SET %I = %I WHERE %2$I IS NULL', sessions, today, former));
  END IF;
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = sessions AND attname = former
             AND attnotnull AND NOT atthasdef AND attidentity = '') THEN
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', sessions, former);
  END IF;
END $$;

-- Gives the column a default if it has none.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_default(relation regclass, col name, value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = relation AND attname = col AND NOT atthasdef AND attidentity = '') THEN
    PERFORM pg_temp.talktrack_try(format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', relation, col, value));
  END IF;
END $$;

-- Makes the column nullable. An identity column stays as it is, because it cannot be null.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_nullable(relation regclass, col name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = relation AND attname = col AND attnotnull AND attidentity = '') THEN
    PERFORM pg_temp.talktrack_try(format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', relation, col));
  END IF;
END $$;

-- Makes the column not null. Rows with a null first get the value, if there is one.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_require(relation regclass, col name, value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = relation AND attname = col AND NOT attnotnull) THEN
    IF value IS NOT NULL THEN
      PERFORM pg_temp.talktrack_try(format('UPDATE %s AS this SET %I = %s WHERE %2$I IS NULL', relation, col, value));
    END IF;
    PERFORM pg_temp.talktrack_try(format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', relation, col));
  END IF;
END $$;

-- Makes the column the primary key, or unique if the table already has a primary key. ON CONFLICT needs this.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_key(relation regclass, col name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
             WHERE i.indrelid = relation AND a.attname = col AND i.indnkeyatts = 1 AND i.indisunique
             AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL) THEN
    RETURN;
  ELSIF col = 'id' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = relation AND indisprimary) THEN
    PERFORM pg_temp.talktrack_try(format('ALTER TABLE %s ADD PRIMARY KEY (%I)', relation, col));
  ELSE
    PERFORM pg_temp.talktrack_try(format('ALTER TABLE %s ADD UNIQUE (%I)', relation, col));
  END IF;
END $$;

-- Executes the statement if users have this access or a wider one.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_users(access text, statement text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  every CONSTANT text[] := '{read,write,delete}';
BEGIN
  IF array_position(every, access) <= array_position(every, (SELECT user_access FROM public.conversation_store)) THEN
    PERFORM pg_temp.talktrack_try(statement);
  END IF;
END $$;

-- Revokes every right of the roles of users, except rights that were granted on single columns of your own.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_revoke(relation regclass, ours name[], statements text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  own text := (SELECT coalesce(string_agg(format('GRANT %s (%I) ON %s TO authenticated;', acl.privilege_type, a.attname, relation), ''), '')
    FROM pg_attribute a, aclexplode(a.attacl) AS acl
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (ours)
      AND acl.grantee = 'authenticated'::regrole AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE'));
BEGIN
  EXECUTE statements;
  EXECUTE own;
END $$;

-- If a check of this column only lists the allowed words, extends the list to every word that talktrack
-- writes. Every other check is yours and stays as it is.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_words(relation regclass, col name, words text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  literal CONSTANT text := '''((?:[^'']|'''')*)''';
  old record;
  listed text[];
BEGIN
  FOR old IN
    SELECT c.conname, pg_get_expr(c.conbin, c.conrelid) AS expression, c.convalidated
    FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
    WHERE c.conrelid = relation AND c.contype = 'c' AND a.attname = col
  LOOP
    CONTINUE WHEN regexp_replace(regexp_replace(old.expression, literal, '', 'g'), '::text\[\]|::character varying\[\]|::text|::character varying|[\s(),]', '', 'g')
      NOT IN (col || '=ANYARRAY[]', col || '=');
    listed := ARRAY(SELECT replace(hit[1], '''''', '''') FROM regexp_matches(old.expression, literal, 'g') AS hit);
    CONTINUE WHEN listed @> words;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', relation, old.conname);
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%I IN (%s)) %s', relation, old.conname, col,
      (SELECT string_agg(quote_literal(word), ', ' ORDER BY place) FROM
        (SELECT word, min(place) AS place FROM unnest(words || listed) WITH ORDINALITY AS w (word, place) GROUP BY word) AS w),
      CASE WHEN old.convalidated THEN '' ELSE 'NOT VALID' END);
  END LOOP;
END $$;

-- Creates the trigger again if it is missing, is disabled, or calls another function.
CREATE OR REPLACE FUNCTION pg_temp.talktrack_trigger(relation regclass, trigger_name name, called text, statements text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname = trigger_name AND tgenabled IN ('O', 'A')
                 AND tgtype & 1 = 0 AND tgfoid = to_regprocedure(called || '()')) THEN
    PERFORM pg_temp.talktrack_try(statements);
  END IF;
END $$;

-- Disables your own triggers, so that they do not fire for the values that are filled in below.
-- The last step restores them.
DO $$
DECLARE
  own record;
  restore text := '';
BEGIN
  FOR own IN
    SELECT tgrelid::regclass AS relation, tgname, tgenabled FROM pg_trigger
    WHERE tgrelid IN (to_regclass('public.conversation_sessions'), to_regclass('public.conversation_messages'))
      AND NOT tgisinternal AND tgenabled <> 'D' AND tgname NOT LIKE 'talktrack\_%'
  LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', own.relation, own.tgname);
    restore := restore || format('ALTER TABLE %s ENABLE %s TRIGGER %I;', own.relation,
      CASE own.tgenabled WHEN 'R' THEN 'REPLICA' WHEN 'A' THEN 'ALWAYS' ELSE '' END, own.tgname);
  END LOOP;
  PERFORM set_config('talktrack.restore_triggers', restore, true);
END $$;
