#!/bin/sh
# Topics and access lists of relays that share the load, with the commands that come with Kafka 3.6 or newer. Its
# administrator runs it once, with his own values for what is set below. Run again, it adds what is missing and changes
# nothing else:
#   KAFKA=kafka-1.example:9093 ADMIN=admin.properties sh topics.sh
set -eu

: "${KAFKA:=kafka-1.example:9093}"   # one of the brokers
: "${ADMIN:=admin.properties}"       # how its administrator comes in
: "${PREFIX:=tidegate.}"             # relay.kafka.prefix
: "${PARTITIONS:=64}"                # relay.kafka.partitions: never changed afterwards
: "${GROUP:=relay}"                  # relay.kafka.group
: "${COPIES:=3}"                     # a broker each
: "${SYNCED:=2}"                     # so many have a record before it is acknowledged
: "${DATABASE:=yes}"                 # no: workers without sinks.historian
: "${INTAKE:=tidegate-intake}" "${WORKER:=tidegate-worker}" "${CONSUMER:=tidegate-consumer}"    # accounts

topic() {
    name=$1 partitions=$2
    shift 2
    # The time is that of the intake: a broker whose clock is behind would refuse a record that is an hour ahead of it.
    kafka-topics.sh --bootstrap-server "$KAFKA" --command-config "$ADMIN" --create --if-not-exists \
        --topic "$PREFIX$name" --partitions "$partitions" --replication-factor "$COPIES" \
        --config min.insync.replicas="$SYNCED" --config unclean.leader.election.enable=false \
        --config message.timestamp.type=CreateTime --config message.timestamp.after.max.ms=9223372036854775807 "$@"
}

allow() {
    account=$1 operation=$2
    shift 2
    kafka-acls.sh --bootstrap-server "$KAFKA" --command-config "$ADMIN" --add \
        --allow-principal "User:$account" --operation "$operation" "$@"
}

# Records wait here while workers or the database are away: longer than the longest time that you want to survive.
topic records "$PARTITIONS" --config cleanup.policy=delete --config retention.ms=604800000 \
    --config max.message.bytes=1048588
# For programs that take values as they come: relay.sinks.stream.
topic values 16 --config cleanup.policy=delete --config retention.ms=2592000000 --config max.message.bytes=8388608
topic events 16 --config cleanup.policy=delete --config retention.ms=2592000000 --config max.message.bytes=8388608

# Write and Read include Describe. Nobody may create, change or delete a topic.
allow "$INTAKE" Write --topic "${PREFIX}records"
allow "$WORKER" Read --topic "${PREFIX}records" --group "$GROUP"
allow "$WORKER" Write --topic "${PREFIX}values" --topic "${PREFIX}events"
allow "$CONSUMER" Read --topic "${PREFIX}values" --topic "${PREFIX}events"
allow "$CONSUMER" Read --group "$CONSUMER" --resource-pattern-type prefixed

if [ "$DATABASE" = no ]; then
    # How far each partition is taken. A new owner reads its partition whole, so it has to stay small.
    topic chains "$PARTITIONS" --config cleanup.policy=compact --config max.message.bytes=17000000 \
        --config segment.bytes=67108864 --config segment.ms=600000 --config min.cleanable.dirty.ratio=0.1
    allow "$WORKER" Read --topic "${PREFIX}chains"
    allow "$WORKER" Write --topic "${PREFIX}chains"
fi
