// Reads values of an OPC UA server with node-opcua, for node_opcua.py; one line of JSON for each line of JSON.
//
// usage: node node_opcua.cjs URL TIMEOUT_MS; a line {user, password} opens the session and is answered by the version
// and the server's namespaces, a line {node} or {path} by value, type, status and source time.
"use strict";
console.log = console.warn = console.error; // The library talks; only answers go to the standard output.
const readline = require("node:readline");
const opcua = require("node-opcua");
const { version } = require("node-opcua/package.json");

const [, , url, timeout] = process.argv;
const client = opcua.OPCUAClient.create({
  endpointMustExist: false, connectionStrategy: { maxRetry: 0 }, requestedSessionTimeout: 60000,
  transportTimeout: Number(timeout), keepSessionAlive: true,
});
let session;

function plain(value) {
  if (ArrayBuffer.isView(value)) return [...value].map(plain);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof opcua.LocalizedText) return value.text;
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

// A 64-bit integer is a pair of 32-bit halves; JSON has it as a text.
function wide(dataType, pair) {
  const bits = (BigInt(pair[0]) << 32n) | BigInt(pair[1]);
  return String(dataType === "Int64" ? BigInt.asIntN(64, bits) : bits);
}

function valueOf(variant, dataType) {
  if (dataType !== "Int64" && dataType !== "UInt64") return plain(variant.value);
  return variant.arrayType === opcua.VariantArrayType.Scalar
    ? wide(dataType, variant.value) : variant.value.map((pair) => wide(dataType, pair));
}

async function open({ user, password }) {
  await client.connect(url);
  session = await client.createSession(
    user ? { type: opcua.UserTokenType.UserName, userName: user, password } : { type: opcua.UserTokenType.Anonymous });
  return { version, namespaces: await session.readNamespaceArray() };
}

async function find(path) {
  const steps = path.map((step) => `/${step}`).join("");
  const found = await session.translateBrowsePath(opcua.makeBrowsePath("RootFolder", steps));
  return found.statusCode.isGood() ? found.targets[0].targetId : null;
}

async function read({ node, path }) {
  const nodeId = path ? await find(path) : node;
  if (!nodeId) return { value: null, type: "", status: 0x80340000, source: null };
  const data = await session.read({ nodeId, attributeId: opcua.AttributeIds.Value });
  const type = data.value ? opcua.DataType[data.value.dataType] : "";
  return {
    value: data.value ? valueOf(data.value, type) : null, type, status: data.statusCode.value,
    source: data.sourceTimestamp ? data.sourceTimestamp.getTime() : null,
  };
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    let answer;
    try {
      answer = await (asked.node || asked.path ? read(asked) : open(asked));
    } catch (error) {
      answer = { error: String(error.message || error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  if (session) await session.close();
  await client.disconnect();
  process.exit(0);
})();
