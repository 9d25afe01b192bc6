from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edge.testing.proxy import RecordingProxy
from tests.peers.opcua.plant import Server, assert_only_read, running

KINDS = ["asyncua", "node-opcua"]


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(request.param, tmp_path_factory.mktemp("opcua")) as server:
        yield server


@pytest.fixture(scope="module")
def node_opcua(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running("node-opcua", tmp_path_factory.mktemp("opcua")) as server:
        yield server


@pytest.fixture(params=KINDS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of its own for a test that stops it."""
    with running(request.param, tmp_path) as server:
        yield server


@pytest.fixture
async def wire(server: Server) -> AsyncIterator[RecordingProxy]:
    """The way to the server, where every byte is recorded."""
    async with RecordingProxy("127.0.0.1", server.port) as proxy:
        yield proxy
        assert_only_read(proxy)


@pytest.fixture
async def own_wire(own_server: Server) -> AsyncIterator[RecordingProxy]:
    async with RecordingProxy("127.0.0.1", own_server.port) as proxy:
        yield proxy
        assert_only_read(proxy)
