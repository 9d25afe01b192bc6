// An OPC UA server on node-opcua with the plant of plant.py; prints its port, then does what it is told line by line.
//
// usage: node server.cjs FOLDER [--port PORT] [--max-items N] [--max-monitored N] [--max-per-subscription N]
// [--max-subscriptions N] [--secured-only]: FOLDER keeps the certificates, so that a restart has the same ones.
"use strict";
console.log = console.warn = console.error; // The library talks; only answers go to the standard output.
const answer = (text) => process.stdout.write(`${text}\n`);
const opcua = require("node-opcua");
const fs = require("node:fs");
const net = require("node:net");
const path = require("node:path");
const readline = require("node:readline");

const { DataType, SecurityPolicy, MessageSecurityMode, StatusCodes, Variant, VariantArrayType } = opcua;
const SCALARS = {
  Flag: ["Boolean", true], Int8: ["SByte", -8], UInt8: ["Byte", 8], Int16: ["Int16", -16], UInt16: ["UInt16", 16],
  Int32: ["Int32", -32], UInt32: ["UInt32", 32], Int64: ["Int64", [0xffffffff, 0xffffffc0]], UInt64: ["UInt64", [0, 64]],
  Float32: ["Float", 0.25], Float64: ["Double", 0.125], Text: ["String", "µ-Ω é"],
  When: ["DateTime", new Date("2026-01-02T03:04:05.678Z")],
  Phrase: ["LocalizedText", new opcua.LocalizedText({ locale: "en", text: "running" })],
};

function option(name, otherwise) {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
}

async function freePort() {
  const probe = net.createServer();
  await new Promise((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

async function certificates(folder) {
  const manager = new opcua.OPCUACertificateManager({ rootFolder: folder, automaticallyAcceptUnknownCertificate: true });
  await manager.initialize();
  return manager;
}

function addPlant(server) {
  const space = server.engine.addressSpace;
  const plant = space.getNamespace("urn:tidegate:plant");
  const folder = plant.addFolder(space.rootFolder.objects, { browseName: "Plant", nodeId: "s=Plant" });
  const common = (name) => ({ componentOf: folder, browseName: name, nodeId: `s=${name}` });
  const nodes = {};
  const addVariable = (name, dataType, value, more = {}) => {
    nodes[name] = plant.addVariable({ ...common(name), dataType, minimumSamplingInterval: 0, ...more });
    nodes[name].setValueFromSource(new Variant({ dataType, arrayType: VariantArrayType.Scalar, ...value }));
  };

  for (const [name, [dataType, value]] of Object.entries(SCALARS)) addVariable(name, dataType, { value });
  addVariable("Floats", "Float", { value: new Float32Array([1.5, 2.5, 3.5]), arrayType: VariantArrayType.Array },
    { valueRank: 1, arrayDimensions: [3] });
  addVariable("Broken", "Double", { value: 1.5 });
  nodes.Broken.setValueFromSource({ dataType: "Double", value: 1.5 }, StatusCodes.BadSensorFailure, new Date(Date.now() - 3600e3));
  nodes.Temperature = plant.addAnalogDataItem({
    ...common("Temperature"), dataType: "Double", engineeringUnitsRange: { low: -20, high: 120 },
    engineeringUnits: opcua.standardUnits.degree_celsius, description: "of the broth", value: { dataType: "Double", value: 37 },
  });
  const setpoint = plant.findDataType("SetpointType");
  nodes.Mode = plant.addVariable({ ...common("Mode"), dataType: plant.findDataType("Modes") });
  nodes.Mode.setValueFromSource({ dataType: "Int32", value: 2 });
  nodes.Setpoint = plant.addVariable({ ...common("Setpoint"), dataType: setpoint.nodeId });
  nodes.Setpoint.setValueFromSource({ dataType: "ExtensionObject", value: space.constructExtensionObject(setpoint, { target: 36.5, ramp: 7 }) });
  for (let n = 0; n < 100; n++) addVariable(`Point${n}`, "Double", { value: n });
  const reset = plant.addMethod(folder, { browseName: "Reset", nodeId: "s=Reset", inputArguments: [], outputArguments: [] });
  reset.bindMethod((_inputs, _context, callback) => callback(null, { statusCode: StatusCodes.BadNotWritable }));
  return nodes;
}

async function told(nodes, command, name, ...rest) {
  const node = nodes[name];
  if (command === "value") {
    const { dataType } = node.readValue().value;
    node.setValueFromSource({ dataType, value: JSON.parse(rest.join(" ")) });
  } else if (command === "ramp") {
    for (let n = 1; n <= Number(rest[0]); n++) {
      node.setValueFromSource({ dataType: "Double", value: n });
      await new Promise((resolve) => setTimeout(resolve, Number(rest[1])));
    }
  } else if (command === "status") {
    node.setValueFromSource(node.readValue().value, opcua.coerceStatusCode(rest[0]));
  } else throw new Error(`no such command: ${command}`);
}

(async () => {
  const folder = process.argv[2];
  fs.mkdirSync(folder, { recursive: true });
  const unsecured = process.argv.includes("--secured-only") ? { policies: [], modes: [] }
    : { policies: [SecurityPolicy.None], modes: [MessageSecurityMode.None] };
  const server = new opcua.OPCUAServer({
    port: option("--port") ?? await freePort(), hostname: "127.0.0.1", resourcePath: "/plant",
    nodeset_filename: [opcua.nodesets.standard, path.join(__dirname, "plant.xml")],
    serverCertificateManager: await certificates(path.join(folder, "server")),
    userCertificateManager: await certificates(path.join(folder, "users")),
    allowAnonymous: true, userManager: { isValidUser: (user, password) => user === "reader" && password === "a secret" },
    securityPolicies: [...unsecured.policies, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes256_Sha256_RsaPss],
    securityModes: [...unsecured.modes, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    disableDiscovery: process.argv.includes("--secured-only"),
    serverInfo: { applicationUri: "urn:tidegate:node-opcua", applicationName: { text: "plant" } },
    buildInfo: { manufacturerName: "Acme", productName: "plant", softwareVersion: "2.1", buildNumber: "7", buildDate: new Date(0) },
    serverCapabilities: {
      operationLimits: { maxMonitoredItemsPerCall: option("--max-items", 1000), maxNodesPerRead: 1000 }, minSupportedSampleRate: 0,
      maxMonitoredItems: option("--max-monitored"), maxMonitoredItemsPerSubscription: option("--max-per-subscription"),
      maxSubscriptionsPerSession: option("--max-subscriptions"),
    },
  });
  await server.initialize();
  const nodes = addPlant(server);
  await server.start();
  answer(server.endpoints[0].port);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await told(nodes, ...line.split(" "));
    answer("done");
  }
  await server.shutdown(0);
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
