//! What a Supabase project has and a plain PostgreSQL has not.

use crate::database::Database;

/// Makes the database look as a Supabase project's does: the roles of its API, `auth.users`, `auth.uid()` and `auth.jwt()`, and default
/// privileges that open every new table to all of them. `postgres` is its owner, and no superuser: that is as whom a
/// project's own tools connect. `authenticator` is as whom its API does. Neither is asked for a password.
///
/// The roles belong to the whole cluster, so never on [`Postgres::plain`](crate::Postgres::plain).
pub fn like_supabase(database: &Database) {
    database.psql_cluster(ROLES);
    database.psql(&format!("ALTER DATABASE {} OWNER TO postgres", database.name()));
    database.psql(SCHEMAS);
}

/// Tests that run side by side wait for each other: a role can be made, and granted, by one at a time.
const ROLES: &str = "
BEGIN;
SELECT pg_advisory_xact_lock(7355608);
DO $$
DECLARE
    roles CONSTANT jsonb := '{
        \"anon\": \"NOLOGIN NOINHERIT\",
        \"authenticated\": \"NOLOGIN NOINHERIT\",
        \"service_role\": \"NOLOGIN NOINHERIT BYPASSRLS\",
        \"authenticator\": \"LOGIN NOINHERIT\",
        \"postgres\": \"LOGIN CREATEROLE CREATEDB BYPASSRLS\"
    }';
    role text;
BEGIN
    FOR role IN SELECT jsonb_object_keys(roles) EXCEPT SELECT rolname FROM pg_roles LOOP
        EXECUTE format('CREATE ROLE %I %s', role, roles ->> role);
    END LOOP;
    GRANT anon, authenticated, service_role TO authenticator, postgres;
END
$$;
COMMIT;
";

const SCHEMAS: &str = "
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY);

-- The sender of the request that this transaction serves. Older APIs set each claim by itself.
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
$$;

CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;

GRANT USAGE ON SCHEMA public, auth TO anon, authenticated, service_role, postgres;
GRANT ALL ON auth.users TO postgres;

ALTER DEFAULT PRIVILEGES FOR ROLE talktrack, postgres IN SCHEMA public
    GRANT ALL ON TABLES TO anon, authenticated, service_role, postgres;
ALTER DEFAULT PRIVILEGES FOR ROLE talktrack, postgres IN SCHEMA public
    GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role, postgres;
ALTER DEFAULT PRIVILEGES FOR ROLE talktrack, postgres IN SCHEMA public
    GRANT ALL ON SEQUENCES TO anon, authenticated, service_role, postgres;
";
