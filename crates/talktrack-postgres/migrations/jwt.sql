-- Returns the claims of the connection.
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS
  $jwt$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $jwt$;
