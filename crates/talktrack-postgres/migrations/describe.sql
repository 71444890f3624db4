-- Lists every column of the tables, with a remark if it is not as it should be.
WITH wanted ("table", "column", "type", "nullable") AS (VALUES
{wanted}
), present AS (
  SELECT c.relname::text AS "table", a.attname::text AS "column", a.attnum, NOT a.attnotnull AS "nullable",
    replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz') AS "type",
    pg_get_expr(d.adbin, d.adrelid) AS "default"
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE c.relnamespace = to_regnamespace('public') AND c.relname IN ('conversation_sessions', 'conversation_messages', 'conversation_search',
    'conversation_deletions', 'conversation_user_deletions', 'conversation_message_deletions', 'conversation_nodes', 'conversation_stats', 'conversation_stats_stale',
    'conversation_store')
    AND a.attnum > 0 AND NOT a.attisdropped
)
SELECT "table", "column", coalesce(p."type", '') AS "type", coalesce(p."nullable", true) AS "nullable", p."default",
  CASE WHEN w."type" IS NULL THEN 'your own'
    WHEN p."type" IS NULL THEN 'missing'
    WHEN p."type" <> w."type" AND (p."type", w."type") <> ('character varying', 'text') THEN 'should be ' || w."type"
    WHEN p."nullable" <> w."nullable" THEN CASE WHEN w."nullable" THEN 'should allow null' ELSE 'should not allow null' END
  END AS "remark"
FROM present p FULL JOIN wanted w USING ("table", "column")
ORDER BY "table" DESC, p.attnum;
