"""A server in a process of its own whose security each test chooses, and certificates with one thing wrong."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drivers.opcua.certificates import Application, der, key_pem, new_key
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.trust import TrustList

HERE = Path(__file__).parent
NOW = datetime.now(UTC)
SERVER_URI = "urn:test:server"
ALL_POLICIES = [
    "NoSecurity",
    *(f"{policy}_{mode}" for policy in ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
      for mode in ("Sign", "SignAndEncrypt")),
]  # fmt: skip


class Maker:
    """Makes certificates with a few keys, as a key takes longest."""

    def __init__(self) -> None:
        self.keys = [new_key(2048) for _ in range(3)]

    def make(
        self,
        *,
        key: int = 0,
        name: str = "server",
        uri: str | None = SERVER_URI,
        hosts: tuple[str, ...] = ("127.0.0.1",),
        days: tuple[float, float] = (-1, 30),
        purposes: tuple[x509.ObjectIdentifier, ...] | None = (ExtendedKeyUsageOID.SERVER_AUTH,),
        encipher: bool = True,
        issuer: tuple[x509.Certificate, int] | None = None,
        is_authority: bool = False,
        private: rsa.RSAPrivateKey | None = None,
    ) -> x509.Certificate:
        own = private or self.keys[key]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [] if uri is None else [x509.UniformResourceIdentifier(uri)]
        for host in hosts:
            is_ip = host.replace(".", "").isdigit()
            names.append(x509.IPAddress(ipaddress.ip_address(host)) if is_ip else x509.DNSName(host))
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=True, key_encipherment=encipher, data_encipherment=encipher,
            key_agreement=False, key_cert_sign=is_authority, crl_sign=is_authority, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=days[0]))
            .not_valid_after(NOW + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(self.keys[issuer[1]] if issuer else own, hashes.SHA256())

    def authority(self, name: str = "plant CA", key: int = 1) -> x509.Certificate:
        return self.make(key=key, name=name, uri=None, hosts=(), purposes=None, is_authority=True)

    def revocations(
        self, authority: x509.Certificate, *revoked: x509.Certificate, key: int = 1, days: float = 30
    ) -> x509.CertificateRevocationList:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(NOW - timedelta(days=40))
            .next_update(NOW + timedelta(days=days))
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(NOW).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.keys[key], hashes.SHA256())


@pytest.fixture(scope="session")
def maker() -> Maker:
    return Maker()


class Peer:
    """The server as a test sees it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, maker: Maker) -> None:
        self._process, self._folder, self._maker = process, folder, maker
        self.port = int(self._read())

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/plant"

    def be(self, certificate: x509.Certificate | None = None, *, key: int = 0, **asked: Any) -> x509.Certificate:
        """Show this certificate (a good one by default) and offer these policies (all by default) from now on."""
        certificate = certificate or self._maker.make(key=key)
        asked.setdefault("policies", ALL_POLICIES)
        if "announced" in asked:
            asked["announced"] = self._file("announced.der", der(asked["announced"]))
        asked["certificate"] = self._file("server.der", der(certificate))
        asked["key"] = self._file("server.pem", key_pem(self._maker.keys[key]))
        assert self._process.stdin is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        assert self._read() == "done"
        return certificate

    def _file(self, name: str, data: bytes) -> str:
        path = self._folder / name
        path.write_bytes(data)
        return str(path)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, maker: Maker) -> Iterator[Peer]:
    folder = tmp_path_factory.mktemp("server")
    log = (folder / "log").open("w")
    pipe = subprocess.PIPE
    command = [sys.executable, str(HERE / "server.py")]
    with log, subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as process:
        yield Peer(process, folder, maker)
        process.terminate()


@pytest.fixture(scope="session")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with our application certificate, made once."""
    directory = tmp_path_factory.mktemp("own")
    TrustList(directory).create(Application("test", "gateway", ("gateway",)), NOW, days=30, bits=2048)
    return directory / "own"


@pytest.fixture
def trust(tmp_path: Path, own_certificate: Path) -> TrustList:
    """A trust list of its own for each test, with our certificate in it."""
    directory = tmp_path / "pki"
    directory.mkdir()
    (directory / "own").symlink_to(own_certificate)
    return TrustList(directory)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


DeviceMaker = Callable[..., OpcuaDevice]


@pytest.fixture
def device(peer: Peer, trust: TrustList) -> DeviceMaker:
    """Makes the settings of a device; keys override."""

    def make(**keys: Any) -> OpcuaDevice:
        tag = {"name": "t", "address": "i=2258", "type": "datetime"}
        plain = {
            "name": "line-4",
            "driver": "opcua",
            "url": peer.url,
            "security": {"policy": "Basic256Sha256"},
            "certificates": str(trust.directory),
            "scan_groups": [{"every": "1 s", "tags": [tag]}],
        } | keys
        return OpcuaDevice.model_validate_json(json.dumps(plain))

    return make
