"""Sockets are made where the unit says so, and commands find them there first."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import sockets
from edge.config.sockets import asked_at, of_role_forward, served_at


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    services = tmp_path / "run"
    monkeypatch.setattr(sockets, "SERVICES", services)
    return services


def test_a_unit_says_where_sockets_are_made(services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{services}/gateway:{services}/control")

    for kind in ("status", "live"):
        assert served_at("line-4", kind, Path(f"state/{kind}.sock")) == services / f"gateway/line-4.{kind}.sock"
    assert served_at("line-4", "control", Path("state/control.sock")) == services / "control/line-4.control.sock"


def test_the_control_socket_is_never_among_those_for_who_only_looks(
    services: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit of the machine's own may name the one directory only."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(services / "gateway"))

    assert served_at("line-4", "control", Path("state/control.sock")) == Path("state/control.sock")


@pytest.mark.parametrize("directory", ["", "/run/user/1000", "/run"])
def test_without_a_shipped_unit_nothing_changes(
    services: Path, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", directory)

    assert served_at("line-4", "status", Path("state/status.sock")) == Path("state/status.sock")
    assert asked_at("gateway", "line-4", "status", Path("state/status.sock")) == Path("state/status.sock")
    assert not services.exists()


def test_a_command_asks_the_service_before_the_state_directory(services: Path, tmp_path: Path) -> None:
    own = tmp_path / "status.sock"
    (services / "gateway").mkdir(parents=True)
    service = services / "gateway/line-4.status.sock"

    nothing_runs = asked_at("gateway", "line-4", "status", own)
    own.touch()
    by_hand = asked_at("gateway", "line-4", "status", own)
    service.touch()
    both = asked_at("gateway", "line-4", "status", own)

    assert (nothing_runs, by_hand, both) == (service, own, service)
    assert asked_at("relay", "line-4", "status", own) == own
    (services / "control").mkdir()
    control = asked_at("gateway", "line-4", "control", tmp_path / "control.sock")
    assert control == services / "control/line-4.control.sock"


def test_both_roles_of_a_gateway_have_their_own_socket(services: Path) -> None:
    assert of_role_forward(services / "gateway/line-4.status.sock") == services / "forward/line-4.status.sock"
    assert of_role_forward(Path("state/status.sock")) == Path("state/status-forward.sock")
    assert of_role_forward(Path("/srv/line-4.sock")) == Path("/srv/line-4-forward.sock")
