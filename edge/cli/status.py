"""`tidegate status`: the status of a running gateway or relay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.output import ExistingPath, Failure, print_json
from edge.config.sockets import GROUP, of_role_forward
from edge.errors import ConfigError, ErrorCode, ForeignSocket
from edge.health import StatusSnapshot, read_status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from edge.health.monitoring import Figure
    from edge.health.problems import StatusAnswer

EXIT_PROBLEMS = 1
ANSWER = "edge.health.problems:StatusAnswer"  # A name: it is loaded when it is needed.
_PERIOD_S = 1.0


class _Command(click.Command):
    """With --check every end has an exit code and a line for monitoring: also a wrong option, and a fault of ours."""

    def make_context(self, info_name: str | None, args: list[str], *arguments: Any, **more: Any) -> click.Context:
        is_check = "--check" in args  # Parsing empties the list.
        try:
            return super().make_context(info_name, args, *arguments, **more)
        except click.ClickException as error:
            if is_check:
                _end_unknown(error.format_message())
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.params["is_check"]:
                _end_unknown(_first_line(error))
            raise


@click.command(
    cls=_Command,
    epilog="""\b
Examples:
  tidegate status configs/line-4.yaml
  tidegate status configs/line-4.yaml --watch
  tidegate status configs/line-4.yaml --tags bioreactor-1
  tidegate status configs/line-4.yaml --problems || mail -s "line-4" root
  tidegate status --socket /var/lib/tidegate/status.sock --json | jq .uplink.state
  tidegate status --socket /var/lib/tidegate/status.sock --check --warning waiting_age=900

Exit code 0: it answers. 1: no answer there; with --problems also: it answers, and is not OK. With --check 0: fine.
1: warning. 2: critical, also where nothing answers. 3: unknown.""",
)
@click.argument("config", required=False, type=ExistingPath(path_type=Path))
@click.option("--socket", "path", type=click.Path(path_type=Path), help="Status socket of the gateway or relay.")
@click.option("--tags", "device", is_flag=False, flag_value="", metavar="[DEVICE]",
              help="Show all values of a device, or of all: value, unit, quality and its reason, age.")  # fmt: skip
@click.option("--problems", "only_problems", is_flag=True, help="Show the problems only; exit code 1 unless it is OK.")
@click.option("--check", "is_check", is_flag=True,
              help="One line with figures, and the exit code of a plugin of Nagios and its relatives.")  # fmt: skip
@click.option("--warning", "warnings", multiple=True, metavar="FIGURE=RANGE",
              help="With --check: where the figure is fine; outside is a warning. May be repeated.")  # fmt: skip
@click.option("--critical", "criticals", multiple=True, metavar="FIGURE=RANGE",
              help="With --check: where the figure is fine; outside is critical. May be repeated.")  # fmt: skip
@click.option("--watch", is_flag=True, help="Show it again every second, in the size of the window, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def command(
    config: Path | None, path: Path | None, *, device: str | None, only_problems: bool, is_check: bool,
    warnings: tuple[str, ...], criticals: tuple[str, ...], watch: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show how a running gateway or relay is: verdict, problems with what helps, and a row for each device.

    Name either its configuration file CONFIG or its socket.
    """
    if watch and as_json:
        raise click.UsageError("--watch is for people and --json for scripts: choose one")
    if only_problems and device is not None:
        raise click.UsageError("--problems and --tags are two screens: choose one")
    if is_check and (watch or as_json or only_problems or device is not None):
        raise click.UsageError("--check is one line by itself: leave the other options")
    if not is_check and (warnings or criticals):
        raise click.UsageError("--warning and --critical are limits for --check: add it")
    socket_path, target = _place(config, path)
    if is_check:
        _check(socket_path, _figures(warnings, criticals))

    def ask() -> StatusAnswer:
        return ask_status(socket_path) if device is None else _ask_values(socket_path, device)

    draw = _screen(target, device, only_problems=only_problems)
    if watch:
        _watch(ask, draw)
        return
    answer = ask()
    if as_json:
        print_json(answer)
    else:
        _print(draw, answer)
    if only_problems and answer.verdict != "OK":
        raise SystemExit(EXIT_PROBLEMS)


def _figures(warnings: tuple[str, ...], criticals: tuple[str, ...]) -> tuple[Figure, ...]:
    from edge.health.monitoring import Range, limited

    def parsed(texts: tuple[str, ...]) -> dict[str, Range]:
        return {name: Range.parse(text) for name, _, text in (each.partition("=") for each in texts)}

    try:
        return limited(parsed(warnings), parsed(criticals))
    except (LookupError, ValueError) as error:
        raise click.UsageError(str(error.args[0])) from error


def _check(path: Path, figures: tuple[Figure, ...]) -> None:
    """Print the line and end with its code: critical where nothing answers, as nothing may be recorded then."""
    from edge.health.monitoring import Code, check_line, line

    try:
        code, text = check_line(ask_status(path), figures)
    except Failure as failure:
        is_away = isinstance(failure.__cause__, OSError | ForeignSocket) and not isinstance(
            failure.__cause__, PermissionError
        )
        code = Code.CRITICAL if is_away else Code.UNKNOWN
        text = line(code, "status", [failure.message])
    click.echo(text)
    raise SystemExit(int(code))


def _end_unknown(why: str) -> None:
    from edge.health.monitoring import Code, line

    click.echo(line(Code.UNKNOWN, "status", [why]))
    raise SystemExit(int(Code.UNKNOWN))


def _first_line(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, ConfigError):
        return str(error.problems[0])
    return f"{type(error).__name__}: {error}"


_Draw = Callable[["StatusAnswer", int, int | None], "list[Text]"]


def _screen(target: str, device: str | None, *, only_problems: bool) -> _Draw:
    from edge.health.render import render, render_problems, render_tags

    if only_problems:
        return render_problems
    return partial(render, target=target) if device is None else render_tags


def _place(config: Path | None, path: Path | None) -> tuple[Path, str]:
    """The socket, and how a command names it."""
    if path is not None and config is None:
        return path, f"--socket {path}"
    if config is not None and path is None:
        return configured_socket(config), str(config)
    raise click.UsageError("name either a configuration file or --socket PATH")


def configured_socket(config: Path) -> Path:
    """The status socket of a configuration. Raises ConfigError."""
    # What checks settings takes a while to load, and `--socket` does not need it.
    from edge.config.check import check
    from edge.config.settings import RelaySettings

    checked = check(config, device="")  # A device that was written wrong since the start says nothing of the socket.
    is_relay = isinstance(checked.settings, RelaySettings)
    return checked.relay().relay.status_socket if is_relay else checked.gateway().status_socket


def ask_status(path: Path) -> StatusAnswer:
    """The answer of a gateway or relay, judged; raises Failure where none answers."""
    from edge.health.problems import StatusAnswer

    try:
        return StatusAnswer.of(_with_uplink(read_status(path), path), version("tidegate"))
    except PermissionError as error:
        raise Failure(f"{path}: this user may not ask; ask as root, or as a member of the group {GROUP}",
                      code=ErrorCode.MAY_NOT_ASK) from error  # fmt: skip
    except OSError as error:
        why = f"{path}: no answer ({error.strerror or error}); is the gateway or relay running?"
        raise Failure(why, code=ErrorCode.NOT_RUNNING) from error
    except ForeignSocket as error:
        raise Failure(str(error)) from error
    except ValueError as error:
        raise Failure(f"{path}: what answers there is not a Tidegate status socket") from error


def _with_uplink(snapshot: StatusSnapshot, path: Path) -> StatusSnapshot:
    """The two processes of one gateway as one answer, where its sending half runs by itself."""
    if snapshot.gateway.role != "acquire":
        return snapshot
    try:
        sending = read_status(of_role_forward(path))
    except ForeignSocket:
        raise
    except (OSError, ValueError):
        return snapshot
    return replace(snapshot, uplink=sending.uplink, certificates=snapshot.certificates + sending.certificates)


def _ask_values(path: Path, device: str) -> StatusAnswer:
    """The same with all values of a device, or of all devices; raises Failure."""
    from edge.gateway.control import GatewayRefuses, ask_values

    answer = ask_status(path)
    if not answer.gateway.live_socket:
        raise Failure(f"{answer.gateway.name} reads no devices: ask the gateway that does")
    try:
        values = ask_values(Path(answer.gateway.live_socket), device)
    except GatewayRefuses as error:
        raise Failure(str(error)) from error
    except LookupError as error:
        known = ", ".join(each.name for each in answer.devices)
        raise Failure(f"{error}; it has {known}") from error
    if values is None:
        raise Failure(f"{answer.gateway.live_socket}: no answer there; is the gateway stopping?")
    return replace(answer, devices=values.devices)


def _print(draw: _Draw, answer: StatusAnswer) -> None:
    from rich.text import Text

    console = make_console()
    console.print(Text("\n").join(draw(answer, console.width, None)), soft_wrap=True)


def make_console() -> Console:
    """Where a screen is printed: a terminal, or a pipe of a fixed width."""
    from rich.console import Console

    from edge.terminal import PIPE_WIDTH

    console = Console(highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def _watch(ask: Callable[[], StatusAnswer], draw: _Draw) -> None:
    """Redraw every second in the alternate screen; a gateway that stops and comes back is waited for."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from edge.health.render import clamp, outdated
    from edge.terminal import fit_to_terminal

    console, answer = make_console(), ask()
    answered_s = time.monotonic()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                fit_to_terminal(console)
                width, height = console.size
                lines = draw(answer, width, height)
                try:
                    answer, answered_s = ask(), time.monotonic()
                    lines = draw(answer, width, height)
                except Failure as failure:
                    age_ns = int((time.monotonic() - answered_s) * 1e9)
                    lines = clamp(outdated(failure.message, age_ns, lines, width), height)
                live.update(Group(*lines) if lines else Text(), refresh=True)
                time.sleep(_PERIOD_S)
        except KeyboardInterrupt:
            return
