"""The clock of a network card, asked by the kernel's own calls.

No machine of the tests has one. What answers stands in for the kernel's driver: a library between a process and the
kernel, made with the kernel's own headers, so that the numbers of the calls and the layouts of what they carry are
true.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "support/hardware_clock.c"
NOW_NS, AHEAD_NS = 1_767_225_600_123_456_789, 37_000_004_321
PROGRAM = """
import os, sys
from edge.clock.phc import read_phc
if len(sys.argv) > 2:  # The device that the interface names is not there.
    opened = os.open
    os.open = lambda path, flags: opened(os.environ["PHC_DEVICE"] if path == sys.argv[2] else path, flags)
try:
    reading = read_phc(sys.argv[1])
except OSError as error:
    print(error.strerror)
else:
    print(reading.phc_ns, reading.system_ns, reading.window_ns)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("phc") / "hardware_clock.so"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    (library.parent / "ptp0").touch()
    return library


def read(library: Path, *words: str, extended: bool = True) -> str:
    """What another process reads of a clock."""
    device = {"PHC_DEVICE": str(library.parent / "ptp0"), **({"PHC_EXTENDED": "1"} if extended else {})}
    clock = {"LD_PRELOAD": str(library), "PHC_NOW_NS": str(NOW_NS), "PHC_AHEAD_NS": str(AHEAD_NS)}
    command = [sys.executable, "-c", PROGRAM, *words]
    return subprocess.run(
        command, env={**os.environ, **device, **clock}, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_best_of_the_close_looks_is_taken(library: Path) -> None:
    assert read(library, str(library.parent / "ptp0")) == f"{NOW_NS + AHEAD_NS} {NOW_NS} 800"


def test_a_driver_that_cannot_look_closely_is_asked_as_of_old(library: Path) -> None:
    phc_ns, system_ns, window_ns = map(int, read(library, str(library.parent / "ptp0"), extended=False).split())

    assert window_ns == 800
    assert phc_ns - system_ns == AHEAD_NS
    assert system_ns == NOW_NS + 2 * 90_000 + 400


def test_the_clock_of_an_interface_is_found(library: Path) -> None:
    assert read(library, "eth0", "/dev/ptp7") == f"{NOW_NS + AHEAD_NS} {NOW_NS} 800"
    assert read(library, "eth1") == "eth1 has no hardware clock"


def test_what_is_no_clock_is_an_error(library: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert read(library, str(tmp_path / "file")) == "Inappropriate ioctl for device"
    assert read(library, str(tmp_path / "none")) == "No such file or directory"
