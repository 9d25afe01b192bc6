"""A PostgreSQL of a test's own: Debian's server, on a local socket and loopback, as a user that owns nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.demo.postgresql import programs, server_account
from tests.support.ports import free_port

ROOT_OF_CONFIGS = Path(__file__).parents[2] / "configs/historian"
SCHEMA = ROOT_OF_CONFIGS / "schema.sql"
_SETTINGS = (
    "fsync=off", "full_page_writes=off", "listen_addresses=127.0.0.1", "autovacuum=off", "max_connections=20",
    "shared_buffers=128MB", "max_wal_size=4GB",
)  # fmt: skip


@dataclass
class Postgres:
    """A running server; its administrator is `postgres`, who comes in by the socket."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> str:
        """The folder of the socket, as host."""
        return str(self.folder)

    def psql(self, sql: str, database: str = "postgres", account: str = "postgres") -> str:
        """What psql prints for some SQL, without decoration."""
        return self._run(["--command", sql], database, account)

    def psql_file(self, file: Path, database: str) -> str:
        """Run a file; what is wrong is raised."""
        return self._run(["--file", str(file)], database, "postgres")

    def _run(self, arguments: Sequence[str], database: str, account: str) -> str:
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--host", self.socket, "--port",
                   str(self.port), "--username", account, "--dbname", database, *arguments]  # fmt: skip
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if result.returncode:
            raise RuntimeError(result.stderr)
        return result.stdout.strip()

    def create(self, database: str, *, with_schema: bool = True) -> None:
        """A database, and an account `tidegate` that may write it."""
        self.psql(f"CREATE DATABASE {database}")
        if with_schema:
            self.psql_file(SCHEMA, database)
            self.psql("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidegate') THEN "
                      "CREATE ROLE tidegate LOGIN IN ROLE tidegate_writer; END IF; END $$")  # fmt: skip

    def own(self, files: Sequence[Path]) -> None:
        """Give files to the server, which takes no key that others may read."""
        owner = server_account()
        for file in files:
            file.chmod(0o600)
            if owner:
                os.chown(file, owner["user"], owner["group"])

    def stop(self) -> None:
        """A fast shutdown."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def start(self) -> None:
        """Start it again after `stop`."""
        self.process = _start(self.folder, self.port)
        _wait(self.folder, self.port)


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    settings = [word for each in (*_SETTINGS, f"unix_socket_directories={folder}", f"port={port}")
                for word in ("-c", each)]  # fmt: skip
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [programs() / "postgres", "-D", folder / "data", *settings], stdout=log, stderr=log, cwd=folder,
            **server_account(),
        )  # fmt: skip


def _wait(folder: Path, port: int) -> None:
    subprocess.run([programs() / "pg_isready", "--host", folder, "--port", str(port), "--timeout", "30"],
                   check=False, capture_output=True)  # fmt: skip
    for _ in range(300):
        if not subprocess.run(
            ["psql", "--host", folder, "--port", str(port), "--username", "postgres", "--command", "SELECT 1"],
            check=False, capture_output=True,
        ).returncode:  # fmt: skip
            return
        subprocess.run(["sleep", "0.1"], check=True)
    raise TimeoutError((folder / "log").read_text())


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server without any database of ours; the folder is short, as a socket's path must be."""
    folder = Path(tempfile.mkdtemp(prefix="tg-pg-", dir="/tmp"))
    owner = server_account()
    if owner:
        os.chown(folder, owner["user"], owner["group"])
    folder.chmod(0o755)
    subprocess.run(
        [programs() / "initdb", "--pgdata", folder / "data", "--auth", "trust", "--username", "postgres",
         "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"],
        check=True, capture_output=True, cwd=folder, **owner,
    )  # fmt: skip
    port = free_port()
    server = Postgres(folder, port, _start(folder, port))
    try:
        _wait(folder, port)
        yield server
    finally:
        server.process.send_signal(signal.SIGQUIT)
        server.process.wait(30)
        shutil.rmtree(folder)
