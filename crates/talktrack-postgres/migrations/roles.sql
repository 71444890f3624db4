-- Supabase has these roles and functions, and they stay as they are. Plain PostgreSQL gets them here.
DO $$
DECLARE
  wanted name;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL; -- created at the same moment for another database of this server
      END;
    END IF;
  END LOOP;
  FOREACH wanted IN ARRAY ARRAY['authenticated', 'service_role'] LOOP
    IF NOT has_schema_privilege(wanted, 'public', 'USAGE') THEN
      EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', wanted);
    END IF;
  END LOOP;
  IF to_regnamespace('auth') IS NULL THEN
    CREATE SCHEMA auth;
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'uid' AND pronamespace = to_regnamespace('auth') AND pronargs = 0) THEN
    EXECUTE $sql$
{uid}$sql$;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'jwt' AND pronamespace = to_regnamespace('auth') AND pronargs = 0) THEN
    EXECUTE $sql$
{jwt}$sql$;
  END IF;
END $$;
