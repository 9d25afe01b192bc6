"""The same chain as for sealing."""

from tests.edge.seal.conftest import plant

__all__ = ["plant"]
