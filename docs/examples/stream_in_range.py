"""Was a tag in range, and what is missing? Asked of a stream, with a Kafka client and nothing of Tidegate.

    pip install confluent-kafka
    python stream_in_range.py kafka-1.example:9092 tidegate. line-4 mixer temperature 36.0 38.0

It reads both topics from their beginning to what is their end now.
"""

import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

servers, prefix, gateway, device, tag = sys.argv[1:6]
low, high = map(float, sys.argv[6:8])

consumer = Consumer({"bootstrap.servers": servers, "group.id": "in-range", "enable.auto.commit": False})
ends = {}
for topic in (f"{prefix}values", f"{prefix}events"):
    for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        begin, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
        if end > begin:
            ends[topic, number] = end
consumer.assign([TopicPartition(*partition, OFFSET_BEGINNING) for partition in ends])

# What is kept of each partition: by source, so that what comes twice is there once.
kept = {partition: {} for partition in ends}
while ends:
    message = consumer.poll(10)
    if message is None or message.error() is not None:
        sys.exit(str(message and message.error()))
    partition = message.topic(), message.partition()
    mine = kept[partition]
    if message.offset() + 1 >= ends.get(partition, 0):
        ends.pop(partition, None)
    said = json.loads(message.value())
    if said["gateway"] != gateway:
        continue
    if said["kind"] == "withdrawn":
        places = set(said["places"])
        for src in [src for src in mine if src.rsplit("/", 2)[0] in places]:
            del mine[src]
    elif said.get("device") in (device, None) or said["kind"] == "loss":
        mine.setdefault(said["src"], said)
consumer.close()

found = [said for mine in kept.values() for said in mine.values()]
scans = sorted(
    (said for said in found if said["kind"] == "values" and tag in said["values"]), key=lambda said: said["t"]
)
good = [said for said in scans if not {tag} & {*said["bad"], *said.get("uncertain", {})}]
outside = [said for said in good if not low <= said["values"][tag] <= high]
missing = sorted((said for said in found if said["kind"] in ("gap", "loss")), key=lambda said: said["t"] or "")
answer = {
    "in_range": bool(good) and not outside,
    "values": len(scans),
    "not_good": len(scans) - len(good),
    "unit": good[-1].get("u", {}).get(tag) if good else None,
    "outside": [{"t": said["t"], "value": said["values"][tag], "src": said["src"]} for said in outside],
    "missing": [{name: said[name] for name in ("kind", "t", "until", "group")} for said in missing],
    "by_source": {said["src"]: said["values"][tag] for said in scans},
}
json.dump(answer, sys.stdout, indent=2)
