"""`tidegate doctor` beside a real gateway and relay."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from edge.cli.doctor import lines
from edge.doctor.findings import DoctorAnswer, Finding
from tests.peers.operated.conftest import Operated, end
from tests.support.postgres import running_postgres

pytestmark = pytest.mark.timeout(120)


def findings(ran: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert ran.returncode in (0, 1), ran
    found: list[dict[str, Any]] = json.loads(ran.stdout)["findings"]
    return found


def texts(ran: subprocess.CompletedProcess[str], severity: str, area: str) -> list[str]:
    return [each["text"] for each in findings(ran) if (each["severity"], each["area"]) == (severity, area)]


def test_of_a_running_gateway_and_relay_nothing_is_wrong_but_the_machine(running: Operated) -> None:
    """The machine of the test has no unit and no firewall of ours."""
    for config, name in (("gateway.yaml", "line-4"), ("relay.yaml", "basel")):
        ran = running.tidegate("doctor", config, "--json")

        severe = {each["area"] for each in findings(ran) if each["severity"] in ("critical", "warning")}
        assert severe <= {"clock", "unit", "firewall"}, ran.stdout
        assert any(name in text for text in texts(ran, "ok", "running"))
        assert all(each["remedy"] for each in findings(ran) if each["severity"] in ("critical", "warning"))
        assert any("lets in everybody" in text for text in texts(ran, "notice", "broker"))  # It is on loopback.


def test_of_a_gateway_that_does_not_run_the_access_list_is_not_tried(operated: Operated) -> None:
    ran = operated.tidegate("doctor", "gateway.yaml", "--json")

    assert any("is the gateway or relay running?" in text for text in texts(ran, "critical", "running"))
    assert any("would end its session" in text for text in texts(ran, "unseen", "broker"))
    assert ran.returncode == 1


def test_a_device_that_is_away_and_a_broker_that_is_gone_are_said_by_the_gateway(operated: Operated) -> None:
    text = operated.gateway_file.read_text()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: whoever connects is refused.
        port = taken.getsockname()[1]
        device = f"""
  - name: press
    driver: modbus
    host: 127.0.0.1
    port: {port}
    scan_groups: [{{every: 1 s, tags: [{{name: t, address: "holding 0", type: uint16}}]}}]
"""
        operated.gateway_file.write_text(text + device)
        process = operated.start("run", "gateway.yaml")
        operated.wait("state/status.sock", lambda answer: any("press" in each.subject for each in answer.problems))

        ran = operated.tidegate("doctor", "gateway.yaml", "--json")
        end(process)

    assert any(text.startswith("press: no answer") for text in texts(ran, "critical", "running")), ran.stdout


def test_the_sinks_of_a_relay_are_looked_at_and_nothing_is_written(running: Operated) -> None:
    lake = running.folder / "lake"
    lake.mkdir()
    before = running.relay_file.read_text()
    sinks = "  sinks:\n    historian: {{host: {}, port: {}, tls: off}}\n    lake: {{directory: {}}}\n".format
    with running_postgres() as server:
        running.relay_file.write_text(before + sinks(server.socket, server.port, lake))
        by_socket = texts(running.tidegate("doctor", "relay.yaml", "--json"), "ok", "sinks")
        running.relay_file.write_text(before + sinks("127.0.0.1", server.port, lake))
        by_network = texts(running.tidegate("doctor", "relay.yaml", "--json"), "ok", "sinks")
    running.relay_file.write_text(before + sinks("127.0.0.1", server.port, running.folder / "nowhere"))
    away = texts(running.tidegate("doctor", "relay.yaml", "--json"), "critical", "sinks")

    assert by_socket == [f"database at {server.socket}:{server.port} answers", f"the lake's directory {lake} is there"]
    assert by_network[0] == f"database at 127.0.0.1:{server.port} answers"
    assert away == [
        f"database at 127.0.0.1:{server.port} does not answer: Connection refused",
        f"the lake's directory {running.folder / 'nowhere'} is not there",
    ]
    assert list(lake.iterdir()) == []


def test_a_wrong_configuration_is_a_finding_and_the_rest_is_looked_at(operated: Operated) -> None:
    operated.gateway_file.write_text(operated.gateway_file.read_text() + "clok: {}\n")

    ran = operated.tidegate("doctor", "gateway.yaml", "--json")

    assert any("clok: unknown key" in text for text in texts(ran, "critical", "configuration"))
    assert {"clock", "files", "firewall"} <= {each["area"] for each in findings(ran)}


def test_an_address_that_is_reached_is_said(operated: Operated) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reached, refused = (each.getsockname()[1] for each in (listening, taken))

        ran = operated.tidegate("doctor", "gateway.yaml", "--json", "--probe", f"127.0.0.1:{reached}", "--probe",
                                f"127.0.0.1:{refused}")  # fmt: skip

    found = texts(ran, "warning", "firewall")
    assert any("it accepts a connection" in text for text in found)
    assert any("it refuses the connection" in text for text in found)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_screen_fits_and_the_worst_is_first(width: int) -> None:
    found = (
        Finding(
            severity="critical", area="files", text="everybody may read the key of line-4 " * 3, remedy="chmod " * 20
        ),
        Finding(severity="ok", area="clock", text="within 30 us of UTC, says chrony"),
    )
    answer = DoctorAnswer(name="line-4", kind="gateway", config="c", version="0.1.0", as_root=False, findings=found)

    shown = lines(answer, width)

    assert all(cell_len(str(line)) <= width for line in shown)
    assert str(shown[0]).startswith("line-4   1 critical")
    assert str(shown[1]).startswith("critical  files: everybody")
    assert any(str(line).startswith("           > chmod") for line in shown)


def test_without_a_configuration_it_says_what_to_name(operated: Operated) -> None:
    ran = operated.tidegate("doctor", "absent.yaml")

    assert ran.returncode == 2
    assert Path("/etc/tidegate").is_dir() or "name a configuration" in operated.tidegate("doctor").stderr
