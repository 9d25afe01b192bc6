"""`tidegate keys show`: what a person compares, and never anything private."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.cli import cli
from edge.seal import IdentityKey, MemoryCounter, issuer_of, load_or_create_identity
from edge.seal.keys import PublicKey
from edge.verify import Verifier
from tests.support.certificates import GATEWAY, MIDDLE, PEM, ROOT, certificate, certified, revocation_list
from tests.support.chains import grow, start

_NOW = datetime.now(UTC)
_DAY = timedelta(days=1)
_PRIVATE = GATEWAY.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
_FINGERPRINT = PublicKey.of(GATEWAY.public_key()).fingerprint


def _show(*arguments: object, code: int = 0) -> Result:
    ran = CliRunner().invoke(cli, ["keys", "show", *map(str, arguments)])
    assert ran.exit_code == code, ran.output
    return ran


def _keys(path: Path) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = orjson.loads(_show(path, "--json").stdout)["keys"]
    return keys


def _ca(name: str = "Plant CA", key: ec.EllipticCurvePrivateKey = ROOT, until: datetime = _NOW + 90 * _DAY) -> bytes:
    made = certificate(name, key, name, key, is_authority=True, since=_NOW - _DAY, until=until)
    return made.public_bytes(PEM)


def test_a_directory_of_trust_is_shown_with_kind_name_fingerprint_and_end(tmp_path: Path) -> None:
    """What QA compares before a file is trusted."""
    own = certificate("line-4", GATEWAY, "Plant CA", ROOT, uri=issuer_of("line-4"), since=_NOW - _DAY,
                      until=_NOW + 30 * _DAY)  # fmt: skip
    tls = certificate("line-4 tls", MIDDLE, "Plant CA", ROOT, usages=[ExtendedKeyUsageOID.CLIENT_AUTH],
                      since=_NOW - 9 * _DAY, until=_NOW - _DAY)  # fmt: skip
    identity = IdentityKey.load(_PRIVATE, MemoryCounter())
    (tmp_path / "a.pem").write_bytes(b"notes\n" + identity.public_pem(issuer_of("line-4")) + _ca())
    (tmp_path / "b.crt").write_bytes(own.public_bytes(PEM) + tls.public_bytes(PEM))
    (tmp_path / "c.crl").write_bytes(revocation_list("Plant CA", ROOT, own, _NOW).public_bytes(PEM))
    (tmp_path / "d.cer").write_bytes(own.public_bytes(serialization.Encoding.DER))

    key, ca, leaf, for_tls, revoked, der = _keys(tmp_path)
    told = _show(tmp_path).stdout

    assert (key["kind"], key["name"], key["fingerprint"]) == ("identity", "line-4", _FINGERPRINT)
    assert (ca["kind"], ca["name"], ca["gateway"]) == ("CA", "Plant CA", "")
    assert (leaf["kind"], leaf["gateway"], leaf["fingerprint"]) == ("identity", "line-4", _FINGERPRINT)
    assert leaf["to_ns"] == int((_NOW + 30 * _DAY).timestamp()) * 10**9
    assert (for_tls["kind"], revoked["kind"], revoked["name"]) == ("TLS certificate", "revocation list", "Plant CA")
    assert {**der, "where": ""} == {**leaf, "where": ""}
    assert "1 certificate revoked" in told
    assert "EXPIRED" in told
    assert "29 days left" in told
    assert "issued by Plant CA" in told


def test_of_a_private_key_the_public_half_is_shown_and_nothing_else(tmp_path: Path) -> None:
    """A person may point it at the wrong file; a password file is no key either."""
    path = tmp_path / "identity.pem"
    path.write_bytes(_PRIVATE)
    (tmp_path / "encrypted.pem").write_bytes(
        GATEWAY.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    )
    (tmp_path / "password").write_text("hunter2")

    told = _show(tmp_path).stdout

    assert _FINGERPRINT in told
    assert "encrypted; not looked at" in told
    assert not any(line.decode() in told for line in _PRIVATE.splitlines())
    assert "hunter2" not in _show(tmp_path / "password", code=1).output


def test_the_keys_of_a_configuration_are_shown_with_the_settings_that_name_them(tmp_path: Path) -> None:
    """Of a relay whom it trusts; of a gateway who it is, and its certificates for TLS. Passwords are no keys."""
    load_or_create_identity(tmp_path / "identity.pem", issuer=issuer_of("line-4"), counter=MemoryCounter())
    (tmp_path / "ca.pem").write_bytes(_ca())
    (tmp_path / "mqtt.key").write_bytes(_PRIVATE)
    (tmp_path / "password").write_text("hunter2")
    mqtt = {"host": "127.0.0.1", "username": "u", "password": "file:password",
            "tls": {"ca": "ca.pem", "certificate": "ca.pem", "key": "file:mqtt.key"}}  # fmt: skip
    relay, gateway = tmp_path / "relay.yaml", tmp_path / "gateway.yaml"
    relay.write_bytes(orjson.dumps({"relay": {
        "name": "it", "archive": "archive", "trust": ["identity.pub.pem", "line-5=ca.pem"], "mqtt": mqtt,
    }}))  # fmt: skip
    gateway.write_bytes(orjson.dumps({
        "gateway": {"name": "line-4", "path": "a/b", "state": "."}, "uplink": {"mqtt": mqtt}, "devices": [
            {"name": "m", "driver": "simulator", "scan_groups": [{"every": "1 s", "tags": [
                {"name": "t", "signal": "counter", "period": "1 s", "type": "uint32"}]}]}],
    }))  # fmt: skip

    trusts = [(key["where"].partition(":")[0], key["kind"], key["gateway"]) for key in _keys(relay)]
    own = [(key["where"].partition(":")[0], key["kind"]) for key in _keys(gateway)]

    assert trusts[:2] == [("relay.trust[0]", "identity", "line-4"), ("relay.trust[1]", "CA", "line-5")]
    assert ("uplink.mqtt.tls.key", "private key") in own
    assert ("uplink.mqtt.tls.ca", "CA") in own
    assert own[-1] == ("identity", "identity")
    assert "hunter2" not in _show(gateway).output + _show(relay).output


def test_an_archive_names_the_keys_that_its_records_name(tmp_path: Path) -> None:
    """By the first digits of the fingerprint that a report has in full, with the certificates of the EPOCH."""
    own = certificate("line-4", GATEWAY, "Plant CA", ROOT, uri=issuer_of("line-4"))
    plant = certified(own)
    grow(plant, 62)
    other = grow(start("line-5"), 10)
    for name, records in (("line-4", plant.records), ("line-5", other.records)):
        folder = tmp_path / "archive" / name
        folder.mkdir(parents=True)
        (folder / "2023-11-14.rec").write_bytes(b"".join(each.data for each in records))

    found = _keys(tmp_path / "archive")

    identities = {key["name"]: key for key in found if key["kind"] == "identity" and key["records"]}
    verifier = Verifier(other.trust)
    for record in other.records:
        verifier.add(record.data)
    [report] = verifier.report().epochs
    assert report.identity.startswith(identities["line-5"]["fingerprint"])
    assert identities["line-4"]["fingerprint"] == _FINGERPRINT[:19]
    assert identities["line-4"]["records"] == 5  # EPOCH, checkpoints at 20, 40 and 60, and the one before STOP.
    assert [key["certificate"] != "" for key in found if key["name"] == "line-4"] == [False, True, False]
    assert next(key["note"] for key in found if key["kind"] == "session").startswith("the newest of 2")
    assert "No signature was checked" in _show(tmp_path / "archive").stdout


@pytest.mark.parametrize(
    "content", [b"", b"\x30\x82rubbish", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"]
)
def test_what_is_no_key_is_said(tmp_path: Path, content: bytes) -> None:
    """A broken file is not a traceback."""
    path = tmp_path / "a.pem"
    path.write_bytes(content)

    code = 0 if b"BEGIN" in content else 1

    assert ("cannot be read" if not code else "holds no key") in _show(path, code=code).output


def test_the_commands_of_drivers_are_still_there() -> None:
    """Found by entry point beside the one of our own."""
    assert "opcua" in CliRunner().invoke(cli, ["keys", "--help"]).output
