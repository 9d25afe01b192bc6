"""The demo's historian: PostgreSQL as it is installed, in the demo's own directory, with a local socket and no port."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from edge.demo.children import end_process, kill_process, start_process
from edge.demo.postgresql import check_place, programs, server_account, shipped_sql
from edge.demo.processes import ProcessExited

_START_S = 30.0
_LOG_LINES_SHOWN = 5


class DemoHistorian:
    """A database for the relay, in `directory`/historian; what a demo wrote there before, it has still."""

    def __init__(self, directory: Path) -> None:
        """Raises ConfigError: something that it needs is not installed, or its server may not enter the directory."""
        self._folder, self._log = directory / "historian", directory / "historian.log"
        self._programs, self._account = programs(), server_account()
        self._sql = [word for file in shipped_sql() for word in ("--file", str(file))]
        check_place(self._folder)
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self.settings = {"host": str(self._folder), "tls": "off"}
        self.command = f"psql -h {shlex.quote(str(self._folder))} -U analyst tidegate"

    async def start(self) -> None:
        """Start it, with the schema and the accounts that are shipped. Raises ProcessExited."""
        data, made = self._folder / "data", self._folder / "made"
        if await asyncio.to_thread(self._prepare, data, made):
            # Under its name only once it is whole.
            await self._run("initdb", "--pgdata", str(made), "--auth", "trust", "--username", "postgres", "--encoding",
                            "UTF8", "--locale", "C", "--no-sync", cwd=self._folder, **self._account)  # fmt: skip
            await asyncio.to_thread(made.rename, data)
        with await asyncio.to_thread(self._log.open, "ab") as log:
            server = await self._begin(
                "postgres", "-D", str(data), "-c", "listen_addresses=", "-c", f"unix_socket_directories={self._folder}",
                at_end=signal.SIGINT, stdout=log, stderr=log, cwd=self._folder, **self._account,
            )  # fmt: skip
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + _START_S
        while (await self._try("pg_isready", "-h", str(self._folder)))[0]:
            if server.returncode is not None or clock() > deadline_s:
                raise _failed("postgres", await asyncio.to_thread(self._log.read_text, "utf-8", "replace"))
            await asyncio.sleep(0.05)
        if not await self._psql("postgres", "postgres", "-c", "SELECT 1 FROM pg_database WHERE datname = 'tidegate'"):
            await self._psql("postgres", "postgres", "-c", "CREATE DATABASE tidegate")
        await self._psql("postgres", "tidegate", *self._sql)

    async def values(self) -> int:
        """How many values it has. Raises ProcessExited."""
        return int(await self._psql("analyst", "tidegate", "-c", "SELECT count(*) FROM reading"))

    async def stop(self) -> None:
        """End it, whoever still asks it something."""
        for name in reversed(tuple(self._running)):
            await end_process(self._running.pop(name), signal.SIGINT)

    def kill(self) -> None:
        """End it at once; its processes are not left to find that out by themselves."""
        for process in self._running.values():
            kill_process(process, signal.SIGQUIT)

    def _prepare(self, data: Path, made: Path) -> bool:
        """Make the directory, which is the server's alone; whether it has no database yet."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._account:
            os.chown(self._folder, self._account["user"], self._account["group"])
            self._folder.parent.chmod(self._folder.parent.stat().st_mode | 0o011)
        shutil.rmtree(made, ignore_errors=True)
        return not data.exists()

    async def _psql(self, account: str, database: str, *words: str) -> str:
        return await self._run("psql", "-XqtA", "-h", str(self._folder), "-U", account, "-d", database, *words)

    async def _run(self, name: str, *words: str, **options: Any) -> str:
        code, output = await self._try(name, *words, **options)
        if code:
            raise _failed(name, output)
        return output.strip()

    async def _try(self, name: str, *words: str, **options: Any) -> tuple[int | None, str]:
        process = await self._begin(name, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        output, _ = await process.communicate()
        del self._running[name]
        return process.returncode, output.decode("utf-8", "replace")

    async def _begin(self, name: str, *words: str, **options: Any) -> asyncio.subprocess.Process:
        # Settings for the person's own databases are not for this one.
        environment = {each: text for each, text in os.environ.items() if not each.startswith("PG")}
        program = str(self._programs / name)
        self._running[name] = await start_process(program, *words, env=environment, stdin=subprocess.DEVNULL, **options)
        return self._running[name]


def _failed(name: str, output: str) -> ProcessExited:
    return ProcessExited(f"{name}, for the historian, failed:\n" + "\n".join(output.splitlines()[-_LOG_LINES_SHOWN:]))
