-- Accounts of the historian, after schema.sql: psql --file accounts.sql DATABASE.
-- The relay's account comes in by the local socket, or by TLS with a certificate for its name: see pg_hba.conf.
\set ON_ERROR_STOP on
\set QUIET on
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidegate') THEN
        CREATE ROLE tidegate LOGIN CONNECTION LIMIT 8 IN ROLE tidegate_writer;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'analyst') THEN
        CREATE ROLE analyst LOGIN IN ROLE tidegate_reader;
        ALTER ROLE analyst SET search_path = tidegate;
        ALTER ROLE analyst SET statement_timeout = '5min';
    END IF;
END $$;
