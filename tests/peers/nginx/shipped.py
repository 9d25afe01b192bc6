"""nginx with a shipped file, as it is but for folder, port and what is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

_AROUND = "daemon off; master_process off; pid nginx.pid; events {{}} http {{ access_log off; include {}; }}\n"


@asynccontextmanager
async def shipped_proxy(shipped: Path, folder: Path, port: int, behind: Mapping[str, str]) -> AsyncIterator[None]:
    """Run it in a folder with its certificates; `behind` are texts of the file, each with what stands there instead."""
    _configure(
        shipped, folder, {"/etc/nginx/tidegate": str(folder), "listen 9443": f"listen 127.0.0.1:{port}", **behind}
    )
    nginx = await asyncio.create_subprocess_exec("/usr/sbin/nginx", "-p", folder, "-c", "nginx.conf", "-e", "stderr")
    try:
        yield
    finally:
        nginx.terminate()
        await nginx.wait()


def _configure(shipped: Path, folder: Path, changes: Mapping[str, str]) -> None:
    text = shipped.read_text()
    for before, here in changes.items():
        assert before in text
        text = text.replace(before, here)
    (folder / shipped.name).write_text(text)
    (folder / "nginx.conf").write_text(_AROUND.format(shipped.name))
