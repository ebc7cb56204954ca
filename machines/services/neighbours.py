"""The portal's own network: which address the hardware address of a guest has there.

Read from the kernel's table of neighbours (Linux, IPv4), which knows whom the host spoke with lately.
Where a cluster allows it, every address of its networks is spoken to first, by one datagram.
"""

import ipaddress
import re
import socket
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

TABLE = Path("/proc/net/arp")
DISCARD = 9  # the port of the datagrams: nobody listens there, and nobody has to
MOST_ADDRESSES = 1024  # of a scan: a /22

_COMPLETE = 0x2
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def hardware_address(text: str) -> str:
    """In lower case, or nothing where it is none that one card can have."""
    mac = text.lower()
    return mac if _MAC.fullmatch(mac) and mac != "00:00:00:00:00:00" and not int(mac[:2], 16) & 1 else ""


def table() -> dict[str, list[str]]:
    """Addresses by hardware address; empty where the system has no such table."""
    try:
        return parse(TABLE.read_text(errors="replace"))
    except OSError:
        return {}


def parse(text: str) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 4 or not (mac := hardware_address(words[3])):
            continue
        with suppress(ValueError):
            if int(words[2], 16) & _COMPLETE:
                found[mac].append(str(ipaddress.IPv4Address(words[0])))
    return dict(found)


def stir(networks: Iterable[str]) -> int:
    """Speak to every IPv4 address of `networks`, so that the kernel learns whose it is. Returns how many were spoken to."""
    spoken = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.setblocking(False)
        for network in networks:
            with suppress(ValueError):
                for address in ipaddress.IPv4Network(network).hosts():
                    if spoken == MOST_ADDRESSES:
                        return spoken
                    spoken += 1
                    with suppress(OSError):
                        datagrams.sendto(b"", (str(address), DISCARD))
    return spoken
