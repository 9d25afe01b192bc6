"""What the demo's historian needs: PostgreSQL's programs, an account that they run as, and the SQL that is shipped."""

from __future__ import annotations

import os
import pwd
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge.errors import ConfigError

# Debian keeps the server out of PATH, so that several versions can be there.
_DEBIAN = Path("/usr/lib/postgresql")
_SQL = (Path(__file__).parents[2] / "configs/historian", Path("/usr/share/doc/tidegate/examples/historian"))
_PATH_BYTES_LIMIT = 107 - len("/.s.PGSQL.5432")
_LACKING = "the historian of the demo needs {}, which is not installed: {}"


def programs() -> Path:
    """The directory with PostgreSQL's programs, the newest where there are several. Raises ConfigError: none is."""
    if found := sorted(_DEBIAN.glob("[1-9][0-9]/bin/postgres")):
        return found[-1].parent
    if (program := shutil.which("postgres")) is None:
        raise ConfigError(_LACKING.format("PostgreSQL", "sudo apt-get install postgresql"))
    return Path(program).resolve().parent


def server_account() -> dict[str, Any]:
    """Whom a child is to be: postgres where this is root, as whom PostgreSQL does not run. Raises ConfigError."""
    if os.geteuid():
        return {}
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        raise ConfigError("PostgreSQL does not run as root, and there is no account postgres: "
                          "start the demo as another user") from None  # fmt: skip
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def check_place(directory: Path) -> None:
    """Raises ConfigError: there can be no socket in this directory, or the server's account cannot come so far."""
    if "," in str(directory) or len(os.fsencode(directory)) > _PATH_BYTES_LIMIT:
        raise ConfigError(f"PostgreSQL cannot have its socket in {directory}: the path has a comma, or more than "
                          f"{_PATH_BYTES_LIMIT} bytes; choose another --directory")  # fmt: skip
    closed = [each for each in directory.parent.parents if not each.stat().st_mode & 0o001]
    if closed and server_account():
        raise ConfigError(f"PostgreSQL runs as postgres, not as root, and may not enter {closed[-1]}: "
                          "choose another --directory")  # fmt: skip


def shipped_sql() -> list[Path]:
    """The files to apply, once what writes the database is there too. Raises ConfigError."""
    if find_spec("asyncpg") is None:
        raise ConfigError(_LACKING.format("asyncpg", "pip install 'tidegate[historian]'"))
    for each in _SQL:
        if each.is_dir():
            return [each / "schema.sql", each / "accounts.sql"]
    raise ConfigError(_LACKING.format(_SQL[-1], "start the demo in a clone, or install the Debian package tidegate"))
