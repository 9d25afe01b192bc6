// Verify records without Tidegate: `node verify.mjs TRUST.pem FILE...`, with Node 18 or later and nothing else.
// What it checks, and what not: docs/how-to/verify-without-tidegate.md.
// Exit code 0: wholly authentic. 1: not, as printed.
import { createHash, createPublicKey, verify, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";

const NAMES = "DATA EPOCH KEY CHECKPOINT CATALOG EVENT LOSS GAP TIME CONFIG STOP".split(" ");
const MEMBERS = { EPOCH: 11, KEY: 2, CHECKPOINT: 6, LOSS: 8, STOP: 2 }; // These payloads decide about other records.
const P256 = "3059301306072a8648ce3d020106082a8648ce3d03010703420004", ED25519 = "302a300506032b6570032100";
const HALF_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n / 2n;
const TLS_USAGES = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]; // Server and client authentication.

const SIGNED = Buffer.from("846a5369676e617475726531", "hex"); // An array of four, which begins with "Signature1".
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function need(...holds) { if (!holds.every(Boolean)) throw new Error("not as it has to be"); }
function attempt(what) { try { return what() ?? true; } catch { return false; } }
const hash = (data) => createHash("sha256").update(data).digest("hex");
const isBytes = (value, size = value?.length) => Buffer.isBuffer(value) && value.length === size;
const isCount = (value) => typeof value === "bigint" && value >= 0n;
const pairs = (list) => list.slice(1).map((each, place) => [list[place], each]);

/** One item of deterministic CBOR and the offset after it. Integers are BigInt, maps Map, tags { tag, value }. */
function read(data, at = 0, depth = 1) {
  const major = data[at] >> 5, short = data[at] & 31, size = short < 24 ? 0 : 1 << (short - 24);
  need(short < 28, at + 1 + size <= data.length, depth < 7 || major < 4 || major === 7);
  const head = data.subarray(at + 1, (at += 1 + size)).toString("hex"), number = BigInt(size ? "0x" + head : short);
  if (major === 7) return [size > 1 ? { float: head } : { 20: [false], 21: [true], 22: [null] }[short][0], at];
  need(number >= { 0: 0n, 1: 24n, 2: 1n << 8n, 4: 1n << 16n, 8: 1n << 32n }[size]);
  if (major < 2) return [major ? -1n - number : number, at];
  const next = () => { const [value, end] = read(data, at, depth + 1); at = end; return value; };
  if (major === 6) return [{ tag: number, value: next() }, at];
  const end = at + Number(number), text = data.subarray(at, end), items = [], keys = [];
  if (major < 4) need(end <= data.length);
  if (major < 4) return [major === 2 ? text : UTF8.decode(text), end];
  for (let left = number; left > 0n; left--) {
    const start = at, item = next();
    keys.push(data.subarray(start, at));
    items.push(major === 4 ? item : [item, next()]);
  }
  need(major === 4 || pairs(keys).every(([a, b]) => Buffer.compare(a, b) < 0));
  return [major === 4 ? items : new Map(items), at];
}
function decode(data) {
  const [value, end] = read(data);
  need(end === data.length);
  return value;
}

// A key is its DER form in hexadecimal digits.
const loaded = (key) => createPublicKey({ key: Buffer.from(key, "hex"), format: "der", type: "spki" });
const keyOf = (key) => key.export({ format: "der", type: "spki" }).toString("hex");
function keyFrom(cose) {
  const [kind, curve, x, y] = [1n, -1n, -2n, -3n].map((number) => cose.get(number));
  need(isBytes(x, 32), kind === 1n ? curve === 6n && cose.size === 3 : kind === 2n && curve === 1n && cose.size === 4);
  need(kind === 1n || isBytes(y, 32));
  return keyOf(loaded(kind === 1n ? ED25519 + x.toString("hex") : P256 + x.toString("hex") + y.toString("hex")));
}
function kidOf(key) {
  const ec = "a401022001215820" + key.slice(54, 118) + "225820" + key.slice(118);
  return hash(Buffer.from(key.startsWith(ED25519) ? "a301012006215820" + key.slice(24) : ec, "hex")).slice(0, 16);
}
function hasSigned(key, r) {
  if (key.startsWith(ED25519)) return r.alg === -19n && verify(null, r.signed, loaded(key), r.signature);
  const isLow = BigInt("0x" + r.signature.subarray(32).toString("hex")) <= HALF_ORDER;
  const how = { key: loaded(key), dsaEncoding: "ieee-p1363" };
  return r.alg !== -19n && isLow && verify("sha256", r.signed, how, r.signature);
}

function parse(data) {
  const { tag, value: frame } = decode(data), [bytes, bare, payload, signature] = frame, header = decode(bytes);
  const [alg, media, kid, claims, [number, epoch, seq, prev], enc] = header.values(), [issuer, name] = claims.values();
  const middle = data.indexOf(bytes) + bytes.length;
  need(tag === 18n, bare instanceof Map && bare.size === 0, data.length < 65536, [5, 6].includes(header.size),
    [...header.keys()].join() === "1,3,4,15,-70001,-70002".slice(0, header.size === 5 ? 15 : undefined),
    [-7n, -9n, -19n].includes(alg), media === "application/vnd.tidegate.record+cbor",
    [...claims.keys()].join() === "1,2",
    isBytes(payload), isBytes(signature, 64), isBytes(kid, 8), isBytes(epoch, 8), isBytes(prev, 32), isCount(number),
    isCount(seq), number < 1n << 32n, header.get(-70001n).length === 4, frame.length === 4,
    number < 11n ? NAMES[number] === name : !NAMES.includes(name) && /^[A-Z][A-Z0-9_]{0,39}$/.test(name),
    (seq === 0n) === (name === "EPOCH"), (seq === 0n) === prev.equals(Buffer.alloc(32)),
    enc === undefined || [1n, 2n].includes(enc) && ["DATA", "CATALOG"].includes(name),
    typeof issuer === "string", issuer, Buffer.byteLength(issuer) <= 200);
  const r = { verdict: "", isHeld: false, lost: [], issuer, name, seq, alg, payload, signature, hash: hash(data) };
  Object.assign(r, { kid: kid.toString("hex"), epoch: epoch.toString("hex"), prev: prev.toString("hex") });
  r.signed = Buffer.concat([SIGNED, data.subarray(2, middle), Buffer.from([0x40]), data.subarray(middle + 1, -66)]);
  r.chain = JSON.stringify([issuer, r.epoch]);
  r.isByIdentity = ["EPOCH", "CHECKPOINT"].includes(name);
  r.claims = [[r.chain, seq, r.hash], [r.chain, seq - 1n, r.prev]];
  return r;
}
/** The verdict by what it says of itself, and what it says of others. To be called once its signature is valid. */
function readPayload(r) {
  if (!(r.name in MEMBERS)) return "AUTHENTIC";
  const content = decode(r.payload), [first, second, third, fourth] = [1n, 2n, 3n, 4n].map((each) => content.get(each));
  for (let member = 1n; member <= MEMBERS[r.name]; member++) need(content.has(member));
  if (r.name === "LOSS") {
    const epoch = content.get(9n)?.toString("hex") ?? r.epoch, isBelow = epoch !== r.epoch || second < r.seq;
    need(isCount(first), isCount(second));
    r.lost = [[JSON.stringify([r.issuer, epoch]), first, isBelow ? second : r.seq - 1n]];
  }
  if (r.isByIdentity || r.name === "KEY") r.key = keyFrom(r.name === "CHECKPOINT" ? third : first);
  if (r.isByIdentity) need(isCount((r.counter = content.get(r.name === "EPOCH" ? 11n : 6n))));
  if (r.name === "EPOCH") {
    r.certificates = second;
    r.time = Number((content.get(10n).get(5n) + content.get(10n).get(6n)) / 1000000n);
    const [epoch, seq, head] = fourth ?? [];
    if (fourth) r.claims.push([JSON.stringify([r.issuer, epoch.toString("hex")]), seq, head.toString("hex")]);
  }
  return r.name === "CHECKPOINT" && (first !== r.seq || second.toString("hex") !== r.prev) ? "FORK" : "AUTHENTIC";
}

/** Pinned keys by key id and the gateway they are bound to, and the certificates of authorities. */
export function loadTrust(texts) {
  const pins = new Map(), roots = [];
  for (const text of texts) {
    const certificates = text.match(/-----BEGIN CERTIFICATE[^]*?-----END CERTIFICATE-----/g) ?? [];
    roots.push(...certificates.map((pem) => new X509Certificate(pem)));
    if (certificates.length) continue;
    const key = keyOf(createPublicKey(text.slice(text.indexOf("-----BEGIN"))));
    for (const [, gateway] of text.matchAll(/^\s*subject\s*:\s*(\S+)/gim)) pins.set(kidOf(key) + gateway, key);
  }
  return [pins, roots];
}
const isIssued = ([below, above]) => below.checkIssued(above) && below.verify(above.publicKey);
/** Whether the certificates in an EPOCH lead to a trusted authority, and are for its issuer and time. */
function vouches(r, roots) {
  const chain = r.certificates.map((each) => new X509Certificate(each));
  chain.push(roots.find((root) => isIssued([chain.at(-1), root])));
  need(chain[0].subjectAltName.split(", ").includes("URI:" + r.issuer), chain.slice(1).every((each) => each.ca));
  need(!chain[0].keyUsage?.every((usage) => TLS_USAGES.includes(usage)), pairs(chain).every(isIssued));
  need(chain.every((each) => Date.parse(each.validFrom) <= r.time && r.time <= Date.parse(each.validTo)));
}

/** First the identity, then forward with the keys in force, then back along the hashes. */
function judgeChain(records, pins, roots) {
  let identity, isFinal = false;
  const held = new Map(), keys = new Map(), named = new Set();
  const rank = (r) => (r.name === "EPOCH" ? 0 : r.isByIdentity ? 1 : 2);
  for (const r of records.sort((a, b) => rank(a) - rank(b) || Number(a.seq - b.seq))) {
    const pin = pins.get(r.kid + r.issuer), isEpoch = r.name === "EPOCH";
    const since = [...keys.keys()].filter((seq) => seq < r.seq).reduce((a, b) => (a > b ? a : b), -1n);
    const ended = [...keys].flatMap(([seq, each]) => (seq < since ? each.filter((key) => kidOf(key) === r.kid) : []));
    const others = [identity, pin, ...ended].filter(Boolean);
    const isJoined = (at) => held.has(at) && held.get(at).prev === held.get(at - 1n)?.hash;
    let allowed = keys.get(since) ?? [], isSettled = () => { // A record that is not held may have been a KEY.
      for (let at = since + 1n; at < r.seq; at++) if (!isJoined(at)) return false;
      return since >= 0n && isFinal;
    };
    if (r.isByIdentity) {
      const leaf = () => keyOf(new X509Certificate(decode(r.payload).get(2n)[0]).publicKey);
      allowed = [isFinal ? identity : isEpoch ? pin ?? attempt(leaf) : identity ?? pin].filter(Boolean);
      isSettled = () => isFinal || isEpoch;
    }
    if (allowed.some((key) => hasSigned(key, r))) {
      r.verdict = attempt(() => readPayload(r)) || "GARBAGE";
      const isPinned = !isEpoch || allowed[0] === pin;
      if (r.verdict === "AUTHENTIC" && !isPinned && !attempt(() => vouches(r, roots))) r.verdict = "UNTRUSTED";
    } else if (allowed.length && others.some((key) => hasSigned(key, r))) r.verdict = "UNTRUSTED";
    else if (allowed.some((key) => kidOf(key) === r.kid)) r.verdict = "ALTERED";
    else r.verdict = isSettled() ? "UNTRUSTED" : "UNVERIFIABLE";
    if (r.verdict !== "AUTHENTIC") continue;
    r.isHeld = true;
    if (!held.has(r.seq)) held.set(r.seq, r);
    if (r.isByIdentity) [identity, isFinal] = [allowed[0], isFinal || isEpoch];
    if (r.key) keys.set(r.seq, [...(keys.get(r.seq) ?? []), r.key]);
  }
  for (const r of records.sort((a, b) => Number(b.seq - a.seq))) {
    const isNamed = named.has(r.seq + r.hash);
    if (isNamed && r.verdict === "UNVERIFIABLE" && !held.has(r.seq)) [r.verdict, r.isHeld] = ["LINKED", true];
    if (r.isHeld && (isNamed || r.isByIdentity)) named.add(r.seq - 1n + r.prev);
  }
  return identity;
}

/** The verdicts on records, in their order, and what is true of the chains. */
export function judge(datas, [pins, roots]) {
  const [chains, named, ends, signed, seen] = [new Map(), new Map(), new Map(), new Map(), new Set()];
  const tail = {}, absent = [], gaps = [];
  const add = (map, key, value) => map.get(key)?.push(value) ?? map.set(key, [value]);
  const records = datas.map((data) => {
    const digest = hash(data), r = !seen.has(digest) && attempt(() => parse(data));
    if (r) add(chains, r.chain, r);
    const word = seen.has(digest) ? "DUPLICATE" : "GARBAGE";
    return seen.add(digest), r || { verdict: word, isHeld: false };
  });
  const identities = new Map([...chains].map(([chain, mine]) => [chain, judgeChain(mine, pins, roots)]));
  const accepted = records.filter((r) => r.isHeld).sort((a, b) => Number(a.seq - b.seq));
  for (const [chain, seq, digest] of accepted.flatMap((r) => r.claims)) {
    named.set(chain + seq, (named.get(chain + seq) ?? new Set()).add(digest));
    ends.set(chain, seq > (ends.get(chain) ?? -1n) ? seq : ends.get(chain));
  }
  for (const r of accepted) if (named.get(r.chain + r.seq).size > 1) r.verdict = "FORK";
  for (const [chain, end] of ends) {
    const held = accepted.filter((r) => r.chain === chain), last = held.at(-1)?.seq ?? -1n;
    const [, epoch] = JSON.parse(chain);
    const isKnown = (r) => r.isHeld || r.verdict === "UNVERIFIABLE";
    const known = new Set((chains.get(chain) ?? []).filter(isKnown).map((r) => r.seq));
    const losses = accepted.flatMap((r) => r.lost).filter(([of]) => of === chain);
    const cuts = [0n, last + 1n, end + 1n, ...losses.flatMap(([, a, b]) => [a, b + 1n])];
    for (const seq of known) cuts.push(seq, seq + 1n);
    if (held.length) tail[epoch] = held.at(-1).name === "STOP" ? "CLOSED" : "TAIL_UNKNOWN";
    for (const [a, b] of pairs([...new Set(cuts)].sort((x, y) => Number(x - y)))) {
      if (known.has(a) || a > end) continue;
      const isDeclared = losses.some(([, first, last]) => first <= a && a <= last);
      const word = isDeclared ? "DECLARED_LOST" : a < last ? "MISSING" : "TRUNCATED";
      absent.push([epoch, word, Number(a), Number(b - 1n)]);
      if (held.length && word === "TRUNCATED") tail[epoch] = word;
    }
    const counted = held.map((r, place) => ({ r, place: BigInt(place) })).filter(({ r }) => r.isByIdentity);
    if (counted.length) add(signed, counted[0].r.issuer + identities.get(chain), counted);
  }
  for (const parts of signed.values()) {
    const all = parts.sort((a, b) => Number(a[0].r.counter - b[0].r.counter)).flat();
    for (const [{ r: a, place: i }, { r: b, place: j }] of pairs(all)) { // Records that are absent explain more.
      const step = b.counter - a.counter, room = a.chain === b.chain ? b.seq - a.seq - (j - i) + 1n : 1n;
      if (step < 1n || step > room) gaps.push([b.epoch, Number(a.counter), Number(b.counter)]);
    }
  }
  const verdicts = records.map((r) => r.verdict), isGood = (word) => ["AUTHENTIC", "DUPLICATE"].includes(word);
  const wholly = accepted.length > 0 && verdicts.every(isGood) && absent.length + gaps.length === 0;
  return { verdicts, absent, gaps, tail, wholly };
}

/** A file is one record after the other; what lies between them is garbage. */
function split(data) {
  const found = [], isStart = (at) => data[at] === 0xd2 && data[at + 1] === 0x84;
  for (let at = 0, end; at < data.length; at = end) {
    end = (isStart(at) && attempt(() => read(data, at)[1])) || data.indexOf("d284", at + 1, "hex");
    found.push(data.subarray(at, (end = end < 0 ? data.length : end)));
  }
  return found;
}

if (process.argv[1]?.endsWith("verify.mjs")) {
  const [trust, ...contents] = process.argv.slice(2).map((name) => readFileSync(name));
  const found = judge(contents.flatMap(split), loadTrust([trust.toString()])), counts = {};
  for (const word of found.verdicts) counts[word] = (counts[word] ?? 0) + 1;
  console.log(JSON.stringify({ ...found, verdicts: counts }, null, 1));
  process.exitCode = found.wholly ? 0 : 1;
}
