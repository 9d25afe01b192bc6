"""Verify records without Tidegate: `verify.py TRUST.pem FILE...` with the packages cryptography and cbor2.

What it checks, and what not: docs/how-to/verify-without-tidegate.md. Exit code 0: wholly authentic. 1: not, as printed.
"""
import hashlib, json, re, sys
from collections import Counter, defaultdict
from itertools import pairwise
from types import SimpleNamespace

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

NAMES = "DATA EPOCH KEY CHECKPOINT CATALOG EVENT LOSS GAP TIME CONFIG STOP".split()
MEMBERS = {"EPOCH": 11, "KEY": 2, "CHECKPOINT": 6, "LOSS": 8, "STOP": 2}  # These payloads decide about other records.
P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")  # How a public key in DER begins.
ED25519 = bytes.fromhex("302a300506032b6570032100")
HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2

def need(*holds):
    if not all(holds): raise ValueError
def attempt(function, *given):
    """The result, True where there is none, or False where anything at all is not as it has to be."""
    try: return function(*given) or True
    except Exception: return False
def encode(value): return cbor2.dumps(value, canonical=True)
def decode(data):
    need(encode(cbor2.loads(data)) == data)  # It is in deterministic encoding, and nothing follows it.
    return cbor2.loads(data)

# A key is the encoding of its COSE_Key.
def kid_of(key): return hashlib.sha256(key).digest()[:8]
def loaded(key):
    return serialization.load_der_public_key(ED25519 + key[8:] if len(key) == 40 else P256 + key[8:40] + key[43:])
def key_of(public):
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encode({1: 1, -1: 6, -2: der[12:]} if ED25519 in der else {1: 2, -1: 1, -2: der[27:59], -3: der[59:]})
def has_signed(key, r):
    if len(key) == 40: return r.alg == -19 and attempt(loaded(key).verify, r.signature, r.signed)
    first, second = (int.from_bytes(half, "big") for half in (r.signature[:32], r.signature[32:]))
    how = utils.encode_dss_signature(first, second), r.signed, ec.ECDSA(hashes.SHA256())
    return r.alg != -19 and second <= HALF_ORDER and attempt(loaded(key).verify, *how)

def parse(data):
    frame = decode(data)
    protected, bare, payload, signature = frame.value
    header = decode(protected)
    alg, media, kid, claims, (number, epoch, seq, prev), *enc = header.values()
    issuer, name = claims.values()
    need(frame.tag == 18, bare == {}, len(data) <= 65_535, [*header] == [1, 3, 4, 15, -70001, -70002][:5 + len(enc)],
         [type(each) for each in (payload, signature, kid, epoch, prev, number, seq)] == [bytes] * 5 + [int] * 2,
         [len(each) for each in (signature, kid, epoch, prev)] == [64, 8, 8, 32], 0 <= number < 2**32, 0 <= seq < 2**64,
         media == "application/vnd.tidegate.record+cbor", alg in (-7, -9, -19), 0 < len(issuer.encode()) <= 200,
         NAMES[number] == name if number < 11 else name not in NAMES and re.fullmatch("[A-Z][A-Z0-9_]{0,39}", name),
         [*claims] == [1, 2], (seq == 0) == (name == "EPOCH") == (prev == bytes(32)),
         not enc or enc[0] in (1, 2) and name in ("DATA", "CATALOG"))
    chain, digest = (issuer, epoch), hashlib.sha256(data).digest()
    return SimpleNamespace(
        verdict="", is_held=False, chain=chain, name=name, seq=seq, prev=prev, kid=kid, hash=digest, alg=alg, lost=[],
        signed=encode(["Signature1", protected, b"", payload]), signature=signature, payload=payload, key=None,
        is_by_identity=name in ("EPOCH", "CHECKPOINT"), claims=[(chain, seq, digest), (chain, seq - 1, prev)])

def read_payload(r):
    """The verdict by what it says of itself, and what it says of others. To be called once its signature is valid."""
    if r.name not in MEMBERS: return "AUTHENTIC"
    content, ((gateway, epoch), seq) = decode(r.payload), (r.chain, r.seq)
    match r.name, [content[number] for number in range(1, 1 + MEMBERS[r.name])]:
        case "EPOCH", [key, list(), int(), before, str(), bytes(), bytes(), bytes(), dict(), {5: b, 6: offset}, int()]:
            r.key, r.certificates, r.counter, r.time = key, content[2], content[11], (b + offset) // 1000 / 10**6
            if before: r.claims.append(((gateway, bytes(before[0])), before[1] + 0, bytes(before[2])))
        case "CHECKPOINT", [int(), bytes(), key, dict(), dict(), int()]: r.key, r.counter = key, content[6]
        case "LOSS", [int(first), int(last), *_]:
            r.lost = [((gateway, of := content.get(9, epoch)), first, min(last, seq - 1) if of == epoch else last)]
        case "KEY", [key, dict()]: r.key = key
    need(r.key is None or key_of(loaded(encode(r.key))) == encode(r.key), r.key or r.name in ("LOSS", "STOP"))
    return "FORK" if r.name == "CHECKPOINT" and (content[1], content[2]) != (seq, r.prev) else "AUTHENTIC"

def load_trust(texts):
    """Pinned keys by key id and the gateway they are bound to, and the certificates of authorities."""
    pins, roots = {}, []
    for text in texts:
        if "BEGIN CERTIFICATE" in text: roots += x509.load_pem_x509_certificates(text.encode()); continue
        key = key_of(serialization.load_pem_public_key(text.encode()))
        for gateway in re.findall(r"(?im)^\s*subject\s*:\s*(\S+)", text): pins[kid_of(key), gateway] = key
    return pins, roots
def leaf(r): return key_of(x509.load_der_x509_certificate(decode(r.payload)[2][0]).public_key())
def vouches(r, roots):
    """Whether the certificates in an EPOCH lead to a trusted authority, and are for its issuer and time."""
    chain = [x509.load_der_x509_certificate(each) for each in r.certificates]
    chain.append(next(root for root in roots if attempt(chain[-1].verify_directly_issued_by, root)))
    more = [{each.oid: each.value for each in certificate.extensions} for certificate in chain]
    names = more[0][x509.OID_SUBJECT_ALTERNATIVE_NAME].get_values_for_type(x509.UniformResourceIdentifier)
    need(r.chain[0] in names, {*more[0].get(x509.OID_EXTENDED_KEY_USAGE, [0])} - {Usage.CLIENT_AUTH, Usage.SERVER_AUTH})
    need(*(attempt(below.verify_directly_issued_by, above) for below, above in pairwise(chain)))
    need(*(each[x509.OID_BASIC_CONSTRAINTS].ca for each in more[1:]))
    need(*(x.not_valid_before_utc.timestamp() <= r.time <= x.not_valid_after_utc.timestamp() for x in chain))

def judge_chain(records, pins, roots):
    """First the identity, then forward with the keys in force, then back along the hashes."""
    identity, is_final, held, keys, named = None, False, {}, {}, set()
    for r in sorted(records, key=lambda r: (r.name != "EPOCH", not r.is_by_identity, r.seq)):
        pin, since = pins.get((r.kid, r.chain[0])), max((seq for seq in keys if seq < r.seq), default=None)
        ended = [key for seq in keys if seq < (since or 0) for key in keys[seq] if kid_of(key) == r.kid]
        allowed, is_settled = keys.get(since, []), lambda: since is not None and is_final and all(
            p in held and held[p].prev == held[p - 1].hash for p in range(since + 1, r.seq))  # Any other may be a KEY.
        if r.is_by_identity:
            key = identity if is_final else pin or attempt(leaf, r) if r.name == "EPOCH" else identity or pin
            allowed, is_settled = [key] if key else [], lambda: is_final or r.name == "EPOCH"
        if any(has_signed(key, r) for key in allowed):
            r.verdict, is_pinned = attempt(read_payload, r) or "GARBAGE", allowed[0] == pin or r.name != "EPOCH"
            if r.verdict == "AUTHENTIC" and not is_pinned and not attempt(vouches, r, roots): r.verdict = "UNTRUSTED"
        elif allowed and any(key and has_signed(key, r) for key in [identity, pin, *ended]): r.verdict = "UNTRUSTED"
        elif r.kid in map(kid_of, allowed): r.verdict = "ALTERED"
        else: r.verdict = "UNTRUSTED" if is_settled() else "UNVERIFIABLE"
        if r.verdict != "AUTHENTIC": continue
        r.is_held, _ = True, held.setdefault(r.seq, r)
        if r.is_by_identity: identity, is_final = allowed[0], is_final or r.name == "EPOCH"
        if r.key: keys.setdefault(r.seq, []).append(encode(r.key))
    for r in sorted(records, key=lambda r: -r.seq):
        is_named = (r.seq, r.hash) in named
        if is_named and r.verdict == "UNVERIFIABLE" and r.seq not in held: r.verdict, r.is_held = "LINKED", True
        if r.is_held and (is_named or r.is_by_identity): named.add((r.seq - 1, r.prev))
    return identity

def judge(datas, pins, roots):
    """The verdicts on records, in their order, and what is true of the chains."""
    chains, named, ends, signed = (defaultdict(kind) for kind in (list, set, int, list))
    records, seen, absent, tail, gaps = [], set(), [], {}, []
    for data in datas:
        word = "DUPLICATE" if data in seen else "GARBAGE"
        r = data not in seen and attempt(parse, data) or SimpleNamespace(verdict=word, is_held=False)
        records.append(r), seen.add(data), r.verdict or chains[r.chain].append(r)
    identities = {chain: judge_chain(chains[chain], pins, roots) for chain in chains}
    accepted = sorted((r for r in records if r.is_held), key=lambda r: r.seq)
    for chain, seq, digest in [claim for r in accepted for claim in r.claims]:
        named[chain, seq].add(digest)
        ends[chain] = max(ends[chain], seq)
    for r in accepted: r.verdict = "FORK" if len(named[r.chain, r.seq]) > 1 else r.verdict
    for chain, end in ends.items():
        held = [r for r in accepted if r.chain == chain]
        known = {r.seq for r in chains[chain] if r.is_held or r.verdict == "UNVERIFIABLE"}
        losses = [loss[1:] for r in accepted for loss in r.lost if loss[0] == chain]
        last, epoch = held[-1].seq if held else -1, chain[1].hex()
        cuts = {0, last + 1, end + 1, *known, *(seq + 1 for seq in known), *(x for a, b in losses for x in (a, b + 1))}
        if held: tail[epoch] = "CLOSED" if held[-1].name == "STOP" else "TAIL_UNKNOWN"
        for a, b in [(a, b) for a, b in pairwise(sorted(cuts)) if a not in known and a <= end]:
            word = "DECLARED_LOST" if any(x <= a <= y for x, y in losses) else "MISSING" if a < last else "TRUNCATED"
            absent.append([epoch, word, a, b - 1])
            if held and word == "TRUNCATED": tail[epoch] = word
        signed[chain[0], identities.get(chain)].append([(r, place) for place, r in enumerate(held) if r.is_by_identity])
    for parts in signed.values():
        for (a, i), (b, j) in pairwise(sum(sorted(parts, key=lambda part: part[0][0].counter if part else 0), [])):
            room = b.seq - a.seq - (j - i) + 1 if a.chain == b.chain else 1  # Records that are absent explain more.
            if not 1 <= b.counter - a.counter <= room: gaps.append([b.chain[1].hex(), a.counter, b.counter])
    wholly = bool(accepted) and {r.verdict for r in records} <= {"AUTHENTIC", "DUPLICATE"} and not absent + gaps
    return {"verdicts": [r.verdict for r in records], "absent": absent, "gaps": gaps, "tail": tail, "wholly": wholly}

def split(data):
    """A file is one record after the other; what lies between them is garbage."""
    at = 0
    while at < len(data):
        size = data[at:at + 2] == b"\xd2\x84" and attempt(lambda: len(encode(cbor2.loads(data[at:at + 65_535]))))
        end = at + size if size else data.find(b"\xd2\x84", at + 1) % (len(data) + 1)
        yield data[at:end]
        at = end

if __name__ == "__main__":
    trust, *contents = [open(name, "rb").read() for name in sys.argv[1:]]
    found = judge((record for data in contents for record in split(data)), *load_trust([trust.decode()]))
    print(json.dumps({**found, "verdicts": Counter(found["verdicts"])}, indent=1))
    sys.exit(not found["wholly"])
