"""The settings of each package of the device side, from those of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.buffer import BufferLimits
from edge.clock.timekeeper import Require
from edge.config.contexts import has_group
from edge.config.settings import GatewaySettings
from edge.errors import ConfigError
from edge.files import make_directory
from edge.recorder import RecorderSettings
from edge.recorder.contexts import MemberSource, Unit
from edge.scan import Polled, PolledGroup, ScanGroup, plan_phases
from edge.seal import (
    ChainRules,
    Encoding,
    FileCounter,
    IdentityKey,
    issuer_of,
    keep_public,
    load_or_create_identity,
    public_path_of,
)

_ENCODINGS = {"off": Encoding.PLAIN, "zlib": Encoding.ZLIB, "zstd": Encoding.ZSTD}


def recorder_settings(settings: GatewaySettings) -> RecorderSettings:
    """How long blocks gather, and what is sealed without new readings."""
    seal = settings.seal
    return RecorderSettings(
        commit_window_ns=seal.commit_window, heartbeat_ns=seal.heartbeat, checkpoint_ns=seal.checkpoint,
        require=Require(settings.clock.require),
    )  # fmt: skip


def phases_ns(settings: GatewaySettings) -> list[int]:
    """The phase of each scan group, in the order of the catalogue; 0 for one that is subscribed."""
    groups = [(group, device.reached_at or device.name) for device in settings.devices for group in device.scan_groups]
    polled = [Polled(group.every, reached_at) for group, reached_at in groups if not group.is_subscribed]
    planned = iter(plan_phases(polled, settings.scanning.at_once))
    return [0 if group.is_subscribed else next(planned) for group, _ in groups]


def units(settings: GatewaySettings, groups: Sequence[ScanGroup]) -> list[Unit]:
    """The units whose contexts are read, by the numbers of the scan groups."""
    read = {(tag.device, tag.tag) for context in settings.contexts for tag in context.members.tags.values()}
    places = {
        place: (group.number, number)
        for group in groups
        for number, tag in enumerate(group.catalogue.tags)
        if (place := (group.catalogue.device, tag.name)) in read
    }
    at_once = {
        group.number for group in groups if read and isinstance(group, PolledGroup) and group.plan.cost().requests == 1
    }
    return [
        Unit(
            name=context.unit,
            sources=[
                MemberSource(member, tag.device, tag.tag, *places[tag.device, tag.tag], tag.texts)
                for member, tag in context.members.tags.items()
            ],
            groups=frozenset(
                group.number for group in groups if has_group(context, group.catalogue.device, group.name)
            ),
            at_once=frozenset(at_once),
        )
        for context in settings.contexts
    ]  # fmt: skip


def make_state_directory(settings: GatewaySettings) -> None:
    """Create the state directory, which the role that starts first does."""
    state = settings.gateway.state
    try:
        make_directory(state, 0o770)
    except OSError as error:
        raise ConfigError(f"gateway.state: {state} cannot be made: {error.strerror}; see to its owner") from error


def identity(settings: GatewaySettings) -> tuple[IdentityKey, bool]:
    """The configured key, and whether it is another than before: a missing file is created, a credential is not."""
    reference = settings.identity_key
    counter = FileCounter(settings.gateway.state / "identity.counter", settings.identity.counter_copy)
    certificate = settings.identity.certificate
    issuer = issuer_of(settings.gateway.name)
    if reference.kind == "file":
        path = certificate.path if certificate else None
        return load_or_create_identity(reference.path, issuer=issuer, counter=counter, certificate=path)
    certificates = certificate.read() if certificate else b""
    key = IdentityKey.load(reference.read(), counter, name=str(reference), certificates=certificates)
    # Others need the public half, and cannot see the credential.
    return key, keep_public(public_identity(settings), key.public_pem(issuer))


def public_identity(settings: GatewaySettings) -> Path:
    """Where the public half of the identity key is kept: beside it, for a credential in the state directory."""
    reference = settings.identity_key
    return public_path_of(reference.path if reference.kind == "file" else settings.gateway.state / "identity.pem")


def limits(settings: GatewaySettings) -> BufferLimits:
    """The bounds of the buffer."""
    buffer = settings.buffer
    return BufferLimits(
        limit_bytes=buffer.limit, free_space_bytes=buffer.free_space, keep_delivered_ns=buffer.keep_delivered,
        when_full=buffer.when_full, segment_bytes=buffer.segment,
    )  # fmt: skip


def chain_rules(settings: GatewaySettings) -> ChainRules:
    """How payloads are packed and how long a session key lives."""
    seal = settings.seal
    return ChainRules(
        encoding=_ENCODINGS[seal.compression], key_period_ns=seal.key_period, key_records=seal.key_records
    )
