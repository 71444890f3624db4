-- The user whose claims the connection carries.
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
  $uid$ SELECT nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid $uid$;
