"""The uplink against real mosquittos."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edge.clock import SystemClock
from edge.errors import BrokerRefused, BrokerUnreachable
from edge.tls import TlsFiles
from edge.uplink import BrokerAccess, Delivery, Forwarder, Publisher, connect
from tests.support.source import MemorySource, unsigned_record

_PLAIN = "listener PORT 127.0.0.1\nallow_anonymous true\n"
_TLS = """listener PORT 127.0.0.1
cafile {ca}
certfile {certificate}
keyfile {key}
require_certificate {required}
allow_anonymous true
"""


def access(port: int, **changes: Any) -> BrokerAccess:
    return BrokerAccess(host="127.0.0.1", port=port, client_id="urn:tidegate:line-4", **changes)


async def open_publisher(port: int, **changes: Any) -> Publisher:
    return await connect(access(port, **changes), clock=SystemClock(), on_change=lambda: None)


async def answer_to(publisher: Publisher, topic: str) -> int:
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    publisher.session.publish(topic, b"x", answered.set_result)
    return await answered


@contextlib.asynccontextmanager
async def forwarding(source: MemorySource, port: int, events: list[Any], **changes: Any) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(
        source,
        access(port, **changes),
        Delivery(gateway="line-4"),
        clock=SystemClock(),
        random=Random(1),
        report=lambda kind, severity, data: events.append((kind, data)),
    )
    task = asyncio.create_task(forwarder.run())
    try:
        yield forwarder
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def subscriber(port: int) -> AsyncIterator[None]:
    """A reader that takes everything, as the relay would."""
    process = await asyncio.create_subprocess_exec(
        "mosquitto_sub", "-V", "5", "-p", str(port), "-t", "#", "-q", "1", "-i", "relay", "-c", "-x", "3600", "-v",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        await process.communicate()


async def test_a_message_is_accepted_only_when_somebody_subscribes(mosquitto: Any) -> None:
    broker = await mosquitto(_PLAIN)
    publisher = await open_publisher(broker.port)
    before = await answer_to(publisher, "t")

    async with subscriber(broker.port):
        await until(lambda: "SUBSCRIBE from relay" in broker.log())
        after = await answer_to(publisher, "t")
    await publisher.disconnect_gracefully()

    assert (before, after) == (0x10, 0x00)


async def test_a_topic_outside_the_access_list_is_refused(mosquitto: Any, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic write tidegate/v1/line-4/#\n")
    broker = await mosquitto(f"{_PLAIN}acl_file {tmp_path}/acl\n")
    publisher = await open_publisher(broker.port)

    allowed = await answer_to(publisher, "tidegate/v1/line-4/r/data")
    refused = await answer_to(publisher, "tidegate/v1/line-5/r/data")
    again = await answer_to(publisher, "tidegate/v1/line-4/r/data")
    await publisher.disconnect_gracefully()

    assert (allowed, refused, again) == (0x10, 0x87, 0x10)


async def test_a_message_over_mosquittos_limit_is_refused_for_its_size(mosquitto: Any) -> None:
    broker = await mosquitto(f"{_PLAIN}message_size_limit 500\n")
    source = MemorySource([unsigned_record(0), unsigned_record(1, payload_bytes=1_000), unsigned_record(2)])
    events: list[Any] = []

    async with subscriber(broker.port):
        await until(lambda: "SUBSCRIBE from relay" in broker.log())
        async with forwarding(source, broker.port, events) as forwarder:
            await until(lambda: source.acknowledged == {0, 2})
            connects = forwarder.snapshot().connects

    assert [data["reason_code"] for kind, data in events if kind == "uplink.refused"] == [0x95]
    assert connects == 1


async def test_what_waited_for_a_subscriber_goes_on_the_same_connection(mosquitto: Any) -> None:
    """Although a record that is too large is among it, and more of them come."""
    broker = await mosquitto(f"{_PLAIN}message_size_limit 500\n")
    source = MemorySource(unsigned_record(seq) for seq in range(20))
    large = {source.append(unsigned_record(20, payload_bytes=1_000))}
    events: list[Any] = []

    async with forwarding(source, broker.port, events) as forwarder:
        await until(lambda: forwarder.snapshot().set_aside > 0)
        async with subscriber(broker.port):
            while not source.records.keys() - large <= source.acknowledged:
                large.add(source.append(unsigned_record(21, payload_bytes=1_000)))
                forwarder.wake()
                await asyncio.sleep(0.1)
        connects = forwarder.snapshot().connects

    assert connects == 1
    assert not source.acknowledged & large


async def test_mutual_tls_carries_records_and_no_subscription(mosquitto: Any, authority: Any) -> None:
    certificate, key = authority.issue("broker", is_server=True)
    ours = authority.issue("line-4")
    broker = await mosquitto(_TLS.format(ca=authority.path, certificate=certificate, key=key, required="true"))

    publisher = await open_publisher(broker.port, tls=TlsFiles(ca=authority.path, certificate=ours[0], key=ours[1]))
    code = await answer_to(publisher, "t")
    tls = publisher._transport.get_extra_info("ssl_object")
    version = tls.version()
    await publisher.disconnect_gracefully()

    assert (code, version) == (0x10, "TLSv1.3")
    assert "SUBSCRIBE" not in broker.log()


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("stranger", "the authority of its certificate is not in our CA file"),
        ("other host", "is for another"),
        ("expired", "has expired; renew it, or check this machine's clock"),
        ("no certificate", "asks for a client certificate|may not speak MQTT 5, or not accept our certificate"),
        ("unknown client", "does not know the authority of our certificate|not accept our certificate|lost"),
        ("no tls", "does not speak TLS on this port|closed the connection|connection lost|cannot be reached"),
    ],
)
async def test_what_is_wrong_with_tls_is_said(
    mosquitto: Any, authority: Any, tmp_path: Path, case: str, sentence: str
) -> None:
    other = type(authority)(tmp_path, "other-ca")
    signed_by = other if case == "stranger" else authority
    certificate, key = signed_by.issue(
        "broker", is_server=True, host="elsewhere.example" if case == "other host" else "127.0.0.1",
        days=-1 if case == "expired" else 30,
    )  # fmt: skip
    ours = (other if case == "unknown client" else authority).issue("line-4")
    files = TlsFiles(ca=authority.path, certificate=ours[0], key=ours[1])
    if case == "no certificate":
        files = TlsFiles(ca=authority.path)
    lines = _TLS.format(ca=authority.path, certificate=certificate, key=key, required="true")
    broker = await mosquitto(_PLAIN if case == "no tls" else lines)

    with pytest.raises(BrokerUnreachable, match=sentence) as error:
        await open_publisher(broker.port, tls=files)

    assert str(error.value).startswith(f"broker 127.0.0.1:{broker.port}")


async def test_a_wrong_password_is_said(mosquitto: Any, tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("line-4:$7$101$AAAA$AAAA\n")
    broker = await mosquitto(f"listener PORT 127.0.0.1\npassword_file {tmp_path}/passwords\n")

    with pytest.raises(BrokerRefused, match="refused the connection"):
        await open_publisher(broker.port, username="line-4", password=b"wrong")


async def test_a_stopped_broker_is_noticed_and_loses_nothing(mosquitto: Any) -> None:
    broker = await mosquitto(_PLAIN)
    source = MemorySource(unsigned_record(seq) for seq in range(20))
    events: list[Any] = []
    async with subscriber(broker.port):
        await until(lambda: "SUBSCRIBE from relay" in broker.log())
        async with forwarding(source, broker.port, events, keep_alive_s=1, connect_timeout_s=1) as forwarder:
            await until(lambda: source.is_delivered)
            broker.signal(signal.SIGSTOP)
            source.append(unsigned_record(20))
            forwarder.wake()
            await until(lambda: any(kind == "uplink.down" for kind, _ in events))
            assert 20 not in source.acknowledged

            broker.signal(signal.SIGCONT)
            await until(lambda: source.is_delivered)

    assert "stopped answering" in next(data["reason"] for kind, data in events if kind == "uplink.down")


async def test_what_a_killed_mosquitto_acknowledged_is_sent_again(mosquitto: Any) -> None:
    """Killed before it saved, mosquitto has lost what it acknowledged; the next connection brings it back."""
    broker = await mosquitto(f"{_PLAIN}persistence true\nautosave_interval 3600\n")
    source = MemorySource(unsigned_record(seq) for seq in range(100))
    events: list[Any] = []
    async with forwarding(source, broker.port, events) as forwarder:
        async with subscriber(broker.port):
            await until(lambda: source.is_delivered)
        await broker.kill()
        await until(lambda: any(kind == "uplink.down" for kind, _ in events))

        await broker.start()
        async with subscriber(broker.port):
            await until(lambda: forwarder.snapshot().resent >= 100 and forwarder.snapshot().to_resend == 0)

    assert forwarder.snapshot().delivered == 100
