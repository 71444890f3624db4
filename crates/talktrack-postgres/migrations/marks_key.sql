-- The marks of users are told apart by the user's text too: a user whose id is a UUID may have the UUID of a text.
DO $$
DECLARE
  old record := (SELECT k FROM pg_constraint k WHERE contype = 'p' AND conrelid = 'public.conversation_user_deletions'::regclass);
BEGIN
  IF old.conname IS NULL THEN
    ALTER TABLE public.conversation_user_deletions ADD PRIMARY KEY (user_id, session_id, user_external_id);
  ELSIF cardinality(old.conkey) <> 3 THEN
    EXECUTE format('ALTER TABLE public.conversation_user_deletions DROP CONSTRAINT %I, ADD PRIMARY KEY (user_id, session_id, user_external_id)', old.conname);
  END IF;
END $$;
