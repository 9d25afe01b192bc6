"""Check a whole configuration offline: used by `tidegate check` and before every start."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from edge.approval.signers import Signers
from edge.config.check_process import Role
from edge.config.context_problems import context_problems
from edge.config.devices import (
    CheckedDevice,
    Find,
    GroupPlan,
    Kinds,
    check_device,
    device_problems,
    named_device,
    pace_warnings,
    place_warnings,
)
from edge.config.files import Kind, Source, nothing_in, read, read_directory
from edge.config.instruments import instrument_warnings
from edge.config.settings import BrokerSettings, GatewaySettings, RelaySettings
from edge.config.validate import validate
from edge.config.written import device_text, keep
from edge.config.yaml_tree import Mark, Node
from edge.driver import load as load_driver
from edge.errors import ConfigError, Problem
from edge.units import format_size, is_loopback, server_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Result of a check: the settings, None if there are errors, and all problems.

    Attributes:
        name: of the gateway or relay; empty where it is not written.
        files: all files of the configuration, tables too.
        digest: SHA-256 of the files; see `edge.config.files.Source.digest`.
        pack: gives the configuration of a gateway without errors as it is kept.
    """

    kind: Kind
    name: str
    files: tuple[str, ...]
    settings: GatewaySettings | RelaySettings | None
    digest: bytes
    problems: tuple[Problem, ...]
    plans: tuple[GroupPlan, ...] = ()
    pack: Callable[[], bytes] = bytes

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that prevent a start."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that do not prevent a start."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    def gateway(self) -> GatewaySettings:
        """The settings of a gateway, or ConfigError with every problem."""
        if self.errors:
            raise ConfigError(self.errors)
        if not isinstance(self.settings, GatewaySettings):
            raise ConfigError("this is the configuration of a relay; start it with `tidegate relay`")
        return self.settings

    def relay(self) -> RelaySettings:
        """The settings of a relay, or ConfigError with every problem."""
        if self.errors:
            raise ConfigError(self.errors)
        if not isinstance(self.settings, RelaySettings):
            raise ConfigError("this is the configuration of a gateway; start it with `tidegate run`")
        return self.settings


def load(path: Path | str, find: Find = load_driver) -> GatewaySettings:
    """The settings of a gateway.

    Raises:
        ConfigError: with every problem.
    """
    return check(path, find, kind="gateway").gateway()


def load_relay(path: Path | str) -> RelaySettings:
    """The settings of a relay, as `load`."""
    return check(path, kind="relay").relay()


def check(
    path: Path | str, find: Find = load_driver, role: Role = "all", device: str | None = None, kind: Kind | None = None,
    instead: Mapping[str, bytes | None] | None = None,
) -> Checked:  # fmt: skip
    """Check a configuration, a file or a directory, of a gateway or a relay; of the devices all, one, or "" none.

    Contents in `instead` take the place of those of files, by name; None: of a file that is not there.

    Raises:
        LookupError: no device has this name.
    """
    source = read(Path(path), kind, instead)
    source.is_for_one_role = role != "all"
    return _checked(source, find, device)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedDirectory:
    """Result of a check of all configurations in a directory.

    Attributes:
        unreadable: problems of files that could be a part of any of them.
        others: what the other files are, by name.
    """

    configurations: tuple[Checked, ...]
    unreadable: tuple[Problem, ...]
    others: Mapping[str, str]


def check_directory(path: Path, find: Find = load_driver) -> CheckedDirectory:
    """Check every configuration in a directory by itself."""
    held = read_directory(path)
    checked = [_checked(source, find, None) for source in held.configurations]
    unreadable = [problem for source in held.unreadable for problem in source.problems]
    if not checked and not unreadable:
        unreadable.append(nothing_in(path, held))
    known = {name for each in checked for name in each.files} | {
        name for each in held.unreadable for name in each.names
    }
    others = {each.name: _other(each) for each in sorted(path.iterdir()) if each.name not in known} | dict(held.others)
    return CheckedDirectory(
        configurations=tuple(_with_copies(checked, path)), unreadable=tuple(unreadable), others=others
    )


def _other(path: Path) -> str:
    if path.is_dir():
        return "a directory"
    return "no tags_from names it" if path.suffix == ".csv" else "not a .yaml file"


def _with_copies(checked: Iterable[Checked], folder: Path) -> Iterator[Checked]:
    """Add a warning to each configuration that has the name of one before."""
    first: dict[tuple[Kind, str], str] = {}
    for each in checked:
        before = first.setdefault((each.kind, each.name), each.files[0])
        if each.name and before != each.files[0]:
            message = f"has the name of the {each.kind} in {before}: is it a copy?"
            warning = Problem(message, str(folder / each.files[0]), severity="warning")
            each = replace(each, problems=(*each.problems, warning))
        yield each


def _checked(source: Source, find: Find, device: str | None) -> Checked:
    kind = source.kind
    settings: GatewaySettings | RelaySettings | None = None
    devices: list[CheckedDevice] = []
    name = _name(source)
    if source.root is not None and kind == "relay":
        settings = _relay(source, source.root)
    elif source.root is not None:
        settings, devices = _gateway(source, source.root, find, device)
    problems = sorted(dict.fromkeys(source.problems), key=lambda problem: (problem.file, problem.line, problem.column))
    return Checked(
        kind=kind,
        name=name,
        files=tuple(dict.fromkeys((*source.names, *source.digests))),
        settings=None if any(problem.severity == "error" for problem in problems) else settings,
        digest=source.digest,
        problems=tuple(problems),
        plans=tuple(plan for each in devices for plan, _ in each.plans),
        pack=partial(_pack, source, devices),
    )


def _pack(source: Source, devices: Sequence[CheckedDevice]) -> bytes:
    assert source.root is not None
    assert isinstance(source.root.content, dict)
    return keep(source.root.content, [device_text(each.node) for each in devices])


def _name(source: Source) -> str:
    """The name of the gateway or relay; empty where it is not written."""
    section = source.root[source.kind] if source.root is not None else None
    name = section["name"] if section is not None else None
    return (name.text if name is not None else None) or ""


WITH_DUCKDB = "install the Debian package tidegate-lake, or tidegate[lake] with pip"
_SINK_LIBRARIES = {
    "historian": ("asyncpg", "install tidegate[historian]"),
    "lake": ("duckdb", WITH_DUCKDB),
    "stream": ("confluent_kafka", "install tidegate[kafka]"),
}
"""What a sink needs besides, and how one comes by it."""

_UNPROTECTED = "readings and the password travel unprotected"


def _relay(source: Source, root: Node) -> RelaySettings | None:
    source.problems += _missing_libraries(root)
    settings, found = validate(RelaySettings, root, source.context)
    source.problems += found
    if settings is not None:
        source.problems += relay_warnings(settings, root)
    return settings


def _gateway(
    source: Source, root: Node, find: Find, device: str | None
) -> tuple[GatewaySettings | None, list[CheckedDevice]]:
    devices: list[CheckedDevice] = []
    if (written := root["devices"]) is not None and written.items:
        kinds = Kinds(find)
        nodes = written.items if device is None else [named_device(written, device)] if device else []
        source.problems += device_problems(nodes)
        devices = [check_device(source, node, kinds, source.problems) for node in nodes]
        source.problems += pace_warnings(devices)
        source.problems += place_warnings(devices)
        source.problems += instrument_warnings(nodes)
        # Each was validated by its driver; a valid placeholder replaces them in the rest.
        written.content = [_placeholder_device()]
    settings, found = validate(GatewaySettings, root, source.context)
    source.problems += found
    if settings is not None:
        source.problems += gateway_warnings(settings, root)
        valid = tuple(device.settings for device in devices if device.settings is not None)
        if device is None and all(each.settings is not None for each in devices):
            source.problems += context_problems(settings.contexts, root, valid)
        settings = replace(settings, devices=valid)
    return settings, devices


def _placeholder_device() -> Node:
    mark = Mark("")
    groups = Node([Node({}, mark)], mark)
    return Node({"name": Node("device", mark), "driver": Node("none", mark), "scan_groups": groups}, mark)


def gateway_warnings(settings: GatewaySettings, root: Node) -> Iterator[Problem]:
    """Warnings for a gateway."""
    yield from _disk_space(settings, root)
    if settings.uplink is None and "uplink" not in root.dropped:
        yield _warning(root, "no uplink is written: records stay in the buffer and go nowhere")
    elif settings.uplink is not None:
        yield from _broker(settings.uplink.mqtt, root, "uplink", "mqtt")
    if settings.approval is not None:
        yield from _approvers(settings.approval.allowed_signers, root, is_regulated=settings.gateway.regulated)


def _approvers(file: Path, root: Node, *, is_regulated: bool) -> Iterator[Problem]:
    """What is wrong with those who may approve; it prevents no start, for then devices would not be read."""
    if not is_regulated:
        yield _warning(root, "gateway.regulated is false: no change needs an approval", "approval")
    try:
        Signers.read(file)
    except OSError as error:
        yield _warning(root, f"{file} cannot be read, and nobody can approve a change: {error.strerror}", "approval",
                       "allowed_signers")  # fmt: skip
    except ConfigError as error:
        for each in error.problems:
            message = f"{each.message}; nobody can approve a change until this is corrected"
            yield replace(each, message=message, path="approval.allowed_signers", severity="warning")


def _missing_libraries(root: Node) -> Iterator[Problem]:
    relay = root["relay"]
    kafka = relay["kafka"] if relay is not None else None
    if kafka is not None and kafka.content is not None and find_spec("confluent_kafka") is None:
        yield kafka.problem("needs confluent-kafka, which is not installed; install 'tidegate[kafka]'")
    sinks = relay["sinks"] if relay is not None else None
    for sink, (library, remedy) in _SINK_LIBRARIES.items():
        written = sinks[sink] if sinks is not None else None
        if written is not None and written.content is not None and find_spec(library) is None:
            yield written.problem(f"needs {library}, which is not installed; {remedy}")


def relay_warnings(settings: RelaySettings, root: Node) -> Iterator[Problem]:
    """Warnings for a relay."""
    if settings.relay.mqtt is not None:
        yield from _broker(settings.relay.mqtt, root, "relay", "mqtt")
    kafka = settings.relay.kafka
    hosts = [server_address(each)[0] for each in kafka.servers] if kafka is not None else []
    if kafka is not None and kafka.tls == "off" and not all(map(is_loopback, hosts)):
        yield _warning(root, _UNPROTECTED, "relay", "kafka", "tls")
    namespace = settings.relay.views.unified_namespace
    if namespace is not None and namespace.mqtt is not None:
        yield from _broker(namespace.mqtt, root, "relay", "views", "unified_namespace", "mqtt")
    historian = settings.relay.sinks.historian
    if historian is not None and historian.tls == "off" and not _is_local(historian.host):
        yield _warning(root, _UNPROTECTED, "relay", "sinks", "historian", "tls")


def _is_local(host: str) -> bool:
    return host.startswith("/") or is_loopback(host)


def _disk_space(settings: GatewaySettings, root: Node) -> Iterator[Problem]:
    directory = settings.buffer_directory.absolute()
    try:
        existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
        disk = shutil.disk_usage(existing)
        stored_bytes = sum(file.stat().st_size for file in directory.iterdir()) if existing == directory else 0
    except OSError:  # This user may not read the folder; the service may.
        return
    buffer = settings.buffer
    if lack := buffer.lack_of_room(disk.free + stored_bytes):
        message = f"records would be kept in memory only, and lost with the power: {lack}"
        yield _warning(root, message, "buffer", "free_space")
    elif buffer.limit + buffer.free_space > disk.total:
        message = (
            f"{format_size(buffer.limit)} and {format_size(buffer.free_space)} left free are more than the disk of "
            f"{existing} has ({format_size(disk.total)}); the oldest records will go earlier"
        )
        yield _warning(root, message, "buffer", "limit")


def _broker(broker: BrokerSettings, root: Node, *path: str) -> Iterator[Problem]:
    if broker.tls == "off" and not is_loopback(broker.host):
        yield _warning(root, _UNPROTECTED, *path, "tls")


def _warning(root: Node, message: str, *path: str) -> Problem:
    """A warning at a key, or at its closest parent that is written."""
    node = root
    for key in path:
        if (below := node[key]) is None:
            break
        node = below
    return replace(node.problem(message), path=".".join(path), severity="warning")
