"""Write the test vectors, or compare them with the file."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

from tests.support.vectors import certificates, chains, frames, good, growth, headers, packed, payloads
from tests.support.vectors.content import TRUST
from tests.support.vectors.wire import Case

ROOT = Path(__file__).parents[3]
FILE = ROOT / "docs/reference/vectors/vectors.json"
SHIPPED = ROOT / "edge/qualify/vectors.json"
"""Of each set of verdicts the shortest case: with these `tidegate qualify` tries the verifier that is installed."""


def all_cases() -> list[Case]:
    """Every case, in the order of the file."""
    reading = chain(packed.cases(), payloads.cases(), growth.beyond())
    return [
        *good.cases(), *frames.cases(), *headers.cases(), *chains.cases(), *certificates.cases(), *growth.cases(),
        *(replace(case, reading=True) for case in reading),
    ]  # fmt: skip


def shipped_cases() -> list[Case]:
    """The shortest case of each set of verdicts."""
    shortest: dict[frozenset[str], Case] = {}
    for case in sorted(all_cases(), key=lambda each: len(json.dumps(each.json()["records"]))):
        shortest.setdefault(frozenset(str(each) for each in case.verdicts), case)
    return list(shortest.values())


def text(of: list[Case]) -> str:
    """A file: JSON with a line for each trust anchor and each case."""
    anchors = ",\n".join(f"{json.dumps(name)}: {json.dumps(pem)}" for name, pem in (TRUST | certificates.TRUST).items())
    cases = ",\n".join(json.dumps(case.json(), ensure_ascii=False) for case in of)
    return f'{{"trust": {{\n{anchors}\n}}, "cases": [\n{cases}\n]}}\n'


def main() -> int:
    """0, or 1 when the file is not what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a file differs")
    files = {FILE: text(all_cases()), SHIPPED: text(shipped_cases())}
    if parser.parse_args().check:
        return int(any(not file.exists() or file.read_text("utf-8") != wanted for file, wanted in files.items()))
    for file, wanted in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
