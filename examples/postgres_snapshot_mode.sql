-- Prepare a table for changes: {mode: snapshot, column: waybill_xid}.
--
--   psql -v table=public.orders -v tenant=tenant_id -f postgres_snapshot_mode.sql
--
-- Needs PostgreSQL 13 or newer and the table's owner. The table is not rewritten; it is locked for a moment only, and the index is built
-- while others go on reading and writing. The first delivery afterwards is a full load. Safe to run again, which costs one more full load.

\set ON_ERROR_STOP on
\if :{?tenant} \else \set tenant tenant_id \endif

BEGIN;
SET LOCAL lock_timeout = '5s';

-- pg_current_xact_id() is not volatile: existing rows share one stored value, the id of this transaction.
ALTER TABLE :table ADD COLUMN IF NOT EXISTS waybill_xid xid8 NOT NULL DEFAULT pg_current_xact_id();

CREATE OR REPLACE FUNCTION waybill_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.waybill_xid := pg_current_xact_id();  -- the id of the whole transaction, also inside a savepoint
    RETURN NEW;
END
$$;

-- ALWAYS: rows that arrive by logical replication must be stamped here too, since transaction ids mean nothing in another cluster.
DROP TRIGGER IF EXISTS waybill_stamp ON :table;
CREATE TRIGGER waybill_stamp BEFORE INSERT OR UPDATE ON :table FOR EACH ROW EXECUTE FUNCTION waybill_stamp();
ALTER TABLE :table ENABLE ALWAYS TRIGGER waybill_stamp;
COMMIT;

-- PostgreSQL cannot build the index of a partitioned table concurrently: this locks its writers. Build it on each partition first to avoid that.
SELECT format('CREATE INDEX %s IF NOT EXISTS %I ON %s (%I, waybill_xid)', CASE relkind WHEN 'p' THEN '' ELSE 'CONCURRENTLY' END,
              left(relname, 40) || '_waybill_xid', oid::regclass, :'tenant')
  FROM pg_class WHERE oid = :'table'::regclass
\gexec
