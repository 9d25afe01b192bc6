"""Who is on record for a configuration: the user of the process, whatever the environment says."""

from __future__ import annotations

import os
import pwd

import pytest

from edge.accounts import account_name


@pytest.mark.requirement("REQ-TRAIL-03")
def test_the_environment_cannot_name_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")

    assert account_name(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    assert account_name(61_234) == "uid 61234"
