"""The codes of failures: one for each kind that a person meets, with what to do.

An error carries its code from where it is raised, a problem of the status and a finding of `tidegate doctor` from where
it is found. An id stays for ever: it is in scripts, tickets and the heads of people. A kind that ends leaves its id
unused, and a new kind takes the next number.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

_GAP = "Its values are BAD_NO_COMMUNICATION, and a GAP is on record until it answers. Other devices are read as before."
_KEPT = "Values are read and stored as before. Records wait in the buffer on disk and are sent later."
_NOTHING = "Nothing changes in the data."


class _Kind(NamedTuple):
    id: str
    happened: str
    meanwhile: str
    remedy: str


class ErrorCode(Enum):
    """A kind of failure.

    Attributes:
        id: what it is called, for ever.
        happened: what happened, as a sentence.
        meanwhile: what the data says, or where it is, until that is over.
        remedy: what to do.
    """

    DEVICE_UNREACHABLE = _Kind(
        "TG-D01",
        "No connection to the device could be made: nothing answers at its host and port.",
        _GAP,
        "Compare host and port with the device, then power, cable and firewall. It is tried again by itself.",
    )
    DEVICE_SILENT = _Kind(
        "TG-D02",
        "The device took the connection or the request, and gave no answer in time.",
        _GAP,
        "Compare the unit number or slot. A slow device takes longer limits: timeout. On a serial line, compare baud, "
        "parity and stop bits.",
    )
    DEVICE_LOST = _Kind(
        "TG-D03",
        "The session with the device ended while it was in use.",
        _GAP,
        "Nothing where it comes back at once. Otherwise look for another client that takes its connection, and for "
        "restarts of the device.",
    )
    DEVICE_REFUSED = _Kind(
        "TG-D04",
        "The device answers, and will not talk to the gateway.",
        _GAP,
        "Do what the sentence says, at the device or in its settings. It is tried again once a minute.",
    )
    DEVICE_OCCUPIED = _Kind(
        "TG-D05",
        "The device has no free connection for the gateway.",
        _GAP,
        "Close another client of the device, such as an engineering tool. Many devices serve one or two; let other "
        "programs take the values from the relay.",
    )
    DEVICE_NOT_TRUSTED = _Kind(
        "TG-D06",
        "A certificate was refused: the device's by the gateway, or the gateway's by the device.",
        _GAP,
        "Compare the fingerprint at the device, then trust it on the side that the sentence names.",
    )
    DEVICE_LOGIN = _Kind(
        "TG-D07",
        "The device does not accept the user, the password or the security of the settings.",
        _GAP,
        "Write what the device offers, or allow it there: security, user and password.",
    )
    DEVICE_PROTOCOL = _Kind(
        "TG-D08",
        "An answer broke the protocol, and was refused.",
        "Values of that answer are BAD_DECODING_ERROR, or of the whole device BAD_NO_COMMUNICATION where the session "
        "ended by it.",
        "Compare host, port and driver: another program may answer there. A device that is known for it has a setting; "
        "see the page on field cases.",
    )
    DEVICE_BEHIND_GATEWAY = _Kind(
        "TG-D09",
        "What is in front of the device answers, and does not reach the device.",
        _GAP,
        "Compare the unit number, or slot and route. Then look at the device's power and at the line or backplane "
        "behind the gateway.",
    )
    DEVICE_SERIAL_PORT = _Kind(
        "TG-D10",
        "The serial port cannot be opened.",
        _GAP,
        "Plug the adapter in, let the service open the port, and end other programs that hold it.",
    )
    DEVICE_ADDRESS = _Kind(
        "TG-D11",
        "The device answers, and does not have an address that the configuration names.",
        "The values of these tags are BAD_ADDRESS. Other tags are read as before.",
        "Correct the address: tidegate browse CONFIG DEVICE lists what it has. After a download to a controller, "
        "compare names and types with its program.",
    )
    DEVICE_BAD_VALUES = _Kind(
        "TG-D12",
        "The device answers, and values of it are BAD.",
        "The status of each value says why, such as BAD_DEVICE_FAILURE. Other tags are read as before.",
        "See the reason of each tag: tidegate status CONFIG --tags DEVICE.",
    )
    DEVICE_LATE = _Kind(
        "TG-D13",
        "A scan group was not read for ten of its intervals.",
        "No new values of that group; those on record keep their times.",
        "Choose a longer every, or fewer tags: tidegate plan CONFIG --device DEVICE says what a scan costs.",
    )
    DEVICE_CLOCK = _Kind(
        "TG-D14",
        "The device's own clock is further off than its limit.",
        "Values keep the time of the gateway; the device's own times are on record beside it.",
        "Set the device's clock, or give it a time server.",
    )
    CALIBRATION_DUE = _Kind(
        "TG-D15",
        "The calibration of an instrument ends soon, or has ended.",
        "Values keep their quality. Views and reports mark those that were read after the last valid day.",
        "Calibrate it, then write the new certificate and days in the configuration and apply it.",
    )
    BROKER_UNREACHABLE = _Kind(
        "TG-U01",
        "No connection to the broker could be made.",
        _KEPT,
        "Start the broker, or correct host, port and firewall. It is tried again by itself.",
    )
    BROKER_LOST = _Kind(
        "TG-U02",
        "The connection to the broker ended, or the broker stopped to answer.",
        _KEPT,
        "Nothing where it comes back. Otherwise look into the broker's log.",
    )
    BROKER_NOT_TRUSTED = _Kind(
        "TG-U03",
        "A certificate was refused: the broker's by us, or ours by the broker.",
        _KEPT,
        "Do what the sentence says: renew, correct the CA file, or set the clock.",
    )
    BROKER_REFUSED = _Kind(
        "TG-U04",
        "The broker answers, and refuses the connection.",
        _KEPT,
        "Correct password, certificate or client id, here or in the broker's access list.",
    )
    BROKER_TOPIC_REFUSED = _Kind(
        "TG-U05",
        "The broker takes the connection, and not the records of a topic.",
        "Records of that topic wait in the buffer; others are delivered.",
        "Correct the broker's access list, its limits or its quota.",
    )
    BROKER_NO_SUBSCRIBER = _Kind(
        "TG-U06",
        "The broker takes records, and nobody subscribes to them.",
        _KEPT,
        "Start the relay, and compare the broker that it names.",
    )
    BROKER_PROTOCOL = _Kind(
        "TG-U07",
        "The broker sent what the one-way link never carries, or what is not MQTT 5.",
        _KEPT,
        "Find out who else writes to this broker, and whether the port is that of MQTT 5.",
    )
    SENDER_SILENT = _Kind(
        "TG-U08",
        "The process that sends does not answer.",
        _KEPT,
        "Start it: tidegate run --role forward CONFIG.",
    )
    BROKER_OPEN = _Kind(
        "TG-U09",
        "The broker lets in clients without certificate and account.",
        _NOTHING,
        "Set allow_anonymous false, require_certificate true and an access list, as in configs/dmz.",
    )
    BUFFER_FULL = _Kind(
        "TG-B01",
        "The buffer is full, and refuses readings as buffer.when_full says.",
        "Readings are lost; the time is a gap on record.",
        "Bring the broker back, or raise buffer.limit.",
    )
    BUFFER_FILLING = _Kind(
        "TG-B02",
        "Most of the buffer waits for the broker, or records were dropped because it was full.",
        "Where it is full the oldest records are dropped, and a LOSS record says which.",
        "Bring the broker back, or raise buffer.limit.",
    )
    BUFFER_DISK = _Kind(
        "TG-B03",
        "The disk has no room, or fails.",
        "Records are held in memory where they cannot be written, and are lost with the power.",
        "Make room, lower buffer.free_space, or replace the disk: df -h, dmesg.",
    )
    BUFFER_DAMAGED = _Kind(
        "TG-B04",
        "Records on disk are not what was written.",
        "What was not delivered is declared lost, with its range.",
        "Look at the disk: dmesg, smartctl -a. Tell quality assurance.",
    )
    NOTHING_STORED = _Kind(
        "TG-B05",
        "The gateway runs, and has stored no record for 15 minutes.",
        "Readings are lost.",
        "See the disk and the log, then start the gateway again.",
    )
    CLOCK_NOT_KEPT = _Kind(
        "TG-C01",
        "Nothing that can be trusted keeps the clock, or its bound is not known.",
        "Every record says the state of the clock and its bound. The quality of values stays as it is.",
        "tidegate clock says what it follows and what helps; often chrony has no server that answers.",
    )
    CLOCK_UNMET = _Kind(
        "TG-C02",
        "The clock does not fulfil clock: require.",
        "Every value is UNCERTAIN until it does.",
        "Bring the time source back: tidegate clock. Or write clock: {require: any} where no one needs the time.",
    )
    CLOCK_SOURCE = _Kind(
        "TG-C03",
        "A time source gave no usable answer, and the next one is asked.",
        "Every record says which source the clock has.",
        "See that chronyd or ptp4l runs, and that the gateway may ask it.",
    )
    CHAIN_BROKEN = _Kind(
        "TG-K01",
        "The chain on disk could not be extended; a new one began.",
        "The first record of the new chain names the end of the old one. Readings go on.",
        "Tell quality assurance. After a restored backup it is right; otherwise look at the disk.",
    )
    RECORD_UNREADABLE = _Kind(
        "TG-K02",
        "Bytes are not a record, or not of a form that this version knows.",
        "They count as GARBAGE; other records are not touched.",
        "Get the file again from where it was copied, or read it with a newer version.",
    )
    CERTIFICATE_ENDS = _Kind(
        "TG-K03",
        "A certificate or revocation list cannot be used, ends soon, or has ended.",
        "Nothing until a connection needs it; then as for a device or broker that refuses.",
        "Renew it in the same place; it is read for the next connection. If all end at once, look at the clock.",
    )
    CERTIFICATE_EXCEPTION = _Kind(
        "TG-K04",
        "The configuration accepts a certificate that would be refused otherwise.",
        _NOTHING,
        "Have the certificate replaced, then remove the exception.",
    )
    CONFIGURATION = _Kind(
        "TG-F01",
        "The configuration has problems.",
        "Nothing was started; a running gateway goes on as it is.",
        "tidegate check lists every problem with line and column. tidegate explain KEY says what a key means.",
    )
    VERSION_DIFFERS = _Kind(
        "TG-F02",
        "The running process has another version than what is installed.",
        _NOTHING,
        "Start it again, to run what is installed.",
    )
    NOT_APPLIED = _Kind(
        "TG-F03",
        "The files of the configuration are not what the gateway runs: they were changed, and not applied.",
        "Nothing changes in the data until the next start, which takes the files as they are.",
        "tidegate diff CONFIG shows in what they differ. tidegate apply CONFIG takes them into use; --previous 0 puts "
        "those back that run.",
    )
    APPROVAL_REFUSED = _Kind(
        "TG-F04",
        "The approval of a change, or the signature of a person, is not accepted.",
        "Nothing changes in the data: the gateway goes on with the configuration that runs.",
        "Do what the sentence says: propose the change again, and have a second person sign exactly that text.",
    )
    NOT_RUNNING = _Kind(
        "TG-X01",
        "No gateway or relay answers at its socket.",
        "Nothing is read while it does not run.",
        "Start it, and look into its log for why it ended: journalctl -u tidegate.",
    )
    MAY_NOT_ASK = _Kind(
        "TG-X02",
        "This account may not ask the running gateway.",
        _NOTHING,
        "Use sudo, or let root add the account to the group that the sentence names.",
    )
    GATEWAY_REFUSES = _Kind(
        "TG-X03",
        "The running gateway does not answer this question.",
        _NOTHING,
        "Do what the sentence says, or ask the device itself with --direct.",
    )
    DEMO = _Kind(
        "TG-X04",
        "A process of the demo ended by itself.",
        _NOTHING,
        "Do what the sentence says, and start the demo again.",
    )
    FOREIGN_SOCKET = _Kind(
        "TG-X05",
        "At the socket of a gateway or relay listens another account, which was neither asked nor believed.",
        _NOTHING,
        "Find out what that process is (ss -xlp names it), end it, and see to owner and mode of the directory.",
    )
    ARCHIVE_DISK = _Kind(
        "TG-R01",
        "The archive cannot be written, or its disk is nearly full.",
        "What is not written is not acknowledged: the broker keeps it, up to its limit.",
        "Make room, or mend the disk; the relay goes on by itself.",
    )
    ARCHIVE_REMOVED = _Kind(
        "TG-R02",
        "Files of the archive are gone while the relay runs.",
        "Nothing is received until the relay begins again.",
        "Put the archive back, or name another directory; then start the relay.",
    )
    RECORDS_MISSING = _Kind(
        "TG-R03",
        "Records of a gateway have not arrived, and are not declared lost.",
        "The archive has a hole, which a report shows as MISSING.",
        "Wait where the number falls; otherwise tidegate resend on the gateway's machine.",
    )
    RECORDS_REFUSED = _Kind(
        "TG-R04",
        "Records arrived that no trusted key proves.",
        "They are kept apart, and not archived.",
        "A new gateway: compare its fingerprint, and install its public key in relay.trust. Anything else: call "
        "security.",
    )
    GATEWAY_SILENT = _Kind(
        "TG-R05",
        "The relay receives no record of a gateway, and it did not say that it stops.",
        "Its records wait at the gateway or at the broker, or it does not run.",
        "tidegate status on the gateway's machine.",
    )
    CLOCKS_DIFFER = _Kind(
        "TG-R06",
        "Values of a gateway come from the future of the relay: one of two clocks is wrong.",
        "Times on record are those of the gateway, with the state of its clock.",
        "tidegate clock on both machines.",
    )
    VIEW_BEHIND = _Kind(
        "TG-R07",
        "The view does not show the newest values.",
        "The archive is whole.",
        "See to the broker of the view. What it missed is caught up.",
    )
    SINK_BEHIND = _Kind(
        "TG-R08",
        "A sink does not take what is archived: it is away, full, or refuses.",
        "The archive is whole. Rows and files on the IT side end where the sink stopped.",
        "Do what its reason says. What it missed then comes by itself, from the archive.",
    )
    KAFKA_UNREACHABLE = _Kind(
        "TG-R09",
        "No broker of Kafka answers.",
        "What Kafka has not acknowledged, the broker of the gateways keeps.",
        "Start it, or correct host, port and firewall. It is tried again by itself.",
    )
    KAFKA_REFUSED = _Kind(
        "TG-R10",
        "Kafka does not accept our account or certificate, or we do not accept its certificate.",
        "What Kafka has not acknowledged, the broker of the gateways keeps.",
        "Do what the sentence says: correct password, certificate or access list.",
    )
    KAFKA_TOPIC = _Kind(
        "TG-R11",
        "Kafka does not have the topic.",
        "What Kafka has not acknowledged, the broker of the gateways keeps.",
        "Create the topic; no relay does that by itself.",
    )
    KAFKA_PARTITIONS = _Kind(
        "TG-R12",
        "The topic of Kafka has another number of partitions than it had.",
        "What Kafka has not acknowledged, the broker of the gateways keeps.",
        "Compare the cluster that is named. The number is fixed when the topic is created.",
    )
    KAFKA_TOO_LARGE = _Kind(
        "TG-R13",
        "A message is larger than the topic of Kafka takes.",
        "What Kafka has not acknowledged, the broker of the gateways keeps.",
        "Raise max.message.bytes of the topic.",
    )
    KAFKA_LOST_RECORDS = _Kind(
        "TG-R14",
        "Kafka does not have records that it had acknowledged, after an election of a broker that was behind.",
        "What workers had taken is archived and stored. What none had taken is gone from Kafka, and shows as missing.",
        "On each gateway that misses records: tidegate resend. Set unclean.leader.election.enable to false.",
    )
    UNIT = _Kind(
        "TG-M01",
        "The systemd unit does not run, or may do more than it needs.",
        _NOTHING,
        "Do what the finding says.",
    )
    FIREWALL = _Kind(
        "TG-M02",
        "Packets that no rule names are not dropped.",
        _NOTHING,
        "Load the shipped rules of the firewall.",
    )
    FILE_MODES = _Kind(
        "TG-M03",
        "A secret may be read, or a file be changed, by accounts that need not.",
        _NOTHING,
        "Do what the finding says: chmod, chown.",
    )

    def __init__(self, id: str, happened: str, meanwhile: str, remedy: str) -> None:  # noqa: A002 - Its name outside.
        self.id, self.happened, self.meanwhile, self.remedy = id, happened, meanwhile, remedy

    def __str__(self) -> str:
        return self.id
