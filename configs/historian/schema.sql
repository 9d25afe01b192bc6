-- The historian of Tidegate, version 3: psql --file schema.sql DATABASE, as a role that may create roles.
-- It brings a database of any earlier version to this one, and changes nothing in a database of a later one.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tidegate_owner', 'tidegate_writer', 'tidegate_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END $$;

CREATE SCHEMA IF NOT EXISTS tidegate AUTHORIZATION tidegate_owner;
GRANT tidegate_owner TO CURRENT_USER;
SET LOCAL ROLE tidegate_owner;
SET LOCAL search_path = tidegate;
SET LOCAL client_min_messages = warning;

CREATE TABLE IF NOT EXISTS version (version int PRIMARY KEY);
DO $$
DECLARE found int := (SELECT max(version) FROM tidegate.version);
BEGIN
    IF found > 3 THEN
        RAISE EXCEPTION 'this database has version % of the schema, and this file brings version 3', found
            USING HINT = 'Use the file of the newer Tidegate. Rows are not converted backward; nothing was changed.';
    END IF;
END $$;
SELECT coalesce(max(version), 0) < 1 AS is_before_1, coalesce(max(version), 0) < 2 AS is_before_2,
    coalesce(max(version), 0) < 3 AS is_before_3 FROM version \gset

\if :is_before_1
-- Where each relay is in its archive.
CREATE TABLE mark (relay text PRIMARY KEY, mark text NOT NULL);

-- One row per scan, or notification, of a scan group. Values are raw and in the order of the record: whole numbers and
-- booleans in i8 (uint64 as two's complement), then float32, float64, texts. `kind`: 0 has every tag of the group, 1 is
-- a notification, 2 has what changed. `positions`: the number of each value's tag in its scan group, null where all are
-- there. `source_times`: one per value, the smallest bigint where the device gave none. `status`: what is not good, as
-- (first, count, code) after each other, counted in tags, or for a notification in values. `rtt`: how long the device
-- was asked for it, in ns; `t` is the middle of that, and its clock may be off by `bound_ns`.
CREATE TABLE block (
    gateway text NOT NULL, epoch bytea NOT NULL, seq bigint NOT NULL, block int NOT NULL, kind smallint NOT NULL,
    scan_group int NOT NULL, t_ns bigint NOT NULL, t timestamptz NOT NULL, rtt bigint NOT NULL, bound_ns bigint,
    catalogue bytea NOT NULL, i8 bigint[], f4 real[], f8 double precision[], txt text[], positions int[],
    source_times bigint[], status bigint[], fallen text,
    PRIMARY KEY (gateway, epoch, seq, block, t)
) PARTITION BY RANGE (t);
CREATE INDEX block_by_time ON block (gateway, scan_group, t);

-- A tag keeps its identity through changes of scale, unit and name: each name that it ever had leads to it.
CREATE TABLE tag (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gateway text NOT NULL, device text NOT NULL, name text NOT NULL,
    UNIQUE (gateway, device, name)
);
CREATE TABLE tag_name (
    gateway text, device text, name text, tag bigint NOT NULL REFERENCES tag, PRIMARY KEY (gateway, device, name)
);
CREATE TABLE catalogue (
    gateway text, catalogue bytea, scan_group int, n int, tag bigint NOT NULL REFERENCES tag, device text NOT NULL,
    group_name text NOT NULL, interval_ns bigint NOT NULL, name text NOT NULL, address text NOT NULL, type text NOT NULL,
    vector text, slot int, place int, unit text NOT NULL, scale double precision NOT NULL,
    "offset" double precision NOT NULL, low double precision, high double precision, deadband double precision NOT NULL,
    description text NOT NULL, texts jsonb, time_kind int, scale_tag int,
    PRIMARY KEY (gateway, catalogue, scan_group, n)
);
CREATE INDEX catalogue_by_tag ON catalogue (tag);

-- The newest value of every tag of a scan group, as a block that has all of them; `times` are theirs.
CREATE TABLE latest (
    gateway text, catalogue bytea, scan_group int, i8 bigint[], f4 real[], f8 double precision[], txt text[],
    status bigint[], times bigint[] NOT NULL, PRIMARY KEY (gateway, catalogue, scan_group)
);

CREATE TABLE chain (
    gateway text, epoch bytea, seq bigint, type text NOT NULL, reason text, t_ns bigint, counter bigint, version text,
    configuration bytea, previous bytea, hardware jsonb, fallen text, PRIMARY KEY (gateway, epoch, seq)
);
CREATE TABLE gap (
    gateway text, epoch bytea, seq bigint, scan_group int, from_ns bigint NOT NULL, to_ns bigint, status bigint NOT NULL,
    detail text NOT NULL, fallen text, PRIMARY KEY (gateway, epoch, seq)
);
CREATE TABLE loss (
    gateway text, epoch bytea, seq bigint, lost_epoch bytea NOT NULL, first bigint NOT NULL, last bigint NOT NULL,
    from_ns bigint, to_ns bigint, records bigint NOT NULL, readings bigint, reason text NOT NULL, fallen text,
    PRIMARY KEY (gateway, epoch, seq)
);
CREATE TABLE event (
    gateway text, epoch bytea, seq bigint, t_ns bigint NOT NULL, kind text NOT NULL, severity text NOT NULL,
    subject text NOT NULL, data jsonb NOT NULL, fallen text, PRIMARY KEY (gateway, epoch, seq)
);
CREATE TABLE config (
    gateway text, epoch bytea, seq bigint, t_ns bigint NOT NULL, account text NOT NULL, role text NOT NULL,
    why text NOT NULL, old_hash bytea NOT NULL, new_hash bytea NOT NULL, changes jsonb NOT NULL, fallen text,
    PRIMARY KEY (gateway, epoch, seq)
);
CREATE TABLE identity (
    gateway text, epoch bytea, seq bigint, device text, since_ns bigint NOT NULL, vendor text NOT NULL,
    product text NOT NULL, firmware text NOT NULL, serial text NOT NULL, more jsonb NOT NULL, fallen text,
    PRIMARY KEY (gateway, epoch, seq, device)
);
-- Records of the archive that this database refused, and why.
CREATE TABLE refused (
    gateway text, epoch bytea, seq bigint, reason text NOT NULL, PRIMARY KEY (gateway, epoch, seq)
);
INSERT INTO version VALUES (1);
\endif

\if :is_before_2
-- Times that a gateway learned later to be wrong: those of its chain from `from_ns` to `to_ns`, in records before `seq`.
CREATE TABLE correction (
    gateway text, epoch bytea, seq bigint, from_ns bigint NOT NULL, to_ns bigint NOT NULL, correction_ns bigint NOT NULL,
    bound_ns bigint, fallen text, PRIMARY KEY (gateway, epoch, seq)
);
-- Those that came before are in the archive: it is read again, and what is written already is left out.
UPDATE mark SET mark = '' WHERE EXISTS (SELECT FROM event WHERE kind = 'time' AND data ->> 'correction_ns' IS NOT NULL);
-- Of workers that share the gateways: how far each share of them is taken, and what its next owner needs.
CREATE TABLE share (
    consumers text, part int, owner text NOT NULL, generation bigint NOT NULL, next_offset bigint, last_hash bytea,
    PRIMARY KEY (consumers, part)
);
CREATE TABLE carried (
    consumers text, part int, key text, value bytea NOT NULL, PRIMARY KEY (consumers, part, key)
);
INSERT INTO version VALUES (2);
\endif

\if :is_before_3
-- What a unit was doing (ISA-88), from a change on that was after `from_ns` and not after `to_ns`. `number` names it in its
-- chain. Of a member: null is not known or not asked for, empty is read and blank; `sources` has the tags it is read from.
CREATE TABLE batch (
    gateway text, epoch bytea, seq bigint NOT NULL, number bigint, unit text NOT NULL, batch text, lot text, product text,
    recipe text, procedure text, unit_procedure text, operation text, phase text, state text, from_ns bigint NOT NULL,
    to_ns bigint NOT NULL, sources jsonb NOT NULL, fallen text, PRIMARY KEY (gateway, epoch, number)
);
CREATE INDEX batch_by_name ON batch (batch, unit);
-- The context in which a block ended, and the one before where it changed, or may have, meanwhile; 0 is not known, null is
-- none. A column without values takes no room, and no time here.
ALTER TABLE block ADD COLUMN context bigint, ADD COLUMN context_before bigint;
INSERT INTO version VALUES (3);
\endif

-- Days are made and dropped by these only: whoever writes owns no table.
CREATE OR REPLACE FUNCTION add_day(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = tidegate, pg_temp SET timezone = 'UTC' SET client_min_messages = warning AS $$
BEGIN
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF block FOR VALUES FROM (%L) TO (%L)',
                   'block_' || to_char(day, 'YYYYMMDD'), day::timestamptz, (day + 1)::timestamptz);
END $$;

CREATE OR REPLACE FUNCTION drop_days(before date) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = tidegate, pg_temp AS $$
DECLARE name text; dropped int := 0;
BEGIN
    FOR name IN SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                WHERE inhparent = 'tidegate.block'::regclass AND relname < 'block_' || to_char(before, 'YYYYMMDD') LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

CREATE OR REPLACE FUNCTION rename_tag(of_gateway text, was_device text, was text, now_device text, now text)
    RETURNS void LANGUAGE plpgsql AS $$
DECLARE kept bigint; other bigint;
BEGIN
    SELECT n.tag INTO kept FROM tidegate.tag_name n WHERE (gateway, device, name) = (of_gateway, was_device, was);
    SELECT n.tag INTO other FROM tidegate.tag_name n WHERE (gateway, device, name) = (of_gateway, now_device, now);
    IF kept IS NULL THEN
        INSERT INTO tidegate.tag_name SELECT of_gateway, was_device, was, other WHERE other IS NOT NULL;
        RETURN;
    END IF;
    IF other IS NULL THEN
        INSERT INTO tidegate.tag_name VALUES (of_gateway, now_device, now, kept);
    ELSIF other <> kept THEN
        UPDATE tidegate.tag_name SET tag = kept WHERE tag = other;
        UPDATE tidegate.catalogue SET tag = kept WHERE tag = other;
        DELETE FROM tidegate.tag WHERE id = other;
    END IF;
    UPDATE tidegate.tag SET device = now_device, name = now WHERE id = kept;
END $$;

CREATE OR REPLACE FUNCTION add_catalogue(of_gateway text, digest bytea, tags jsonb) RETURNS void LANGUAGE sql AS $$
    WITH wanted AS (SELECT DISTINCT device, name FROM jsonb_to_recordset(tags) AS w(device text, name text)),
    made AS (
        INSERT INTO tidegate.tag (gateway, device, name)
        SELECT of_gateway, device, name FROM wanted w
        WHERE NOT EXISTS (SELECT FROM tidegate.tag_name n
                          WHERE (n.gateway, n.device, n.name) = (of_gateway, w.device, w.name))
        RETURNING id, device, name
    )
    INSERT INTO tidegate.tag_name SELECT of_gateway, device, name, id FROM made;
    INSERT INTO tidegate.catalogue
    SELECT of_gateway, digest, c.scan_group, c.n, t.tag, c.device, c.group_name, c.interval_ns, c.name, c.address, c.type,
           c.vector, c.slot, c.place, c.unit, c.scale, c."offset", c.low, c.high, c.deadband, c.description, c.texts,
           c.time_kind, c.scale_tag
    FROM jsonb_populate_recordset(NULL::tidegate.catalogue, tags) c
    JOIN tidegate.tag_name t ON (t.gateway, t.device, t.name) = (of_gateway, c.device, c.name)
    ON CONFLICT DO NOTHING;
$$;

CREATE OR REPLACE FUNCTION code_of(runs bigint[], at bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce((SELECT runs[i + 2] FROM generate_series(1, cardinality(runs), 3) i
                     WHERE at >= runs[i] AND at < runs[i] + runs[i + 1] LIMIT 1), 0)
$$;

CREATE OR REPLACE FUNCTION time_text(kind int, ns bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH at AS (
        SELECT timestamp '1970-01-01' + floor(ns / 1000000000.0)::bigint * interval '1 second' AS whole,
               rtrim(to_char(mod(mod(ns, 1000000000) + 1000000000, 1000000000), 'FM".000000000"'), '0') AS rest,
               mod(mod(ns, 1000000000) + 1000000000, 1000000000) AS rest_ns
    )
    SELECT CASE kind WHEN 3 THEN '' WHEN 4 THEN '' ELSE to_char(whole, 'YYYY-MM-DD"T"') END
        || CASE kind WHEN 3 THEN to_char(whole, 'YYYY-MM-DD')
           ELSE to_char(whole, 'HH24:MI:SS')
                || CASE WHEN rest_ns = 0 THEN '' ELSE '.' || rtrim(lpad(rest_ns::text, 9, '0'), '0') END END
        || CASE kind WHEN 1 THEN 'Z' ELSE '' END
    FROM at
$$;

-- The power of ten that a scale tag said last, at an instant; null where it said none.
CREATE OR REPLACE FUNCTION power_at(of_gateway text, digest bytea, of_group int, number int, until timestamptz)
    RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN raw BETWEEN -10 AND 10 THEN 10 ^ raw END
    FROM tidegate.catalogue c
    JOIN tidegate.block b ON (b.gateway, b.scan_group, b.catalogue) = (c.gateway, c.scan_group, c.catalogue)
    CROSS JOIN LATERAL (SELECT CASE WHEN b.positions IS NULL THEN c.place ELSE array_position(b.positions, c.n) END) p(k)
    CROSS JOIN LATERAL (SELECT trunc(CASE c.vector WHEN 'i8' THEN b.i8[k]
        WHEN 'f4' THEN b.f4[k - coalesce(cardinality(b.i8), 0)]
        WHEN 'f8' THEN b.f8[k - coalesce(cardinality(b.i8), 0) - coalesce(cardinality(b.f4), 0)] END)) r(raw)
    WHERE (c.gateway, c.catalogue, c.scan_group, c.n) = (of_gateway, digest, of_group, number)
        AND b.t <= until AND b.fallen IS NULL AND raw IS NOT NULL
    ORDER BY b.t_ns DESC LIMIT 1
$$;

-- A value in its unit, of `b`, a row of block or latest: what both views below have in common. OFFSET 0 there keeps an
-- array from being fetched again for each column that is made of it.
\set raw 'CASE c.vector WHEN ''i8'' THEN CASE WHEN c.type = ''uint64'' AND b.i8[a.at] < 0 THEN b.i8[a.at] + 18446744073709551616 ELSE b.i8[a.at]::numeric END END'
\set number 'CASE WHEN s.code >= 2147483648 OR c.time_kind BETWEEN 1 AND 4 THEN NULL WHEN c.vector = ''f4'' THEN CASE WHEN (c.scale, c."offset") = (1, 0) THEN b.f4[a.at]::text::double precision ELSE b.f4[a.at]::text::double precision * c.scale + c."offset" END WHEN c.vector = ''f8'' THEN b.f8[a.at] * c.scale + c."offset" WHEN c.vector = ''i8'' THEN CASE WHEN (c.scale, c."offset") = (1, 0) THEN r.raw ELSE r.raw * c.scale::numeric + c."offset"::numeric END::double precision END'
\set words 'CASE WHEN s.code >= 2147483648 THEN NULL WHEN c.vector = ''txt'' THEN b.txt[a.at] WHEN c.time_kind BETWEEN 1 AND 4 THEN tidegate.time_text(c.time_kind, r.raw::bigint) WHEN c.texts IS NOT NULL THEN c.texts ->> r.raw::text END'
\set shown 'CASE WHEN s.code < 1073741824 AND v.value IN (''NaN'', ''Infinity'', ''-Infinity'') THEN 1083441152 ELSE s.code END'
\set quality 'CASE WHEN z.status >= 2147483648 THEN ''bad'' WHEN z.status >= 1073741824 THEN ''uncertain'' ELSE ''good'' END'

-- A member of the context is that of both where it changed meanwhile, or may have, and else null: no value counts to a
-- batch that it may not belong to.
CREATE OR REPLACE VIEW reading AS
SELECT tag.gateway, tag.device, tag.name AS tag, b.t, b.t_ns, v.value, CASE WHEN (c.scale, c."offset") = (1, 0)
       AND c.scale_tag IS NULL AND s.code < 2147483648 THEN r.raw END AS exact, w.text, c.unit, z.status, :quality AS quality,
       b.bound_ns + (b.rtt + 1) / 2 AS uncertainty_ns, nullif(b.source_times[k.k], -9223372036854775808) AS source_ns,
       c.name AS named, b.epoch, b.seq, b.block, k.row - 1 AS row, tag.id AS tag_id,
       b.context, b.context_before, coalesce(x.unit, y.unit) AS process_unit,
       CASE WHEN b.context_before IS NULL OR y.batch = x.batch THEN x.batch END AS batch,
       CASE WHEN b.context_before IS NULL OR y.lot = x.lot THEN x.lot END AS lot,
       CASE WHEN b.context_before IS NULL OR y.product = x.product THEN x.product END AS product,
       CASE WHEN b.context_before IS NULL OR y.recipe = x.recipe THEN x.recipe END AS recipe,
       CASE WHEN b.context_before IS NULL OR y.procedure = x.procedure THEN x.procedure END AS procedure,
       CASE WHEN b.context_before IS NULL OR y.unit_procedure = x.unit_procedure THEN x.unit_procedure END AS unit_procedure,
       CASE WHEN b.context_before IS NULL OR y.operation = x.operation THEN x.operation END AS operation,
       CASE WHEN b.context_before IS NULL OR y.phase = x.phase THEN x.phase END AS phase,
       CASE WHEN b.context_before IS NULL OR y.state = x.state THEN x.state END AS state
FROM tag
JOIN catalogue c ON c.tag = tag.id
JOIN block b ON b.gateway = c.gateway AND b.scan_group = c.scan_group AND b.catalogue = c.catalogue
CROSS JOIN LATERAL unnest(CASE WHEN b.positions IS NULL THEN ARRAY[c.place]
    WHEN b.kind = 2 AND b.status IS NOT NULL AND NOT c.n = ANY (b.positions)
        AND tidegate.code_of(b.status, c.n) >= 2147483648 THEN ARRAY[NULL::int]
    ELSE array_positions(b.positions, c.n) END) WITH ORDINALITY k(k, row)
CROSS JOIN LATERAL (SELECT CASE WHEN b.positions IS NULL THEN c.slot ELSE k.k - CASE c.vector WHEN 'i8' THEN 0
    WHEN 'f4' THEN coalesce(cardinality(b.i8), 0)
    WHEN 'f8' THEN coalesce(cardinality(b.i8), 0) + coalesce(cardinality(b.f4), 0)
    ELSE coalesce(cardinality(b.i8), 0) + coalesce(cardinality(b.f4), 0) + coalesce(cardinality(b.f8), 0) END END) a(at)
CROSS JOIN LATERAL (SELECT CASE WHEN b.status IS NULL THEN 0
    ELSE tidegate.code_of(b.status, CASE b.kind WHEN 1 THEN k.k - 1 ELSE c.n END) END) s(code)
CROSS JOIN LATERAL (SELECT :raw OFFSET 0) r(raw)
CROSS JOIN LATERAL (SELECT :number * CASE WHEN c.scale_tag IS NULL THEN 1
    ELSE tidegate.power_at(b.gateway, b.catalogue, b.scan_group, c.scale_tag, b.t) END OFFSET 0) v(value)
CROSS JOIN LATERAL (SELECT :words) w(text)
CROSS JOIN LATERAL (SELECT :shown) z(status)
LEFT JOIN batch x ON (x.gateway, x.epoch, x.number) = (b.gateway, b.epoch, b.context) AND x.fallen IS NULL
LEFT JOIN batch y ON (y.gateway, y.epoch, y.number) = (b.gateway, b.epoch, b.context_before) AND y.fallen IS NULL
WHERE b.fallen IS NULL;

CREATE OR REPLACE VIEW newest AS
SELECT DISTINCT ON (tag.id) tag.gateway, tag.device, tag.name AS tag, timestamptz 'epoch' + floor(y.t_ns / 1000.0)::bigint * interval '1 microsecond' AS t, y.t_ns,
       v.value, CASE WHEN (c.scale, c."offset") = (1, 0) AND c.scale_tag IS NULL AND s.code < 2147483648 THEN r.raw END
       AS exact, w.text, c.unit, z.status, :quality AS quality, c.name AS named, tag.id AS tag_id
FROM tag
JOIN catalogue c ON c.tag = tag.id
JOIN latest b ON b.gateway = c.gateway AND b.scan_group = c.scan_group AND b.catalogue = c.catalogue
CROSS JOIN LATERAL (SELECT c.slot) a(at)
CROSS JOIN LATERAL (SELECT b.times[c.n + 1]) y(t_ns)
CROSS JOIN LATERAL (SELECT CASE WHEN b.status IS NULL THEN 0 ELSE tidegate.code_of(b.status, c.n) END) s(code)
CROSS JOIN LATERAL (SELECT :raw OFFSET 0) r(raw)
CROSS JOIN LATERAL (SELECT :number * CASE WHEN c.scale_tag IS NULL THEN 1 ELSE tidegate.power_at(b.gateway, b.catalogue,
    b.scan_group, c.scale_tag, to_timestamp(y.t_ns / 1000000000.0) + interval '1 microsecond') END OFFSET 0) v(value)
CROSS JOIN LATERAL (SELECT :words) w(text)
CROSS JOIN LATERAL (SELECT :shown) z(status)
WHERE y.t_ns > -9223372036854775808
ORDER BY tag.id, y.t_ns DESC;

GRANT USAGE ON SCHEMA tidegate TO tidegate_writer, tidegate_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA tidegate TO tidegate_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tidegate TO tidegate_writer;
REVOKE INSERT, UPDATE, DELETE ON version FROM tidegate_writer;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA tidegate FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tidegate TO tidegate_writer;
GRANT EXECUTE ON FUNCTION code_of, time_text, power_at TO tidegate_reader;
COMMIT;
