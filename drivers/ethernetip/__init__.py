"""EtherNet/IP, reading only: Logix controllers, Micro800 and CIP devices, by a codec of our own on asyncio."""

from drivers.ethernetip.driver import EtherNetIpDriver, EtherNetIpKind

__all__ = ["EtherNetIpDriver", "EtherNetIpKind"]
