BEGIN
  -- As long as nobody counts, everything is to be counted anyhow.
  IF NOT EXISTS (SELECT FROM public.conversation_stats WHERE place = 0) THEN
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
      -- Most updates count a message: they change none of the figures.
      INSERT INTO public.conversation_stats_stale (slice)
        SELECT DISTINCT floor(extract(epoch FROM moment) / 300)::bigint
        FROM before_it AS b JOIN after_it AS a USING (session_id), unnest(ARRAY[b.started_at, a.started_at]) AS moment
        WHERE (b.started_at, b.status, b.duration_seconds) IS DISTINCT FROM (a.started_at, a.status, a.duration_seconds)
          AND isfinite(moment);
    WHEN 'conversation_sessions DELETE' THEN
      INSERT INTO public.conversation_stats_stale (slice)
        SELECT DISTINCT floor(extract(epoch FROM started_at) / 300)::bigint FROM before_it WHERE isfinite(started_at);
    ELSE
      -- Emptied: everything is counted anew.
      DELETE FROM public.conversation_stats WHERE place = 0;
  END CASE;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  -- Figures keep no row from being written. Once that is possible again, everything is counted anew.
  RAISE WARNING 'talktrack: what is written is not counted: %', SQLERRM;
  BEGIN
    DELETE FROM public.conversation_stats WHERE place = 0;
  EXCEPTION WHEN OTHERS THEN
    NULL;
  END;
  RETURN NULL;
END
