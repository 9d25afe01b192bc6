"""Every error names who acts on it, and has the code of its kind.

A message is one sentence with the name of the thing, what happened and what would help.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from edge.codes import ErrorCode as ErrorCode  # noqa: PLC0414 - Taken from here, with the errors.

ErrorT = TypeVar("ErrorT", bound="TidegateError")


class TidegateError(Exception):
    """The base class of every error that Tidegate raises.

    Attributes:
        code: the kind of failure, as `tidegate explain` knows it: that of the class, or a narrower one; None where a
            program beside the gateway has one of its own.
    """

    default_code: ClassVar[ErrorCode | None] = None

    def __init__(self, *args: object, code: ErrorCode | None = None) -> None:
        super().__init__(*args)
        self.code = code or self.default_code


def code_of(error: BaseException | None) -> ErrorCode | None:
    """The code of an error, or of the one that it was raised from; None where neither has one."""
    while error is not None and not isinstance(error, TidegateError):
        error = error.__cause__
    return None if error is None else error.code


def copied(error: ErrorT) -> ErrorT:
    """The same error without its traceback, which holds whole messages: for each who waited, to raise it anew."""
    made = error.__class__.__new__(error.__class__, *error.args)
    made.__dict__.update(error.__dict__)
    return made


@dataclass(frozen=True, slots=True)
class Problem:
    """One error or warning in a configuration, and where."""

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        path = f"{self.path}: " if self.path else ""
        mark = "warning: " if self.severity == "warning" else ""
        return f"{where}{path}{mark}{self.message}"


class ConfigError(TidegateError):
    """The engineer acts, now: nothing was started."""

    default_code = ErrorCode.CONFIGURATION

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class DeviceUnreachable(TidegateError):
    """Time helps: BAD samples, back-off, another attempt."""

    default_code = ErrorCode.DEVICE_LOST


_REMEDIES = {
    errno.ECONNREFUSED: "is the port right, and does its server run?",
    errno.EHOSTUNREACH: "is the address right, and is it switched on?",
    errno.ENETUNREACH: "is the address right, and is there a route to its network?",
}


def unreachable(name: str, error: OSError) -> DeviceUnreachable:
    """The error to raise where a connection to a host and port failed."""
    # asyncio calls every failure "Connect call failed"; the kernel's number tells them apart. Name resolution has
    # negative numbers and texts of its own.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    remedy = _REMEDIES.get(number) if number >= 0 else "is the name right?"
    text = f"{name} cannot be reached: {reason}" + (f"; {remedy}" if remedy else "")
    return DeviceUnreachable(text, code=ErrorCode.DEVICE_UNREACHABLE)


def ended(name: str, error: Exception | None, *, has_answered: bool) -> DeviceUnreachable:
    """The error to raise where a device ended a connection, whether or not it had answered anything on it."""
    how = f"broke the connection ({error})" if error else "closed the connection"
    if has_answered:
        return DeviceUnreachable(f"{name} {how}")
    # What serves one client, or a few, lets the next one in and shows it out.
    why = f"{name} {how} before its first answer; has it room for one more client?"
    return DeviceUnreachable(why, code=ErrorCode.DEVICE_OCCUPIED)


class DeviceRefused(TidegateError):
    """The engineer acts, today: retried slowly, reported once."""

    default_code = ErrorCode.DEVICE_REFUSED


class ProtocolViolation(TidegateError):
    """The vendor acts: the session is dropped, the offending bytes are kept for the log."""

    default_code = ErrorCode.DEVICE_PROTOCOL

    def __init__(self, field: str, expected: object, got: object, data: bytes = b"") -> None:
        self.field, self.expected, self.got, self.data = field, expected, got, data
        super().__init__(f"{field}: expected {expected}, got {got}")


class ForeignSocket(TidegateError, ValueError):
    """Whoever runs the machine acts: another account listens at a socket, and was neither asked nor believed."""

    default_code = ErrorCode.FOREIGN_SOCKET


class BufferFull(TidegateError):
    """Operations act: reading goes on, what is dropped is declared."""

    default_code = ErrorCode.BUFFER_FULL


class ArchiveRemoved(TidegateError):
    """Operations act: what the relay knows is in no file any more, and it has to begin again."""

    default_code = ErrorCode.ARCHIVE_REMOVED


class BrokerUnreachable(TidegateError):
    """Time or operations heal it: everything stays in the buffer."""

    default_code = ErrorCode.BROKER_LOST
    is_for_long = False


class BrokerRefused(TidegateError):
    """Operations act: the broker said no, with an MQTT reason code."""

    default_code = ErrorCode.BROKER_REFUSED

    def __init__(self, message: str, reason_code: int, *, code: ErrorCode | None = None) -> None:
        self.reason_code = reason_code
        super().__init__(message, code=code)

    @property
    def is_for_long(self) -> bool:
        """Whether trying again soon cannot help: session taken over, use another server, server moved."""
        return self.reason_code in (0x8E, 0x9C, 0x9D)


class ChainBroken(TidegateError):
    """Quality assurance acts: the chain is not extended, a new one starts and says why."""

    default_code = ErrorCode.CHAIN_BROKEN
