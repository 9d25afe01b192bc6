"""The configuration that a gateway runs and those before it, as the gateway says or from its state directory."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.cli.output import Failure
from edge.config.kept import digest_on_record, held, unpack
from edge.config.settings import GatewaySettings
from edge.config.written import unpacked_files
from edge.gateway.control import GatewayRefuses, Request, ask


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldConfiguration:
    """A configuration that was taken into use.

    Attributes:
        document: as it was written, with types and tables put in.
        files: as they were; none where an earlier version kept none.
        is_running: whether a gateway that runs has said so.
    """

    digest: bytes
    document: Any
    files: Mapping[str, bytes]
    is_running: bool


def held_configuration(settings: GatewaySettings, number: int = 0) -> HeldConfiguration:
    """The configuration that runs, or was on record last; with a number, the one so many before it.

    Raises:
        Failure: it is not kept, or this account may not see it.
    """
    try:
        question = Request(ask="configuration", device="", path=str(number))
        answer = asyncio.run(ask(settings.gateway.control_socket, question))
        if answer is not None:
            return _held(bytes.fromhex(answer["digest"]), b64decode(answer["packed"]), b64decode(answer["files"]),
                         is_running=True)  # fmt: skip
        return _from_state(settings, number)
    except GatewayRefuses as error:
        raise Failure(str(error)) from error
    except LookupError as error:
        raise Failure(str(error.args[0])) from error
    except (OSError, ValueError) as error:
        raise Failure(f"no gateway {settings.gateway.name} runs, and what is kept in {settings.gateway.state} cannot "
                      f"be read: {error}; try it as root") from error  # fmt: skip


def _from_state(settings: GatewaySettings, number: int) -> HeldConfiguration:
    state = settings.gateway.state
    digest = digest_on_record(state)
    if not digest:
        list(state.iterdir())  # It says why, where that is because of who asks.
        raise LookupError(f"{settings.gateway.name} has not run yet: no configuration is on record in {state}")
    return _held(*held(state, digest, number), is_running=False)


def _held(digest: bytes, packed: bytes, files: bytes, *, is_running: bool) -> HeldConfiguration:
    return HeldConfiguration(digest=digest, document=unpack(packed), files=unpacked_files(files) if files else {},
                             is_running=is_running)  # fmt: skip
