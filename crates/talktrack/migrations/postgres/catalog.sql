-- What a database holds of this schema, as one JSON object. Everybody gets an answer: it reads the catalog only, and not
-- by functions that ask for rights.
WITH ours AS (
  SELECT oid, relname AS name, relrowsecurity FROM pg_catalog.pg_class
  WHERE relnamespace = to_regnamespace('public') AND relname IN ('conversation_sessions', 'conversation_messages', 'conversation_search',
    'conversation_deletions', 'conversation_stats', 'conversation_stats_stale')
), columns AS (
  SELECT o.name AS "table", a.attrelid, a.attnum, a.attname AS name, a.attnotnull AS not_null,
    replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz') AS "type",
    a.atthasdef OR a.attidentity <> '' AS has_default
  FROM ours o JOIN pg_catalog.pg_attribute a ON a.attrelid = o.oid
  WHERE a.attnum > 0 AND NOT a.attisdropped
), single AS (
  SELECT c."table", c.name AS "column", k.oid, k.conname, k.contype, k.confrelid, k.confkey
  FROM columns c JOIN pg_catalog.pg_constraint k ON k.conrelid = c.attrelid AND k.conkey = ARRAY[c.attnum]
), functions AS (
  SELECT p.oid, oidvectortypes(p.proargtypes) AS arguments, p.prosrc AS body,
    p.prorettype = 'uuid'::regtype AND NOT p.proretset AND NOT p.prosecdef AND p.prokind = 'f' AND p.pronargdefaults = 3
      AND p.proconfig = ARRAY['search_path=""'] AS sound,
    coalesce(p.proargnames, '{}') AS names
  FROM pg_catalog.pg_proc p
  WHERE p.proname = 'insert_conversation_message' AND p.pronamespace = to_regnamespace('public')
), markers AS (
  SELECT p.oid, p.prosrc AS body,
    p.prorettype = 'trigger'::regtype AND p.prosecdef AND p.proconfig = ARRAY['search_path=""', 'lock_timeout=0'] AS sound
  FROM pg_catalog.pg_proc p
  WHERE p.proname = 'conversation_stats_touched' AND p.pronamespace = to_regnamespace('public') AND p.pronargs = 0
), roles AS (
  SELECT oid, rolname AS name FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')
)
SELECT jsonb_build_object(
  'tables', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', name, 'row_security', relrowsecurity,
      'has_primary_key', EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = oid AND indisprimary))), '[]') FROM ours),
  'columns', (SELECT coalesce(jsonb_agg(to_jsonb(columns) - 'attrelid' - 'attnum' ORDER BY attrelid, attnum), '[]') FROM columns),
  'keys', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', c."table", 'column', c.name)), '[]')
      FROM columns c JOIN pg_catalog.pg_index i ON i.indrelid = c.attrelid AND i.indkey[0] = c.attnum
      WHERE i.indnkeyatts = 1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL),
  'references', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.conname, 'column', c.name)), '[]')
      FROM single s JOIN columns c ON c.attrelid = s.confrelid AND s.confkey = ARRAY[c.attnum]
      WHERE s."table" = 'conversation_messages' AND s."column" = 'session_id' AND s.contype = 'f'
        AND c."table" = 'conversation_sessions'),
  'checks', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', "table", 'column', "column", 'name', conname,
        'definition', pg_get_constraintdef(oid)) ORDER BY conname), '[]') FROM single WHERE contype = 'c'),
  'indexes', (SELECT coalesce(jsonb_agg(r.relname), '[]') FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid WHERE i.indrelid IN (SELECT oid FROM ours) AND i.indisvalid),
  'policies', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', o.name, 'name', p.polname,
        'command', p.polcmd, 'permissive', p.polpermissive,
        'roles', (SELECT jsonb_agg(rolname) FROM pg_catalog.pg_roles WHERE oid = ANY (p.polroles)),
        'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))), '[]')
      FROM pg_catalog.pg_policy p JOIN ours o ON o.oid = p.polrelid),
  'functions', (SELECT coalesce(jsonb_agg(to_jsonb(functions) - 'oid'), '[]') FROM functions),
  'roles', (SELECT coalesce(jsonb_agg(name), '[]') FROM roles),
  'has_uid', EXISTS (SELECT FROM pg_catalog.pg_proc
      WHERE proname = 'uid' AND pronamespace = to_regnamespace('auth') AND pronargs = 0),
  'privileges', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', o.name, 'role', r.name, 'privilege', privilege)), '[]')
      FROM ours o, roles r, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
      WHERE has_table_privilege(r.oid, o.oid, privilege)
        OR (privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(r.oid, o.oid, privilege))),
  'callers', (SELECT coalesce(jsonb_agg(r.name), '[]') FROM functions f, roles r
      WHERE f.arguments = 'uuid, text, text, text, jsonb, uuid' AND has_function_privilege(r.oid, f.oid, 'EXECUTE')),
  'marker', (SELECT to_jsonb(markers) - 'oid' FROM markers),
  'triggers', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', o.name, 'name', t.tgname,
        'sound', t.tgenabled IN ('O', 'A') AND m.oid IS NOT NULL AND t.tgtype & 1 = 0)), '[]')
      FROM pg_catalog.pg_trigger t JOIN ours o ON o.oid = t.tgrelid LEFT JOIN markers m ON m.oid = t.tgfoid
      WHERE t.tgname LIKE 'talktrack\_stats\_%')
)::text
