"""What commands print with --json is what the reference says: every command, on a running plant, good and bad."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from edge import cli
from edge.cli.answers import alike, answers, file_of
from edge.importers.workbook import workbook
from edge.tags.site import read_site

SCHEMAS = Path(__file__).parents[3] / "docs/reference/json"
SIMULATED = str(Path(__file__).parents[3] / "configs/simulated.yaml")
WITHIN_S = 60
Run = Callable[..., tuple[int, list[Any], str]]

CASES: list[tuple[str, str, int]] = [
    ("check", "FOLDER/gateway.yaml", 0),
    ("check", "FOLDER", 0),
    ("check", "BAD", 78),
    ("check", "absent.yaml", 78),
    ("plan", "FOLDER/gateway.yaml", 0),
    ("plan", "FOLDER/gateway.yaml --device nothing", 2),
    ("plan", "BAD", 78),
    ("diff", "FOLDER/gateway.yaml FOLDER/gateway.yaml", 0),
    ("diff", f"FOLDER/gateway.yaml {SIMULATED}", 1),
    ("diff", "FOLDER/gateway.yaml BAD", 78),
    ("diff", "FOLDER/gateway.yaml", 0),
    ("propose", "FOLDER/proposed.yaml --why again --to new.change", 0),
    ("propose", "FOLDER/gateway.yaml --why again", 1),
    ("propose", "FOLDER/gateway.yaml", 2),
    ("propose", "BAD --why again", 78),
    ("apply", "FOLDER/gateway.yaml --why again", 0),
    ("apply", "FOLDER/gateway.yaml --within soon", 2),
    ("apply", "BAD", 78),
    ("discover", "127.0.0.1:PORT --driver modbus --rate 100", 0),
    ("discover", "127.0.0.1:1 --driver modbus --rate 100", 1),
    ("discover", "127.0.0.1/x", 2),
    ("browse", f"{SIMULATED} bioreactor", 0),
    ("browse", "FOLDER/gateway.yaml DEVICE", 1),
    ("browse", "FOLDER/gateway.yaml nothing", 2),
    ("add", "AWAY 127.0.0.1:PORT --driver modbus --rate 100 --tag TAG --dry-run", 0),
    ("add", "AWAY 127.0.0.1:1 --driver modbus --rate 100", 1),
    ("add", "absent.yaml 127.0.0.1:1", 2),
    ("add", "BAD 127.0.0.1:1", 78),
    ("import", "FOLDER/gateway.yaml list.csv --device DEVICE --dry-run", 0),
    ("import", "FOLDER/gateway.yaml site.xlsx --mode merge-overwrite --dry-run", 0),
    ("import", "FOLDER/gateway.yaml empty.csv --device DEVICE --dry-run", 78),
    ("import", "FOLDER/gateway.yaml absent.csv --device DEVICE", 2),
    ("import", "FOLDER/gateway.yaml --from-device --device DEVICE", 0),
    ("import", "FOLDER/gateway.yaml --from-device --device DEVICE --direct", 0),
    ("import", "AWAY --from-device --device plc", 1),
    ("read", "FOLDER/gateway.yaml DEVICE --direct --address holding_65000", 2),
    ("read", "FOLDER/gateway.yaml DEVICE --direct", 0),
    ("read", "FOLDER/gateway.yaml DEVICE", 0),
    ("read", "FOLDER/gateway.yaml nothing", 2),
    ("read", "AWAY plc", 1),
    ("test", "FOLDER/gateway.yaml DEVICE --apart 1ms", 0),
    ("test", "FOLDER/gateway.yaml nothing", 2),
    ("test", "AWAY plc", 1),
    ("status", "FOLDER/gateway.yaml", 0),
    ("status", "FOLDER/relay.yaml", 0),
    ("status", "--socket absent.sock", 1),
    ("clock", "FOLDER/gateway.yaml", 0),
    ("clock", "FOLDER/relay.yaml", 0),
    ("clock", "AWAY", 1),
    ("clock", "BAD", 78),
    ("clock", "absent.yaml", 2),
    ("doctor", "FOLDER/gateway.yaml", 1),
    ("doctor", "absent.yaml", 2),
    ("qualify", "FOLDER/gateway.yaml --out new --part iq", 1),
    ("qualify", "FOLDER/gateway.yaml --out FOLDER", 2),
    ("qualify", "FOLDER/gateway.yaml --out new --sign KEY", 78),
    ("support", "FOLDER/gateway.yaml --to new.tar.gz", 0),
    ("support", "FOLDER/relay.yaml --to FOLDER/relay.yaml", 1),
    ("inventory", "FOLDER/gateway.yaml --ask", 0),
    ("inventory", "FOLDER/archive --trust KEY", 0),
    ("inventory", "FOLDER/archive", 2),
    ("inventory", "AWAY", 1),
    ("verify", "ALTERED --trust KEY", 1),
    ("verify", "FOLDER/archive --trust KEY --to 3", 0),
    ("verify", "FOLDER/archive --trust KEY --from x", 2),
    ("verify", "FOLDER/archive --trust FOLDER/gateway.yaml", 78),
    ("verify PACK", "--trust KEY", 1),
    ("report", "FOLDER/archive --trust KEY --to 2100-01-01T00:00Z", 1),
    ("report", "ALTERED --trust KEY --tags", 1),
    ("report", "FOLDER/archive --trust KEY --from x", 2),
    ("review", "FOLDER/archive --trust KEY --to 2100-01-01T00:00Z --text fine", 0),
    ("review", "FOLDER/archive --trust KEY --to 1999-01-01T00:00Z --text fine", 1),
    ("review", "FOLDER/archive --trust KEY", 2),
    ("export", "FOLDER/archive --trust KEY --to 2100-01-01T00:00Z -o new.csv", 1),
    ("export", "ALTERED --trust KEY --wide -o altered.jsonl", 1),
    ("export", "FOLDER/archive --trust KEY -o new.txt", 2),
    ("impact", "FOLDER/archive --trust KEY --instrument TT-101 --to 2100-01-01T00:00Z", 1),
    ("impact", "FOLDER/archive --trust KEY --instrument TT-100", 2),
    ("media write", "FOLDER/gateway/buffer usb", 0),
    ("media write", "FOLDER/archive usb", 2),
    ("media read", "usb new --trust KEY", 0),
    ("media read", "new new --trust KEY", 2),
    ("log", "FOLDER/archive --trust KEY", 0),
    ("log", "FOLDER/archive --kind nothing", 0),
    ("log", "absent", 2),
    ("log --configuration", "HASH FOLDER/archive", 0),
    ("log --configuration", "00000000 FOLDER/archive", 1),
    ("history", "FOLDER/archive --trust KEY", 0),
    ("history", "FOLDER/archive --who nobody", 0),
    ("history", "ALTERED --trust KEY", 1),
    ("history", "absent", 2),
    ("keys show", "KEY", 0),
    ("keys show", "FOLDER/gateway.yaml", 0),
    ("keys show", "FOLDER/archive", 0),
    ("keys show", "absent", 2),
    ("keys opcua create", "new --name line-4", 0),
    ("keys opcua create", "pki --name line-4", 1),
    ("keys opcua show", "pki", 0),
    ("keys opcua show", "absent", 1),
    ("keys opcua list", "pki", 0),
    ("keys opcua trust", "pki pki/own/cert.der", 0),
    ("keys opcua reject", "pki FINGERPRINT", 0),
    ("keys opcua reject", "pki 00000000", 1),
]


class Plant:
    """The demo while it runs, and files beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = {"FOLDER": str(folder), "KEY": str(folder / "gateway/identity.pub.pem")}

    def describe(self, beside: Path) -> None:
        """Find what the demo chose, and write the files of the cases."""
        device = yaml.safe_load((self.folder / "gateway.yaml").read_text())["devices"][0]
        tag = {"name": "t", "address": "holding 0", "type": "uint16"}
        plc = {"name": "plc", "driver": "modbus", "host": "127.0.0.1", "port": 1,
               "scan_groups": [{"every": "1 s", "tags": [tag]}]}  # fmt: skip
        away = {"gateway": {"name": "g", "path": "a/b", "state": str(beside / "state")}, "devices": [plc]}
        (beside / "away.yaml").write_text(yaml.safe_dump(away))
        (self.folder / "proposed.yaml").write_bytes((self.folder / "gateway.yaml").read_bytes())
        (beside / "bad.yaml").write_text("gateway: {name: g, pth: a/b}\n")
        [day] = (self.folder / "archive/demo").glob("*.rec")
        altered = bytearray(day.read_bytes())
        altered[len(altered) // 2] ^= 1
        (beside / day.name).write_bytes(altered)
        self.words |= {
            "PORT": str(device["port"]), "DEVICE": device["name"], "AWAY": str(beside / "away.yaml"),
            "BAD": str(beside / "bad.yaml"), "ALTERED": str(beside / day.name),
            "TAG": "t holding 100 uint16",
        }  # fmt: skip

    def arguments(self, text: str) -> list[str]:
        """The words of a command line."""
        words = text.split()
        for word in sorted(self.words, key=len, reverse=True):
            words = [each.replace(word, self.words[word]) for each in words]
        return words


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("demo")
    command = [
        sys.executable,
        "-m",
        "edge.cli",
        "demo",
        "--seconds",
        "900",
        "--directory",
        str(folder),
    ]  # No disturbance yet.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + WITHIN_S
            while len(list((folder / "archive/demo").glob("*.rec"))) != 1 or _records(folder) < 8:
                assert time.monotonic() < until
                time.sleep(0.1)
            made = Plant(folder)
            made.describe(tmp_path_factory.mktemp("beside"))
            yield made
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(WITHIN_S)


def _records(folder: Path) -> int:
    [index] = (folder / "archive/demo").glob("*.idx")
    return index.stat().st_size // 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands are typed."""
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def called(*arguments: str) -> tuple[int, list[Any], str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["tidegate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        documents = [json.loads(out)] if out.startswith("{\n") else [json.loads(line) for line in out.splitlines()]
        assert isinstance(ended.value.code, int)
        return ended.value.code, documents, err

    return called


def strict(name: str) -> Draft202012Validator:
    """The schema of a command, which here allows no member that it does not name."""
    first = next(first for first, names in alike().items() if name in names)
    schema = json.loads((SCHEMAS / file_of(first)).read_text())
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize(("name", "arguments", "code"), CASES, ids=[f"{name} {text}" for name, text, _ in CASES])
def test_what_is_printed_fits_its_schema(
    plant: Plant, folder: Path, run: Run, name: str, arguments: str, code: int
) -> None:
    if "HASH" in arguments:
        changes = run("log", *plant.arguments("FOLDER/archive --kind config --kind epoch --json"))[1]
        plant.words["HASH"] = next(each["data"]["configuration"] for each in changes if "configuration" in each["data"])
    if name == "import":
        (folder / "list.csv").write_text("name,address,type\nnew,holding 9,uint16\n1E+05,holding 9,uint16\n")
        (folder / "empty.csv").touch()
        devices, tags = read_site(Path(plant.words["FOLDER"], "gateway.yaml")).sheets()
        devices = replace(devices, rows=[{**row, "port": "1502"} for row in devices.rows])
        tags = replace(tags, rows=[*tags.rows, {"name": "of no device"}])
        (folder / "site.xlsx").write_bytes(workbook([devices, tags]))
    if name == "verify PACK":
        assert run("qualify", *plant.arguments("FOLDER/gateway.yaml --out PACK --part iq"), "--json")[0] == 1
    if name.startswith("media"):
        for each in ("usb", "new"):
            (folder / each).mkdir()
        if name == "media read":
            assert run("media", "write", *plant.arguments("FOLDER/gateway/buffer usb"), "--json")[0] == 0
    if arguments.startswith("pki"):
        assert run("keys", "opcua", "create", "pki", "--name", "line-4", "--json")[0] == 0
    if "FINGERPRINT" in arguments:
        assert run("keys", "opcua", "trust", "pki", "pki/own/cert.der", "--json")[0] == 0
        plant.words["FINGERPRINT"] = run("keys", "opcua", "list", "pki", "--json")[1][0]["certificates"][0]["sha256"]

    ended, documents, said = run(*name.split(), *plant.arguments(arguments), "--json")

    assert ended == code, said
    assert [error.message for each in documents for error in strict(name).iter_errors(each)] == []
    assert all(each["json_version"] == 1 for each in documents)
    if code > 1 and name != "check":
        assert documents[0]["error"]["exit_code"] == code
        assert documents[0]["error"]["message"] in said


def test_the_reference_has_a_schema_of_each_answer_and_each_is_tried_above() -> None:
    assert {name for name, _, _ in CASES} == set(answers())
    assert {path.name for path in SCHEMAS.iterdir()} == {file_of(name) for name in alike()}


def test_every_command_with_json_names_its_answer() -> None:
    """So that a new command cannot be left out of the reference."""
    import click

    def with_json(command: click.Command, name: str) -> Iterator[str]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for each in command.list_commands(context):
                below = command.get_command(context, each)
                assert below is not None
                yield from with_json(below, f"{name} {each}".strip())
        elif any("--json" in parameter.opts for parameter in command.params):
            yield name

    # That of the relay is of its log.
    named = {name.partition(" --")[0].removesuffix(" PACK") for name in answers()}
    assert set(with_json(cli.cli, "")) - {"relay"} == named
