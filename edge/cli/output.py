"""What commands print for scripts: JSON on standard output, failures too.

An answer is a frozen dataclass, which also gives its schema: see `docs/reference/json.md`. Sentences for people about
what went wrong go to standard error, with and without `--json`.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import click

from edge.cli import EXIT_CONFIG, EXIT_NO, EXIT_STOPPED
from edge.errors import ConfigError, ErrorCode, Problem, code_of

MORE = "more: tidegate explain {}"
"""The line below a sentence about a failure that has a code."""
JSON_VERSION = 1
"""Grows when a member is renamed, removed or changes its meaning; new members leave it as it is."""


class Failure(click.ClickException):
    """The command ran and the answer is no: its message is printed, and the exit code is 1."""

    exit_code = EXIT_NO

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        """`code` is that of the error which it is raised from, unless another is given."""
        super().__init__(message)
        self._code = code

    @property
    def code(self) -> ErrorCode | None:
        """What `tidegate explain` calls the failure; None where the message says all."""
        return self._code or code_of(self.__cause__)

    def show(self, file: Any = None) -> None:
        """Print the message, as every command does, and where to read more."""
        click.echo(self.message, file=file, err=file is None)
        if self.code is not None:
            click.echo(MORE.format(self.code), file=file, err=file is None)


class ExistingPath(click.Path):
    """The path of what has to be there; click says of one that this user may not see that it does not exist."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(exists=True, **keys)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.Path.convert`."""
        try:
            os.stat(value)  # noqa: PTH116 - as click does
        except PermissionError:
            self.fail(f"{os.fsdecode(value)} is in a directory that this user may not enter; try it as the user that "
                      "made it, or as root", param, ctx)  # fmt: skip
        except (OSError, ValueError):
            pass  # What click says of it is right.
        return super().convert(value, param, ctx)


class Stopped(Failure):
    """The command was ended with Ctrl-C: its message says how far it got, and the exit code is 130."""

    exit_code = EXIT_STOPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemAnswer:
    """One problem or warning of a configuration, and where."""

    file: str
    line: int
    """Line and column count from 1; 0 where the problem is of the whole file."""
    column: int
    path: str
    """The key, such as devices[0].host."""
    message: str

    @classmethod
    def of(cls, problem: Problem) -> ProblemAnswer:
        """The problem as it is printed."""
        return cls(
            file=problem.file, line=problem.line, column=problem.column, path=problem.path, message=problem.message
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """Why a command gives no answer."""

    kind: Literal["failed", "usage", "configuration"]
    """failed: it ran and the answer is no; usage: the command line; configuration: the file."""
    exit_code: int
    message: str
    code: str = ""
    """What `tidegate explain` calls it; empty where the message says all."""
    problems: tuple[ProblemAnswer, ...] = ()
    """Every problem of a configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureAnswer:
    """What a command prints with `--json` in place of its answer."""

    error: ErrorAnswer


def print_json(answer: object) -> None:
    """Print an answer as one indented JSON object, which begins with the version of this form."""
    click.echo(json_bytes(answer), nl=False)


def json_bytes(answer: object) -> bytes:
    """What `print_json` prints, for a file."""
    import orjson

    return orjson.dumps(_with_version(answer), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def print_json_line(answer: object) -> None:
    """Print one answer of many as a line."""
    import orjson

    click.echo(orjson.dumps(_with_version(answer)))


def _with_version(answer: object) -> dict[str, Any]:
    if is_dataclass(answer):
        return {"json_version": JSON_VERSION, **{each.name: getattr(answer, each.name) for each in fields(answer)}}
    assert isinstance(answer, Mapping)
    return {"json_version": JSON_VERSION, **answer}


def fail(error: Exception, *, as_json: bool) -> int:
    """Say why a command gives no answer, and return its exit code; what is a bug is raised again."""
    if isinstance(error, ConfigError):
        _show_problems(error)
        problems = tuple(map(ProblemAnswer.of, error.problems))
        answer = ErrorAnswer(kind="configuration", exit_code=EXIT_CONFIG, message=_plain(str(error)),
                             code=ErrorCode.CONFIGURATION.id, problems=problems)  # fmt: skip
    elif isinstance(error, click.ClickException):
        if isinstance(error, click.MissingParameter):
            error = _explained(error)
        error.show()
        kind: Literal["usage", "failed"] = "usage" if error.exit_code == click.UsageError.exit_code else "failed"
        code = error.code.id if isinstance(error, Failure) and error.code else ""
        message = _plain(error.format_message())
        answer = ErrorAnswer(kind=kind, exit_code=error.exit_code, message=message, code=code)
    elif isinstance(error, OSError) and error.filename is not None:
        return fail(click.UsageError(f"{os.fsdecode(error.filename)}: {error.strerror}"), as_json=as_json)
    else:
        raise error
    if as_json:
        print_json_line(FailureAnswer(error=answer))
    return answer.exit_code


def _explained(error: click.MissingParameter) -> click.UsageError:
    """What is missing, what it is, and the first example of the command's help."""
    if error.param is None or error.ctx is None:
        return error
    is_option = isinstance(error.param, click.Option)
    what = f": {error.param.help}" if isinstance(error.param, click.Option) and error.param.help else "."
    name = error.param.opts[-1] if is_option else error.param.make_metavar(error.ctx)
    example = re.search(r"^ +(tidegate .*)$", error.ctx.command.epilog or "", re.MULTILINE)
    return click.UsageError(f"{name} is missing{what}" + (f" An example: {example[1]}" if example else ""), error.ctx)


def _show_problems(error: ConfigError) -> None:
    click.echo(str(error), err=True)
    if any(problem.file for problem in error.problems):
        count = sum(problem.severity == "error" for problem in error.problems)
        click.echo(f"{count} problem{'s' * (count != 1)}; nothing was started", err=True)


def _plain(text: str) -> str:
    """The text without what JSON cannot hold: the bytes of a file name that are no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def end_with_closed_pipe() -> None:
    """End as other programs do where who reads the output has gone (`tidegate plan FILE | head -1`): without a word."""
    poll = select.poll()
    poll.register(1, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - the rest goes nowhere
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
