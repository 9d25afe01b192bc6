"""The control socket: what commands on this machine ask the running gateway, so that they do not compete with it.

One connection is one question: a line of JSON, {"ask": "browse", "device": "plc", "path": "A"}; the answer is one
JSON document, or {"error": "..."} with a sentence. Who asks keeps its side open until then: to hang up withdraws a
question to a device, and no further request of it is sent. Nothing that can be asked writes to a device. Asked may be
by root, by the gateway's own account, and by the group that the socket belongs to; only the first two may have the
gateway take its own files into use again. Who asks looks in turn at who listens, before it says anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from edge import unix_sockets
from edge.accounts import account_name
from edge.errors import (
    DeviceRefused,
    DeviceUnreachable,
    ErrorCode,
    ForeignSocket,
    ProtocolViolation,
    TidegateError,
    code_of,
)
from edge.health import StatusSnapshot
from edge.logs import get_logger
from edge.scan import Busy

ANSWER_WITHIN_S = 5.0
"""How long a question may take to arrive, and an answer to be read."""
QUESTION_WITHIN_S = 20.0
"""How long a question to a device waits for time between its scans."""

_ASK_WITHIN_S = 60.0  # The driver's own time limits come on top of the wait.
_CONNECTIONS_LIMIT = 16
_REQUEST_BYTES_LIMIT = 1 << 16
_LOG_APART_S = 60.0
_KNOWN_BY = {
    "values": {"gateway"}, "read": {"values"}, "browse": {"entries", "is_browsable", "no_such_path"},
    "progress": {"state"}, "configuration": {"digest"},
}  # fmt: skip
"""What an answer has one of, where a gateway has given it."""

log = get_logger(__name__)


class GatewayRefuses(TidegateError):
    """The running gateway does not answer this question; the sentence says what would help."""

    default_code = ErrorCode.GATEWAY_REFUSES


class GatewaySilent(GatewayRefuses):
    """The running gateway took the question, and gave no answer: what it did is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question about one device, or about all where it is empty.

    Attributes:
        place: what tells the device from another of the same name; see `place_of`.
        tags: names of the tags to read.
        digest: of what the file of who asks has: of these tags, see `digest_of`, or of the whole configuration.
        path: where to browse; how many configurations back.
        why: the reason of an apply.
        claimed: who asks, by its own account.
        within: seconds in which changed devices come up.
        change: the head of the text by which a change was approved, `sha256` of the whole text, and its `signature`.
        user: who asks, as the kernel says, whatever is sent.
    """

    ask: str
    device: str
    place: str = ""
    tags: Sequence[str] = ()
    path: str = ""
    digest: str = ""
    why: str = ""
    claimed: str = ""
    within: str = "0"
    change: str = ""
    sha256: str = ""
    signature: str = ""
    user: int = -1

    def __post_init__(self) -> None:
        texts = (self.ask, self.device, self.place, self.digest, self.path, self.why, self.claimed, self.within,
                 self.change, self.sha256, self.signature, *self.tags)  # fmt: skip
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a question has texts only")


Answer = Callable[[Request], Awaitable[bytes]]


class ControlServer:
    """Answers on a unix socket while its block is open; an answer raises LookupError where there is none.

    What is in `owner_only` may be asked by root and the gateway's own account, and not by the group.
    """

    def __init__(
        self, path: Path, answers: Mapping[str, Answer], what: str = "control socket", *,
        owner_only: Container[str] = (),
    ) -> None:  # fmt: skip
        self._path, self._what = path, what
        self._answers, self._owner_only = answers, owner_only
        self._open: set[asyncio.StreamWriter] = set()
        self._logged: tuple[tuple[int, str, str], float] = ((-1, "", ""), 0.0)

    async def __aenter__(self) -> Self:
        """Start to listen. Raises ConfigError where the socket cannot be made there."""
        listening = await asyncio.to_thread(unix_sockets.bind, self._path, self._what)
        self._group = (await asyncio.to_thread(self._path.stat)).st_gid
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=_REQUEST_BYTES_LIMIT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if len(self._open) <= _CONNECTIONS_LIMIT:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    line = await reader.readline()
                peer = unix_sockets.Peer.of(writer.get_extra_info("socket").fileno())
                async with asyncio.timeout(_ASK_WITHIN_S):
                    answer = await _while_there(reader, self._answer(line, peer))
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    writer.write(answer)
                    writer.close()
                    await writer.wait_closed()
        except (OSError, ValueError):
            pass  # It asked too late or too much, read too slowly, or went away.
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, line: bytes, peer: unix_sockets.Peer) -> bytes:
        try:
            request = Request(**orjson.loads(line))
            answer = self._answers.get(request.ask)
        except (TypeError, ValueError):
            answer = None
        if answer is None:
            return orjson.dumps({"error": "this is not a question that a gateway of this version understands"})
        if not (peer.is_owner or (self._group in peer.groups and request.ask not in self._owner_only)):
            account = await asyncio.to_thread(account_name, peer.user)
            group = "" if request.ask in self._owner_only else ", nor in the group of the socket"
            why = f"the account {account} may not ask: it is neither root, nor the gateway's own{group}"
            return _refusal("refused", GatewayRefuses(why, code=ErrorCode.MAY_NOT_ASK))
        await self._log(request, peer.user)
        try:
            return await answer(replace(request, user=peer.user))
        except (Busy, GatewayRefuses) as error:
            return _refusal("refused", error)
        except LookupError as error:
            return orjson.dumps({"error": str(error.args[0])})
        except (DeviceUnreachable, DeviceRefused, ProtocolViolation) as error:
            return _refusal("device", error)

    async def _log(self, request: Request, user: int) -> None:
        """Who had a device asked, once a minute."""
        who, now_s = (user, request.ask, request.device), asyncio.get_running_loop().time()
        if (
            not request.device
            or request.ask == "values"
            or (who == self._logged[0] and now_s - self._logged[1] < _LOG_APART_S)
        ):
            return
        self._logged = who, now_s
        account = await asyncio.to_thread(account_name, user)  # A directory service may take its time.
        log.info("device asked for a command", device=request.device, ask=request.ask, account=account)


async def _while_there(reader: asyncio.StreamReader, answer: Coroutine[Any, Any, bytes]) -> bytes:
    """The answer. Raises ConnectionAbortedError where who asks hangs up before it."""
    answering, gone = asyncio.ensure_future(answer), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done() and not gone.result():
            raise ConnectionAbortedError
        return await answering
    finally:
        answering.cancel()
        gone.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)


def _refusal(kind: str, error: Exception) -> bytes:
    code = code_of(error) or ErrorCode.GATEWAY_REFUSES
    return orjson.dumps({"error": str(error), "kind": kind, "code": code.id})


def ask_values(path: Path, device: str) -> StatusSnapshot | None:
    """The device, or all, with all current values, from the gateway that answers at `path`; None where none answers.

    Raises:
        LookupError: the gateway does not read that device.
        GatewayRefuses: this account may not ask it, it is stopping, or what answers there is none.
    """
    request = Request(ask="values", device=device)
    try:
        with _explained(path):
            document = unix_sockets.ask(path, _line(request), ANSWER_WITHIN_S)
            _require_answer(path, request, document)
            return StatusSnapshot.from_json(document)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


async def ask(path: Path, request: Request) -> dict[str, Any] | None:
    """The answer of the gateway that answers at `path`; None where none answers. To cancel it withdraws the question.

    Raises:
        LookupError: the gateway does not read that device.
        GatewayRefuses: it is too busy, this account may not ask it, it has other settings of these tags, it is
            stopping, or what answers there is none.
        DeviceUnreachable: the device did not answer it.
    """
    try:
        with _explained(path):
            document = await unix_sockets.ask_async(path, _line(request), _ASK_WITHIN_S)
            return _require_answer(path, request, document)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def _require_answer(path: Path, request: Request, document: bytes) -> dict[str, Any]:
    """What is answered, where a gateway answers it; raises ValueError where it ends before its end."""
    if document[:1] not in (b"{", b""):
        raise _no_gateway(path)
    answer: dict[str, Any] = orjson.loads(document)
    if isinstance(answer.get("error"), str):
        raise _error(answer)
    if (known := _KNOWN_BY.get(request.ask)) and known.isdisjoint(answer):
        raise _no_gateway(path)
    return answer


def _no_gateway(path: Path) -> GatewayRefuses:
    return GatewayRefuses(f"what answers at {path} is not a Tidegate gateway; find out what it is, and end it")


def _line(request: Request) -> bytes:
    given = {key: value for key, value in asdict(request).items() if value}
    return orjson.dumps({"device": "", **given}) + b"\n"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say why nothing was answered; that nobody listens is for the caller."""
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError):
        raise
    except PermissionError as error:
        group = ""
        with suppress(OSError, KeyError):
            group = f" or the group {path.parent.group()}"
        raise GatewayRefuses(f"this account may not ask at {path}, nor see whether a gateway runs there: that takes "
                             f"root, the gateway's account{group}", code=ErrorCode.MAY_NOT_ASK) from error  # fmt: skip
    except ForeignSocket as error:
        raise GatewayRefuses(str(error), code=error.code) from error
    except (OSError, ValueError) as error:
        raise GatewaySilent(f"the running gateway gave no answer at {path}: is it stopping? ({error})") from error


def _error(answer: Mapping[str, str]) -> Exception:
    kinds: Mapping[str | None, type[TidegateError]] = {"refused": GatewayRefuses, "device": DeviceUnreachable}
    kind = kinds.get(answer.get("kind"))
    if kind is None:
        return LookupError(answer["error"])
    codes = {each.id: each for each in ErrorCode}  # A gateway of another version may have others, or none.
    return kind(answer["error"], code=codes.get(answer.get("code", "")))
