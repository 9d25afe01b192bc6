"""Kafka's jars exactly as listed in `jars/`, fetched by Maven once per machine into a cache outside the repository.

Beside them lies an archive of their classes as the JVM had them loaded, with which a broker starts twice as fast.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

JARS = Path(__file__).parent / "jars"
CLASSES = "classes.jsa"
_FILES = ("pom.xml", "kafka.sha256")


@cache
def java() -> str:
    """Full path of the JVM."""
    path = shutil.which("java")
    assert path is not None, "java is needed: .ci/packages test installs it"
    return path


@cache
def kafka_jars() -> Path:
    """The folder of the jars and of the archive of their classes; makes it the first time."""
    version = subprocess.run([java(), "-version"], check=True, capture_output=True).stderr
    lock = hashlib.sha256(b"".join((JARS / name).read_bytes() for name in _FILES) + version).hexdigest()[:16]
    store = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tidegate-tests"
    store.mkdir(parents=True, exist_ok=True)
    installed = store / f"kafka-{lock}"
    with (store / "kafka.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # Test workers run side by side.
        if not installed.exists():
            _install(installed)
    return installed


def _install(installed: Path) -> None:
    from tests.support.kafka import write_classes

    half = installed.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    command = ["mvn", "--quiet", "--batch-mode", "--file", str(JARS / "pom.xml"), "dependency:copy-dependencies",
               "-DincludeScope=runtime", f"-DoutputDirectory={half}"]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"Maven could not fetch Kafka: {done.stdout}{done.stderr}"
    lines = (line.split() for line in (JARS / "kafka.sha256").read_text().splitlines())
    listed = {name: digest for digest, name in lines}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in half.iterdir()}
    assert found == listed, f"Maven fetched other jars than jars/kafka.sha256 lists: {found.items() ^ listed.items()}"
    half.rename(installed)
    # The archive holds the paths of the jars.
    try:
        write_classes(installed)
    except BaseException:
        installed.rename(half)
        raise


if __name__ == "__main__":
    print(kafka_jars())
