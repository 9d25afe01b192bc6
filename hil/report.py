"""The report of one run: a JSON document, which can be signed, and a page with the same content."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge.errors import ConfigError
from edge.seal import IdentityKey, PublicKey
from edge.units import format_duration
from hil.evidence import Evidence, Finding
from hil.rig import Rig
from hil.scenario import Claim, Scenario

_ROOT = Path(__file__).parents[1]
_CODE = ("edge", "drivers", "hil")
_LIBRARIES = ("cbor2", "cryptography", "numpy", "zstandard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A completed run of a scenario on a rig; times are UTC."""

    scenario_name: str
    scenario: Scenario
    rig: Rig
    seconds: float
    started_ns: int
    ended_ns: int
    broker: str
    signer: str = ""


def document(run: Run, evidence: Evidence, judged: Sequence[tuple[Claim, Finding]]) -> dict[str, Any]:
    """The JSON document of a report."""
    head = evidence.head
    wired = asdict(run.rig.wired)
    return {
        "report": "tidegate hil 1",
        "scenario": run.scenario_name,
        "purpose": run.scenario.purpose,
        "verdict": "PASSED" if all(finding.holds for _, finding in judged) else "FAILED",
        "started": _time(run.started_ns),
        "took": format_duration(run.ended_ns - run.started_ns),
        "seconds": run.seconds,
        "rig": {**wired["rig"], "digest": run.rig.digest, "broker": wired["broker"], "devices": wired["devices"]},
        "versions": {**_versions(), "broker": run.broker},
        "steps": [step.text for step in run.scenario.steps],
        "claims": [{"claim": claim.text, "holds": holds, "found": found} for claim, (holds, found) in judged],
        "figures": evidence.witness.figures,
        "archive": {
            "epoch": head.epoch.hex() if head else "",
            "seq": head.seq if head else -1,
            "head": head.hash.hex() if head else "",
            "identity": evidence.identity,
            "witness": hashlib.sha256(evidence.witness.to_json()).hexdigest(),
        },
        "signer": run.signer,
    }


def text(report: dict[str, Any]) -> str:
    """The document as a page of Markdown."""
    rig, archive = report["rig"], report["archive"]
    lines = [
        f"# {report['scenario']} on rig {rig['name']}: {report['verdict']}",
        "",
        report["purpose"],
        "",
        f"Played {report['started']}, took {report['took']}; the disturbance lasted {report['seconds']:g} s.",
        "",
        "## Claims",
        "",
        "| | claim | found |",
        "| --- | --- | --- |",
        *(f"| {'holds' if each['holds'] else '**FAILS**'} | {each['claim']} | {_cell(each['found'])} |"
          for each in report["claims"]),
        "",
        "## Steps",
        "",
        *(f"{number}. {step}" for number, step in enumerate(report["steps"], 1)),
        "",
        "## Figures",
        "",
        *(f"- {name}: {value:g}" for name, value in report["figures"].items()),
        "",
        "## Rig",
        "",
        f"{rig['name']}, {rig['place']}; SHA-256 of the rig file {rig['digest']}",
        "",
        "| | device | firmware | connection | simulated by |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {each['settings']['name']} | {each['device']} | {each['firmware']} | {each['connection']} | "
          f"{each['simulated_by']} |" for each in rig["devices"]),
        "| broker | {device} | {firmware} | {connection} | |".format(**rig["broker"]),
        "",
        "## Versions",
        "",
        *(f"- {name}: {value}" for name, value in report["versions"].items()),
        "",
        "## Archive",
        "",
        f"- chain {archive['epoch']}, last record {archive['seq']}",
        f"- SHA-256 of the last record: {archive['head']}",
        f"- identity of the gateway: {archive['identity']}",
        f"- SHA-256 of witness.json: {archive['witness']}",
        f"- this report is signed by: {report['signer'] or 'nobody'}",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def broker_version(name: str) -> str:
    """The version that the broker reports."""
    executable = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if executable is None:
        return f"{name} of tidegate {version('tidegate')}"
    output = subprocess.run([executable, "-h"], check=False, capture_output=True, text=True).stdout
    return output.partition("\n")[0] or name


def _versions() -> dict[str, str]:
    return {
        "tidegate": version("tidegate"),
        "code": f"SHA-256 {_code_digest()} over the sorted `sha256sum` lines of all .py files in {', '.join(_CODE)}",
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _code_digest() -> str:
    """The output of `sha256sum $(find edge drivers hil -name '*.py' | LC_ALL=C sort) | sha256sum` in the clone."""
    names = sorted(str(path.relative_to(_ROOT)) for folder in _CODE for path in (_ROOT / folder).rglob("*.py"))
    lines = [f"{hashlib.sha256((_ROOT / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _cell(words: str) -> str:
    return words.replace("|", "/").replace("\n", "<br>")


def _time(utc_ns: int) -> str:
    return f"{datetime.fromtimestamp(utc_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}"


def sign(key: IdentityKey, document: bytes) -> bytes:
    """ECDSA over the SHA-256 of the document, in DER (RFC 3279, section 2.2.3)."""
    raw = key.sign(document)
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


def signer(anchor: Path, document: bytes, signature: bytes) -> str:
    """Fingerprint of a PEM key if it signed the document, else empty. Raises ConfigError without a P-256 key."""
    try:
        key = load_pem_public_key(anchor.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"trust anchor {anchor} is no public key in PEM form; give the .pub.pem of the key"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"trust anchor {anchor} is no P-256 key, and reports are signed with one")
    try:
        key.verify(signature, document, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return ""
    return PublicKey.of(key).fingerprint
