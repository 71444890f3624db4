SELECT c.relname AS "table", a.attname AS "column",
  replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz') AS "type",
  NOT a.attnotnull AS "nullable", pg_get_expr(d.adbin, d.adrelid) AS "default"
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = to_regnamespace('public') AND c.relname IN ('conversation_sessions', 'conversation_messages')
  AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname DESC, a.attnum;
