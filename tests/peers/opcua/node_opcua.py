"""node-opcua, exactly as locked in `node/`, installed once per machine outside the repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

NODE = Path(__file__).parent / "node"
_FILES = (".npmrc", "package.json", "package-lock.json")


def program(name: str) -> str:
    """Full path of node or npm: that beside Python's, which the test dependencies bring, else the machine's."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert found is not None, f"{name} is needed: install the test dependencies, which bring it"
    return found


def modules() -> Path:
    """The folder of installed packages for `NODE_PATH`; installs them the first time."""
    lock = hashlib.sha256(b"".join((NODE / name).read_bytes() for name in _FILES)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tidegate-tests"
    cache.mkdir(parents=True, exist_ok=True)
    installed = cache / f"node-opcua-{lock}"
    with (cache / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # Test workers run side by side.
        if not installed.exists():
            _install(installed)
    return installed / "node_modules"


def _install(installed: Path) -> None:
    half = installed.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    for name in _FILES:
        shutil.copy(NODE / name, half)
    path = os.pathsep.join([str(Path(program("node")).parent), os.environ["PATH"]])
    done = subprocess.run(
        [program("npm"), "ci", "--omit=dev"],
        cwd=half, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"npm ci failed: {done.stderr or done.stdout}"
    half.rename(installed)


if __name__ == "__main__":
    print(modules())
