-- Views for Power BI, Excel and other programs by ODBC: psql --file power-bi.sql DATABASE, after schema.sql.
-- No arrays, no bytes, no number that is none, and short names. Over version 1 of the contract, and may be changed to taste.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL ROLE tidegate_owner;
CREATE OR REPLACE VIEW tidegate.bi_value AS
SELECT gateway, device, tag, t, CASE WHEN value NOT IN ('NaN', 'Infinity', '-Infinity') THEN value END AS value, text, unit,
       quality, encode(epoch, 'hex') || '/' || seq || '/' || block || '/' || row AS source
FROM tidegate.reading;
CREATE OR REPLACE VIEW tidegate.bi_newest AS
SELECT gateway, device, tag, t, CASE WHEN value NOT IN ('NaN', 'Infinity', '-Infinity') THEN value END AS value, text, unit,
       quality
FROM tidegate.newest;
CREATE OR REPLACE VIEW tidegate.bi_missing AS
SELECT gateway, 'gap' AS kind, to_timestamp(from_ns / 1000000000.0) AS since, to_timestamp(to_ns / 1000000000.0) AS until,
       detail AS reason
FROM tidegate.gap WHERE fallen IS NULL
UNION ALL
SELECT gateway, 'loss', to_timestamp(from_ns / 1000000000.0), to_timestamp(to_ns / 1000000000.0), reason
FROM tidegate.loss WHERE fallen IS NULL;
GRANT SELECT ON tidegate.bi_value, tidegate.bi_newest, tidegate.bi_missing TO tidegate_reader;
COMMIT;
