"""Fresh Debian trees and Tidegate's packages for them, as .ci makes them: once, and again after a change."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
RELEASES = tuple(os.environ.get("TIDEGATE_DEBIANS", "bookworm").split())
"""Where the pages are typed: TIDEGATE_DEBIANS="bookworm trixie" has both."""


def root(release: str, architecture: str = "") -> Path:
    """A whole Debian, not to be changed; by default for this machine."""
    target = (release, architecture or _architecture())
    _run(".ci/debian/root", *target)
    return ROOT / "build/roots" / "-".join(target)


def packages(release: str, architecture: str = "") -> Sequence[Path]:
    """The packages of this checkout; by default for this machine."""
    target = f"{release}-{architecture or _architecture()}"
    _run(".ci/package", target)
    return sorted((ROOT / "dist/debian" / target).glob("*.deb"))


def later(made: Sequence[Path], folder: Path) -> Sequence[Path]:
    """The same packages as of a version 0.2.0."""
    folder.mkdir()
    for package in made:
        tree = folder / package.stem
        _run("dpkg-deb", "--raw-extract", str(package), str(tree))
        for file in (tree / "DEBIAN").iterdir():
            file.write_text(re.sub(r"\b\d+\.\d+\.\d+-1~", "0.2.0-1~", file.read_text()))
        _run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", str(tree), str(folder))
    return sorted(folder.glob("*.deb"))


def _architecture() -> str:
    return _run("dpkg", "--print-architecture").strip()


def _run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
