// A program of a plant's IT that knows the page of contracts and nothing of Tidegate: it reads the history of a tag by SQL, and its
// newest value by MQTT, and prints both as JSON. SQL goes through psql; the clients are PostgreSQL's and Debian's own.
// NODE_PATH=/usr/share/nodejs node consumer.mjs HOST PORT ACCOUNT DATABASE GATEWAY DEVICE BROKER_PORT TOPIC...
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";

const mqtt = createRequire(import.meta.url)("mqtt");
const [host, port, account, database, gateway, device, brokerPort, ...topics] = process.argv.slice(2);

function query(sql) {
    const rows = execFileSync("psql", ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--host", host, "--port", port,
        "--username", account, "--dbname", database, "--set", `gateway=${gateway}`, "--set", `device=${device}`],
        { input: `SELECT coalesce(json_agg(q), '[]') FROM (${sql}) q;`, encoding: "utf-8" });
    return JSON.parse(rows);
}

const of = "gateway = :'gateway' AND device = :'device'";
const [{ version }] = query("SELECT max(version) AS version FROM tidegate.version");
if (version !== 3) throw new Error(`written for version 3 of the contract, and this is ${version}`);

// 64 bits are more than a number of JavaScript holds: such columns travel as text.
const history = query(`SELECT tag, t, t_ns::text, value, exact::text, text, unit, quality, status, uncertainty_ns, source_ns::text,
    encode(epoch, 'hex') || '/' || seq || '/' || block || '/' || "row" AS src
    FROM tidegate.reading WHERE ${of} AND t > now() - interval '1 hour' ORDER BY tag, t_ns, "row"`);
const newest = query(`SELECT tag, t_ns::text, value, exact::text, text, unit, quality FROM tidegate.newest WHERE ${of} ORDER BY tag`);
const gaps = query(`SELECT from_ns::text, to_ns::text, detail FROM tidegate.gap WHERE gateway = :'gateway' AND fallen IS NULL`);

const shown = {};
const client = mqtt.connect(`mqtt://127.0.0.1:${brokerPort}`, { protocolVersion: 5, clientId: "mes" });
client.on("connect", () => client.subscribe(topics));
client.on("error", (error) => { throw error; });
client.on("message", (topic, payload, packet) => {
    shown[topic] = { ...JSON.parse(payload), retained: packet.retain };
    if (topics.every((each) => each in shown)) client.end();
});
client.on("close", () => console.log(JSON.stringify({ history, newest, gaps, shown })));
