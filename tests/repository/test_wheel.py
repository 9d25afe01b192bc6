"""What is delivered: the wheel holds the two packages and nothing else, twice the same."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what goes into a wheel, so that no trace of another build gets in."""
    tree = tmp_path_factory.mktemp("source") / "tidegate"
    for folder in ("edge", "drivers"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    return tree


def build(tree: Path, into: Path) -> Path:
    shutil.copytree(tree, into / "tree")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", into, into / "tree"],
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_module_and_nothing_else(tree: Path, wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    kept = (".py", ".md", ".yaml", "py.typed")
    expected = {
        str(path.relative_to(tree))
        for folder in ("edge", "drivers")
        for path in (tree / folder).rglob("*")
        if path.name.endswith(kept) and "__pycache__" not in path.parts
    }

    assert held == expected
    assert {"edge/py.typed", "drivers/py.typed"} <= held


def test_the_wheel_carries_licence_command_and_drivers(wheel: Path) -> None:
    archive = ZipFile(wheel)
    told = {name.split("/", 1)[1]: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}

    assert "licenses/LICENSE" in told
    assert "tidegate = edge.cli:main" in told["entry_points.txt"]
    assert "\nmodbus = drivers.modbus:ModbusKind" in told["entry_points.txt"]


def test_a_second_build_is_the_same_to_the_byte(tree: Path, wheel: Path, tmp_path: Path) -> None:
    again = build(tree, tmp_path)

    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_the_sdist_carries_what_an_installation_needs_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("first", "second"):
        subprocess.run([ROOT / ".ci/dist", tmp_path / name], cwd=ROOT, check=True)
    (first,), (second,) = ((tmp_path / name).glob("*.tar.gz") for name in ("first", "second"))
    with tarfile.open(first) as archive:
        held = {member.partition("/")[2] for member in archive.getnames()}

    assert first.read_bytes() == second.read_bytes()
    assert {"systemd/tidegate.service", "configs/minimal.yaml", "requirements.lock", "docs/start.md"} <= held
    assert not any(name.startswith(("tests/", "bench/", "hil/")) for name in held)
