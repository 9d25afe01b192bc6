"""The commissioning sheet of `tidegate test`: to read, to tick at the machine, and to sign with an engineer's SSH key.

The signature is made by `ssh-keygen -Y sign`, and verified by `ssh-keygen -Y verify`, with the namespace below. The
gateway's identity signs what the gateway read by itself; what a person tried is the person's to sign.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import click

from edge.cli.output import Failure
from edge.cli.trial import shown
from edge.errors import ConfigError
from edge.files import replace_file
from edge.references import Reference
from edge.report.html import fact, page, room_to_sign, table, text
from edge.units import counted, format_duration

if TYPE_CHECKING:
    from edge.cli.test import Answer

NAMESPACE = "tidegate-commissioning"
"""Of the signature: it cannot pass for one of another purpose."""

_TICK = "\N{BALLOT BOX}"
_STYLE = "\ntd:first-child { font-size: 20px; line-height: 1; } td:last-child { min-width: 7em; }\n"


class Sheet:
    """A sheet that will be written; what would prevent it is found before the device is asked."""

    def __init__(self, path: Path, device: str, key: Path | None, identity: Reference) -> None:
        if path.is_dir():
            path = path / f"{device}-commissioning"
        elif path.suffix in (".html", ".json"):
            path = path.with_suffix("")
        if not path.parent.is_dir():
            raise click.UsageError(f"{path} cannot be written: there is no directory {path.parent}")
        self._html, self._json = (path.with_name(f"{path.name}.{suffix}") for suffix in ("html", "json"))
        self._key = key
        if key is not None:
            if which("ssh-keygen") is None:
                raise click.UsageError("--sign needs ssh-keygen: install the package openssh-client")
            _refuse_identity(key, identity)

    def write(self, answer: Answer, as_json: bytes) -> list[Path]:
        """Write both files and their signatures; returns their paths."""
        written = []
        for file, data in ((self._html, _page(answer, self._html, self._key).encode()), (self._json, as_json)):
            try:
                replace_file(file, data, 0o644)
            except OSError as error:
                raise Failure(f"{file} cannot be written: {error.strerror}") from error
            written.append(file)
            if self._key is not None:
                written.append(_sign(file, self._key))
        return written


def _refuse_identity(key: Path, identity: Reference) -> None:
    with suppress(OSError, ConfigError):  # A key that this account cannot read, it cannot sign with either.
        if key.samefile(identity.path) or key.read_bytes() == identity.path.read_bytes():
            raise click.UsageError(f"{key} is the identity of the gateway, which signs what it reads itself; sign with "
                                   "your own SSH key")  # fmt: skip


def _sign(file: Path, key: Path) -> Path:
    """Sign a file as `ssh-keygen` does, with a question for a passphrase where the key has one."""
    signature = file.with_name(f"{file.name}.sig")
    signature.unlink(missing_ok=True)
    command = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - two paths, and no shell
    if done.returncode or not signature.exists():
        said = done.stderr.strip().splitlines()
        raise Failure(
            f"{file} is written and not signed with {key}: {said[-1] if said else 'ssh-keygen gave no reason'}"
        )
    return signature


def _page(answer: Answer, file: Path, key: Path | None) -> str:
    made = datetime.fromtimestamp(answer.tested_at_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    head = f"Commissioning sheet: {answer.device} of {answer.gateway}"
    return page(head, f"Made {made} by Tidegate {answer.version}", _body(answer, made, file, key), _STYLE)


def _body(answer: Answer, made: str, file: Path, key: Path | None) -> Iterator[str]:
    well = sum(tag.verdict == "ok" for tag in answer.tags)
    yield '<header><p class="soft">Tidegate commissioning sheet</p>'
    yield f"<h1>{text(answer.device)}: {well} of {text(counted(len(answer.tags), 'tag'))} without a remark</h1><dl>"
    yield fact("Gateway", answer.gateway)
    yield fact("Driver", answer.driver)
    yield fact("Tested", f"{made}, {answer.rounds} readings of each tag")
    yield fact("Asked", "by the running gateway" if answer.answered_by == "gateway" else "directly")
    yield "</dl><p>Compare each value with what the machine shows, write that down, and tick the line.</p></header>"
    yield from table(
        (_TICK, "Tag", "Address", "Type", "Range", "Values", "Quality", "Moves", "Took", "Remarks", "Machine shows"),
        (
            (
                _TICK, each.tag, each.address, each.type,
                "" if each.range is None else f"{each.range[0]:g} to {each.range[1]:g}",
                f"{', '.join(dict.fromkeys(map(shown, each.values)))} {each.unit}", each.quality, each.behaviour,
                format_duration(each.took_ns // 10**5 * 10**5), "; ".join(each.remarks), "",
            )
            for each in answer.tags
        ),
    )  # fmt: skip
    for sentence in (*answer.violations, *answer.explanations):
        yield f"<p>{text(sentence)}</p>"
    if key is not None:
        name = text(file.name)
        yield "<section><h2>Signature of this file</h2><p>It is signed with the SSH key of the person who tested. With "
        yield "a file of the keys that you trust, a line of name and public key each, this checks it:</p>"
        yield f"<pre>ssh-keygen -Y verify -f allowed_signers -I NAME -n {NAMESPACE} -s {name}.sig &lt; {name}</pre>"
        yield "</section>"
    yield from room_to_sign()
