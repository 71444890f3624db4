-- Restores your own triggers as they were.
DO $$
BEGIN
  IF current_setting('talktrack.restore_triggers') <> '' THEN
    EXECUTE current_setting('talktrack.restore_triggers');
  END IF;
END $$;

DROP FUNCTION pg_temp.talktrack_try(text);
DROP FUNCTION pg_temp.talktrack_renamed(name, name);
DROP FUNCTION pg_temp.talktrack_nullable(regclass, name);
DROP FUNCTION pg_temp.talktrack_default(regclass, name, text);
DROP FUNCTION pg_temp.talktrack_require(regclass, name, text);
DROP FUNCTION pg_temp.talktrack_key(regclass, name);
DROP FUNCTION pg_temp.talktrack_users(text, text);
DROP FUNCTION pg_temp.talktrack_revoke(regclass, name[], text);
DROP FUNCTION pg_temp.talktrack_words(regclass, name, text[]);
DROP FUNCTION pg_temp.talktrack_trigger(regclass, name, text, text);

-- PostgREST caches the schema. This makes it reload its cache.
NOTIFY pgrst, 'reload schema';

COMMIT;
