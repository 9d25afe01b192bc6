"""The configuration on record: what changed, the configuration itself, and never a secret."""

from __future__ import annotations

import gzip
import subprocess
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.cli import cli
from edge.seal import MAX_RECORD_BYTES, ConfigChange, decode_frame, parse
from edge.seal.codec import unpack
from tests.faults.gateway.site_under_test import Site
from tests.support.certificates import PEM, certificate
from tests.support.ports import free_port

_SECRET = "hunter2"


def _run(*arguments: object) -> Result:
    ran = CliRunner().invoke(cli, list(map(str, arguments)))
    assert ran.exit_code == 0, ran.output
    return ran


def _entries(path: Path) -> list[dict[str, Any]]:
    told = _run("log", path, "--kind", "config", "--json").stdout
    return [orjson.loads(line) for line in told.splitlines()]


def _changes(site: Site) -> list[ConfigChange]:
    contents = (decode_frame(parse(record)) for record in site.buffered())
    return [content for content in contents if isinstance(content, ConfigChange)]


def _run_once(site: Site, scans: bool = True) -> str:
    gateway = site.gateway()
    if scans:
        site.wait_for_scans(3)
    assert gateway.stop() == 0
    return gateway.log()


@pytest.mark.requirement("REQ-CONF-02")
def test_a_change_of_thousands_of_tags_is_on_record_with_both_configurations(site: Site) -> None:
    """Parts that fit into records; the digest is that of `tidegate check`, and of sha256sum."""
    table = site.directory / "tags.csv"
    header, row = "name,signal,period,type,scale,description\n", "T{0},counter,1 h,uint16,{1},{2}\n"
    site.settings["devices"].append({
        "name": "plc", "driver": "simulator", "scan_groups": [{"every": "1 h", "tags_from": "tags.csv"}],
    })  # fmt: skip
    del site.settings["uplink"]
    digests = []
    for scale in (0.1, 0.5):
        table.write_text(
            header + "".join(row.format(tag, scale, sha256(b"%d" % tag).hexdigest()) for tag in range(2000))
        )
        _run_once(site)
        [checked] = orjson.loads(_run("check", site.directory / "gateway.yaml", "--json").stdout)["configurations"]
        digests.append(checked["digest"])
    _run_once(site)  # The same again changes nothing.

    first, change = _entries(site.buffer)

    lines = subprocess.check_output(["sha256sum", "gateway.yaml", "tags.csv"], cwd=site.directory)
    assert digests[1] == subprocess.check_output(["sha256sum"], input=lines).decode().split()[0]
    assert [first["data"]["new_hash"], change["data"]["new_hash"]] == digests
    assert change["data"]["old_hash"] == digests[0]
    assert change["data"]["change_count"] == 2000
    assert change["data"]["changes"][7] == {
        "path": "devices[plc].scan_groups[1 h].tags[T7].scale", "old": "0.1", "new": "0.5"
    }  # fmt: skip
    assert change["text"].endswith("and 1,997 more changes")
    parts = [each.kept.part for each in _changes(site) if each.kept is not None]
    assert parts == [*range(parts[-1] + 1)] * 2
    assert parts[-1] > 0
    assert max(map(len, site.buffered())) <= MAX_RECORD_BYTES
    for digest, scale in zip(digests, ("0.1", "0.5"), strict=True):
        shown = _run("log", site.buffer, "--trust", site.trust, "--configuration", digest[:12]).stdout
        assert shown.startswith(f"# Configuration {digest}")
        assert shown.count(f"scale: {scale}") == 2000
        kept = orjson.loads(gzip.decompress((site.state / "configurations" / f"{digest}.json.gz").read_bytes()))
        assert (
            orjson.loads(_run("log", site.buffer, "--configuration", digest, "--json").stdout)["configuration"] == kept
        )


def test_a_configuration_that_was_not_kept_before_is_kept_without_being_a_change(site: Site) -> None:
    """As after an update from a version that kept the digest only."""
    site.add_counter("mixer")
    del site.settings["uplink"]
    _run_once(site)
    [file] = (site.state / "configurations").glob("*.json.gz")
    file.unlink()

    _run_once(site)

    assert file.exists()
    first, again = _entries(site.buffer)
    assert again["data"]["old_hash"] == again["data"]["new_hash"] == first["data"]["new_hash"]
    assert again["text"].endswith("is on record itself, by account root (kept from now on)")


def _pem(folder: Path, name: str) -> tuple[str, bytes]:
    """Key and certificate of that name; the path of the key, and the middle line of it, which nothing else holds."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = certificate(name, key, name, key, is_authority=True, since=now - timedelta(days=1),
                       until=now + timedelta(days=90))  # fmt: skip
    text = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(text)
    (folder / f"{name}.pem").write_bytes(made.public_bytes(PEM))
    return f"file:{folder / name}.key", text.splitlines()[2]


@pytest.mark.requirement("REQ-SEAL-02")
def test_no_byte_of_a_secret_comes_into_state_chain_or_log(site: Site) -> None:
    """Put one into every place where a setting refers to a secret, and where somebody may have written one."""
    folder = site.directory / "secrets"
    folder.mkdir()
    tls_key, tls = _pem(folder, "mqtt")
    modbus_key, modbus = _pem(folder, "modbus")
    user_key, user = _pem(folder, "user")
    metrics_key, metrics = _pem(folder, "metrics")
    (folder / "mqtt.password").write_text("hunter2-mqtt")
    (folder / "opcua.password").write_text("hunter2-opcua")
    _run("keys", "opcua", "create", folder / "pki", "--name", "line-4")
    site.settings["identity"] = {"key": f"file:{folder / 'identity.pem'}"}
    site.settings["uplink"]["mqtt"] |= {
        "username": "line-4", "password": f"file:{folder / 'mqtt.password'}",
        "tls": {"ca": str(folder / "mqtt.pem"), "certificate": str(folder / "mqtt.pem"), "key": tls_key},
    }  # fmt: skip
    site.settings["status"] = {
        **site.settings.get("status", {}), "metrics": "127.0.0.1:0",
        "tls": {"ca": str(folder / "metrics.pem"), "certificate": str(folder / "metrics.pem"), "key": metrics_key},
    }  # fmt: skip
    site.settings["devices"] += [
        {"name": "secured", "driver": "modbus", "host": "127.0.0.1", "port": free_port(),
         "tls": {"ca": str(folder / "modbus.pem"), "certificate": str(folder / "modbus.pem"), "key": modbus_key},
         "scan_groups": [{"every": "1 s", "tags": [{"name": "a", "address": "holding 0", "type": "uint16"}]}]},
        *({"name": name, "driver": "opcua", "url": f"opc.tcp://127.0.0.1:{free_port()}", "user": account,
           "security": {"policy": "Basic256Sha256"}, "certificates": str(folder / "pki"),
           "namespaces": {"x": "http://vendor.example/x"},
           "scan_groups": [{"every": "1 s", "tags": [{"name": "b", "address": "nsu=x;s=b", "type": "float64"}]}]}
          for name, account in (
              ("by-name", {"name": "reader", "password": f"file:{folder / 'opcua.password'}"}),
              ("by-key", {"certificate": str(folder / "user.pem"), "key": user_key}),
          )),
    ]  # fmt: skip
    site.add_counter("mixer")
    comment = f"# the password is {_SECRET}-comment\n"

    logs = []
    for path in ("acme/basel/upstream/line-4", "acme/basel/upstream/line-5"):  # A change shows old and new.
        site.settings["gateway"]["path"] = path
        logs.append(_run_with(site, comment))

    secrets = [_SECRET.encode(), tls, modbus, user, metrics, (folder / "identity.pem").read_bytes().splitlines()[2]]
    held = b"".join(file.read_bytes() for file in site.state.rglob("*") if file.is_file())
    held += b"".join(gzip.decompress(file.read_bytes()) for file in (site.state / "configurations").glob("*.json.gz"))
    # The files as they were, for a way back: those who may read them may read the configuration itself.
    assert {file.stat().st_mode & 0o777 for file in site.state.rglob("*.tar.gz")} == {0o640}
    frames = [parse(record) for record in site.buffered()]
    held += b"".join(unpack(frame.payload, frame.enc) for frame in frames)
    changes = _changes(site)
    held += b"".join(gzip.decompress(change.kept.packed) for change in changes if change.kept is not None)
    held += "".join(logs).encode()
    assert len(changes) == 2
    assert b"vendor.example/x" in held
    assert b"by-key" in held
    for secret in secrets:
        assert secret not in held
        assert b64encode(secret) not in held
    places = {"IdentitySettings.key", "MqttSettings.password", "TlsSettings.key", "MetricsTlsSettings.key",
              "modbus.ModbusTls.key", "opcua.OpcuaUser.password", "opcua.OpcuaUser.key"}  # fmt: skip
    assert _places_of_secrets() == places  # A new place needs a secret above.


def _run_with(site: Site, comment: str) -> str:
    """One run of the configuration with a comment in it; what it says."""
    path = site.write("gateway", site.settings)
    path.write_text(comment + path.read_text())
    process = site.command("run", str(path), name="gateway-with-secrets")
    site.wait(lambda: process.has_ended or process.said("running"), "the gateway to run")
    site.wait_for_scans(3)
    site.wait(lambda: len(process.said("device.down")) >= 3, "the devices with secrets to be tried")
    assert process.stop() == 0, process.log()
    return process.log()


def _places_of_secrets() -> set[str]:
    """Each setting that refers to a secret, by the schema."""
    definitions = orjson.loads(_run("schema").stdout)["$defs"]
    return {
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key, value in definition.get("properties", {}).items()
        if b"credential:NAME" in orjson.dumps(value)
    }
