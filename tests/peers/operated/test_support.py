"""`tidegate support`: secrets are planted in every place that may hold one, and none is in what is packed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.peers.operated.conftest import Operated

pytestmark = pytest.mark.timeout(180)

PASSWORD, IN_GATEWAY, IN_COMMAND = "pa55/of&the line", "set-for-the-gateway-7", "set-for-the-command-8"
# What is found by its shape: none of them is named anywhere.
SHAPED = {
    "acc0unt": "connecting to mqtts://line-4:acc0unt@dmz-broker:8883/x",
    "p1ain": "retry with password=p1ain, then wait",
    "qu0ted words": 'say {"mqtt":{"password":"qu0ted words","port":1}}',
    "esc4ped": r'{"event":"x","text":"{\"client_secret\": \"esc4ped\"}"}',
    "0ption": "started as: tool --db-password 0ption --verbose",
    "bearer-t0ken-123": "Authorization: Bearer bearer-t0ken-123",
    "b4sic==": "sent header Basic dXNlcjpb4sic==",
    "eyJhbGciOi.eyJzdWIiOi.c2ln": "cookie eyJhbGciOi.eyJzdWIiOi.c2ln",
    "MIIEvQIBADAN": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n-----END PRIVATE KEY-----",
    "MHcCAQEEIOne": r"got -----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIOne\n-----END EC PRIVATE KEY-----\n",
    "MIIcut0ff": "-----BEGIN RSA PRIVATE KEY-----\nMIIcut0ff",
    "4711-pin": "pin: 4711-pin",
    "true-s3cret": "password=true-s3cret",
    "null1fied": '{"passphrase": "null1fied"}',
}
HARMLESS = ("first harmless line", "uplink.mqtt.password: file:password is empty", "opc.tcp://192.0.2.7:4840/path",
            "check its password and the broker's access list", "last harmless line")  # fmt: skip


def members(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        found = {}
        for entry in archive.getmembers():
            held = archive.extractfile(entry)
            assert held is not None
            found[entry.name.removeprefix("tidegate-support/")] = held.read().decode()
        return found


def written(secret: str) -> set[str]:
    """The ways in which a secret may be written."""
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, encoded, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}


def test_no_planted_secret_is_packed(operated: Operated) -> None:
    folder = operated.folder
    (folder / "password").write_text(PASSWORD + "\n")
    text = operated.gateway_file.read_text().replace("period: 100 ms,", 'period: 100 ms, description: '
                                                     '"see http://wiki:in-the-t3xt@192.0.2.1/",')  # fmt: skip
    operated.gateway_file.write_text(text)
    command = ["env", f"LINE_PASSWORD={IN_GATEWAY}", sys.executable, "-c", "from edge.cli import main; main()"]
    with subprocess.Popen([*command, "run", "gateway.yaml"], cwd=folder, stderr=subprocess.DEVNULL) as gateway:
        try:
            operated.wait("state/status.sock", lambda answer: bool(answer.devices[0].scan_groups[0].values))
            key = (folder / "state/identity.pem").read_text()
            body = key.splitlines()[1]
            named = [PASSWORD, IN_GATEWAY, IN_COMMAND, "in-the-t3xt", body]
            log = folder / "own.log"
            lines = [HARMLESS[0], *SHAPED.values(), *(word for each in named for word in written(each)), key,
                     *HARMLESS[1:]]  # fmt: skip
            log.write_text("\n".join(f"12:00:00 {line}" if "BEGIN" not in line else line for line in lines))

            ran = operated.tidegate("support", "gateway.yaml", "--to", "out.tar.gz", "--log", "own.log",
                                    DB_TOKEN=IN_COMMAND)  # fmt: skip
        finally:
            gateway.terminate()

    assert (ran.returncode, ran.stderr) == (0, ""), ran
    packed = members(folder / "out.tar.gz")
    everything = "\n".join([*packed, *packed.values(), ran.stdout])
    for secret in (*SHAPED, *(word for each in named for word in written(each))):
        assert secret in log.read_text()
        assert secret not in everything, (secret, [name for name, text in packed.items() if secret in text])
    for line in HARMLESS:
        assert line in packed["log/own.log"], packed["log/own.log"]
    assert {"doctor.json", "status.json", "configuration.json", "versions.txt", "machine.txt", "README.txt"} <= set(
        packed
    )
    for name, held in packed.items():
        assert name in ran.stdout or name == "README.txt"
        assert not name.endswith(".json") or json.loads(held)
    status = json.loads(packed["status.json"])
    assert status["gateway"]["name"] == "line-4"
    assert [group["values"] for device in status["devices"] for group in device["scan_groups"]] == [[]]
    mqtt = json.loads(packed["configuration.json"])["uplink"]["mqtt"]
    assert (mqtt["password"], mqtt["username"], mqtt["in_flight"]) == ("file:password", "line-4", 64)
    assert "nothing was sent" in ran.stdout
    assert (folder / "out.tar.gz").stat().st_mode & 0o777 == 0o600


def test_a_secret_that_is_written_where_a_reference_belongs_is_not_packed(operated: Operated) -> None:
    """The configuration is refused then, and is sent all the more."""
    text = operated.gateway_file.read_text().replace('"file:password"', "wr1tten-in")
    operated.gateway_file.write_text(text + "pasword: 8823091\nurl: mqtt://a:wr1tten-too@b\n")

    ran = operated.tidegate("support", "gateway.yaml", "--to", "out.tar.gz")

    assert ran.returncode == 0, ran
    packed = members(operated.folder / "out.tar.gz")
    assert "never the value itself" in packed["configuration-problems.txt"]
    assert not any(secret in text for text in packed.values() for secret in ("wr1tten-in", "wr1tten-too"))


def test_its_size_is_bounded_and_the_newest_of_a_log_is_kept(operated: Operated) -> None:
    log = operated.folder / "own.log"
    with log.open("w") as file:
        for number in range(400_000):
            file.write(f"2026-11-29T22:00:00Z line {number} of a log that grew for a year\n")

    ran = operated.tidegate("support", "gateway.yaml", "--to", "out.tar.gz", "--log", "own.log", "--json")

    kept = members(operated.folder / "out.tar.gz")["log/own.log"]
    assert ran.returncode == 0, ran
    assert 7_000_000 < len(kept) <= 8_000_000
    assert "line 399999 of" in kept
    assert json.loads(ran.stdout)["size_bytes"] == (operated.folder / "out.tar.gz").stat().st_size


def test_a_file_that_is_there_is_not_replaced(operated: Operated) -> None:
    (operated.folder / "out.tar.gz").write_text("mine")

    ran = operated.tidegate("support", "gateway.yaml", "--to", "out.tar.gz")

    assert ran.returncode == 1
    assert "is there already; name a new file" in ran.stderr
    assert (operated.folder / "out.tar.gz").read_text() == "mine"
