-- Drops a function of the same name and parameters that cannot be replaced, for example
-- because it returns another type.
DO $$
DECLARE
  old regprocedure := to_regprocedure('public.insert_conversation_message(uuid, text, text, text, jsonb, uuid)');
BEGIN
  IF EXISTS (SELECT FROM pg_proc WHERE oid = old AND (prorettype <> 'uuid'::regtype OR proretset OR prokind <> 'f'
             OR pronargdefaults > 3 OR proargnames IS DISTINCT FROM
             '{p_session_id,p_role,p_content,p_audio_url,p_metadata,p_user_id}'::text[])) THEN
    EXECUTE format('DROP ROUTINE %s', old);
  END IF;
END $$;
