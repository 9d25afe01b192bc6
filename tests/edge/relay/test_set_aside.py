"""`tidegate relay --set-aside` makes a spoiled archive whole, and keeps what a trusted chain may still link."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.relay.archive import Archive
from edge.seal import Record
from tests.support.chains import Plant, archived_records, grow, start

NOON_NS = 20_000 * 86_400 * 10**9
KEY_SEQ = 33


@pytest.fixture
def plant() -> Plant:
    return grow(start(), 50, checkpoint_every=100)


@pytest.fixture
def config(tmp_path: Path, plant: Plant) -> Path:
    (tmp_path / "line-4.pem").write_bytes(plant.identity.public_pem(plant.chain.issuer))
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"relay: {{name: it, archive: {tmp_path}/archive, trust: [{tmp_path}/line-4.pem], "
        "mqtt: {host: 127.0.0.1, tls: off}}\n"
    )
    return path


def fill(folder: Path, days: Iterable[Iterable[Record]], gateway: str = "line-4") -> None:
    """An archive as a relay wrote it that did not ask where a record came from."""
    archive = Archive(folder / "archive")
    for day, records in enumerate(days):
        for each in records:
            at_ns = NOON_NS + day * 86_400 * 10**9
            archive.append(gateway, each.epoch, each.seq, each.hash, each.data, arrived_ns=at_ns)
    archive.close()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def test_what_spoiled_an_archive_is_moved_and_the_rest_is_wholly_authentic(
    tmp_path: Path, plant: Plant, config: Path
) -> None:
    forged = [record for _ in range(5) for record in grow(start(), 20).records[1:]]
    first, second = [*plant.records[:30], *forged[:40]], [*plant.records[30:], *forged[40:]]
    random.Random(1).shuffle(first)
    fill(tmp_path, [first, second])
    before = run("verify", tmp_path / "archive", "--trust", tmp_path / "line-4.pem")

    done = run("relay", config, "--set-aside")
    again = run("relay", config, "--set-aside")

    after = run("verify", tmp_path / "archive", "--trust", tmp_path / "line-4.pem")
    assert (before.exit_code, after.exit_code) == (1, 0), after.output
    assert sorted(archived_records(tmp_path / "archive/line-4")) == sorted(each.data for each in plant.records)
    assert sorted(archived_records(tmp_path / "archive/aside/line-4")) == sorted(each.data for each in forged)
    assert f"line-4: {len(forged)} records" in done.output
    assert f"moved to {tmp_path}/archive/aside/line-4" in done.output
    assert again.output == "line-4: nothing to move\n"


def test_the_indexes_are_those_of_the_files_afterwards(tmp_path: Path, plant: Plant, config: Path) -> None:
    """A relay asks them whether it has a record already."""
    forged = grow(start(), 20).records[1:]
    fill(tmp_path, [[*forged, *plant.records[:30]], plant.records[30:]])

    run("relay", config, "--set-aside")

    archive = Archive(tmp_path / "archive")
    found = [archive.hash_of("line-4", record.epoch, record.seq) for record in plant.records]
    archive.close()
    assert found == [record.hash for record in plant.records]


def test_what_a_trusted_chain_may_still_link_stays(tmp_path: Path, plant: Plant, config: Path) -> None:
    """The KEY is still on its way. Until it comes a forged record of the same chain cannot be told from a true one."""
    plant.records[:] = plant.records[:-2]
    late = plant.records[KEY_SEQ]
    held = [record for record in plant.records if record is not late]
    fill(tmp_path, [held])

    done = run("relay", config, "--set-aside")

    assert archived_records(tmp_path / "archive/line-4") == [record.data for record in held]
    assert done.output == (
        f"line-4: nothing to move; {len(plant.records) - KEY_SEQ - 1} that nothing proves yet stay, "
        "because a trusted chain may still link them\n"
    )


def test_nothing_is_moved_where_no_trust_anchor_fits(tmp_path: Path, config: Path) -> None:
    """A trust file that is missing must not empty an archive."""
    other = grow(start("line-5"), 20)
    fill(tmp_path, [other.records], "line-5")

    done = run("relay", config, "--set-aside")

    assert archived_records(tmp_path / "archive/line-5") == [record.data for record in other.records]
    assert "none of its records is authentic with these trust anchors" in done.output


def test_a_relay_that_runs_is_not_disturbed(tmp_path: Path, plant: Plant, config: Path) -> None:
    fill(tmp_path, [plant.records])
    relay = Archive(tmp_path / "archive")

    done = run("relay", config, "--set-aside")

    relay.close()
    assert done.exit_code != 0
    assert "in use by another relay" in str(done.exception)
