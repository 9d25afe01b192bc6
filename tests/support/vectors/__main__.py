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

FILE = Path(__file__).parents[3] / "docs/reference/vectors/vectors.json"


def all_cases() -> list[Case]:
    """Every case, in the order of the file."""
    reading = chain(packed.cases(), payloads.cases(), growth.beyond())
    return [
        *good.cases(), *frames.cases(), *headers.cases(), *chains.cases(), *certificates.cases(), *growth.cases(),
        *(replace(case, reading=True) for case in reading),
    ]  # fmt: skip


def text() -> str:
    """The file: JSON with a line for each trust anchor and each case."""
    anchors = ",\n".join(f"{json.dumps(name)}: {json.dumps(pem)}" for name, pem in (TRUST | certificates.TRUST).items())
    cases = ",\n".join(json.dumps(case.json(), ensure_ascii=False) for case in all_cases())
    return f'{{"trust": {{\n{anchors}\n}}, "cases": [\n{cases}\n]}}\n'


def main() -> int:
    """0, or 1 when the file is not what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where the file differs")
    if parser.parse_args().check:
        return int(not FILE.exists() or FILE.read_text("utf-8") != text())
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text(), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
