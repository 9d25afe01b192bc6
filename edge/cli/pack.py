"""`tidegate verify PACK`: who made a pack of evidence, when, with which build, and whether it is as it was signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from edge.cli import EXIT_NO
from edge.cli.output import print_json
from edge.references import TrustPath
from edge.terminal import output_width, printable, wrap
from edge.units import format_utc
from edge.verify.trust import trust_files

_NAME = 10


def verify_pack(paths: Sequence[Path], anchors: Sequence[TrustPath], *, as_json: bool) -> None:
    """Say it; the exit code is 1 where a file is not as it was signed."""
    from edge.qualify.pack import check

    if len(paths) > 1:
        raise click.UsageError("a pack is verified by itself: name its directory, and no other")
    files = [file for each in anchors for file in trust_files(each if isinstance(each, Path) else each[0])]
    answer = check(paths[0], files)
    if as_json:
        print_json(answer)
    else:
        verdict = "every file is as it was signed" if answer.is_as_signed else "NOT AS SIGNED"
        lines = [("pack", verdict), *(("", each) for each in answer.problems)]
        if answer.made_at_ns:
            lines += [("of", f"{answer.name or '-'} on {answer.host}"),
                      ("made", f"{format_utc(answer.made_at_ns)} by {answer.made_by}"),
                      ("build", f"Tidegate {answer.version}, {answer.build}"), ("says", answer.text)]  # fmt: skip
        lines += [("signed by", answer.signer or "nobody whom --trust names")]
        for name, text in lines:
            for line in wrap(f"{name:<{_NAME}}{printable(text)}".replace("  ", "\N{NO-BREAK SPACE}" * 2),
                             output_width(), _NAME):  # fmt: skip
                click.echo(line)
    if not answer.is_as_signed:
        raise SystemExit(EXIT_NO)
