"""What scanning, the clock, the buffer and the uplink hand in, on its way to the recorder and the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge.buffer import BufferEvent
from edge.clock import Clock, ClockStep
from edge.gateway.audit import KINDS, Audit, EventKind
from edge.health import CertificateMonitor
from edge.model import Identity, SampleBlock, TagMetadata
from edge.recorder import Recorder
from edge.recorder.device_info import DeviceInfo


class AcquisitionSink:
    """See `edge.scan.Sink`. The clock is observed before there is a chain: its records wait until `open`.

    Attributes:
        sync_failures: syncs that the disk refused.
    """

    _recorder: Recorder
    _audit: Audit
    _device_info: DeviceInfo
    _certificates: CertificateMonitor
    _utc_of: Callable[[int], int]

    def __init__(self, clock: Clock) -> None:
        self.sync_failures = 0
        self._clock = clock
        self._early: list[Callable[[], None]] | None = []

    def open(
        self, recorder: Recorder, audit: Audit, device_info: DeviceInfo, certificates: CertificateMonitor,
        utc_of: Callable[[int], int],
    ) -> None:  # fmt: skip
        """Record what has come in, in its order, and from now on at once."""
        self._recorder, self._audit, self._device_info = recorder, audit, device_info
        self._certificates, self._utc_of = certificates, utc_of
        early, self._early = self._early or [], None
        for record in early:
            record()

    def begin_scan(self, device: str) -> None:
        """See `edge.scan.Sink.begin_scan`."""
        self._recorder.begin_scan(device)

    def end_scan(self, device: str) -> None:
        """See `edge.scan.Sink.end_scan`."""
        self._recorder.end_scan(device)

    def add_block(self, block: SampleBlock, *, urgent: bool) -> None:
        """See `edge.scan.Sink.add_block`."""
        self._recorder.add_block(block, urgent=urgent)

    def record_gap(self, group: int, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:
        """See `edge.scan.Sink.record_gap`."""
        self._recorder.record_gap(group, from_ns, to_ns, status, detail)

    def record_identity(self, device: str, identity: Identity | None, since_ns: int) -> None:
        """See `edge.scan.Sink.record_identity`; an event where it is another than before."""
        if identity is None:
            self._device_info.set_unanswered(device)
            return
        before, since_ns = self._device_info.device(device), self._utc_of(since_ns)
        if before is not None and before.identity.texts != identity.texts:
            was = {f"was_{key}": value for key, value in before.identity.texts.items()}
            self.record_event(EventKind.DEVICE_IDENTITY.label, device, {**identity.texts, **was, "since_ns": since_ns})
        if before is None or before.identity != identity:
            self._device_info.set_identity(device, identity, since_ns)

    def record_tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        """See `edge.scan.Sink.record_tag_metadata`."""
        self._device_info.set_tag_metadata(group, metadata)

    def record_event(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        """Put an event into the audit trail."""
        at_ns = self._clock.boot_ns()
        if self._early is not None:
            self._early.append(lambda: self._audit.event_at(at_ns, KINDS[kind], subject, data))
            return
        self._audit.event_at(at_ns, KINDS[kind], subject, data)
        if kind == EventKind.DEVICE_UP.label:
            self._certificates.check_soon()  # Each session may have another certificate.

    def record_uplink_event(self, kind: str, severity: str, data: Mapping[str, str | int]) -> None:  # noqa: ARG002
        """An event of the network side, where it runs in the same process."""
        self.record_event(kind, "uplink", data)

    def record_buffer_events(self, events: Sequence[BufferEvent]) -> None:
        """Events of the buffer."""
        for event in events:
            self.sync_failures += event.kind == "buffer.fsync"
            self.record_event(event.kind, "buffer", event.data)

    def record_step(self, step: ClockStep) -> None:
        """A step of the clock, or a correction of earlier times."""
        if self._early is not None:
            self._early.append(lambda: self.record_step(step))
        else:
            self._recorder.record_step(step)
