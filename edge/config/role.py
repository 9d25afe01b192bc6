"""What a gateway process does; known before anything of a configuration is loaded."""

from __future__ import annotations

from typing import Literal

Role = Literal["all", "acquire", "forward"]
"""Everything, only the device side, or only the network side."""
