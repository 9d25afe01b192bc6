#!/usr/bin/env python3
"""Try connections that this machine's firewall must refuse: its counter shows whether each was stopped here.

For a gateway, the broker's machine or a relay with its file of configs/dmz loaded. To be run as root, which reads the
counter; the connections are tried as another user. Name networks of the DMZ and of IT, and never the plant floor: a
packet that is not stopped reaches what you name, and old devices do not bear that.

    sudo python3 try-connections.py --listed 198.51.100.10:8883 --skip 198.51.100.2:53,123 \\
        198.51.100.0/24 203.0.113.0/24

Exit codes: 0 all were stopped, and each listed connection was opened; 1 one was not. It needs Python alone.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import pwd
import random
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network

BATCH = 100  # The counter is read after so many.
PORTS = (21, 22, 23, 25, 53, 80, 102, 123, 135, 139, 161, 389, 443, 445, 502, 636, 802, 1883, 3389, 4840, 5985, 8080,
         8443, 8883, 9464, 44818)  # fmt: skip
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES)
Target = tuple[str, int, bool]
Allowed = tuple[IPv4Network, list[int]]


def refused() -> int:
    """How many packets the firewall has stopped on their way out; ends the program where none is loaded."""
    command = ["nft", "--json", "list", "counter", "inet", "tidegate", "refused_out"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.partition("\n")[0]
        sys.exit(f"no counter refused_out on this machine, so nothing was tried; load its file of configs/dmz: {said}")
    listed = json.loads(done.stdout)["nftables"]
    return next(int(each["counter"]["packets"]) for each in listed if "counter" in each)


def targets(networks: list[IPv4Network], allowed: list[Allowed], count: int, seed: int) -> list[Target]:
    """Different addresses and ports, and whether by TCP; half of the ports are those that attackers try first."""
    choice = random.Random(seed)
    found: dict[Target, None] = {}
    near = [network for network, _ in allowed]
    while len(found) < count:
        network = choice.choice(near if near and choice.random() < 0.25 else networks)  # Another port of the broker.
        address = network[choice.randrange(network.num_addresses)]
        port = choice.choice(PORTS) if choice.random() < 0.5 else choice.randrange(1, 65536)
        if not is_own(address) and not any(address in near and port in ports for near, ports in allowed):
            found[str(address), port, choice.random() < 0.75] = None
    return list(found)


def is_own(address: IPv4Address) -> bool:
    """Whether a packet to this address stays on this machine anyway."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind((str(address), 0))
        except OSError:
            return False
        return True


def attempt(target: Target) -> bool:
    """Send one packet to a target; whether there is a way to it."""
    address, port, is_tcp = target
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        try:
            code = one.connect_ex((address, port))
            if code == 0 and not is_tcp:
                one.send(b"?")
        except OSError as error:
            code = error.errno or 0
        return code not in NO_WAY


def opens(address: str, port: int) -> bool:
    """Whether a connection is opened: without one that is, silence proves nothing."""
    with socket.socket() as one:
        one.settimeout(5)
        return one.connect_ex((address, port)) == 0


def allowance(text: str) -> Allowed:
    """ADDRESS:PORT,PORT or NETWORK:PORT,PORT."""
    address, _, ports = text.rpartition(":")
    return IPv4Network(address), [int(port) for port in ports.split(",")]


def main() -> int:
    """Try them, and say how it went."""
    parser = argparse.ArgumentParser(description="Try connections that this machine's firewall must refuse.")
    parser.add_argument("networks", nargs="+", type=IPv4Network, help="where to, such as 198.51.100.0/24")
    parser.add_argument("--listed", action="append", default=[], type=allowance, help="ADDRESS:PORT that must open")
    parser.add_argument("--skip", action="append", default=[], type=allowance, help="NETWORK:PORTS to leave alone")
    parser.add_argument("--user", default="tidegate", help="who tries; default: %(default)s")
    parser.add_argument("--count", type=int, default=1000, help="how many; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="choose others; default: %(default)s")
    asked = parser.parse_args()
    if os.geteuid():
        sys.exit("only root may read the counter of the firewall: run it with sudo")
    try:
        user = pwd.getpwnam(asked.user).pw_uid
    except KeyError:
        sys.exit(f"there is no user {asked.user} on this machine: name one with --user")
    chosen = targets(asked.networks, asked.listed + asked.skip, asked.count, asked.seed)
    escaped: list[Target] = []
    without_way = 0
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        before = refused()
        os.seteuid(user)
        sent = sum(map(attempt, batch))
        os.seteuid(0)
        without_way += len(batch) - sent
        if refused() - before < sent:
            escaped += batch
    os.seteuid(user)
    listed = [(str(network[0]), port) for network, ports in asked.listed for port in ports]
    closed = [each for each in listed if not opens(*each)]
    os.seteuid(0)
    for address, port in closed:
        print(f"{address}:{port} is listed, and did not open: without one that does, silence proves nothing")
    if without_way == len(chosen):
        print("none of the others has a route from here, so that nothing was tried")
    if escaped:
        print(
            "not all of these were stopped here; compare the file with `nft list table inet tidegate`:",
            *(f"{address}:{port}" for address, port, _ in escaped),
        )
    print(f"{len(chosen)} other connections tried by {asked.user}: {without_way} have no route, "
          f"{'not all others' if escaped else 'all others'} were stopped on this machine; "
          f"{len(listed) - len(closed)} of {len(listed)} listed connections opened")  # fmt: skip
    return 1 if escaped or closed or without_way == len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
