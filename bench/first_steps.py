"""U1, U2 and the byte order of U3: what a new user needs, in time and in commands.

U1 makes a fresh clone of this repository and runs `make demo` in it, packages downloaded without a cache, until the
demo has verified its archive; and types the page for a first value of each protocol beside a device. U2 checks a file
with planted mistakes. Then a device sends floats in every order of bytes, all of them configured in one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.results import Row, store
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from tests.peers.pages.devices import beside_logix, beside_modbus, beside_opc_ua, beside_serial
from tests.support.typist import ROOT, Typist

MISTAKES = Path(__file__).with_name("planted_mistakes.yaml")
PAGES: dict[str, tuple[str, Callable[[Path], AbstractContextManager[Typist]]]] = {
    "Modbus TCP": ("docs/how-to/first-modbus.md", beside_modbus),
    "OPC UA": ("docs/how-to/first-opc-ua.md", beside_opc_ua),
    "Logix": ("docs/how-to/first-logix.md", beside_logix),
    "serial": ("docs/how-to/first-serial.md", beside_serial),
}
_VERIFIED = re.compile(r"^Records +([\d,]+) of \1 carry a valid signature, none missing$", re.MULTILINE)
_TIDEGATE = (sys.executable, "-m", "edge.cli")
_COMMAND = "python -m bench.first_steps"
_ORDERS: tuple[Literal["big", "little"], ...] = ("big", "little")
_SENT = 21.4


@dataclass(frozen=True, slots=True)
class Found:
    """How `tidegate check` judged the planted mistakes.

    Attributes:
        planted: mistakes in the file.
        said: of them those that are a problem on their line, with a column and what helps.
        others: problems that nobody planted.
    """

    planted: int
    said: int
    others: int


def planted() -> Iterator[tuple[int, str]]:
    """Line of each planted mistake, and what has to be said of it."""
    for number, line in enumerate(MISTAKES.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("#"):
            yield from ((number, remedy.strip()) for remedy in line.split("#:")[1:])


def check_planted() -> Found:
    """Check the file with planted mistakes."""
    ran = _tidegate("check", str(MISTAKES), "--json")
    [answer] = json.loads(ran)["configurations"]
    problems = {(each["line"], each["column"], each["message"]) for each in answer["problems"]}
    mistakes = list(planted())
    said = 0
    for line, remedy in mistakes:
        for problem in problems:
            if problem[0] == line and problem[1] > 0 and remedy in problem[2]:
                problems.remove(problem)
                said += 1
                break
    return Found(len(mistakes), said, len(problems))


async def orders_found(folder: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What one `tidegate test` says of floats in every order, all configured as big: verdict and remarks, by order."""
    orders = [(words, data) for words in _ORDERS for data in _ORDERS]
    signals = [
        Signal(f"holding {10 * at}", "float32", steady(_SENT), word_order=words, byte_order=data)
        for at, (words, data) in enumerate(orders)
    ]
    tags = [{"name": f"{words} {data}", "address": f"holding {10 * at}", "type": "float32"}
            for at, (words, data) in enumerate(orders)]  # fmt: skip
    async with SimulatedDevice({1: SimulatedUnit(signals)}) as device:
        groups = [{"every": "1 s", "tags": [{**tag, "name": tag["name"].replace(" ", "-")} for tag in tags]}]
        mixer = {"name": "mixer", "driver": "modbus", "host": "127.0.0.1", "port": device.port, "scan_groups": groups}
        site = {"gateway": {"name": "line-4", "path": "acme", "state": "state"}, "devices": [mixer]}
        (folder / "site.yaml").write_text(json.dumps(site))
        answer = json.loads(await asyncio.to_thread(_tidegate, "test", str(folder / "site.yaml"), "mixer", "--json"))
    return {tag["tag"]: (tag["verdict"], tuple(tag["remarks"])) for tag in answer["tags"]}


def names_order(tag: str, remarks: tuple[str, ...]) -> bool:
    """Whether the remarks name the order that a tag is in."""
    words, data = tag.split("-")
    wanted = [f"{key} little" for key, order in (("word_order", words), ("byte_order", data)) if order == "little"]
    return any(all(each in remark for each in wanted) and f" {_SENT}" in remark for remark in remarks)


def demo() -> Row:
    """A fresh clone, and the one command of the README in it."""
    with tempfile.TemporaryDirectory(prefix="tidegate-first-") as folder:
        clone = Path(folder) / "tidegate"
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), str(clone)], check=True)
        kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PIP_FIND_LINKS")}
        begun_s, before = time.monotonic(), os.times()
        with subprocess.Popen(
            ["make", "demo"], cwd=clone, env={**kept, "PIP_NO_CACHE_DIR": "1"}, stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            ready_s, shown = 0.0, ""
            for line in run.stdout:
                shown += line
                if " are started" in line:
                    ready_s = time.monotonic() - begun_s
        took_s, after = time.monotonic() - begun_s, os.times()
        assert _VERIFIED.search(shown), shown
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    busy = f"{os.getloadavg()[0]:.0f} programs at a time on {os.cpu_count()} cores"
    return Row(
        figure="U1 fresh clone to verified data of the demo", goal="one command, <= 90 s",
        measured=f"`make demo`: {took_s:.0f} s, of them {ready_s:.0f} s until the plant runs, all packages downloaded, "
                 f"then its minute; CPU {cpu_s:.0f} s; {busy}",
        command=_COMMAND,
    )  # fmt: skip


def first_value(protocol: str) -> Row:
    """The whole page for a first value, typed without a pause, with its mistakes."""
    page, beside = PAGES[protocol]
    with tempfile.TemporaryDirectory(prefix="tidegate-first-") as folder, beside(Path(folder)) as person:
        begun_s = time.monotonic()
        person.type_page(page)
        took_s = time.monotonic() - begun_s
        text = (Path(folder) / "line-4.yaml").read_text()
        count = sum(command.startswith("tidegate ") for command in person.commands)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return Row(
        figure=f"U1 first value, {protocol}", goal="a file of <= 12 lines, <= 5 min",
        measured=f"{len(lines)} lines; {count} commands from `init` to `verify`, the usual mistakes among them, take "
                 f"{took_s:.0f} s without the typing",
        command=_COMMAND,
    )  # fmt: skip


def _tidegate(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([*_TIDEGATE, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return ran.stdout


def planted_mistakes() -> Row:
    """U2, as a row."""
    found = check_planted()
    return Row(
        figure="U2 planted mistakes of a configuration", goal="20 problems of 20, each with line, column and remedy",
        measured=f"{found.said} of {found.planted}, {found.others} others, in one pass", command=_COMMAND,
    )  # fmt: skip


def byte_order() -> Row:
    """The second half of U3, as a row."""
    with tempfile.TemporaryDirectory(prefix="tidegate-first-") as folder:
        right, *wrong = asyncio.run(orders_found(Path(folder))).items()
    named = sum(names_order(tag, remarks) for tag, (_, remarks) in wrong)
    return Row(
        figure="U3 wrong byte order", goal="found with one command",
        measured=f"`tidegate test` names the order of {named} of {len(wrong)} wrong ones, and calls the right one "
                 f"{right[1][0]}",
        command=_COMMAND,
    )  # fmt: skip


PARTS: dict[str, Callable[[], list[Row]]] = {
    "demo": lambda: [demo()],
    "pages": lambda: list(map(first_value, PAGES)),
    "mistakes": lambda: [planted_mistakes()],
    "order": lambda: [byte_order()],
}


def main() -> None:
    """Measure all, or the parts that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; all by default")
    for part in parser.parse_args().parts or PARTS:
        store(PARTS[part]())


if __name__ == "__main__":
    main()
