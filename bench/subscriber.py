"""A subscriber that keeps every record it receives, with the boot time of its arrival.

`python -m bench.subscriber PORT FILE TOPIC` runs until it is terminated; frames are `u64 boot ns, u32 length, bytes`.
"""

from __future__ import annotations

import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

_FRAME = struct.Struct("<QI")


def read(path: Path) -> Iterator[tuple[int, bytes]]:
    """The (boot ns, record) pairs of a file, in the order of their arrival."""
    data = memoryview(path.read_bytes())
    position = 0
    while position < len(data):
        arrived_ns, length = _FRAME.unpack_from(data, position)
        position += _FRAME.size
        yield arrived_ns, bytes(data[position : position + length])
        position += length


def main(port: int, path: Path, topic: str) -> None:
    """Subscribe, print `ready`, and keep every record, each written at once."""
    with path.open("wb", buffering=0) as file:

        def keep(_client: mqtt.Client, _context: object, message: mqtt.MQTTMessage) -> None:
            if "/status" not in message.topic:
                now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                file.write(_FRAME.pack(now_ns, len(message.payload)) + message.payload)

        def ready(*_: Any) -> None:
            print("ready", flush=True)

        client = mqtt.Client(CallbackAPIVersion.VERSION2, f"subscriber {topic}", protocol=mqtt.MQTTv5)
        client.on_message, client.on_subscribe = keep, ready
        client.connect("127.0.0.1", port)
        client.subscribe(topic, qos=1)
        client.loop_start()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        client.loop_stop()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
