"""A server in a process of its own, with security that each test chooses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from drivers.opcua.certificates import Application, der, key_pem
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.trust import TrustList
from edge.config.validate import settings_from
from tests.support.opcua.certificates import Maker
from tests.support.ports import free_port

HERE = Path(__file__).parent
NOW = datetime.now(UTC)
ALL_POLICIES = [
    "NoSecurity",
    *(f"{policy}_{mode}" for policy in ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
      for mode in ("Sign", "SignAndEncrypt")),
]  # fmt: skip


@pytest.fixture(scope="session")
def maker() -> Maker:
    return Maker()


class Peer:
    """The server's process."""

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


@contextmanager
def running_peer(folder: Path, maker: Maker) -> Iterator[Peer]:
    pipe = subprocess.PIPE
    command = [sys.executable, str(HERE / "server.py"), str(free_port())]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        yield Peer(process, folder, maker)
        process.terminate()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, maker: Maker) -> Iterator[Peer]:
    with running_peer(tmp_path_factory.mktemp("server"), maker) as peer:
        yield peer


@pytest.fixture(scope="session")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with our application certificate, made once."""
    directory = tmp_path_factory.mktemp("own")
    TrustList(directory).create(Application("test", "gateway", ("gateway",)), NOW, days=30, bits=2048)
    return directory / "own"


@pytest.fixture
def trust(tmp_path: Path, own_certificate: Path) -> TrustList:
    """A trust list for each test, with our certificate in it."""
    directory = tmp_path / "pki"
    directory.mkdir()
    (directory / "own").symlink_to(own_certificate)
    return TrustList(directory)


@pytest.fixture
def unused_port() -> int:
    return free_port()


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
        return settings_from(OpcuaDevice, plain)

    return make
