-- Returns what a database holds of this schema, as one JSON object. Every role may run this query: it
-- reads only the catalog, and calls no function that requires rights.
WITH RECURSIVE ours AS (
  SELECT oid, relname AS name, relrowsecurity, relpersistence FROM pg_catalog.pg_class
  WHERE relnamespace = to_regnamespace('public') AND relname IN ('conversation_sessions', 'conversation_messages', 'conversation_search',
    'conversation_deletions', 'conversation_user_deletions', 'conversation_message_deletions', 'conversation_nodes', 'conversation_stats', 'conversation_stats_stale', 'conversation_store')
), columns AS (
  SELECT o.name AS "table", a.attrelid, a.attnum, a.attname AS name, a.attnotnull AS not_null,
    replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz') AS "type",
    a.atthasdef OR a.attidentity <> '' AS has_default,
    CASE WHEN a.attgenerated <> '' THEN 'expression' WHEN a.attidentity = 'a' THEN 'identity' END AS generated
  FROM ours o JOIN pg_catalog.pg_attribute a ON a.attrelid = o.oid
  WHERE a.attnum > 0 AND NOT a.attisdropped
), single AS (
  SELECT c."table", c.name AS "column", k.oid, k.conname, k.contype, k.confrelid, k.confkey
  FROM columns c JOIN pg_catalog.pg_constraint k ON k.conrelid = c.attrelid AND k.conkey = ARRAY[c.attnum]
), functions AS (
  SELECT p.oid, oidvectortypes(p.proargtypes) AS arguments, p.prosrc AS body,
    p.prorettype = 'uuid'::regtype AND NOT p.proretset AND p.prosecdef AND p.prokind = 'f' AND p.pronargdefaults = 3
      AND p.proconfig = ARRAY['search_path=""'] AS sound,
    coalesce(p.proargnames, '{}') AS names
  FROM pg_catalog.pg_proc p
  WHERE p.proname = 'insert_conversation_message' AND p.pronamespace = to_regnamespace('public')
), trigger_functions AS (
  SELECT p.oid, p.proname AS name, p.prosrc AS body, coalesce(p.proconfig, '{}') AS settings,
    p.prorettype = 'trigger'::regtype AND p.prosecdef AS sound
  FROM pg_catalog.pg_proc p
  WHERE p.proname IN ('conversation_stats_touched', 'conversation_deleted') AND p.pronamespace = to_regnamespace('public')
    AND p.pronargs = 0
), roles AS (
  SELECT oid, rolname AS name FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')
), reads AS (
  -- Our tables, the views that read them, and the views that read these views.
  SELECT oid, name AS "table" FROM ours
  UNION
  SELECT w.ev_class, r."table" FROM reads r
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = r.oid
  JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND w.oid = d.objid
), views AS (
  SELECT n.nspname AS schema, c.relname AS name, c.relkind = 'm' AS materialized, r.name AS role, reads."table"
  FROM reads
  JOIN pg_catalog.pg_class c ON c.oid = reads.oid AND c.relkind IN ('v', 'm')
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN roles r ON r.name <> 'service_role' AND r.oid <> c.relowner
    AND has_schema_privilege(r.oid, n.oid, 'USAGE')
    AND (has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r.oid, c.oid, 'DELETE'))
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table(c.reloptions)
                    WHERE option_name = 'security_invoker' AND option_value::boolean)
)
SELECT jsonb_build_object(
  'database', current_database(),
  'encoding', (SELECT pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = current_database()),
  'switched_off', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM pg_catalog.pg_settings
      WHERE setting = 'off' AND (name IN ('fsync', 'full_page_writes')
        OR name = 'synchronous_commit' AND source IN ('configuration file', 'command line'))),
  'asynchronous', (SELECT coalesce(jsonb_agg(jsonb_build_object(
        'role', CASE WHEN setrole <> 0 THEN pg_get_userbyid(setrole) END,
        'in_database', setdatabase <> 0) ORDER BY setrole, setdatabase), '[]')
      FROM pg_catalog.pg_db_role_setting
      WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
        AND EXISTS (SELECT FROM unnest(setconfig) AS setting
                    WHERE lower(setting) IN ('synchronous_commit=off', 'synchronous_commit=false', 'synchronous_commit=no', 'synchronous_commit=0'))),
  'tables', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', name, 'row_security', relrowsecurity, 'unlogged', relpersistence = 'u',
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
        'expression', (SELECT pg_get_expr(k.conbin, k.conrelid) FROM pg_catalog.pg_constraint k WHERE k.oid = single.oid),
        'validated', (SELECT k.convalidated FROM pg_catalog.pg_constraint k WHERE k.oid = single.oid)) ORDER BY conname), '[]')
      FROM single WHERE contype = 'c'),
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
  'has_jwt', EXISTS (SELECT FROM pg_catalog.pg_proc
      WHERE proname = 'jwt' AND pronamespace = to_regnamespace('auth') AND pronargs = 0),
  'privileges', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', held."table", 'role', held.role, 'privilege', held.privilege,
        'whole', held.whole, 'columns', held.columns)), '[]')
      FROM (
        SELECT o.name AS "table", r.name AS role, privilege, has_table_privilege(r.oid, o.oid, privilege) AS whole,
          CASE WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND NOT has_table_privilege(r.oid, o.oid, privilege)
            THEN ARRAY(SELECT c.name::text FROM columns c WHERE c.attrelid = o.oid
                       AND has_column_privilege(r.oid, c.attrelid, c.attnum, privilege) ORDER BY c.attnum)
            ELSE '{}' END AS columns
        FROM ours o, roles r, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
      ) AS held WHERE held.whole OR held.columns <> '{}'),
  'callers', (SELECT coalesce(jsonb_agg(r.name), '[]') FROM functions f, roles r
      WHERE f.arguments = 'uuid, text, text, text, jsonb, uuid' AND has_function_privilege(r.oid, f.oid, 'EXECUTE')),
  'trigger_functions', (SELECT coalesce(jsonb_agg(to_jsonb(trigger_functions) - 'oid'), '[]') FROM trigger_functions),
  'triggers', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', o.name, 'name', t.tgname,
        'function', f.name, 'sound', t.tgenabled IN ('O', 'A') AND t.tgtype & 1 = 0)), '[]')
      FROM pg_catalog.pg_trigger t JOIN ours o ON o.oid = t.tgrelid LEFT JOIN trigger_functions f ON f.oid = t.tgfoid
      WHERE t.tgname LIKE 'talktrack\_%'),
  'views', (SELECT coalesce(jsonb_agg(to_jsonb(found) ORDER BY schema, name), '[]')
      FROM (SELECT schema, name, materialized, jsonb_agg(DISTINCT role ORDER BY role) AS roles,
              jsonb_agg(DISTINCT "table" ORDER BY "table") AS tables
            FROM views GROUP BY schema, name, materialized) AS found),
  'has_marks_key', EXISTS (SELECT FROM ours o JOIN pg_catalog.pg_constraint k ON k.conrelid = o.oid
      WHERE o.name = 'conversation_user_deletions' AND k.contype = 'p' AND cardinality(k.conkey) = 3),
  'has_security_invoker', current_setting('server_version_num')::integer >= 150000
)::text
