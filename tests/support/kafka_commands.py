"""Kafka's own commands for topics and access lists as a shell file calls them, done through a client.

Each would be a JVM. The file itself is run by a shell, where programs of their names note how they were called.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.support.kafka import Kafka
from tests.support.waiting import wait_until

_WHATEVER: Any = None
_ANY = AclBindingFilter(
    ResourceType.ANY, _WHATEVER, ResourcePatternType.ANY, _WHATEVER, _WHATEVER, AclOperation.ANY, AclPermissionType.ANY
)
_NOTES = """\
#!/bin/sh
printf '%s\\n' "$(basename "$0")" "$@" '' >> "$CALLS"
"""


def calls(file: Path, folder: Path, settings: Mapping[str, str]) -> list[list[str]]:
    """How a shell file calls Kafka's commands."""
    notes = folder / "calls"
    for name in ("kafka-topics.sh", "kafka-acls.sh"):
        (folder / name).write_text(_NOTES)
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(notes), **settings}
    subprocess.run(["sh", file], check=True, env=environment, timeout=30)
    return [call.split("\n") for call in notes.read_text().removesuffix("\n\n").split("\n\n")]


def do(called: list[list[str]], kafka: Kafka) -> None:
    """What the commands do; an option that one does not have here ends the test."""
    for command, *words in called:
        {"kafka-topics.sh": _topics, "kafka-acls.sh": _acls}[command](words, kafka)
    # A broker learns from its controller what was made, a moment later.
    admin = kafka.admin()
    made = sum(words.count("--topic") + words.count("--group") for command, *words in called if "acls" in command)
    wait_until(lambda: len(admin.describe_acls(_ANY).result(30)) >= made)
    names = {words[words.index("--topic") + 1] for command, *words in called if "topics" in command}
    wait_until(lambda: names <= {*admin.list_topics(timeout=30).topics})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--command-config", required=True)
    parser.add_argument("--topic", action="append", default=[])
    return parser


def _topics(words: list[str], kafka: Kafka) -> None:
    parser = _parser()
    for name in ("--create", "--if-not-exists"):
        parser.add_argument(name, action="store_true", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--replication-factor", type=int, required=True)
    parser.add_argument("--config", action="append", default=[])
    given = parser.parse_args(words)
    (name,) = given.topic
    settings = dict(each.split("=", 1) for each in given.config)
    admin = kafka.admin()  # Without a name it would be gone before its answer.
    topic = NewTopic(name, given.partitions, given.replication_factor, config=settings)
    for done in admin.create_topics([topic]).values():
        done.result(30)


def _acls(words: list[str], kafka: Kafka) -> None:
    parser = _parser()
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", required=True)
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--resource-pattern-type", default="literal")
    given = parser.parse_args(words)
    named = [(ResourceType.TOPIC, name) for name in given.topic] + [(ResourceType.GROUP, name) for name in given.group]
    assert named, words
    kafka.allow([
        AclBinding(kind, name, ResourcePatternType[given.resource_pattern_type.upper()], given.allow_principal, "*",
                   AclOperation[given.operation.upper()], AclPermissionType.ALLOW)
        for kind, name in named
    ])  # fmt: skip
