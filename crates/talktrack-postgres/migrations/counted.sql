BEGIN
  -- As long as nobody counts, everything is to be counted anyhow. (A transaction that sees the database as it was may not know.)
  IF current_setting('transaction_isolation') = 'read committed'
    AND NOT EXISTS (SELECT FROM public.conversation_stats WHERE place = 0)
  THEN
    RETURN NULL;
  END IF;
  CASE TG_TABLE_NAME || ' ' || TG_OP
    WHEN 'conversation_messages INSERT' THEN
      INSERT INTO public.conversation_stats_stale (slice)
        SELECT DISTINCT floor(extract(epoch FROM created_at) / 300)::bigint FROM after_it WHERE isfinite(created_at);
    WHEN 'conversation_messages UPDATE' THEN
      INSERT INTO public.conversation_stats_stale (slice)
        SELECT floor(extract(epoch FROM created_at) / 300)::bigint FROM before_it WHERE isfinite(created_at)
        UNION SELECT floor(extract(epoch FROM created_at) / 300)::bigint FROM after_it WHERE isfinite(created_at);
    WHEN 'conversation_messages DELETE' THEN
      INSERT INTO public.conversation_stats_stale (slice)
        SELECT DISTINCT floor(extract(epoch FROM created_at) / 300)::bigint FROM before_it WHERE isfinite(created_at);
    WHEN 'conversation_sessions INSERT' THEN
      INSERT INTO public.conversation_stats_stale (slice)
        SELECT DISTINCT floor(extract(epoch FROM started_at) / 300)::bigint FROM after_it WHERE isfinite(started_at);
    WHEN 'conversation_sessions UPDATE' THEN
      -- Most updates count a message: they change none of the figures. Not joined: however few or many rows there were the
      -- first time, the plan of then suits them.
      INSERT INTO public.conversation_stats_stale (slice)
        SELECT DISTINCT floor(extract(epoch FROM changed.started_at) / 300)::bigint FROM (
          (SELECT session_id, started_at, status, duration_seconds FROM before_it
           EXCEPT ALL SELECT session_id, started_at, status, duration_seconds FROM after_it)
          UNION ALL
          (SELECT session_id, started_at, status, duration_seconds FROM after_it
           EXCEPT ALL SELECT session_id, started_at, status, duration_seconds FROM before_it)
        ) AS changed WHERE isfinite(changed.started_at);
    WHEN 'conversation_sessions DELETE' THEN
      INSERT INTO public.conversation_stats_stale (slice)
        SELECT DISTINCT floor(extract(epoch FROM started_at) / 300)::bigint FROM before_it WHERE isfinite(started_at);
    ELSE
      -- Emptied: everything is counted anew.
      DELETE FROM public.conversation_stats WHERE place = 0;
  END CASE;
  RETURN NULL;
EXCEPTION
  WHEN serialization_failure OR deadlock_detected OR lock_not_available THEN
    -- The same again will do.
    RAISE;
  WHEN OTHERS THEN
    -- Figures keep no row from being written. Once that is possible again, everything is counted anew.
    RAISE WARNING 'talktrack: what is written is not counted: %', SQLERRM;
    BEGIN
      DELETE FROM public.conversation_stats WHERE place = 0;
    EXCEPTION
      WHEN serialization_failure OR deadlock_detected OR lock_not_available THEN
        RAISE;
      WHEN OTHERS THEN
        NULL;
    END;
    RETURN NULL;
END
