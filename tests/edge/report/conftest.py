"""Archives on disk, of a plant with a polled mixer and a press that sends what changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.clock import TimeQuality
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock, StatusRun
from edge.seal import EncodedCatalogue, Gap, Payload, RecordType, encode, encode_data
from edge.units import format_utc
from tests.support.chains import BOOT_NS, TIME, UTC_NS, Plant, start

S = 10**9
NAMES = ("temperature", "level", "speed")
MIXER = CatalogueGroup(
    device="mixer", name="fast", interval_ns=S,
    tags=tuple(CatalogueTag(name=name, data_type=DataType.FLOAT32, address=name, unit="degC") for name in NAMES),
)  # fmt: skip
PRESS = CatalogueGroup(
    device="press", name="sent", interval_ns=S, sign_of_life_ns=1000 * S,
    tags=tuple(CatalogueTag(name=name, data_type=DataType.UINT32, address=name) for name in ("force", "strokes")),
)  # fmt: skip
CATALOGUE = Catalogue(path="acme/basel", groups=(MIXER, PRESS))


def ns(second: float) -> int:
    """UTC of a second of the plant."""
    return UTC_NS + int(second * S)


def utc(second: float) -> str:
    """The same, as people write it."""
    return format_utc(ns(second), decimals=6)


@dataclass
class Site:
    """A gateway whose records are sealed one by one, and the archive that they are written to."""

    folder: Path
    plant: Plant = field(default_factory=start)
    catalogue: Catalogue = CATALOGUE

    def __post_init__(self) -> None:
        self.encoded = EncodedCatalogue.of(self.catalogue)
        for payload in self.encoded.payloads:
            self.plant.records.append(self.plant.chain.seal(RecordType.CATALOG, payload))

    def block(self, second: float, *blocks: SampleBlock, time: TimeQuality = TIME) -> None:
        payload = encode_data(utc_ns=BOOT_NS + int(second * S) + time.offset_ns, boot_ns=BOOT_NS + int(second * S),
                              time=time, catalogue=self.encoded.digest, blocks=blocks)  # fmt: skip
        self.plant.records.append(self.plant.chain.seal(RecordType.DATA, payload))

    def read(self, seconds: Iterable[float], status: tuple[StatusRun, ...] = (), time: TimeQuality = TIME) -> None:
        """The mixer is read once at each of these seconds."""
        for second in seconds:
            at_ns = BOOT_NS + int(second * S)
            count = len(self.catalogue.groups[0].tags)
            values = np.full(count, second, np.float32)
            self.block(second, SampleBlock(0, at_ns, at_ns, (values,), None, status), time=time)

    def sent(self, second: float, tags: Sequence[int], status: tuple[StatusRun, ...] = ()) -> None:
        """The press sends values of these tags."""
        at_ns = BOOT_NS + int(second * S)
        positions = np.array(tags, np.uint16)
        values = np.ones(len(tags), np.uint32)
        self.block(second, SampleBlock(1, at_ns, at_ns, (values,), (positions,), status, is_notification=True))

    def seal(self, content: Payload) -> None:
        self.plant.records.append(self.plant.chain.seal(content.type, encode(content)))

    def gap(self, group: int | None, first: float, last: float | None, why: str = "") -> None:
        to_ns = None if last is None else ns(last)
        self.seal(Gap(group=group, from_ns=ns(first), to_ns=to_ns, status=0x80310000, detail=why))

    def write(self, records: Iterable[bytes] | None = None, *, day: str = "2023-11-14") -> None:
        """The records as the relay archives them, and the trust anchor."""
        name = self.plant.chain.issuer.rpartition(":")[2]
        (self.folder / name).mkdir(exist_ok=True)
        records = [each.data for each in self.plant.records] if records is None else records
        (self.folder / name / f"{day}.rec").write_bytes(b"".join(records))
        (self.folder.parent / f"{name}.pub.pem").write_bytes(
            self.plant.identity.public_pem(self.plant.chain.issuer)
        )  # fmt: skip

    @property
    def anchor(self) -> Path:
        return self.folder.parent / f"{self.plant.chain.issuer.rpartition(':')[2]}.pub.pem"

    def run(self, *options: object) -> Result:
        return CliRunner().invoke(cli, ["report", str(self.folder), "--trust", str(self.anchor), *map(str, options)])

    def ask(self, first: float | None = None, last: float | None = None, *options: object) -> dict[str, Any]:
        """The report on a range in seconds, as JSON; the exit code goes with its result."""
        bounds = [part for name, second in (("--from", first), ("--to", last)) if second is not None
                  for part in (name, utc(second))]  # fmt: skip
        result = self.run(*bounds, "--json", *options)
        report: dict[str, Any] = json.loads(result.stdout)
        assert result.exit_code == (0 if report["result"] == "complete" else 1)
        return report

    def gateway(self, first: float | None = None, last: float | None = None, *options: object) -> dict[str, Any]:
        """The only gateway of the report."""
        [gateway] = self.ask(first, last, *options)["gateways"]
        return dict(gateway)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A gateway that has read its mixer for a minute, once a second: records 2 to 62."""
    (tmp_path / "archive").mkdir()
    site = Site(tmp_path / "archive")
    site.read(range(61))
    return site


@pytest.fixture
def another(tmp_path: Path) -> Callable[[str], Site]:
    """Makes another gateway of the same archive."""
    return lambda name: Site(tmp_path / "archive", start(name))
