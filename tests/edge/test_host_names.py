"""What is written as a host is one, before anybody is asked for it: what is none would end the task that asks."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.units import check_host


@pytest.mark.parametrize(
    "host", ["plc-4", "plc_4.example", "plc-4.example.", "192.0.2.20", "2001:db8::1", "fe80::1%eth0", "münchen.example"]
)
def test_a_host_is_taken_as_it_is_written(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host",
    ["", " ", "plc..example", ".example", "x" * 64, "ä" * 60, "plc\0", "plc 4", "plc:44818", "192.0.2.20:502", "[::1]",
     "opc.tcp://plc", "192.0.2.0/24", "192.0.2.*"],
)  # fmt: skip
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is not the name or address of a host; write it alone"):
        check_host(host)


@given(host=st.text(max_size=80))
def test_whatever_is_taken_can_be_asked_for(host: str) -> None:
    """The resolver finds it or not: any other error of it would not be caught."""
    try:
        check_host(host)
    except ValueError:
        return
    with contextlib.suppress(socket.gaierror):
        socket.getaddrinfo(host, 1, flags=socket.AI_NUMERICHOST)
