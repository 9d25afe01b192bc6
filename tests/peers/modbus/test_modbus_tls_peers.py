"""Modbus/TCP Security with pymodbus, with libmodbus behind socat, and with faulty servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.errors import DeviceRefused, TidegateError
from edge.testing.proxy import RecordingProxy
from edge.tls import Certificate

Running = Callable[..., AbstractContextManager[int]]
PEM = serialization.Encoding.PEM


class Authority:
    """Issues certificates as NAME.pem and NAME.key in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.path = self._keep(name, self._certificate(name, self._key.public_key(), is_authority=True), self._key)

    def issue(self, name: str, *, days: int = 1, host: str = "127.0.0.1") -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        return self._keep(name, self._certificate(name, key.public_key(), days=days, host=host), key)

    def _certificate(self, name: str, key: Any, *, days: int = 1, host: str = "", is_authority: bool = False) -> Any:
        subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, self.name))
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2)).not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )  # fmt: skip
        if host:
            names = [x509.IPAddress(ip_address(host))] if host[0].isdigit() else [x509.DNSName(host)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _keep(self, name: str, certificate: Any, key: Any) -> Path:
        plain = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self.folder / f"{name}.pem"
        path.with_suffix(".key").write_bytes(plain)
        path.write_bytes(certificate.public_bytes(PEM))
        return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of the gateway and of the device, and invalid ones."""
    folder = tmp_path_factory.mktemp("pki")
    ours, theirs = Authority(folder, "ca"), Authority(folder, "other-ca")
    ours.issue("gateway")
    ours.issue("device")
    ours.issue("expired", days=-1)
    ours.issue("elsewhere", host="plc.example")
    ours.issue("other-address", host="192.0.2.1")
    theirs.issue("stranger")
    return folder


def device_at(port: int, folder: Path, certificate: str | None = "gateway", ca: str = "ca") -> ModbusDevice:
    tls: dict[str, str] = {"ca": str(folder / f"{ca}.pem")}
    if certificate is not None:
        tls |= {"certificate": str(folder / f"{certificate}.pem"), "key": f"file:{folder / certificate}.key"}
    tags = [{"name": f"t{i}", "address": f"holding {i}", "type": "uint16"} for i in range(300)]
    return settings_from(ModbusDevice,
        {"name": "device", "driver": "modbus", "host": "127.0.0.1", "port": port, "tls": tls,
         "scan_groups": [{"every": "1 s", "tags": tags}]}
    )  # fmt: skip


async def read_twice(device: ModbusDevice) -> list[list[int]]:
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    async with driver.connect() as session:
        return [(await session.read(plan)).vectors[0].tolist() for _ in range(2)]


async def test_pymodbus_is_read_over_tls(running_pymodbus: Running, folder: Path) -> None:
    with running_pymodbus("tcp", folder / "ca.pem", folder / "device.pem", folder / "device.key") as port:
        assert await read_twice(device_at(port, folder)) == [list(range(300))] * 2


def end_of(path: Path) -> int:
    return int(x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()) * 10**9


async def test_the_ends_of_both_certificates_are_known(running_pymodbus: Running, folder: Path) -> None:
    with running_pymodbus("tcp", folder / "ca.pem", folder / "device.pem", folder / "device.key") as port:
        driver = ModbusKind().driver(device_at(port, folder), SystemClock())
        before = driver.certificates()
        async with driver.connect():
            pass
        async with driver.connect():
            pass

    assert before == ()
    assert driver.certificates() == (
        Certificate(whose="ours", name="CN=gateway", expires_at_ns=end_of(folder / "gateway.pem")),
        Certificate(whose="our authority's", name="CN=ca", expires_at_ns=end_of(folder / "ca.pem")),
        Certificate(whose="the device's", name="CN=device", expires_at_ns=end_of(folder / "device.pem")),
    )


async def test_the_end_of_ours_is_known_where_the_device_refuses_it(folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / "device.pem", folder / "device.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(context) as port:
        driver = ModbusKind().driver(device_at(port, folder, "expired"), SystemClock())
        with pytest.raises(DeviceRefused):
            async with driver.connect():
                pass

    assert [each.expires_at_ns for each in driver.certificates()] == [
        end_of(folder / "expired.pem"), end_of(folder / "ca.pem")
    ]  # fmt: skip


@asynccontextmanager
async def socat_before(port: int, folder: Path, options: str = "") -> AsyncIterator[int]:
    """The port of socat's TLS, which asks for a client certificate."""
    files = f"cert={folder}/device.pem,key={folder}/device.key,cafile={folder}/ca.pem,verify=1{options}"
    listen = f"openssl-listen:0,bind=127.0.0.1,reuseaddr,fork,{files}"
    process = await asyncio.create_subprocess_exec(
        "socat", "-d", "-d", listen, f"tcp:127.0.0.1:{port}", stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        while b"listening on" not in (line := await process.stderr.readline()):
            assert line, "socat ended"
        yield int(line.rsplit(b":", 1)[1])
    finally:
        process.terminate()
        await process.communicate()


async def test_libmodbus_behind_tls_is_only_read(libmodbus_port: int, folder: Path) -> None:
    """The decrypted bytes are recorded."""
    async with RecordingProxy("127.0.0.1", libmodbus_port) as proxy, socat_before(proxy.port, folder) as port:
        assert await read_twice(device_at(port, folder)) == [list(range(300))] * 2

        sent = bytes(proxy.recordings[0].sent)

    assert len(sent) == 2 * 3 * 12
    assert {sent[at + 7] for at in range(0, len(sent), 12)} == {3}


@pytest.mark.parametrize("certificate", [None, "stranger"])
async def test_socat_that_refuses_our_certificate_is_a_refusal(
    libmodbus_port: int, folder: Path, certificate: str | None
) -> None:
    async with socat_before(libmodbus_port, folder) as port:
        with pytest.raises(DeviceRefused, match="certificate"):
            await read_twice(device_at(port, folder, certificate))


REFUSALS = {
    "expired": ("expired", "gateway", {}, "its certificate, or its authority's, has expired"),
    "wrong name": ("elsewhere", "gateway", {}, "is for another (address|host name)"),
    "wrong address": ("other-address", "gateway", {}, "is for another address"),
    "unknown authority": ("stranger", "gateway", {}, "authority of its certificate is not in our CA file"),
    "self-signed": ("other-ca", "gateway", {}, "self-signed|not in our CA file"),
    "wants a certificate": ("device", None, {}, "asks for a client certificate"),
    "wants a certificate, TLS 1.2": (
        "device", None, {"maximum_version": ssl.TLSVersion.TLSv1_2}, "client certificate|refuses the handshake",
    ),
    "does not know ours": ("device", "stranger", {}, "does not know the authority of our certificate"),
    "does not know ours, TLS 1.2": (
        "device", "stranger", {"maximum_version": ssl.TLSVersion.TLSv1_2}, "does not know the authority",
    ),
    "ours has expired": ("device", "expired", {}, "says our certificate has expired"),
}  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours", "options", "message"), REFUSALS.values(), ids=REFUSALS)
async def test_every_tls_failure_is_a_refusal_with_its_reason(
    folder: Path, theirs: str, ours: str | None, options: dict[str, Any], message: str
) -> None:
    """Also a failure that the server finds after our side of the handshake is complete."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / f"{theirs}.pem", folder / f"{theirs}.key")
    context.verify_mode = ssl.CERT_REQUIRED
    for name, value in options.items():
        setattr(context, name, value)
    async with serving(context) as port:
        with pytest.raises(DeviceRefused, match=message) as refused:
            await read_twice(device_at(port, folder, ours))

    assert str(refused.value).startswith(f"127.0.0.1:{port}")


async def test_a_device_that_closes_after_the_handshake_is_a_refusal(folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "device.pem", folder / "device.key")
    async with serving(context) as port:
        with pytest.raises(DeviceRefused, match="closed the connection after the TLS handshake"):
            await read_twice(device_at(port, folder))


async def test_a_device_without_tls_is_a_refusal(folder: Path) -> None:
    async with serving(None, b"\0" * 64) as port:
        with pytest.raises(DeviceRefused, match="TLS"):
            await read_twice(device_at(port, folder))


@asynccontextmanager
async def serving(context: ssl.SSLContext | None, greeting: bytes = b"") -> AsyncIterator[int]:
    """A server that takes one message and closes. In a thread: asyncio's own server sends no alert."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, context, greeting))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            await asyncio.to_thread(thread.join)


def _serve(listener: socket.socket, context: ssl.SSLContext | None, greeting: bytes) -> None:
    stream, _ = listener.accept()
    if context is not None:
        stream = context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False)
    with stream, contextlib.suppress(OSError):
        try:
            stream.recv(1)  # With TLS, after the handshake.
            stream.sendall(greeting)
        except ssl.SSLError:
            stream.shutdown(socket.SHUT_WR)
            while stream.recv(4096):  # What is unread when a socket is closed takes the alert with it.
                pass


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        ("gateway", "device", "the key belongs to another certificate"),
        ("nothing", "gateway", "there is no such file"),
        ("broken", "gateway", "it is not PEM"),
    ],
)
async def test_files_that_cannot_be_used_are_named(folder: Path, certificate: str, key: str, message: str) -> None:
    (folder / "broken.pem").write_text("no certificate")
    device = device_at(9, folder)
    files = {"ca": str(folder / "ca.pem"), "certificate": str(folder / f"{certificate}.pem"),
             "key": f"file:{folder / key}.key"}  # fmt: skip
    tls = settings_from(type(device.tls), files)  # type: ignore[union-attr]

    with pytest.raises(TidegateError, match=message) as refused:
        await read_twice(replace(device, tls=tls))

    assert isinstance(refused.value, DeviceRefused)
