"""A disk that refuses delays the relay and loses nothing: what was judged is archived, or will be judged again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.relay.archive import Archive
from edge.relay.intake import Quarantine
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.seal import Record
from edge.verify import Verdict
from tests.support.chains import Plant, archived_records, grow, start

DAY_NS = 86_400 * 10**9
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2


@pytest.fixture
def plant() -> Plant:
    return grow(start(), 20)


@pytest.fixture
def trust(tmp_path: Path, plant: Plant) -> Path:
    path = tmp_path / "line-4.pub.pem"
    path.write_bytes(plant.identity.public_pem(plant.chain.issuer))
    return path


@pytest.fixture
def opened(tmp_path: Path, trust: Path) -> Callable[[], RelayStore]:
    limits = {"quarantine_bytes": 1 << 20, "waiting_bytes": 1 << 20}
    return lambda: RelayStore(tmp_path / "archive", [trust], **limits, view=None)


def messages(records: list[Record], arrived_ns: int = NOON_NS) -> list[ReceivedMessage]:
    return [ReceivedMessage("tidegate/v1/line-4/r/data", record.data, arrived_ns) for record in records]


def archived(folder: Path) -> list[bytes]:
    return archived_records(folder / "archive" / "line-4")


def refuse_new_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without a free inode."""
    real = os.open

    def no_space(path: str | Path, flags: int, *more: int, **options: int) -> int:
        if flags & os.O_CREAT and not Path(path).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", no_space)


def test_a_day_file_that_cannot_be_made_is_made_later(
    tmp_path: Path, plant: Plant, opened: Callable[[], RelayStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.take(messages(plant.records[:10]))
    store.sync()
    with monkeypatch.context() as full:
        refuse_new_files(full)
        store.take(messages(plant.records[10:], NOON_NS + DAY_NS))
        with pytest.raises(OSError, match="space"):
            store.sync()
    assert (store.archived_records, store.archived_bytes) == (10, sum(len(each.data) for each in plant.records[:10]))
    store.sync()
    assert store.archived_records == len(plant.records)
    store.close()

    assert archived(tmp_path) == [record.data for record in plant.records]


def test_a_new_gateway_waits_for_its_folder(
    tmp_path: Path, plant: Plant, opened: Callable[[], RelayStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    with monkeypatch.context() as full:
        full.setattr(Path, "mkdir", lambda *_a, **_k: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
        store.take(messages(plant.records))
        with pytest.raises(OSError, match="space"):
            store.sync()
    store.sync()
    store.close()

    assert archived(tmp_path) == [record.data for record in plant.records]


def test_what_was_judged_and_not_archived_is_judged_again_after_a_restart(
    tmp_path: Path, plant: Plant, opened: Callable[[], RelayStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.take(messages(plant.records[:10]))
    store.sync()
    with monkeypatch.context() as broken:
        broken.setattr(Archive, "append", lambda *_a, **_k: (_ for _ in ()).throw(OSError(errno.EIO, "dead")))
        with pytest.raises(OSError, match="dead"):
            store.take(messages(plant.records[10:]))
    store.close()

    again = opened()
    again.take(messages(plant.records[10:]))
    again.close()

    assert archived(tmp_path) == [record.data for record in plant.records]


def test_a_quarantine_that_cannot_be_written_stops_nobody(
    tmp_path: Path, plant: Plant, opened: Callable[[], RelayStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    with monkeypatch.context() as full:
        full.setattr(Path, "open", lambda *_a, **_k: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
        store.take([ReceivedMessage("tidegate/v1/line-4/r/data", b"no record", NOON_NS), *messages(plant.records)])
        store.sync()
    store.close()

    assert archived(tmp_path) == [record.data for record in plant.records]
    assert store.intake.counts["unknown"].verdicts[Verdict.GARBAGE] == 1


def test_a_full_quarantine_goes_on_after_the_disk_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.cbor", 400)
    put = {"verdict": "GARBAGE", "reason": "", "topic": "", "arrived_ns": 0}
    quarantine.put(b"x" * 150, **put)
    with monkeypatch.context() as full:
        full.setattr(Path, "replace", lambda *_a: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
        quarantine.put(b"y" * 150, **put)
    quarantine.put(b"z" * 150, **put)
    quarantine.close()

    assert b"z" * 150 in (tmp_path / "quarantine.cbor").read_bytes()


def test_an_archive_that_cannot_be_read_is_a_problem_with_a_sentence(
    opened: Callable[[], RelayStore], plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.take(messages(plant.records))
    store.close()
    real = os.open

    def denied(path: str | Path, flags: int, *more: int, **options: int) -> int:
        if str(path).endswith(".rec"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, flags, *more, **options)

    with monkeypatch.context() as other_owner:
        other_owner.setattr(os, "open", denied)
        with pytest.raises(ConfigError, match="Permission denied"):
            opened()


def test_invented_gateways_leave_nothing_behind(opened: Callable[[], RelayStore]) -> None:
    store = opened()
    strangers = [grow(start(f"invented-{number}"), 2).records[1].data for number in range(5)]
    store.take([ReceivedMessage(f"tidegate/v1/invented-{number % 5}/r/data", strangers[number % 5], NOON_NS)
                for number in range(10)])  # fmt: skip
    store.close()

    assert set(store.intake.counts) == {"unknown"}
