"""What is delivered: the wheel holds the two packages and nothing else, twice the same; the rig has one of its own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
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
    kept = (".py", ".md", ".yaml", "py.typed", ".html", ".css", ".js", ".json", ".svg")
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


@pytest.mark.requirement("REQ-PACK-01")
def test_a_second_build_is_the_same_to_the_byte(tree: Path, wheel: Path, tmp_path: Path) -> None:
    again = build(tree, tmp_path)

    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(wheel.read_bytes()).hexdigest()


RIG_LIBRARIES = ("pymodbus", "pycomm3")


@pytest.fixture(scope="module")
def rig_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the rig, which is built in its own folder."""
    tree = tmp_path_factory.mktemp("rig") / "hil"
    shutil.copytree(ROOT / "hil", tree, ignore=shutil.ignore_patterns("__pycache__"))
    return build(tree, tmp_path_factory.mktemp("rig_wheel"))


def test_the_wheel_of_the_rig_holds_every_module_and_the_shipped_broker(rig_wheel: Path) -> None:
    archive = ZipFile(rig_wheel)
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "hil").rglob("*.py")}

    assert modules <= set(archive.namelist())
    for name in ("acl", "mosquitto.conf"):
        assert archive.read(f"hil/dmz/{name}") == (ROOT / "configs/dmz" / name).read_bytes()
    assert archive.getinfo("hil/rigs/switches/usb-relay").external_attr >> 16 & 0o111


def test_the_rig_brings_the_libraries_of_its_witness_and_the_gateway_does_not(wheel: Path, rig_wheel: Path) -> None:
    def needs(file: Path) -> set[str]:
        (name,) = (name for name in ZipFile(file).namelist() if name.endswith(".dist-info/METADATA"))
        lines = ZipFile(file).read(name).decode().splitlines()
        required = [line.split()[1] for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
        return {re.split("[=<>~[]", one)[0] for one in required}

    assert {*RIG_LIBRARIES, "asyncua", "tidegate"} <= needs(rig_wheel)
    assert needs(wheel) & {*RIG_LIBRARIES, "asyncua", "tidegate-hil"} == set()


def test_the_rig_is_installed_beside_the_gateway(wheel: Path, rig_wheel: Path, tmp_path: Path) -> None:
    """Without an index: what both need comes from the environment of the tests."""
    place = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"])
    pip = [sys.executable, "-m", "pip", "--python", place / "bin/python", "install", "--quiet", "--no-index"]

    subprocess.run([*pip, "--no-deps", wheel], check=True)
    alone = subprocess.run([place / "bin/python", "-c", "import edge, hil"], cwd=tmp_path, check=False)
    subprocess.run([*pip, "--no-deps", rig_wheel], check=True)
    listed = subprocess.run(
        [place / "bin/tidegate-hil", "list", site / "hil/rigs/bench-example.yaml"],
        cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert alone.returncode == 1
    assert listed.returncode == 0, listed.stderr
    assert "broker_outage" in listed.stdout


def test_the_sdist_carries_what_an_installation_needs_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("first", "second"):
        subprocess.run([ROOT / ".ci/dist", tmp_path / name], cwd=ROOT, check=True)
    (first,), (second,) = ((tmp_path / name).glob("*.tar.gz") for name in ("first", "second"))
    with tarfile.open(first) as archive:
        held = {member.partition("/")[2] for member in archive.getnames()}

    assert first.read_bytes() == second.read_bytes()
    assert {"systemd/tidegate.service", "configs/minimal.yaml", "requirements.lock", "docs/start.md"} <= held
    assert not any(name.startswith(("tests/", "bench/", "hil/")) for name in held)
