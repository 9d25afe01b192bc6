"""A first configuration: by options or by questions, it passes the check, runs, and never replaces a file."""

from __future__ import annotations

import errno
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.config.check import check
from edge.config.settings import GatewaySettings

TIDEGATE = [sys.executable, "-m", "edge.cli"]
WITHIN_S = 30
SITE = ("--path", "acme/basel/line-4", "--name", "line-4")


def tidegate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*TIDEGATE, *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_a_file_of_options_passes_the_check_also_for_who_has_no_rights(tmp_path: Path) -> None:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(each) for each in arguments])

    run("init", tmp_path / "first.yaml", *SITE)  # Modules may be where nobody else may read.
    run("check", tmp_path / "first.yaml", "--json")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        file, user = Path(folder) / "line-4.yaml", os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            made, checked = run("init", file, *SITE), run("check", file, "--json")
        finally:
            os.seteuid(user)

    assert (made.exit_code, made.stderr) == (0, "")
    [answer] = json.loads(checked.stdout)["configurations"]
    assert (answer["usable"], answer["name"], answer["problems"], answer["warnings"]) == (True, "line-4", [], [])


def test_what_it_writes_runs(tmp_path: Path) -> None:
    file = tmp_path / "line-4.yaml"
    tidegate("init", file, *SITE)
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen([*TIDEGATE, "run", file], stdout=log, stderr=log) as gateway:
        try:
            until, segments = time.monotonic() + WITHIN_S, tmp_path / "state/buffer"
            while not any(path.stat().st_size for path in segments.glob("*.seg")):
                assert time.monotonic() < until
                assert gateway.poll() is None
                time.sleep(0.1)
        finally:
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(WITHIN_S) == 0
    verified = tidegate("verify", tmp_path / "state/buffer", "--trust", tmp_path / "state/identity.pub.pem")

    assert "Wholly authentic: yes" in verified.stdout


@pytest.mark.parametrize("broker", ["dmz-broker.example", "192.0.2.7:8884"])
def test_the_uplink_to_another_host_waits_for_certificates(tmp_path: Path, broker: str) -> None:
    file = tmp_path / "line-4.yaml"
    tidegate("init", file, *SITE, "--broker", broker)
    text = file.read_text()
    settings = check(file).gateway()
    host, _, port = broker.partition(":")
    for name in ("ca.pem", "line-4.pem", "line-4.key"):
        (tmp_path / name).touch()

    taken_in = "".join(
        line.removeprefix("# ") if line.startswith(("# uplink:", "#   ")) else line for line in text.splitlines(True)
    )
    with_uplink = check(file, instead={file.name: taken_in.encode()}).settings

    assert settings.uplink is None
    assert "docs/how-to/certificates.md" in text
    assert isinstance(with_uplink, GatewaySettings)
    assert with_uplink.uplink is not None
    assert (with_uplink.uplink.mqtt.host, with_uplink.uplink.mqtt.port) == (host, int(port or 8883))


def test_a_broker_on_this_machine_is_used_at_once(tmp_path: Path) -> None:
    tidegate("init", tmp_path / "a.yaml", *SITE, "--broker", "[::1]:1884")

    uplink = check(tmp_path / "a.yaml").gateway().uplink

    assert uplink is not None
    assert (uplink.mqtt.host, uplink.mqtt.port, uplink.mqtt.tls) == ("::1", 1884, "off")


def test_a_file_without_a_device_or_broker_is_one_that_a_device_is_added_to(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"

    made = tidegate("init", file, *SITE, "--broker", "none", "--empty")

    assert (made.returncode, made.stdout) == (0, f"{file} is written. Next: tidegate add {file} HOST\n")
    assert [problem.path for problem in check(file).errors] == ["devices"]
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["gateway: {name: line-4, path: acme/basel/line-4, state: state}"]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("mine")

    again = tidegate("init", file, *SITE)

    assert (again.returncode, file.read_text()) == (1, "mine")
    assert again.stderr == f"{file} is there already; choose another name, or add devices to it with tidegate add\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--path is missing: the ISA-95 path"),
        (("--path", "a b"), "--path: path 'a b' does not fit"),
        (("--path", "a", "--name", "-x"), "--name: name '-x' does not fit"),
        (("--path", "a", "--broker", "192.0.2.0/30"), "--broker: write one host"),
        (("--path", "a", "--broker", "a b"), "--broker: a b is no address"),
    ],
)
def test_a_wrong_value_is_a_sentence_and_nothing_is_written(tmp_path: Path, options: Sequence[str], said: str) -> None:
    refused = tidegate("init", tmp_path / "a.yaml", *options)

    assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match=r"a\.yaml"):
        CliRunner().invoke(cli, ["init", str(tmp_path / "a.yaml"), *SITE], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_at_a_terminal_it_asks_what_no_option_says_and_again_where_the_answer_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "line-4.yaml"
    shown, code = at_terminal(["init", str(file), "--state", "kept"], ["line-4", "a b", "acme/basel", ""])

    assert code == 0, shown
    settings = check(file).gateway()
    assert (settings.gateway.name, settings.gateway.path) == ("line-4", "acme/basel")
    assert settings.gateway.state.name == "kept"
    assert "path 'a b' does not fit" in shown
    assert "State directory" not in shown


def at_terminal(arguments: Sequence[str], answers: Sequence[str]) -> tuple[str, int]:
    """What a command shows at a terminal where each question gets the next answer, and its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [*TIDEGATE, *arguments])
    shown, left, until = "", list(answers), time.monotonic() + WITHIN_S
    try:
        while time.monotonic() < until:
            if not select.select([terminal], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(terminal, 4096)
            except OSError:  # It ended.
                break
            if not data:
                break
            shown += data.decode()
            if shown.endswith(": ") and left:
                answer = left.pop(0)
                os.write(terminal, f"{answer}\n".encode())
    finally:
        os.close(terminal)
    return shown, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
