"""The device side from the driver to the disk: what devices say, and certificates that expire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from edge.buffer import PosixDisk, Reader
from edge.clock import Clock, SystemClock
from edge.config.check import check
from edge.config.settings import GatewaySettings
from edge.driver import DeviceSettings, ScanGroupSettings, TagSettings
from edge.gateway.acquire import Acquisition, acquire
from edge.model import DataType, Identity, TagMetadata
from edge.seal import CataloguePart, Data, Event, Identities, Payload, decode_frame, join_catalogue, parse
from edge.settings import MinLen
from edge.testing.devices import MemoryDevice, MemoryPlan
from edge.tls import Certificate

SITE = """\
gateway: {name: line-4, path: acme/basel, state: state}
clock: {require: any, chrony: off}
devices:
  - name: mixer
    driver: memory
    scan_groups: [{every: 20 ms, tags: [{name: mode, address: "1"}]}]
"""


@dataclass(frozen=True, kw_only=True)
class MemoryTag(TagSettings):
    address: str

    @property
    def data_type(self) -> DataType:
        return DataType.INT32

    @property
    def address_text(self) -> str:
        return self.address


@dataclass(frozen=True, kw_only=True)
class MemoryGroup(ScanGroupSettings):
    tags: Sequence[MemoryTag] = ()


@dataclass(frozen=True, kw_only=True)
class MemorySettings(DeviceSettings):
    driver: Literal["memory"]
    tolerate: Sequence[str] = ("a wrong name", "a wrong serial number")
    scan_groups: Annotated[Sequence[MemoryGroup], MinLen(1)]

    @property
    def tolerated(self) -> Sequence[str]:
        return self.tolerate


class Mixer(MemoryDevice):
    """A device that knows its tags, and whose certificate will expire."""

    serial: str | None = "77"
    questions = 0
    certificate = Certificate(whose="the device's", name="CN=mixer", expires_at_ns=0)

    async def identity(self) -> Identity | None:  # type: ignore[override] # A device in memory has always one.
        self.questions += 1
        return None if self.serial is None else Identity(vendor="Acme", serial=self.serial)

    async def tag_metadata(self, plan: MemoryPlan) -> Sequence[TagMetadata]:
        return [TagMetadata(unit="1", texts=((0, "off"), (1, "on")))]

    def certificates(self) -> Sequence[Certificate]:
        return [self.certificate] if self.connects else []


class Kind:
    settings = MemorySettings

    def __init__(self) -> None:
        self.serial: str | None = "77"

    def driver(self, device: Any, clock: Clock) -> Mixer:
        mixer = Mixer(clock, None)  # type: ignore[arg-type]
        mixer.serial = self.serial
        return mixer


Run = Callable[..., list[Payload]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Lets a gateway work until something has become so; what is in its buffer then."""
    (tmp_path / "site.yaml").write_text(SITE)
    kind = Kind()
    monkeypatch.setattr("edge.gateway.devices.load", lambda name: kind)
    monkeypatch.setattr("edge.recorder.device_info.TOGETHER_S", 0)

    async def work(settings: GatewaySettings, until: Callable[[Acquisition], bool]) -> None:
        async with acquire(settings, bytes(32), SystemClock()) as acquisition:
            running = asyncio.create_task(acquisition.run())
            async with asyncio.timeout(20):
                while not until(acquisition):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.wait([running])

    def run_until(until: Callable[[Acquisition], bool], serial: str | None = "77") -> list[Payload]:
        kind.serial = serial
        settings = check(tmp_path / "site.yaml", lambda name: kind).gateway()
        settings.gateway.state.mkdir(exist_ok=True)
        asyncio.run(work(settings, until))
        return _payloads(settings.buffer_directory)

    return run_until


def _payloads(buffer: Path) -> list[Payload]:
    with closing(Reader(PosixDisk(buffer))) as reader:
        frames = [parse(data) for _, data in reader.read(0, 1 << 24)]
    return [decode_frame(frame) for frame in frames]


def _events(payloads: Sequence[Payload], kind: str) -> list[Event]:
    return [each for each in payloads if isinstance(each, Event) and each.kind == kind]


def _has_sealed_texts(acquisition: Acquisition) -> bool:
    group = acquisition.devices[0].poller.groups[0]
    return bool(group.catalogue.tags[0].texts) and group.counts.done > 5


def test_what_a_device_says_is_on_record_and_survives_a_restart(run: Run) -> None:
    first = run(_has_sealed_texts)
    second = run(_has_sealed_texts)

    def digests(payloads: list[Payload]) -> list[bytes]:
        return list(dict.fromkeys(each.digest for each in payloads if isinstance(each, CataloguePart)))

    assert len(digests(first)) == 2
    assert digests(second) == digests(first)
    learned = join_catalogue([each for each in second if isinstance(each, CataloguePart)][-1:])
    assert (learned.groups[0].tags[0].unit, learned.groups[0].tags[0].texts) == ("1", ((0, "off"), (1, "on")))
    data = [each for each in second[len(first) :] if isinstance(each, Data) and each.wire_blocks]
    assert {each.catalogue for each in data} == {digests(first)[-1]}
    assert not _events(second, "device.identity")


def test_a_changed_catalogue_begins_with_every_value(run: Run) -> None:
    """Whoever reads with it from there on need not look into what was before."""
    payloads = run(_has_sealed_texts)

    digest = [each.digest for each in payloads if isinstance(each, CataloguePart)][-1]
    first = next(each for each in payloads if isinstance(each, Data) and each.catalogue == digest and each.wire_blocks)
    assert first.blocks()[0].positions is None


def test_a_device_that_was_swapped_while_the_gateway_was_off_is_an_event(run: Run) -> None:
    run(_has_sealed_texts)
    payloads = run(_has_sealed_texts, serial="78")

    [event] = _events(payloads, "device.identity")
    [since_ns] = {each.devices[0].since_ns for each in payloads if isinstance(each, Identities)
                  and each.devices[0].identity.serial == "78"}  # fmt: skip
    assert (event.subject, event.data["was_serial"], event.data["serial"]) == ("mixer", "77", "78")
    assert event.data["since_ns"] == since_ns
    serials = [known.identity.serial for each in payloads if isinstance(each, Identities) for known in each.devices]
    assert list(dict.fromkeys(serials)) == ["77", "78"]


def test_values_that_were_read_before_the_question_are_those_of_the_device_that_was_found(run: Run) -> None:
    payloads = run(_has_sealed_texts)

    since_ns = next(each.devices[0].since_ns for each in payloads if isinstance(each, Identities))
    first_ns = next(each.utc_ns for each in payloads if isinstance(each, Data) and each.wire_blocks)
    assert since_ns <= first_ns


def test_a_device_that_does_not_answer_the_question_is_not_asked_after_a_restart(run: Run) -> None:
    asked = []

    def has_read(acquisition: Acquisition) -> bool:
        device = acquisition.devices[0]
        asked.append(device.driver.questions)  # type: ignore[attr-defined]
        return device.poller.groups[0].counts.done > 3

    run(has_read, serial=None)
    first = asked[-1]
    run(has_read, serial=None)

    assert (first, asked[-1]) == (1, 0)


def test_what_a_device_may_do_against_the_protocol_is_an_event_at_the_start(run: Run) -> None:
    """An inspector sees which answers were accepted, without the configuration."""
    payloads = run(lambda acquisition: True)

    [event] = _events(payloads, "device.tolerated")
    assert (event.subject, dict(event.data)) == ("mixer", {"tolerates": "a wrong name, a wrong serial number"})


def test_a_certificate_that_has_expired_is_an_event_with_the_session_that_showed_it(run: Run) -> None:
    payloads = run(lambda acquisition: bool(acquisition.certificates.held))

    [event] = _events(payloads, "cert.expired")
    assert (event.subject, event.data["device"], event.data["name"]) == ("mixer CN=mixer", "mixer", "CN=mixer")
