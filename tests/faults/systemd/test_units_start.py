"""The shipped units start with what a plant has at first, keep up with new certificates, and open what is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.faults.systemd import plant_inside as plant
from tests.faults.systemd.booted_machine import UNITS, Machine
from tests.faults.systemd.test_units_on_a_booted_machine import CONFIGURATION, PROGRAM, SITE

pytestmark = pytest.mark.timeout(900)

TLS = "/etc/tidegate/tls"
LISTENER = f"user root\nlog_dest stderr\nlistener 1883 {plant.BROKER}\n"
PTP = re.search(r"(\d+) ptp", Path("/proc/devices").read_text())
NODES = {
    "/dev/ptp0": ("c", PTP[1] if PTP else "0", "0"),
    "/dev/tpmrm0": ("c", "10", "224"),
    "/dev/ttyUSB0": ("c", "188", "0"),
}
PROBE = """
import errno, os, sys
for path, way in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        os.close(os.open(path, {"r": os.O_RDONLY, "rw": os.O_RDWR}[way]))
    except OSError as error:
        print("open", path, way, errno.errorcode[error.errno], flush=True)
"""
TRIED = ("/dev/ptp0 r", "/dev/ptp0 rw", "/dev/tpmrm0 rw", "/dev/ttyUSB0 rw")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine


def configure(machine: Machine, mqtt: dict[str, Any] | None, **more: Any) -> None:
    device = {**SITE, "devices": [each for each in SITE["devices"] if each["name"] == "listed"]}
    uplink = {} if mqtt is None else {"uplink": {"mqtt": {**SITE["uplink"]["mqtt"], **mqtt}}}
    settings = {**{key: value for key, value in device.items() if key != "uplink"}, **uplink, **more}
    (machine.root / CONFIGURATION[1:]).write_text(json.dumps(settings))


def put(machine: Machine, name: str, content: bytes) -> None:
    path = machine.root / TLS[1:] / name
    path.write_bytes(content)
    machine.run("chown", "root:tidegate-tls", f"{TLS}/{name}")
    path.chmod(0o640)


def put_certificates(machine: Machine) -> None:
    """An authority and a broker's certificate, all new."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = {each: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in ("ca", "broker")}
    now = datetime.now(UTC)

    def certificate(name: str, public: ec.EllipticCurvePublicKey) -> bytes:
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address(plant.BROKER))])
        builder = x509.CertificateBuilder(names["ca"], names[name], public, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=90))
        builder = builder.add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
        return (
            builder.add_extension(address, critical=False)
            .sign(authority, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    put(machine, "broker-ca.pem", certificate("ca", authority.public_key()))
    put(machine, "broker.pem", certificate("broker", key.public_key()))
    pem = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    put(machine, "broker.key", key.private_bytes(serialization.Encoding.PEM, *pem))


def start_broker(machine: Machine, lines: str) -> None:
    (machine.root / "etc/mosquitto.conf").write_text(LISTENER + lines)
    machine.run("systemctl", "restart", "broker")


def start_again(machine: Machine) -> dict[str, Any]:
    """The status of the gateway after a start; it reads its device."""
    before = len(machine.events("tidegate", "device.up"))
    machine.run("systemctl", "restart", "tidegate")
    machine.wait_for("tidegate", "device.up", ["listed"], times=before + 1)
    return status(machine)


def status(machine: Machine) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(machine.run(PROGRAM, "status", CONFIGURATION, "--json"))
    return answer


def wait_until_up(machine: Machine, connects: int = 1) -> None:
    def is_up() -> bool:
        uplink = status(machine)["uplink"]
        return uplink["state"] == "up" and uplink["connects"] >= connects

    machine.wait(is_up, f"connection {connects} to the broker")


def test_it_starts_with_what_a_plant_has_at_first(machine: Machine) -> None:
    configure(machine, None)
    without_an_uplink = start_again(machine)

    configure(machine, {})
    without_a_broker = start_again(machine)

    put(machine, "password", b"first\n")
    machine.run("mosquitto_passwd", "-b", "-c", "/etc/passwords", "line-4", "first")
    start_broker(machine, "password_file /etc/passwords\n")
    configure(machine, {"username": "line-4", "password": f"file:{TLS}/password"})
    start_again(machine)
    wait_until_up(machine)
    machine.run("systemctl", "reload", "tidegate")
    wait_until_up(machine, connects=2)

    put_certificates(machine)
    tls = f"allow_anonymous true\ncertfile {TLS}/broker.pem\nkeyfile {TLS}/broker.key\n"
    start_broker(machine, tls)
    configure(machine, {"tls": {"ca": f"{TLS}/broker-ca.pem"}})
    start_again(machine)
    wait_until_up(machine)
    process = machine.show("tidegate", "MainPID")
    put_certificates(machine)
    start_broker(machine, tls)
    wait_until_up(machine, connects=2)

    assert without_an_uplink["uplink"] is None
    assert without_a_broker["uplink"]["state"] == "down"
    assert machine.show("tidegate", "MainPID") == process


def test_a_missing_credential_is_one_sentence_and_the_unit_waits_for_the_engineer(machine: Machine) -> None:
    system = machine.root / "etc/systemd/system/tidegate.service.d"
    shutil.copy(UNITS / "drop-ins/identity-credential.conf", system)
    machine.run("systemctl", "daemon-reload")
    configure(machine, None, identity={"key": "credential:identity"})

    machine.try_run("systemctl", "start", "tidegate")
    machine.wait(lambda: machine.show("tidegate", "ActiveState") == "failed", "the service to give up")
    said = [line for line in machine.log("tidegate") if "credential:identity" in line]
    key = ec.generate_private_key(ec.SECP256R1())
    (machine.root / "root/identity.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    encrypt = ("systemd-creds", "encrypt", "--with-key=host", "--name=identity", "/root/identity.pem")
    (machine.root / "etc/credstore.encrypted").mkdir(exist_ok=True)
    machine.run(*encrypt, "/etc/credstore.encrypted/tidegate-identity")
    answer = start_again(machine)

    assert len(said) == 1
    assert "was not handed in by systemd: put its file where LoadCredential=" in said[0]
    assert answer["devices"]
    assert not (machine.root / "var/lib/tidegate/identity.pem").exists()


@pytest.mark.skipif(PTP is None, reason="the kernel of this machine has no PTP clocks")
def test_a_device_is_opened_where_a_drop_in_names_it_and_only_so(machine: Machine) -> None:
    """What may be opened is not there, as the kernel says then; what may not is refused before."""
    system = machine.root / "etc/systemd/system"
    (system / "tidegate.service.d/serial.conf").unlink()
    (machine.root / "opt/tidegate/probe.py").write_text(PROBE)
    for path, node in NODES.items():
        machine.run("mknod", "-m", "0666", path, *node)
    machine.run("groupadd", "--system", "tss")
    (system / "tidegate.service.d/probe.conf").write_text(
        "[Service]\nType=oneshot\nRestart=no\nExecStart=\n"
        f"ExecStart=/opt/tidegate/bin/python3 /opt/tidegate/probe.py {' '.join(TRIED)}\n"
    )

    def probe(*parts: str) -> list[str]:
        for part in parts:
            shutil.copy(UNITS / f"drop-ins/{part}.conf", system / "tidegate.service.d")
        machine.run("systemctl", "daemon-reload")
        before = len(machine.log("tidegate"))
        machine.run("systemctl", "start", "tidegate")
        lines = [line.split() for line in machine.log("tidegate")[before:] if line.startswith("open ")]
        assert [f"{path} {way}" for _, path, way, _ in lines] == [*TRIED]
        return [why for *_, why in lines]

    assert probe() == ["ENOENT"] * 4
    assert probe("hardware-clock", "tpm") == ["ENXIO", "EPERM", "ENODEV", "EPERM"]


def test_several_gateways_and_a_relay_run_side_by_side_and_see_their_own_files_only(machine: Machine) -> None:
    system = machine.root / "etc/systemd/system"
    for unit, part in (("tidegate@", "devices"), ("tidegate@", "broker"), ("tidegate-relay", "broker")):
        (system / f"{unit}.service.d").mkdir(exist_ok=True)
        shutil.copy(UNITS / f"drop-ins/{part}.conf", system / f"{unit}.service.d")
    start_broker(machine, "allow_anonymous true\n")
    for name in ("line-4", "line-5"):
        configure(
            machine,
            {"no_subscriber": "keep"},
            gateway={"name": name, "path": "acme", "state": f"/var/lib/tidegate/{name}"},
        )
        (machine.root / CONFIGURATION[1:]).rename(machine.root / f"etc/tidegate/{name}.yaml")
    broker = {"host": plant.BROKER, "port": 1883, "tls": "off"}
    relay = {"name": "it", "archive": "/var/lib/tidegate-relay", "trust": ["/etc/tidegate/trusted"], "mqtt": broker}
    (machine.root / "etc/tidegate/trusted").mkdir()

    units = ("tidegate@line-4", "tidegate@line-5")
    machine.run("systemctl", "start", *units)
    machine.run("cp", "/var/lib/tidegate/line-4/identity.pub.pem", "/etc/tidegate/trusted")
    (machine.root / "etc/tidegate/relay.yaml").write_text(json.dumps({"relay": relay}))
    machine.run("systemctl", "start", "tidegate-relay")
    for unit in units:
        machine.wait_for(unit, "device.up", ["listed"])
    answers = {
        name: json.loads(machine.run(PROGRAM, "status", f"/etc/tidegate/{name}.yaml", "--json"))["gateway"]["name"]
        for name in ("line-4", "line-5", "relay")
    }
    inside = ("nsenter", "--mount", "--target", machine.show(units[0], "MainPID"), "ls", "/var/lib/tidegate")
    seen = machine.run(*inside).split()
    machine.wait(lambda: [*machine.root.glob("var/lib/tidegate-relay/line-4/*.rec")] != [], "records in the archive")
    machine.run("systemctl", "stop", *units, "tidegate-relay")

    assert answers == {"line-4": "line-4", "line-5": "line-5", "relay": "it"}
    assert seen == ["line-4"]
    for unit in (*units, "tidegate-relay"):
        assert (machine.show(unit, "Result"), machine.show(unit, "ExecMainStatus")) == ("success", "0")
