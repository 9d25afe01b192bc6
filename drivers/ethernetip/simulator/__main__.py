"""`python -m drivers.ethernetip.simulator`: controllers in a separate process, which prints their ports."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import sys
from contextlib import AsyncExitStack

from drivers.ethernetip.simulator.controller import Controller, crowd, micro800, showcase
from drivers.ethernetip.simulator.server import LogixServer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m drivers.ethernetip.simulator", description="A Logix controller in memory."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="of the first controller; 0 for any")
    parser.add_argument("--controllers", type=int, default=1, help="how many, on a port each")
    parser.add_argument("--tags", type=int, default=0, help="this many plain tags in place of one of every kind")
    parser.add_argument("--moving", action="store_true", help="the plain tags change all the time")
    parser.add_argument("--micro800", action="store_true", help="a Micro850 in place of a ControlLogix")
    parser.add_argument("--plant", metavar="MODULE:FUNCTION", help="a function that gives a Controller")
    return parser.parse_args()


def _controller(arguments: argparse.Namespace, at: int) -> Controller:
    if arguments.plant:
        module, function = arguments.plant.split(":")
        made = getattr(importlib.import_module(module), function)()
        assert isinstance(made, Controller)
        return made
    if arguments.micro800:
        return micro800()
    return crowd(arguments.tags, name=f"Crowd{at}", is_moving=arguments.moving) if arguments.tags else showcase()


async def _serve(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        for at in range(arguments.controllers):
            port = arguments.port + at if arguments.port else 0
            server = LogixServer(_controller(arguments, at), host=arguments.host, port=port)
            await stack.enter_async_context(server)
            sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    try:
        asyncio.run(_serve(_arguments()))
    except OSError as error:
        sys.exit(f"it cannot listen there: {error.strerror}; take another --port, or none for any that is free")
