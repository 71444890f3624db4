DECLARE
  -- Not current_user: that is the owner of this function.
  caller CONSTANT name := coalesce(nullif(current_setting('role', true), 'none'), session_user);
  subject CONSTANT text := auth.jwt() ->> 'sub';
  -- As in the policies: a user is a UUID, or a text that is none.
  subject_key CONSTANT text := CASE WHEN subject ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$'
    THEN (subject::uuid)::text ELSE 'text:' || subject END;
  -- Who may write to any session anyhow.
  is_trusted CONSTANT boolean := (SELECT rolsuper OR rolbypassrls OR pg_has_role(oid, 'service_role', 'USAGE')
      OR oid = (SELECT relowner FROM pg_class WHERE oid = 'public.conversation_sessions'::regclass)
    FROM pg_roles WHERE rolname = caller);
  owner uuid;
  new_id uuid;
BEGIN
  IF p_session_id IS NULL THEN
    RAISE EXCEPTION 'p_session_id must not be null' USING ERRCODE = 'null_value_not_allowed';
  ELSIF p_content IS NULL THEN
    RAISE EXCEPTION 'p_content must not be null' USING ERRCODE = 'null_value_not_allowed';
  ELSIF p_role IS NULL OR p_role NOT IN ({roles}) THEN
    RAISE EXCEPTION 'p_role must be one of {role_words}, not %', coalesce(quote_literal(p_role), 'null')
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  UPDATE public.conversation_sessions
    SET message_count = message_count + 1, last_event_at = greatest(last_event_at, now())
    WHERE session_id = p_session_id AND (is_trusted OR coalesce('text:' || user_external_id, user_id::text) = subject_key)
    RETURNING user_id INTO owner;
  IF NOT FOUND THEN
    -- Another user's session is unknown, too.
    RAISE EXCEPTION 'unknown session %', p_session_id
      USING ERRCODE = 'foreign_key_violation', HINT = 'Start it first: insert its row into conversation_sessions.';
  ELSIF p_user_id IS DISTINCT FROM owner AND p_user_id IS NOT NULL THEN
    RAISE EXCEPTION 'session % belongs to another user than p_user_id', p_session_id
      USING ERRCODE = 'insufficient_privilege', HINT = 'Leave p_user_id out: it is filled in from the session.';
  END IF;
  INSERT INTO public.conversation_messages (session_id, user_id, role, content, audio_url, metadata)
    VALUES (p_session_id, CASE WHEN p_role <> 'system' THEN owner END, p_role, p_content, p_audio_url, p_metadata)
    RETURNING id INTO new_id;
  RETURN new_id;
END
