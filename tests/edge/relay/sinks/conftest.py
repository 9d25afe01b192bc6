"""One PostgreSQL for all tests of a process, and one Kafka for those of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import Postgres, running_postgres
from tests.support.sinks.kafka import Broker, running_broker


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def kafka() -> Iterator[Broker]:
    with running_broker() as broker:
        yield broker
