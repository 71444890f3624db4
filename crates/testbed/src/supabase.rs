//! The parts of a Supabase project that a plain PostgreSQL lacks.

use crate::database::Database;

/// Makes the database look like that of a Supabase project: the roles of its API, `auth.users`,
/// `auth.uid()` and `auth.jwt()`, and default privileges that open every new table to all of these roles.
/// Its owner is `postgres`, which is not a superuser: a project's own tools connect as this role. Its API
/// connects as `authenticator`. Neither role needs a password.
///
/// The roles belong to the whole cluster, so this must not be called on
/// [`Postgres::plain`](crate::Postgres::plain).
pub fn like_supabase(database: &Database) {
    database.psql_cluster(ROLES);
    database.psql(&format!("ALTER DATABASE {} OWNER TO postgres", database.name()));
    database.psql(SCHEMAS);
}

/// The lock makes concurrent tests wait for each other: only one transaction at a time can create and grant
/// a role.
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
