from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.buffer import DirectoryLock
from edge.errors import ConfigError

_HOLD = """
import sys
from pathlib import Path
from edge.buffer.disk import DirectoryLock
with DirectoryLock(Path(sys.argv[1]), "acquire"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_gateway_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "held\n"

        with pytest.raises(ConfigError, match=rf"in use by another gateway \(role acquire, process {first.pid}\)"):
            DirectoryLock(tmp_path, "acquire")
        first.stdin.close()
        first.wait()

    with DirectoryLock(tmp_path, "acquire"):
        pass


def test_the_two_roles_share_a_directory(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path / "made", "acquire"), DirectoryLock(tmp_path / "made", "forward"):
        pass


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="file/buffer cannot be used"):
        DirectoryLock(tmp_path / "file" / "buffer", "acquire")
