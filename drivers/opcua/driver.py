"""The OPC UA driver: what the gateway asks for by name.

asyncua takes a quarter of a second and 40 MB to import: a thread does it before the first session.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from types import ModuleType


async def loaded(module: str) -> ModuleType:
    """A module of this driver that needs the protocol library, imported without holding up the loop."""
    return await asyncio.to_thread(import_module, f"drivers.opcua.{module}")
