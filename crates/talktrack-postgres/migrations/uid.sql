-- Returns the user in the claims of the connection, or null if their subject is not a UUID.
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
  $uid$ SELECT CASE WHEN sub ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN sub::uuid END
    FROM (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' AS sub) AS claims $uid$;
