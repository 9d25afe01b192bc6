"""What comes over a line: frames, our own echo, and noise."""

from __future__ import annotations

from collections.abc import Container, Iterator

from drivers.modbus.framing import Framing

_WAITING_MAX = 4096  # Bytes that may be the beginning of a frame: far more than one is long.
_KEPT_BYTES = 260


class Hearing:
    """Takes frames from bytes, and keeps count of the rest.

    Attributes:
        noise: the beginning of what belongs to no answer, since the last question.
        noise_bytes: how much that is.
        noise_bytes_in_a_row: how much it is since the last answer.
    """

    def __init__(self, framing: Framing, heads: Container[bytes]) -> None:
        self.noise = bytearray()
        self.noise_bytes = self.noise_bytes_in_a_row = 0
        self._framing, self._heads = framing, heads
        self._received = bytearray()
        self._echo = b""

    @property
    def begun(self) -> bytes:
        """What came and may be the beginning of a frame."""
        return bytes(self._received)

    def ask(self, echo: bytes) -> None:
        """A question begins: what came before it is over. `echo` is what comes back to us of it."""
        self._received.clear()
        self.noise.clear()
        self.noise_bytes = 0
        self._echo = echo

    def frames(self, data: bytes) -> Iterator[bytes]:
        """The bodies of the frames that are whole with these bytes."""
        self._received += data
        if len(self._received) > _WAITING_MAX:
            self.give_up()
        if self._echo and not self._is_past_echo():
            return
        while self._received:
            found = self._framing.find(self._received, self._heads)
            self.count(self._received[: found.start])
            del self._received[: found.end]
            if found.body is None:
                return
            yield found.body

    def give_up(self) -> None:
        """What has begun will not become a frame any more."""
        self.count(self._received)
        self._received.clear()

    def count(self, noise: bytes | bytearray) -> None:
        """Something belongs to no answer."""
        self.noise_bytes += len(noise)
        self.noise_bytes_in_a_row += len(noise)
        self.noise += noise[: max(0, _KEPT_BYTES - len(self.noise))]

    def _is_past_echo(self) -> bool:
        """Take our own frame off what came; an adapter that does not send it back is none that echoes."""
        echo = self._echo
        if len(self._received) < len(echo) and echo.startswith(self._received):
            return False
        if self._received.startswith(echo):
            del self._received[: len(echo)]
        self._echo = b""
        return True
