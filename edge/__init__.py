"""The Tidegate runtime: it knows time, disk and uplink, and names no protocol."""

from __future__ import annotations

import os

# numpy's linear algebra starts a thread per core; we compare and copy columns, and a gateway stays small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
