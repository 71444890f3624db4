BEGIN
  -- talktrack deletes whole sessions itself, and notes them itself. Retention leaves no mark.
  IF current_setting('talktrack.deletes', true) = 'on' THEN
    RETURN NULL;
  END IF;
  IF TG_TABLE_NAME = 'conversation_sessions' THEN
    INSERT INTO public.conversation_deletions (session_id, user_id, user_external_id)
      SELECT DISTINCT session_id, user_id, user_external_id FROM before_it WHERE session_id IS NOT NULL ORDER BY session_id ON CONFLICT DO NOTHING;
    -- The mark of the session refuses its messages, too.
    DELETE FROM public.conversation_message_deletions
      WHERE session_id = ANY (ARRAY(SELECT session_id FROM before_it WHERE session_id IS NOT NULL));
  ELSE
    -- Where messages go with their session, its row is gone by now.
    INSERT INTO public.conversation_message_deletions (session_id, message_id)
      SELECT gone.session_id, gone.id FROM before_it AS gone
      WHERE EXISTS (SELECT FROM public.conversation_sessions AS session WHERE session.session_id = gone.session_id)
      ORDER BY gone.session_id, gone.id ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
EXCEPTION
  WHEN serialization_failure OR deadlock_detected THEN
    -- The same again will do.
    RAISE;
  WHEN OTHERS THEN
    -- Whoever deletes is not kept from it. What another server delivers later of these rows is stored again.
    RAISE WARNING 'talktrack: a deletion is not noted: %', SQLERRM;
    RETURN NULL;
END
