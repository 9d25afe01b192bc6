"""Whatever a file is, and however a name is mistyped, a command answers with a sentence and never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import cli

SITE = """\
gateway: {name: line-4, path: acme/basel, state: STATE}
devices:
  - name: reactor
    driver: modbus
    host: 127.0.0.1
    port: 1
    scan_groups: [{every: 1 s, tags: [{name: temperature, address: "holding 0", type: uint16}]}]
"""
COMMANDS = [
    "check FILE", "plan FILE", "relay FILE", "status FILE", "status --socket FILE", "read FILE reactor",
    "browse FILE reactor", "inventory FILE", "inventory FILE --trust FILE", "verify FILE --trust KEY",
    "verify ARCHIVE --trust FILE", "verify ARCHIVE --trust KEY --checkpoint FILE",
    "verify ARCHIVE --trust KEY --missing-to FILE/x", "report FILE --trust KEY", "report ARCHIVE --trust FILE",
    "report ARCHIVE --trust KEY --html FILE/x", "report ARCHIVE --trust KEY --html FOLDER/page --sign FILE",
    "log FILE", "log FILE --trust FILE", "resend FILE --from 1", "resend ARCHIVE --missing FILE", "simulate FILE",
    "simulate SITE --values FILE", "keys show FILE", "keys opcua create FILE --name x", "keys opcua show FILE",
    "keys opcua list FILE", "keys opcua trust FOLDER/pki FILE", "keys opcua trust FILE 00000000",
]  # fmt: skip
Run = Callable[[str], tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    site, key, archive = tmp_path / "site.yaml", tmp_path / "key.pem", tmp_path / "archive"
    site.write_text(SITE.replace("STATE", str(tmp_path / "state")))
    (archive / "line-4").mkdir(parents=True)
    (archive / "line-4" / "2026-01-31.rec").write_bytes(b"no record")
    made = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(tmp_path / "private.pem")]
    subprocess.run(made, check=True, capture_output=True)
    public = ["openssl", "ec", "-in", str(tmp_path / "private.pem"), "-pubout", "-out", str(key)]
    subprocess.run(public, check=True, capture_output=True)
    words = {"SITE": str(site), "KEY": f"line-4={key}", "ARCHIVE": str(archive), "FOLDER": str(tmp_path)}

    def called(command: str) -> tuple[int, str]:
        arguments = []
        for word in command.split():
            for name, value in words.items():
                word = word.replace(name, value)
            arguments.append(word)
        monkeypatch.setattr(sys, "argv", ["tidegate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out + err

    return called


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / "file"
    if kind == "a directory":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(bytes(range(256)) * 20)
    elif kind == "empty":
        path.touch()
    elif kind == "not readable":  # Whoever asks: the permissions of a file do not stop root.
        path = Path("/proc/self/mem")
    return path


@pytest.mark.parametrize("kind", ["absent", "a directory", "binary", "empty", "not readable"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_cannot_be_used_is_a_sentence(tmp_path: Path, run: Run, command: str, kind: str) -> None:
    path = bad_file(tmp_path, kind)

    code, said = run(command.replace("FILE", str(path)))

    assert code in (0, 1, 2, 78)
    assert said.strip()
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("chek SITE", "check"), ("check SITE --jsn", "--json"), ("plan SITE --device reacter", "reactor"),
        ("read SITE reacter", "reactor"), ("read SITE reactor temprature", "temperature"),
        ("browse SITE reacter", "reactor"), ("discover 127.0.0.1 --driver modbuss", "modbus"),
        ("simulate SITE --device reacter", "reactor"), ("simulate SITE --set temprature=sine", "temperature"),
        ("verify ARCHIVE --trust KEY --gateway line4", "line-4"), ("verify ARCHIVE --trust KEY --admit link", "linked"),
        ("report ARCHIVE --trust KEY --gateway line4", "line-4"), ("log ARCHIVE --gateway line4", "line-4"),
        ("keys opc show x", "opcua"), ("keys opcua crate x", "create"),
    ],
)  # fmt: skip
def test_a_mistyped_name_is_answered_with_the_closest(run: Run, command: str, meant: str) -> None:
    code, said = run(command)

    assert code == 2
    assert f"did you mean {meant}?" in said.lower().replace("'", "")


def test_a_name_unlike_any_other_gets_the_list(run: Run) -> None:
    assert "there are reactor\n" in run("plan SITE --device zzz")[1]


def test_the_environment_of_these_tests_can_tell(tmp_path: Path) -> None:
    """A file that cannot be read is one for root too."""
    with pytest.raises(OSError, match="Input/output"), Path("/proc/self/mem").open("rb") as file:
        os.read(file.fileno(), 1)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run", "Error: PATH is missing. An example: tidegate run configs/line-4.yaml"),
        ("verify ARCHIVE", "Error: --trust is missing: Public key, CA certificate or revocation list, or "),
        ("add SITE", "Error: HOST[:PORT]|URL is missing. An example: tidegate add line-4.yaml 192.0.2.12"),
    ],
)
def test_what_is_missing_is_said_with_what_it_is_and_an_example(run: Run, command: str, said: str) -> None:
    code, output = run(command)

    assert (code, said in output) == (2, True), output


def test_a_path_that_this_user_may_not_see_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """A gateway's state is its own; who is told that it is not there looks for it in the wrong place."""
    real = os.stat

    def stat(path: object, *arguments: object, **keys: object) -> os.stat_result:
        if str(path).endswith("state/buffer"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **keys)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "stat", stat)

    code, output = run("verify FOLDER/state/buffer --trust KEY")

    assert code == 2
    assert f"{tmp_path}/state/buffer is in a directory that this user may not enter" in output
    assert "does not exist" not in output
