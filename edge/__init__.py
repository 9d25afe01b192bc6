"""The Tidegate runtime: it knows time, disk and uplink, and names no protocol."""

from __future__ import annotations

import os
import sys

# structlog takes rich along for tracebacks that we never draw: 60 ms and 4 MB that a gateway can do without.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog as structlog

    del sys.modules["rich"]

# numpy's linear algebra starts a thread per core; we compare and copy columns, and a gateway stays small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
