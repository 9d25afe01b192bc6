"""Switches of a rig: power and networks that a scenario turns off, and that are on again after it, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

from edge.errors import TidegateError

State = Literal["on", "off"]

_TURN_S = 30.0


class SwitchFailed(TidegateError):
    """A switch did not do what it was asked; the message has what its command said."""


class Switch:
    """One switch.

    Attributes:
        name: what it switches: `filler-1 power`.
        is_on: as it was turned last; it is on when a scenario begins.
    """

    def __init__(self, name: str, turn: Callable[[State], Awaitable[None]]) -> None:
        self.name = name
        self.is_on = True
        self._turn = turn

    async def on(self) -> None:
        """Turn it on. Raises SwitchFailed."""
        await self._turn("on")
        self.is_on = True

    async def off(self) -> None:
        """Turn it off. Raises SwitchFailed; it may be off all the same, and is turned on after the scenario."""
        self.is_on = False
        await self._turn("off")


def command_switch(name: str, command: Sequence[str], folder: Path) -> Switch:
    """A switch that is turned by a command in a folder, called with `on` or `off` as its last argument."""

    async def turn(state: State) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, state, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            raise SwitchFailed(f"{name}: {command[0]} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(_TURN_S):
                output, _ = await process.communicate()
        except TimeoutError:
            raise SwitchFailed(f"{name}: {command[0]} {state} did not end within {_TURN_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            said = output.decode("utf-8", "replace").strip()[-500:] or "nothing"
            raise SwitchFailed(f"{name}: {command[0]} {state} ended with {process.returncode}, and said: {said}")

    return Switch(name, turn)
