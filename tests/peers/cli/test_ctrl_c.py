"""Ctrl-C in long work: it ends in order, says how far it got, and leaves nothing behind at a device or a gateway."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.ethernetip.simulator import DINT, Controller, in_thread
from edge.testing.proxy import RecordingProxy
from tests.faults.gateway.site_under_test import LoopThread, Site, sites
from tests.support.ports import free_port
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

SERVER = Path(__file__).parents[1] / "opcua/large_server.py"
GATEWAY = "gateway: {name: line-4, path: acme/basel, state: state}\nclock: {require: any, chrony: off}\n"
CLOSE_SESSION = bytes([1, 0, 473 & 0xFF, 473 >> 8])  # OPC 10000-6, 5.2.2.9: the type of the request, as a node id.
READ = bytes([1, 0, 631 & 0xFF, 631 >> 8])
NODES = 110_000


SILENT = {
    "test": (["test", "CONFIG", "it", "--direct"], "it: stopped with Ctrl-C after 0 of 3 readings\n"),
    "import": (
        ["import", "CONFIG", "--from-device", "--device", "it"],
        "it: stopped with Ctrl-C after 0 of 1 readings; nothing was changed\n",
    ),
    "inventory": (["inventory", "CONFIG", "--ask"], "inventory: stopped with Ctrl-C after 0 of 1 devices\n"),
    "read": (["read", "CONFIG", "it", "--direct"], "stopped with Ctrl-C\n"),
    "discover": (
        ["discover", "127.0.0.1:PORT", "--driver", "modbus"],
        "discover: stopped with Ctrl-C after 0 of 1 hosts\n",
    ),
    "add": (
        ["add", "EMPTY", "127.0.0.1:PORT", "--driver", "modbus"],
        "discover: stopped with Ctrl-C after 0 of 1 hosts; nothing was written\n",
    ),
}


def written(folder: Path, silent: socket.socket, words: list[str]) -> list[str]:
    """The words of a command that asks a device which takes the connection and never answers."""
    port = silent.getsockname()[1]
    (folder / "site.yaml").write_text(
        f"{GATEWAY}devices:\n  - name: it\n    driver: modbus\n    host: 127.0.0.1\n    port: {port}\n"
        "    limits: {timeout: 60 s}\n"
        "    scan_groups: [{every: 1 s, tags: [{name: a, address: holding 0, type: uint16}]}]\n"
    )
    (folder / "empty.yaml").write_text(GATEWAY)
    names = {"CONFIG": str(folder / "site.yaml"), "EMPTY": str(folder / "empty.yaml")}
    return [names.get(word, word).replace("PORT", str(port)) for word in words]


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Programs that are started take Ctrl-C, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def plant() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="module")
def large() -> Iterator[int]:
    """The port of an OPC UA server with 110,000 nodes."""
    port = free_port()
    with subprocess.Popen([sys.executable, SERVER, "--port", str(port)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == port
            yield port
        finally:
            process.kill()


@pytest.fixture
def proxy(plant: LoopThread, large: int) -> RecordingProxy:
    made: RecordingProxy = plant.enter(RecordingProxy("127.0.0.1", large))
    return made


@pytest.fixture
def config(tmp_path: Path, proxy: RecordingProxy) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(f"{GATEWAY}devices:\n  - name: it\n    driver: opcua\n    url: opc.tcp://127.0.0.1:{proxy.port}\n"
                    "    security: none\n    scan_groups: [{every: 1 s, tags_from: it.csv}]\n")  # fmt: skip
    path.with_name("it.csv").write_text("name,address,type\n")
    return path


def began(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge.cli", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    return process.returncode, out, err


def is_browsing(proxy: RecordingProxy) -> bool:
    """Whether some of it was listed: with the values of several folders."""
    return sum(recording.sent.count(READ) for recording in proxy.recordings) > 60


def test_a_long_list_on_a_terminal_shows_how_far_it_is_and_ends_with_what_was_listed(
    config: Path, proxy: RecordingProxy
) -> None:
    with Terminal("browse", str(config), "it", "--depth", "0", "--limit", "200000") as terminal:
        terminal.wait_for("it: 1,")
        assert b"\r\x1b[K" in terminal.written
        terminal.press(b"\x03")
        code = terminal.wait()

    lines = terminal.written.decode().splitlines()
    entries = int(lines[-1].partition("stopped with Ctrl-C after ")[2].partition(" ")[0].replace(",", ""))
    assert code == 130
    assert "the last of them Area" in lines[-1]
    assert 1000 < entries < NODES
    assert sum("float64" in line for line in lines) > 900
    assert not any("Traceback" in line for line in lines)
    assert proxy.recordings[-1].sent.count(CLOSE_SESSION) == 1
    assert b"CLOF" in proxy.recordings[-1].sent
    wait_until(lambda: proxy.is_idle)


@pytest.mark.parametrize(("words", "sentence"), SILENT.values(), ids=SILENT)
def test_each_shows_how_far_it_is_on_a_terminal(tmp_path: Path, words: list[str], sentence: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = written(tmp_path, silent, words)
        with Terminal(*words) as terminal, silent.accept()[0]:
            if words[0] != "read":
                terminal.wait_for(sentence.partition(";")[0].strip().replace("stopped with Ctrl-C after ", ""))
            terminal.press(b"\x03")
            code = terminal.wait()

    assert code == 130
    assert sentence.strip() in terminal.written.decode()
    assert "Traceback" not in terminal.written.decode()


def test_a_long_list_in_a_pipe_is_whole_json_and_shows_no_progress(config: Path, proxy: RecordingProxy) -> None:
    with began("browse", config, "it", "--depth", "0", "--limit", "200000", "--json") as process:
        wait_until(lambda: is_browsing(proxy))
        code, out, err = ended(process)

    answer = json.loads(out)
    assert code == 130
    assert err == f"it: {answer['reason']}\n"
    assert answer["reason"].startswith("stopped with Ctrl-C after ")
    assert not answer["is_complete"]
    assert 0 < len(answer["entries"]) < NODES
    assert proxy.recordings[-1].sent.count(CLOSE_SESSION) == 1


def test_a_comparison_that_is_stopped_changes_nothing(config: Path, proxy: RecordingProxy) -> None:
    words = ("--from-device", "--device", "it", "--mode", "overwrite")
    with began("import", config, *words) as process:
        wait_until(lambda: is_browsing(proxy))
        code, out, err = ended(process)

    assert (code, out) == (130, "")
    assert err.startswith("it: stopped with Ctrl-C after ")
    assert err.endswith(" entries; nothing was changed\n")
    assert config.with_name("it.csv").read_text() == "name,address,type\n"
    assert proxy.recordings[-1].sent.count(CLOSE_SESSION) == 1


@pytest.mark.parametrize(("words", "sentence"), SILENT.values(), ids=SILENT)
@pytest.mark.parametrize("form", ["text", "json"])
def test_each_command_that_waits_for_a_device_ends_with_one_sentence(
    tmp_path: Path, words: list[str], sentence: str, form: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = written(tmp_path, silent, words)
        json_option = ["--json"] if form == "json" else []
        with began(*words, *json_option) as process, silent.accept()[0] as connection:
            assert connection.recv(1)
            code, out, err = ended(process)

    assert code == 130
    assert sentence in err.splitlines(keepends=True)
    assert "Traceback" not in err
    if form == "json" and words[0] != "discover":
        assert json.loads(out)["error"] | {"problems": []} == {
            "kind": "failed", "exit_code": 130, "message": sentence.rstrip(), "problems": [], "code": ""
        }  # fmt: skip
    elif form == "json":
        assert json.loads(out)["hosts_done"] == 0
    else:
        assert "it" not in out.split()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for site in sites(tmp_path):
        site.settings.pop("uplink")
        yield site


def test_a_list_that_the_gateway_makes_is_withdrawn_from_it_and_costs_it_no_session(site: Site) -> None:
    """One level of 20,000 tags is one question of some hundred requests, between which the gateway scans."""
    plc, values = Controller("Line4"), (0x0A, 2)
    for number in range(20_000):
        plc.tag(f"Tag{number:06}", DINT, number)
    small = plc.program("Small")
    plc.tag("Only", DINT, 1, program=small)
    with in_thread(plc) as (server,):
        tags = [{"name": "first", "address": "Tag000000", "type": "DINT"}]
        site.settings["devices"].append(
            {"name": "it", "driver": "ethernetip", "host": "127.0.0.1", "port": server.port,
             "limits": {"timeout": "60 s"}, "scan_groups": [{"every": "2 s", "tags": tags}]}
        )  # fmt: skip
        site.gateway()
        site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans > 0, "a scan")
        config = site.directory / "gateway.yaml"
        with began("browse", config, "it") as process:
            site.wait(lambda: plc.services[values] > 5, "the first values")
            code, _, err = ended(process)

        with began("browse", config, "it", "Program:Small") as process:
            out, _ = process.communicate()
        asked = plc.services[values]
        status = site.wait_for_status(lambda status: status.devices, "devices")

    assert (code, err) == (130, "it: stopped with Ctrl-C after 0 entries\n")
    assert out.startswith("Only")
    assert asked < 20_000 / 200
    assert status.devices[0].scan_groups[0].failed_scans == 0  # The session is still the one of the start.
