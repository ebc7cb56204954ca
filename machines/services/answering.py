"""Which machines have booted: their SSH server says so itself."""

import selectors
import socket
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

from django.db import transaction
from django.utils import timezone

from machines.lifecycle import State
from machines.models import Machine
from machines.selectors.claims import claims

from . import dispatch
from .addresses import ForeignAddress, NoAddress, disputes, ssh_address
from .feed import machine_topics, publish

BANNER = b"SSH-"
PROBE_SECONDS = 1.5
AT_ONCE = 32
SLOWEST_SECONDS = 15  # between two probes of a machine that has not answered for long

Address = tuple[str, int]


def probe(addresses: Iterable[Address], seconds: float = PROBE_SECONDS) -> set[Address]:
    """Those that greet with an SSH banner within `seconds`. An open port alone says nothing: a
    forward accepts before its guest listens."""
    answering: set[Address] = set()
    heard: dict[Address, bytes] = {}
    with selectors.DefaultSelector() as selector:
        try:
            for address in set(addresses):
                with suppress(OSError):
                    connection = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
                    connection.setblocking(False)
                    selector.register(connection, selectors.EVENT_READ, address)
                    connection.connect_ex(address)
            end = time.monotonic() + seconds
            while selector.get_map() and (left := end - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    said, before = b"", heard.get(key.data, b"")
                    with suppress(OSError):
                        said = key.fileobj.recv(len(BANNER) - len(before))  # type: ignore[union-attr]
                    heard[key.data] = greeting = before + said
                    if said and greeting != BANNER and BANNER.startswith(greeting):
                        continue
                    if greeting == BANNER:
                        answering.add(key.data)
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
    return answering


class Prober:
    """Asks the machines that are on and have not answered yet, each less often the longer it
    keeps silent."""

    def __init__(self) -> None:
        self._next: dict[tuple[int, object], float] = {}

    def look(self, clusters: Collection[int]) -> int:
        """One round over the machines of `clusters`. Returns how many answered for the first time."""
        now = time.monotonic()
        silent = Machine.objects.filter(cluster_id__in=clusters, state=State.RUNNING, answering_since=None).exclude(endpoints=[])
        found: dict[int, tuple[Machine, Address]] = {}
        doubted: dict[int, frozenset[str]] | None = None
        waited: dict[tuple[int, object], float] = {}
        for machine in silent.select_related("cluster").only("key", "owner", "state", "state_since", "endpoints", "cluster__networks").order_by("-state_since"):
            mark = machine.pk, machine.state_since
            waited[mark] = self._next.get(mark, 0.0)
            if waited[mark] > now or len(found) == AT_ONCE:
                continue
            if doubted is None:
                doubted = disputes(claims())
            with suppress(NoAddress, ForeignAddress):
                found[machine.pk] = machine, ssh_address(machine.endpoints, machine.cluster.networks, doubted.get(machine.pk, frozenset()))
            age = (timezone.now() - machine.state_since).total_seconds()
            waited[mark] = now + min(SLOWEST_SECONDS, age / 20)
        self._next = waited
        if not found:
            return 0
        answering = probe(address for _, address in found.values())
        return _write([machine for machine, address in found.values() if address in answering])


def _write(machines: Iterable[Machine]) -> int:
    """Only where it is still the same time it was on: one that was restarted meanwhile may boot."""
    count = 0
    with transaction.atomic():
        for machine in sorted(machines, key=lambda machine: machine.pk):
            same = Machine.objects.filter(pk=machine.pk, state=State.RUNNING, state_since=machine.state_since, answering_since=None)
            if same.update(answering_since=timezone.now()):
                publish(*machine_topics(machine))
                count += 1
        if count:
            dispatch.ring_if_due()  # a machine that has booted leaves its place to the next
    return count
