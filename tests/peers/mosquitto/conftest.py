"""Real mosquittos on loopback, with a certificate authority of their own."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.ports import free_port


class Authority:
    """Signs certificates into a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.directory, self.name = directory, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.key, name, None, x509.BasicConstraints(ca=True, path_length=0), days=30)
        self._write(name, self.certificate, None)

    @property
    def path(self) -> Path:
        return self.directory / f"{self.name}.pem"

    def issue(
        self, name: str, *, is_server: bool = False, host: str = "127.0.0.1", days: int = 30
    ) -> tuple[Path, Path]:
        """(certificate, key) as PEM files; `days` below 0 has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, name, host if is_server else None, x509.BasicConstraints(False, None), days)
        return self._write(name, certificate, key)

    def _sign(
        self, key: Any, name: str, host: str | None, constraints: x509.BasicConstraints, days: int
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if constraints.ca else self.certificate.subject
        usage = ExtendedKeyUsageOID.SERVER_AUTH if host else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(constraints, critical=True)
        )
        if host is not None:
            names: list[x509.GeneralName] = [x509.DNSName(host)]
            with contextlib.suppress(ValueError):
                names = [x509.IPAddress(ipaddress.ip_address(host))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if not constraints.ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: Any) -> tuple[Path, Path]:
        path, key_path = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        if key is not None:
            key_path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        return path, key_path


class Mosquitto:
    """A mosquitto with a configuration; it can be stopped, killed and started again on the same port."""

    def __init__(self, directory: Path, port: int, lines: str) -> None:
        self.directory, self.port = directory, port
        self._process: asyncio.subprocess.Process | None = None
        self._log = directory / "log"
        self.configuration = directory / "mosquitto.conf"
        self.configuration.write_text(lines.replace("PORT", str(port)))

    async def start(self) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin")
        assert program, "mosquitto is not installed"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program, "-v", "-c", str(self.configuration), stdout=log, stderr=log
            )
        while not await self._is_listening():
            assert self._process.returncode is None, self.log()
            await asyncio.sleep(0.01)

    def log(self) -> str:
        return self._log.read_text()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _is_listening(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Callable[[str], Any]]:
    started: list[Mosquitto] = []

    async def start(lines: str) -> Mosquitto:
        directory = tmp_path / f"mosquitto-{len(started)}"
        directory.mkdir()
        lines = f"user root\npersistence_location {directory}/\n{lines}"
        started.append(Mosquitto(directory, free_port(), lines.replace("DIR", str(directory))))
        await started[-1].start()
        return started[-1]

    yield start
    for one in started:
        await one.kill()
